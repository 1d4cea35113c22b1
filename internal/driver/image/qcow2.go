package image

import "bytes"

// The parts of a qcow2 header (QEMU, docs/interop/qcow2.txt) that decide what else would be read.
const (
	qcow2Dirty       = 1 << 0
	qcow2Corrupt     = 1 << 1
	qcow2DataFile    = 1 << 2
	qcow2Compression = 1 << 3
	// Masks of table entries.
	qcow2Offset     = 0x00fffffffffffe00
	qcow2Compressed = 1 << 62
)

// qcow2Header is what of the header is used further on.
type qcow2Header struct {
	clusterBits   uint
	size          int64
	l1Entries     int64
	l1, refcounts int64
	refcountBytes int64
	headerBytes   int64
	incompatible  uint64
}

func (h qcow2Header) cluster() int64 { return 1 << h.clusterBits }

// inspectQCOW2 checks header, extensions and all mapping tables.
func inspectQCOW2(f fileView, limit int64) (int64, error) {
	h, err := readQCOW2(f)
	if err != nil {
		return 0, err
	}
	if h.size > limit {
		return 0, refused("a disk of %d bytes, more than the %d allowed", h.size, limit)
	}
	if err := h.extensions(f); err != nil {
		return 0, err
	}
	if err := h.refcountTable(f); err != nil {
		return 0, err
	}
	return h.size, h.mapping(f)
}

// readQCOW2 checks the fixed part of the header.
func readQCOW2(f fileView) (h qcow2Header, err error) {
	b, err := f.bytes("the header", 0, 72)
	if err != nil {
		return h, err
	}
	if !bytes.Equal(b[:4], []byte("QFI\xfb")) {
		return h, refused("it is not qcow2")
	}
	version := bigEndian.Uint32(b[4:])
	h.clusterBits = uint(bigEndian.Uint32(b[20:]))
	switch {
	case version != 2 && version != 3:
		return h, refused("qcow2 of version %d", version)
	case bigEndian.Uint64(b[8:]) != 0 || bigEndian.Uint32(b[16:]) != 0:
		return h, refused("it stands on a backing file")
	case h.clusterBits < 9 || h.clusterBits > 21:
		return h, refused("clusters of 2^%d bytes", h.clusterBits)
	case bigEndian.Uint32(b[32:]) != 0:
		return h, refused("it is encrypted")
	case bigEndian.Uint32(b[60:]) != 0:
		return h, refused("it has snapshots inside: convert it first")
	}
	size := bigEndian.Uint64(b[24:])
	if size == 0 || size > 1<<62 {
		return h, refused("a disk of %d bytes", size)
	}
	h.size, h.headerBytes = int64(size), 72
	h.l1Entries = int64(bigEndian.Uint32(b[36:]))
	h.l1, h.refcounts = int64(bigEndian.Uint64(b[40:])), int64(bigEndian.Uint64(b[48:]))
	h.refcountBytes = int64(bigEndian.Uint32(b[56:])) << h.clusterBits
	if version == 3 {
		return h, h.version3(f)
	}
	return h, nil
}

// version3 checks what version 3 adds.
func (h *qcow2Header) version3(f fileView) error {
	b, err := f.bytes("the header", 72, 32)
	if err != nil {
		return err
	}
	h.incompatible, h.headerBytes = bigEndian.Uint64(b), int64(bigEndian.Uint32(b[28:]))
	switch {
	case h.incompatible&qcow2DataFile != 0:
		return refused("its data are in another file")
	case h.incompatible&qcow2Corrupt != 0:
		return refused("it is marked as corrupt")
	case h.incompatible&qcow2Dirty != 0:
		return refused("it was not closed: repair it first (qemu-img check)")
	case h.incompatible&^uint64(qcow2Compression) != 0:
		return refused("it has unknown features (%#x)", h.incompatible)
	case bigEndian.Uint32(b[24:]) > 6:
		return refused("reference counts of 2^%d bits", bigEndian.Uint32(b[24:]))
	case h.headerBytes < 104 || h.headerBytes%8 != 0 || h.headerBytes > h.cluster():
		return refused("a header of %d bytes", h.headerBytes)
	}
	if h.headerBytes < 112 {
		if h.incompatible&qcow2Compression != 0 {
			return refused("a compression that is not named")
		}
		return nil
	}
	if b, err = f.bytes("the header", 104, 8); err != nil {
		return err
	}
	if b[0] > 1 || (b[0] != 0) != (h.incompatible&qcow2Compression != 0) {
		return refused("an unknown compression")
	}
	return nil
}

