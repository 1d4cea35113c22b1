package image_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
	"carrel/internal/driver/guest"
	"carrel/internal/driver/qmp"
)

// machine is a QEMU without a jail: what is tested here is the image.
type machine struct {
	dir     string
	monitor *qmp.Client
	agent   *qmp.Agent
}

// Run lets driver/guest speak through the agent.
func (m *machine) Run(ctx context.Context, c guest.Command) (guest.Outcome, error) {
	out, err := m.agent.Run(ctx, qmp.Command{Path: c.Path, Input: c.Input})
	return guest.Outcome{Code: out.Code, Stdout: out.Stdout, Stderr: out.Stderr}, err
}

// pair is a connection whose other end QEMU inherits.
func pair(t *testing.T) (net.Conn, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours := os.NewFile(uintptr(fds[0]), "ours")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, os.NewFile(uintptr(fds[1]), "theirs")
}

// boot starts the image with a fresh root overlay and an empty user volume.
func boot(t *testing.T, img *driver.OpenImage) *machine {
	t.Helper()
	need(t, map[string]string{"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils"})
	m := &machine{dir: t.TempDir()}
	root, home := filepath.Join(m.dir, "root"), filepath.Join(m.dir, "home")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-b", img.Disk.Name(), "-F", "qcow2", root)
	qemuImg(t, "create", "-q", "-f", "qcow2", home, "1G")
	monitor, monitorFile := pair(t)
	agent, agentFile := pair(t)
	disk := func(file, serial string) []string {
		return []string{"-blockdev", "driver=qcow2,node-name=" + serial + ",file.driver=file,cache.no-flush=on,file.filename=" + file, "-device", "virtio-blk-pci,drive=" + serial + ",serial=" + serial}
	}
	args := []string{"-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=128", "-cpu", "max", "-smp", "2",
		"-m", fmt.Sprint(max(img.MinMemoryMiB, 512)), "-kernel", "/proc/self/fd/3", "-initrd", "/proc/self/fd/4",
		"-append", img.CommandLine + " mitigations=off tsc=reliable no_timer_check",
		"-device", "virtio-vga", "-device", "virtio-rng-pci", "-device", "virtio-keyboard-pci", "-device", "virtio-tablet-pci",
		"-chardev", "file,id=console,path=" + filepath.Join(m.dir, "console"), "-serial", "chardev:console",
		"-chardev", "socket,id=qmp,fd=5", "-mon", "chardev=qmp,mode=control",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,fd=6", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"}
	args = append(append(args, disk(root, guest.RootSerial)...), disk(home, guest.HomeSerial)...)
	cmd := exec.Command("qemu-system-x86_64", args...)
	cmd.ExtraFiles = []*os.File{img.Kernel, img.Initrd, monitorFile, agentFile}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_ = monitorFile.Close()
	_ = agentFile.Close()
	var err error
	if m.monitor, _, err = qmp.Connect(t.Context(), monitor, qmp.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.monitor.Close() })
	m.agent = qmp.NewAgent(agent, 10*time.Second)
	return m
}

