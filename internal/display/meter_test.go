package display_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"carrel/internal/clock"
	"carrel/internal/display"
	"carrel/internal/ident"
	"carrel/internal/rfb"
	"carrel/internal/ticket"

	"golang.org/x/sys/unix"
)

// The meter of P10. The machine, what is compared and the browser are a process each, as in life. Between them stands this test binary as the
// relay, websockify, or this binary as a plain copy. Machine and browser are lean, so that their own work does not level what is compared:
// the one sends its pictures out of a file, the other looks at frames' heads and has the kernel drop the rest.

const roleVariable = "CARREL_DISPLAY_TEST_ROLE"

// TestMain is a machine, a relay or a copy when the meter has started it as one.
func TestMain(m *testing.M) {
	switch role := strings.Split(os.Getenv(roleVariable), " "); role[0] {
	case "relay":
		beRelay(role[1], role[2])
	case "copy":
		beCopy(role[1], role[2])
	case "machine":
		beMachine(role[1])
	default:
		os.Exit(m.Run())
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

// door is a listener of a role: with TLS as the portal has it when there is a certificate. It says where it listens.
func door(certificate string) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	if certificate != "-" {
		pair, err := tls.LoadX509KeyPair(certificate, certificate)
		must(err)
		l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}})
	}
	fmt.Println(l.Addr())
	return l
}

// beRelay serves screens of the machine that listens at an address, and gives out tickets for them.
func beRelay(machine, certificate string) {
	tickets, err := ticket.NewOffice(ticket.Config{Now: time.Now, Random: rand.Reader, PerUser: 100_000})
	must(err)
	h := &display.Handler{Tickets: tickets, Screens: dialer(machine), Registry: &display.Registry{}, Origins: []string{origin}, Clock: clock.System{}, Random: rand.Reader,
		Log: slog.New(slog.DiscardHandler), Policy: func(context.Context, ticket.Claims) (display.Policy, error) { return display.Policy{Shared: true}, nil }}
	h.Limits.InputRate = 1 << 30 // The meter types faster than anybody.
	mux := http.NewServeMux()
	mux.HandleFunc("/ticket", func(w http.ResponseWriter, _ *http.Request) {
		token, _, err := tickets.Issue(ada())
		must(err)
		_, _ = io.WriteString(w, token)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { h.Serve(w, r, ada().Binding) })
	must((&http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}).Serve(door(certificate)))
}

// beCopy is the same way without any protocol: Go's own copy in each direction.
func beCopy(machine, certificate string) {
	l := door(certificate)
	for {
		near, err := l.Accept()
		must(err)
		go func() {
			far, err := dialer(machine).Connect(context.Background(), "")
			must(err)
			go func() { _, _ = io.Copy(far, near) }()
			_, _ = io.Copy(near, far)
			_, _ = far.Close(), near.Close()
		}()
	}
}

// dialer finds every machine at the same address.
type dialer string

func (d dialer) Connect(ctx context.Context, _ ident.WorkspaceID) (net.Conn, error) {
	var n net.Dialer
	return n.DialContext(ctx, "tcp", string(d))
}

// peer is a process between machine and browser.
type peer struct {
	cmd     *exec.Cmd
	address string
	// tls: the certificate it has; nil: none.
	tls *x509.CertPool
	// relay: it wants a ticket. framed: it speaks WebSocket.
	relay, framed bool
}

func startPeer(b *testing.B, cmd *exec.Cmd) (*peer, io.Reader) {
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &peer{cmd: cmd}, out
}

