package front_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/analysis"
	"carrel/internal/api/workspaces"
	"carrel/internal/audit"
	"carrel/internal/state"
)

// What records are made in is used again: none may have anything of another, whatever comes at the same time, and whether the record before was longer.
func TestARecordHasNothingOfAnother(t *testing.T) {
	const callers, each = 8, 40
	h := newHouse(t)
	op := workspaces.DescribeWorkspaces.Operation
	users := []*state.AccessKey{h.root, h.nobody}
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for i := range each {
				c := smallestCall(t, op)
				// Lengths go up and down.
				c.body = fmt.Appendf(nil, `{"UserName":"u%d-%d-%s","DirectoryId":"d-0123456789"}`, caller, i, strings.Repeat("x", i*7%40))
				c.sign(t, signer(users[(caller+i)%2], op), time.Now())
				h.send(t, c.request())
			}
		})
	}
	all.Wait()
	seen := map[string]bool{}
	for _, rec := range h.audit.records {
		var said struct{ UserName, DirectoryID string }
		if err := json.Unmarshal([]byte(rec.RequestParameters.String()), &said); err != nil {
			t.Fatalf("%v: %s", err, rec.RequestParameters)
		}
		var caller, i int
		if _, err := fmt.Sscanf(said.UserName, "u%d-%d-", &caller, &i); err != nil {
			t.Fatalf("%v: %s", err, rec.RequestParameters)
		}
		if want := fmt.Sprintf("u%d-%d-%s", caller, i, strings.Repeat("x", i*7%40)); said.UserName != want || seen[want] {
			t.Errorf("%s, want %s once", said.UserName, want)
		}
		seen[said.UserName] = true
		var kept analysis.Recorded
		if err := json.Unmarshal([]byte(rec.Decision.String()), &kept); err != nil || kept.ID != rec.RequestID {
			t.Errorf("%v: the decision of %s in the record of %s", err, kept.ID, rec.RequestID)
		}
		denied := (caller+i)%2 == 1
		if kept.Allowed == denied || (rec.ErrorCode != "") != denied || (rec.UserIdentity.Type == "Root") == denied {
			t.Errorf("%s: %q, allowed %t, by %s", said.UserName, rec.ErrorCode, kept.Allowed, rec.UserIdentity.Type)
		}
	}
	if len(seen) != callers*each {
		t.Errorf("%d records, want %d", len(seen), callers*each)
	}
}

// A record of a request without parameters, decision and TLS has none of the record before.
func TestARecordOfLittleAfterOneOfMuch(t *testing.T) {
	h := newHouse(t)
	op := workspaces.DescribeWorkspaces.Operation
	for range 20 {
		c := smallestCall(t, op)
		c.body = []byte(`{"UserName":"ada","DirectoryId":"d-0123456789"}`)
		c.sign(t, signer(h.nobody, op), time.Now())
		if a := h.send(t, c.request()); a.code != "AccessDeniedException" {
			t.Fatal(a)
		}
		if rec := h.audit.last(t); rec.RequestParameters.String() == "null" || rec.Decision.String() == "null" || rec.ErrorMessage == "" {
			t.Fatalf("%+v", rec)
		}
		c = smallestCall(t, op)
		h.send(t, c.request())
		rec := *h.audit.last(t)
		if want := (audit.UserIdentity{Type: "Unknown"}); rec.UserIdentity != want || rec.RequestParameters.String() != "null" || rec.ResponseElements.String() != "null" ||
			rec.Decision.String() != "null" || rec.TLS != nil || rec.EventName != "Unknown" || rec.ReadOnly {
			t.Fatalf("%+v", rec)
		}
	}
}
