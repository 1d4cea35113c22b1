package app

import (
	"context"
	"log/slog"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"
)

func TestTheHostRoleIsStartedAgainUntilTheEndIsAskedFor(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var starts atomic.Int32
	again, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		keepHost(ctx, slog.New(slog.DiscardHandler), func() error {
			if starts.Add(1) == 2 {
				close(again)
				// Stopped with the rest, as a service manager does: it is not started a third time.
				return exec.Command("sh", "-c", "read line || true; kill -9 $$").Run()
			}
			return exec.Command("false").Run()
		})
	}()
	select {
	case <-again:
	case <-time.After(10 * time.Second):
		t.Fatal("it was not started again")
	}
	cancel()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it is kept after the end")
	}
	if n := starts.Load(); n != 2 {
		t.Errorf("it was started %d times", n)
	}
}
