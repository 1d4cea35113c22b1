package desktop

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/driver/memory"
	"carrel/internal/driver/qemu"
	"carrel/internal/driver/volume"
	"carrel/internal/ident"
)

// copies are volumes that are all copies of one disk, because making a disk takes longer than all that is measured here.
type copies struct {
	dir, disk string
	key       []byte
	image     driver.ImageOpener
}

func (c *copies) OpenVolume(ctx context.Context, id driver.VolumeID) (*driver.OpenVolume, error) {
	path := filepath.Join(c.dir, hex.EncodeToString([]byte(id)))
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		b, err := os.ReadFile(c.disk)
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	o := &driver.OpenVolume{ID: id, GiB: 1, File: f, Passphrase: append([]byte(nil), c.key...)}
	if filepath.Base(string(id)) == string(driver.RootVolume) {
		image, err := c.image.OpenImage(ctx, bare)
		if err != nil {
			return nil, err
		}
		o.ImageID, o.Backing = bare, []*os.File{image.Disk}
	}
	return o, nil
}

// ticking is a boot sector: it has the clock's interrupt come fifty times a second and sleeps. The BIOS counts the interrupts at ticks. Host
// processors are left to the others: a guest that counted by itself would compete with them for all it can get.
//
//	cli; xor %ax,%ax; mov %ax,%ds; mov %ax,%ss; mov $0x7c00,%sp
//	mov $0x34,%al; out %al,$0x43; mov $0x38,%al; out %al,$0x40; mov $0x5d,%al; out %al,$0x40	# 1193182 / 0x5d38
//	sti; 1: hlt; jmp 1b
var ticking = []byte{0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xb0, 0x34, 0xe6, 0x43, 0xb0, 0x38, 0xe6, 0x40, 0xb0, 0x5d, 0xe6, 0x40, 0xfb, 0xf4, 0xeb, 0xfd}

const (
	// ticks is where the BIOS counts, in the guest's memory.
	ticks  = 0x46c
	period = 20 * time.Millisecond
)

// ticker gives an image whose machines tick.
func ticker(b *testing.B) driver.ImageOpener {
	b.Helper()
	dir := b.TempDir()
	sector := make([]byte, 1<<20)
	copy(sector, ticking)
	sector[510], sector[511] = 0x55, 0xaa
	raw, disk := filepath.Join(dir, "ticking.raw"), filepath.Join(dir, "ticking.qcow2")
	if err := os.WriteFile(raw, sector, 0o600); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", raw, disk).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return blank{disk, new(atomic.Bool)}
}

// pulse looks at the ticks of machines from outside, through their memory, and knows how long one of them stood still at most.
type pulse struct {
	clocks []*uint32
	maps   [][]byte
	over   chan struct{}
	done   sync.WaitGroup
	// longest is what the last watch found.
	longest time.Duration
}

// feel opens the memory of all machines for reading.
func feel(b *testing.B, k *memory.Keeper) *pulse {
	b.Helper()
	p := &pulse{}
	entries, err := k.List(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		block, _, err := k.Get(e.ID)
		if err != nil {
			b.Fatal(err)
		}
		f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", block.File().Fd()))
		if err != nil {
			b.Fatal(err)
		}
		m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		if err = errors.Join(err, f.Close()); err != nil {
			b.Fatal(err)
		}
		p.maps, p.clocks = append(p.maps, m), append(p.clocks, (*uint32)(unsafe.Pointer(&m[ticks])))
	}
	return p
}

func (p *pulse) close() {
	for _, m := range p.maps {
		_ = unix.Munmap(m)
	}
}

// wait gives when every machine has ticked n times.
func (p *pulse) wait(b *testing.B, n uint32) {
	b.Helper()
	for _, c := range p.clocks {
		for began, from := time.Now(), atomic.LoadUint32(c); atomic.LoadUint32(c)-from < n; time.Sleep(time.Millisecond) {
			if time.Since(began) > time.Minute {
				b.Fatalf("a machine ticked %d times in a minute: want %d", atomic.LoadUint32(c)-from, n)
			}
		}
	}
}

