package netns

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"carrel/internal/driver"
	"carrel/internal/driver/linuxnet"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must come. What must not come is not waited for: a packet that may pass is sent after it, on
// the same way, and only that one arrives.
const patience = 20 * time.Second

// routerMAC is the host's end of every tap.
var routerMAC = net.HardwareAddr{0x02, 0xca, 0x44, 0x45, 0x4c, 0x01}

const vnetHeader = 10

// guest is a machine's network card with the test in the machine's place.
type guest struct {
	t    *testing.T
	spec driver.NICSpec
	mac  net.HardwareAddr
	ip   netip.Addr
	tap  *os.File

	mu     sync.Mutex
	wake   *sync.Cond
	frames [][]byte // received, without the offload header
	ended  bool
}

func boot(t *testing.T, f *linuxnet.Fabric, spec driver.NICSpec) *guest {
	t.Helper()
	tap, err := f.OpenTap(t.Context(), spec.InterfaceID)
	if err != nil {
		t.Fatal(err)
	}
	mac, err := net.ParseMAC(spec.MAC)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, spec: spec, mac: mac, ip: netip.MustParseAddr(spec.Address), tap: tap.File}
	g.wake = sync.NewCond(&g.mu)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.receive()
	}()
	t.Cleanup(func() {
		g.off()
		<-done
	})
	g.linkUp()
	return g
}

// linkUp waits until the host sends to the guest: the kernel brings a tap's queue into use some time after it was opened, as a switch does.
func (g *guest) linkUp() {
	g.t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			g.send(ethernet(broadcast, g.mac, typeARP, arp{op: 1, senderMAC: g.mac, sender: g.ip, target: netip.MustParseAddr("10.0.1.1")}.bytes()))
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	reply := append([]byte{0, 2}, routerMAC...)
	g.await(string(reply))
	close(stop)
	<-done
	// More answers may be on the way; what follows a last question of another kind is the test's.
	g.ping(netip.MustParseAddr("10.0.1.1"), "link is up")
	g.await("link is up")
}

// off takes the power away.
func (g *guest) off() { _ = g.tap.Close() }

// stopped waits until the power is off.
func (g *guest) stopped() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.ended {
		g.wake.Wait()
	}
}

func (g *guest) receive() {
	b := make([]byte, 70000)
	for {
		n, err := g.tap.Read(b)
		g.mu.Lock()
		if err != nil {
			g.ended = true
			g.wake.Broadcast()
			g.mu.Unlock()
			return
		}
		if n > vnetHeader && len(g.frames) < 100000 {
			g.frames = append(g.frames, bytes.Clone(b[vnetHeader:n]))
		}
		g.wake.Broadcast()
		g.mu.Unlock()
	}
}

func (g *guest) send(frame []byte) {
	g.t.Helper()
	if _, err := g.tap.Write(append(make([]byte, vnetHeader), frame...)); err != nil {
		g.t.Fatalf("send: %v", err)
	}
}

// ip4 sends an IPv4 packet as a well-behaved guest would.
func (g *guest) ip4(p packet) {
	g.t.Helper()
	if !p.from.IsValid() {
		p.from = g.ip
	}
	g.send(ethernet(routerMAC, g.mac, typeIPv4, p.bytes()))
}

// ping sends an echo request with a mark that can be looked for.
func (g *guest) ping(to netip.Addr, mark string) {
	g.t.Helper()
	g.ip4(packet{to: to, protocol: 1, payload: echo(77, 1, []byte(mark))})
}

// await waits until a frame with the mark has come and gives all frames until then, oldest first, and forgets them.
func (g *guest) await(mark string) [][]byte {
	g.t.Helper()
	late := false
	timer := time.AfterFunc(patience, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		late = true
		g.wake.Broadcast()
	})
	defer timer.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		for i, f := range g.frames {
			if bytes.Contains(f, []byte(mark)) {
				got := g.frames[:i+1]
				g.frames = g.frames[i+1:]
				return got
			}
		}
		if g.ended || late {
			g.t.Fatalf("no packet with %q came; %d others did: %s", mark, len(g.frames), describe(g.frames))
		}
		g.wake.Wait()
	}
}

