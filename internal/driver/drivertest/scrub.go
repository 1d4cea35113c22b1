package drivertest

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"carrel/internal/driver"
)

// scrub is the part of the hypervisor's contract that certificates rest on.
func scrub(t *testing.T, fresh func(*testing.T) Set) {
	t.Run("a scrubbed machine's report is clean and its digest is that of zeros", func(t *testing.T) {
		s := fresh(t)
		s.build(t, one, nicSpec(eni1, one, vpc, "10.0.0.10"))
		m, err := s.Hypervisor.Inspect(t.Context(), one)
		want(t, "inspect", err, nil)
		r, err := s.Hypervisor.Scrub(t.Context(), one)
		want(t, "scrub", err, nil)
		wantReport(t, r, m)
		if r.MemoryBytes != m.MemoryBytes {
			t.Errorf("%d of %d bytes were scrubbed", r.MemoryBytes, m.MemoryBytes)
		}
	})
	t.Run("the report stays the same until the machine is released", func(t *testing.T) {
		s := fresh(t)
		spec := s.build(t, one, nicSpec(eni1, one, vpc, "10.0.0.10"))
		want(t, "release before scrub", s.Hypervisor.Release(t.Context(), one), driver.ErrOrder)
		first, err := s.Hypervisor.Scrub(t.Context(), one)
		want(t, "scrub", err, nil)
		s = s.Reopen(t)
		again, err := s.Hypervisor.Scrub(t.Context(), one)
		want(t, "scrub again", err, nil)
		if again.Digest != first.Digest || again.Run != first.Run || !again.Finished.Equal(first.Finished) {
			t.Errorf("another report: %+v after %+v", again, first)
		}
		m, err := s.Hypervisor.Inspect(t.Context(), one)
		if err != nil || m.State != driver.MachineScrubbed || m.MemoryBytes != 0 {
			t.Errorf("scrubbed: %+v, %v", m, err)
		}
		_, err = s.Hypervisor.Start(t.Context(), spec)
		want(t, "start a scrubbed machine", err, driver.ErrOrder)
		_, err = s.Hypervisor.Stop(t.Context(), one)
		want(t, "stop a scrubbed machine", err, driver.ErrOrder)
		want(t, "release", s.Hypervisor.Release(t.Context(), one), nil)
		want(t, "release again", s.Hypervisor.Release(t.Context(), one), nil)
		_, err = s.Hypervisor.Scrub(t.Context(), one)
		want(t, "scrub a released machine", err, driver.ErrNotFound)
	})
	t.Run("of a stopped machine the saved memory's key is destroyed and the report is of its stop", func(t *testing.T) {
		s := fresh(t)
		s.build(t, one, nicSpec(eni1, one, vpc, "10.0.0.10"))
		m, err := s.Hypervisor.Inspect(t.Context(), one)
		want(t, "inspect", err, nil)
		must(t, "stop")(s.Hypervisor.Stop(t.Context(), one))
		s = s.Reopen(t)
		r, err := s.Hypervisor.Scrub(t.Context(), one)
		want(t, "scrub", err, nil)
		wantReport(t, r, m)
		if len(r.Keys) != 1 || r.Keys[0] == "" {
			t.Errorf("keys destroyed: %v, want one", r.Keys)
		}
	})
}

func wantReport(t *testing.T, r driver.ScrubReport, m driver.Machine) {
	t.Helper()
	if err := r.Clean(); err != nil {
		t.Error(err)
	}
	// The digest is recomputed from what a clean read-back must have been: memory of that size, all zeros.
	h := sha256.New()
	zeros := make([]byte, 1<<20)
	for left := r.MemoryBytes; left > 0; {
		n := min(left, int64(len(zeros)))
		h.Write(zeros[:n])
		left -= n
	}
	if got := hex.EncodeToString(h.Sum(nil)); r.Digest != got {
		t.Errorf("digest %s, that of %d zeros is %s", r.Digest, r.MemoryBytes, got)
	}
	if r.WorkspaceID != m.WorkspaceID || r.Run != m.Run || r.Host != m.Host || r.Method == "" || r.Facts.Kernel == "" ||
		r.RunStarted.IsZero() || r.RunEnded.Before(r.RunStarted) || r.Started.Before(r.RunStarted) || r.Finished.Before(r.Started) {
		t.Errorf("report %+v of %+v", r, m)
	}
}
