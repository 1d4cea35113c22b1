package main

import (
	"strings"
	"testing"
	"time"

	"carrel/internal/analysis"
	"carrel/internal/audit"
)

func TestSinceIsReadAsPeopleWriteIt(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"30d": now.AddDate(0, 0, -30), "4w": now.AddDate(0, 0, -28), "12h": now.Add(-12 * time.Hour), "1h30m": now.Add(-90 * time.Minute),
		"2026-11-01": time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), "2026-11-26T11:00:00Z": now.Add(-time.Hour),
	} {
		if got, err := parseSince(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "30", "d", "0d", "-1d", "-12h", "0h", "2027-01-01", "yesterday", "30dd", "3.5d", "99999999d"} {
		if got, err := parseSince(text, now); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestWhatAClientChoseDoesNotMoveTheCursor(t *testing.T) {
	var b strings.Builder
	evil := "a\x1b[2J\u202eb\nc\x07\u2028"
	printCall(&b, &audit.Record{UserAgent: evil, RequestID: evil, EventID: evil, EventName: evil, EventSource: evil, ErrorCode: evil, ErrorMessage: evil, SourceIPAddress: evil,
		VPCEndpointID: evil, UserIdentity: audit.UserIdentity{Type: evil, ARN: evil, AccessKeyID: evil}})
	d := &analysis.Recorded{}
	d.Reason, d.By = evil, evil
	d.Context = map[string][]string{evil: {evil}}
	printDecision(&b, d, &analysis.Suggestion{Asked: []string{evil}, Changes: []analysis.Change{{Do: analysis.Add, Kind: evil, Policy: evil}, {Do: analysis.Satisfy, Key: evil, Operator: evil, Wanted: []string{evil}}}})
	printAccess(&b, &analysis.Access{Answers: []analysis.Answer{{Principal: evil, Through: []string{evil}, By: []analysis.Ground{{Policy: evil, Sid: evil, Group: evil}}, If: [][]analysis.Term{{{Resources: []string{evil}}}}}}})
	printReplayed(&b, &analysis.Replayed{Changes: []analysis.Changed{{Principal: evil, Action: evil, Resource: evil, To: "deny", Reason: evil, Example: evil}}})
	if strings.ContainsAny(b.String(), "\x1b\u202e\x07\u2028") {
		t.Errorf("%q", b.String())
	}
	if got := visible("é a\x1b"); got != `é a\x1b` {
		t.Error(got)
	}
}

func TestADecisionOfThePortalIsPrintedForPeople(t *testing.T) {
	var b strings.Builder
	r := &audit.Record{EventName: "Stream", EventSource: "workspaces.amazonaws.com", RequestID: "1f0c2d3e-4a5b-4c6d-8e9f-001122334455", SourceIPAddress: "192.0.2.7", ErrorCode: "InvalidResourceStateException",
		ErrorMessage: "The desktop cannot do that in the state it is in.", UserIdentity: audit.UserIdentity{Type: "Directory", UserName: "ada", PrincipalID: "S-1-5-21-1"}}
	if err := r.RequestParameters.UnmarshalJSON([]byte(`{"workspaceId":"ws-000000001"}`)); err != nil {
		t.Fatal(err)
	}
	d := &analysis.Recorded{}
	d.By, d.Reason, d.Context = "the desktop's state", "because its state does not allow it", map[string][]string{"carrel:desktopstate": {"STOPPED"}}
	printCall(&b, r)
	printDecision(&b, d, nil)
	for _, line := range []string{"who          ada S-1-5-21-1 (Directory)", `about        {"workspaceId":"ws-000000001"}`, "what         workspaces.amazonaws.com Stream", "decision     denied because its state does not allow it",
		"decided by   the desktop's state", "    carrel:desktopstate                STOPPED"} {
		if !strings.Contains(b.String(), line+"\n") {
			t.Errorf("no line %q in\n%s", line, b.String())
		}
	}
}
