// Package rootless tests all of Carrel as an ordinary user: real desktops and a real directory in a user namespace, and what the host sees of them.
//
// Started by root it makes a user for the time of the test; started by anybody else it is that user, who needs ids in /etc/subuid and /etc/subgid.
package rootless

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"carrel/internal/display"
)

const (
	root   = "../.."
	binary = root + "/bin/carrel"
	// Emulated machines on a busy computer are slow; a quiet one needs a fifth of this.
	patience = 3 * time.Minute
)

// person is the ordinary user.
type person struct {
	name     string
	uid, gid int
	// first and count are the further ids that are his.
	first, count int
	home         string
	// made: he exists for this test only.
	made bool
	// network is the network namespace that his programs are in; nil: the machine's.
	network *os.File
	// tun is a network device file that he may open, where the machine's own is root's; a binary that he can execute.
	tun, binary string
}

// somebody gives the user, with a home directory that is closed to everybody else.
func somebody(t *testing.T) *person {
	t.Helper()
	need(t, "newuidmap", "newgidmap", "nsenter")
	dir, err := os.MkdirTemp("/tmp", "carrel-rootless-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	p := &person{binary: filepath.Join(dir, "carrel"), home: filepath.Join(dir, "home")}
	t.Cleanup(func() { p.leave(t, dir) })
	if os.Getuid() == 0 {
		p.name, p.made = "carrel-test-"+strconv.Itoa(os.Getpid()), true
		do(t, "useradd", "--no-log-init", "--home-dir", p.home, "--create-home", "--shell", "/bin/false", p.name)
	} else {
		must(t, os.Mkdir(p.home, 0o700))
	}
	u, err := user.Current()
	if p.made {
		u, err = user.Lookup(p.name)
	}
	must(t, err)
	p.name, p.uid, p.gid = u.Username, number(t, u.Uid), number(t, u.Gid)
	must(t, os.Chmod(p.home, 0o700))
	p.first, p.count = p.subordinate(t)
	b, err := os.ReadFile(binary)
	must(t, err)
	must(t, os.WriteFile(p.binary, b, 0o755))
	if unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK) != nil || p.made && !open(t, "/dev/net/tun") {
		// Distributions let everybody open it; where this one does not, the test has a device file of its own.
		if os.Getuid() != 0 {
			t.Fatal("/dev/net/tun cannot be opened: chmod 666 /dev/net/tun")
		}
		p.tun = filepath.Join(dir, "tun")
		must(t, errors.Join(unix.Mknod(p.tun, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))), os.Chmod(p.tun, 0o666)))
	}
	return p
}

// open tells whether a file is for everybody.
func open(t *testing.T, path string) bool {
	info, err := os.Stat(path)
	must(t, err)
	return info.Mode().Perm()&0o006 == 0o006
}

// subordinate gives the first of his ranges in /etc/subuid, which useradd makes.
func (p *person) subordinate(t *testing.T) (first, count int) {
	t.Helper()
	b, err := os.ReadFile("/etc/subuid")
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) == 3 && (f[0] == p.name || f[0] == strconv.Itoa(p.uid)) {
			return number(t, f[1]), number(t, f[2])
		}
	}
	t.Fatalf("%s has no ids in /etc/subuid: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", p.name, p.name)
	return 0, 0
}

// his tells whether an id is one that the person was given.
func (p *person) his(uid int) bool { return uid >= p.first && uid < p.first+p.count }

