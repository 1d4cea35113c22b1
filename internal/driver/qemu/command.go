package qemu

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strconv"

	"carrel/internal/driver"
)

// firstFile is the descriptor number of the first file that a jailed program is given.
const firstFile = 3

// hardware is what a machine is made of, in open files: what the command line is built from.
type hardware struct {
	// model is the machine type of a certain QEMU version ("pc-q35-7.2"), which later ones have too: what was saved on one fits no other. "": the newest.
	model   string
	id      string
	size    Size
	accel   Accelerator
	ram     *os.File
	monitor *os.File
	agent   *os.File
	// session is nil in a machine whose saved memory knows no such port.
	session *os.File
	image   *driver.OpenImage
	root    *driver.OpenVolume
	user    *driver.OpenVolume
	tap     *driver.Tap
	// rootKey and userKey are the reading ends of pipes with the volumes' passphrases in them.
	rootKey, userKey *os.File
	// incoming: the machine waits for its device state instead of booting.
	incoming bool
	// late: that state is one without network card and user volume, which are plugged in when it is loaded.
	late bool
	// generation is the VM generation id: a guest that sees another one renews its random numbers.
	generation string
}

// command is a program's arguments and the files they speak of by number.
type command struct {
	args  []string
	files []*os.File
	// late: what is added becomes commands for the monitor, to be given when the machine's state is loaded. Their files are passed at once.
	late  bool
	calls []call
}

// call is a command for the monitor.
type call struct {
	name      string
	arguments any
}

// monitorNames are the monitor's names for what an option adds.
var monitorNames = map[string]string{"-object": "object-add", "-blockdev": "blockdev-add", "-device": "device_add", "-netdev": "netdev_add"}

func (c *command) add(args ...string) { c.args = append(c.args, args...) }

// file passes a file and gives its descriptor number in the machine's process.
func (c *command) file(f *os.File) int {
	c.files = append(c.files, f)
	return firstFile + len(c.files) - 1
}

// object adds an argument whose value is JSON: names are values in it and never become syntax (VMM-4).
func (c *command) object(option string, value map[string]any) {
	if c.late {
		c.calls = append(c.calls, call{monitorNames[option], value})
		return
	}
	b, err := json.Marshal(value)
	if err != nil {
		panic(err) // Texts, numbers and maps of them.
	}
	c.add(option, string(b))
}

// set passes a file as a descriptor set, the form in which QEMU's block layer takes one, and gives the name it opens.
func (c *command) set(f *os.File) string {
	fd := c.file(f)
	c.add("-add-fd", fmt.Sprintf("fd=%d,set=%d", fd, fd))
	return fmt.Sprintf("/dev/fdset/%d", fd)
}

// build makes the command line. Nothing in it is a path of the host but those of the descriptors, and nothing comes from a name that people
// choose: the WorkSpace's id is the only text.
func (h *hardware) build() *command {
	c := &command{}
	// No device, no configuration file, no monitor, no network, no display that is not asked for below (VMM-1).
	c.add("-nodefaults", "-no-user-config")
	c.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
	c.add("-name", "guest="+h.id+",debug-threads=off")
	c.machine(h)
	c.accelerator(h)
	c.memory(h)
	c.boot(h)
	c.devices(h)
	c.disk(h.root, h.rootKey, "root", place("pcie.0", slotRoot))
	c.late = h.late
	if h.user != nil {
		c.disk(h.user, h.userKey, "user", place(portUser, 0))
	}
	c.network(h)
	c.late = false
	c.control(h)
	if h.incoming {
		c.add("-incoming", "defer")
	}
	return c
}

func (c *command) machine(h *hardware) {
	// No core dump of guest memory, no VMware backdoor, no SATA, no SMBus, no HPET: nothing of the board that a guest of ours needs.
	c.add("-machine", cmp.Or(h.model, "q35")+",memory-backend=ram,dump-guest-core=off,vmport=off,sata=off,smbus=off,hpet=off,usb=off,mem-merge=off")
}

func (c *command) accelerator(h *hardware) {
	if h.accel == KVM {
		c.add("-accel", "kvm", "-cpu", "host,migratable=on")
	} else {
		// The default translation buffer is 1 GiB; one of this size costs nothing that can be seen.
		c.add("-accel", "tcg,thread=multi,tb-size=128", "-cpu", "max")
	}
	c.add("-smp", strconv.Itoa(h.size.Processors))
}

func (c *command) memory(h *hardware) {
	fd := c.file(h.ram)
	c.add("-m", strconv.FormatInt(h.size.Memory>>20, 10)+"M")
	c.object("-object", map[string]any{"qom-type": "memory-backend-file", "id": "ram", "size": h.size.Memory, "mem-path": procFile(fd), "share": true, "prealloc": false, "dump": false, "merge": false})
}

func (c *command) boot(h *hardware) {
	if h.image.Firmware == driver.FirmwareDirect {
		c.add("-kernel", procFile(c.file(h.image.Kernel)), "-initrd", procFile(c.file(h.image.Initrd)), "-append", h.image.CommandLine)
	}
	c.add("-boot", "strict=on", "-rtc", "base=utc,clock=host,driftfix=none")
	// A guest that powers itself off waits for its owner; one that crashes stays to be looked at and scrubbed.
	c.add("-action", "reboot=reset,shutdown=pause,panic=pause,watchdog=none")
}

