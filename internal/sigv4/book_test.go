package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

// book is the second verifier: the steps of the IAM User Guide, "Create a signed AWS API request", one after the other, with the rules
// of attacks SIG-1 to SIG-7 each as one plain check. It is slow, it allocates, and it shares no code with Verifier or Signer.
type book struct {
	req                                      *Request
	credential, signedHeaders, signature     string
	stamp, date, region, service, hash, term string
	query                                    bool
	expires                                  time.Duration
}

var (
	hex64      = regexp.MustCompile(`^[0-9a-f]{64}$`)
	basicISO   = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z$`)
	lowerName  = regexp.MustCompile("^[0-9a-z!#$%&'*+.^_`|~-]+$")
	headerName = regexp.MustCompile("^[0-9A-Za-z!#$%&'*+.^_`|~-]+$")
	spaces     = regexp.MustCompile(`[ \t\n\v\f\r]+`)
	lifetime   = regexp.MustCompile(`^[0-9]{1,6}$`)
	parts      = []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"}
	optional   = []string{"X-Amz-Security-Token", "X-Amz-Content-Sha256"}
)

// byTheBook tells whether req is signed, at now, by the holder of secret, for what testExpect expects.
func byTheBook(req *Request, now time.Time, secret string) bool {
	b := &book{req: req}
	signedQuery := false
	for _, pair := range strings.Split(req.RawQuery, "&") {
		name, err := url.QueryUnescape(strings.SplitN(pair, "=", 2)[0])
		for _, known := range append(parts[:6:6], optional[0]) {
			signedQuery = signedQuery || err == nil && strings.EqualFold(name, known)
		}
	}
	authorization := req.Header["Authorization"]
	switch {
	case len(authorization) > 1:
		return false
	case len(authorization) == 1 && authorization[0] != "":
		return !signedQuery && b.readHeader(authorization[0]) && b.scope() && b.headers() && b.fresh(now) && b.matches(secret)
	}
	return signedQuery && b.readQuery() && b.scope() && b.headers() && b.fresh(now) && b.matches(secret)
}

func (b *book) readHeader(authorization string) bool {
	if !strings.HasPrefix(authorization, "AWS4-HMAC-SHA256 ") {
		return false
	}
	found := map[string]string{}
	for i, p := range strings.Split(authorization[len("AWS4-HMAC-SHA256 "):], ",") {
		if i > 0 {
			p = strings.TrimPrefix(p, " ")
		}
		kv := strings.SplitN(p, "=", 2)
		if len(kv) != 2 || kv[1] == "" || found[kv[0]] != "" {
			return false
		}
		found[kv[0]] = kv[1]
	}
	b.credential, b.signedHeaders, b.signature = found["Credential"], found["SignedHeaders"], found["Signature"]
	if len(found) != 3 || b.credential == "" || b.signedHeaders == "" || b.signature == "" {
		return false
	}
	if sent := b.req.Header["X-Amz-Date"]; len(sent) > 0 {
		b.stamp = sent[0]
		return true
	}
	sent := b.req.Header["Date"]
	if len(sent) != 1 || !slices.Contains(strings.Split(b.signedHeaders, ";"), "date") {
		return false
	}
	b.stamp = sent[0]
	for _, layout := range []string{http.TimeFormat, time.RFC850, time.ANSIC, time.RFC1123Z} {
		if t, err := time.Parse(layout, sent[0]); err == nil {
			b.stamp = t.UTC().Format("20060102T150405Z")
			return true
		}
	}
	return true
}

