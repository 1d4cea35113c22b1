package doctor

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

const (
	gib = uint64(1) << 30

	littleDisk, tooLittleDisk     = 20 * gib, 2 * gib // a desktop image alone has several GiB
	littleMemory, tooLittleMemory = 8 * gib, 2 * gib  // control plane, a domain controller and desktops of 2 GiB each
	enoughOpenFiles               = 65536             // a gateway holds two connections a session, etcd and desktops' descriptors beside them
	oldestYear                    = 2025              // before this program was written
)

// room measures what there is to use up.
func (e *examiner) room() {
	e.disk()
	e.memory()
	e.openFiles()
	e.settle(Check{Group: GroupRoom, Name: "randomness", Needed: true, Detail: "getrandom answers at once", Remedy: "apt install rng-tools5, or give the virtual machine a virtio-rng device"}, e.Probes.Random())
	now := e.Now()
	c := Check{Group: GroupRoom, Name: "clock", Needed: true, Status: OK, Detail: now.UTC().Format("2006-01-02T15:04:05Z"), Remedy: "set the clock, and keep it so (apt install chrony): signatures and certificates depend on it"}
	if now.UTC().Year() < oldestYear {
		c.Status = Missing
		c.Detail += " lies before this program was written"
	}
	e.add(c)
}

// level is OK, Warning below little, and Missing below tooLittle.
func level(have, little, tooLittle uint64) Status {
	switch {
	case have < tooLittle:
		return Missing
	case have < little:
		return Warning
	}
	return OK
}

func (e *examiner) disk() {
	c := Check{Group: GroupRoom, Name: "disk", Needed: true, Remedy: "free or add space (20 GiB and more), or choose another --state directory"}
	dir, free, err := e.Probes.Disk(e.StateDir)
	if err != nil {
		c.Status, c.Detail = Missing, err.Error()
	} else {
		c.Status, c.Detail = level(free, littleDisk, tooLittleDisk), fmt.Sprintf("%s free at %s", size(free), dir)
	}
	e.add(c)
}

func (e *examiner) memory() {
	c := Check{Group: GroupRoom, Name: "memory", Needed: true, Remedy: "free or add memory: 2 GiB for Carrel and a domain controller, and each desktop's own"}
	text, err := fs.ReadFile(e.Files, "proc/meminfo")
	values := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		if kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 54); err == nil {
			values[key] = kib << 10
		}
	}
	available, ok := values["MemAvailable"]
	switch {
	case err != nil:
		c.Status, c.Detail = Warning, "unknown: "+err.Error()
	case !ok:
		c.Status, c.Detail = Warning, "unknown: /proc/meminfo has no MemAvailable"
	default:
		c.Status, c.Detail = level(available, littleMemory, tooLittleMemory), fmt.Sprintf("%s of %s available", size(available), size(values["MemTotal"]))
	}
	e.add(c)
}

func (e *examiner) openFiles() {
	c := Check{Group: GroupRoom, Name: "open files", Status: OK, Remedy: "LimitNOFILE=1048576 in the service, or raise nofile in /etc/security/limits.conf"}
	hard, err := e.Probes.OpenFiles()
	c.Detail = fmt.Sprintf("up to %d", hard)
	if err != nil {
		c.Status, c.Detail = Warning, "limit unknown: "+err.Error()
	} else if hard < enoughOpenFiles {
		c.Status = Warning
		c.Detail += fmt.Sprintf(", under %d", enoughOpenFiles)
	}
	e.add(c)
}

// size writes a number of bytes in GiB with one decimal.
func size(n uint64) string {
	return fmt.Sprintf("%.1f GiB", float64(n)/float64(gib))
}
