package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"
)

// initrdModules are what the root disk needs, with QEMU's devices.
var initrdModules = []string{"virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "virtio-rng"}

// bootFiles are what a directly started guest needs beside its disk.
type bootFiles struct {
	kernel, initrd []byte
}

// readBoot takes kernel and modules out of an unpacked tree. The tree's symbolic links cannot lead out of it.
func readBoot(ctx context.Context, tree string, epoch time.Time) (bootFiles, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return bootFiles{}, err
	}
	defer root.Close()
	version, err := kernelVersion(root)
	if err != nil {
		return bootFiles{}, err
	}
	zimage, err := root.ReadFile("boot/vmlinuz-" + version)
	if err != nil {
		return bootFiles{}, err
	}
	kernel, err := vmlinux(ctx, zimage)
	if err != nil {
		return bootFiles{}, err
	}
	initrd, err := makeInitrd(root, "usr/lib/modules/"+version, epoch)
	return bootFiles{kernel, initrd}, err
}

// kernelVersion is the name of the only kernel in the tree.
func kernelVersion(root *os.Root) (string, error) {
	d, err := root.Open("usr/lib/modules")
	if err != nil {
		return "", err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return "", err
	}
	if len(names) != 1 {
		return "", fmt.Errorf("the tree has %d kernels, not one", len(names))
	}
	return names[0], nil
}

// makeInitrd gives a cpio archive (newc) with busybox, the modules in the order of their loading, and our init.
func makeInitrd(root *os.Root, modules string, epoch time.Time) ([]byte, error) {
	dep, err := root.ReadFile(modules + "/modules.dep")
	if err != nil {
		return nil, err
	}
	busybox, err := root.ReadFile("usr/bin/busybox")
	if err != nil {
		return nil, err
	}
	script, err := rootfs.ReadFile("rootfs/initrd/init")
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	c := cpioWriter{w: &buf, epoch: epoch}
	for _, d := range []string{"bin", "dev", "mod", "proc", "root", "sys"} {
		c.entry(d, 0o040755, nil)
	}
	c.device("dev/console", 0o020600, 5, 1)
	c.entry("bin/busybox", 0o100755, busybox)
	var order []string
	for _, f := range loadOrder(string(dep), initrdModules) {
		data, err := root.ReadFile(modules + "/" + f)
		if err != nil {
			return nil, err
		}
		c.entry("mod/"+path.Base(f), 0o100644, data)
		order = append(order, path.Base(f))
	}
	if len(order) < len(initrdModules) {
		return nil, fmt.Errorf("the kernel has only %q of the modules for the root disk", order)
	}
	c.entry("mod/order", 0o100644, []byte(strings.Join(order, "\n")+"\n"))
	c.entry("init", 0o100755, script)
	c.entry("TRAILER!!!", 0, nil)
	return buf.Bytes(), nil
}

// loadOrder reads modules.dep(5) and gives the files of the wanted modules, each after everything it needs. Modules that are not there, or
// built in, are left out.
func loadOrder(dep string, wanted []string) []string {
	name := func(f string) string {
		base, _, _ := strings.Cut(path.Base(f), ".")
		return strings.ReplaceAll(base, "-", "_")
	}
	file, needs := map[string]string{}, map[string][]string{}
	for _, line := range strings.Split(dep, "\n") {
		f, rest, ok := strings.Cut(line, ":")
		if ok {
			file[name(f)], needs[name(f)] = f, strings.Fields(rest)
		}
	}
	var out []string
	done := map[string]bool{}
	var load func(string)
	load = func(m string) {
		f, ok := file[m]
		if !ok || done[m] {
			return
		}
		done[m] = true
		// modules.dep lists what is needed last first.
		for i := len(needs[m]) - 1; i >= 0; i-- {
			load(name(needs[m][i]))
		}
		out = append(out, f)
	}
	for _, m := range wanted {
		load(strings.ReplaceAll(m, "-", "_"))
	}
	return out
}

// cpioWriter writes the "newc" format (initramfs buffer format, Documentation/driver-api/early-userspace/buffer-format.rst).
type cpioWriter struct {
	w     *bytes.Buffer
	inode int
	epoch time.Time
}

func (c *cpioWriter) entry(name string, mode int, data []byte) { c.write(name, mode, data, [2]int{}) }

func (c *cpioWriter) device(name string, mode, major, minor int) {
	c.write(name, mode, nil, [2]int{major, minor})
}

func (c *cpioWriter) write(name string, mode int, data []byte, dev [2]int) {
	c.inode++
	fmt.Fprintf(c.w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", c.inode, mode, 0, 0, 1, c.epoch.Unix(), len(data),
		0, 0, dev[0], dev[1], len(name)+1, 0)
	c.w.WriteString(name)
	c.w.WriteByte(0)
	c.pad()
	c.w.Write(data)
	c.pad()
}

func (c *cpioWriter) pad() {
	for c.w.Len()%4 != 0 {
		c.w.WriteByte(0)
	}
}

// maxKernel bounds an unpacked kernel.
const maxKernel = 256 << 20

// vmlinux takes the uncompressed kernel out of a bzImage (Linux boot protocol, Documentation/arch/x86/boot.rst): QEMU starts it by PVH,
// without the guest having to decompress it first.
func vmlinux(ctx context.Context, image []byte) ([]byte, error) {
	if len(image) < 0x260 || string(image[0x202:0x206]) != "HdrS" {
		return nil, errors.New("the kernel is no bzImage")
	}
	sectors := int64(image[0x1f1])
	if sectors == 0 {
		sectors = 4
	}
	start := (sectors+1)*512 + int64(binary.LittleEndian.Uint32(image[0x248:]))
	length := int64(binary.LittleEndian.Uint32(image[0x24c:]))
	if length < 8 || start+length > int64(len(image)) {
		return nil, errors.New("the kernel's payload is outside of it")
	}
	// The last four bytes are the size of what comes out.
	payload := image[start : start+length-4]
	size := int64(binary.LittleEndian.Uint32(image[start+length-4:]))
	if size > maxKernel {
		return nil, fmt.Errorf("the kernel would be %d bytes", size)
	}
	out, err := unpackPayload(ctx, payload, size)
	if err != nil {
		return nil, fmt.Errorf("unpack the kernel: %w", err)
	}
	if int64(len(out)) != size || !bytes.HasPrefix(out, []byte("\x7fELF")) {
		return nil, errors.New("unpack the kernel: what comes out is no kernel")
	}
	return out, nil
}

// unpackPayload decompresses by what the payload begins with. xz and zstd are children: the kernel's xz uses a filter that Go's do not have.
func unpackPayload(ctx context.Context, payload []byte, size int64) ([]byte, error) {
	var tool []string
	switch {
	case bytes.HasPrefix(payload, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(bytes.NewReader(payload))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(io.LimitReader(r, size+1))
	case bytes.HasPrefix(payload, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		tool = []string{"xz", "-dc", "--single-stream"}
	case bytes.HasPrefix(payload, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		tool = []string{"zstd", "-dcq"}
	default:
		return nil, fmt.Errorf("compressed by something that begins with %x", payload[:4])
	}
	cmd := exec.CommandContext(ctx, tool[0], tool[1:]...)
	cmd.Stdin = bytes.NewReader(payload)
	out, err := cmd.Output()
	if err != nil && int64(len(out)) != size { // zero padding after the stream is not an error worth stopping for
		return nil, fmt.Errorf("%s: %w", tool[0], err)
	}
	return out, nil
}
