package domain

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"carrel/internal/directory"
	"carrel/internal/directory/ad"
	"carrel/internal/driver"
	"carrel/internal/driver/drivertest"
	"carrel/internal/driver/samba"
	"carrel/internal/ident"
)

func pw(s string) directory.Password { return directory.NewPassword(s) }

func reason(err error) directory.Reason {
	var refused *directory.LoginError
	if errors.As(err, &refused) {
		return refused.Reason
	}
	return ""
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%v, want %v", err, kind)
	}
}

// scene is two directories of the same addresses in two VPCs.
type scene struct {
	*world
	corp, branch driver.DomainSpec
	users        *samba.Manager
	people       *ad.Client
}

func (s *scene) login(t *testing.T, name, password string) (directory.User, error) {
	t.Helper()
	return s.people.Authenticate(t.Context(), corp, name, pw(password))
}

// user makes an ordinary user who can log in.
func (s *scene) user(t *testing.T, name string) directory.User {
	t.Helper()
	u, err := s.users.CreateUser(t.Context(), corp, directory.NewUser{Name: name, GivenName: "Ada", Surname: "Lovelace", Email: name + "@example.com",
		Attributes: map[string]string{"title": "Countess"}})
	must(t, err)
	must(t, s.users.SetPassword(t.Context(), corp, name, pw(password)))
	return u
}

func TestDirectories(t *testing.T) {
	w := newWorld(t)
	w.supervise()
	s := &scene{world: w, corp: spec(corp, vpcA, "corp.example.test", "CORP"), branch: spec(branch, vpcB, "branch.example.test", "BRANCH"), users: w.domains.Manager()}
	begin := time.Now()
	var wait sync.WaitGroup
	for _, d := range []driver.DomainSpec{s.corp, s.branch} {
		wait.Go(func() {
			info, err := w.domains.Provision(t.Context(), d)
			if err != nil || info.Stage != driver.DomainActive || !slices.Equal(info.DNSAddresses, []string{"10.0.1.5", "10.0.2.5"}) {
				t.Errorf("%s: %+v, %v", d.DirectoryID, info, err)
			}
		})
	}
	wait.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("two domains made and answering in %s", time.Since(begin).Round(100*time.Millisecond))
	s.people = client(t, map[ident.DirectoryID]ad.Settings{corp: w.settings(s.corp), branch: w.settings(s.branch)})

	t.Run("a controller has no privilege and no secret in its arguments", s.confined)
	t.Run("a new user can log in once they have a password", s.newUser)
	t.Run("ENU-1 unknown and wrong get the same answer", s.sameAnswer)
	t.Run("DIR-1 an empty password never reaches the wire", s.emptyPassword)
	t.Run("DIR-1 names that mean something to a directory are no users", s.hostileNames)
	t.Run("disabled, locked, must change and expired", s.reasons)
	t.Run("a weak password is refused with the reason", s.weak)
	t.Run("who is disabled, deleted or given another password in the directory loses their screen", s.standing)
	t.Run("administrators and built-in accounts are protected", s.protected)
	t.Run("users are listed in order, in pages", s.list)
	t.Run("a deleted user is gone, and another of that name is somebody else", s.deleted)
	t.Run("two directories with the same addresses are two", s.apart)
	t.Run("both addresses and the names lead to the controller", s.dns)
	t.Run("killed it is started again, and logins meanwhile say unavailable", s.killed)
	t.Run("frozen it is unavailable within the bound, then replaced", s.frozen)
	t.Run("Remove leaves no process, no file and no address", s.removed)
}

func (s *scene) confined(t *testing.T) {
	pid := s.pid(corp)
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	must(t, err)
	for _, line := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !bytes.Contains(status, []byte(line)) {
			t.Errorf("no %q in %s", line, status)
		}
	}
	uids := map[string]bool{}
	for _, id := range []ident.DirectoryID{corp, branch} {
		info, err := os.Stat("/proc/" + strconv.Itoa(s.pid(id)))
		must(t, err)
		uid := info.Sys().(*syscall.Stat_t).Uid
		uids[strconv.Itoa(int(uid))] = true
		if uid < firstUID || uid >= firstUID+10 {
			t.Errorf("%s runs as uid %d", id, uid)
		}
	}
	if len(uids) != 2 {
		t.Errorf("two domains share their uid: %v", uids)
	}
	// The password is in no file but the database, which holds hashes.
	secret := []byte("Admin-" + password)
	must(t, filepath.WalkDir(s.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, secret) {
			t.Errorf("the administrator's password is in %s", path)
		}
		return err
	}))
	info, err := os.Stat(filepath.Join(s.dir, "d", string(corp), "state"))
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("state has mode %o", info.Mode().Perm())
	}
}

