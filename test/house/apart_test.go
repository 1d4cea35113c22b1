package house

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"carrel/internal/display"
	"carrel/internal/rfb/rfbtest"
	"carrel/internal/sigv4"
)

// apart is a house whose two roles are processes of this test's own, with a relay between them: whatever the control plane asks of the host role
// can be where the host role is killed. The host role's directory is a file system of its own, which can be full. Desktops are of an empty disk:
// their firmware's screen is all that faults need.
type apart struct {
	*house
	dir, host string
	conf      string
	relay     *relay
	signer    sigv4.Signer
	directory string
	code      string

	mu   sync.Mutex
	role *exec.Cmd
}

const (
	controlUser = 64098
	// The domain is most of it; volumes are thin.
	hostBytes   = 512 << 20
	guestMemory = 64 << 20
)

func openApart(t *testing.T) *apart {
	t.Helper()
	for _, p := range []string{"aws", "qemu-system-x86_64", "qemu-img", "samba", "nsenter", "ip"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%s is missing: run test/need", p)
		}
	}
	dir, err := os.MkdirTemp("", "carrel-apart-")
	must(t, err)
	a := &apart{house: &house{t: t, state: filepath.Join(dir, "c"), log: filepath.Join(dir, "log")}, dir: dir, host: filepath.Join(dir, "h"), conf: filepath.Join(dir, "carrel.yaml")}
	t.Cleanup(a.end)
	must(t, errors.Join(os.Chmod(dir, 0o711), os.Mkdir(a.state, 0o700), os.Chown(a.state, controlUser, controlUser), os.Mkdir(a.host, 0o700), os.Mkdir(a.host+"-host", 0o711)))
	must(t, unix.Mount("tmpfs", a.host+"-host", "tmpfs", 0, fmt.Sprintf("size=%d,mode=711", hostBytes)))
	must(t, os.WriteFile(a.conf, []byte("host:\n  compute: [\"VALUE=64\"]\n  accelerator: tcg\nmetrics:\n  address: \"off\"\n"), 0o600))
	blank := filepath.Join(dir, "blank.qcow2")
	for _, args := range [][]string{{"qemu-img", "create", "-q", "-f", "qcow2", blank, "1M"},
		{binary, "image", "import", blank, "--firmware", "bios", "--id", "wsi-debian012", "--min-memory", "64", "--state", a.host}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	a.startHost()
	a.relay = newRelay(a)
	a.startControl()
	a.furnish()
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// in makes t the test that fails from here on.
func (a *apart) in(t *testing.T) { a.t = t }

// output appends to the log of all roles.
func (a *apart) output() *os.File {
	f, err := os.OpenFile(a.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	must(a.t, err)
	return f
}

func (a *apart) startHost() {
	out := a.output()
	defer out.Close()
	c := exec.Command(binary, "host", "--user", fmt.Sprint(controlUser), "--state", a.host, "--config", a.conf)
	c.Stdout, c.Stderr = out, out
	must(a.t, c.Start())
	a.mu.Lock()
	defer a.mu.Unlock()
	a.role = c
}

// killHost kills the host role and starts another, as its supervisor would after a pause.
func (a *apart) killHost() {
	a.mu.Lock()
	c := a.role
	a.mu.Unlock()
	_ = c.Process.Kill()
	_ = c.Wait()
	a.startHost()
}

func (a *apart) startControl() {
	a.t.Helper()
	out := a.output()
	defer out.Close()
	a.door, a.portal = free(a.t), free(a.t)
	conf, err := os.ReadFile(a.conf)
	must(a.t, err)
	before := strings.Count(a.logged(), "carrel: ready")
	a.serve = exec.Command(binary, "serve", "--control", "--state", a.state, "--config", "-", "--api-addr", a.door, "--portal-addr", a.portal)
	a.serve.Stdin, a.serve.Stdout, a.serve.Stderr = bytes.NewReader(conf), out, out
	a.serve.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: controlUser, Gid: controlUser}}
	must(a.t, a.serve.Start())
	a.eventually("ready", func() bool { return strings.Count(a.logged(), "carrel: ready") > before })
	a.env = append(os.Environ(), "AWS_CONFIG_FILE="+a.state+"/aws/config", "AWS_SHARED_CREDENTIALS_FILE="+a.state+"/aws/credentials", "AWS_PROFILE=carrel", "AWS_CA_BUNDLE="+a.state+"/ca.pem", "AWS_PAGER=")
	a.client = a.newClient()
	keys, err := os.ReadFile(a.state + "/aws/credentials")
	must(a.t, err)
	a.signer = sigv4.Signer{Region: "us-east-1"}
	for line := range strings.Lines(string(keys)) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), " = "); name {
		case "aws_access_key_id":
			a.signer.AccessKeyID = value
		case "aws_secret_access_key":
			a.signer.Secret = sigv4.Secret(value)
		}
	}
}

