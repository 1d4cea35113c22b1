package sigv4

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// queryNames are the parameters of the query form; the token is optional.
var queryNames = [...]string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token"}

// queryHash is the hash of the body as some signers put it into the query; it binds nothing, and so it must be true.
const queryHash = "X-Amz-Content-Sha256"

// WithoutSignature is rawQuery without the parameters of the query form, for whoever reads the parameters next: what is left is the
// request's own. Only a query that Parse has read is sure to hold no second spelling of them.
func WithoutSignature(rawQuery string) string {
	if rawQuery == "" || !hasQuerySignature(rawQuery) {
		return rawQuery
	}
	var kept []string
	for pair := range strings.SplitSeq(rawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err == nil && (name == queryHash || slices.Contains(queryNames[:], name)) {
			continue
		}
		kept = append(kept, pair)
	}
	return strings.Join(kept, "&")
}

// hasQuerySignature tells whether any parameter of the query form is there, in any case and escaped in any way: the question is
// what some reader down the way could take for a signature.
func hasQuerySignature(rawQuery string) bool {
	for more := true; more; {
		var pair string
		pair, rawQuery, more = strings.Cut(rawQuery, "&")
		name, _, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			continue
		}
		for _, known := range queryNames {
			if strings.EqualFold(name, known) {
				return true
			}
		}
	}
	return false
}

// parseQuery reads the query form. No parameter may come twice, not even in another case: readers that differ in which one they
// take can be played against each other (CVE-2022-2385).
func parseQuery(req *Request) (Signature, error) {
	seen := map[string]bool{}
	value := map[string]string{}
	for pair := range strings.SplitSeq(req.RawQuery, "&") {
		if pair == "" {
			continue
		}
		name, v, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return Signature{}, mismatch()
		}
		if v, err = url.QueryUnescape(v); err != nil {
			return Signature{}, mismatch()
		}
		lower := strings.ToLower(name)
		if seen[lower] {
			return Signature{}, incomplete("A query-string parameter is given twice. Re-examine the query-string parameters.")
		}
		seen[lower] = true
		value[name] = v
	}
	for _, name := range append(queryNames[:], queryHash) {
		// The right name in the wrong case is an unsigned stranger to us and a signature to somebody else.
		if _, exact := value[name]; seen[strings.ToLower(name)] && !exact {
			return Signature{}, incomplete("Query-string parameter '" + name + "' is case-sensitive. Re-examine the query-string parameters.")
		}
	}
	return readQuery(req, value)
}

func readQuery(req *Request, value map[string]string) (Signature, error) {
	var missing strings.Builder
	for _, name := range queryNames[:6] {
		if value[name] == "" {
			missing.WriteString("AWS query-string parameters must include '" + name + "'. ")
		}
	}
	if missing.Len() > 0 {
		return Signature{}, incomplete(missing.String() + "Re-examine the query-string parameters.")
	}
	if value["X-Amz-Algorithm"] != algorithm {
		return Signature{}, incomplete("Unsupported AWS 'algorithm'. Re-examine the query-string parameters.")
	}
	// ParseUint takes no sign; five digits of leading zeros more would be another spelling, hence the length.
	expires, err := strconv.ParseUint(value["X-Amz-Expires"], 10, 32)
	if err != nil || expires < 1 || expires > maxExpires || len(value["X-Amz-Expires"]) > 6 {
		return Signature{}, incomplete("X-Amz-Expires must be a number of seconds between 1 and 604800. Re-examine the query-string parameters.")
	}
	sig := Signature{
		Query: true, Expires: time.Duration(expires) * time.Second,
		SignedHeaders: value["X-Amz-SignedHeaders"], Signature: value["X-Amz-Signature"], SessionToken: Secret(value["X-Amz-Security-Token"]),
		hash: value[queryHash],
	}
	if err := sig.setStamp(value["X-Amz-Date"]); err != nil {
		return Signature{}, err
	}
	if err := sig.credential(value["X-Amz-Credential"]); err != nil {
		return Signature{}, err
	}
	if err := sig.covers(req); err != nil {
		return Signature{}, err
	}
	return sig, sig.decode()
}