func (s *scene) newUser(t *testing.T) {
	made, err := s.users.CreateUser(t.Context(), corp, directory.NewUser{Name: "Ada", GivenName: "Ada", Surname: "Lovelace", Email: "ada@example.com"})
	must(t, err)
	if made.Enabled || made.Name != "Ada" || made.DisplayName != "Ada Lovelace" || !strings.HasPrefix(made.SID, "S-1-5-21-") {
		t.Errorf("made %+v", made)
	}
	for _, p := range []string{password, " "} {
		if _, err := s.login(t, "ada", p); reason(err) == "" {
			t.Errorf("login before there is a password: %v", err)
		}
	}
	_, err = s.users.CreateUser(t.Context(), corp, directory.NewUser{Name: "ADA"})
	want(t, err, directory.ErrExists)
	_, err = s.users.CreateUser(t.Context(), corp, directory.NewUser{Name: "Domain Admins"})
	want(t, err, directory.ErrExists)
	must(t, s.users.SetPassword(t.Context(), corp, "ada", pw(password)))
	u, err := s.login(t, "aDa", password)
	must(t, err)
	found, err := s.domains.Lookup(t.Context(), corp, "ADA")
	if age := time.Since(found.PasswordSet); age < -time.Second || age > time.Minute {
		t.Errorf("the password was set at %s", found.PasswordSet)
	}
	made.Enabled, made.MustChange, made.PasswordSet = true, false, found.PasswordSet
	if u != made || found != made || err != nil {
		t.Errorf("logged in %+v, found %+v, made %+v, %v", u, found, made, err)
	}
	if _, err := s.login(t, "ada", "wrong"); reason(err) != directory.ReasonWrong {
		t.Error(err)
	}
	// Only by the directory's own authority.
	settings := s.settings(s.corp)
	settings.RootCAs = newAuthority(t).CertificatePEM()
	_, err = client(t, map[ident.DirectoryID]ad.Settings{corp: settings}).Authenticate(t.Context(), corp, "ada", pw(password))
	want(t, err, directory.ErrUnavailable)
	for _, n := range []directory.NewUser{{Name: "a*"}, {Name: ""}, {Name: "x", Attributes: map[string]string{"userAccountControl": "512"}},
		{Name: "x", Attributes: map[string]string{"sIDHistory": "S-1-5-32-544"}}, {Name: "x", GivenName: strings.Repeat("x", 2000)}} {
		if _, err := s.users.CreateUser(t.Context(), corp, n); driver.AsPermanent(err) == nil {
			t.Errorf("%+v: %v", n, err)
		}
	}
}

func (s *scene) sameAnswer(t *testing.T) {
	before := s.nets.dials.Load()
	_, unknown := s.login(t, "nobody", password)
	middle := s.nets.dials.Load()
	_, wrong := s.login(t, "ada", "wrong")
	if reason(unknown) != directory.ReasonWrong || unknown.Error() != wrong.Error() {
		t.Errorf("unknown: %v, wrong: %v", unknown, wrong)
	}
	if a, b := middle-before, s.nets.dials.Load()-middle; a != b || a != 1 {
		t.Errorf("%d and %d connections", a, b)
	}
	_, err := s.people.Authenticate(t.Context(), "d-0000000000", "ada", pw(password))
	want(t, err, directory.ErrNoDirectory)
}

