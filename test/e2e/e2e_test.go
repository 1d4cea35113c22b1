// Package e2e runs the real AWS CLI against the real binary: each testdata/*.txtar is a script with its own server.
package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"carrel/internal/totp"
)

// binary is what `make build` made; the scripts run nothing else.
func binary(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/carrel")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	return path
}

func TestScripts(t *testing.T) {
	bin := binary(t)
	socket := serveAWS(t)
	idp := newProvider(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(bin)+":"+os.Getenv("PATH"))
			env.Setenv(realAWS, os.Getenv(realAWS))
			env.Setenv(awsSocket, socket)
			env.Setenv("AWS_PAGER", "")
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			env.Setenv("AWS_CLI_AUTO_PROMPT", "off")
			env.Setenv("STATE", filepath.Join(env.WorkDir, "state"))
			s := &servers{}
			env.Values["servers"] = s
			env.Defer(s.stopAll)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve":      cmdServe,
			"shutdown":   cmdShutdown,
			"kill9":      cmdKill,
			"capture":    cmdCapture,
			"eventually": cmdEventually,
			"totp":       cmdTOTP,
			"expire":     cmdExpire,
			"idp":        idp.cmdIdP,
			"token":      idp.cmdToken,
			"metadata":   idp.cmdMetadata,
			"assertion":  idp.cmdAssertion,
		},
	})
}

// server is one carrel process.
type server struct {
	cmd  *exec.Cmd
	out  *lockedBuffer
	done chan struct{}
	err  error
}

type servers struct{ running []*server }

func (s *servers) stopAll() {
	for _, r := range s.running {
		_ = r.cmd.Process.Kill()
		<-r.done
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const startTimeout = 90 * time.Second

// start runs carrel serve and returns once it printed that it is ready.
func start(bin string, env []string, args ...string) (*server, error) {
	s := &server{cmd: exec.Command(bin, append([]string{"serve"}, args...)...), out: &lockedBuffer{}, done: make(chan struct{})}
	s.cmd.Env = env
	s.cmd.Stderr = s.out
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go func() {
		defer close(s.done)
		var seen bytes.Buffer
		buf := make([]byte, 4096)
		announced := false
		for {
			n, err := stdout.Read(buf)
			_, _ = s.out.Write(buf[:n])
			seen.Write(buf[:n])
			if !announced && bytes.Contains(seen.Bytes(), []byte("carrel: ready\n")) {
				announced = true
				close(ready)
			}
			if err != nil {
				break
			}
		}
		s.err = s.cmd.Wait()
	}()
	select {
	case <-ready:
		return s, nil
	case <-s.done:
		return nil, fmt.Errorf("carrel serve ended before it was ready: %v\n%s", s.err, s.out)
	case <-time.After(startTimeout):
		_ = s.cmd.Process.Kill()
		<-s.done
		return nil, fmt.Errorf("carrel serve was not ready after %s\n%s", startTimeout, s.out)
	}
}

// cmdServe: [!] serve [flags...] starts a simulated server on $STATE and sets the AWS variables as `carrel env` does.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	all := ts.Value("servers").(*servers)
	env := append(os.Environ(), "HOME="+ts.Getenv("HOME"))
	if proxy := ts.Getenv("IDP_PROXY"); proxy != "" {
		env = append(env, "HTTPS_PROXY="+proxy, "https_proxy="+proxy, "NO_PROXY=", "no_proxy=")
	}
	base := []string{"--state", ts.Getenv("STATE"), "--simulate", "--api-addr", "127.0.0.1:0", "--portal-addr", "127.0.0.1:0"}
	s, err := start(filepath.Join(strings.Split(ts.Getenv("PATH"), ":")[0], "carrel"), env, append(base, args...)...)
	if neg {
		if err == nil {
			all.running = append(all.running, s)
			ts.Fatalf("carrel serve started, though it should have refused to")
		}
		fmt.Fprintln(ts.Stdout(), err)
		return
	}
	ts.Check(err)
	all.running = append(all.running, s)
	out, err := exec.Command(s.cmd.Path, "env", "--state", ts.Getenv("STATE")).Output()
	ts.Check(err)
	for _, m := range regexp.MustCompile(`(?m)^export (\w+)='(.*)'$`).FindAllStringSubmatch(string(out), -1) {
		ts.Setenv(m[1], m[2])
	}
	status, err := exec.Command(s.cmd.Path, "status", "--json", "--state", ts.Getenv("STATE")).Output()
	ts.Check(err)
	for name, re := range map[string]string{"API": `"api": "(.*)"`, "PORTAL": `"portal": "(.*)"`, "ACCOUNT": `"accountId": "(.*)"`} {
		if m := regexp.MustCompile(re).FindSubmatch(status); m != nil {
			ts.Setenv(name, string(m[1]))
		}
	}
}

// cmdShutdown: shutdown ends the last server with SIGTERM; it must be gone within 10 s, with status 0. (testscript's own command stop ends the script as
// passed, and comes before any of ours.)
func cmdShutdown(ts *testscript.TestScript, neg bool, _ []string) {
	s := last(ts)
	ts.Check(s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		ts.Fatalf("not stopped 10 s after SIGTERM\n%s", s.out)
	}
	if (s.err != nil) != neg {
		ts.Fatalf("ended with %v\n%s", s.err, s.out)
	}
}

func cmdKill(ts *testscript.TestScript, _ bool, _ []string) {
	s := last(ts)
	ts.Check(s.cmd.Process.Kill())
	<-s.done
}

func last(ts *testscript.TestScript) *server {
	all := ts.Value("servers").(*servers)
	if len(all.running) == 0 {
		ts.Fatalf("no server is running")
	}
	return all.running[len(all.running)-1]
}

// cmdCapture: capture VAR REGEXP sets VAR to the first group's match in the last output. Here as in stdout, ^ and $ are those of a line.
func cmdCapture(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: capture VAR REGEXP")
	}
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) < 2 {
		ts.Fatalf("%s does not match %s", args[1], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[0], m[1])
}

// cmdTOTP: totp VAR FILE STEPS sets VAR to the code of the MFA device whose seed the file has, so many steps of 30 s from now.
func cmdTOTP(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: totp VAR FILE STEPS")
	}
	seed, err := totp.Seed(strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	steps, err := strconv.Atoi(args[2])
	ts.Check(err)
	ts.Setenv(args[0], totp.Code(seed, totp.Step(time.Now())+int64(steps)))
}

// cmdEventually: eventually REGEXP COMMAND... repeats the command until its standard output matches; 30 s at most.
func cmdEventually(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: eventually REGEXP COMMAND [ARGS]")
	}
	re := regexp.MustCompile("(?m)" + args[0])
	deadline := time.Now().Add(30 * time.Second)
	for {
		var seen string
		err := ts.Exec(args[1], args[2:]...)
		seen = ts.ReadFile("stdout")
		if err == nil && re.MatchString(seen) != neg {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: still not so (err %v):\n%s%s", args[0], err, seen, ts.ReadFile("stderr"))
		}
	}
}

// client trusts the installation in dir and nobody else.
func client(t testing.TB, dir string) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("ca.pem holds no certificate")
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: 30 * time.Second}
}

// get reads a URL whole.
func get(ctx context.Context, c *http.Client, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	r, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}
