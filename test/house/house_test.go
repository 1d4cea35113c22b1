// Package house tests all of Carrel with real parts: a directory of real Samba, a desktop of real QEMU under emulation, a person in a real browser
// who logs in with the directory's password, works on the screen and finds it again after a stop; and the certificate of the end.
package house

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"carrel/internal/display"
)

const (
	root   = "../.."
	binary = root + "/bin/carrel"
	// Emulated machines on a busy computer are slow; a quiet one needs a fifth of this.
	patience = 4 * time.Minute
)

// house is one installation.
type house struct {
	t     testing.TB
	state string
	// door is where the API is.
	door, portal string
	conf         string
	serve        *exec.Cmd
	env          []string
	client       *http.Client
	log          string
	begun        int
}

func free(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func open(t testing.TB) *house {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this suite needs root: networks, machines and domain controllers of their own users")
	}
	for _, p := range []string{"aws", "qemu-system-x86_64", "qemu-img", "samba", "mmdebstrap", "node", "npm", "chromium"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%s is missing: run test/need", p)
		}
	}
	dir, err := os.MkdirTemp("", "carrel-house-")
	if err != nil {
		t.Fatal(err)
	}
	// Helper processes pass through it.
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, state: filepath.Join(dir, "s"), log: filepath.Join(dir, "log")}
	h.conf = filepath.Join(dir, "carrel.yaml")
	if err := os.WriteFile(h.conf, []byte("host:\n  compute: [\"VALUE=512\"]\n  accelerator: tcg\nmetrics:\n  address: \"off\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(h.state, 0o700); err != nil {
		t.Fatal(err)
	}
	h.carrel("image", "build", "--variant", "minimal", "--id", "wsi-debian012", "--cache", root+"/.cache/images")
	h.door, h.portal = free(t), free(t)
	h.begin()
	t.Cleanup(func() { h.end(dir) })
	h.eventually("ready", h.ready)
	h.env = append(os.Environ(), "AWS_CONFIG_FILE="+h.state+"/aws/config", "AWS_SHARED_CREDENTIALS_FILE="+h.state+"/aws/credentials", "AWS_PROFILE=carrel", "AWS_CA_BUNDLE="+h.state+"/ca.pem", "AWS_PAGER=")
	pem, err := os.ReadFile(h.state + "/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	h.client = &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: time.Minute}
	return h
}

// begin starts Carrel.
func (h *house) begin() {
	h.t.Helper()
	out, err := os.OpenFile(h.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer out.Close()
	h.serve = exec.Command(binary, "serve", "--state", h.state, "--config", h.conf, "--api-addr", h.door, "--portal-addr", h.portal)
	h.serve.Stdout, h.serve.Stderr = out, out
	if err := h.serve.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.begun++
}

// ready: Carrel has said so as often as it was started.
func (h *house) ready() bool { return strings.Count(h.logged(), "carrel: ready") == h.begun }

// leave stops Carrel; desktops go on.
func (h *house) leave() {
	h.t.Helper()
	if err := h.serve.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Fatal(err)
	}
	if err := h.serve.Wait(); err != nil {
		h.t.Fatal(err)
	}
}

// end stops Carrel and takes away what it would keep for its next start: namespaces, and the keeper of memory that nobody needs any more.
func (h *house) end(dir string) {
	if h.t.Failed() {
		h.t.Logf("log:\n%s", h.logged())
	}
	_ = h.serve.Process.Signal(syscall.SIGTERM)
	_ = h.serve.Wait()
	mounts, _ := os.ReadFile("/proc/mounts")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir) {
			_ = syscall.Unmount(f[1], syscall.MNT_DETACH)
		}
	}
	// The keeper and any machine that a failed test left: found by the files they have open, never by name.
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, dir) {
			var pid int
			if _, err := fmt.Sscanf(l, "/proc/%d/", &pid); err == nil && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	_ = os.RemoveAll(dir)
}

func (h *house) logged() string {
	b, _ := os.ReadFile(h.log)
	return string(b)
}

