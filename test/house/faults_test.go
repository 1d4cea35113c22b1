package house

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"carrel/internal/display"
)

func trusting(t testing.TB, path string) *http.Transport {
	t.Helper()
	pem, err := os.ReadFile(path)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
}

// FLT: every fault that a person or an administrator could meet, in one house, with real parts. What each has to show is in docs/operate,
// "What happens when".
func TestFaults(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this suite needs root: networks, machines and domain controllers of their own users")
	}
	a := openApart(t)
	for _, f := range []struct {
		name string
		show func(*apart)
	}{
		{"the host role is killed at every step of create and terminate", (*apart).hostKilled},
		{"two browsers on one desktop", (*apart).twoBrowsers},
		{"SES-3 a desktop that is terminated takes its window and its tickets with it", (*apart).terminatedUnderEyes},
		{"the browser is gone in the middle of a session", (*apart).browserGone},
		{"QEMU is killed under a person's eyes", (*apart).machineKilled},
		{"QEMU hangs", (*apart).machineHangs},
		{"QEMU refuses to start", (*apart).machineRefuses},
		{"the host's disk is full", (*apart).diskFull},
		{"the image is damaged while desktops run", (*apart).imageDamaged},
		{"Samba is killed", (*apart).sambaKilled},
		{"Carrel is stopped while somebody works", (*apart).stoppedInOrder},
	} {
		ok := t.Run(f.name, func(t *testing.T) {
			begun := time.Now()
			a.in(t)
			f.show(a)
			t.Logf("in %s", time.Since(begun).Round(100*time.Millisecond))
		})
		a.in(t)
		if !ok {
			return // What comes next would stumble over what this has left.
		}
	}
}

// one is what one desktop is made of.
func one(rules int) inventory {
	return inventory{Machines: 1, Taps: 1, Rules: rules, Memory: 1, Volumes: 2, Records: 1}
}

// same wants the inventory to become what it should be, with nothing half made: what is tried again and again may be at it just now.
func (a *apart) same(when string, want inventory) {
	a.t.Helper()
	var got inventory
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got = a.inventory(); len(got.Half) == 0 && fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
	}
	a.t.Errorf("%s there is %+v, want %+v", when, got, want)
}

// ended waits until the WorkSpace is gone and wants one certificate of it.
func (a *apart) ended(id string) {
	a.t.Helper()
	a.await(id, "gone", func(d desktop) bool { return d.State == "" })
	if c := a.certificates(id); len(c) != 1 {
		a.t.Errorf("%s has the certificates %v, want one", id, c)
	}
}

func (a *apart) terminate(id string) {
	a.t.Helper()
	a.power("Terminate", id)
	a.ended(id)
}

// hostKilled takes a desktop through its life once, to learn what the host role is asked for, and then three times more, in which the host role is
// killed at each of these calls: before it, over it, and after it.
func (a *apart) hostKilled() {
	nothing := a.inventory()
	a.relay.steps()
	id := a.create("ada")
	a.awaitState(id, "AVAILABLE")
	create := points(a.relay.steps())
	whole := a.inventory()
	if fmt.Sprint(whole) != fmt.Sprint(one(whole.Rules)) || whole.Rules <= nothing.Rules {
		a.t.Fatalf("one desktop is %+v, none is %+v", whole, nothing)
	}
	a.terminate(id)
	end := points(a.relay.steps())
	a.t.Logf("a create asks for %v, an end for %v", create, end)
	if len(create) < 6 || len(end) < 8 {
		a.t.Fatal("that is not all of a desktop's life")
	}
	for _, p := range []phase{before, amid, after} {
		begun := time.Now()
		wait := a.strike(create, p)
		id := a.create("ada")
		wait()
		a.awaitState(id, "AVAILABLE")
		a.same(fmt.Sprintf("after kills %s each call of a create", p), whole)
		wait = a.strike(end, p)
		a.power("Terminate", id)
		wait()
		a.ended(id)
		a.same(fmt.Sprintf("after kills %s each call of an end", p), nothing)
		a.t.Logf("%d kills %s a call, in %s", len(create)+len(end), p, time.Since(begun).Round(100*time.Millisecond))
	}
}

// point is the nth call of a name.
type point struct {
	call string
	nth  int
}

