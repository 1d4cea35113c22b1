package front

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"carrel/internal/analysis"
	"carrel/internal/api/shape"
	"carrel/internal/api/workspaces"
	"carrel/internal/authz"
	"carrel/internal/identity/identitytest"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

// decided asks for the end of WorkSpaces as ada, who has a policy, and gives what is kept of the decision.
func decided(t *testing.T, document string, ids ...string) (text []byte, kept analysis.Recorded) {
	t.Helper()
	db := statetest.NewDB(t)
	id := identitytest.AddUser(t, db, "ada")
	if _, err := db.Update(t.Context(), func(tx *state.Tx) error {
		old, _ := state.Get(tx, state.Users, string(id))
		u := state.Clone(old)
		u.Inline = map[string]string{"Own": document}
		state.Put(tx, state.Users, u)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	a := &authz.Authorizer{DB: db, Account: identitytest.Account, Region: identitytest.Region, Partition: identitytest.Partition}
	in := &workspaces.TerminateWorkspacesInput{}
	for _, ws := range ids {
		in.TerminateWorkspaceRequests = append(in.TerminateWorkspaceRequests, workspaces.TerminateRequest{WorkspaceId: shape.Ptr(ws)})
	}
	d := a.Decide(&authz.Ask{Principal: identitytest.Principal(t, db, identitytest.AddKey(t, db, id)), Op: workspaces.TerminateWorkspaces.Operation, Input: in,
		Circumstances: &authz.Circumstances{Now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Source: netip.MustParseAddr("192.0.2.7"), TLS: true}})
	defer d.Release()
	text = decisionJSON(nil, d, "1f0c")
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if len(text) > maxDecision || strings.ContainsAny(string(text), "\n\r\t") {
		t.Errorf("%d bytes, or more than a line: %s", len(text), text)
	}
	if kept.ID != "1f0c" || kept.Allowed != d.Allowed {
		t.Errorf("%+v", kept)
	}
	return text, kept
}

const own = `{"Version":"2012-10-17","Statement":[{"Sid":"Own","Effect":"Allow","Action":"workspaces:TerminateWorkspaces","Resource":"arn:aws:workspaces:us-east-1:123456789012:workspace/ws-000000001"}]}`

func TestADecisionIsKeptWithTheNearestAllow(t *testing.T) {
	_, kept := decided(t, own, "ws-000000001", "ws-000000002")
	var nearest analysis.Suggestion
	if err := json.Unmarshal(kept.Nearest, &nearest); err != nil {
		t.Fatal(err)
	}
	if kept.Shortened || len(kept.Checks) != 2 || kept.Checks[0].Matched[0].Sid != "Own" || kept.Checks[1].Decision != "implicitDeny" || kept.Context["aws:sourceip"][0] != "192.0.2.7" {
		t.Errorf("%+v", kept)
	}
	if !nearest.Single || nearest.Changes[0].Do != analysis.Widen || nearest.Changes[0].Policy != "user_ada_Own" {
		t.Errorf("%+v", nearest)
	}
	if text, kept := decided(t, own, "ws-000000001"); !kept.Allowed || kept.Nearest != nil || len(kept.Checks) != 1 {
		t.Errorf("%s", text)
	}
	var memory []byte
	if doc := (&Door{}).decision(&memory, &exchange{}); doc.String() != "null" || memory != nil {
		t.Error("there is a document of nothing")
	}
}

func TestALongDecisionIsShortened(t *testing.T) {
	var ids []string
	for i := range 25 {
		ids = append(ids, fmt.Sprintf("ws-%s%d", strings.Repeat("x", 2000), i))
	}
	all := strings.Replace(own, "workspace/ws-000000001", "workspace/*", 1)
	if _, kept := decided(t, all, ids...); !kept.Shortened || !kept.Allowed || len(kept.Checks) == 0 || len(kept.Checks) >= 25 || !strings.HasSuffix(kept.Checks[len(kept.Checks)-1].Resource, "x24") {
		t.Errorf("%d checks", len(kept.Checks))
	}
	if _, kept := decided(t, all, "ws-"+strings.Repeat("x", 40_000)); !kept.Shortened || len(kept.Checks) != 0 || !kept.Allowed {
		t.Errorf("%d checks", len(kept.Checks))
	}
	if _, kept := decided(t, own, "ws-000000001", "ws-"+strings.Repeat("x", 40_000)); !kept.Shortened || kept.Allowed || kept.Reason == "" {
		t.Errorf("%+v", kept)
	}
}
