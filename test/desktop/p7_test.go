package desktop

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"carrel/internal/driver"
	"carrel/internal/driver/qemu"
	"carrel/internal/ident"
)

const (
	p7Memory = 384 << 20
	// p7AtOnce is how many desktops are resumed at once.
	p7AtOnce = 20
	// p7Patience is for the slowest single thing here, a cold boot on a busy machine.
	p7Patience = 3 * time.Minute
)

// pairs is how often a figure is measured: 5 times, or as CARREL_PAIRS says.
func pairs(b *testing.B) int {
	b.Helper()
	text := os.Getenv("CARREL_PAIRS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("CARREL_PAIRS is %q", text)
	}
	return n
}

// figure is a ratio that was measured in pairs, as test/bench/run reads it.
type figure struct {
	Figure  string    `json:"figure"`
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`
	Samples []float64 `json:"samples"`
	Goal    float64   `json:"goal"`
	Better  string    `json:"better"`
}

func (f *figure) add(a, b time.Duration) { f.Samples = append(f.Samples, a.Seconds()/b.Seconds()) }

func (f *figure) print(b *testing.B) {
	fmt.Print("figure: ")
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	if err := out.Encode(f); err != nil {
		b.Fatal(err)
	}
}

// stamps notes when a start comes to its points.
type stamps struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (s *stamps) observe(point string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[string]time.Time{}
	}
	s.at[point] = time.Now()
}

func (s *stamps) of(point string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[point]
}

// since says how long after began each point of a start was come to.
func (s *stamps) since(began time.Time) string {
	var out []string
	for _, point := range qemu.Points.Start {
		out = append(out, fmt.Sprintf("%s %d ms", point, s.of(point).Sub(began).Milliseconds()))
	}
	return strings.Join(out, ", ")
}

// p7 is a host on which desktops are made and ended.
type p7 struct {
	*host
	b     *testing.B
	ctx   context.Context
	seen  *stamps
	count int
}

// make makes what a new desktop needs. Begun: something was written to its root volume, so that it starts from that.
func (p *p7) make(begun bool) driver.MachineSpec {
	p.b.Helper()
	p.count++
	id, nic := ident.WorkspaceID(fmt.Sprintf("ws-%09d", p.count)), ident.InterfaceID(fmt.Sprintf("eni-%017d", p.count))
	for _, s := range []driver.VolumeSpec{
		{ID: driver.VolumeOf(id, driver.RootVolume), WorkspaceID: id, Role: driver.RootVolume, GiB: 6, ImageID: minimal},
		{ID: driver.VolumeOf(id, driver.UserVolume), WorkspaceID: id, Role: driver.UserVolume, GiB: 1},
	} {
		if _, err := p.volumes.Create(p.ctx, s); err != nil {
			p.b.Fatal(err)
		}
	}
	if begun {
		if err := p.volumes.BeginVolume(p.ctx, driver.VolumeOf(id, driver.RootVolume), ""); err != nil {
			p.b.Fatal(err)
		}
	}
	if _, err := p.fabric.Attach(p.ctx, driver.NICSpec{InterfaceID: nic, WorkspaceID: id, VPC: vpc, Subnet: "subnet-0a1b2c3d4e5f60718", Address: "10.0.1." + strconv.Itoa(10+p.count),
		MAC: fmt.Sprintf("02:00:00:00:00:%02x", p.count), SecurityGroups: []ident.SecurityGroupID{"sg-0a1b2c3d4e5f60718"}, VPCCIDR: "10.0.0.0/16", SubnetCIDR: "10.0.1.0/24"}); err != nil {
		p.b.Fatal(err)
	}
	return specOf(id, nic)
}

// drop ends a desktop with everything that it had.
func (p *p7) drop(s driver.MachineSpec) {
	p.b.Helper()
	if report, err := p.driver.Scrub(p.ctx, s.WorkspaceID); err != nil || report.Clean() != nil {
		p.b.Fatalf("%+v, %v", report, err)
	}
	for _, v := range []driver.VolumeID{s.Root, s.User} {
		if e, err := p.volumes.Erase(p.ctx, v); err != nil || !e.Verified {
			p.b.Fatalf("%+v, %v", e, err)
		}
	}
	if err := errors.Join(p.driver.Release(p.ctx, s.WorkspaceID), p.fabric.Detach(p.ctx, s.Interface), p.volumes.Release(p.ctx, s.Root), p.volumes.Release(p.ctx, s.User)); err != nil {
		p.b.Fatal(err)
	}
}

func (p *p7) start(s driver.MachineSpec) {
	p.b.Helper()
	if _, err := p.driver.Start(p.ctx, s); err != nil {
		p.b.Fatal(err, p.log)
	}
}

// shown is how long a desktop takes from the request to start it until its screen is the guest's own: firmware and an early kernel show a text screen.
func (p *p7) shown(s driver.MachineSpec) time.Duration {
	p.b.Helper()
	began := time.Now()
	p.start(s)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		width, height, err := p.screen(s.WorkspaceID)
		if err != nil {
			p.b.Fatal(err)
		}
		if width == 1280 && height == 800 {
			return time.Since(began)
		}
		if time.Since(began) > p7Patience {
			p.b.Fatalf("%s shows %d by %d", s.WorkspaceID, width, height)
		}
		time.Sleep(pause)
	}
}

// screen is the size of what a machine shows: RFC 6143, 7.1 and 7.3, without authentication.
func (p *p7) screen(id ident.WorkspaceID) (width, height int, err error) {
	conn, err := p.driver.Connect(p.ctx, id)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(p7Patience))
	b := make([]byte, 64)
	for _, step := range []struct {
		read int
		say  string
	}{{12, "RFB 003.008\n"}, {2, "\x01"}, {4, "\x01"}} {
		if _, err := io.ReadFull(conn, b[:step.read]); err != nil {
			return 0, 0, err
		}
		if _, err := conn.Write([]byte(step.say)); err != nil {
			return 0, 0, err
		}
	}
	if _, err := io.ReadFull(conn, b[:24]); err != nil {
		return 0, 0, err
	}
	return int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:])), nil
}

// bare starts QEMU as somebody would by hand, with the same devices, encrypted disks and memory as a desktop, and waits for its monitor's greeting.
func (p *p7) bare(s driver.MachineSpec) time.Duration {
	p.b.Helper()
	root, err := p.volumes.OpenVolume(p.ctx, s.Root)
	if err != nil {
		p.b.Fatal(err)
	}
	defer root.Close()
	user, err := p.volumes.OpenVolume(p.ctx, s.User)
	if err != nil {
		p.b.Fatal(err)
	}
	defer user.Close()
	image, err := p.images.OpenImage(p.ctx, minimal)
	if err != nil {
		p.b.Fatal(err)
	}
	defer image.Close()
	dir := p.b.TempDir()
	disk := func(name string, v *driver.OpenVolume, backing string) []string {
		secret := filepath.Join(dir, name)
		if err := os.WriteFile(secret, v.Passphrase, 0o600); err != nil {
			p.b.Fatal(err)
		}
		return []string{"-object", "secret,id=" + name + "-key,file=" + secret,
			"-blockdev", "driver=qcow2,node-name=" + name + ",file.driver=file,file.locking=off,file.filename=" + v.File.Name() + ",encrypt.format=luks,encrypt.key-secret=" + name + "-key" + backing,
			"-device", "virtio-blk-pci,drive=" + name}
	}
	args := []string{"-nodefaults", "-no-user-config", "-machine", "q35,memory-backend=ram", "-accel", "tcg,thread=multi,tb-size=128", "-cpu", "max", "-smp", "1", "-m", fmt.Sprint(p7Memory >> 20),
		"-object", fmt.Sprintf("memory-backend-memfd,id=ram,size=%d,share=on", p7Memory), "-kernel", image.Kernel.Name(), "-initrd", image.Initrd.Name(), "-append", image.CommandLine,
		"-device", "virtio-vga", "-device", "virtio-keyboard-pci", "-device", "virtio-tablet-pci", "-device", "virtio-rng-pci", "-device", "virtio-serial-pci", "-device", "vmgenid,guid=auto", "-netdev", "hubport,id=net,hubid=0",
		"-device", "virtio-net-pci,netdev=net,romfile=", "-vnc", "none", "-serial", "none", "-qmp", "stdio", "-S"}
	args = append(args, disk("user", user, "")...)
	args = append(args, disk("root", root, ",backing.driver=qcow2,backing.read-only=on,backing.file.driver=file,backing.file.filename="+image.Disk.Name())...)
	cmd := exec.CommandContext(p.ctx, "qemu-system-x86_64", args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.b.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		p.b.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	took := time.Since(began)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil || !strings.Contains(line, `"QMP"`) {
		p.b.Fatalf("%v: %q, %s", err, line, &said)
	}
	return took
}

// P7: what Carrel adds to QEMU's own start, and what templates and saved memory save.
func BenchmarkP7(b *testing.B) {
	p := &p7{b: b, seen: &stamps{}}
	h := newHost(b, realImages(b), p7Memory)
	p.host = h
	h.leave(b)
	h.memory = (p7AtOnce + 4) * p7Memory
	if err := h.connect(b.Context(), p7Memory, p.seen.observe); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), 9*time.Minute)
	defer cancel()
	p.ctx = ctx
	overhead := figure{Figure: "p7", Name: "desktop to monitor / bare QEMU to monitor", Unit: "x", Goal: 1.25, Better: "<="}
	template := figure{Figure: "p7", Name: "template start / cold boot", Unit: "x", Goal: 0.10, Better: "<="}
	resume := figure{Figure: "p7", Name: "resume from saved memory / cold boot", Unit: "x", Goal: 0.12, Better: "<="}
	many := figure{Figure: "p7", Name: "20 resumes at once / one resume", Unit: "x", Goal: 3, Better: "<="}
	for b.Loop() {
		if err := p.driver.MakeTemplate(ctx, minimal, "STANDARD"); err != nil {
			b.Fatal(err, h.log)
		}
		for range pairs(b) {
			cold := p.make(true)
			bare := p.bare(cold)
			began := time.Now()
			boot := p.shown(cold)
			overhead.add(p.seen.of("connected").Sub(began), bare)
			b.Logf("bare QEMU %s, with Carrel %s: %s", bare, p.seen.of("connected").Sub(began), p.seen.since(began))
			p.drop(cold)
			warm := p.make(false)
			quick := p.shown(warm)
			template.add(quick, boot)
			p.stop(warm)
			again := p.shown(warm)
			resume.add(again, boot)
			p.drop(warm)
			b.Logf("cold boot %s, from a template %s, from saved memory %s", boot, quick, again)
		}
		p.resumeMany(&many)
	}
	if strings.Contains(h.log.String(), "failed; the desktop starts from its disk") {
		b.Fatalf("%s", h.log)
	}
	for _, f := range []*figure{&overhead, &template, &resume, &many} {
		f.print(b)
	}
}

func (p *p7) stop(s driver.MachineSpec) {
	p.b.Helper()
	if m, err := p.driver.Stop(p.ctx, s.WorkspaceID); err != nil || m.State != driver.MachineStopped {
		p.b.Fatalf("%+v, %v", m, err)
	}
}

// resumeMany measures how long it takes until all of many desktops run that were asked for at once, beside one alone.
func (p *p7) resumeMany(many *figure) {
	p.b.Helper()
	var all []driver.MachineSpec
	for range p7AtOnce {
		s := p.make(false)
		p.start(s)
		p.stop(s)
		all = append(all, s)
	}
	for range pairs(p.b) {
		began := time.Now()
		p.start(all[0])
		one := time.Since(began)
		p.stop(all[0])
		began = time.Now()
		var g errgroup.Group
		for _, s := range all {
			g.Go(func() error {
				_, err := p.driver.Start(p.ctx, s)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			p.b.Fatal(err)
		}
		took := time.Since(began)
		many.add(took, one)
		p.b.Logf("one resume %s, %d at once %s", one, p7AtOnce, took)
		for _, s := range all {
			p.stop(s)
		}
	}
	for _, s := range all {
		p.drop(s)
	}
}