func points(calls []string) (out []point) {
	count := map[string]int{}
	for _, c := range calls {
		count[c]++
		out = append(out, point{c, count[c]})
	}
	return out
}

// strike aims at the first point, and gives what waits until all have struck, one after the other: after each kill the plan goes on or begins anew,
// and comes to the next point by itself.
func (a *apart) strike(all []point, p phase) (wait func()) {
	s := a.relay.aim(all[0].call, all[0].nth, p)
	return func() {
		a.t.Helper()
		for _, next := range all[1:] {
			a.struck(s)
			s = a.relay.aim(next.call, next.nth, p)
		}
		a.struck(s)
	}
}

func (a *apart) struck(s *shot) {
	a.t.Helper()
	select {
	case <-s.fired:
	case <-time.After(patience / 4):
		a.t.Fatalf("the host role was not killed %s %s %d", s.phase, s.call, s.nth)
	}
}

// adas gives ada's desktop, made when there is none, and ada signed in.
func (a *apart) adas() (string, *person) {
	a.t.Helper()
	p := a.loggedIn("ada")
	all, _ := a.ask("DescribeWorkspaces", map[string]any{"DirectoryId": a.directory, "UserName": "ada"})["Workspaces"].([]any)
	id := ""
	if len(all) > 0 {
		id = all[0].(map[string]any)["WorkspaceId"].(string)
	} else {
		id = a.create("ada")
	}
	a.awaitState(id, "AVAILABLE")
	return id, p
}

func (a *apart) twoBrowsers() {
	id, ada := a.adas()
	first := ada.open(id)
	first.shows()
	second := a.loggedIn("ada").open(id)
	if why := first.ends(); why != display.ReasonTakenOver {
		a.t.Errorf("the first window is told %q", why)
	}
	second.shows()
	third := ada.open(id)
	if why := second.ends(); why != display.ReasonTakenOver {
		a.t.Errorf("the second window is told %q", why)
	}
	third.shows()
	if connection := a.connection(id); connection != "CONNECTED" {
		a.t.Errorf("with one of three left it is %s", connection)
	}
}

func (a *apart) connection(id string) string {
	a.t.Helper()
	all, _ := a.ask("DescribeWorkspacesConnectionStatus", map[string]any{"WorkspaceIds": []string{id}})["WorkspacesConnectionStatus"].([]any)
	if len(all) != 1 {
		return "unknown"
	}
	state, _ := all[0].(map[string]any)["ConnectionState"].(string)
	return state
}

func (a *apart) terminatedUnderEyes() {
	id, ada := a.adas()
	w := ada.open(id)
	w.shows()
	status, out := ada.call("POST", "/api/desktops/"+id+"/connect", struct{}{})
	if status != http.StatusOK {
		a.t.Fatalf("%d %v", status, out)
	}
	a.power("Terminate", id)
	if why := w.ends(); why != display.ReasonStopping {
		a.t.Errorf("the window is told %q", why)
	}
	if why := ada.present(fmt.Sprint(out["ticket"])).ends(); why != display.ReasonRefused {
		a.t.Errorf("a ticket from before: %q", why)
	}
	a.ended(id)
}

func (a *apart) browserGone() {
	id, ada := a.adas()
	w := ada.open(id)
	w.shows()
	if connection := a.connection(id); connection != "CONNECTED" {
		a.t.Errorf("somebody is connected: %s", connection)
	}
	machine := a.machine(id)
	// No farewell: the line is cut.
	must(a.t, w.ws.CloseNow())
	a.eventually("nobody is connected any more", func() bool { return a.connection(id) == "DISCONNECTED" })
	again := ada.open(id)
	again.shows()
	if d := a.describe(id); d.State != "AVAILABLE" || a.machine(id) != machine {
		a.t.Errorf("%+v, machine %d was %d", d, a.machine(id), machine)
	}
}

// restarted waits until the desktop has another machine and shows its screen, without anybody's having asked for anything.
func (a *apart) restarted(id string, ada *person, old int) {
	a.t.Helper()
	a.eventually("another machine", func() bool {
		all := a.machines(id)
		return len(all) == 1 && all[0] != old && a.describe(id).State == "AVAILABLE"
	})
	ada.open(id).shows()
	a.same("afterwards", one(a.inventory().Rules))
}