// newClient is a browser without cookies.
func (a *apart) newClient() *http.Client {
	a.t.Helper()
	jar, err := cookiejar.New(nil)
	must(a.t, err)
	return &http.Client{Jar: jar, Transport: trusting(a.t, a.state+"/ca.pem"), Timeout: time.Minute}
}

// furnish makes a directory of real Samba with two people.
func (a *apart) furnish() {
	a.t.Helper()
	vpc := a.aws("ec2", "describe-subnets", "--query", "Subnets[0].VpcId", "--output", "text")
	subnets := strings.Fields(a.aws("ec2", "describe-subnets", "--query", "Subnets[].SubnetId", "--output", "text"))
	a.directory = a.aws("ds", "create-directory", "--name", "corp.example.com", "--short-name", "CORP", "--password", "Sup3r-Secret-1", "--size", "Small",
		"--vpc-settings", "VpcId="+vpc+",SubnetIds="+strings.Join(subnets, ","), "--query", "DirectoryId", "--output", "text")
	a.until("Active", "ds", "describe-directories", "--query", "DirectoryDescriptions[0].Stage")
	a.aws("workspaces", "register-workspace-directory", "--directory-id", a.directory)
	a.until("REGISTERED", "workspaces", "describe-workspace-directories", "--query", "Directories[0].State")
	a.code = a.aws("workspaces", "describe-workspace-directories", "--query", "Directories[0].RegistrationCode", "--output", "text")
	for _, name := range []string{"ada", "grace"} {
		a.aws("ds-data", "create-user", "--directory-id", a.directory, "--sam-account-name", name, "--given-name", name)
		a.aws("ds", "reset-user-password", "--directory-id", a.directory, "--user-name", name, "--new-password", "Analytical-1")
	}
}

func (a *apart) end() {
	if a.serve != nil {
		// The host role goes with everything else that has files open in the directory.
		a.house.end(a.dir)
	}
	if a.role != nil {
		_ = a.role.Process.Kill()
		_ = a.role.Wait()
	}
	_ = unix.Unmount(a.host+"-host", unix.MNT_DETACH)
	_ = os.RemoveAll(a.dir)
}

// ask makes one call of the WorkSpaces API. The AWS CLI, which others try, takes most of a second for each.
func (a *apart) ask(operation string, in any) map[string]any {
	a.t.Helper()
	body, err := json.Marshal(in)
	must(a.t, err)
	h := http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amz-Target": {"WorkspacesService." + operation}}
	s := a.signer
	s.Service = "workspaces"
	must(a.t, s.Sign(&sigv4.Request{Method: http.MethodPost, Path: "/", Host: a.door, Header: h, Body: body}, time.Now()))
	r, err := http.NewRequest(http.MethodPost, "https://"+a.door+"/", bytes.NewReader(body))
	must(a.t, err)
	r.Header = h
	resp, err := a.client.Do(r)
	must(a.t, err)
	defer resp.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != http.StatusOK {
		a.t.Fatalf("%s: %d %v, %v", operation, resp.StatusCode, out, err)
	}
	return out
}

// desktop is a WorkSpace as the API describes it; the zero value when there is none.
type desktop struct{ State, ErrorCode, ErrorMessage string }

func (a *apart) describe(id string) desktop {
	a.t.Helper()
	all, _ := a.ask("DescribeWorkspaces", map[string]any{"WorkspaceIds": []string{id}})["Workspaces"].([]any)
	if len(all) == 0 {
		return desktop{}
	}
	w := all[0].(map[string]any)
	text := func(name string) string { s, _ := w[name].(string); return s }
	return desktop{text("State"), text("ErrorCode"), text("ErrorMessage")}
}

// await waits until the WorkSpace is as wanted.
func (a *apart) await(id, what string, is func(desktop) bool) {
	a.t.Helper()
	var d desktop
	for end := time.Now().Add(time.Minute); ; time.Sleep(40 * time.Millisecond) {
		if d = a.describe(id); is(d) {
			return
		}
		if d.State == "ERROR" || time.Now().After(end) {
			a.t.Fatalf("%s is %+v, not %s", id, d, what)
		}
	}
}

func (a *apart) awaitState(id, state string) {
	a.t.Helper()
	a.await(id, state, func(d desktop) bool { return d.State == state })
}

// awaitCode waits until the WorkSpace says why it waits.
func (a *apart) awaitCode(id, code string) desktop {
	a.t.Helper()
	var d desktop
	a.await(id, code, func(now desktop) bool { d = now; return d.ErrorCode == code })
	return d
}

