package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Signer signs requests. It is written plainly and shares no code with Verifier.
type Signer struct {
	AccessKeyID string
	Secret      Secret
	// SessionToken is sent and signed when it is not empty.
	SessionToken Secret
	Region       string
	Service      string
	// KeepPath is Verifier.KeepPath.
	KeepPath bool
	// HashHeader sends x-amz-content-sha256 too (header form only).
	HashHeader bool
}

// neverSigned are the headers that proxies and clients change on the way, as botocore leaves them out.
var neverSigned = []string{"Authorization", "Connection", "Expect", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "User-Agent", "X-Amzn-Trace-Id", "Host"}

// Sign puts X-Amz-Date, X-Amz-Security-Token and Authorization into req.Header. It fails when the query cannot be unescaped.
func (s *Signer) Sign(req *Request, at time.Time) error {
	if req.Header == nil {
		req.Header = http.Header{}
	}
	stamp := at.UTC().Format("20060102T150405Z")
	req.Header.Set("X-Amz-Date", stamp)
	if s.SessionToken != "" {
		req.Header.Set("X-Amz-Security-Token", string(s.SessionToken))
	}
	if s.HashHeader {
		req.Header.Set("X-Amz-Content-Sha256", hexHash(req.Body))
	}
	names := s.headersToSign(req)
	canonical, err := s.canonical(req, names)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
		s.AccessKeyID, s.scope(stamp), strings.Join(names, ";"), s.signature(stamp, canonical)))
	return nil
}

// Presign puts the signature into req.RawQuery instead; it is good for expires, which AWS takes as whole seconds, 1 to 604800.
func (s *Signer) Presign(req *Request, at time.Time, expires time.Duration) error {
	stamp := at.UTC().Format("20060102T150405Z")
	names := s.headersToSign(req)
	parameters := [][2]string{
		{"X-Amz-Algorithm", "AWS4-HMAC-SHA256"},
		{"X-Amz-Credential", s.AccessKeyID + "/" + s.scope(stamp)},
		{"X-Amz-Date", stamp},
		{"X-Amz-SignedHeaders", strings.Join(names, ";")},
		{"X-Amz-Expires", strconv.FormatInt(int64(expires/time.Second), 10)},
	}
	if s.SessionToken != "" {
		parameters = append(parameters, [2]string{"X-Amz-Security-Token", string(s.SessionToken)})
	}
	for _, p := range parameters {
		if req.RawQuery != "" {
			req.RawQuery += "&"
		}
		req.RawQuery += p[0] + "=" + uriEscape(p[1], "")
	}
	canonical, err := s.canonical(req, names)
	if err != nil {
		return err
	}
	req.RawQuery += "&X-Amz-Signature=" + s.signature(stamp, canonical)
	return nil
}

func (s *Signer) scope(stamp string) string {
	return strings.Join([]string{stamp[:8], s.Region, s.Service, "aws4_request"}, "/")
}

func (s *Signer) headersToSign(req *Request) []string {
	names := []string{"host"}
	for name := range req.Header {
		if !slices.Contains(neverSigned, name) {
			names = append(names, strings.ToLower(name))
		}
	}
	slices.Sort(names)
	return names
}

// canonical is the canonical request over the named headers.
func (s *Signer) canonical(req *Request, names []string) (string, error) {
	query, err := canonicalQuery(req.RawQuery)
	if err != nil {
		return "", err
	}
	var headers strings.Builder
	for _, name := range names {
		values := req.Header.Values(name)
		if name == "host" {
			values = []string{req.Host}
		}
		trimmed := make([]string, len(values))
		for i, value := range values {
			trimmed[i] = strings.Join(strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) }), " ")
		}
		headers.WriteString(name + ":" + strings.Join(trimmed, ",") + "\n")
	}
	return strings.Join([]string{req.Method, s.canonicalPath(req.Path), query, headers.String(), strings.Join(names, ";"), hexHash(req.Body)}, "\n"), nil
}

func (s *Signer) canonicalPath(path string) string {
	if path == "" {
		return "/"
	}
	if s.KeepPath {
		return uriEscape(path, "/")
	}
	var kept []string
	for segment := range strings.SplitSeq(path, "/") {
		switch {
		case segment == "" || segment == ".":
		case segment == "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, uriEscape(segment, ""))
		}
	}
	clean := "/" + strings.Join(kept, "/")
	if strings.HasSuffix(path, "/") && len(kept) > 0 {
		clean += "/"
	}
	return clean
}

func canonicalQuery(rawQuery string) (string, error) {
	type parameter struct{ name, value string }
	var all []parameter
	for text := range strings.SplitSeq(rawQuery, "&") {
		if text == "" {
			continue
		}
		name, value, _ := strings.Cut(text, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return "", fmt.Errorf("query parameter: %w", err)
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return "", fmt.Errorf("query parameter: %w", err)
		}
		all = append(all, parameter{uriEscape(name, ""), uriEscape(value, "")})
	}
	slices.SortFunc(all, func(a, b parameter) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	parts := make([]string, len(all))
	for i, p := range all {
		parts[i] = p.name + "=" + p.value
	}
	return strings.Join(parts, "&"), nil
}

// uriEscape escapes all bytes but RFC 3986's unreserved ones and those of keep.
func uriEscape(s, keep string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"+keep, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func (s *Signer) stringToSign(stamp, canonical string) string {
	return strings.Join([]string{"AWS4-HMAC-SHA256", stamp, s.scope(stamp), hexHash([]byte(canonical))}, "\n")
}

func (s *Signer) signature(stamp, canonical string) string {
	key := hmacSHA256([]byte("AWS4"+string(s.Secret)), stamp[:8])
	key = hmacSHA256(key, s.Region)
	key = hmacSHA256(key, s.Service)
	key = hmacSHA256(key, "aws4_request")
	return hex.EncodeToString(hmacSHA256(key, s.stringToSign(stamp, canonical)))
}

func hmacSHA256(key []byte, message string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
