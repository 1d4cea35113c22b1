package sigv4

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"carrel/internal/awserr"
)

// Parse reads the one signature of a request and checks what needs no key: its form, its terminator, that no header is sent twice
// that must be one, and that host, content-type and every x-amz-* header sent are signed. Errors are *awserr.Error of kind
// MissingAuthentication, IncompleteSignature (cannot be read) or BadSignature (cannot be right).
func (v *Verifier) Parse(req *Request) (Signature, error) {
	authorization := req.Header["Authorization"]
	inQuery := req.RawQuery != "" && hasQuerySignature(req.RawQuery)
	switch {
	case len(authorization) > 1:
		return Signature{}, incomplete("Authorization header must be sent once.")
	case len(authorization) == 1 && authorization[0] != "":
		if inQuery {
			// Two signatures are two answers to "who signed this?": whichever we took, somebody else would take the other.
			return Signature{}, incomplete("Only one auth mechanism allowed; only the X-Amz-* query parameters or the Authorization header should be specified.")
		}
		return parseHeader(req, authorization[0])
	case inQuery && v.AllowQuery:
		return parseQuery(req)
	}
	return Signature{}, awserr.New(awserr.MissingAuthentication, "Missing Authentication Token")
}

func parseHeader(req *Request, authorization string) (Signature, error) {
	var sig Signature
	var credential string
	if err := sig.splitAuthorization(authorization, &credential); err != nil {
		return Signature{}, err
	}
	if err := sig.date(req.Header, authorization); err != nil {
		return Signature{}, err
	}
	if err := sig.credential(credential); err != nil {
		return Signature{}, err
	}
	if token := req.Header["X-Amz-Security-Token"]; len(token) > 0 {
		sig.SessionToken = Secret(token[0])
	}
	if err := sig.covers(req); err != nil {
		return Signature{}, err
	}
	return sig, sig.decode()
}

// splitAuthorization reads "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...": one space after the algorithm, a
// comma and at most one space between the parameters, each of them once.
func (s *Signature) splitAuthorization(authorization string, credential *string) error {
	rest, ok := strings.CutPrefix(authorization, algorithm+" ")
	if !ok {
		return incomplete("Unsupported AWS 'algorithm'. " + fingerprint(authorization))
	}
	parameters := [...]string{"Credential", "Signature", "SignedHeaders"}
	fields := [...]*string{credential, &s.Signature, &s.SignedHeaders}
	seen := [len(parameters)]bool{}
	for more := true; more; {
		var pair string
		pair, rest, more = strings.Cut(rest, ",")
		rest = strings.TrimPrefix(rest, " ")
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return incomplete("Invalid key=value pair (missing equal-sign) in Authorization header. " + fingerprint(authorization))
		}
		i := slices.Index(parameters[:], name)
		if i < 0 || seen[i] {
			return incomplete("Authorization header has an unknown or a repeated parameter. " + fingerprint(authorization))
		}
		seen[i] = true
		*fields[i] = value
	}
	missing := ""
	for i, name := range parameters {
		if *fields[i] == "" {
			missing += "Authorization header requires '" + name + "' parameter. "
		}
	}
	if missing != "" {
		return incomplete(missing + fingerprint(authorization))
	}
	return nil
}

// date takes X-Amz-Date, or Date where that is missing. With X-Amz-Date, Date says nothing.
func (s *Signature) date(h http.Header, authorization string) error {
	if sent := h["X-Amz-Date"]; len(sent) > 0 {
		return s.setStamp(sent[0])
	}
	sent := h["Date"]
	if len(sent) == 0 {
		return incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. " + fingerprint(authorization))
	}
	if len(sent) > 1 {
		return incomplete("The 'Date' header must be sent once.")
	}
	if !lists(s.SignedHeaders, "Date") {
		return unsigned("Date")
	}
	t, err := http.ParseTime(sent[0])
	if err != nil {
		if t, err = time.Parse(time.RFC1123Z, sent[0]); err != nil {
			return s.setStamp(sent[0])
		}
	}
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return badDate(sent[0])
	}
	return s.setStamp(t.Format(stampLayout))
}

func (s *Signature) setStamp(stamp string) error {
	t, ok := parseStamp(stamp)
	if !ok {
		return badDate(stamp)
	}
	s.stamp, s.Time = stamp, t
	return nil
}

func badDate(sent string) error {
	return incomplete("Date must be in ISO-8601 'basic format'. Got '" + shown(sent) + "'. See http://en.wikipedia.org/wiki/ISO_8601")
}