func (a *apart) create(user string) string {
	a.t.Helper()
	out := a.ask("CreateWorkspaces", map[string]any{"Workspaces": []any{map[string]any{"DirectoryId": a.directory, "UserName": user, "BundleId": "wsb-value0012",
		"WorkspaceProperties": map[string]any{"RunningMode": "AUTO_STOP", "RunningModeAutoStopTimeoutInMinutes": 60}}}})
	pending, _ := out["PendingRequests"].([]any)
	if len(pending) != 1 {
		a.t.Fatalf("%v", out)
	}
	return pending[0].(map[string]any)["WorkspaceId"].(string)
}

// power asks for Start, Stop or Terminate.
func (a *apart) power(verb, id string) {
	a.t.Helper()
	out := a.ask(verb+"Workspaces", map[string]any{verb + "WorkspaceRequests": []any{map[string]any{"WorkspaceId": id}}})
	if failed, _ := out["FailedRequests"].([]any); len(failed) > 0 {
		a.t.Fatalf("%s: %v", verb, failed)
	}
}

// person is somebody at a browser.
type person struct {
	a      *apart
	client *http.Client
}

func (a *apart) person() *person { return &person{a, a.newClient()} }

// call is house.call with the person's own cookies.
func (p *person) call(method, path string, in any) (int, map[string]any) {
	p.a.t.Helper()
	h := *p.a.house
	h.client = p.client
	return h.call(method, path, in)
}

func (p *person) login(name string) (int, map[string]any) {
	p.a.t.Helper()
	return p.call("POST", "/api/session", map[string]string{"code": p.a.code, "userName": name, "password": "Analytical-1"})
}

func (a *apart) loggedIn(name string) *person {
	a.t.Helper()
	p := a.person()
	if status, out := p.login(name); status != http.StatusOK {
		a.t.Fatalf("login: %d %v", status, out)
	}
	return p
}

// window is a browser's window on a desktop.
type window struct {
	a      *apart
	ws     *websocket.Conn
	ctx    context.Context
	rest   []byte
	viewer *rfbtest.Viewer
	err    error
	// last is how the WebSocket ended.
	last error
}

// open opens a desktop in a window, which may be told at once that it cannot be.
func (p *person) open(id string) *window {
	p.a.t.Helper()
	w := p.tryOpen(id)
	if w == nil {
		p.a.t.Fatalf("%s cannot be connected to: %+v", id, p.a.describe(id))
	}
	return w
}

// tryOpen is open; nil when there is no ticket for the desktop now.
func (p *person) tryOpen(id string) *window {
	p.a.t.Helper()
	status, out := p.call("POST", "/api/desktops/"+id+"/connect", struct{}{})
	if status != http.StatusOK {
		return nil
	}
	return p.present(fmt.Sprint(out["ticket"]))
}

// present opens a window with a ticket.
func (p *person) present(ticket string) *window {
	p.a.t.Helper()
	ctx, cancel := context.WithTimeout(p.a.t.Context(), time.Minute)
	p.a.t.Cleanup(cancel)
	ws, _, err := websocket.Dial(ctx, "wss://"+p.a.portal+"/api/screen", &websocket.DialOptions{HTTPClient: p.client, Subprotocols: []string{display.Protocol},
		HTTPHeader: http.Header{"Origin": {"https://" + p.a.portal}}})
	must(p.a.t, err)
	p.a.t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(1 << 20)
	w := &window{a: p.a, ws: ws, ctx: ctx}
	must(p.a.t, ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"ticket":%q}`, ticket)))
	w.viewer, w.err = rfbtest.Connect(w, rfbtest.Encodings)
	return w
}

// Read and Write are the binary half of the WebSocket.
func (w *window) Read(p []byte) (int, error) {
	for len(w.rest) == 0 {
		kind, data, err := w.ws.Read(w.ctx)
		if err != nil {
			w.last = err
			return 0, err
		}
		if kind == websocket.MessageBinary {
			w.rest = data
		}
	}
	n := copy(p, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

func (w *window) Write(p []byte) (int, error) {
	return len(p), w.ws.Write(w.ctx, websocket.MessageBinary, p)
}

// shows waits for a picture of the desktop.
func (w *window) shows() {
	w.a.t.Helper()
	must(w.a.t, w.err)
	for begun := w.viewer.Updates; w.viewer.Updates == begun; {
		if _, err := w.viewer.Next(); err != nil {
			w.a.t.Fatalf("no picture: %v", err)
		}
	}
}

// ends waits for the end of the session and gives the reason that the page is told.
func (w *window) ends() display.Reason {
	w.a.t.Helper()
	err := w.err
	for err == nil {
		_, err = w.viewer.Next()
	}
	var closed websocket.CloseError
	if !errors.As(w.last, &closed) {
		w.a.t.Fatalf("the session ended with %v: %v", err, w.last)
	}
	return display.Reason(closed.Reason)
}

// relay passes the control plane's calls on to the host role.
type relay struct {
	a *apart

	mu sync.Mutex
	// seen are the calls by name in order of their coming, and took how long each name took last.
	seen []string
	took map[string]time.Duration
	shot *shot
}

// shot is when the host role is to be killed.
type shot struct {
	call string
	// nth is which of the calls of that name, from 1, as counted since it was aimed.
	nth   int
	phase phase
	fired chan struct{}
	count int
}

type phase int

// before: the call never reaches the host role; amid: the host role dies over it; after: it is done, and nobody is told.
const (
	before phase = iota
	amid
	after
)

func (p phase) String() string { return [...]string{"before", "amid", "after"}[p] }

func newRelay(a *apart) *relay {
	r := &relay{a: a, took: map[string]time.Duration{}}
	path := filepath.Join(a.state, "host.sock")
	l, err := net.Listen("unix", path)
	must(a.t, err)
	must(a.t, os.Chown(path, controlUser, controlUser))
	s := &http.Server{Handler: r}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	a.t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return r
}

// name is what a call is called here: of volumes, also which.
func name(path string, body []byte) string {
	n := strings.TrimPrefix(path, "/host/1/")
	for _, role := range []string{"root", "user"} {
		if strings.HasPrefix(n, "volumes/") && bytes.Contains(body, []byte("/"+role+`"`)) {
			n += " " + role
		}
	}
	return n
}