func (a *apart) machineKilled() {
	id, ada := a.adas()
	w := ada.open(id)
	w.shows()
	pid := a.machine(id)
	must(a.t, syscall.Kill(pid, syscall.SIGKILL))
	if why := w.ends(); why != display.ReasonDesktopEnded {
		a.t.Errorf("the window is told %q", why)
	}
	a.restarted(id, ada, pid)
}

func (a *apart) machineHangs() {
	id, ada := a.adas()
	pid := a.machine(id)
	must(a.t, syscall.Kill(pid, syscall.SIGSTOP))
	if why := ada.open(id).ends(); why != display.ReasonUnreachable {
		a.t.Errorf("the window is told %q", why)
	}
	// Silence has to last before it is taken for the machine's end, which takes the memory with it. Meanwhile she tries again, as the page does.
	a.eventually("the machine counts as ended", func() bool {
		// A screen that opens is another machine's, which was there before she has tried again.
		w := ada.tryOpen(id)
		return w == nil || w.err == nil || w.ends() == display.ReasonNotRunning
	})
	a.restarted(id, ada, pid)
}

// machineRefuses gives QEMU a disk that is none; the WorkSpace waits until it is one again.
func (a *apart) machineRefuses() {
	id, ada := a.adas()
	a.power("Stop", id)
	a.awaitState(id, "STOPPED")
	disk := a.host + "-host/volumes/" + id + "/root/disk.qcow2"
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	must(a.t, err)
	defer f.Close()
	head := make([]byte, 512)
	_, err = f.ReadAt(head, 0)
	must(a.t, err)
	_, err = f.WriteAt(make([]byte, len(head)), 0)
	must(a.t, err)
	a.power("Start", id)
	seen := len(a.logged())
	a.eventually("QEMU's own words in the log", func() bool {
		log := a.logged()[seen:]
		return strings.Contains(log, "step failed") && strings.Contains(log, "qcow2 format")
	})
	if d := a.describe(id); d.State != "STARTING" {
		a.t.Errorf("%+v", d)
	}
	a.eventually("nothing of the failed start is left", func() bool {
		i := a.inventory()
		return i.Machines == 0 && i.Memory == 0 && i.Records == 1 && i.Volumes == 2
	})
	_, err = f.WriteAt(head, 0)
	must(a.t, err)
	a.awaitState(id, "AVAILABLE")
	ada.open(id).shows()
}

