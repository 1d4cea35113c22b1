// Package domain tests directories with the real Samba: a domain controller in a network of its own, and people who log in to it.
package domain

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"golang.org/x/sys/unix"

	"carrel/internal/directory"
	"carrel/internal/directory/ad"
	"carrel/internal/driver"
	"carrel/internal/driver/jail"
	"carrel/internal/driver/samba"
	"carrel/internal/ident"
)

const (
	corp     = ident.DirectoryID("d-90670a1b2c")
	branch   = ident.DirectoryID("d-90670a1b2d")
	vpcA     = ident.VPCID("vpc-0a1b2c3d4e5f60718")
	vpcB     = ident.VPCID("vpc-0a1b2c3d4e5f60719")
	password = "Correct-Horse-7"
	// firstUID is where the test's own user ids begin.
	firstUID = 61300
)

func TestMain(m *testing.M) {
	jail.Main()
	if err := missing(); err != nil {
		fmt.Fprintln(os.Stderr, "test/domain:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// missing names what this machine has not.
func missing() error {
	for program, from := range map[string]string{"/usr/sbin/samba": "samba-ad-dc (or samba)", "ldbmodify": "ldb-tools", "ip": "iproute2", "nsenter": "util-linux"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is missing: install %s", program, from)
		}
	}
	if err := exec.Command("/usr/bin/python3", "-I", "-c", "import samba.provision, samba.samdb").Run(); err != nil {
		return errors.New("Samba's Python modules are missing: install python3-samba")
	}
	if _, err := os.Stat("/usr/share/samba/setup/provision.ldif"); err != nil {
		return errors.New("Samba's provisioning data is missing: install samba-ad-provision")
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces are made: run it as root")
	}
	return nil
}

// networks are VPCs as network namespaces without any way out.
type networks struct {
	mu    sync.Mutex
	vpcs  map[ident.VPCID]*os.File
	held  map[ident.VPCID]map[netip.Addr]bool
	dials atomic.Int32
}

func newNetworks(t *testing.T) *networks {
	n := &networks{vpcs: map[ident.VPCID]*os.File{}, held: map[ident.VPCID]map[netip.Addr]bool{}}
	t.Cleanup(func() {
		for _, f := range n.vpcs {
			f.Close()
		}
	})
	return n
}

// in runs fn on a thread that is in a namespace (nil: a new one) and ends with fn.
func in(ns *os.File, fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		var err error
		if ns == nil {
			err = unix.Unshare(unix.CLONE_NEWNET)
		} else {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

func (n *networks) vpc(id ident.VPCID) (*os.File, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.vpcs[id]; f != nil {
		return f, nil
	}
	var f *os.File
	err := in(nil, func() (err error) {
		f, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err == nil {
		err = run(f, "ip", "link", "set", "lo", "up")
	}
	if err == nil {
		err = run(f, "sh", "-c", "echo 53 > /proc/sys/net/ipv4/ip_unprivileged_port_start")
	}
	n.vpcs[id], n.held[id] = f, map[netip.Addr]bool{}
	return f, err
}

// run runs a program in a namespace.
func run(ns *os.File, args ...string) error {
	cmd := exec.Command("nsenter", append([]string{"--net=/proc/self/fd/3"}, args...)...)
	cmd.ExtraFiles = []*os.File{ns}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return nil
}

func (n *networks) Namespace(_ context.Context, want driver.Network) (*os.File, error) {
	f, err := n.vpc(want.VPC)
	if err != nil {
		return nil, err
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}

func (n *networks) Hold(_ context.Context, want driver.Network, a netip.Addr) error {
	f, err := n.vpc(want.VPC)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held[want.VPC][a] {
		return nil
	}
	n.held[want.VPC][a] = true
	return run(f, "ip", "address", "add", a.String()+"/32", "dev", "lo")
}

func (n *networks) Drop(_ context.Context, vpc ident.VPCID, a netip.Addr) error {
	f, err := n.vpc(vpc)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.held[vpc][a] {
		return nil
	}
	delete(n.held[vpc], a)
	return run(f, "ip", "address", "del", a.String()+"/32", "dev", "lo")
}

func (n *networks) Dial(ctx context.Context, vpc ident.VPCID, network, address string) (net.Conn, error) {
	f, err := n.vpc(vpc)
	if err != nil {
		return nil, err
	}
	n.dials.Add(1)
	var c net.Conn
	err = in(f, func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// authority is a certificate authority.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(48 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &authority{key, c}
}

func (a *authority) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) Issue(names []string, addresses []netip.Addr) ([]byte, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, address := range addresses {
		c.IPAddresses = append(c.IPAddresses, address.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), err
}

// world is a host with its domains.
type world struct {
	t    *testing.T
	dir  string
	nets *networks
	// fabric stands in for nets where it is set.
	fabric driver.Networks
	ca     *authority
	// domains are those of the present process.
	domains *samba.Domains
}

func newWorld(t *testing.T) *world {
	t.Helper()
	// Short: sockets have their path in it.
	dir, err := os.MkdirTemp("/tmp", "cd-")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, nets: newNetworks(t), ca: newAuthority(t)}
	t.Cleanup(func() {
		w.open() // whatever a test has left, also of a process that "died"
		list, err := w.domains.List(context.Background())
		if err != nil {
			t.Error(err)
		}
		for _, d := range list {
			if err := w.domains.Remove(context.Background(), d.DirectoryID); err != nil {
				t.Error(err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	w.open()
	return w
}

func (w *world) networks() driver.Networks {
	if w.fabric != nil {
		return w.fabric
	}
	return w.nets
}

// open is what a host role does when it starts; nothing of the one before is stopped, as after a kill.
func (w *world) open() *samba.Domains {
	w.t.Helper()
	s, err := samba.Open(samba.Config{Dir: filepath.Join(w.dir, "d"), Networks: w.networks(), Certificates: w.ca, FirstUID: firstUID, UIDs: 10, Random: rand.Reader,
		Log:    slog.New(slog.NewTextHandler(testWriter{w.t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Timing: samba.Timing{Check: 200 * time.Millisecond, Answer: time.Second, Hang: 3 * time.Second, Start: 20 * time.Second, Retry: 300 * time.Millisecond}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.domains = s
	return s
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(b))
	return len(b), nil
}

// supervise runs the domains until the test ends.
func (w *world) supervise() {
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := w.domains.Run(ctx); !errors.Is(err, context.Canceled) {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(func() {
		cancel()
		wait.Wait()
	})
}

func spec(id ident.DirectoryID, vpc ident.VPCID, name, short string) driver.DomainSpec {
	return driver.DomainSpec{DirectoryID: id, Type: "SimpleAD", Name: name, ShortName: short, VPC: vpc, VPCCIDR: "10.0.0.0/16",
		Controllers:   []driver.DomainController{{Subnet: "subnet-0a1b2c3d4e5f6071a", Address: "10.0.1.5"}, {Subnet: "subnet-0a1b2c3d4e5f6071b", Address: "10.0.2.5"}},
		AdminPassword: directory.NewPassword("Admin-" + password)}
}

// settings are how people reach a domain.
func (w *world) settings(s driver.DomainSpec) ad.Settings {
	out := ad.Settings{Domain: s.Name, NetBIOS: s.ShortName, RootCAs: w.ca.CertificatePEM(), ConnectTimeout: 5 * time.Second, Timeout: 10 * time.Second,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return w.networks().Dial(ctx, s.VPC, network, address)
		}}
	for _, c := range s.Controllers {
		out.Servers = append(out.Servers, ad.Server{Address: c.Address + ":636"})
	}
	return out
}

func client(t *testing.T, settings map[ident.DirectoryID]ad.Settings) *ad.Client {
	t.Helper()
	c, err := ad.New(ad.Config{Directories: func(id ident.DirectoryID) (ad.Settings, error) {
		if s, ok := settings[id]; ok {
			return s, nil
		}
		return ad.Settings{}, directory.ErrNoDirectory
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pid is a domain's controller.
func (w *world) pid(id ident.DirectoryID) int {
	w.t.Helper()
	var process jail.Identity
	b, err := os.ReadFile(filepath.Join(w.dir, "d", string(id), "process.json"))
	if err == nil {
		err = json.Unmarshal(b, &process)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return process.PID
}

// system runs fn on a connection on which the controller takes us for itself.
func (w *world) system(id ident.DirectoryID, fn func(*ldap.Conn) error) error {
	c, err := ldap.DialURL("ldapi://" + filepath.Join(w.dir, "d", string(id), "state/private/ldap_priv/ldapi"))
	if err != nil {
		return err
	}
	defer c.Close()
	return fn(c)
}

// set replaces one attribute of a user of corp.example.test.
func (w *world) set(user, attribute, value string) error {
	return w.system(corp, func(c *ldap.Conn) error {
		m := ldap.NewModifyRequest("CN="+user+",CN=Users,DC=corp,DC=example,DC=test", nil)
		m.Replace(attribute, []string{value})
		return c.Modify(m)
	})
}
