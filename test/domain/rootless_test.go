package domain

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"carrel/internal/directory"
	"carrel/internal/directory/ad"
	"carrel/internal/driver"
	"carrel/internal/ident"
)

// rootless tells the test binary that it is the host role of an ordinary user.
const rootless = "CARREL_TEST_ROOTLESS"

// ordinary is the user id that has no rights at all on the host.
const ordinary = 61999

// Without root the host role is root of a user namespace with one id in it: everything works, and to the host it is all one ordinary user.
func TestADomainWithoutRoot(t *testing.T) {
	if os.Getenv(rootless) != "" {
		t.Skip("this is the other process")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestInAUserNamespace$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), rootless+"=1", "HOME=/")
	cmd.Dir = "/"
	one := func(id int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, UidMappings: one(ordinary), GidMappings: one(ordinary),
		Credential: &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true}}
	out, err := cmd.CombinedOutput()
	if err != nil && (strings.Contains(err.Error(), "operation not permitted") || strings.Contains(err.Error(), "no space left")) {
		t.Skipf("this kernel gives no user namespaces: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestInAUserNamespace") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestInAUserNamespace(t *testing.T) {
	if os.Getenv(rootless) == "" {
		t.Log("runs in TestADomainWithoutRoot")
		return
	}
	w := newWorld(t)
	w.supervise()
	d := spec(corp, vpcA, "corp.example.test", "CORP")
	d.Type = "MicrosoftAD"
	info, err := w.domains.Provision(t.Context(), d)
	must(t, err)
	if info.Stage != driver.DomainActive {
		t.Errorf("%+v", info)
	}
	s := &scene{world: w, corp: d, users: w.domains.Manager(), people: client(t, map[ident.DirectoryID]ad.Settings{corp: w.settings(d)})}
	made := s.user(t, "ada")
	u, err := s.login(t, "ada", password)
	must(t, err)
	if u.SID != made.SID {
		t.Errorf("%+v, made %+v", u, made)
	}
	if _, err := s.login(t, "ada", "wrong"); reason(err) != directory.ReasonWrong {
		t.Error(err)
	}
	// A Managed AD's administrator is called Admin.
	if _, err := s.login(t, "Admin", "Admin-"+password); err != nil {
		t.Error(err)
	}
	want(t, s.users.DeleteUser(t.Context(), corp, "Admin"), directory.ErrProtected)
	status, err := os.ReadFile("/proc/" + strconv.Itoa(s.pid(corp)) + "/status")
	must(t, err)
	for _, line := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), line) {
			t.Errorf("no %q in %s", line, status)
		}
	}
	s.killed(t)
	s.removed(t)
}
