package doctor

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"carrel/internal/firewall"
)

const (
	flagsLine = "processor\t: 0\nflags\t\t: fpu hypervisor svm sse\n"
	swapsHead = "Filename\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func gzipped(t *testing.T, text string) *fstest.MapFile {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return file(b.String())
}

// machine is a machine on paper: its files, and what probes on it come to.
type machine struct {
	files   fstest.MapFS
	probes  Probes
	now     time.Time
	ran     []string          // probes that ran, in order
	install map[string]string // programs and their versions
	devices map[string]string
	// obstacles and unreadable are what the look at the firewall gives.
	obstacles  []firewall.Obstacle
	unreadable error
}

// wellMachine is one with nothing to complain about.
func wellMachine(t *testing.T) *machine {
	m := &machine{
		now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC),
		install: map[string]string{"qemu-system-x86_64": "QEMU emulator version 7.2.9\nCopyright", "qemu-img": "qemu-img version 7.2.9",
			"samba": "Version 4.17.12", "python3": "Python 3.11.2", "pasta": "pasta 0.0~git20230309", "aws": "aws-cli/2.31.1"},
		devices: map[string]string{deviceTap: "", deviceVeth: "", deviceVXLAN: "", deviceBridge: "", deviceNftables: ""},
		files: fstest.MapFS{
			"proc/cpuinfo":                     file(flagsLine),
			"proc/cmdline":                     file("quiet init_on_free=1\n"),
			"proc/config.gz":                   gzipped(t, "#\nCONFIG_INIT_ON_ALLOC_DEFAULT_ON=y\n# CONFIG_INIT_ON_FREE_DEFAULT_ON is not set\n"),
			"proc/meminfo":                     file("MemTotal:       33554432 kB\nMemAvailable:   16777216 kB\nHugePages_Total:       0\n"),
			"proc/swaps":                       file(swapsHead),
			"proc/self/cgroup":                 file("0::/system.slice/carrel.service\n"),
			"proc/sys/kernel/core_pattern":     file("core\n"),
			"proc/sys/kernel/osrelease":        file("6.10.1\n"),
			"boot/vmlinuz-6.9.3":               file("kernel"),
			"boot/vmlinuz-6.10.1":              file("kernel"),
			"sys/kernel/mm/ksm/run":            file("0\n"),
			"sys/fs/cgroup/cgroup.controllers": file("cpuset cpu io memory pids\n"),
			"sys/fs/cgroup/system.slice/carrel.service/cgroup.controllers": file("cpu io memory pids\n"),
			"sys/devices/system/cpu/smt/active":                            file("0\n"),
			"sys/devices/system/cpu/vulnerabilities/mds":                   file("Not affected\n"),
			"sys/devices/system/cpu/vulnerabilities/spectre_v2":            file("Mitigation: Retpolines\n"),
		},
	}
	fine := func(name string) error { m.ran = append(m.ran, name); return nil }
	m.probes = Probes{
		KVMVersion:   func() (int, error) { return 12, fine("kvm") },
		Guest:        func(context.Context) error { return fine("guest") },
		Boot:         func(_ context.Context, qemu, kernel string) error { return fine("boot " + qemu + " " + kernel) },
		Namespaces:   func(context.Context) error { return fine("namespaces") },
		Unprivileged: func(context.Context) error { return fine("unprivileged") },
		Devices:      func(context.Context) (map[string]string, error) { return m.devices, fine("devices") },
		Memfd:        func() error { return fine("memfd") },
		Landlock:     func() (int, error) { return 7, fine("landlock") },
		Seccomp:      func() error { return fine("seccomp") },
		Writable:     func(file string) error { return fine("write " + file) },
		Lookup: func(program string) (string, error) {
			if m.install[program] == "" {
				return "", errors.New("executable file not found in $PATH")
			}
			return "/usr/bin/" + program, nil
		},
		Version: func(_ context.Context, file, _ string) (string, error) {
			return m.install[strings.TrimPrefix(file, "/usr/bin/")], nil
		},
		Disk:      func(string) (string, uint64, error) { return "/var/lib", 100 * gib, nil },
		OpenFiles: func() (uint64, error) { return 1 << 20, nil },
		Firewall:  func() ([]firewall.Obstacle, error) { return m.obstacles, m.unreadable },
		Random:    func() error { return fine("random") },
	}
	return m
}