// The places of a machine's devices never change: memory that was saved, or a template's, fits a machine that has the same devices in the same
// places. Network card and user volume sit in ports of their own, because a machine from a template gets them later than the rest.
const (
	slotVideo = 0x2 + iota
	slotKeyboard
	slotPointer
	slotRandom
	slotSerial
	slotRoot
	slotPorts
)

const (
	portUser = "port-user"
	portNet  = "port-net"
)

// place is where a device sits.
func place(bus string, slot int) map[string]any {
	return map[string]any{"bus": bus, "addr": fmt.Sprintf("0x%x", slot)}
}

// device adds a device of the machine.
func (c *command) device(driver string, where, properties map[string]any) {
	properties["driver"] = driver
	maps.Copy(properties, where)
	c.object("-device", properties)
}

func (c *command) devices(h *hardware) {
	// Without 3D: virglrenderer parses commands that a guest writes.
	c.device("virtio-vga", place("pcie.0", slotVideo), map[string]any{"id": "video", "edid": true, "xres": 1280, "yres": 800})
	c.device("virtio-keyboard-pci", place("pcie.0", slotKeyboard), map[string]any{"id": "keyboard"})
	c.device("virtio-tablet-pci", place("pcie.0", slotPointer), map[string]any{"id": "pointer"})
	c.object("-object", map[string]any{"qom-type": "rng-builtin", "id": "random"})
	c.device("virtio-rng-pci", place("pcie.0", slotRandom), map[string]any{"id": "rng", "rng": "random"})
	c.device("vmgenid", nil, map[string]any{"id": "generation", "guid": h.generation})
	c.device("virtio-serial-pci", place("pcie.0", slotSerial), map[string]any{"id": "ports"})
	c.add("-chardev", fmt.Sprintf("socket,id=agent,fd=%d", c.file(h.agent)))
	c.device("virtserialport", nil, map[string]any{"bus": "ports.0", "chardev": "agent", "name": "org.qemu.guest_agent.0"})
	if h.session != nil {
		c.add("-chardev", fmt.Sprintf("socket,id=session,fd=%d", c.file(h.session)))
		c.device("virtserialport", nil, map[string]any{"bus": "ports.0", "chardev": "session", "name": sessionPort})
	}
	for i, port := range []string{portUser, portNet} {
		c.device("pcie-root-port", place("pcie.0", slotPorts+i), map[string]any{"id": port, "chassis": i + 1, "slot": i + 1})
	}
	// What a guest prints on its console is bounded by the jail, which reads the other end (VMM-6).
	c.add("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console")
}

// disk adds a volume: a file given as a descriptor set, its format and its encryption said, never found out.
func (c *command) disk(v *driver.OpenVolume, key *os.File, name string, where map[string]any) {
	node := map[string]any{
		"driver": "qcow2", "node-name": name, "discard": "unmap", "detect-zeroes": "unmap",
		"file":    protocol(c.set(v.File), false),
		"backing": nil,
	}
	if key != nil { // Without one it is a template's.
		c.object("-object", map[string]any{"qom-type": "secret", "id": name + "-key", "file": procFile(c.file(key))})
		node["encrypt"] = map[string]any{"format": "luks", "key-secret": name + "-key"}
	}
	below := ""
	for i := len(v.Backing) - 1; i >= 0; i-- {
		layer := map[string]any{"driver": "qcow2", "node-name": fmt.Sprintf("%s-base%d", name, i), "read-only": true, "file": protocol(c.set(v.Backing[i]), true), "backing": nil}
		if below != "" {
			layer["backing"] = below
		}
		c.object("-blockdev", layer)
		below = layer["node-name"].(string)
	}
	if below != "" {
		node["backing"] = below
	}
	c.object("-blockdev", node)
	c.device("virtio-blk-pci", where, map[string]any{"id": name + "-disk", "drive": name, "serial": name})
}

// protocol is the layer that reads and writes the descriptor. The volume's own lock belongs to the open file; QEMU's would be a second one.
func protocol(name string, readonly bool) map[string]any {
	return map[string]any{"driver": "file", "filename": name, "locking": "off", "read-only": readonly, "auto-read-only": false, "cache": map[string]any{"direct": false, "no-flush": false}}
}

func (c *command) network(h *hardware) {
	if h.tap == nil {
		return
	}
	c.object("-netdev", map[string]any{"type": "tap", "id": "net", "fd": strconv.Itoa(c.file(h.tap.File)), "vhost": false})
	// No option ROM: nothing is booted from the network.
	c.device("virtio-net-pci", place(portNet, 0), map[string]any{"id": "nic", "netdev": "net", "mac": h.tap.NIC.MAC, "romfile": "", "host_mtu": h.tap.MTU})
}

func (c *command) control(h *hardware) {
	c.add("-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", c.file(h.monitor)), "-mon", "chardev=monitor,mode=control")
	// The VNC server without a listener: viewers come as descriptors over the monitor.
	c.add("-vnc", "none")
	c.add("-S")
}

func procFile(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
