package house

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// browser is a person in headless Chromium (walk.mjs), who does one scene after the other in the same windows.
type browser struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

// given is what a scene needs to know.
type given map[string]any

// browser starts Chromium. Screenshots are left in bin/house.
func (h *house) browser(t *testing.T) *browser {
	t.Helper()
	if out, err := exec.Command(filepath.Join(root, "web/portal/assets"), "tests").CombinedOutput(); err != nil {
		t.Fatalf("web/portal/assets tests: %v\n%s", err, out)
	}
	shots, err := filepath.Abs(filepath.Join(root, "bin/house"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(shots), os.MkdirAll(shots, 0o755)); err != nil {
		t.Fatal(err)
	}
	modules, err := filepath.Abs(filepath.Join(root, ".cache/portal-tests/node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	cmd := exec.CommandContext(ctx, "node", "walk.mjs")
	cmd.Env = append(os.Environ(), "PORTAL=https://"+h.portal, "SHOTS="+shots, "MODULES="+modules)
	// It ends its browser when it is asked to end, and when its input does.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer cancel()
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("walk.mjs: %v", err)
		}
	})
	return &browser{t: t, in: in, out: bufio.NewScanner(out)}
}

// secret gives a password to the AWS CLI as the name of a file that only root reads: a command line is there for everybody to see.
func secret(t testing.TB, password string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	return "file://" + path
}

// does has the person do a scene; what follows rests on it.
func (b *browser) does(name, scene string, with given) {
	b.t.Helper()
	done := b.t.Run(name, func(t *testing.T) {
		line := given{"scene": scene}
		for k, v := range with {
			line[k] = v
		}
		text, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.in.Write(append(text, '\n')); err != nil {
			t.Fatalf("walk.mjs does not listen: %v", err)
		}
		if !b.out.Scan() {
			t.Fatalf("walk.mjs has ended: %v", b.out.Err())
		}
		var answer struct {
			Error string         `json:"error"`
			Said  map[string]any `json:"said"`
		}
		if err := json.Unmarshal(b.out.Bytes(), &answer); err != nil {
			t.Fatalf("walk.mjs says %q: %v", b.out.Text(), err)
		}
		if answer.Error != "" {
			t.Fatal(answer.Error)
		}
		if len(answer.Said) > 0 {
			t.Log(answer.Said)
		}
	})
	if !done {
		b.t.FailNow()
	}
}