// command runs a program as him.
func (p *person) command(program string, args ...string) *exec.Cmd {
	if p.made {
		as := []string{"setpriv", "--reuid", strconv.Itoa(p.uid), "--regid", strconv.Itoa(p.gid), "--clear-groups", "--", program}
		if p.tun != "" {
			as = append([]string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /dev/net/tun && exec "$@"`, p.tun}, as...)
		}
		program, args = as[0], append(as[1:], args...)
	}
	if p.network != nil {
		program, args = "nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), p.network.Fd()), "--", program}, args...)
	}
	c := exec.Command(program, args...)
	c.Dir = "/"
	c.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + p.home, "USER=" + p.name}
	return c
}

// leave ends what the test has left running; of a user who was made for it nothing is left at all.
func (p *person) leave(t *testing.T, dir string) {
	for _, q := range processes(t) {
		mine := p.uid > 0 && (q.uid == p.uid || p.his(q.uid))
		if mine && (p.made || slices.Equal(q.args, []string{p.binary, "hold"}) || uses(q.pid, dir)) {
			_ = syscall.Kill(q.pid, syscall.SIGKILL)
		}
	}
	if p.made {
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if out, err := exec.Command("userdel", p.name).CombinedOutput(); err == nil || time.Now().After(end) {
				if err != nil {
					t.Errorf("userdel: %v: %s", err, out)
				}
				break
			}
		}
	}
	if os.RemoveAll(dir) != nil {
		// What is his helper processes' he can remove as root of a user namespace only.
		do(t, "unshare", "--map-root-user", "--map-auto", "rm", "-rf", dir)
	}
}

// uses tells whether a process has a file below dir open: the person may have other things that run under his ids.
func uses(pid int, dir string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return slices.ContainsFunc(links, func(l string) bool {
		to, err := os.Readlink(l)
		return err == nil && strings.HasPrefix(to, dir)
	})
}

// process is one of the machine's.
type process struct {
	pid, uid int
	args     []string
	status   map[string]string
}

func processes(t *testing.T) []process {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	var all []process
	for _, d := range dirs {
		status, err1 := os.ReadFile(d + "/status")
		line, err2 := os.ReadFile(d + "/cmdline")
		if errors.Join(err1, err2) != nil {
			continue // It has ended.
		}
		q := process{pid: number(t, filepath.Base(d)), args: strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00"), status: map[string]string{}}
		for l := range strings.Lines(string(status)) {
			k, v, _ := strings.Cut(l, ":")
			q.status[k] = strings.TrimSpace(v)
		}
		uids := strings.Fields(q.status["Uid"])
		if len(uids) == 4 {
			q.uid = number(t, uids[0])
			all = append(all, q)
		}
	}
	return all
}

// the gives the only process of the installation whose first arguments are these; the program goes by its last element.
func (h *house) the(args ...string) process {
	h.t.Helper()
	var found []process
	for _, q := range processes(h.t) {
		// A template's machine is nobody's desktop.
		if slices.ContainsFunc(q.args, func(a string) bool { return strings.HasPrefix(a, "guest=template-") }) {
			continue
		}
		if (q.uid == h.uid || h.his(q.uid)) && len(q.args) >= len(args) && filepath.Base(q.args[0]) == args[0] && slices.Equal(q.args[1:len(args)], args[1:]) && q.status["State"][:1] != "Z" {
			found = append(found, q)
		}
	}
	if len(found) != 1 {
		h.t.Fatalf("%d processes %q: %+v", len(found), args, found)
	}
	return found[0]
}

// house is one installation.
type house struct {
	*person
	t           *testing.T
	state, conf string
	api, portal string
	serve       *exec.Cmd
	env         []string
	client      *http.Client
	log         string
}

func free(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// settle gives the person an installation, not started. What it leaves running ends with him.
func settle(t *testing.T, p *person) *house {
	t.Helper()
	h := &house{person: p, t: t, state: filepath.Join(p.home, "s"), conf: filepath.Join(p.home, "carrel.yaml"), log: p.binary + ".log", api: free(t), portal: free(t)}
	must(t, os.Mkdir(h.state, 0o700))
	must(t, os.WriteFile(h.conf, []byte("host:\n  compute: [\"VALUE=512\"]\n  accelerator: tcg\nmetrics:\n  address: \"off\"\n"), 0o644))
	h.own()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", h.logged())
		}
		h.stop()
	})
	return h
}

// own gives the person what root has made for him, but for hard links into the cache of images, whose files everybody may read.
func (h *house) own() {
	if !h.made {
		return
	}
	must(h.t, filepath.WalkDir(h.state, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && (d.IsDir() || info.Sys().(*syscall.Stat_t).Nlink == 1) {
			err = os.Lchown(path, h.uid, h.gid)
		}
		return err
	}))
}

// build is settle with an image, started.
func build(t *testing.T, p *person) *house {
	t.Helper()
	need(t, "aws", "qemu-system-x86_64", "qemu-img", "/usr/sbin/samba", "mmdebstrap")
	h := settle(t, p)
	// Whoever runs the tests fills the checkout's cache.
	do(t, binary, "image", "build", "--state", h.state, "--variant", "minimal", "--id", "wsi-debian012", "--cache", root+"/.cache/images")
	h.own()
	h.start()
	h.env = append(os.Environ(), "AWS_CONFIG_FILE="+h.state+"/aws/config", "AWS_SHARED_CREDENTIALS_FILE="+h.state+"/aws/credentials", "AWS_PROFILE=carrel", "AWS_CA_BUNDLE="+h.state+"/ca.pem", "AWS_PAGER=")
	pem, err := os.ReadFile(h.state + "/ca.pem")
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	jar, err := cookiejar.New(nil)
	must(t, err)
	h.client = &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: time.Minute}
	return h
}

// start runs carrel serve and waits until it is ready.
func (h *house) start() {
	h.t.Helper()
	out, err := os.OpenFile(h.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(h.t, err)
	defer out.Close()
	before := strings.Count(h.logged(), "carrel: ready")
	h.serve = h.command(h.binary, "serve", "--state", h.state, "--config", h.conf, "--api-addr", h.api, "--portal-addr", h.portal)
	h.serve.Stdout, h.serve.Stderr = out, out
	must(h.t, h.serve.Start())
	h.eventually("ready", func() bool {
		if err := syscall.Kill(h.serve.Process.Pid, 0); err != nil {
			h.t.Fatal(err)
		}
		return strings.Count(h.logged(), "carrel: ready") > before
	})
}

// stop ends carrel serve in order. What it leaves for its next start stays.
func (h *house) stop() {
	if h.serve == nil {
		return
	}
	_ = h.serve.Process.Signal(syscall.SIGTERM)
	if err := h.serve.Wait(); err != nil {
		h.t.Errorf("carrel serve: %v", err)
	}
	h.serve = nil
}

func (h *house) logged() string {
	b, _ := os.ReadFile(h.log)
	return string(b)
}

// carrel runs a subcommand as the person.
func (h *house) carrel(args ...string) string {
	h.t.Helper()
	out, err := h.command(h.binary, append(args, "--state", h.state)...).CombinedOutput()
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
	for end := time.Now().Add(patience); !is(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func (h *house) until(want string, args ...string) {
	h.t.Helper()
	h.eventually(want, func() bool {
		last, _ := h.try(append(args, "--output", "text")...)
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
	must(h.t, err)
	r, err := http.NewRequest(method, "https://"+h.portal+path, strings.NewReader(string(b)))
	must(h.t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err := h.client.Do(r)
	must(h.t, err)
	defer resp.Body.Close()
	b, err = io.ReadAll(resp.Body)
	must(h.t, err)
	var out map[string]any
	_ = json.Unmarshal(b, &out) // Not every answer has a body.
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
	must(h.t, err)
	defer ws.CloseNow()
	must(h.t, ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"ticket":%q}`, out["ticket"])))
	for {
		kind, data, err := ws.Read(ctx)
		must(h.t, err)
		if kind == websocket.MessageBinary {
			if !strings.HasPrefix(string(data), "RFB 003.008") {
				h.t.Errorf("the screen begins with %q", data)
			}
			return
		}
	}
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%s is missing: run test/need", p)
		}
	}
}

func do(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}