func (b *book) readQuery() bool {
	b.query = true
	values, lower := map[string]string{}, map[string]bool{}
	for _, pair := range strings.Split(b.req.RawQuery, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		if err != nil || err2 != nil || lower[strings.ToLower(name)] {
			return false
		}
		values[name], lower[strings.ToLower(name)] = value, true
	}
	for _, name := range append(parts[:6:6], optional...) {
		if _, exact := values[name]; lower[strings.ToLower(name)] && !exact {
			return false
		}
	}
	for _, name := range parts {
		if values[name] == "" {
			return false
		}
	}
	seconds, err := strconv.Atoi(values["X-Amz-Expires"])
	if err != nil || !lifetime.MatchString(values["X-Amz-Expires"]) || seconds < 1 || seconds > 604800 {
		return false
	}
	b.expires = time.Duration(seconds) * time.Second
	b.credential, b.signedHeaders, b.signature = values["X-Amz-Credential"], values["X-Amz-SignedHeaders"], values["X-Amz-Signature"]
	b.stamp, b.hash = values["X-Amz-Date"], values["X-Amz-Content-Sha256"]
	// One place each for date and token.
	return values["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256" && b.req.Header["X-Amz-Date"] == nil && b.req.Header["X-Amz-Security-Token"] == nil
}

func (b *book) scope() bool {
	part := strings.Split(b.credential, "/")
	if len(part) != 5 || part[0] == "" {
		return false
	}
	b.date, b.region, b.service, b.term = part[1], part[2], part[3], part[4]
	return b.region == "eu-central-1" && b.service == "workspaces" && b.term == "aws4_request"
}

func (b *book) headers() bool {
	list := strings.Split(b.signedHeaders, ";")
	for _, name := range list {
		if !lowerName.MatchString(name) {
			return false
		}
	}
	if !sort.StringsAreSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) || !slices.Contains(list, "host") {
		return false
	}
	for name, values := range b.req.Header {
		if !headerName.MatchString(name) || http.CanonicalHeaderKey(name) != name {
			return false
		}
		lower := strings.ToLower(name)
		switch {
		case lower == "host":
			if len(values) != 1 || values[0] != b.req.Host {
				return false
			}
		case lower == "content-type" || strings.HasPrefix(lower, "x-amz-"):
			if len(values) != 1 || !slices.Contains(list, lower) {
				return false
			}
		}
	}
	return true
}

func (b *book) fresh(now time.Time) bool {
	at, err := time.Parse("20060102T150405Z", b.stamp)
	if !basicISO.MatchString(b.stamp) || err != nil || b.date != b.stamp[:8] {
		return false
	}
	life := 5 * time.Minute
	if b.query {
		life = b.expires
	}
	return !at.After(now.Add(5*time.Minute)) && !now.After(at.Add(life))
}

func (b *book) matches(secret string) bool {
	if !hex64.MatchString(b.signature) {
		return false
	}
	escape := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	// Step 1: the canonical request.
	var query [][2]string
	for _, pair := range strings.Split(b.req.RawQuery, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		if err != nil || err2 != nil {
			return false
		}
		if !b.query || name != "X-Amz-Signature" {
			query = append(query, [2]string{escape(name), escape(value)})
		}
	}
	sort.Slice(query, func(i, j int) bool {
		if query[i][0] != query[j][0] {
			return query[i][0] < query[j][0]
		}
		return query[i][1] < query[j][1]
	})
	var pairs []string
	for _, q := range query {
		pairs = append(pairs, q[0]+"="+q[1])
	}
	headers := ""
	for _, name := range strings.Split(b.signedHeaders, ";") {
		values := b.req.Header[http.CanonicalHeaderKey(name)]
		if name == "host" {
			values = []string{b.req.Host}
		}
		if len(values) == 0 {
			return false
		}
		var trimmed []string
		for _, v := range values {
			trimmed = append(trimmed, strings.Trim(spaces.ReplaceAllString(v, " "), " "))
		}
		headers += name + ":" + strings.Join(trimmed, ",") + "\n"
	}
	clean := path.Clean("/" + b.req.Path)
	if strings.HasSuffix(b.req.Path, "/") && clean != "/" {
		clean += "/"
	}
	hash := fmt.Sprintf("%x", sha256.Sum256(b.req.Body))
	if said := b.req.Header["X-Amz-Content-Sha256"]; len(said) > 0 && said[0] != hash || b.hash != "" && b.hash != hash {
		return false
	}
	canonical := b.req.Method + "\n" + strings.ReplaceAll(escape(clean), "%2F", "/") + "\n" + strings.Join(pairs, "&") + "\n" + headers + "\n" + b.signedHeaders + "\n" + hash
	// Steps 2 and 3: its hash in the string to sign.
	toSign := fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s/%s/%s/aws4_request\n%x", b.stamp, b.date, b.region, b.service, sha256.Sum256([]byte(canonical)))
	// Step 4: the signature.
	key := []byte("AWS4" + secret)
	for _, message := range []string{b.date, b.region, b.service, "aws4_request", toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(message))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key) == b.signature
}