// ServeHTTP passes one call on. A connection that breaks is what the control plane sees of a host role that is killed.
func (r *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	call := name(req.URL.Path, body)
	host, err := net.Dial("unix", filepath.Join(r.a.host, "host.sock"))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer host.Close()
	// Counted only when there is a host role to be killed.
	shot := r.note(call)
	if shot != nil && shot.phase == before {
		r.kill(shot)
		panic(http.ErrAbortHandler)
	}
	out := req.Clone(context.Background())
	out.Body, out.ContentLength, out.URL.Host, out.URL.Scheme = io.NopCloser(bytes.NewReader(body)), int64(len(body)), "host", "http"
	if err := out.Write(host); err != nil {
		panic(http.ErrAbortHandler)
	}
	if strings.HasSuffix(call, "/connect") || strings.HasSuffix(call, "/dial") {
		splice(w, host)
		return
	}
	if shot != nil && shot.phase == amid {
		r.mu.Lock()
		half := r.took[call] / 2
		r.mu.Unlock()
		time.Sleep(half) // The middle of the call is what is meant, not an event of it.
		r.kill(shot)
		panic(http.ErrAbortHandler)
	}
	r.answer(w, host, call, shot)
}

// answer passes the answer back.
func (r *relay) answer(w http.ResponseWriter, host net.Conn, call string, shot *shot) {
	begun := time.Now()
	resp, err := http.ReadResponse(bufio.NewReader(host), nil)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if shot != nil {
		r.kill(shot)
		panic(http.ErrAbortHandler)
	}
	if resp.StatusCode == http.StatusOK {
		r.mu.Lock()
		r.took[call] = time.Since(begun)
		r.mu.Unlock()
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(body)
}

// splice joins what becomes a stream.
func splice(w http.ResponseWriter, host net.Conn) {
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	var wait sync.WaitGroup
	wait.Go(func() {
		_, _ = io.Copy(host, buffered)
		_ = host.Close()
	})
	_, _ = io.Copy(client, host)
	_ = client.Close()
	wait.Wait()
}

// note counts a call, and gives the shot if it is the one.
func (r *relay) note(call string) *shot {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, call)
	s := r.shot
	if s == nil || s.call != call {
		return nil
	}
	if s.count++; s.count != s.nth {
		return nil
	}
	r.shot = nil
	return s
}

func (r *relay) kill(s *shot) {
	r.a.killHost()
	close(s.fired)
}

// aim has the host role killed at a call.
func (r *relay) aim(call string, nth int, p phase) *shot {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shot = &shot{call: call, nth: nth, phase: p, fired: make(chan struct{})}
	return r.shot
}

// steps gives the calls since the last time that are a desktop's own, in their order.
func (r *relay) steps() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.DeleteFunc(r.seen, func(call string) bool {
		return strings.HasSuffix(call, "/list") || strings.HasPrefix(call, "domain/") || strings.HasPrefix(call, "users/") || strings.HasPrefix(call, "networks/")
	})
	r.seen = nil
	return out
}
