package portal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// root is the repository, seen from here.
const root = "../.."

// need says what is missing on this machine.
func need(t *testing.T) {
	t.Helper()
	for program, from := range map[string]string{"node": "nodejs (20 or newer)", "npm": "npm", "chromium": "chromium"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: install the package %s", program, from)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "internal/webui/static/vendor/novnc/core/rfb.js")); err != nil {
		t.Fatal("the portal's viewer is not built in: run web/portal/assets before the test is compiled")
	}
	if out, err := exec.Command(filepath.Join(root, "web/portal/assets"), "tests").CombinedOutput(); err != nil {
		t.Fatalf("web/portal/assets tests: %v\n%s", err, out)
	}
}

// step is one line of a scenario's report.
type step struct {
	Name  string  `json:"name"`
	OK    bool    `json:"ok"`
	Error string  `json:"error"`
	Ms    float64 `json:"ms"`
}

func TestThePortalInABrowser(t *testing.T) {
	need(t)
	w := newWorld(t)
	shots, err := filepath.Abs(filepath.Join(root, "bin/portal"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(shots, 0o755); err != nil {
		t.Fatal(err)
	}
	modules, err := filepath.Abs(filepath.Join(root, ".cache/portal-tests/node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "walk.mjs")
	cmd.Env = append(os.Environ(), "PORTAL="+w.server.URL, "LEVERS="+w.levers(t), "SHOTS="+shots, "MODULES="+modules, "ONLY="+os.Getenv("PORTAL_ONLY"))
	// It ends its browser when it is asked to end.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var s step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Errorf("walk.mjs says: %s", lines.Text())
			continue
		}
		ran++
		t.Run(s.Name, func(t *testing.T) {
			t.Logf("%.1f s", s.Ms/1000)
			if !s.OK {
				t.Error(s.Error)
			}
		})
	}
	if err := cmd.Wait(); err != nil || ran == 0 {
		t.Errorf("walk.mjs: %v after %d scenarios\n%s", err, ran, said.String())
	}
}

func TestTheLogicOfThePages(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatal("node is missing: install the package nodejs (20 or newer)")
	}
	files, err := filepath.Glob("unit/*.test.mjs")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %d files", err, len(files))
	}
	if out, err := exec.Command("node", append([]string{"--test"}, files...)...).CombinedOutput(); err != nil {
		t.Errorf("node --test: %v\n%s", err, out)
	}
}