// agree holds Verifier to the book for one request.
func agree(t testing.TB, v *Verifier, req *Request) (accepted bool) {
	t.Helper()
	err := parseAndVerify(v, req, testExpect(), testSecret)
	if want := byTheBook(req, testNow, string(testSecret)); want != (err == nil) {
		t.Fatalf("the book accepts: %v, Verifier: %v\n%+v", want, err, req)
	}
	return err == nil
}

// FuzzAgainstTheBook signs a request in either form, or not at all, puts with in place of what stands at a place of one of its parts,
// and asks both verifiers.
func FuzzAgainstTheBook(f *testing.F) {
	f.Add("POST", "/", "", "X-Amz-Target", "A.B", []byte("{}"), byte(1), byte(0), uint16(0), "")
	f.Add("GET", "/a/../b%20/", "b=+&a=%2f&a", "Content-Type", " a  b", []byte{}, byte(2), byte(0), uint16(0), "")
	f.Add("GET", "/", "a=b", "Date", "Mon, 23 Nov 2026 12:00:00 GMT", []byte{}, byte(1), byte(1), uint16(20), "x")
	f.Add("GET", "/", "a=b", "X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD", []byte{}, byte(2), byte(2), uint16(9), "&X-Amz-Expires=1")
	f.Add("POST", "//", "", "Host", "h", []byte("a"), byte(0), byte(3), uint16(0), "AWS4-HMAC-SHA256 Credential=a/20261123/eu-central-1/workspaces/aws4_request, SignedHeaders=host, Signature=0")
	f.Fuzz(func(t *testing.T, method, path, query, name, value string, body []byte, mode, part byte, at uint16, with string) {
		req := &Request{Method: method, Path: path, RawQuery: query, Host: "h", Header: http.Header{}, Body: body}
		if name != "" {
			req.Header[name] = []string{value}
		}
		s := testSigner()
		var err error
		switch mode % 3 {
		case 1:
			err = s.Sign(req, testNow)
		case 2:
			err = s.Presign(req, testNow, time.Hour)
		}
		if err != nil {
			return
		}
		tamper(req, part, int(at), with)
		agree(t, &Verifier{AllowQuery: true}, req)
	})
}

// tamper puts with in place of as many bytes of one part of req, from at on. An empty one changes nothing.
func tamper(req *Request, part byte, at int, with string) {
	if with == "" {
		return
	}
	put := func(s string) string {
		at := at % (len(s) + 1)
		return s[:at] + with + s[min(len(s), at+len(with)):]
	}
	switch part % 7 {
	case 0:
		req.Header.Set("Authorization", put(req.Header.Get("Authorization")))
	case 1:
		req.RawQuery = put(req.RawQuery)
	case 2:
		req.Path = put(req.Path)
	case 3:
		req.Header.Add("X-Amz-Date", with)
	case 4:
		req.Header.Set("X-Amz-Date", put(req.Header.Get("X-Amz-Date")))
	case 5:
		req.Body = []byte(put(string(req.Body)))
	case 6:
		req.RawQuery += with
	}
}

// requests is how many random requests a property is tried on: 20,000, or what CARREL_SIGV4_REQUESTS says.
func requests(t testing.TB) int {
	t.Helper()
	said := os.Getenv("CARREL_SIGV4_REQUESTS")
	if said == "" {
		return 20_000
	}
	n, err := strconv.Atoi(said)
	if err != nil || n < 1 {
		t.Fatalf("CARREL_SIGV4_REQUESTS is %q, not a number from 1", said)
	}
	return n
}