func (m *machine) examine() Report {
	return Examine(context.Background(), Options{StateDir: "/var/lib/carrel", Files: m.files, Probes: m.probes, Now: func() time.Time { return m.now }})
}

func find(t *testing.T, r Report, name string) Check {
	t.Helper()
	for _, c := range r.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no line %q in %v", name, r.Checks)
	return Check{}
}

func TestAWellMachineHasNothingToRemedy(t *testing.T) {
	m := wellMachine(t)
	r := m.examine()
	for _, c := range r.Checks {
		if c.Status != OK || c.Remedy != "" || c.Detail == "" || c.Name == "" || c.Group == "" {
			t.Errorf("got %+v", c)
		}
	}
	if !r.KVM || len(r.Lacks()) != 0 {
		t.Errorf("got KVM %v, lacks %v", r.KVM, r.Lacks())
	}
	if want := "boot /usr/bin/qemu-system-x86_64 /boot/vmlinuz-6.10.1"; !strings.Contains(strings.Join(m.ran, "\n"), want) {
		t.Errorf("ran %q, without %q", m.ran, want)
	}
	if want := "write /sys/fs/cgroup/system.slice/carrel.service/cgroup.subtree_control"; !strings.Contains(strings.Join(m.ran, "\n"), want) {
		t.Errorf("ran %q, without %q", m.ran, want)
	}
}

func TestVirtualisationVerdict(t *testing.T) {
	hang := func(context.Context) error { return errDeadline }
	for _, tc := range []struct {
		name    string
		with    func(*machine)
		kvm     bool
		failing string // the line that says why
		status  Status
		verdict string // in the verdict's line
		boots   bool
	}{
		{"is usable after every stage", func(*machine) {}, true, "", "", "KVM usable", true},
		{"knows Intel's flag too", func(m *machine) { m.files["proc/cpuinfo"] = file("flags: vmx\n") }, true, "", "", "KVM usable", true},
		{"is software without a processor flag, though device and guest work", func(m *machine) { m.files["proc/cpuinfo"] = file("flags: fpu hypervisor\n") }, false, "processor support", Missing, "failed: processor support", false},
		{"does not take a name that contains svm for the flag", func(m *machine) { m.files["proc/cpuinfo"] = file("flags: svm_lock\nbugs: svm\n") }, false, "processor support", Missing, "failed: processor support", false},
		{"is software without cpuinfo", func(m *machine) { delete(m.files, "proc/cpuinfo") }, false, "processor support", Missing, "failed: processor support", false},
		{"is software without a device", func(m *machine) { m.probes.KVMVersion = func() (int, error) { return 0, fs.ErrNotExist } }, false, "/dev/kvm", Missing, "failed: /dev/kvm", false},
		{"is software when the device may not be opened", func(m *machine) { m.probes.KVMVersion = func() (int, error) { return 0, fs.ErrPermission } }, false, "/dev/kvm", Missing, "failed: /dev/kvm", false},
		{"is software with an unknown API", func(m *machine) { m.probes.KVMVersion = func() (int, error) { return 11, nil } }, false, "/dev/kvm", Missing, "failed: /dev/kvm", false},
		{"is software when the probe guest hangs", func(m *machine) { m.probes.Guest = hang }, false, "probe guest", Missing, "failed: probe guest", false},
		{"is software when an ordinary kernel hangs, though the probe guest ran", func(m *machine) { m.probes.Boot = func(context.Context, string, string) error { return errDeadline } }, false, "ordinary kernel", Missing, "failed: ordinary kernel", false},
		{"says that no ordinary kernel was booted without QEMU", func(m *machine) { delete(m.install, "qemu-system-x86_64") }, true, "ordinary kernel", Warning, "no ordinary kernel was booted", false},
		{"says that no ordinary kernel was booted without an image", func(m *machine) { delete(m.files, "boot/vmlinuz-6.9.3"); delete(m.files, "boot/vmlinuz-6.10.1") }, true, "ordinary kernel", Warning, "no ordinary kernel was booted", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := wellMachine(t)
			tc.with(m)
			r := m.examine()
			verdict := find(t, r, "verdict")
			if r.KVM != tc.kvm || !strings.Contains(verdict.Detail, tc.verdict) || (verdict.Status == OK) != tc.kvm {
				t.Errorf("got KVM %v, %+v", r.KVM, verdict)
			}
			if tc.failing != "" {
				if c := find(t, r, tc.failing); c.Status != tc.status || c.Remedy == "" {
					t.Errorf("got %+v", c)
				}
			}
			if booted := strings.Contains(strings.Join(m.ran, "\n"), "boot "); booted != tc.boots {
				t.Errorf("an ordinary kernel was booted: %v", booted)
			}
			if len(r.Lacks()) > 1 || len(r.Lacks()) == 1 && r.Lacks()[0].Name != "qemu-system-x86_64" {
				t.Errorf("software emulation runs desktops, but lacking are %v", r.Lacks())
			}
		})
	}
}

