package policy

import (
	"fmt"
	"testing"
)

// TestTenThousandStatements: no document that is stored can have so many, but all of a user's and its groups' together could. Each of them still counts, and
// asking allocates nothing.
func TestTenThousandStatements(t *testing.T) {
	const statements, each = 10_000, 100
	resource := func(n int) string {
		return fmt.Sprintf("arn:aws:workspaces:us-east-1:123456789012:workspace/ws-%05d", n)
	}
	var docs []*Document
	for n := range statements {
		if n%each == 0 {
			docs = append(docs, &Document{Kind: Identity, Version: Version2012})
		}
		effect := Allow
		if n%1000 == 999 {
			effect = Deny
		}
		doc := docs[len(docs)-1]
		doc.Statements = append(doc.Statements, Statement{Sid: fmt.Sprint("S", n), Effect: effect, Actions: []string{"workspaces:Term*"}, Resources: []string{resource(n)}})
	}
	p := Compile(docs...)
	ids := make([]int32, statements)
	r := &Request{Action: NewAction("workspaces:TerminateWorkspaces"), Principal: Principal{Type: User, Account: "123456789012", ARN: "arn:aws:iam::123456789012:user/ada"}}
	for _, n := range []int{0, 1, 99, 100, 998, 999, 1000, 5000, 9998, 9999, 10_000} {
		want := Allowed
		if n%1000 == 999 {
			want = ExplicitDeny
		}
		if n == statements {
			want = ImplicitDeny
		}
		r.SetResource(resource(n))
		got := p.Evaluate(r, ids)
		if got.Decision != want || got.Matched != min(1, statements-n) {
			t.Errorf("%d: %+v, want %s", n, got, want)
		}
		if got.Matched == 1 {
			if st, document, place := p.Statement(int(ids[0])); st.Sid != fmt.Sprint("S", n) || document != n/each || place != n%each {
				t.Errorf("%d: %s, %d of document %d", n, st.Sid, place, document)
			}
		}
		if n := testing.AllocsPerRun(10, func() { p.Evaluate(r, ids) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}