// dice makes random requests out of what makes canonicalisation hard.
type dice struct{ *rand.Rand }

func (d dice) some(alphabet []string, most int) string {
	var b strings.Builder
	for range d.IntN(most + 1) {
		b.WriteString(alphabet[d.IntN(len(alphabet))])
	}
	return b.String()
}

var (
	pathPieces   = []string{"/", "//", "/./", "/../", "a", "B", "%20", "%2F", "%2f", "%00", "+", "-._~", "=", ":", "@", ",", "\u1234", "$", "(", "%", "%zz"}
	queryPieces  = []string{"a", "Z", "0", "+", "&", "=", "%2B", "%3d", "%25", "/", "~", "-", "%E1%88%B4", "\u00e9", "%00", ";", "'", "!", "*", "%7e", "%41"}
	valuePieces  = []string{"a", "B", " ", "  ", "\t", ",", `"`, "=", ";", "%20", "~", "\u00e9"}
	headerPieces = []string{"Content-Type", "X-Amz-Target", "X-Custom", "User-Agent", "Accept", "X-Amz-Meta-1", "X-Amzn-Trace-Id", "Host", "Date", "X-Amz-Content-Sha256"}
	tampering    = []string{"a", "0", "f", "A", "%", "&", "=", "/", ";", ",", " ", "x-amz-date", "X-Amz-Expires=9", "&X-Amz-Date=", "&x-amz-signature=0", "&a=b", "host", "%41", "+", "\x00", "aws4_request"}
)

func (d dice) request() *Request {
	req := &Request{Method: []string{"GET", "POST", "PUT"}[d.IntN(3)], Path: "/" + d.some(pathPieces, 6), RawQuery: d.some(queryPieces, 8),
		Host: "h" + d.some([]string{"a", ".", ":8443", "A"}, 3), Header: http.Header{}, Body: []byte(d.some(queryPieces, 20))}
	for range d.IntN(4) {
		name := headerPieces[d.IntN(len(headerPieces))]
		value := d.some(valuePieces, 6)
		if name == "Host" && d.IntN(4) > 0 {
			value = req.Host
		}
		req.Header[name] = append(req.Header[name], value)
	}
	return req
}

// TestAgainstTheBook is figure R1 for our own signer: every request it signs is accepted by both verifiers unless a header makes it
// ambiguous, then by neither; and both think the same of it when it has been tampered with.
func TestAgainstTheBook(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	d := dice{rand.New(rand.NewPCG(seed, 0))}
	v := &Verifier{AllowQuery: true}
	accepted, tampered := map[string]int{}, 0
	for range requests(t) {
		req, s := d.request(), testSigner()
		if d.IntN(3) == 0 {
			s.SessionToken = Secret("token" + d.some([]string{"a", "/", "+", "="}, 6))
		}
		form, err := "header", error(nil)
		if d.IntN(2) == 0 {
			form = "query"
			err = s.Presign(req, testNow.Add(time.Duration(d.IntN(700)-350)*time.Second), time.Duration(1+d.IntN(400))*time.Second)
		} else {
			s.HashHeader = d.IntN(4) == 0
			err = s.Sign(req, testNow.Add(time.Duration(d.IntN(700)-350)*time.Second))
		}
		if err != nil {
			t.Fatal(err)
		}
		if agree(t, v, req) {
			accepted[form]++
		}
		tamper(req, byte(d.IntN(7)), d.IntN(1000), tampering[d.IntN(len(tampering))])
		if !agree(t, v, req) {
			tampered++
		}
	}
	t.Logf("%d accepted in header form, %d in query form; %d refused after tampering; no disagreement", accepted["header"], accepted["query"], tampered)
	if n := requests(t); accepted["header"] < n/10 || accepted["query"] < n/20 || tampered < n/2 {
		t.Error("too few of one kind to show anything")
	}
}