func TestUnreadableKernelsAreNotBooted(t *testing.T) {
	m := wellMachine(t)
	r := Examine(context.Background(), Options{Files: sealedBoot{m.files}, Probes: m.probes})
	if c := find(t, r, "ordinary kernel"); c.Status != Warning || !strings.Contains(c.Detail, "can be read by user") {
		t.Errorf("got %+v", c)
	}
}

// sealedBoot is a file system whose kernel images only root may read, as Ubuntu has them.
type sealedBoot struct{ fstest.MapFS }

func (s sealedBoot) Open(name string) (fs.File, error) {
	if strings.HasPrefix(name, "boot/vmlinuz") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return s.MapFS.Open(name)
}

// VMM-6: memory merging, swap, dumps, threads that share a core and open vulnerabilities are among what is looked for and reported.
func TestOneThingWrong(t *testing.T) {
	broken := errors.New("broken")
	for _, tc := range []struct {
		name   string
		with   func(*machine)
		line   string
		status Status
		detail string
		lacks  bool // real desktops do not run
	}{
		{"namespaces that cannot be entered stop desktops", func(m *machine) { m.probes.Namespaces = func(context.Context) error { return broken } }, "namespaces", Missing, "broken", true},
		{"user namespaces for root only are a warning", func(m *machine) { m.probes.Unprivileged = func(context.Context) error { return broken } }, "unprivileged user namespaces", Warning, "broken", false},
		{"seals that do not hold stop desktops", func(m *machine) { m.probes.Memfd = func() error { return broken } }, "memfd seals", Missing, "broken", true},
		{"no Landlock stops desktops", func(m *machine) { m.probes.Landlock = func() (int, error) { return 0, broken } }, "Landlock", Missing, "broken", true},
		{"an old Landlock is a warning", func(m *machine) { m.probes.Landlock = func() (int, error) { return 3, nil } }, "Landlock", Warning, "ABI version 3", false},
		{"no seccomp stops desktops", func(m *machine) { m.probes.Seccomp = func() error { return broken } }, "seccomp", Missing, "broken", true},
		{"no tap device stops desktops", func(m *machine) { m.devices[deviceTap] = "broken" }, "tap device", Missing, "broken", true},
		{"no VXLAN stops desktops", func(m *machine) { m.devices[deviceVXLAN] = "broken" }, "vxlan", Missing, "broken", true},
		{"no nftables stop desktops", func(m *machine) { m.devices[deviceNftables] = "broken" }, "nftables", Missing, "broken", true},
		{"a firewall that drops what it forwards", func(m *machine) {
			m.obstacles = []firewall.Obstacle{{Chain: "ip filter FORWARD", Why: "its policy is to drop"}}
		}, "firewall", Warning,
			"ip filter FORWARD: its policy is to drop", false},
		{"a firewall that cannot be read", func(m *machine) { m.unreadable = errors.New("operation not permitted") }, "firewall", Warning, "operation not permitted", false},
		{"no bridge is nothing that desktops need", func(m *machine) { m.devices[deviceBridge] = "broken" }, "bridge", Missing, "broken", false},
		{"a device that was not tried is not called well", func(m *machine) { delete(m.devices, deviceVeth) }, "veth", Warning, "not tested", false},
		{"devices without rights are untested", func(m *machine) {
			m.probes.Devices = func(context.Context) (map[string]string, error) { return nil, broken }
		}, "veth", Warning, "not tested: broken", false},
		{"no unified hierarchy is a warning", func(m *machine) { delete(m.files, "sys/fs/cgroup/cgroup.controllers") }, "cgroup v2", Warning, "no unified hierarchy", false},
		{"a hybrid hierarchy without controllers is a warning", func(m *machine) {
			delete(m.files, "sys/fs/cgroup/cgroup.controllers")
			m.files["sys/fs/cgroup/unified/cgroup.controllers"] = file("\n")
			m.files["proc/self/cgroup"] = file("2:cpu:/x\n0::/\n")
		}, "cgroup v2", Warning, "no controller for cpu, io, memory, pids", false},
		{"a process outside of the hierarchy is a warning", func(m *machine) { m.files["proc/self/cgroup"] = file("2:cpu:/x\n") }, "cgroup v2", Warning, "in no group", false},
		{"a missing controller is a warning", func(m *machine) {
			m.files["sys/fs/cgroup/system.slice/carrel.service/cgroup.controllers"] = file("cpu memory pids\n")
		}, "cgroup v2", Warning, "no controller for io", false},
		{"controllers that were not delegated are a warning", func(m *machine) { m.probes.Writable = func(string) error { return broken } }, "cgroup v2", Warning, "not delegated: broken", false},
		{"KSM is a warning", func(m *machine) { m.files["sys/kernel/mm/ksm/run"] = file("1\n") }, "memory merging (KSM)", Warning, "on", false},
		{"swap on a disk is a warning", func(m *machine) { m.files["proc/swaps"] = file(swapsHead + "/dev/sda2 partition 100 0 -2\n") }, "swap", Warning, "/dev/sda2", false},
		{"swap in compressed memory is none on a disk", func(m *machine) { m.files["proc/swaps"] = file(swapsHead + "/dev/zram0 partition 100 0 -2\n") }, "swap", OK, "none on a disk", false},
		{"pages that are not cleared are a warning", func(m *machine) { m.files["proc/cmdline"] = file("quiet\n") }, "init_on_free", Warning, "off by the kernel's configuration", false},
		{"the command line wins over the configuration", func(m *machine) { m.files["proc/cmdline"] = file("init_on_alloc=0\n") }, "init_on_alloc", Warning, "off by the kernel's command line", false},
		{"a configuration under /boot is read first", func(m *machine) { m.files["boot/config-6.10.1"] = file("#\n") }, "init_on_alloc", Warning, "off by the kernel's configuration", false},
		{"an unknown configuration is a warning", func(m *machine) { delete(m.files, "proc/config.gz") }, "init_on_alloc", Warning, "cannot be read", false},
		{"a configuration that is not gzip is unknown", func(m *machine) { m.files["proc/config.gz"] = file("junk") }, "init_on_alloc", Warning, "cannot be read", false},
		{"dumps to a program are a warning", func(m *machine) {
			m.files["proc/sys/kernel/core_pattern"] = file("|/usr/share/apport/apport %p\n")
		}, "crash dumps", Warning, "apport", false},
		{"dumps to nowhere are well", func(m *machine) { m.files["proc/sys/kernel/core_pattern"] = file("|/bin/false\n") }, "crash dumps", OK, "false", false},
		{"an open vulnerability is a warning", func(m *machine) {
			m.files["sys/devices/system/cpu/vulnerabilities/mds"] = file("Vulnerable: Clear CPU buffers attempted, no microcode\n")
		}, "processor vulnerabilities", Warning, "open: mds", false},
		{"a vulnerability open to guests is a warning", func(m *machine) {
			m.files["sys/devices/system/cpu/vulnerabilities/itlb_multihit"] = file("KVM: Vulnerable\n")
		}, "processor vulnerabilities", Warning, "open: itlb_multihit", false},
		{"a kernel that does not tell is a warning", func(m *machine) {
			delete(m.files, "sys/devices/system/cpu/vulnerabilities/mds")
			delete(m.files, "sys/devices/system/cpu/vulnerabilities/spectre_v2")
		}, "processor vulnerabilities", Warning, "does not tell", false},
		{"threads that share a core are a warning", func(m *machine) { m.files["sys/devices/system/cpu/smt/active"] = file("1\n") }, "hyper-threading (SMT)", Warning, "on", false},
		{"no QEMU stops desktops", func(m *machine) { delete(m.install, "qemu-system-x86_64") }, "qemu-system-x86_64", Missing, "not installed", true},
		{"no qemu-img stops desktops", func(m *machine) { delete(m.install, "qemu-img") }, "qemu-img", Missing, "not installed", true},
		{"no Samba stops desktops", func(m *machine) { delete(m.install, "samba") }, "samba", Missing, "not installed", true},
		{"no Python stops desktops", func(m *machine) { delete(m.install, "python3") }, "python3", Missing, "not installed", true},
		{"no pasta is nothing that desktops need", func(m *machine) { delete(m.install, "pasta") }, "pasta", Missing, "not installed", false},
		{"no AWS CLI is nothing that desktops need", func(m *machine) { delete(m.install, "aws") }, "aws", Missing, "not installed", false},
		{"an old AWS CLI is a warning", func(m *machine) { m.install["aws"] = "aws-cli/2.9.19 Python/3.11.2" }, "aws", Warning, "knows neither endpoint_url nor ds-data", false},
		{"a program that does not run counts as missing", func(m *machine) {
			m.probes.Version = func(context.Context, string, string) (string, error) { return "", broken }
		}, "qemu-img", Missing, "does not run: broken", true},
		{"no nft is nothing that desktops need: the kernel is spoken to directly", func(m *machine) { delete(m.install, "nft") }, "nftables", OK, "", false},
		{"a full disk stops desktops", func(m *machine) { m.probes.Disk = func(string) (string, uint64, error) { return "/", gib, nil } }, "disk", Missing, "1.0 GiB free at /", true},
		{"a small disk is a warning", func(m *machine) { m.probes.Disk = func(string) (string, uint64, error) { return "/", 20*gib - 1, nil } }, "disk", Warning, "20.0 GiB free", false},
		{"a state directory that cannot be measured stops desktops", func(m *machine) { m.probes.Disk = func(string) (string, uint64, error) { return "", 0, broken } }, "disk", Missing, "broken", true},
		{"little memory stops desktops", func(m *machine) { m.files["proc/meminfo"] = file("MemTotal: 2097152 kB\nMemAvailable: 1048576 kB\n") }, "memory", Missing, "1.0 GiB of 2.0 GiB", true},
		{"a modest memory is a warning", func(m *machine) { m.files["proc/meminfo"] = file("MemAvailable: 4194304 kB\n") }, "memory", Warning, "4.0 GiB", false},
		{"unknown memory is a warning", func(m *machine) { m.files["proc/meminfo"] = file("MemAvailable: many\n") }, "memory", Warning, "unknown", false},
		{"no meminfo is a warning", func(m *machine) { delete(m.files, "proc/meminfo") }, "memory", Warning, "unknown", false},
		{"few open files are a warning", func(m *machine) { m.probes.OpenFiles = func() (uint64, error) { return 1024, nil } }, "open files", Warning, "up to 1024", false},
		{"no randomness stops desktops", func(m *machine) { m.probes.Random = func() error { return broken } }, "randomness", Missing, "broken", true},
		{"a clock in the past stops desktops", func(m *machine) { m.now = time.Date(2024, 12, 31, 23, 59, 59, 0, time.UTC) }, "clock", Missing, "2024-12-31T23:59:59Z", true},
		{"the first second of 2025 is a sane clock", func(m *machine) { m.now = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC) }, "clock", OK, "2025-01-01T00:00:00Z", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := wellMachine(t)
			tc.with(m)
			r := m.examine()
			c := find(t, r, tc.line)
			if c.Status != tc.status || !strings.Contains(c.Detail, tc.detail) || (c.Remedy == "") != (tc.status == OK) {
				t.Errorf("got %+v", c)
			}
			lacking := false
			for _, l := range r.Lacks() {
				lacking = lacking || l.Name == tc.line
			}
			if lacking != tc.lacks {
				t.Errorf("desktops lack it: %v, want %v", lacking, tc.lacks)
			}
		})
	}
}

