package image

import (
	"bytes"
	"strconv"
	"strings"
)

// The parts of a VMDK sparse extent (VMware, Virtual Disk Format 5.0) that decide what else would be read.
const (
	vmdkSector     = 512
	vmdkCompressed = 1 << 16
	vmdkKnownFlags = 1<<0 | 1<<1 | 1<<2 | vmdkCompressed | 1<<17
	vmdkAtEnd      = 1<<64 - 1
	vmdkTableSize  = 512 // entries of a grain table
)

// vmdkHeader is what of a header, or of the footer that replaces it, is used further on. Sizes and offsets are in sectors.
type vmdkHeader struct {
	flags             uint32
	capacity, grain   int64
	descriptor, dsize int64
	directory         uint64
}

// inspectVMDK accepts one file that is a whole disk: monolithicSparse or streamOptimized. A text descriptor, or one inside that names other
// files or a parent, is what makes a converter read /etc/shadow into a disk.
func inspectVMDK(f fileView, limit int64) (int64, error) {
	h, err := readVMDK(f, 0)
	if err != nil {
		return 0, err
	}
	if err := h.checkDescriptor(f); err != nil {
		return 0, err
	}
	if h.directory == vmdkAtEnd {
		// The last header counts: marker, footer, end of stream.
		if f.size%vmdkSector != 0 {
			return 0, refused("a stream that ends within a sector")
		}
		foot, err := readVMDK(f, f.size-2*vmdkSector)
		if err != nil {
			return 0, err
		}
		if foot.capacity != h.capacity || foot.grain != h.grain || foot.flags != h.flags || foot.descriptor != h.descriptor || foot.dsize != h.dsize {
			return 0, refused("its footer is not that of its header")
		}
		h = foot
	}
	if h.capacity > limit/vmdkSector {
		return 0, refused("a disk of %d sectors, more than the %d bytes allowed", h.capacity, limit)
	}
	return h.capacity * vmdkSector, h.checkGrains(f)
}

func readVMDK(f fileView, at int64) (h vmdkHeader, err error) {
	b, err := f.bytes("the header", at, vmdkSector)
	if err != nil {
		return h, err
	}
	switch {
	case at == 0 && bytes.Contains(bytes.ToLower(b), []byte("disk descriptorfile")):
		return h, refused("it is a descriptor that names other files")
	case bytes.Equal(b[:4], []byte("COWD")):
		return h, refused("it is part of a snapshot chain")
	case !bytes.Equal(b[:4], []byte("KDMV")):
		return h, refused("it is not a VMDK of one file")
	}
	version := littleEndian.Uint32(b[4:])
	h.flags = littleEndian.Uint32(b[8:])
	capacity, grain := littleEndian.Uint64(b[12:]), littleEndian.Uint64(b[20:])
	descriptor, dsize := littleEndian.Uint64(b[28:]), littleEndian.Uint64(b[36:])
	h.directory = littleEndian.Uint64(b[56:])
	compression := littleEndian.Uint16(b[77:])
	switch {
	case version < 1 || version > 3:
		return h, refused("VMDK of version %d", version)
	case h.flags&^uint32(vmdkKnownFlags) != 0:
		return h, refused("it has unknown features (%#x)", h.flags)
	case capacity == 0 || capacity > 1<<53:
		// With no capacity, QEMU takes the descriptor inside for one that names the extents.
		return h, refused("a disk of %d sectors", capacity)
	case grain < 8 || grain > 1<<12 || grain&(grain-1) != 0:
		return h, refused("grains of %d sectors", grain)
	case littleEndian.Uint32(b[44:]) != vmdkTableSize:
		return h, refused("grain tables of %d entries", littleEndian.Uint32(b[44:]))
	case compression > 1 || (compression == 1) != (h.flags&vmdkCompressed != 0):
		return h, refused("an unknown compression")
	case descriptor > 1<<31 || dsize > 1<<11:
		return h, refused("a descriptor of %d sectors", dsize)
	}
	h.capacity, h.grain, h.descriptor, h.dsize = int64(capacity), int64(grain), int64(descriptor), int64(dsize)
	return h, nil
}

// checkDescriptor reads the text that a monolithic file carries.
func (h vmdkHeader) checkDescriptor(f fileView) error {
	if h.descriptor == 0 || h.dsize == 0 {
		return refused("it has no descriptor of its own")
	}
	b, err := f.bytes("the descriptor", h.descriptor*vmdkSector, h.dsize*vmdkSector)
	if err != nil {
		return err
	}
	text, _, _ := bytes.Cut(b, []byte{0})
	extents, kind := 0, ""
	for _, line := range strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		switch word, rest, _ := strings.Cut(line, " "); strings.ToUpper(word) {
		case "RW", "RDONLY", "NOACCESS":
			extents++
			if err := h.checkExtent(rest); err != nil {
				return err
			}
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "createtype":
			kind = value
		case "parentcid":
			if !strings.EqualFold(value, "ffffffff") {
				return refused("it stands on a parent")
			}
		case "parentfilenamehint":
			return refused("it names a parent")
		case "encryption.keysafe":
			return refused("it is encrypted")
		}
	}
	switch {
	case kind != "monolithicSparse" && kind != "streamOptimized":
		return refused("it is of the kind %q: only monolithicSparse and streamOptimized are one file", words(kind))
	case extents != 1:
		return refused("it names %d extents, not one", extents)
	}
	return nil
}

// checkExtent checks "SECTORS SPARSE "name"": one extent of the whole disk, kept in this file. The name is never used.
func (h vmdkHeader) checkExtent(rest string) error {
	f := strings.Fields(rest)
	if len(f) < 3 || strings.ToUpper(f[1]) != "SPARSE" {
		return refused("it names an extent of another kind")
	}
	if n, err := strconv.ParseInt(f[0], 10, 64); err != nil || n != h.capacity {
		return refused("it names an extent of another size")
	}
	if strings.ContainsAny(rest, `/\`) {
		return refused("it names an extent in another directory")
	}
	return nil
}

// checkGrains walks the grain directory and its tables.
func (h vmdkHeader) checkGrains(f fileView) error {
	tables := (h.capacity-1)/(h.grain*vmdkTableSize) + 1
	if h.directory > 1<<53 {
		return refused("the grain directory is outside of the file")
	}
	dir, err := f.bytes("the grain directory", int64(h.directory)*vmdkSector, tables*4)
	if err != nil {
		return err
	}
	held := &sum{limit: f.size}
	for ; len(dir) > 0; dir = dir[4:] {
		at := int64(littleEndian.Uint32(dir)) * vmdkSector
		if at == 0 {
			continue
		}
		if err := held.add("its grain tables", vmdkTableSize*4); err != nil {
			return err
		}
		table, err := f.bytes("a grain table", at, vmdkTableSize*4)
		if err != nil {
			return err
		}
		for ; len(table) > 0; table = table[4:] {
			grain := int64(littleEndian.Uint32(table)) * vmdkSector
			if grain <= vmdkSector { // 0: not there; 1: zeros
				continue
			}
			if err := f.inside("a grain", grain, 1); err != nil {
				return err
			}
			least := int64(vmdkSector) // a compressed grain is a sector at least
			if h.flags&vmdkCompressed == 0 {
				least = min(h.grain*vmdkSector, f.size-grain)
			}
			if err := held.add("its grains", least); err != nil {
				return err
			}
		}
	}
	return nil
}

// words makes a text out of a hostile file fit for an error message.
func words(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 40)]
}
