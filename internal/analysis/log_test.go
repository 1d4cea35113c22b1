package analysis

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"testing"

	"carrel/internal/audit"
	"carrel/internal/clock"
	"carrel/internal/evidence"
)

// newLog gives an audit directory and what writes a record into it, durably.
func newLog(t *testing.T) (dir string, log func(audit.Record)) {
	t.Helper()
	root := t.TempDir()
	dir = filepath.Join(root, "audit")
	key, err := evidence.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := evidence.Open(filepath.Join(root, "evidence"), key, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := audit.Open(audit.Config{Dir: dir, Evidence: signed, Clock: clock.System{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := signed.Close(); err != nil {
			t.Error(err)
		}
	})
	return dir, func(r audit.Record) {
		t.Helper()
		r.EventSource, r.AWSRegion = "workspaces.amazonaws.com", "eu-central-1"
		if err := w.Write(t.Context(), &r, true); err != nil {
			t.Fatal(err)
		}
	}
}
