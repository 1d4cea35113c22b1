package analysis

import (
	"crypto/rand"
	"maps"
	"reflect"
	"strings"
	"testing"

	"carrel/internal/ident"
	"carrel/internal/permissions"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

func TestAWorldHasWhatPermissionsSay(t *testing.T) {
	db := statetest.NewDB(t)
	of := permissions.Account{ID: account, Partition: "aws"}
	const admin = "arn:aws:iam::aws:policy/AdministratorAccess"
	group := &state.Group{ID: ident.NewGroupID(rand.Reader), Name: "desks", Path: "/ops/", Permissions: state.Permissions{Inline: map[string]string{"In": "a"}, Attached: []string{admin}}}
	user := &state.User{ID: ident.NewUserID(rand.Reader), Name: "ada", Path: "/", Groups: []ident.GroupID{group.ID}, Permissions: state.Permissions{Inline: map[string]string{"Own": "b"}, Attached: []string{admin}}, Boundary: "arn:aws:iam::123456789012:policy/gone"}
	user.Tags = map[string]string{"team": "ops"}
	role := &state.Role{ID: ident.NewRoleID(rand.Reader), Name: "desk", Path: "/x/", Trust: "t", Service: "workspaces.amazonaws.com"}
	ws := &state.Workspace{ID: "ws-000000001"}
	ws.Tags = map[string]string{"team": "ops"}
	if _, err := db.Update(t.Context(), func(tx *state.Tx) error {
		state.Put(tx, state.Groups, group)
		state.Put(tx, state.Users, user)
		state.Put(tx, state.Roles, role)
		state.Put(tx, state.Workspaces, ws)
		state.Put(tx, state.Accounts, &state.Account{Guardrails: map[string]string{"b": "2", "a": "1"}})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	snap := db.Snapshot()
	w := NewWorld(snap, of, "eu-central-1", nil)
	sources := func(m *Member) (out []permissions.Source) {
		for _, a := range m.Identity {
			out = append(out, w.Documents[a.Document])
		}
		return out
	}
	got := w.find("arn:aws:iam::123456789012:user/ada")
	if got == nil || !reflect.DeepEqual(sources(got), of.OfUser(snap, user)) || !maps.Equal(got.Tags, user.Tags) || !reflect.DeepEqual(got.Groups, []string{"arn:aws:iam::123456789012:group/ops/desks"}) {
		t.Fatalf("%+v", got)
	}
	var through []string
	for _, a := range got.Identity {
		through = append(through, a.Group)
	}
	if s := strings.Join(through, ","); s != ",,arn:aws:iam::123456789012:group/ops/desks,arn:aws:iam::123456789012:group/ops/desks" || got.Identity[1].Document != got.Identity[3].Document {
		t.Errorf("the ways are %q, and a document is there once: %+v", s, got.Identity)
	}
	if b := w.Documents[got.Boundary[0]]; b.ID != user.Boundary || b.Text != permissions.Missing {
		t.Errorf("a boundary that is gone: %+v", b)
	}
	r := w.find("arn:aws:iam::123456789012:role/x/desk")
	if r == nil || !r.ServiceLinked || w.Documents[r.Trust[0]].Text != "t" || len(w.Members) != 3 || w.Members[0].Type != Root {
		t.Errorf("%+v", w.Members)
	}
	if len(w.Guardrails) != 2 || w.Documents[w.Guardrails[0]].Text != "1" {
		t.Errorf("%v", w.Guardrails)
	}
	for name, known := range map[string]bool{
		"arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-000000001": true,
		"arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-000000002": false,
		"arn:aws:workspaces:eu-central-1:999999999999:workspace/ws-000000001": false,
		"arn:aws:iam::123456789012:user/ada":                                  true,
		"arn:aws:iam::123456789012:user/other/ada":                            false,
		"arn:aws:iam::123456789012:role/x/desk":                               true,
		"arn:aws:iam::123456789012:policy/gone":                               false,
		"arn:aws:workspaces:eu-central-1:123456789012:workspacebundle/wsb-1":  false,
		"arn:aws:workspaces:eu-central-1:123456789012:directory/d-1":          false,
		"*": false, "": false,
	} {
		if tags, ok := ResourceTags(snap, of, name); ok != known || ok && !strings.HasSuffix(name, "desk") && tags["team"] != "ops" {
			t.Errorf("%s: %v %v", name, tags, ok)
		}
	}
}

func TestGuardrailsThatLeaveTheRootNothing(t *testing.T) {
	of := permissions.Account{ID: account, Partition: "aws"}
	for _, c := range []struct {
		name       string
		guardrails map[string]string
		locked     bool
	}{
		{"none", nil, false},
		{"all is allowed", map[string]string{"Full": everything}, false},
		{"only a deny", map[string]string{"No": strings.Replace(everything, "Allow", "Deny", 1)}, true},
		{"a deny of one service, and no allow", map[string]string{"No": `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"ds:*","Resource":"*"}]}`}, true},
		{"a deny of one service beside the allow", map[string]string{"Full": everything, "No": `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"ds:*","Resource":"*"}]}`}, false},
		{"a deny of everything beside the allow", map[string]string{"Full": everything, "No": strings.Replace(everything, "Allow", "Deny", 1)}, true},
		{"a deny of the root alone", map[string]string{"Full": everything, "No": `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringLike":{"aws:PrincipalArn":"arn:aws:iam::*:root"}}}]}`}, true},
		{"a deny outside of some addresses", map[string]string{"Full": everything, "No": `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}]}`}, false},
		{"an allow on a resource", map[string]string{"Some": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"workspaces:TerminateWorkspaces","Resource":"arn:aws:workspaces:*:*:workspace/*"}]}`}, false},
		{"an allow of what there is not", map[string]string{"S3": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`}, true},
		{"one that cannot be read", map[string]string{"Full": everything, "Broken": "{"}, true},
	} {
		if got := NewEmptyWorld(of, "eu-central-1", []string{"ds:DescribeDirectories", "workspaces:TerminateWorkspaces"}, c.guardrails).RootLocked(); got != c.locked {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