func (s *scene) emptyPassword(t *testing.T) {
	before := s.nets.dials.Load()
	for _, name := range []string{"ada", "Administrator", "nobody"} {
		if _, err := s.login(t, name, ""); reason(err) != directory.ReasonWrong {
			t.Error(err)
		}
	}
	if n := s.nets.dials.Load() - before; n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

func (s *scene) hostileNames(t *testing.T) {
	for _, name := range []string{"*", "ad*", "ada)(objectClass=*", "*)(uid=*))(|(uid=*", `\2a`, "ada\x00", "ada ", " ada", "ada.", "ada@corp.example.test", `CORP\ada`,
		"CN=Ada,CN=Users,DC=corp,DC=example,DC=test", "ａｄａ", "àda", "", "<SID=S-1-5-18>"} {
		if _, err := s.login(t, name, password); reason(err) != directory.ReasonWrong {
			t.Errorf("login as %q: %v", name, err)
		}
		_, err := s.users.Lookup(t.Context(), corp, name)
		if !errors.Is(err, directory.ErrNoUser) {
			t.Errorf("lookup of %q: %v", name, err)
		}
		want(t, s.users.DeleteUser(t.Context(), corp, name), directory.ErrNoUser)
		want(t, s.users.SetPassword(t.Context(), corp, name, pw(password)), directory.ErrNoUser)
	}
	// What a name may have is escaped.
	u, err := s.users.CreateUser(t.Context(), corp, directory.NewUser{Name: "a(b)&#c'd"})
	must(t, err)
	must(t, s.users.SetPassword(t.Context(), corp, u.Name, pw(password)))
	if got, err := s.login(t, u.Name, password); err != nil || got.SID != u.SID {
		t.Errorf("%+v, %v", got, err)
	}
	// Samba itself lets nobody have the principal name that ada would be expected to have.
	s.user(t, "mallory")
	if err := s.set("mallory", "userPrincipalName", "ada@corp.example.test"); !ldap.IsErrorAnyOf(err, ldap.LDAPResultEntryAlreadyExists, ldap.LDAPResultConstraintViolation) {
		t.Errorf("mallory takes ada's principal name: %v", err)
	}
}

func (s *scene) reasons(t *testing.T) {
	const next = "Another-Horse-8"
	for _, name := range []string{"dis", "locked", "must", "expired", "connector"} {
		s.user(t, name)
	}
	must(t, s.set("dis", "userAccountControl", "514"))
	must(t, s.set("must", "pwdLastSet", "0"))
	expire := exec.Command("ldbmodify", "-H", filepath.Join(s.dir, "d", string(corp), "state/private/sam.ldb.d/DC=CORP,DC=EXAMPLE,DC=TEST.ldb"))
	expire.Stdin = strings.NewReader("dn: CN=expired,CN=Users,DC=corp,DC=example,DC=test\nchangetype: modify\nreplace: pwdLastSet\npwdLastSet: 133000000000000000\n")
	if out, err := expire.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for range 10 {
		if _, err := s.login(t, "locked", "wrong"); reason(err) == "" {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name, password string
		want           directory.Reason
	}{
		{"dis", password, directory.ReasonDisabled}, {"dis", "wrong", directory.ReasonWrong},
		{"locked", password, directory.ReasonLocked},
		{"must", password, directory.ReasonMustChange}, {"must", "wrong", directory.ReasonWrong},
		{"expired", password, directory.ReasonExpired}, {"expired", "wrong", directory.ReasonWrong},
	} {
		if _, err := s.login(t, tc.name, tc.password); reason(err) != tc.want {
			t.Errorf("%s with %s: %v, want %s", tc.name, tc.password, err, tc.want)
		}
	}
	must(t, s.users.SetPassword(t.Context(), corp, "locked", pw(next)))
	if _, err := s.login(t, "locked", next); err != nil {
		t.Errorf("after a reset: %v", err)
	}
	// Whoever must change their password can: by the service account, or by the host itself.
	settings := s.settings(s.corp)
	settings.Service = &ad.ServiceAccount{Name: `CORP\connector`, Password: pw(password)}
	service := client(t, map[ident.DirectoryID]ad.Settings{corp: settings})
	if err := service.ChangePassword(t.Context(), corp, "must", pw("wrong"), pw(next)); reason(err) != directory.ReasonWrong {
		t.Errorf("change with a wrong password: %v", err)
	}
	if err := service.ChangePassword(t.Context(), corp, "must", pw(password), pw("short")); !errors.Is(err, directory.ErrWeakPassword) {
		t.Errorf("change to a weak one: %v", err)
	}
	must(t, service.ChangePassword(t.Context(), corp, "must", pw(password), pw(next)))
	if err := s.users.ChangePassword(t.Context(), corp, "expired", pw("wrong"), pw(next)); reason(err) != directory.ReasonWrong {
		t.Errorf("the host changes with a wrong password: %v", err)
	}
	must(t, s.users.ChangePassword(t.Context(), corp, "expired", pw(password), pw(next)))
	for _, name := range []string{"must", "expired"} {
		if _, err := s.login(t, name, next); err != nil {
			t.Errorf("%s after the change: %v", name, err)
		}
	}
	if u, err := service.Lookup(t.Context(), corp, "DIS"); err != nil || u.Enabled || u.Name != "dis" {
		t.Errorf("the service account finds %+v, %v", u, err)
	}
}

func (s *scene) weak(t *testing.T) {
	for p, said := range map[string]string{"Sh0rt!": "7", "alllowercaseletters": "complexity", "": "", "With-NUL-7\x00": ""} {
		err := s.users.SetPassword(t.Context(), corp, "ada", pw(p))
		if !errors.Is(err, directory.ErrWeakPassword) || !strings.Contains(strings.ToLower(err.Error()), said) {
			t.Errorf("%q: %v", p, err)
		} else {
			t.Log(err)
		}
	}
	want(t, s.users.SetPassword(t.Context(), corp, "nobody", pw(password)), directory.ErrNoUser)
	want(t, s.users.SetPassword(t.Context(), "d-0000000000", "ada", pw(password)), directory.ErrNoDirectory)
	if _, err := s.login(t, "ada", password); err != nil {
		t.Errorf("the old password still holds: %v", err)
	}
}

func (s *scene) protected(t *testing.T) {
	s.user(t, "boss")
	must(t, s.system(corp, func(c *ldap.Conn) error {
		add := ldap.NewAddRequest("CN=Inner,CN=Users,DC=corp,DC=example,DC=test", nil)
		add.Attribute("objectClass", []string{"group"})
		add.Attribute("sAMAccountName", []string{"Inner"})
		add.Attribute("member", []string{"CN=boss,CN=Users,DC=corp,DC=example,DC=test"})
		if err := c.Add(add); err != nil {
			return err
		}
		m := ldap.NewModifyRequest("CN=Domain Admins,CN=Users,DC=corp,DC=example,DC=test", nil)
		m.Add("member", []string{"CN=Inner,CN=Users,DC=corp,DC=example,DC=test"})
		return c.Modify(m)
	}))
	for _, name := range []string{"Administrator", "guest", "krbtgt", "boss"} {
		want(t, s.users.SetPassword(t.Context(), corp, name, pw("Another-Horse-9")), directory.ErrProtected)
		want(t, s.users.DeleteUser(t.Context(), corp, name), directory.ErrProtected)
		want(t, s.users.ChangePassword(t.Context(), corp, name, pw(password), pw("Another-Horse-9")), directory.ErrProtected)
	}
	for _, name := range []string{"dc90670a1b2c$", "DNSUPDATEPROXY"} {
		if err := s.users.DeleteUser(t.Context(), corp, name); err == nil {
			t.Errorf("%s was deleted", name)
		}
	}
	if _, err := s.login(t, "Administrator", "Admin-"+password); err != nil {
		t.Errorf("the administrator's first password: %v", err)
	}
}

func (s *scene) list(t *testing.T) {
	var all []string
	next := ""
	for pages := 0; ; pages++ {
		users, after, err := s.users.ListUsers(t.Context(), corp, next, 3)
		must(t, err)
		for _, u := range users {
			all = append(all, strings.ToLower(u.Name))
		}
		if after == "" {
			break
		}
		if next = after; len(users) != 3 || pages > 10 {
			t.Fatalf("page of %d, then %q", len(users), after)
		}
	}
	once, end, err := s.users.ListUsers(t.Context(), corp, "", 0)
	must(t, err)
	if !slices.IsSorted(all) || len(all) != len(once) || end != "" || !slices.Contains(all, "ada") || slices.Contains(all, "dc90670a1b2c$") {
		t.Errorf("%v, %d at once", all, len(once))
	}
}

func (s *scene) deleted(t *testing.T) {
	first := s.user(t, "grace")
	must(t, s.users.DeleteUser(t.Context(), corp, "Grace"))
	want(t, s.users.DeleteUser(t.Context(), corp, "grace"), directory.ErrNoUser)
	if _, err := s.login(t, "grace", password); reason(err) != directory.ReasonWrong {
		t.Error(err)
	}
	if again := s.user(t, "grace"); again.SID == first.SID {
		t.Errorf("a SID given twice: %s", again.SID)
	}
}

func (s *scene) apart(t *testing.T) {
	for _, name := range []string{"ada", "mallory"} {
		if _, err := s.people.Authenticate(t.Context(), branch, name, pw(password)); reason(err) != directory.ReasonWrong {
			t.Errorf("%s of corp at branch: %v", name, err)
		}
	}
	u, err := s.users.CreateUser(t.Context(), branch, directory.NewUser{Name: "ada"})
	must(t, err)
	must(t, s.users.SetPassword(t.Context(), branch, "ada", pw("Branch-Horse-7")))
	got, err := s.people.Authenticate(t.Context(), branch, "ada", pw("Branch-Horse-7"))
	if err != nil || got.SID != u.SID {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.login(t, "ada", "Branch-Horse-7"); reason(err) != directory.ReasonWrong {
		t.Errorf("branch's password at corp: %v", err)
	}
	// What one is told by the other's authority is still not its name.
	crossed := s.settings(s.corp)
	crossed.Dial = s.settings(s.branch).Dial
	_, err = client(t, map[ident.DirectoryID]ad.Settings{corp: crossed}).Authenticate(t.Context(), corp, "ada", pw(password))
	want(t, err, directory.ErrUnavailable)
}

func (s *scene) dns(t *testing.T) {
	settings := s.settings(s.corp)
	for _, server := range settings.Servers {
		one := settings
		one.Servers = []ad.Server{server}
		if _, err := client(t, map[ident.DirectoryID]ad.Settings{corp: one}).Authenticate(t.Context(), corp, "ada", pw(password)); err != nil {
			t.Errorf("login at %s: %v", server.Address, err)
		}
	}
	ns, err := s.nets.vpc(vpcA)
	must(t, err)
	for _, at := range []string{"10.0.1.5", "10.0.2.5"} {
		for question, wanted := range map[string]string{"corp.example.test A": "10.0.1.5 10.0.2.5", "dc90670a1b2c.corp.example.test A": "10.0.1.5 10.0.2.5",
			"_ldap._tcp.dc._msdcs.corp.example.test SRV": "0 100 389 dc90670a1b2c.corp.example.test.", "_kerberos._udp.corp.example.test SRV": "0 100 88 dc90670a1b2c.corp.example.test."} {
			name, kind, _ := strings.Cut(question, " ")
			cmd := exec.Command("nsenter", "--net=/proc/self/fd/3", "dig", "+short", "+time=3", "@"+at, name, kind)
			cmd.ExtraFiles = []*os.File{ns}
			out, err := cmd.Output()
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			slices.Sort(lines)
			if got := strings.Join(lines, " "); err != nil || got != wanted {
				t.Errorf("%s asked for %s: %q, %v, want %q", at, question, got, err, wanted)
			}
		}
	}
}

// until waits for a login to work and gives what the logins before it said.
func (s *scene) until(t *testing.T) (said []error) {
	t.Helper()
	limit := time.Now().Add(time.Minute)
	for {
		_, err := s.login(t, "ada", password)
		if err == nil {
			return said
		}
		said = append(said, err)
		if time.Now().After(limit) {
			t.Fatalf("logins do not work again: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *scene) killed(t *testing.T) {
	old := s.pid(corp)
	must(t, syscall.Kill(old, syscall.SIGKILL))
	said := s.until(t)
	for _, err := range said {
		if reason(err) != "" || !errors.Is(err, directory.ErrUnavailable) {
			t.Errorf("a login said %v", err)
		}
	}
	if len(said) == 0 {
		t.Error("no login failed: nothing is shown")
	}
	if s.pid(corp) == old {
		t.Error("the same process")
	}
	t.Logf("%d logins said unavailable", len(said))
}

func (s *scene) frozen(t *testing.T) {
	old := s.pid(corp)
	must(t, syscall.Kill(old, syscall.SIGSTOP))
	settings := s.settings(s.corp)
	settings.ConnectTimeout, settings.Timeout = 500*time.Millisecond, 500*time.Millisecond
	quick := client(t, map[ident.DirectoryID]ad.Settings{corp: settings})
	begin := time.Now()
	_, err := quick.Authenticate(t.Context(), corp, "ada", pw(password))
	if took := time.Since(begin); !errors.Is(err, directory.ErrUnavailable) || took > 10*time.Second {
		t.Errorf("%v after %s", err, took)
	}
	if info, err := s.domains.Inspect(t.Context(), corp); err != nil || info.Stage != driver.DomainImpaired {
		t.Errorf("%+v, %v", info, err)
	}
	_, err = s.domains.Lookup(t.Context(), corp, "ada")
	want(t, err, directory.ErrUnavailable)
	for _, err := range s.until(t) {
		want(t, err, directory.ErrUnavailable)
	}
	if s.pid(corp) == old {
		t.Error("it was not replaced")
	}
}

func (s *scene) removed(t *testing.T) {
	pid := s.pid(corp)
	if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err != nil {
		t.Fatal(err)
	}
	must(t, s.domains.Remove(t.Context(), corp))
	must(t, s.domains.Remove(t.Context(), corp))
	if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("process %d: %v", pid, err)
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, "d", "*"+string(corp)+"*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if len(s.nets.held[vpcA]) != 0 {
		t.Errorf("addresses held: %v", s.nets.held)
	}
	_, err := s.domains.Inspect(t.Context(), corp)
	want(t, err, driver.ErrNotFound)
	_, err = s.users.Lookup(t.Context(), corp, "ada")
	want(t, err, directory.ErrNoDirectory)
	_, err = s.people.Authenticate(t.Context(), corp, "ada", pw(password))
	want(t, err, directory.ErrUnavailable)
}

// The contract's own suite; Reopen leaves the first process's controller running, as a kill of the host role does.
func TestTheContract(t *testing.T) {
	drivertest.Domain(t, func(t *testing.T) drivertest.Set {
		w := newWorld(t)
		return drivertest.Set{Domain: w.domains, Reopen: func(t *testing.T) drivertest.Set { return drivertest.Set{Domain: w.open()} }}
	})
}

func TestWhatACrashLeavesIsTakenUpAgain(t *testing.T) {
	w := newWorld(t)
	s := spec(corp, vpcA, "corp.example.test", "CORP")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // in the middle of the making
	_, err := w.domains.Provision(ctx, s)
	cancel()
	if err == nil {
		t.Fatal("made within a second: nothing is shown")
	}
	w.open()
	if info, err := w.domains.Inspect(t.Context(), corp); err != nil || info.Stage != driver.DomainCreating {
		t.Errorf("half made: %+v, %v", info, err)
	}
	must(t, os.WriteFile(filepath.Join(w.dir, "d", string(corp), "state", "rubbish"), nil, 0o600))
	_, err = w.domains.Provision(t.Context(), s)
	must(t, err)
	if _, err := os.Stat(filepath.Join(w.dir, "d", string(corp), "state", "rubbish")); !errors.Is(err, os.ErrNotExist) {
		t.Error("what was half made is still there")
	}
	other := s
	other.Name = "other.example.test"
	if _, err := w.domains.Provision(t.Context(), other); driver.AsPermanent(err) == nil {
		t.Errorf("another domain of the same id: %v", err)
	}

	pid := w.pid(corp)
	w.open() // the host role is killed
	_, err = w.domains.Provision(t.Context(), s)
	must(t, err)
	if w.pid(corp) != pid {
		t.Error("the running controller was not taken over")
	}
	// Killed between the start of a controller and the writing of its process.
	must(t, os.Remove(filepath.Join(w.dir, "d", string(corp), "process.json")))
	w.open()
	_, err = w.domains.Provision(t.Context(), s)
	must(t, err)
	if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); !errors.Is(err, os.ErrNotExist) || w.pid(corp) == pid {
		t.Errorf("the controller that nobody knew of: %v", err)
	}
	// Killed in the middle of a removal.
	must(t, os.Rename(filepath.Join(w.dir, "d", string(corp), "made"), filepath.Join(w.dir, "d", string(corp), "gone")))
	w.open()
	pid = w.pid(corp)
	must(t, w.domains.Remove(t.Context(), corp))
	if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("process %d is still there", pid)
	}
}
