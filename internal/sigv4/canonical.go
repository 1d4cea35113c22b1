package sigv4

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// scratch is the memory of one verification. It is pooled: at 10,000 requests a second the garbage would cost more than the hashing.
type scratch struct {
	buf   []byte
	key   []byte
	pairs []pair
	query []byte
	sum   [32]byte
}

// pair is one query parameter, escaped, as positions in scratch.query.
type pair struct{ start, equals, end int }

// tooLarge is when a scratch is thrown away rather than kept for ever at the size of the largest request seen.
const tooLarge = 64 << 10

// canonicalRequest writes the canonical request to w.buf. It tells false when there is none: a header named and not sent, a lying
// x-amz-content-sha256, a query that cannot be unescaped.
func (w *scratch) canonicalRequest(req *Request, sig *Signature, keepPath bool) bool {
	b := append(w.buf[:0], req.Method...)
	b = append(b, '\n')
	b = appendPath(b, req.Path, keepPath)
	b = append(b, '\n')
	var ok bool
	if b, ok = w.appendQuery(b, req.RawQuery, sig.Query); !ok {
		return false
	}
	b = append(b, '\n')
	if b, ok = w.appendHeaders(b, req, sig.SignedHeaders); !ok {
		return false
	}
	b = append(b, '\n')
	b = append(b, sig.SignedHeaders...)
	b = append(b, '\n')
	// The hash is always our own: a hash that is believed is a body that anybody can exchange (UNSIGNED-PAYLOAD and STREAMING-* are
	// S3's, and are other texts than this hash, so they end here too).
	w.sum = sha256.Sum256(req.Body)
	b = hex.AppendEncode(b, w.sum[:])
	w.buf = b
	hash, said := b[len(b)-2*len(w.sum):], req.Header["X-Amz-Content-Sha256"]
	return (len(said) == 0 || said[0] == string(hash)) && (sig.hash == "" || sig.hash == string(hash))
}

// appendPath escapes the path as it came, so that what was escaped once is escaped twice, as all services but S3 do it. Unless keep,
// empty and dot segments go first (RFC 3986 section 5.2.4, and repeated slashes).
func appendPath(b []byte, path string, keep bool) []byte {
	if path == "" || path == "/" {
		return append(b, '/')
	}
	if keep {
		for i := range len(path) {
			if path[i] == '/' {
				b = append(b, '/')
				continue
			}
			b = appendEscaped(b, path[i])
		}
		return b
	}
	start, rest, more := len(b), path, true
	for more {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		switch segment {
		case "", ".":
		case "..":
			// Escaped segments hold no slash, so the last one is where the last segment begins.
			if slash := bytes.LastIndexByte(b[start:], '/'); slash >= 0 {
				b = b[:start+slash]
			}
		default:
			b = append(b, '/')
			for i := range len(segment) {
				b = appendEscaped(b, segment[i])
			}
		}
	}
	if len(b) == start || path[len(path)-1] == '/' {
		b = append(b, '/')
	}
	return b
}

const upperHex = "0123456789ABCDEF"

// appendEscaped keeps RFC 3986's unreserved characters and escapes all others in upper case.
func appendEscaped(b []byte, c byte) []byte {
	if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~' {
		return append(b, c)
	}
	return append(b, '%', upperHex[c>>4], upperHex[c&15])
}

// appendQuery unescapes each name and value, escapes it in the one canonical way and sorts. A plus sign is a space, for so it is to
// whoever reads the parameters after us. withoutSignature leaves X-Amz-Signature out.
func (w *scratch) appendQuery(b []byte, rawQuery string, withoutSignature bool) ([]byte, bool) {
	if rawQuery == "" {
		return b, true
	}
	q, pairs, more := w.query[:0], w.pairs[:0], true
	for more {
		var text string
		text, rawQuery, more = strings.Cut(rawQuery, "&")
		if text == "" {
			continue
		}
		name, value, _ := strings.Cut(text, "=")
		p := pair{start: len(q)}
		var ok bool
		if q, ok = appendReescaped(q, name); !ok {
			return b, false
		}
		p.equals = len(q)
		q = append(q, '=')
		if q, ok = appendReescaped(q, value); !ok {
			return b, false
		}
		p.end = len(q)
		if withoutSignature && string(q[p.start:p.equals]) == "X-Amz-Signature" {
			continue
		}
		pairs = append(pairs, p)
	}
	w.query, w.pairs = q, pairs
	slices.SortFunc(pairs, func(x, y pair) int {
		if c := bytes.Compare(q[x.start:x.equals], q[y.start:y.equals]); c != 0 {
			return c
		}
		return bytes.Compare(q[x.equals:x.end], q[y.equals:y.end])
	})
	for i, p := range pairs {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, q[p.start:p.end]...)
	}
	return b, true
}

func appendReescaped(b []byte, s string) ([]byte, bool) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			if i+2 >= len(s) {
				return b, false
			}
			high, low := unhex(s[i+1]), unhex(s[i+2])
			if high > 15 || low > 15 {
				return b, false
			}
			c = high<<4 | low
			i += 2
		}
		b = appendEscaped(b, c)
	}
	return b, true
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// appendHeaders writes the canonical headers named in list, which is in order. False: one of them was not sent.
func (w *scratch) appendHeaders(b []byte, req *Request, list string) ([]byte, bool) {
	for more := true; more; {
		var name string
		name, list, more = strings.Cut(list, ";")
		b = append(b, name...)
		b = append(b, ':')
		if name == "host" {
			b = append(appendTrimmed(b, req.Host), '\n')
			continue
		}
		w.key = appendCanonicalKey(w.key[:0], name)
		values := req.Header[string(w.key)]
		if len(values) == 0 {
			return b, false
		}
		for i, value := range values {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendTrimmed(b, value)
		}
		b = append(b, '\n')
	}
	return b, true
}

// appendCanonicalKey writes a lower-case header name as net/http keys it.
func appendCanonicalKey(b []byte, name string) []byte {
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper = c == '-'
		b = append(b, c)
	}
	return b
}

// appendTrimmed leaves out white space at both ends and makes every run of it within one space.
func appendTrimmed(b []byte, value string) []byte {
	start, gap := len(b), false
	for i := range len(value) {
		switch c := value[i]; c {
		case ' ', '\t', '\n', '\v', '\f', '\r':
			gap = true
		default:
			if gap && len(b) > start {
				b = append(b, ' ')
			}
			gap = false
			b = append(b, c)
		}
	}
	return b
}
