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