// startRole starts this binary as a relay, a copy or a machine. of is the machine's address, or its kind; encrypted: with TLS.
func startRole(b *testing.B, role, of string, encrypted bool) *peer {
	file, pool := "-", (*x509.CertPool)(nil)
	if encrypted {
		file, pool = newCertificate(b)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", roleVariable, role, of, file))
	p, out := startPeer(b, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	p.address, p.tls, p.relay, p.framed = strings.TrimSpace(line), pool, role == "relay", role == "relay"
	return p
}

// startWebsockify gives nil when there is none.
func startWebsockify(b *testing.B, machine string) *peer {
	path, err := exec.LookPath("websockify")
	if err != nil {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	cmd := exec.Command(path, address, machine)
	p, _ := startPeer(b, cmd)
	p.address, p.framed = address, true
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return p
		}
		if time.Now().After(deadline) {
			b.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func newCertificate(b *testing.B) (string, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	file := filepath.Join(b.TempDir(), "pair.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		b.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return file, pool
}

// resident is the process's memory in bytes as the kernel counts it.
func (p *peer) resident(b *testing.B) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib * 1024
		}
	}
	b.Fatal("no resident memory")
	return 0
}

// busy is the processor time of the process so far.
func (p *peer) busy(b *testing.B) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err := errors.Join(err, err2); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ
}

// viewer is a browser's connection, or one without any WebSocket.
type viewer struct {
	conn   net.Conn
	framed bool
	buf    []byte
	// buf[r:w] is read and not taken; left is what is missing of the frame of kind.
	r, w, left int
	kind       byte
}

// view connects to a peer and shakes hands.
func (p *peer) view() (*viewer, error) {
	dial := func() (net.Conn, error) {
		if p.tls == nil {
			return net.Dial("tcp", p.address)
		}
		return tls.Dial("tcp", p.address, &tls.Config{RootCAs: p.tls, NextProtos: []string{"http/1.1"}})
	}
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	v := &viewer{conn: conn, buf: make([]byte, 4096)}
	if p.framed {
		if err := v.upgrade(p.relay); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	if p.relay {
		token, err := p.ticket(dial)
		if err == nil {
			_, err = conn.Write(frameOf(1, []byte(`{"ticket":"`+token+`"}`)))
		}
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	if _, err := rfb.Connect(v, true, full); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return v, v.send(rfb.AppendSetEncodings(nil, []rfb.Encoding{rfb.CopyRect, rfb.Tight, rfb.Raw, rfb.PseudoFence, rfb.PseudoContinuousUpdates}))
}

func (p *peer) ticket(dial func() (net.Conn, error)) (string, error) {
	conn, err := dial()
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /ticket HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

func (v *viewer) upgrade(relay bool) error {
	protocol := "binary"
	if relay {
		protocol = display.Protocol
	}
	_, err := fmt.Fprintf(v.conn, "GET / HTTP/1.1\r\nHost: desk.example.com\r\nOrigin: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", origin, protocol)
	for err == nil {
		if end := bytes.Index(v.buf[:v.w], []byte("\r\n\r\n")); end >= 0 {
			if !bytes.HasPrefix(v.buf, []byte("HTTP/1.1 101 ")) {
				return fmt.Errorf("%q", v.buf[:end])
			}
			v.framed, v.r = true, end+4
			return nil
		}
		err = v.fill()
	}
	return err
}

// fill reads more; what is left in the buffer is little.
func (v *viewer) fill() error {
	v.w = copy(v.buf, v.buf[v.r:v.w])
	v.r = 0
	n, err := v.conn.Read(v.buf[v.w:])
	v.w += n
	if n > 0 {
		return nil
	}
	return err
}

// have waits for n bytes in the buffer.
func (v *viewer) have(n int) ([]byte, error) {
	for v.w-v.r < n {
		if err := v.fill(); err != nil {
			return nil, err
		}
	}
	return v.buf[v.r : v.r+n], nil
}

// piece gives the next bytes of RFB, at most n; they are valid until the next call.
func (v *viewer) piece(n int) ([]byte, error) {
	for v.framed && (v.left == 0 || v.kind != 2) {
		if err := v.header(); err != nil {
			return nil, err
		}
	}
	if _, err := v.have(1); err != nil {
		return nil, err
	}
	n = min(n, v.w-v.r)
	if v.framed {
		n = min(n, v.left)
		v.left -= n
	}
	b := v.buf[v.r : v.r+n]
	v.r += n
	return b, nil
}

// header reads a frame's header (RFC 6455 section 5.2), and all of a frame that is not RFB.
func (v *viewer) header() error {
	b, err := v.have(2)
	if err != nil {
		return err
	}
	kind, length, head := b[0]&15, int(b[1]), 2
	switch length {
	case 126:
		if b, err = v.have(4); err != nil {
			return err
		}
		length, head = int(binary.BigEndian.Uint16(b[2:])), 4
	case 127:
		if b, err = v.have(10); err != nil {
			return err
		}
		length, head = int(binary.BigEndian.Uint64(b[2:])), 10
	}
	v.r += head
	if v.kind, v.left = kind, length; kind == 2 {
		return nil
	}
	if b, err = v.have(length); err != nil {
		return err
	}
	v.r, v.left = v.r+length, 0
	switch kind {
	case 8:
		return fmt.Errorf("closed: %q", b)
	case 9:
		_, err = v.conn.Write(frameOf(10, b))
	}
	return err
}

// Read is for the handshake.
func (v *viewer) Read(p []byte) (int, error) {
	b, err := v.piece(len(p))
	return copy(p, b), err
}

func (v *viewer) Write(p []byte) (int, error) { return len(p), v.send(p) }

// take passes over n bytes of RFB.
func (v *viewer) take(n int) error {
	for n > 0 {
		b, err := v.piece(n)
		if err != nil {
			return err
		}
		n -= len(b)
		if most := min(n, v.left); v.r == v.w && most > 0 {
			dropped, err := v.drop(most)
			if err != nil {
				return err
			}
			n, v.left = n-dropped, v.left-dropped
		}
	}
	return nil
}

// drop has the kernel drop up to n bytes of a frame that nothing is read ahead of (tcp(7), MSG_TRUNC). With TLS it drops none.
func (v *viewer) drop(n int) (dropped int, err error) {
	tcp, ok := v.conn.(*net.TCPConn)
	if !ok {
		return 0, nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	n = min(n, len(v.buf))
	wait := raw.Read(func(fd uintptr) bool {
		dropped, _, err = unix.Recvfrom(int(fd), v.buf[:n], unix.MSG_TRUNC|unix.MSG_DONTWAIT)
		return !errors.Is(err, unix.EAGAIN)
	})
	if wait == nil && err == nil && dropped == 0 {
		err = io.ErrUnexpectedEOF
	}
	return dropped, errors.Join(wait, err)
}

func (v *viewer) send(m []byte) error {
	if v.framed {
		m = frameOf(2, m)
	}
	_, err := v.conn.Write(m)
	return err
}

// frameOf is a frame as a browser sends it.
func frameOf(kind byte, m []byte) []byte {
	b := []byte{0x80 | kind}
	if len(m) < 126 {
		b = append(b, 0x80|byte(len(m)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(m)))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, c := range m {
		b = append(b, c^mask[i&3])
	}
	return b
}

// beMachine answers every viewer: a request for an update with the next of its pictures, a key with glyph.
func beMachine(kind string) {
	pictures := newTrace()
	if kind == "picture" {
		pictures = [][]byte{pictureOf(pictureBody)}
	}
	fd, err := unix.MemfdCreate("pictures", unix.MFD_CLOEXEC)
	must(err)
	for _, p := range pictures {
		_, err := unix.Write(fd, p)
		must(err)
	}
	serveMachines(door("-"), func() func(*net.TCPConn) error {
		file, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd)) // With an offset of its own.
		must(err)
		n := 0
		return func(conn *net.TCPConn) error {
			if n == len(pictures) {
				n = 0
				if _, err := file.Seek(0, io.SeekStart); err != nil {
					return err
				}
			}
			n++
			_, err := conn.ReadFrom(io.LimitReader(file, int64(len(pictures[n-1]))))
			return err
		}
	})
}

// startMachine gives the address of a machine that is a process of its own.
func startMachine(b *testing.B, kind string) string {
	return startRole(b, "machine", kind, false).address
}

// within is a machine in the meter's own process, which is sent what next gives for each of its viewers.
func within(b *testing.B, next func() func(*net.TCPConn) error) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go serveMachines(l, next)
	return l.Addr().String()
}

// serveMachines answers every viewer that comes until l is closed.
func serveMachines(l net.Listener, update func() func(*net.TCPConn) error) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			if _, err := rfb.Accept(conn, rfb.ServerInit{Screen: full}); err != nil {
				return // A peer that only looked whether somebody listens.
			}
			answer(conn.(*net.TCPConn), update())
		}()
	}
}

// glyph is what a key is answered with.
var glyph = append(rfb.AppendRectangle(rfb.AppendUpdate(nil, 1), pt(0, 0), rfb.Size{Width: 8, Height: 16}, rfb.Tight), 0x80, 1, 2, 3)

func answer(conn *net.TCPConn, next func(*net.TCPConn) error) {
	in := rfb.NewClientStream(conn, func() rfb.Size { return full }, rfb.ClientLimits{}, nil)
	for {
		ev, err := in.Next()
		switch {
		case err != nil:
		case ev.Type == rfb.UpdateRequest:
			err = next(conn)
		case ev.Type == rfb.KeyEvent:
			_, err = conn.Write(glyph)
		}
		if err != nil {
			return
		}
	}
}