// await asks the guest until it is as wanted. What it said last is in the failure.
func (m *machine) await(t *testing.T, what string, want func(guest.State) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var last guest.State
	var lastErr error
	for ctx.Err() == nil {
		step, stop := context.WithTimeout(ctx, 5*time.Second)
		last, lastErr = guest.Inspect(step, m)
		stop()
		if lastErr == nil && want(last) {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	console, _ := os.ReadFile(filepath.Join(m.dir, "console"))
	t.Fatalf("%s: the guest says %+v, %v; its console:\n%s", what, last, lastErr, console)
}

// sh runs a line of shell in the guest.
func (m *machine) sh(t *testing.T, line string) string {
	t.Helper()
	out, err := m.agent.Run(t.Context(), qmp.Command{Path: "/bin/sh", Args: []string{"-c", line}})
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return strings.TrimSpace(string(out.Stdout))
}

func TestTheMinimalImageBootsToASessionThatIsTheirs(t *testing.T) {
	store, _ := minimal(t)
	img, err := store.OpenImage(t.Context(), minimalID)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	began := time.Now()
	m := boot(t, img)
	m.await(t, "X", func(s guest.State) bool { return s.X })
	t.Logf("X and agent after %.1f s", time.Since(began).Seconds())
	templateID, templateBoot := m.sh(t, "cat /etc/machine-id"), m.sh(t, "cat /proc/sys/kernel/random/boot_id")

	d := guest.Document{
		Version: guest.Version, Hostname: "WSAMZN-1A2B3C4D", MachineID: "0123456789abcdef0123456789abcdef",
		User: guest.User{Name: "ada", FullName: "Ada O'Lovelace \"$(reboot)\"", UID: guest.UserID, Administrator: true}, Home: guest.Home{Serial: guest.HomeSerial},
		Locale: "en_US.UTF-8", Keyboard: guest.Keyboard{Layout: "de"}, TimeZone: "Europe/Berlin",
		SSHHostKeys: []guest.SSHHostKey{{Type: "ed25519", Private: "private", Public: "public"}},
	}
	if err := d.Fresh(nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	report, err := guest.Renew(t.Context(), m, d)
	if err != nil {
		t.Fatal(err)
	}
	if report.Hostname != d.Hostname || report.MachineID != d.MachineID || report.BootID != d.BootID || len(report.Warnings) != 0 {
		t.Errorf("%+v", report)
	}
	if d.MachineID == templateID || d.BootID == templateBoot {
		t.Error("VMM-7: the template's identity is still there")
	}
	m.await(t, "the session", func(s guest.State) bool { return s.Session == guest.SessionUp })
	t.Logf("session after %.1f s", time.Since(began).Seconds())

	for line, want := range map[string]string{
		"hostname":                         "WSAMZN-1A2B3C4D",
		"cat /etc/machine-id":              d.MachineID,
		"getent passwd 1000":               "ada:x:1000:1000:" + d.User.FullName + ":/home/ada:/bin/bash",
		"getent shadow ada | cut -d: -f2":  "!",
		"getent shadow root | cut -d: -f2": "*",
		"findmnt -no FSTYPE,OPTIONS /home | tr ',' ' ' | awk '{print $1, $3, $4}'": "ext4 nosuid nodev",
		"stat -c '%U %a' /home/ada": "ada 700",
		"cat /etc/ssh/ssh_host_ed25519_key; stat -c %a /etc/ssh/ssh_host_ed25519_key": "private\n600",
		"cat /etc/timezone":                    "Europe/Berlin",
		"grep XKBLAYOUT /etc/default/keyboard": `XKBLAYOUT="de"`,
		"ss -Hlntu | wc -l":                    "0",
		"stat -c %a /run/carrel/xauth.server":  "600",
	} {
		if got := m.sh(t, line); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	if p := m.sh(t, "ps -o user= -C xterm"); p != "ada" {
		t.Errorf("the terminal runs as %q", p)
	}
	if out := m.sh(t, "setpriv --reuid 1000 --clear-groups --regid 1000 env DISPLAY=:0 XAUTHORITY=/dev/null xset q 2>&1"); !strings.Contains(out, "Authorization required") || !strings.Contains(out, "unable to open display") {
		t.Errorf("the screen without its key: %q", out)
	}
	looksDrawn(t, m)

	t.Run("renewing again keeps the session", func(t *testing.T) {
		before := m.sh(t, "pgrep -x xterm; cksum /run/carrel/xauth.server")
		if _, err := guest.Renew(t.Context(), m, d); err != nil {
			t.Fatal(err)
		}
		if after := m.sh(t, "pgrep -x xterm; cksum /run/carrel/xauth.server"); after != before {
			t.Errorf("%q became %q", before, after)
		}
	})
	t.Run("another person is refused while the session is open", func(t *testing.T) {
		other := d
		other.User.Name = "eve"
		if _, err := guest.Renew(t.Context(), m, other); !errors.Is(err, guest.ErrRefused) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a start from the same memory has another identity (VMM-7)", func(t *testing.T) {
		next := d
		next.MachineID = "fedcba9876543210fedcba9876543210"
		if err := next.Fresh(nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		r, err := guest.Renew(t.Context(), m, next)
		if err != nil || r.MachineID != next.MachineID || r.BootID != next.BootID || r.BootID == d.BootID {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// looksDrawn takes a picture of the screen. It is kept as CARREL_SCREENSHOT when that is set.
func looksDrawn(t *testing.T, m *machine) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		picture := m.screen(t)
		colours := map[color.Color]int{}
		b := picture.Bounds()
		for y := b.Min.Y; y < b.Max.Y; y++ {
			for x := b.Min.X; x < b.Max.X; x++ {
				colours[picture.At(x, y)]++
			}
		}
		most := 0
		for _, n := range colours {
			most = max(most, n)
		}
		// A window, a panel and text: many colours, and none of them nearly everywhere.
		if len(colours) >= 8 && most < b.Dx()*b.Dy()*9/10 {
			keep(t, picture)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the screen of %v has %d colours, one of them on %d pixels", b, len(colours), most)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func keep(t *testing.T, picture image.Image) {
	path := os.Getenv("CARREL_SCREENSHOT")
	if path == "" {
		return
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(png.Encode(f, picture), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// screen has QEMU write the screen as PPM, and reads that.
func (m *machine) screen(t *testing.T) image.Image {
	t.Helper()
	path := filepath.Join(m.dir, "screen.ppm")
	if err := m.monitor.Execute(t.Context(), "screendump", map[string]string{"filename": path}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	var w, h, depth int
	if _, err := fmt.Fscanf(r, "P6\n%d %d\n%d\n", &w, &h, &depth); err != nil || depth != 255 || w <= 0 || h <= 0 || w*h > 1<<25 {
		t.Fatalf("a picture of %d x %d, depth %d: %v", w, h, depth, err)
	}
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	px := make([]byte, 3)
	for i := range w * h {
		for k := range px {
			if px[k], err = r.ReadByte(); err != nil {
				t.Fatal(err)
			}
		}
		copy(out.Pix[4*i:], []byte{px[0], px[1], px[2], 255})
	}
	return out
}
