package rootless

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// noPrivilege is what the kernel says of a process that nothing can be done with.
var noPrivilege = map[string]string{"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": "0000000000000000",
	"CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2", "Groups": ""}

// jailed checks that a helper process has an id of its own to the host, not the person's, and no privilege.
func (h *house) jailed(what string, q process) {
	h.t.Helper()
	ids := strings.Fields(q.status["Uid"] + " " + q.status["Gid"])
	for _, id := range ids {
		if id != ids[0] || !h.his(number(h.t, id)) {
			h.t.Errorf("%s: ids %v are not one of %d to %d", what, ids, h.first, h.first+h.count-1)
		}
	}
	for key, want := range noPrivilege {
		if q.status[key] != want {
			h.t.Errorf("%s: %s is %q, want %q", what, key, q.status[key], want)
		}
	}
}

// namespace names one of a process's namespaces.
func namespace(t *testing.T, pid int, kind string) string {
	t.Helper()
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	must(t, err)
	return name
}

func TestADesktopOfAnOrdinaryUserFromItsDirectoryToItsCertificate(t *testing.T) {
	h := build(t, somebody(t))
	dir, code := h.directory()
	if status, out := h.login(code, "analytical-1"); status != http.StatusUnauthorized {
		t.Errorf("a wrong password: %d %v", status, out)
	}
	if status, out := h.login(code, "Analytical-1"); status != http.StatusOK || out["displayName"] != "Ada Lovelace" {
		t.Fatalf("the right password: %d %v", status, out)
	}
	id := h.aws("workspaces", "create-workspaces", "--workspaces",
		"DirectoryId="+dir+",UserName=ada,BundleId=wsb-value0012,WorkspaceProperties={RunningMode=AUTO_STOP,RunningModeAutoStopTimeoutInMinutes=60}",
		"--query", "PendingRequests[0].WorkspaceId", "--output", "text")
	state := []string{"workspaces", "describe-workspaces", "--workspace-ids", id, "--query", "Workspaces[0].State"}
	h.until("AVAILABLE", state...)
	h.screen(id)

	h.privileges()
	h.aws("workspaces", "stop-workspaces", "--stop-workspace-requests", "WorkspaceId="+id)
	h.until("STOPPED", state...)
	if status, _ := h.call("POST", "/api/desktops/"+id+"/start", struct{}{}); status != http.StatusAccepted {
		t.Errorf("start from the portal: %d", status)
	}
	h.until("AVAILABLE", state...)
	h.screen(id)

	h.survives(id, code)

	h.aws("workspaces", "terminate-workspaces", "--terminate-workspace-requests", id)
	h.eventually("terminated", func() bool {
		out, _ := h.try("workspaces", "describe-workspaces", "--query", "length(Workspaces)", "--output", "text")
		return out == "0"
	})
	h.certified(id)
	if left, err := filepath.Glob(h.state + "-host/machines/ws-*"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	h.dismantled()
	if strings.Contains(h.logged(), "Analytical-1") || strings.Contains(h.logged(), "Sup3r-Secret-1") {
		t.Error("a password is in the log")
	}
}

// directory makes one with the user ada, and gives its registration code too.
func (h *house) directory() (dir, code string) {
	h.t.Helper()
	vpc := h.aws("ec2", "describe-subnets", "--query", "Subnets[0].VpcId", "--output", "text")
	subnets := strings.Fields(h.aws("ec2", "describe-subnets", "--query", "Subnets[].SubnetId", "--output", "text"))
	dir = h.aws("ds", "create-directory", "--name", "corp.example.com", "--short-name", "CORP", "--password", "Sup3r-Secret-1", "--size", "Small",
		"--vpc-settings", "VpcId="+vpc+",SubnetIds="+strings.Join(subnets, ","), "--query", "DirectoryId", "--output", "text")
	h.until("Active", "ds", "describe-directories", "--query", "DirectoryDescriptions[0].Stage")
	h.aws("workspaces", "register-workspace-directory", "--directory-id", dir)
	h.until("REGISTERED", "workspaces", "describe-workspace-directories", "--query", "Directories[0].State")
	code = h.aws("workspaces", "describe-workspace-directories", "--query", "Directories[0].RegistrationCode", "--output", "text")
	h.aws("ds-data", "create-user", "--directory-id", dir, "--sam-account-name", "ada", "--given-name", "Ada", "--surname", "Lovelace")
	h.aws("ds", "reset-user-password", "--directory-id", dir, "--user-name", "ada", "--new-password", "Analytical-1")
	return dir, code
}

// privileges looks at what runs as the host sees it: helper processes have ids of their own and no privilege, and the doors have none.
func (h *house) privileges() {
	h.t.Helper()
	machine, controller := h.the("qemu-system-x86_64"), h.the("samba: root process")
	h.jailed("QEMU", machine)
	h.jailed("Samba", controller)
	if machine.uid == controller.uid {
		h.t.Errorf("QEMU and Samba are both user %d", machine.uid)
	}
	keeper := h.the("carrel-memory-keeper")
	if !h.his(keeper.uid) || keeper.uid == machine.uid || keeper.uid == controller.uid {
		h.t.Errorf("the memory keeper is user %d", keeper.uid)
	}
	doors, host := h.the("carrel", "serve", "--control"), h.the("carrel", "host")
	if doors.uid != h.uid || doors.status["CapEff"] != "0000000000000000" || doors.status["CapPrm"] != "0000000000000000" {
		h.t.Errorf("the doors: user %d, capabilities %s", doors.uid, doors.status["CapPrm"])
	}
	// All capabilities that it has are in its own namespace.
	if host.uid != h.uid || namespace(h.t, host.pid, "user") == namespace(h.t, os.Getpid(), "user") {
		h.t.Errorf("the host role is user %d in %s", host.uid, namespace(h.t, host.pid, "user"))
	}
	if namespace(h.t, doors.pid, "user") != namespace(h.t, os.Getpid(), "user") || namespace(h.t, doors.pid, "net") == namespace(h.t, host.pid, "net") {
		h.t.Error("the doors are in the desktops' namespaces")
	}
}

// login signs ada in at the portal.
func (h *house) login(code, password string) (int, map[string]any) {
	h.t.Helper()
	return h.call("POST", "/api/session", map[string]string{"code": code, "userName": "ada", "password": password})
}

// survives ends the host role by force, and then all of carrel serve in order: the desktop is found again each time, and its network, by which the
// directory is asked.
func (h *house) survives(id, code string) {
	h.t.Helper()
	machine, controller, host := h.the("qemu-system-x86_64"), h.the("samba: root process"), h.the("carrel", "host")
	same := func(what string) {
		h.t.Helper()
		if q := h.the("qemu-system-x86_64"); q.pid != machine.pid {
			h.t.Fatalf("after the end of %s the machine is process %d, was %d", what, q.pid, machine.pid)
		}
		h.screen(id)
	}
	ready := strings.Count(h.logged(), "host role ready")
	must(h.t, syscall.Kill(host.pid, syscall.SIGKILL))
	h.eventually("another host role", func() bool { return strings.Count(h.logged(), "host role ready") > ready })
	if q := h.the("samba: root process"); q.pid != controller.pid {
		h.t.Errorf("after the end of the host role the domain controller is process %d, was %d", q.pid, controller.pid)
	}
	same("the host role")

	// Sessions end with it, and so does the controller; the desktop does not.
	h.stop()
	h.start()
	h.eventually("a login", func() bool { status, _ := h.login(code, "Analytical-1"); return status == http.StatusOK })
	same("carrel serve")
}

// certified checks the evidence of a desktop's end.
func (h *house) certified(id string) {
	h.t.Helper()
	var certificates []struct {
		CertificateID string `json:"certificateId"`
		WorkspaceID   string `json:"workspaceId"`
		Simulated     bool   `json:"simulated"`
		BytesZeroed   int64  `json:"bytesZeroed"`
		BytesVerified int64  `json:"bytesVerified"`
	}
	list := h.carrel("scrub", "list", "--json")
	if err := json.Unmarshal([]byte(list), &certificates); err != nil || len(certificates) != 1 {
		h.t.Fatalf("%v: %s", err, list)
	}
	if c := certificates[0]; c.WorkspaceID != id || c.Simulated || c.BytesZeroed != 512<<20 || c.BytesVerified != c.BytesZeroed {
		h.t.Errorf("%+v", c)
	}
	h.t.Log(list)
	h.carrel("scrub", "verify", certificates[0].CertificateID)
	h.carrel("audit", "verify")
}

func TestWithoutIDsOfHisOwnAUserIsToldWhatToDo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("is about a user without ids, whom only root can be for a moment")
		return
	}
	dir, err := os.MkdirTemp("/tmp", "carrel-rootless-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	const stranger = 61997
	state := filepath.Join(dir, "s")
	b, err := os.ReadFile(binary)
	must(t, err)
	// A pipe in it would be a file of root's.
	must(t, os.Chmod(dir, 0o711))
	must(t, os.WriteFile(filepath.Join(dir, "carrel"), b, 0o755))
	must(t, os.Mkdir(state, 0o700))
	must(t, os.Chown(state, stranger, stranger))
	must(t, os.Mkdir(state+"-host", 0o711))
	must(t, os.Chown(state+"-host", stranger, stranger))
	run := func(path string, args ...string) (string, error) {
		c := exec.Command(filepath.Join(dir, "carrel"), append(args, "--state", state)...)
		c.Env, c.Dir = []string{"HOME=/", "PATH=" + path}, "/"
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
		out, err := c.CombinedOutput()
		return string(out), err
	}
	for _, c := range []struct{ name, path, want string }{
		{"he has no further ids", "/usr/bin:/bin", "usermod --add-subuids"},
		{"what maps them is not installed", nsenterOnly(t, dir), "install the package uidmap"},
		{"what joins namespaces is not installed", "/nonexistent", "install util-linux"},
	} {
		t.Run("when "+c.name+" serve says so", func(t *testing.T) {
			out, err := run(c.path, "serve")
			if err == nil || !strings.Contains(out, c.want) || !strings.Contains(out, "--simulate") {
				t.Errorf("%v: %s", err, out)
			}
		})
		t.Run("when "+c.name+" doctor says so", func(t *testing.T) {
			out, err := run(c.path, "doctor", "--json")
			must(t, err)
			if l := line(t, out); l.Status != "warning" || !strings.Contains(l.Detail, c.want) || l.Remedy == "" {
				t.Errorf("%+v", l)
			}
		})
	}
}

// finding is a line of carrel doctor.
type finding struct{ Name, Status, Detail, Remedy string }

// line gives the one about desktops without root.
func line(t *testing.T, out string) finding {
	t.Helper()
	var report struct{ Checks []finding }
	must(t, json.Unmarshal([]byte(out), &report))
	for _, l := range report.Checks {
		if l.Name == "desktops without root" {
			return l
		}
	}
	t.Fatalf("no line in %s", out)
	return finding{}
}

// nsenterOnly gives a PATH in which there is nsenter and nothing else.
func nsenterOnly(t *testing.T, dir string) string {
	t.Helper()
	path, err := exec.LookPath("nsenter")
	must(t, err)
	bin := filepath.Join(dir, "bin")
	must(t, os.Mkdir(bin, 0o755))
	must(t, os.Symlink(path, filepath.Join(bin, "nsenter")))
	return bin
}