// watch looks until stop, which gives the longest time that a machine stood still beyond its period. A look that comes late makes it longer, never
// shorter: two looks at t0 and t1 that see a machine at ticks n and n+k prove no more than that it was never longer than t1-t0-(k-1) periods without one.
func (p *pulse) watch() {
	p.over, p.longest = make(chan struct{}), 0
	last, since := make([]uint32, len(p.clocks)), make([]time.Time, len(p.clocks))
	look := func() {
		for i, c := range p.clocks {
			now, t := atomic.LoadUint32(c), time.Now()
			if !since[i].IsZero() {
				still := t.Sub(since[i]) - period
				if n := now - last[i]; n > 0 {
					still -= time.Duration(n-1) * period
				}
				p.longest = max(p.longest, still)
			}
			if since[i].IsZero() || now != last[i] {
				last[i], since[i] = now, t
			}
		}
	}
	p.done.Go(func() {
		look()
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-tick.C:
				look()
			case <-p.over:
				tick.Stop()
				look()
				return
			}
		}
	})
}

func (p *pulse) stop() time.Duration {
	close(p.over)
	p.done.Wait()
	return p.longest
}

// crowd is a host whose machines have copies of one disk.
type crowd struct {
	*host
	volumes *copies
	sizes   map[string]int64
	observe func(string)
}

func newCrowd(b *testing.B, images driver.ImageOpener, sizes map[string]int64) *crowd {
	b.Helper()
	h := newHost(b, images, 32<<20)
	key := make([]byte, 32)
	if _, err := io.ReadFull(rand.Reader, key); err != nil {
		b.Fatal(err)
	}
	c := &crowd{host: h, sizes: sizes, volumes: &copies{dir: b.TempDir(), disk: filepath.Join(h.dir, "disk.qcow2"), key: hex.AppendEncode(nil, key), image: h.images}}
	f, err := os.OpenFile(c.volumes.disk, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = errors.Join(volume.QemuImg{}.Format(b.Context(), f, 1<<30, c.volumes.key), f.Close())
	}
	if err != nil {
		b.Fatal(err)
	}
	c.machines(b)
	return c
}

