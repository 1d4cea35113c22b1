package samba

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"carrel/internal/directory"
	"carrel/internal/driver"
	"carrel/internal/ident"
)

const (
	corp = ident.DirectoryID("d-90670a1b2c")
	vpc  = ident.VPCID("vpc-0a1b2c3d4e5f60718")
)

// networks hold addresses and nothing else.
type networks struct {
	mu         sync.Mutex
	held       map[netip.Addr]bool
	failDrop   bool
	beforeHold func() error
}

func (n *networks) Namespace(context.Context, driver.Network) (*os.File, error) {
	return nil, driver.ErrUnavailable
}

func (n *networks) Hold(_ context.Context, _ driver.Network, a netip.Addr) error {
	if n.beforeHold != nil {
		if err := n.beforeHold(); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held[a] = true
	return nil
}

func (n *networks) Drop(_ context.Context, _ ident.VPCID, a netip.Addr) error {
	if n.failDrop {
		return driver.ErrUnavailable
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.held, a)
	return nil
}

func (n *networks) Dial(context.Context, ident.VPCID, string, string) (net.Conn, error) {
	return nil, driver.ErrUnavailable
}

// authority signs with a key that it shows.
type authority struct {
	pem  []byte
	life time.Duration
}

func (a authority) CertificatePEM() []byte { return a.pem }

func (a authority) Issue(names []string, addresses []netip.Addr) ([]byte, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(a.life)}
	for _, address := range addresses {
		c.IPAddresses = append(c.IPAddresses, address.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), []byte("key"), err
}

func config(t *testing.T) Config {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// Anything that exists: no test here comes to running it.
	return Config{Dir: filepath.Join(dir, "d"), Networks: &networks{held: map[netip.Addr]bool{}}, Certificates: authority{[]byte("ca"), 90 * 24 * time.Hour},
		FirstUID: 61300, UIDs: 2, Random: rand.Reader, Log: slog.New(slog.DiscardHandler), Samba: "/proc/self/exe", Python: "/proc/self/exe"}
}

func open(t *testing.T, cfg Config) *Domains {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func spec() driver.DomainSpec {
	return driver.DomainSpec{DirectoryID: corp, Type: "SimpleAD", Name: "corp.example.com", ShortName: "CORP", VPC: vpc, VPCCIDR: "10.0.0.0/16",
		Controllers: []driver.DomainController{{Subnet: "subnet-1", Address: "10.0.1.5"}, {Subnet: "subnet-2", Address: "10.0.2.5"}}}
}

func want(t *testing.T, err, kind error) {
	t.Helper()
	if kind == nil && err != nil || !errors.Is(err, kind) {
		t.Errorf("%v, want %v", err, kind)
	}
}

func TestWhatCannotBeADomainIsRefusedForGood(t *testing.T) {
	s := open(t, config(t))
	for name, change := range map[string]func(*driver.DomainSpec){
		"no name":                        func(d *driver.DomainSpec) { d.Name = "" },
		"a name of one part":             func(d *driver.DomainSpec) { d.Name = "corp" },
		"a name with a line break":       func(d *driver.DomainSpec) { d.Name = "corp.example.com\n\tserver services = smb" },
		"a name with a substitution":     func(d *driver.DomainSpec) { d.Name = "%m.example.com" },
		"a name that is too long":        func(d *driver.DomainSpec) { d.Name = strings.Repeat("a.", 40) + "com" },
		"a part that begins with a dash": func(d *driver.DomainSpec) { d.Name = "-corp.example.com" },
		"a short name with a slash":      func(d *driver.DomainSpec) { d.ShortName = "CO/RP" },
		"a short name of 16 characters":  func(d *driver.DomainSpec) { d.ShortName = "ABCDEFGHIJKLMNOP" },
		"the controller's own name":      func(d *driver.DomainSpec) { d.ShortName = "dc90670a1b2c" },
		"a customer's own directory":     func(d *driver.DomainSpec) { d.Type = "ADConnector" },
		"no type":                        func(d *driver.DomainSpec) { d.Type = "" },
		"no controllers":                 func(d *driver.DomainSpec) { d.Controllers = nil },
		"no VPC":                         func(d *driver.DomainSpec) { d.VPC = "" },
		"an address outside the VPC":     func(d *driver.DomainSpec) { d.Controllers[0].Address = "192.0.2.1" },
		"an address that is none":        func(d *driver.DomainSpec) { d.Controllers[0].Address = "10.0.1.5 127.0.0.1" },
		"an address twice":               func(d *driver.DomainSpec) { d.Controllers[1].Address = d.Controllers[0].Address },
		"IPv6":                           func(d *driver.DomainSpec) { d.VPCCIDR, d.Controllers[0].Address = "", "2001:db8::1" },
		"a network that is none":         func(d *driver.DomainSpec) { d.VPCCIDR = "10.0.0.0" },
		"an id that is a path":           func(d *driver.DomainSpec) { d.DirectoryID = "../../etc" },
	} {
		t.Run(name, func(t *testing.T) {
			d := spec()
			change(&d)
			if _, err := s.Provision(t.Context(), d); driver.AsPermanent(err) == nil {
				t.Error(err)
			}
		})
	}
	if entries, err := os.ReadDir(s.cfg.Dir); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if r, err := newRecord(driver.DomainSpec{DirectoryID: corp, Type: "MicrosoftAD", Name: "Corporation-Of-Carrels.example.com", VPC: vpc, Controllers: spec().Controllers}); err != nil ||
		r.ShortName != "CORPORATION-OF-" || r.Name != "corporation-of-carrels.example.com" {
		t.Errorf("%+v, %v", r, err)
	}
}

var line = regexp.MustCompile(`^\t[a-z0-9_ :]+ = [A-Za-z0-9/.,:+ %_-]*$`)

// No name gets a line of its own into Samba's configuration.
func FuzzConfiguration(f *testing.F) {
	f.Add("corp.example.com", "CORP", "10.0.1.5", "10.0.0.0/16")
	f.Add("corp.example.com\n\tinclude = /etc/passwd", "C\r\nx=y", "10.0.1.5\n", "::/0")
	good, err := newRecord(spec())
	if err != nil {
		f.Fatal(err)
	}
	lines := func(conf []byte) []string { return strings.Split(strings.TrimSuffix(string(conf), "\n"), "\n") }
	whole, seed := len(lines((&domain{rec: good}).conf())), len(lines((&domain{rec: good}).seed()))
	f.Fuzz(func(t *testing.T, name, short, address, cidr string) {
		d := spec()
		d.Name, d.ShortName, d.Controllers[0].Address, d.VPCCIDR = name, short, address, cidr
		rec, err := newRecord(d)
		if err != nil {
			return
		}
		made := &domain{rec: rec, dir: "/d"}
		for conf, n := range map[string]int{string(made.conf()): whole, string(made.seed()): seed} {
			got := lines([]byte(conf))
			for _, l := range got[2:] {
				if !line.MatchString(l) {
					t.Errorf("%q", l)
				}
			}
			if len(got) != n {
				t.Errorf("%d lines, want %d:\n%s", len(got), n, conf)
			}
		}
	})
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	good := config(t)
	for name, change := range map[string]func(*Config){
		"nothing":                 func(c *Config) { *c = Config{} },
		"root's own id":           func(c *Config) { c.FirstUID = 0 },
		"no networks":             func(c *Config) { c.Networks = nil },
		"a directory too long":    func(c *Config) { c.Dir = "/tmp/" + strings.Repeat("x", 70) },
		"a directory with spaces": func(c *Config) { c.Dir = good.Dir + " x" },
	} {
		cfg := good
		change(&cfg)
		if _, err := Open(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	path := filepath.Join(good.Dir, string(corp))
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []string{"", "{", `{"DirectoryID": "d-0000000000"}`} {
		if err := os.WriteFile(filepath.Join(path, recordFile), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(good); err == nil || !strings.Contains(err.Error(), string(corp)) {
			t.Errorf("damaged record %q: %v", damaged, err)
		}
	}
}

func TestWithoutSambaItSaysWhatToInstall(t *testing.T) {
	cfg := config(t)
	cfg.Samba = "/nonexistent/samba"
	_, err := open(t, cfg).Provision(t.Context(), spec())
	if p := driver.AsPermanent(err); p == nil || p.Code != "SambaMissing" || !strings.Contains(err.Error(), "samba-ad-provision") {
		t.Error(err)
	}
}

func TestTwoCallsOnOneDirectoryDoNotMeet(t *testing.T) {
	cfg := config(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	cfg.Networks.(*networks).beforeHold = func() error {
		close(entered)
		<-leave
		return driver.Permanent("AddressInUse", errors.New("a desktop has it"))
	}
	s := open(t, cfg)
	var first error
	var wait sync.WaitGroup
	wait.Go(func() { _, first = s.Provision(t.Context(), spec()) })
	<-entered
	_, err := s.Provision(t.Context(), spec())
	want(t, err, driver.ErrBusy)
	want(t, s.Remove(t.Context(), corp), driver.ErrBusy)
	if info, err := s.Inspect(t.Context(), corp); err != nil || info.Stage != driver.DomainCreating {
		t.Errorf("%+v, %v", info, err)
	}
	close(leave)
	wait.Wait()
	if driver.AsPermanent(first) == nil {
		t.Error(first)
	}
	want(t, s.Remove(t.Context(), corp), nil)
	_, err = s.Inspect(t.Context(), corp)
	want(t, err, driver.ErrNotFound)
}

func TestARemovalIsFinishedByWhoeverIsAskedNext(t *testing.T) {
	cfg := config(t)
	nets := cfg.Networks.(*networks)
	held := 0
	nets.beforeHold = func() error {
		if held++; held == 2 {
			return driver.ErrUnavailable // in the middle of the making
		}
		return nil
	}
	s := open(t, cfg)
	_, err := s.Provision(t.Context(), spec())
	want(t, err, driver.ErrUnavailable)
	if len(nets.held) != 1 {
		t.Fatalf("held %v", nets.held)
	}
	nets.failDrop = true
	s = open(t, cfg)
	want(t, s.Remove(t.Context(), corp), driver.ErrUnavailable)
	nets.failDrop = false
	s = open(t, cfg)
	_, err = s.Provision(t.Context(), spec())
	want(t, err, driver.ErrOrder)
	_, err = s.Lookup(t.Context(), corp, "ada")
	want(t, err, directory.ErrNoDirectory)
	want(t, s.Remove(t.Context(), corp), nil)
	want(t, s.Remove(t.Context(), corp), nil)
	if entries, err := os.ReadDir(cfg.Dir); err != nil || len(entries) != 0 || len(nets.held) != 0 {
		t.Errorf("left: %v, %v, held %v", entries, err, nets.held)
	}
	// Cut off while the files were deleted.
	grave := filepath.Join(cfg.Dir, removed+string(corp), "state")
	if err := os.MkdirAll(grave, 0o700); err != nil {
		t.Fatal(err)
	}
	open(t, cfg)
	if _, err := os.Stat(grave); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestEveryDomainHasAUserIDOfItsOwn(t *testing.T) {
	s := open(t, config(t))
	a, err := s.enter(record{DirectoryID: "d-000000000a"})
	want(t, err, nil)
	b, err := s.enter(record{DirectoryID: "d-000000000b"})
	want(t, err, nil)
	again, err := s.enter(record{DirectoryID: "d-000000000a"})
	want(t, err, nil)
	if a.rec.UID != 61300 || b.rec.UID != 61301 || again != a || again.rec.UID != 61300 {
		t.Errorf("%d, %d, %d", a.rec.UID, b.rec.UID, again.rec.UID)
	}
	if _, err := s.enter(record{DirectoryID: "d-000000000c"}); driver.AsPermanent(err) == nil {
		t.Errorf("one too many: %v", err)
	}
}

func TestACertificateIsReplacedWhenItDoesNotHoldAnyMore(t *testing.T) {
	cfg := config(t)
	s := open(t, cfg)
	rec, err := newRecord(spec())
	want(t, err, nil)
	d, err := s.enter(rec)
	want(t, err, nil)
	want(t, d.lay(), nil)
	if d.certified(time.Now()) {
		t.Error("without one")
	}
	want(t, d.certify(), nil)
	path := filepath.Join(d.dir, tlsDir)
	first, err := os.ReadFile(filepath.Join(path, certificateFile))
	want(t, err, nil)
	want(t, d.certify(), nil)
	if again, _ := os.ReadFile(filepath.Join(path, certificateFile)); !slices.Equal(first, again) {
		t.Error("it is made anew each time")
	}
	if info, err := os.Stat(filepath.Join(path, keyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", info.Mode(), err)
	}
	for name, stale := range map[string]bool{
		"fresh": d.certified(time.Now()), "in two months": d.certified(time.Now().AddDate(0, 0, 60)),
		"shortly before its end": !d.certified(time.Now().AddDate(0, 0, 75)), "after its end": !d.certified(time.Now().AddDate(1, 0, 0)),
	} {
		if !stale {
			t.Error(name)
		}
	}
	d.rec.Addresses = append(d.rec.Addresses, netip.MustParseAddr("10.0.3.5"))
	if d.certified(time.Now()) {
		t.Error("for another address")
	}
	d.rec.Addresses = rec.Addresses
	s.cfg.Certificates = authority{[]byte("another"), time.Hour}
	if d.certified(time.Now()) {
		t.Error("of another authority")
	}
}

func TestTheDirectorysOwnAccountsAndAdministratorsAreKnown(t *testing.T) {
	for sid, wanted := range map[string]bool{"S-1-5-21-1-2-3-500": true, "S-1-5-21-1-2-3-502": true, "S-1-5-21-1-2-3-999": true, "S-1-5-21-1-2-3-1000": false,
		"S-1-5-21-1-2-3-1103": false, "S-1-5-18": true, "S-1-5-32-544": true, "": true, "S-1-5-21-": true, "S-1-5-21-1-2-3-x": true} {
		if builtin(sid) != wanted {
			t.Errorf("builtin %q: %v", sid, !wanted)
		}
	}
	for sid, wanted := range map[string]bool{"S-1-5-21-1-2-3-512": true, "S-1-5-21-1-2-3-519": true, "S-1-5-21-1-2-3-513": false, "S-1-5-32-544": true,
		"S-1-5-32-545": false, "S-1-5-32-512": false, "S-1-5-21-1-2-3-1512": false} {
		if powerful(sid) != wanted {
			t.Errorf("powerful %q: %v", sid, !wanted)
		}
	}
}

func TestAPageHasTheFirstUsersAfterAName(t *testing.T) {
	var entries []*ldap.Entry
	for _, name := range []string{"delta", "Alpha", "charlie", "bravo"} {
		e := ldap.NewEntry("CN="+name, map[string][]string{"sAMAccountName": {name}})
		e.Attributes = append(e.Attributes, &ldap.EntryAttribute{Name: "objectSid", ByteValues: [][]byte{{1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0}}})
		entries = append(entries, e)
	}
	kept, err := firstAfter(nil, entries[:2], "ALPHA", 2)
	want(t, err, nil)
	kept, err = firstAfter(kept, entries[2:], "ALPHA", 2)
	want(t, err, nil)
	if len(kept) != 2 || kept[0].Name != "bravo" || kept[1].Name != "charlie" {
		t.Errorf("%+v", kept)
	}
}

func TestWhatADirectorySaysOfANewUserIsTold(t *testing.T) {
	for _, tc := range []struct {
		code uint16
		text string
		kind error
	}{
		{ldap.LDAPResultEntryAlreadyExists, "00002071: samldb: Account name (sAMAccountName) 'x' already in use!", directory.ErrExists},
		{ldap.LDAPResultConstraintViolation, "0000202F: samldb: userPrincipalName 'x' is already in use", directory.ErrExists},
		{ldap.LDAPResultBusy, "busy", directory.ErrUnavailable},
	} {
		want(t, refusedAdd("x", &ldap.Error{ResultCode: tc.code, Err: errors.New(tc.text)}), tc.kind)
	}
	if err := refusedAdd("x", &ldap.Error{ResultCode: ldap.LDAPResultInvalidAttributeSyntax, Err: errors.New("00000057: c: too long")}); driver.AsPermanent(err) == nil {
		t.Error(err)
	}
}

func TestASocketOfAnotherProcessIsNotTheControllers(t *testing.T) {
	path := filepath.Join(config(t).Dir, "..", "s")
	l, err := net.Listen("unix", path)
	want(t, err, nil)
	defer l.Close()
	c, err := knock(t.Context(), path)
	want(t, err, nil)
	defer c.Close()
	want(t, isProcess(c, os.Getpid()), nil)
	if err := isProcess(c, os.Getppid()); err == nil {
		t.Error("another process passes")
	}
}

func TestAPasswordThatNobodyKnowsIsAnotherEachTime(t *testing.T) {
	a, err := unknown(rand.Reader)
	want(t, err, nil)
	b, err := unknown(rand.Reader)
	want(t, err, nil)
	if a == b || len(a) < 30 {
		t.Errorf("%d characters", len(a))
	}
}
