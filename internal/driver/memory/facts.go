package memory

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

// Host reads what the kernel says of itself. What cannot be read counts as the worse: a certificate must not claim what was not seen.
type Host struct {
	// Root is put before /proc, /sys and /boot; empty but in tests.
	Root string
}

func (h Host) read(path string) (string, bool) {
	b, err := os.ReadFile(filepath.Join(h.Root, path))
	return strings.TrimSpace(string(b)), err == nil
}

// Facts gives all facts of the host. Unswappable and CoreDumpsOff are of a block and a process and stay false here.
func (h Host) Facts() driver.HostFacts {
	f := driver.HostFacts{SwapActive: h.swap(), KSMActive: h.merging()}
	release, _ := h.read("/proc/sys/kernel/osrelease")
	version, _ := h.read("/proc/sys/kernel/version")
	f.Kernel = strings.TrimSpace(release + " " + version)
	f.InitOnFree = h.setting("init_on_free", "CONFIG_INIT_ON_FREE_DEFAULT_ON", release)
	f.InitOnAlloc = h.setting("init_on_alloc", "CONFIG_INIT_ON_ALLOC_DEFAULT_ON", release)
	return f
}

// Boot names this boot of the host; memory of another one does not exist any more.
func (h Host) Boot() string {
	id, _ := h.read("/proc/sys/kernel/random/boot_id")
	return id
}

// setting is a kernel parameter, or the default that the kernel was built with. Of several the last counts, as in the kernel.
func (h Host) setting(parameter, config, release string) bool {
	line, _ := h.read("/proc/cmdline")
	value, found := "", false
	for _, word := range strings.Fields(line) {
		if word == "--" { // What follows is for the first process.
			break
		}
		name, v, ok := strings.Cut(word, "=")
		if ok && strings.ReplaceAll(name, "-", "_") == parameter {
			value, found = strings.Trim(v, `"`), true
		}
	}
	if on, ok := kernelBool(value); found && ok {
		return on
	}
	return h.built(config, release)
}

// kernelBool is the kernel's own kstrtobool.
func kernelBool(s string) (on, ok bool) {
	switch {
	case s == "":
		return false, false
	case strings.ContainsRune("yYtT1", rune(s[0])), len(s) > 1 && strings.EqualFold(s[:2], "on"):
		return true, true
	case strings.ContainsRune("nNfF0", rune(s[0])), len(s) > 2 && strings.EqualFold(s[:3], "off"):
		return false, true
	}
	return false, false
}

// built tells whether the running kernel was built with an option.
func (h Host) built(option, release string) bool {
	want := []byte("\n" + option + "=y\n")
	if f, err := os.Open(filepath.Join(h.Root, "/proc/config.gz")); err == nil {
		defer func() { _ = f.Close() }()
		if z, err := gzip.NewReader(f); err == nil {
			b, err := io.ReadAll(io.LimitReader(z, 4<<20))
			if err == nil {
				return bytes.Contains(b, want)
			}
		}
	}
	if release == "" || strings.ContainsRune(release, '/') {
		return false
	}
	b, _ := h.read("/boot/config-" + release)
	return bytes.Contains([]byte("\n"+b+"\n"), want)
}

// swap: some swap device or file is in use.
func (h Host) swap() bool {
	s, ok := h.read("/proc/swaps")
	return !ok || strings.Count(s, "\n") > 0 // The first line is the heading.
}

// merging: the kernel merges equal pages, or still has some that it merged.
func (h Host) merging() bool {
	run, ok := h.read("/sys/kernel/mm/ksm/run")
	if !ok {
		_, err := os.Stat(filepath.Join(h.Root, "/sys/kernel/mm"))
		return err != nil // Without the directory nothing is known; with it, this kernel has no KSM.
	}
	shared, _ := h.read("/sys/kernel/mm/ksm/pages_shared")
	return run == "1" || run != "2" && shared != "0"
}

// CoreDumpsOff tells whether the kernel would not write a core dump of that process: it is undumpable, or its size limit is too small for one and cannot
// be raised. A file is never begun that must be smaller than a page (fs/coredump.c, min_coredump). A program that takes dumps (core_pattern "|") gets
// them whatever the limit is, but for the limit 1, which means "not to a program" (core(5)). Nothing of the kind is said of a socket that takes them.
func (h Host) CoreDumpsOff(pid int) bool {
	if h.undumpable(pid) {
		return true
	}
	pattern, ok := h.read("/proc/sys/kernel/core_pattern")
	if !ok || strings.HasPrefix(pattern, "@") {
		return false
	}
	piped := strings.HasPrefix(pattern, "|")
	limits, _ := h.read(fmt.Sprintf("/proc/%d/limits", pid))
	for line := range strings.Lines(limits) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			f := strings.Fields(rest)
			if len(f) < 2 || f[1] != "0" && f[1] != "1" {
				return false
			}
			return f[0] == "1" || f[0] == "0" && !piped
		}
	}
	return false
}

// undumpable: the kernel gives the files in /proc/PID of an undumpable process to root. Of root's own processes this tells nothing.
func (h Host) undumpable(pid int) bool {
	dir := fmt.Sprintf("/proc/%d", pid)
	var st unix.Stat_t
	if unix.Stat(filepath.Join(h.Root, dir, "maps"), &st) != nil || st.Uid != 0 {
		return false
	}
	status, _ := h.read(dir + "/status")
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			f := strings.Fields(rest)
			return len(f) == 4 && f[1] != "0"
		}
	}
	return false
}

// MemoryLock is how many bytes this process may lock into memory; -1 is no limit.
func (h Host) MemoryLock() int64 {
	limits, _ := h.read("/proc/self/limits")
	for line := range strings.Lines(limits) {
		if rest, ok := strings.CutPrefix(line, "Max locked memory"); ok {
			f := strings.Fields(rest)
			if len(f) > 0 && f[0] == "unlimited" {
				return -1
			}
			if len(f) > 0 {
				n, _ := strconv.ParseInt(f[0], 10, 64)
				return n
			}
		}
	}
	return 0
}