// received gives what has come and forgets it.
func (g *guest) received() [][]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	got := g.frames
	g.frames = nil
	return got
}

func describe(frames [][]byte) string {
	var b bytes.Buffer
	for i, f := range frames {
		if i == 5 {
			fmt.Fprint(&b, "...")
			break
		}
		fmt.Fprintf(&b, "\n  %x", f)
	}
	return b.String()
}

// machine is a guest with a kernel's own stack: a namespace whose eth0 is connected to the tap.
type machine struct {
	t    *testing.T
	spec driver.NICSpec
	ns   *os.File
	// sent and got count frames at the tap.
	mu        sync.Mutex
	sent, got int
}

// on runs fn on a thread inside a namespace.
func on(t *testing.T, ns *os.File, fn func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // Never unlocked: the thread ends with the goroutine.
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// namespace makes a network namespace that lasts as long as the test.
func namespace(t *testing.T) *os.File {
	t.Helper()
	opened := make(chan error)
	var ns *os.File
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns, err = os.Open("/proc/thread-self/ns/net")
		}
		opened <- err
	}()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	on(t, ns, func() error { return up("lo") })
	return ns
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// start boots a machine without an address.
func start(t *testing.T, f *linuxnet.Fabric, spec driver.NICSpec) *machine {
	t.Helper()
	tap, err := f.OpenTap(t.Context(), spec.InterfaceID)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, spec: spec, ns: namespace(t)}
	mac, _ := net.ParseMAC(spec.MAC)
	var card *os.File
	on(t, m.ns, func() error {
		fd, err := unix.Open(tun(), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		req, err := unix.NewIfreq("eth0")
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return err
		}
		card = os.NewFile(uintptr(fd), "eth0")
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0), netlink.LinkSetHardwareAddr(link, mac), netlink.LinkSetUp(link))
	})
	var wires sync.WaitGroup
	wire := func(from, to *os.File, count *int) {
		defer wires.Done()
		b := make([]byte, 70000)
		for {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			*count++
			m.mu.Unlock()
			_, _ = to.Write(b[:n])
		}
	}
	wires.Add(2)
	go wire(card, tap.File, &m.sent)
	go wire(tap.File, card, &m.got)
	t.Cleanup(func() {
		tap.File.Close()
		card.Close()
		wires.Wait()
	})
	return m
}

func tun() string {
	if s := os.Getenv(tunVariable); s != "" {
		return s
	}
	return "/dev/net/tun"
}

// configure gives the machine its address without asking anybody.
func (m *machine) configure() *machine {
	m.t.Helper()
	on(m.t, m.ns, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(m.spec.Address + "/24")
		if err != nil {
			return err
		}
		return errors.Join(netlink.AddrReplace(link, a), netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(10, 0, 1, 1)}))
	})
	return m
}

// listen answers every connection on a port by sending back what it gets.
func (m *machine) listen(port int) {
	m.t.Helper()
	var l net.Listener
	on(m.t, m.ns, func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	})
	serveEcho(m.t, l)
}

func serveEcho(t *testing.T, l net.Listener) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				b := make([]byte, 4096)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
}

// dial connects from inside the machine.
func (m *machine) dial(to string, wait time.Duration) (c net.Conn, err error) {
	on(m.t, m.ns, func() error {
		c, err = net.DialTimeout("tcp4", to, wait)
		return nil
	})
	if c != nil {
		m.t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// says tells whether a connection carries a word there and back.
func says(c net.Conn, word string, wait time.Duration) bool {
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, err := c.Write([]byte(word)); err != nil {
		return false
	}
	b := make([]byte, len(word))
	n, err := c.Read(b)
	return err == nil && string(b[:n]) == word
}

// run runs a program inside a namespace.
func run(t *testing.T, ns *os.File, name string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	var failed error
	on(t, ns, func() error {
		cmd := exec.CommandContext(t.Context(), name, args...) // A child starts in the namespace of the thread that makes it.
		cmd.Stdout, cmd.Stderr = &out, &out
		failed = cmd.Run()
		return nil
	})
	return out.String(), failed
}
