package front

import (
	"encoding/json"
	"slices"

	"carrel/internal/analysis"
	"carrel/internal/audit"
	"carrel/internal/authz"
)

// maxDecision is how long the document of a decision may be; audit takes 32 KiB, and escapes make some longer.
const maxDecision = 24 << 10

// decision is the document of a call's decision for its record, written over memory; the zero Document when nothing was decided.
func (d *Door) decision(memory *[]byte, x *exchange) audit.Document {
	if x.decision == nil {
		return audit.Document{}
	}
	text := decisionJSON((*memory)[:0], x.decision, x.id)
	if text == nil {
		return audit.Document{}
	}
	*memory = text
	doc, err := audit.WrittenDecision(text)
	if err != nil {
		d.Log.Error("decision not recorded", "request", x.id, "error", err)
	}
	return doc
}

// decisionJSON appends to the empty b what the record of a call keeps of its decision: authz's explanation with the request's id, and after a denial
// the nearest allow. One that would be too long keeps its last checks, whole, and says that it was shortened.
// Nil when that is too long, too.
func decisionJSON(b []byte, d *authz.Decision, id string) []byte {
	// The id is ours: a UUID.
	b = append(slices.Grow(b, 2<<10), `{"id":"`...)
	b = append(append(b, id...), `",`...)
	from := len(b)
	b = d.AppendJSON(b)
	// The two objects become one.
	b = append(b[:from], b[from+1:]...)
	var nearest json.RawMessage
	if !d.Allowed {
		nearest = analysis.Attach(d)
	}
	if len(b)+len(nearest) > maxDecision {
		return shortened(d.Explain(), id, nearest)
	}
	if nearest != nil {
		b = append(b[:len(b)-1], `,"nearest":`...)
		b = append(append(b, nearest...), '}')
	}
	return b
}

// shortened leaves out the earlier checks, which were allowed, until the rest is short enough; then the nearest allow, and then what they were about.
func shortened(x *authz.Explanation, id string, nearest json.RawMessage) []byte {
	kept := analysis.Recorded{ID: id, Shortened: true, Explanation: *x}
	kept.Nearest = nearest
	for {
		text, err := json.Marshal(&kept)
		switch {
		case err == nil && len(text) <= maxDecision:
			return text
		case len(kept.Checks) > 1:
			kept.Checks = kept.Checks[(len(kept.Checks)+1)/2:]
		case kept.Nearest != nil:
			kept.Nearest = nil
		case kept.Checks != nil || kept.Context != nil:
			kept.Checks, kept.Context = nil, nil
		default:
			return nil
		}
	}
}