// extensions walks the header extensions, which end the first cluster at the latest.
func (h *qcow2Header) extensions(f fileView) error {
	for at := h.headerBytes; ; {
		if at+8 > h.cluster() {
			return nil // what is not in the first cluster is no extension
		}
		b, err := f.bytes("a header extension", at, 8)
		if err != nil {
			return err
		}
		kind, length := bigEndian.Uint32(b), int64(bigEndian.Uint32(b[4:]))
		switch kind {
		case 0:
			return nil
		case 0xe2792aca:
			return refused("it names the format of a backing file")
		case 0x44415441:
			return refused("it names another file with its data")
		case 0x0537be77:
			return refused("it is encrypted")
		case 0x23852875:
			return refused("it has dirty bitmaps: convert it first")
		}
		if length > h.cluster()-at-8 {
			return refused("a header extension is longer than its cluster")
		}
		at += 8 + (length+7)&^7
	}
}

// refcountTable checks that every block of reference counts is in the file.
func (h *qcow2Header) refcountTable(f fileView) error {
	if h.refcountBytes == 0 || h.refcountBytes > 8<<20 || h.refcounts%h.cluster() != 0 || h.refcounts == 0 {
		return refused("the table of reference counts is malformed")
	}
	b, err := f.bytes("the table of reference counts", h.refcounts, h.refcountBytes)
	if err != nil {
		return err
	}
	for ; len(b) > 0; b = b[8:] {
		off := int64(bigEndian.Uint64(b))
		if off == 0 {
			continue
		}
		if off%h.cluster() != 0 {
			return refused("a block of reference counts is not aligned")
		}
		if err := f.inside("a block of reference counts", off, h.cluster()); err != nil {
			return err
		}
	}
	return nil
}

// mapping walks L1 and L2. Without snapshots nothing is used twice, so all tables and clusters together fit the file; a file that
// points many times at the same place is a bomb.
func (h *qcow2Header) mapping(f fileView) error {
	covers := h.cluster() / 8 * h.cluster() // bytes of disk an L2 table is for
	needed := (h.size-1)/covers + 1
	if h.l1Entries < needed || h.l1Entries > needed+1<<10 || h.l1Entries > 4<<20 || h.l1%h.cluster() != 0 || h.l1 == 0 {
		return refused("an L1 table of %d entries for a disk that needs %d", h.l1Entries, needed)
	}
	l1, err := f.bytes("the L1 table", h.l1, h.l1Entries*8)
	if err != nil {
		return err
	}
	held := &sum{limit: f.size}
	for ; len(l1) > 0; l1 = l1[8:] {
		off := int64(bigEndian.Uint64(l1) & qcow2Offset)
		if off == 0 {
			continue
		}
		if off%h.cluster() != 0 {
			return refused("an L2 table is not aligned")
		}
		if err := held.add("its L2 tables", h.cluster()); err != nil {
			return err
		}
		l2, err := f.bytes("an L2 table", off, h.cluster())
		if err != nil {
			return err
		}
		if err := h.clusters(f, l2, held); err != nil {
			return err
		}
	}
	return nil
}

// clusters checks the entries of one L2 table.
func (h *qcow2Header) clusters(f fileView, l2 []byte, held *sum) error {
	for ; len(l2) > 0; l2 = l2[8:] {
		e := bigEndian.Uint64(l2)
		if e&qcow2Compressed != 0 {
			split := 62 - (h.clusterBits - 8)
			off := int64(e & (1<<split - 1))
			sectors := int64(e>>split&(1<<(h.clusterBits-8)-1)) + 1
			// Compressed data share sectors; what counts is whole sectors after the first byte's.
			if err := f.inside("a compressed cluster", off, 1); err != nil {
				return err
			}
			if off/512+sectors > (f.size+511)/512 {
				return refused("a compressed cluster is outside of the file")
			}
			if err := held.add("its clusters", max(sectors-2, 0)*512); err != nil {
				return err
			}
			continue
		}
		off := int64(e & qcow2Offset)
		if off == 0 {
			continue
		}
		if off%h.cluster() != 0 {
			return refused("a cluster is not aligned")
		}
		// The last cluster of a file may be cut short.
		if err := f.inside("a cluster", off, 1); err != nil {
			return err
		}
		if err := held.add("its clusters", min(h.cluster(), f.size-off)); err != nil {
			return err
		}
	}
	return nil
}
