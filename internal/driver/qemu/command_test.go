package qemu

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"carrel/internal/driver"
)

// null is an open file that stands for any.
func null(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func machineOf(t *testing.T) *hardware {
	return &hardware{id: "ws-000000001", size: Size{Processors: 2, Memory: 512 << 20}, accel: TCG, ram: null(t), monitor: null(t), agent: null(t), session: null(t), generation: "3ab2d7f0-0000-4000-8000-000000000001",
		image:   &driver.OpenImage{Firmware: driver.FirmwareDirect, Kernel: null(t), Initrd: null(t), CommandLine: "root=/dev/vda ro,x=\"y\" quiet"},
		root:    &driver.OpenVolume{File: null(t), Backing: []*os.File{null(t), null(t)}},
		user:    &driver.OpenVolume{File: null(t)},
		rootKey: null(t), userKey: null(t),
		tap: &driver.Tap{File: null(t), MTU: 1500, NIC: driver.NIC{MAC: "02:00:00:00:00:01"}}}
}

// VMM-1: what is on the command line is what the machine has, and each thing on it is meant.
func TestVMM1TheCommandLineHasNothingThatWasNotAskedFor(t *testing.T) {
	c := machineOf(t).build()
	line := strings.Join(c.args, " ")
	for _, want := range []string{"-nodefaults", "-no-user-config", "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", "-vnc none", "dump-guest-core=off", "sata=off", "tb-size=128"} {
		if !strings.Contains(line, want) {
			t.Errorf("%s is missing", want)
		}
	}
	for _, never := range []string{"user,", "slirp", "usb", "floppy", "scsi", "virgl", "listen", "server=on", "path=/", "tcp:", "telnet", "-monitor", "gdb", "-hda", "-drive", "/dev/mem", "hpet=on"} {
		if strings.Contains(strings.ReplaceAll(line, "usb=off", ""), never) {
			t.Errorf("%s is there: %s", never, line)
		}
	}
	devices := 0
	for i, a := range c.args {
		if a == "-device" {
			devices++
			var d map[string]any
			if err := json.Unmarshal([]byte(c.args[i+1]), &d); err != nil {
				t.Errorf("%s: %v", c.args[i+1], err)
			}
		}
	}
	if devices != 13 {
		t.Errorf("%d devices", devices)
	}
}

// Every file is spoken of by the number it is passed under, and opened in the form that QEMU has for it.
func TestFilesAreNumberedInTheOrderTheyArePassed(t *testing.T) {
	h := machineOf(t)
	c := h.build()
	line := strings.Join(c.args, " ")
	for f, use := range map[*os.File]string{h.ram: `"mem-path":"/proc/self/fd/%d"`, h.image.Kernel: "-kernel /proc/self/fd/%d", h.image.Initrd: "-initrd /proc/self/fd/%d",
		h.monitor: "socket,id=monitor,fd=%d", h.agent: "socket,id=agent,fd=%d", h.session: "socket,id=session,fd=%d", h.tap.File: `"fd":"%d"`, h.root.File: "/dev/fdset/%d", h.user.File: "/dev/fdset/%d",
		h.root.Backing[0]: "/dev/fdset/%d", h.root.Backing[1]: "/dev/fdset/%d", h.rootKey: `"file":"/proc/self/fd/%d"`, h.userKey: `"file":"/proc/self/fd/%d"`} {
		at := slices.Index(c.files, f)
		if want := strings.ReplaceAll(use, "%d", itoa(firstFile+at)); at < 0 || !strings.Contains(line, want) {
			t.Errorf("%s is not there", want)
		}
	}
	if len(c.files) != 13 {
		t.Errorf("%d files", len(c.files))
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// VMM-4: a text is one argument or one JSON value, whatever is in it.
func TestVMM4TextsAreValuesAndNeverSyntax(t *testing.T) {
	h := machineOf(t)
	h.image.CommandLine = "quiet,accel=kvm -device usb-host \"\n"
	h.tap.NIC.MAC = "02:00:00:00:00:01\",\"driver\":\"usb-host"
	c := h.build()
	at := slices.Index(c.args, "-append")
	if c.args[at+1] != h.image.CommandLine {
		t.Errorf("%q", c.args[at+1])
	}
	for i, a := range c.args {
		if a != "-device" {
			continue
		}
		var d map[string]any
		if err := json.Unmarshal([]byte(c.args[i+1]), &d); err != nil || d["driver"] == "usb-host" {
			t.Errorf("%s: %v", c.args[i+1], err)
		}
	}
}

// A disk's format is said for each layer; nothing is found out from what a guest has written, and nothing under it is opened by name.
func TestNoDiskIsProbedOrOpenedByName(t *testing.T) {
	c := machineOf(t).build()
	nodes := 0
	for i, a := range c.args {
		if a != "-blockdev" {
			continue
		}
		nodes++
		var n struct {
			Driver  string          `json:"driver"`
			Backing json.RawMessage `json:"backing"`
			File    struct {
				Driver   string `json:"driver"`
				Filename string `json:"filename"`
				ReadOnly bool   `json:"read-only"`
			} `json:"file"`
			ReadOnly bool `json:"read-only"`
		}
		if err := json.Unmarshal([]byte(c.args[i+1]), &n); err != nil {
			t.Fatal(err)
		}
		if n.Driver != "qcow2" || n.File.Driver != "file" || !strings.HasPrefix(n.File.Filename, "/dev/fdset/") || n.Backing == nil || n.ReadOnly != n.File.ReadOnly {
			t.Errorf("%s", c.args[i+1])
		}
	}
	if nodes != 4 {
		t.Errorf("%d nodes", nodes)
	}
}

func TestAMachineThatResumesWaitsForItsState(t *testing.T) {
	h := machineOf(t)
	if slices.Contains(h.build().args, "-incoming") {
		t.Error("a new machine waits")
	}
	h.incoming = true
	if !strings.Contains(strings.Join(h.build().args, " "), "-incoming defer") {
		t.Error("it does not")
	}
	h.accel = KVM
	if line := strings.Join(h.build().args, " "); !strings.Contains(line, "-accel kvm -cpu host") || strings.Contains(line, "tcg") {
		t.Error(line)
	}
}

func TestTheConsoleKeepsItsEnd(t *testing.T) {
	c := &tail{}
	for range 10_000 {
		if n, err := c.Write([]byte("0123456789")); n != 10 || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(c.last) != tailBytes || c.end(5) != `"56789"` {
		t.Errorf("%d %s", len(c.last), c.end(5))
	}
}

// What was saved on one version of QEMU is loaded on the same machine type by a later one.
func TestAMachineKeepsItsModel(t *testing.T) {
	for model, want := range map[string]string{"": "q35,memory-backend=ram", "pc-q35-7.2": "pc-q35-7.2,memory-backend=ram"} {
		h := machineOf(t)
		h.model = model
		args := h.build().args
		if at := slices.Index(args, "-machine"); !strings.HasPrefix(args[at+1], want) {
			t.Errorf("model %q: %s", model, args[at+1])
		}
	}
	for name, want := range map[string]bool{"pc-q35-7.2-machine": true, "pc-q35-noble-machine": true, "pc-q35-10.0+x-machine": false, "microvm-machine": false, "pc-q35-7.2": false, "pc-q35-7.2,dump-guest-core=on-machine": false} {
		if modelName.MatchString(name) != want {
			t.Errorf("%q: not %v", name, want)
		}
	}
}