// parseStamp reads yyyymmddThhmmssZ and nothing that time.Parse would forgive. A leap second is no time.
func parseStamp(s string) (time.Time, bool) {
	if len(s) != len(stampLayout) || s[8] != 'T' || s[15] != 'Z' {
		return time.Time{}, false
	}
	number := func(from, to int) int {
		n := 0
		for _, c := range []byte(s[from:to]) {
			if c < '0' || c > '9' {
				return -1 << 20
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	year, month, day := number(0, 4), number(4, 6), number(6, 8)
	hour, minute, second := number(9, 11), number(11, 13), number(13, 15)
	if year < 0 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return time.Time{}, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	return t, t.Day() == day
}

// credential reads keyid/date/region/service/aws4_request.
func (s *Signature) credential(c string) error {
	var part [5]string
	n, rest, more := 0, c, true
	for ; more && n < len(part); n++ {
		part[n], rest, more = strings.Cut(rest, "/")
		if part[n] == "" {
			break
		}
	}
	if more || n < len(part) {
		// AWS quotes the credential here. It is not repeated: people paste secrets into the wrong field.
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
	}
	s.AccessKeyID, s.Date, s.Region, s.Service = part[0], part[1], part[2], part[3]
	if part[4] != terminator {
		return bad("Credential should be scoped with a valid terminator: 'aws4_request', not '" + shown(part[4]) + "'.")
	}
	return nil
}

// covers checks SignedHeaders and holds it against the headers that came.
func (s *Signature) covers(req *Request) error {
	previous, rest, more := "", s.SignedHeaders, true
	for more {
		var name string
		name, rest, more = strings.Cut(rest, ";")
		// In order and without repetition, for there is one right list; in lower case, for Header is looked up by it.
		if name <= previous || !lowerToken(name) {
			return mismatch()
		}
		previous = name
	}
	if !lists(s.SignedHeaders, "Host") {
		return bad("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name, values := range req.Header {
		if !canonicalKey(name) {
			return incomplete("A header's name is not in canonical form.")
		}
		amz := strings.HasPrefix(name, "X-Amz-")
		if !amz && name != "Content-Type" && name != "Host" {
			continue
		}
		// Sent twice, one of them could be signed and the other one read.
		if len(values) != 1 {
			return incomplete("The '" + shown(name) + "' header must be sent once.")
		}
		if name == "Host" {
			if values[0] != req.Host {
				return incomplete("The 'Host' header must be sent once.")
			}
			continue
		}
		if !lists(s.SignedHeaders, name) {
			return unsigned(name)
		}
		if s.Query && (name == "X-Amz-Date" || name == "X-Amz-Security-Token") {
			return incomplete("'" + name + "' must be sent either as a header or as a query-string parameter.")
		}
	}
	return nil
}

// decode checks the signature's form: 64 lower-case hexadecimal characters.
func (s *Signature) decode() error {
	if len(s.Signature) != 2*len(s.mac) {
		return mismatch()
	}
	for i := range len(s.Signature) {
		if c := s.Signature[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return mismatch()
		}
	}
	if _, err := hex.Decode(s.mac[:], []byte(s.Signature)); err != nil {
		return mismatch()
	}
	return nil
}

// lists tells whether the list of lower-case names holds name, whatever name's case.
func lists(list, name string) bool {
	for more := true; more; {
		var item string
		item, list, more = strings.Cut(list, ";")
		if len(item) == len(name) && equalFoldASCII(item, name) {
			return true
		}
	}
	return false
}

func equalFoldASCII(lower, s string) bool {
	for i := range len(lower) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func lowerToken(s string) bool {
	for i := range len(s) {
		if !tokenByte(s[i]) || 'A' <= s[i] && s[i] <= 'Z' {
			return false
		}
	}
	return s != ""
}

// tokenByte is RFC 9110's tchar.
func tokenByte(c byte) bool { return tokens[c] }

var tokens = func() (is [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		is[c] = true
	}
	return is
}()

// canonicalKey tells whether name is as net/http writes it. Header keys that are not could carry the same header twice.
func canonicalKey(name string) bool {
	upper := true
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '-':
			upper = true
			continue
		case 'a' <= c && c <= 'z':
			if upper {
				return false
			}
		case 'A' <= c && c <= 'Z':
			if !upper {
				return false
			}
		case !tokenByte(c):
			return false
		}
		upper = false
	}
	return name != ""
}

// incomplete is a signature that cannot be read. Its texts are AWS's where AWS has one.
func incomplete(text string) error { return awserr.New(awserr.IncompleteSignature, "%s", text) }

// bad is a signature that can be read and cannot be right.
func bad(text string) error { return awserr.New(awserr.BadSignature, "%s", text) }

// mismatch is AWS's text without the canonical request that AWS adds: it would repeat session tokens into logs.
func mismatch() error {
	return awserr.New(awserr.BadSignature, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
}

func unsigned(name string) error {
	return bad("'" + shown(name) + "' must be a 'SignedHeader' in the AWS Authorization.")
}

// fingerprint names an Authorization header without repeating it, as AWS does: the header may hold a whole signature or,
// sent by mistake, a password.
func fingerprint(authorization string) string {
	sum := sha256.Sum256([]byte(authorization))
	return "(Hashed with SHA-256 and encoded with Base64) Authorization=" + base64.StdEncoding.EncodeToString(sum[:])
}

// shown is s where it is short and plain, so that an answer carries neither a body's worth of input nor control characters.
func shown(s string) string {
	if len(s) > 64 {
		return "..."
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return "..."
		}
	}
	return s
}
