// Package sigv4 reads, verifies and makes AWS Signature Version 4 signatures (IAM User Guide, "AWS Signature Version 4 for API
// requests"), in header and query form.
//
// It refuses every request whose signature can be read in two ways, and everything that S3 alone allows: unsigned and streamed
// payloads. It does not know whose an access key is: that is identity's. Signer is written apart from Verifier, on purpose: each
// is the other's check.
package sigv4

import (
	"log/slog"
	"net/http"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	// stampLayout is ISO 8601 basic format, the only one X-Amz-Date has.
	stampLayout = "20060102T150405Z"
	// skew is how far the signer's clock may be from ours, either way.
	skew = 5 * time.Minute
	// maxExpires is the longest life of a query signature, in seconds.
	maxExpires = 7 * 24 * 60 * 60
)

// Request is the part of an HTTP request that a signature covers. Nobody changes it while it is verified.
type Request struct {
	Method string
	// Path is escaped, as on the wire: "/a%20b".
	Path string
	// RawQuery is as on the wire, without the question mark.
	RawQuery string
	// Host is the Host header or :authority. Header need not hold it; where it does, both must be the same.
	Host string
	// Header has canonical keys, as net/http makes them; any other key is refused.
	Header http.Header
	Body   []byte
}

// Signature is what a request says about its signature: nothing in it is true before Verify says so.
type Signature struct {
	AccessKeyID string
	// Date is the day of the credential scope: "20150830".
	Date    string
	Region  string
	Service string
	// Time is X-Amz-Date's (or Date's) time.
	Time time.Time
	// SignedHeaders is the list as sent: lower case, in order, separated by semicolons: "host;x-amz-date".
	SignedHeaders string
	// Signature is 64 lower-case hexadecimal characters.
	Signature string
	// SessionToken is empty for long-term keys.
	SessionToken Secret
	// Query tells the query form; Expires is its life, 1 s to 7 days.
	Query   bool
	Expires time.Duration

	stamp string
	// hash is what the query form says the body's hash is; empty: nothing.
	hash string
	mac  [32]byte
}

// String shows the scope and neither signature nor token, so that a Signature may stand in a log.
func (s Signature) String() string {
	return s.AccessKeyID + "/" + s.Date + "/" + s.Region + "/" + s.Service
}

// GoString shows what String shows.
func (s Signature) GoString() string { return s.String() }

// LogValue shows what String shows.
func (s Signature) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Secret is a secret access key or a session token: fmt, slog and errors show only that there is one.
type Secret string

// String hides the value.
func (Secret) String() string { return "[secret]" }

// GoString hides the value.
func (Secret) GoString() string { return "[secret]" }

// LogValue hides the value.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }
