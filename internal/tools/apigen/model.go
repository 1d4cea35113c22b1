package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"
	"strconv"
)

// model is a reduced service-2.json. Reading refuses members it does not know, so that a trait of a future model which
// would change bytes on the wire stops the generator and is not silently dropped.
type model struct {
	Version    string               `json:"version"`
	Metadata   map[string]any       `json:"metadata"`
	Operations map[string]operation `json:"operations"`
	Shapes     map[string]*shapeDef `json:"shapes"`
}

type operation struct {
	Name       string   `json:"name"`
	HTTP       httpDef  `json:"http"`
	Input      *ref     `json:"input"`
	Output     *ref     `json:"output"`
	Errors     []ref    `json:"errors"`
	Idempotent bool     `json:"idempotent"`
	Auth       []string `json:"auth"`
	AuthType   string   `json:"authtype"`
}

type httpDef struct {
	Method       string `json:"method"`
	RequestURI   string `json:"requestUri"`
	ResponseCode int    `json:"responseCode"`
}

type ref struct {
	Shape            string `json:"shape"`
	ResultWrapper    string `json:"resultWrapper"`
	LocationName     string `json:"locationName"`
	QueryName        string `json:"queryName"`
	Location         string `json:"location"`
	IdempotencyToken bool   `json:"idempotencyToken"`
	Flattened        bool   `json:"flattened"`
	Box              bool   `json:"box"`
	Deprecated       bool   `json:"deprecated"`
}

type shapeDef struct {
	Type            string         `json:"type"`
	Members         map[string]ref `json:"members"`
	Required        []string       `json:"required"`
	Member          *ref           `json:"member"`
	Key             *ref           `json:"key"`
	Value           *ref           `json:"value"`
	Min             *json.Number   `json:"min"`
	Max             *json.Number   `json:"max"`
	Enum            []string       `json:"enum"`
	Pattern         string         `json:"pattern"`
	Exception       bool           `json:"exception"`
	Fault           bool           `json:"fault"`
	Error           *errorDef      `json:"error"`
	Sensitive       bool           `json:"sensitive"`
	Union           bool           `json:"union"`
	Flattened       bool           `json:"flattened"`
	TimestampFormat string         `json:"timestampFormat"`
	Box             bool           `json:"box"`
	Retryable       any            `json:"retryable"`
}

type errorDef struct {
	Code           string `json:"code"`
	HTTPStatusCode int    `json:"httpStatusCode"`
	SenderFault    bool   `json:"senderFault"`
}

// loadModel reads a reduced model from a file.
func loadModel(path string) (*model, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	m := new(model)
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// conceal makes shapes sensitive. One that there is not would leave a secret in the open under another name.
func (m *model) conceal(names []string) error {
	for _, name := range names {
		s, ok := m.Shapes[name]
		if !ok {
			return fmt.Errorf("the model has no shape %q to conceal", name)
		}
		s.Sensitive = true
	}
	return nil
}

// meta gives a string of the metadata, or "".
func (m *model) meta(key string) string {
	s, _ := m.Metadata[key].(string)
	return s
}

// bound reads a min or max. Models carry plain numbers and, rarely, 2.0E9 forms.
func bound(n *json.Number) (int64, bool, error) {
	if n == nil {
		return 0, false, nil
	}
	if i, err := n.Int64(); err == nil {
		return i, true, nil
	}
	f, err := strconv.ParseFloat(n.String(), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false, fmt.Errorf("bound %s is not an integer", n)
	}
	return int64(f), true, nil
}

// sortedKeys gives the keys of m in order, which makes every output deterministic.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