// machines opens the driver and gives the time that it took.
func (c *crowd) machines(b *testing.B) time.Duration {
	b.Helper()
	keys, err := volume.OpenMaster(filepath.Join(c.dir, "master"), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	c.driver, err = qemu.Open(b.Context(), qemu.Config{
		Dir: filepath.Join(c.dir, "many"), Host: "test-host", Keeper: c.keeper, Volumes: c.volumes, Images: c.images, Taps: c.fabric, Keys: keys,
		Clock: clock.System{}, Random: rand.Reader, Log: slog.New(slog.NewTextHandler(c.log, nil)), Accel: qemu.TCG,
		Size: func(compute string) (qemu.Size, bool) {
			return qemu.Size{Processors: 1, Memory: c.sizes[compute]}, c.sizes[compute] > 0
		},
		Memory: 8 << 30, FirstUID: 64100, UIDs: 100, Observe: func(point string) {
			if c.observe != nil {
				c.observe(point)
			}
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

// prepare gives the n-th machine a network card.
func (c *crowd) prepare(b *testing.B, n int, compute string) driver.MachineSpec {
	b.Helper()
	id, nic := ident.WorkspaceID(fmt.Sprintf("ws-%09d", n)), ident.InterfaceID(fmt.Sprintf("eni-%017d", n))
	if _, err := c.fabric.Attach(b.Context(), driver.NICSpec{InterfaceID: nic, WorkspaceID: id, VPC: vpc, Subnet: "subnet-0a1b2c3d4e5f60718", Address: "10.0.1." + strconv.Itoa(10+n),
		MAC: fmt.Sprintf("02:00:00:00:00:%02x", n), SecurityGroups: []ident.SecurityGroupID{"sg-0a1b2c3d4e5f60718"}, VPCCIDR: "10.0.0.0/16", SubnetCIDR: "10.0.1.0/24"}); err != nil {
		b.Fatal(err)
	}
	spec := specOf(id, nic)
	spec.Compute = compute
	return spec
}

func (c *crowd) start(b *testing.B, spec driver.MachineSpec) time.Duration {
	b.Helper()
	began := time.Now()
	if _, err := c.driver.Start(b.Context(), spec); err != nil {
		b.Fatalf("%v: %s", err, c.log)
	}
	return time.Since(began)
}

func (c *crowd) scrub(b *testing.B, spec driver.MachineSpec) {
	b.Helper()
	if _, err := c.driver.Scrub(b.Context(), spec.WorkspaceID); err != nil {
		b.Fatalf("%v: %s", err, c.log)
	}
}

// finding prints a figure for test/bench.
func finding(f map[string]any) {
	text, err := json.Marshal(f)
	if err != nil {
		panic(err) // Numbers and text.
	}
	fmt.Printf("figure: %s\n", text)
}

// BenchmarkP13b is P13's second half: a new host role takes over fifty machines that run. Nothing of it stops them.
func BenchmarkP13b(b *testing.B) {
	const many, times = 50, 5
	need(b, "qemu-img")
	c := newCrowd(b, ticker(b), map[string]int64{"STANDARD": 32 << 20})
	for i := range many {
		c.start(b, c.prepare(b, i, "STANDARD"))
	}
	p := feel(b, c.keeper)
	defer p.close()
	if len(p.clocks) != many {
		b.Fatalf("%d machines have memory", len(p.clocks))
	}
	p.wait(b, 20) // All have booted and tick.
	var took, paused, quiet []float64
	for range times {
		var err error
		p.watch()
		began := time.Now()
		if err = errors.Join(c.driver.Close(), c.keeper.Close()); err != nil {
			b.Fatal(err)
		}
		gone := time.Now()
		if c.keeper, err = memory.Connect(b.Context(), filepath.Join(c.dir, "memory")); err != nil {
			b.Fatal(err)
		}
		keeper := time.Since(gone)
		took = append(took, (keeper + c.machines(b)).Seconds())
		all := time.Since(began)
		paused = append(paused, p.stop().Seconds()*1000)
		machines, err := c.driver.List(b.Context())
		if err != nil || len(machines) != many {
			b.Fatalf("%d machines, %v", len(machines), err)
		}
		for _, m := range machines {
			if m.State != driver.MachineRunning {
				b.Fatalf("%+v: %s", m, c.log)
			}
		}
		p.wait(b, 1)
		p.watch()
		time.Sleep(all) // As long again, with nobody doing anything.
		quiet = append(quiet, p.stop().Seconds()*1000)
	}
	finding(map[string]any{"figure": "p13b", "name": "longest pause of fifty machines", "unit": "ms", "server": "left alone", "samples": quiet})
	finding(map[string]any{"figure": "p13b", "name": "longest pause of fifty machines", "unit": "ms", "server": "taken over", "samples": paused})
	finding(map[string]any{"figure": "p13b", "name": "taking fifty running machines over", "unit": "s", "samples": took, "goal": 1, "better": "<="})
	finding(map[string]any{"figure": "p13b", "name": "longest pause of one of them meanwhile", "unit": "ms", "samples": paused, "goal": 50, "better": "<=",
		"note": "seen from outside in the machines' memory, where they count 50 ticks a second"})
}

// BenchmarkP9 is P9's last part: a machine starts while four GiB of another are scrubbed, and does not wait for that.
func BenchmarkP9(b *testing.B) {
	const pairs = 5
	need(b, "qemu-img")
	c := newCrowd(b, nil, map[string]int64{"STANDARD": 64 << 20, "POWER": 4 << 30})
	var alone, meanwhile, ahead, ratio []float64
	n := 0
	prepare := func(compute string) driver.MachineSpec {
		n++
		return c.prepare(b, n, compute)
	}
	for range pairs {
		first, large, second := prepare("STANDARD"), prepare("POWER"), prepare("STANDARD")
		quiet := c.start(b, first)
		c.scrub(b, first)
		c.start(b, large)
		scrubbing, scrubbed := make(chan struct{}), make(chan time.Time, 1)
		c.observe = func(point string) {
			if point == "end noted" {
				close(scrubbing)
			}
		}
		go func() {
			_, err := c.driver.Scrub(b.Context(), large.WorkspaceID)
			if err != nil {
				b.Error(err)
			}
			scrubbed <- time.Now()
		}()
		<-scrubbing
		took := c.start(b, second)
		started := time.Now()
		end := <-scrubbed
		c.observe = nil
		c.scrub(b, second)
		alone, meanwhile = append(alone, quiet.Seconds()*1000), append(meanwhile, took.Seconds()*1000)
		ratio, ahead = append(ratio, took.Seconds()/quiet.Seconds()), append(ahead, end.Sub(started).Seconds()*1000)
	}
	finding(map[string]any{"figure": "p9", "name": "start of a machine", "unit": "ms", "server": "alone", "samples": alone})
	finding(map[string]any{"figure": "p9", "name": "start of a machine", "unit": "ms", "server": "beside a scrub", "samples": meanwhile})
	finding(map[string]any{"figure": "p9", "name": "start beside a scrub / alone", "unit": "x", "samples": ratio, "goal": 2, "better": "<=",
		"note": "a scrub uses all processors, so a start has half of them"})
	finding(map[string]any{"figure": "p9", "name": "a start that begins with a scrub of 4 GiB is over before it by", "unit": "ms", "samples": ahead, "goal": 0, "better": ">="})
}