func TestReportForPeople(t *testing.T) {
	m := wellMachine(t)
	delete(m.install, "samba")
	m.probes.Guest = func(context.Context) error { return errors.New("its last words: \x1b[2Jgone\n") }
	var b strings.Builder
	if err := m.examine().Write(&b); err != nil {
		t.Fatal(err)
	}
	out := b.String()
	for _, want := range []string{"\nkernel\n", "missing  samba", "-> apt install samba-ad-dc", "software emulation (TCG)", "it lacks: samba."} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.ContainsAny(out, "\x1b") {
		t.Error("a probe's output steers the terminal")
	}
	b.Reset()
	if err := wellMachine(t).examine().Write(&b); err != nil || !strings.Contains(b.String(), "can run real desktops, on KVM.") || strings.Contains(b.String(), "->") {
		t.Errorf("got %v\n%s", err, b.String())
	}
}

func TestReportAsJSON(t *testing.T) {
	m := wellMachine(t)
	delete(m.install, "python3")
	text, err := json.Marshal(m.examine())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"kvmUsable":true`, `{"group":"programs","name":"python3","status":"missing","detail":"not installed (sets up managed directories)","remedy":"apt install python3","neededForDesktops":true}`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
}

func TestDesktopsWithoutRoot(t *testing.T) {
	m := wellMachine(t)
	for _, c := range []struct {
		name     string
		rootless func(context.Context) error
		status   Status
		detail   string
		remedy   string
	}{
		{"is not asked of root", nil, OK, "this is root", ""},
		{"is well when it can be done", func(context.Context) error { return nil }, OK, "ids of their own", ""},
		{"is a warning with what to do when it cannot", func(context.Context) error { return errors.New("/etc/subuid: gives this user 0 ids") }, Warning, "gives this user 0 ids", "apt install uidmap"},
		{"has a deadline", func(ctx context.Context) error { _, ok := ctx.Deadline(); return fmt.Errorf("deadline %v", ok) }, Warning, "deadline true", "sudo"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Examine(context.Background(), Options{StateDir: "/var/lib/carrel", Files: m.files, Probes: m.probes, Now: func() time.Time { return m.now }, Rootless: c.rootless})
			got := find(t, r, "desktops without root")
			if got.Status != c.status || !strings.Contains(got.Detail, c.detail) || !strings.Contains(got.Remedy, c.remedy) || got.Needed || (got.Remedy == "") != (c.remedy == "") {
				t.Errorf("got %+v", got)
			}
		})
	}
}
