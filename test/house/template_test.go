package house

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/driver/memory"
	"carrel/internal/driver/qmp"
)

// machine is what the host role keeps of a desktop's machine.
type machine struct {
	Run, MachineID, MAC string
	Layer               string
}

func (h *house) machine(id string) machine {
	h.t.Helper()
	var m machine
	for _, path := range []string{"machines/" + id + "/machine.json", "volumes/" + id + "/root/volume.json"} {
		b, err := os.ReadFile(filepath.Join(h.state+"-host", path))
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	return m
}

// started are what the log says that a desktop has started from, in order.
func (h *house) started(id string) (from []string) {
	for _, m := range regexp.MustCompile(`msg="desktop started" desktop=`+id+` run=\S+ from=("[^"]+"|\S+)`).FindAllStringSubmatch(h.logged(), -1) {
		from = append(from, strings.Trim(m[1], `"`))
	}
	return from
}

// create makes a person's desktop and waits until it is AVAILABLE.
func (h *house) create(dir, person string) (id string, took time.Duration) {
	h.t.Helper()
	began := time.Now()
	id = h.aws("workspaces", "create-workspaces", "--workspaces", "DirectoryId="+dir+",UserName="+person+",BundleId=wsb-value0012,WorkspaceProperties={RunningMode=AUTO_STOP,RunningModeAutoStopTimeoutInMinutes=60}",
		"--query", "PendingRequests[0].WorkspaceId", "--output", "text")
	h.until("AVAILABLE", "workspaces", "describe-workspaces", "--workspace-ids", id, "--query", "Workspaces[0].State")
	return id, time.Since(began)
}

// ask runs a shell command in a guest through the connection that the keeper holds, while there is no host role.
func (h *house) ask(k *memory.Keeper, run, script string) string {
	h.t.Helper()
	f, err := k.GetFile(h.t.Context(), run, "agent")
	if err != nil {
		h.t.Fatal(err)
	}
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		h.t.Fatal(err)
	}
	a := qmp.NewAgent(conn, time.Minute)
	defer a.Close()
	out, err := a.Run(h.t.Context(), qmp.Command{Path: "/bin/sh", Args: []string{"-c", script}})
	if err != nil {
		h.t.Fatalf("%s: %v", script, err)
	}
	return strings.TrimSpace(string(out.Stdout))
}