// fill takes all the space of the host role's file system and gives what gives it back.
func (a *apart) fill() (free func()) {
	a.t.Helper()
	path := a.host + "-host/ballast"
	f, err := os.Create(path)
	must(a.t, err)
	defer f.Close()
	block := make([]byte, 1<<20)
	for len(block) > 0 {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	return func() { must(a.t, os.Remove(path)) }
}

func (a *apart) diskFull() {
	id, ada := a.adas()
	machine := a.machine(id)
	before := a.inventory()
	free := a.fill()
	// A create: nothing is begun that is not taken back, and others go on.
	other := a.create("grace")
	if d := a.awaitCode(other, "InsufficientDiskSpace"); d.State != "PENDING" || !strings.Contains(d.ErrorMessage, "disk space") || strings.Contains(d.ErrorMessage, "/") {
		a.t.Errorf("a create: %+v", d)
	}
	a.same("while the disk is full", before)
	ada.open(id).shows()
	// A stop: the memory has nowhere to go, so the guest keeps it.
	a.power("Stop", id)
	if d := a.awaitCode(id, "InsufficientDiskSpace"); d.State != "STOPPING" {
		a.t.Errorf("a stop: %+v", d)
	}
	if now := a.machine(id); now != machine {
		a.t.Errorf("the machine %d was given up for %d", machine, now)
	}
	a.same("while a stop waits", before)
	free()
	a.awaitState(other, "AVAILABLE")
	a.awaitState(id, "STOPPED")
	for _, w := range []string{id, other} {
		if d := a.describe(w); d.ErrorCode != "" || d.ErrorMessage != "" {
			a.t.Errorf("with space again: %+v", d)
		}
	}
	// A start, and an end, which has to write down what it has destroyed.
	free = a.fill()
	a.power("Start", id)
	if d := a.awaitCode(id, "InsufficientDiskSpace"); d.State != "STARTING" {
		a.t.Errorf("a start: %+v", d)
	}
	a.power("Terminate", other)
	a.await(other, "ending", func(d desktop) bool { return d.State == "" || d.ErrorCode == "TerminationDelayed" })
	free()
	a.ended(other)
	a.awaitState(id, "AVAILABLE")
	ada.open(id).shows()
	a.same("afterwards", before)
}

func (a *apart) imageDamaged() {
	id, ada := a.adas()
	disk := filepath.Join(a.host, "images", "wsi-debian012", "disk.qcow2")
	whole, err := os.ReadFile(disk)
	must(a.t, err)
	damaged := slices.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	// In place: the machines that run have this very file open.
	must(a.t, os.WriteFile(disk, damaged, 0o644))
	other := a.create("grace")
	d := a.awaitCode(other, "ImageUnusable")
	if d.State != "PENDING" || !strings.Contains(d.ErrorMessage, "wsi-debian012") || !strings.Contains(d.ErrorMessage, "disk.qcow2") {
		a.t.Errorf("a create: %+v", d)
	}
	ada.open(id).shows()
	if d := a.describe(id); d.State != "AVAILABLE" || d.ErrorCode != "" {
		a.t.Errorf("one that runs: %+v", d)
	}
	a.power("Stop", id)
	a.awaitState(id, "STOPPED")
	a.power("Start", id)
	if d := a.awaitCode(id, "ImageUnusable"); d.State != "STARTING" || !strings.Contains(d.ErrorMessage, "wsi-debian012") {
		a.t.Errorf("a start: %+v", d)
	}
	must(a.t, os.WriteFile(disk, whole, 0o644))
	for _, w := range []string{id, other} {
		a.awaitState(w, "AVAILABLE")
		if d := a.describe(w); d.ErrorCode != "" {
			a.t.Errorf("with the image mended: %+v", d)
		}
	}
	ada.open(id).shows()
	a.terminate(other)
}

// samba is the domain controller's process.
func (a *apart) samba() int {
	a.t.Helper()
	var process struct{ PID int }
	b, err := os.ReadFile(filepath.Join(a.host+"-host", "dc", a.directory, "process.json"))
	must(a.t, err)
	must(a.t, json.Unmarshal(b, &process))
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", process.PID)); err != nil || !strings.HasPrefix(string(name), "samba") {
		a.t.Fatalf("process %d is %q, %v", process.PID, name, err)
	}
	return process.PID
}

func (a *apart) sambaKilled() {
	id, ada := a.adas()
	old := a.samba()
	must(a.t, syscall.Kill(old, syscall.SIGKILL))
	grace := a.person()
	status, out := grace.login("grace")
	if problem, _ := out["error"].(map[string]any); status != http.StatusServiceUnavailable || problem["code"] != "directory-unavailable" || !strings.Contains(fmt.Sprint(problem["message"]), "Try again") {
		a.t.Errorf("a login meanwhile: %d %v", status, out)
	}
	// Who is signed in goes on.
	ada.open(id).shows()
	a.eventually("logins again", func() bool {
		status, out := grace.login("grace")
		if status != http.StatusOK && status != http.StatusServiceUnavailable {
			a.t.Fatalf("a login is refused: %d %v", status, out)
		}
		return status == http.StatusOK
	})
	if now := a.samba(); now == old {
		a.t.Errorf("process %d was killed", now)
	}
}

// stoppedInOrder is the last: there is no control plane after it.
func (a *apart) stoppedInOrder() {
	id, ada := a.adas()
	pid := a.machine(id)
	w := ada.open(id)
	w.shows()
	must(a.t, a.serve.Process.Signal(syscall.SIGTERM))
	if why := w.ends(); why != display.ReasonShuttingDown {
		a.t.Errorf("the window is told %q", why)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- a.serve.Wait() }()
	select {
	case err := <-ended:
		must(a.t, err)
	case <-ctx.Done():
		a.t.Fatal("it does not stop")
	}
	if !strings.Contains(a.logged(), "carrel: ready") || a.machine(id) != pid {
		a.t.Error("the desktop did not outlive it")
	}
	// And the next one finds it, with nobody connected since then.
	a.startControl()
	if connection := a.connection(id); connection != "DISCONNECTED" {
		a.t.Errorf("%s", connection)
	}
	a.loggedIn("ada").open(id).shows()
	a.terminate(id)
}
