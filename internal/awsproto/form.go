package awsproto

import (
	"cmp"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// param is one decoded name=value.
type param struct{ name, value string }

// form holds the parameters of a request by name, each name once, sorted so that all parameters below a common dotted prefix
// stand together, the prefix itself first.
type form []param

// formOf reads the parameters of a query-protocol request: those of the query string and of the form body together. A name that
// occurs twice anywhere is refused, since "first wins" and "last wins" readers would disagree (SIG-10).
func formOf(r *Request) (form, *docError) {
	f, err := parseForm(nil, r.RawQuery)
	if err != nil {
		return nil, err
	}
	if len(r.Body) > 0 {
		if !isForm(r.Header) {
			return nil, malformed("The content type of the body is not application/x-www-form-urlencoded")
		}
		if f, err = parseForm(f, string(r.Body)); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(f, func(a, b param) int { return compareNames(a.name, b.name) })
	for i := 1; i < len(f); i++ {
		if f[i].name == f[i-1].name {
			return nil, malformed("Duplicate parameter").in(shown(f[i].name))
		}
	}
	return f, nil
}

func isForm(h http.Header) bool {
	values := h.Values("Content-Type")
	if len(values) != 1 {
		return false
	}
	media, params, err := mime.ParseMediaType(values[0])
	charset := params["charset"]
	return err == nil && media == "application/x-www-form-urlencoded" && (charset == "" || strings.EqualFold(charset, "utf-8"))
}

// parseForm appends the parameters of s (application/x-www-form-urlencoded, WHATWG URL section 5.1, but strict: bad percent
// escapes and bytes that are not UTF-8 are refused instead of passed on).
func parseForm(f form, s string) (form, *docError) {
	for s != "" {
		var pair string
		pair, s, _ = strings.Cut(s, "&")
		if pair == "" {
			continue
		}
		if len(f) == maxParams {
			return nil, malformed("Too many parameters")
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, ok := unescape(rawName, true)
		if !ok {
			return nil, malformed("Invalid encoding of a parameter name")
		}
		value, ok := unescape(rawValue, true)
		if !ok {
			return nil, malformed("Invalid encoding of a value").in(shown(name))
		}
		f = append(f, param{name, value})
	}
	return f, nil
}

// unescape undoes percent-encoding, and '+' for a space where plus is true. It is false for bad escapes and bad UTF-8.
func unescape(s string, plus bool) (string, bool) {
	if !strings.ContainsAny(s, "%+") {
		return s, utf8.ValidString(s)
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+' && plus:
			b = append(b, ' ')
		case c != '%':
			b = append(b, c)
		default:
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi > 15 || lo > 15 {
				return "", false
			}
			b = append(b, hi<<4|lo)
			i += 2
		}
	}
	return string(b), utf8.Valid(b)
}

// unhex gives the value of a hexadecimal digit, 255 for anything else.
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

// compareNames orders names segment by segment: the dot sorts before every other byte, so "A", "A.x", "A.y", "A-b".
func compareNames(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '.':
			return -1
		case b[i] == '.':
			return 1
		}
		return cmp.Compare(a[i], b[i])
	}
	return cmp.Compare(len(a), len(b))
}

// get finds a parameter by its exact name.
func (f form) get(name string) (string, bool) {
	i, ok := slices.BinarySearchFunc(f, name, func(p param, name string) int { return compareNames(p.name, name) })
	if !ok {
		return "", false
	}
	return f[i].value, true
}