// VMM-7 and the templates of the real host role: the first desktop of a bundle boots, the second is there at once, and they share nothing that names them.
func TestASecondDesktopOfABundleStartsFromATemplate(t *testing.T) {
	h := open(t)
	dir, _ := h.directory("ada", "grace")
	first, cold := h.create(dir, "ada")
	h.eventually("a template is made", func() bool { return strings.Contains(h.logged(), "memory template made") })
	second, warm := h.create(dir, "grace")
	t.Logf("AVAILABLE after %s from its disk, after %s from a template", cold, warm)
	if from := h.started(first); !slices.Equal(from, []string{"disk"}) {
		t.Errorf("the first started from %v", from)
	}
	a, b := h.machine(first), h.machine(second)
	if from := h.started(second); len(from) != 1 || from[0] != "template "+b.Layer || !strings.HasPrefix(b.Layer, "template-") || a.Layer != "" {
		t.Errorf("the second started from %v, on %q; the first is on %q", from, b.Layer, a.Layer)
	}
	if warm >= cold {
		t.Errorf("%s with a template, %s without: of no use", warm, cold)
	}

	// An orderly stop leaves desktops and template as they are.
	h.leave()
	k, err := memory.Connect(t.Context(), filepath.Join(h.state+"-host", "memory"))
	if err != nil {
		t.Fatal(err)
	}
	h.differ(k, a, b)
	held := func(k *memory.Keeper) (ids []string) {
		entries, err := k.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			ids = append(ids, e.ID)
		}
		slices.Sort(ids)
		return ids
	}
	want := []string{a.Run, b.Run, b.Layer}
	slices.Sort(want)
	if now := held(k); !slices.Equal(now, want) {
		t.Errorf("the keeper has %v, want %v", now, want)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	h.begin()
	h.eventually("ready again", h.ready)
	if now := h.machine(second); now != b {
		t.Errorf("after a restart %+v, was %+v", now, b)
	}

	// The one of the template stops, resumes and ends like any other.
	state := []string{"workspaces", "describe-workspaces", "--workspace-ids", second, "--query", "Workspaces[0].State"}
	h.aws("workspaces", "stop-workspaces", "--stop-workspace-requests", "WorkspaceId="+second)
	h.until("STOPPED", state...)
	h.aws("workspaces", "start-workspaces", "--start-workspace-requests", "WorkspaceId="+second)
	h.until("AVAILABLE", state...)
	if from := h.started(second); len(from) != 2 || from[1] != "saved memory" {
		t.Errorf("it has started from %v", from)
	}
	for _, id := range []string{first, second} {
		h.aws("workspaces", "terminate-workspaces", "--terminate-workspace-requests", id)
	}
	h.eventually("terminated", func() bool {
		out, _ := h.try("workspaces", "describe-workspaces", "--query", "length(Workspaces)", "--output", "text")
		return out == "0"
	})
	h.certified(first, second)
	if strings.Contains(h.logged(), "a start from a memory template failed") {
		t.Error("a start from the template failed")
	}
	// Only the template is left.
	h.leave()
	if k, err = memory.Connect(t.Context(), filepath.Join(h.state+"-host", "memory")); err != nil {
		t.Fatal(err)
	}
	if now := held(k); !slices.Equal(now, []string{b.Layer}) {
		t.Errorf("left: %v", now)
	}
	// Set to have none, the host role gives it back.
	conf, err := os.ReadFile(h.conf)
	if err == nil {
		err = os.WriteFile(h.conf, []byte(strings.Replace(string(conf), "host:\n", "host:\n  templates: false\n", 1)), 0o600)
	}
	if err != nil || k.Close() != nil {
		t.Fatal(err)
	}
	h.begin()
	h.eventually("ready without templates", h.ready)
	h.leave()
	if k, err = memory.Connect(t.Context(), filepath.Join(h.state+"-host", "memory")); err != nil {
		t.Fatal(err)
	}
	if now := held(k); len(now) != 0 {
		t.Errorf("left without templates: %v", now)
	}
	if left, err := filepath.Glob(h.state + "-host/machines/templates/*"); err != nil || len(left) != 0 {
		t.Errorf("left without templates: %v, %v", left, err)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}

// differ asks two guests for what names them.
func (h *house) differ(k *memory.Keeper, a, b machine) {
	h.t.Helper()
	if a.MachineID == b.MachineID || a.MAC == b.MAC || a.Run == b.Run {
		h.t.Errorf("%+v and %+v", a, b)
	}
	for what, script := range map[string]string{
		"machine id": "cat /etc/machine-id", "boot id": "cat /proc/sys/kernel/random/boot_id", "host name": "hostname", "MAC": "cat /sys/class/net/eth0/address",
		"address": "ip -4 -o addr show dev eth0 | awk '{print $4}'", "random numbers": "head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n'", "X cookie": "od -An -tx1 /run/carrel/xauth.user | tr -d ' \\n'",
		"user volume": "blkid -s UUID -o value $(findmnt -no SOURCE /home)", "person": "getent passwd 1000", "session": "ps -o user= -C icewm-session", "home": "ls /home | grep -v lost",
	} {
		one, two := h.ask(k, a.Run, script), h.ask(k, b.Run, script)
		if one == two || one == "" || two == "" {
			h.t.Errorf("%s: %q and %q", what, one, two)
		}
	}
	for m, name := range map[machine]string{a: "ada", b: "grace"} {
		if got := h.ask(k, m.Run, "cat /etc/machine-id; cat /sys/class/net/eth0/address; ps -o user= -C icewm-session; ls -d /home/[a-z]* | grep -v lost"); got != m.MachineID+"\n"+m.MAC+"\n"+name+"\n/home/"+name {
			h.t.Errorf("%s is %q", name, got)
		}
		// No key of an SSH server is another's: there is none, or one that was made here.
		if got := h.ask(k, m.Run, "ls /etc/ssh/ssh_host_* 2>/dev/null | wc -l"); got != "0" {
			h.t.Errorf("%s has %s host keys that nobody gave it", name, got)
		}
	}
}

// certified wants a certificate of each that verifies, and of a host that makes no core dumps of desktops.
func (h *house) certified(ids ...string) {
	h.t.Helper()
	var all []struct {
		CertificateID string `json:"certificateId"`
		WorkspaceID   string `json:"workspaceId"`
		BytesZeroed   int64  `json:"bytesZeroed"`
		HostFacts     struct {
			CoreDumpsOff bool `json:"coreDumpsOff"`
		} `json:"hostFacts"`
	}
	list := h.carrel("scrub", "list", "--json")
	if err := json.Unmarshal([]byte(list), &all); err != nil || len(all) != len(ids) {
		h.t.Fatalf("%v: %s", err, list)
	}
	for _, c := range all {
		if !slices.Contains(ids, c.WorkspaceID) || c.BytesZeroed != 512<<20 {
			h.t.Errorf("%+v", c)
		}
		if pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern"); err != nil || c.HostFacts.CoreDumpsOff != !strings.HasPrefix(string(pattern), "@") {
			h.t.Errorf("core dumps off: %t, with pattern %q, %v", c.HostFacts.CoreDumpsOff, pattern, err)
		}
		if out := h.carrel("scrub", "verify", c.CertificateID); !strings.Contains(out, "is that of 536870912 zeros") {
			h.t.Errorf("%s", out)
		}
	}
}