func (h *house) carrel(args ...string) string {
	h.t.Helper()
	out, err := exec.Command(binary, append(args, "--state", h.state)...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("carrel %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (h *house) try(args ...string) (string, error) {
	c := exec.Command("aws", args...)
	c.Env = h.env
	out, err := c.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (h *house) aws(args ...string) string {
	h.t.Helper()
	out, err := h.try(args...)
	if err != nil {
		h.t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (h *house) eventually(what string, is func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(300 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func (h *house) until(want string, args ...string) {
	h.t.Helper()
	last := ""
	h.eventually(want, func() bool {
		last, _ = h.try(append(args, "--output", "text")...)
		if strings.HasPrefix(last, "ERROR") || strings.HasPrefix(last, "Failed") {
			h.t.Fatalf("waiting for %s: %s", want, last)
		}
		return strings.HasPrefix(last, want)
	})
}

// call speaks to the portal as its page does.
func (h *house) call(method, path string, in any) (int, map[string]any) {
	h.t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := http.NewRequest(method, "https://"+h.portal+path, strings.NewReader(string(b)))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err := h.client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	var out map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&out)
	return resp.StatusCode, out
}

// screen opens the desktop's screen and reads its greeting.
func (h *house) screen(id string) {
	h.t.Helper()
	status, out := h.call("POST", "/api/desktops/"+id+"/connect", struct{}{})
	if status != http.StatusOK {
		h.t.Fatalf("connect: %d %v", status, out)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss://"+h.portal+"/api/screen", &websocket.DialOptions{HTTPClient: h.client, Subprotocols: []string{display.Protocol},
		HTTPHeader: http.Header{"Origin": {"https://" + h.portal}}})
	if err != nil {
		h.t.Fatal(err)
	}
	defer ws.CloseNow()
	if err := ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"ticket":%q}`, out["ticket"])); err != nil {
		h.t.Fatal(err)
	}
	for {
		kind, data, err := ws.Read(ctx)
		if err != nil {
			h.t.Fatal(err)
		}
		if kind == websocket.MessageBinary {
			if !strings.HasPrefix(string(data), "RFB 003.008") {
				h.t.Errorf("the screen begins with %q", data)
			}
			return
		}
	}
}

// directory makes a directory with these people, whose password is Analytical-1, and gives it and its registration code.
func (h *house) directory(people ...string) (id, code string) {
	h.t.Helper()
	vpc := h.aws("ec2", "describe-subnets", "--query", "Subnets[0].VpcId", "--output", "text")
	subnets := strings.Fields(h.aws("ec2", "describe-subnets", "--query", "Subnets[].SubnetId", "--output", "text"))
	dir := h.aws("ds", "create-directory", "--name", "corp.example.com", "--short-name", "CORP", "--password", secret(h.t, "Sup3r-Secret-1"), "--size", "Small",
		"--vpc-settings", "VpcId="+vpc+",SubnetIds="+strings.Join(subnets, ","), "--query", "DirectoryId", "--output", "text")
	h.until("Active", "ds", "describe-directories", "--query", "DirectoryDescriptions[0].Stage")
	h.aws("workspaces", "register-workspace-directory", "--directory-id", dir)
	h.until("REGISTERED", "workspaces", "describe-workspace-directories", "--query", "Directories[0].State")
	code = h.aws("workspaces", "describe-workspace-directories", "--query", "Directories[0].RegistrationCode", "--output", "text")
	for _, name := range people {
		h.aws("ds-data", "create-user", "--directory-id", dir, "--sam-account-name", name, "--given-name", strings.ToUpper(name[:1])+name[1:], "--surname", "Lovelace")
		h.aws("ds", "reset-user-password", "--directory-id", dir, "--user-name", name, "--new-password", secret(h.t, "Analytical-1"))
	}
	return dir, code
}

func TestAPersonsDesktopFromItsDirectoryToItsCertificate(t *testing.T) {
	h := open(t)
	person := h.browser(t)
	dir, code := h.directory("ada")

	login := func(password string) (int, map[string]any) {
		return h.call("POST", "/api/session", map[string]string{"code": code, "userName": "ada", "password": password})
	}
	if status, out := login("analytical-1"); status != http.StatusUnauthorized {
		t.Errorf("a wrong password: %d %v", status, out)
	}
	if status, out := login("Analytical-1"); status != http.StatusOK || out["displayName"] != "Ada Lovelace" {
		t.Fatalf("the right password: %d %v", status, out)
	}
	person.does("a wrong password is refused", "refused", given{"code": code, "user": "ada", "password": "analytical-1"})
	person.does("the password that the directory knows opens the portal", "signsIn", given{"user": "ada", "password": "Analytical-1", "name": "Ada Lovelace"})

	id := h.aws("workspaces", "create-workspaces", "--workspaces",
		"DirectoryId="+dir+",UserName=ada,BundleId=wsb-value0012,WorkspaceProperties={RunningMode=AUTO_STOP,RunningModeAutoStopTimeoutInMinutes=60}",
		"--query", "PendingRequests[0].WorkspaceId", "--output", "text")
	state := []string{"workspaces", "describe-workspaces", "--workspace-ids", id, "--query", "Workspaces[0].State"}
	h.until("AVAILABLE", state...)
	if out := h.aws("workspaces", "describe-workspaces", "--workspace-ids", id, "--query", "Workspaces[0].[IpAddress,ComputerName]", "--output", "text"); !strings.Contains(out, "WSAMZ-") {
		t.Errorf("%s", out)
	}
	h.screen(id)
	person.does("a new desktop appears on the open page", "isGiven", nil)
	person.does("the desktop's screen is in the browser", "opens", nil)
	person.does("the mouse opens a terminal and moves it", "opensTerminal", nil)
	person.does("keys arrive, and the shell computes", "types", nil)
	person.does("another browser takes the screen over, and gives it back", "takesOver", given{"code": code, "user": "ada", "password": "Analytical-1"})

	h.aws("workspaces", "stop-workspaces", "--stop-workspace-requests", "WorkspaceId="+id)
	person.does("the open window says that the desktop is stopped", "seesItStop", nil)
	h.until("STOPPED", state...)
	person.does("the same window starts it, and everything is where it was", "startsIt", nil)
	h.until("AVAILABLE", state...)
	person.does("not a key of a long text is lost", "pastes", nil)
	person.does("what is copied here is there, and what is copied there is here", "copies", nil)
	person.does("the desktop has the keyboard that the person has", "keyboards", nil)
	person.does("the desktop follows the window's size", "resizes", nil)
	person.does("signing out leaves nothing in the page", "signsOut", nil)
	h.screen(id)

	h.aws("workspaces", "terminate-workspaces", "--terminate-workspace-requests", id)
	h.eventually("terminated", func() bool {
		out, _ := h.try("workspaces", "describe-workspaces", "--query", "length(Workspaces)", "--output", "text")
		return out == "0"
	})
	var certificates []struct {
		CertificateID string `json:"certificateId"`
		WorkspaceID   string `json:"workspaceId"`
		Simulated     bool   `json:"simulated"`
		BytesZeroed   int64  `json:"bytesZeroed"`
		BytesVerified int64  `json:"bytesVerified"`
	}
	list := h.carrel("scrub", "list", "--json")
	if err := json.Unmarshal([]byte(list), &certificates); err != nil || len(certificates) != 1 {
		t.Fatalf("%v: %s", err, list)
	}
	if c := certificates[0]; c.WorkspaceID != id || c.Simulated || c.BytesZeroed != 512<<20 || c.BytesVerified != c.BytesZeroed {
		t.Errorf("%+v", c)
	}
	h.carrel("scrub", "verify", certificates[0].CertificateID)
	h.carrel("audit", "verify")
	if left, err := filepath.Glob(h.state + "-host/machines/ws-*"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if strings.Contains(h.logged(), "nalytical-1") || strings.Contains(h.logged(), "Sup3r-Secret-1") {
		t.Error("a password is in the log")
	}
}
