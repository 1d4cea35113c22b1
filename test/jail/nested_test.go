package jail

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"carrel/internal/driver/jail"
)

// noNamespaces forbids further user namespaces in this one, as an administrator may on a whole host, and then does what is asked.
func noNamespaces(a []string) error {
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		return err
	}
	return modes[a[0]](a[1:])
}

// insideUserNamespace runs a mode as root of a user namespace with these ids.
func insideUserNamespace(t *testing.T, program string, ids []syscall.SysProcIDMap, arguments ...string) string {
	t.Helper()
	c := exec.Command(program, arguments...)
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: ids[0].Size > 1,
		Credential: &syscall.Credential{NoSetGroups: true}}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	return string(out)
}

var (
	allIDs = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	oneID  = []syscall.SysProcIDMap{{ContainerID: 0, HostID: userUID, Size: 1}}
)

// few acts that only walls other than the user namespace keep from succeeding.
var fewActs = []string{"read /etc/shadow", "mount a file system", "become root", "take capabilities", "signal a process outside", "connect to an abstract unix socket", "write to the root", "execute a shell"}

// fewRole does them and prints what came of each.
func fewRole(a []string) error {
	g := targets{Dir: "/tmp", Abstract: "none", Victim: os.Getpid(), Scratch: "/tmp"}
	for _, one := range acts {
		for _, name := range fewActs {
			if one.name != name {
				continue
			}
			r, err := inJail(a[0], one, g)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Printf("%s: %s\n", name, r)
		}
	}
	return nil
}

func init() {
	modes["no-namespaces"] = noNamespaces
	modes["few"] = fewRole
	modes["status"] = statusRole
}

// statusRole prints what the kernel says of a jailed program.
func statusRole(a []string) error {
	p, err := jail.Start(context.Background(), spec(a[0], "nested", "idle"))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	fmt.Print(string(text))
	if kill := p.Kill(); kill != nil {
		return kill
	}
	if _, wait := p.Wait(context.Background()); wait != nil {
		return wait
	}
	return err
}

func checkFew(t *testing.T, out string) {
	t.Helper()
	if n := strings.Count(out, "\n"); n != len(fewActs) {
		t.Errorf("%d of %d acts were tried:\n%s", n, len(fewActs), out)
	}
	if strings.Contains(out, succeeded) {
		t.Error(out)
	}
}

func TestWithoutUserNamespacesRootStillBuildsJails(t *testing.T) {
	program := testBinary(t)
	out := insideUserNamespace(t, program, allIDs, "no-namespaces", "probe")
	if !strings.HasPrefix(out, "<nil>|<nil>|{UserNamespace:false OwnUID:true") {
		t.Fatal(out)
	}
	checkFew(t, insideUserNamespace(t, program, allIDs, "no-namespaces", "few", program))
	status := insideUserNamespace(t, program, allIDs, "no-namespaces", "status", program)
	id := fmt.Sprint(jailedUID)
	for _, line := range []string{"Uid:\t" + strings.Join([]string{id, id, id, id}, "\t") + "\n", "CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "CapAmb:\t0000000000000000\n", "CapInh:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n", "Groups:\t \n"} {
		if !strings.Contains(status, line) {
			t.Errorf("no %q in\n%s", line, status)
		}
	}
}

func TestWithoutUserNamespacesNobodyElseDoesAndIsToldWhy(t *testing.T) {
	out := insideUserNamespace(t, testBinary(t), oneID, "no-namespaces", "probe")
	if !strings.Contains(out, "max_user_namespaces") {
		t.Error(out)
	}
}

func TestAHostRoleInAUserNamespaceOfOneIDBuildsJails(t *testing.T) {
	program := testBinary(t)
	out := insideUserNamespace(t, program, oneID, "probe")
	if !strings.HasPrefix(out, "<nil>|<nil>|{UserNamespace:true OwnUID:false") {
		t.Fatal(out)
	}
	checkFew(t, insideUserNamespace(t, program, oneID, "few", program))
}
