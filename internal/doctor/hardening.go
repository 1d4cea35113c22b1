package doctor

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// maxConfig bounds the unpacked kernel configuration; real ones have under 400 KiB.
const maxConfig = 4 << 20

// hardening looks at settings that decide how well desktops are kept from one another, and guest memory from disks.
func (e *examiner) hardening() {
	e.ksm()
	e.swap()
	e.initOn("init_on_alloc", "INIT_ON_ALLOC_DEFAULT_ON")
	e.initOn("init_on_free", "INIT_ON_FREE_DEFAULT_ON")
	e.corePattern()
	e.vulnerabilities()
	e.smt()
}

// line reads a file of one line. It is empty when there is none.
func (e *examiner) line(name string) string {
	text, err := fs.ReadFile(e.Files, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// warn adds a line that is well unless warned is true.
func (e *examiner) warn(name string, warned bool, detail, remedy string) {
	c := Check{Group: GroupHardening, Name: name, Status: OK, Detail: detail, Remedy: remedy}
	if warned {
		c.Status = Warning
	}
	e.add(c)
}

func (e *examiner) ksm() {
	on := e.line("sys/kernel/mm/ksm/run") == "1"
	detail := "off"
	if on {
		detail = "on: equal pages of desktops are merged, and the time of a write tells one what another holds"
	}
	e.warn("memory merging (KSM)", on, detail, "echo 2 > /sys/kernel/mm/ksm/run, and disable ksmtuned")
}

func (e *examiner) swap() {
	var areas []string
	first := true
	for line := range strings.Lines(e.line("proc/swaps")) {
		fields := strings.Fields(line)
		if first || len(fields) == 0 {
			first = false // the heading
			continue
		}
		if !strings.HasPrefix(path.Base(fields[0]), "zram") { // that swap stays in memory
			areas = append(areas, fields[0])
		}
	}
	detail := "none on a disk"
	if len(areas) > 0 {
		detail = "active on " + strings.Join(areas, ", ") + ": what is not locked in memory may come to lie there"
	}
	e.warn("swap", len(areas) > 0, detail, "swapoff -a and take it out of /etc/fstab, or encrypt it with a key that lives for one boot")
}

// initOn finds a setting of the page allocator: the command line wins over the kernel's configuration.
func (e *examiner) initOn(parameter, option string) {
	on, where := e.kernelDefault(option)
	for _, field := range strings.Fields(e.line("proc/cmdline")) {
		if value, ok := strings.CutPrefix(field, parameter+"="); ok {
			switch strings.ToLower(value) {
			case "1", "y", "yes", "on", "t", "true":
				on = true
			default:
				on = false
			}
			where = "by the kernel's command line"
		}
	}
	detail := "off " + where
	if on {
		detail = "on " + where
	}
	e.warn(parameter, !on, detail, "add "+parameter+"=1 to the kernel's command line: the kernel then leaves no old contents in pages")
}

// kernelDefault reads a boolean option of the running kernel's configuration.
func (e *examiner) kernelDefault(option string) (on bool, where string) {
	text, err := fs.ReadFile(e.Files, "boot/config-"+e.line("proc/sys/kernel/osrelease"))
	if err != nil {
		text, err = e.packedConfig()
	}
	if err != nil {
		return false, "as far as is known: the kernel's configuration cannot be read"
	}
	return bytes.Contains(text, []byte("\nCONFIG_"+option+"=y\n")), "by the kernel's configuration"
}

func (e *examiner) packedConfig() ([]byte, error) {
	f, err := e.Files.Open("proc/config.gz")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(unpacked, maxConfig))
}

// corePattern judges where dumps go. A pipe matters: core(5), a size limit of 0 does not stop dumps that go to a program.
func (e *examiner) corePattern() {
	pattern := e.line("proc/sys/kernel/core_pattern")
	piped := strings.HasPrefix(pattern, "|") && pattern != "|/bin/false"
	detail := fmt.Sprintf("core_pattern is %q", pattern)
	if piped {
		detail += ": a program gets the memory of what crashes, whatever the size limit says"
	}
	e.warn("crash dumps", piped, detail, "sysctl kernel.core_pattern='|/bin/false', and remove apport or systemd-coredump")
}

func (e *examiner) vulnerabilities() {
	const dir = "sys/devices/system/cpu/vulnerabilities"
	entries, err := fs.ReadDir(e.Files, dir)
	if err != nil || len(entries) == 0 {
		e.warn("processor vulnerabilities", true, "the kernel does not tell (/"+dir+")", "use Linux 4.15 or newer, with sysfs mounted")
		return
	}
	var open []string
	for _, entry := range entries {
		if state := e.line(path.Join(dir, entry.Name())); strings.HasPrefix(state, "Vulnerable") || strings.Contains(state, "KVM: Vulnerable") {
			open = append(open, entry.Name())
		}
	}
	detail := fmt.Sprintf("none open of %d known to the kernel", len(entries))
	if len(open) > 0 {
		detail = "open: " + strings.Join(open, ", ")
	}
	e.warn("processor vulnerabilities", len(open) > 0, detail, "install current microcode (apt install intel-microcode amd64-microcode) and kernel, and boot without mitigations=off")
}

func (e *examiner) smt() {
	on := e.line("sys/devices/system/cpu/smt/active") == "1"
	detail := "off, or the processor has none"
	if on {
		detail = "on: two desktops may share a core and its caches at the same time"
	}
	e.warn("hyper-threading (SMT)", on, detail, "echo off > /sys/devices/system/cpu/smt/control, or boot with nosmt or mitigations=auto,nosmt")
}
