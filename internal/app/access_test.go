package app

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"carrel/internal/analysis"
	"carrel/internal/operator"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

const (
	fullAccess = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	noDS       = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"ds:*","Resource":"*"}]}`
)

func TestGuardrailsAreCheckedKeptAndWarnedOf(t *testing.T) {
	a := access{&house{db: statetest.NewDB(t), installation: state.Installation{AccountID: "123456789012", Region: "eu-central-1", Partition: "aws"}}}
	ctx := t.Context()
	for _, c := range []struct{ name, text, want string }{
		{"", fullAccess, "is no name of a guardrail"},
		{"a b", fullAccess, "is no name of a guardrail"},
		{"../x", fullAccess, "is no name of a guardrail"},
		{strings.Repeat("x", 129), fullAccess, "is no name of a guardrail"},
		{"full", "", "guardrail full: "},
		{"full", "{}", "guardrail full: "},
		{"full", strings.Replace(fullAccess, `"Action"`, `"Principal":"*","Action"`, 1), "guardrail full: "},
	} {
		if _, err := a.PutGuardrail(ctx, operator.Guardrail{Name: c.name, Text: c.text}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %s: %v", c.name, c.text, err)
		}
	}
	if got := a.Guardrails(); len(got) != 0 {
		t.Fatalf("a refused guardrail is there: %v", got)
	}
	if s, err := a.PutGuardrail(ctx, operator.Guardrail{Name: "no-ds", Text: noDS}); err != nil || len(s.Warnings) != 1 || s.Replaced {
		t.Errorf("a guardrail that leaves nothing: %+v %v", s, err)
	}
	if s, err := a.PutGuardrail(ctx, operator.Guardrail{Name: "full", Text: fullAccess}); err != nil || len(s.Warnings) != 0 || !slices.Equal(s.Names, []string{"full", "no-ds"}) {
		t.Errorf("%+v %v", s, err)
	}
	if s, err := a.PutGuardrail(ctx, operator.Guardrail{Name: "full", Text: fullAccess}); err != nil || !s.Replaced {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := a.RemoveGuardrail(ctx, "ful"); err == nil || !strings.Contains(err.Error(), "there are full, no-ds") {
		t.Error(err)
	}
	if s, err := a.RemoveGuardrail(ctx, "full"); err != nil || len(s.Warnings) != 1 {
		t.Errorf("the last one that allows was taken away: %+v %v", s, err)
	}
	if s, err := a.RemoveGuardrail(ctx, "no-ds"); err != nil || len(s.Warnings) != 0 || len(s.Names) != 0 {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := a.RemoveGuardrail(ctx, "no-ds"); err == nil || !strings.Contains(err.Error(), "there is none") {
		t.Error(err)
	}
}

func TestTheWorldIsToldWithTheTagsOfAResource(t *testing.T) {
	a := access{&house{db: statetest.NewDB(t), installation: state.Installation{AccountID: "123456789012", Region: "eu-central-1", Partition: "aws"}}}
	if _, err := a.PutGuardrail(t.Context(), operator.Guardrail{Name: "full", Text: fullAccess}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.h.db.Update(t.Context(), func(tx *state.Tx) error {
		ws := &state.Workspace{ID: "ws-000000001"}
		ws.Tags = map[string]string{"team": "ops"}
		state.Put(tx, state.Workspaces, ws)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got, err := a.World("arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-000000001")
	if err != nil || !got.TagsKnown || got.Tags["team"] != "ops" {
		t.Fatalf("%+v %v", got, err)
	}
	w := &analysis.World{}
	if err := json.Unmarshal(got.World, w); err != nil {
		t.Fatal(err)
	}
	if w.Region != "eu-central-1" || len(w.Members) != 1 || len(w.Guardrails) != 1 || !slices.Contains(w.Actions, "workspaces:TerminateWorkspaces") || !slices.Contains(w.Actions, "sts:AssumeRole") {
		t.Errorf("%+v", w)
	}
	if got, err := a.World(""); err != nil || got.TagsKnown {
		t.Errorf("%+v %v", got, err)
	}
}
