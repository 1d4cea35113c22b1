package image

import (
	"bytes"
	"encoding/hex"
)

// The places of a VHDX (MS-VHDX) and the names of its parts, as they are in the file: mixed-endian GUIDs.
const (
	vhdxHeader1, vhdxHeader2   = 64 << 10, 128 << 10
	vhdxRegions1, vhdxRegions2 = 192 << 10, 256 << 10
	vhdxRegionBytes            = 64 << 10
	vhdxBlockPresent           = 6
	vhdxBlockPartly            = 7
)

var (
	vhdxBAT      = guid("6677c22d23f600429d64115e9bfd4a08")
	vhdxMetadata = guid("06a27c8b90479a4bb8fe575f050f886e")
	vhdxFile     = guid("3767a1ca36fa434db3b633f0aa44e76b")
	vhdxDiskSize = guid("2442a52f1bcd7648b2115dbed83bf4b8")
	vhdxDiskID   = guid("ab12cabee6b2234593efc309e000c746")
	vhdxLogical  = guid("1dbf41816fa90947ba47f233a8faab5f")
	vhdxPhysical = guid("c748a3cd5d4471449cc9e9885251c556")
	vhdxParent   = guid("2d5fd3a80bb34d45abf7d3d84834ab0c")
)

// guid reads the hexadecimal digits of a GUID in the order in which they are in the file.
func guid(digits string) (g [16]byte) {
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != 16 {
		panic("malformed GUID " + digits)
	}
	return [16]byte(b)
}

// vhdxRegion is a part of the file, in bytes.
type vhdxRegion struct{ at, length int64 }

// vhdxDisk is what the metadata say.
type vhdxDisk struct {
	block, logical, size int64
}

// inspectVHDX accepts a closed disk without a parent. A log that is not empty would be replayed by the converter: writes whose places the
// file chooses.
func inspectVHDX(f fileView, limit int64) (int64, error) {
	b, err := f.bytes("the identifier", 0, 8)
	if err != nil {
		return 0, err
	}
	if string(b) != "vhdxfile" {
		return 0, refused("it is not VHDX")
	}
	for _, at := range []int64{vhdxHeader1, vhdxHeader2} {
		if err := checkVHDXHeader(f, at); err != nil {
			return 0, err
		}
	}
	regions, err := vhdxRegions(f)
	if err != nil {
		return 0, err
	}
	disk, err := vhdxMetadataOf(f, regions[vhdxMetadata])
	if err != nil {
		return 0, err
	}
	if disk.size > limit {
		return 0, refused("a disk of %d bytes, more than the %d allowed", disk.size, limit)
	}
	return disk.size, disk.checkBAT(f, regions[vhdxBAT])
}

// checkVHDXHeader checks one of the two headers. Which of them counts is for the converter to decide, so both must be harmless; one that was
// never written is.
func checkVHDXHeader(f fileView, at int64) error {
	b, err := f.bytes("a header", at, 80)
	if err != nil {
		return err
	}
	if bytes.Equal(b, make([]byte, len(b))) {
		return nil
	}
	switch {
	case string(b[:4]) != "head":
		return refused("a header is none")
	case !bytes.Equal(b[48:64], make([]byte, 16)):
		return refused("it was not closed: its log is not empty")
	case littleEndian.Uint16(b[66:]) != 1:
		return refused("VHDX of version %d", littleEndian.Uint16(b[66:]))
	}
	return nil
}

// vhdxRegions reads the region table, of which both copies must be the same.
func vhdxRegions(f fileView) (map[[16]byte]vhdxRegion, error) {
	b, err := f.bytes("the region table", vhdxRegions1, vhdxRegionBytes)
	if err != nil {
		return nil, err
	}
	second, err := f.bytes("the region table", vhdxRegions2, vhdxRegionBytes)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(b, second) {
		return nil, refused("its two region tables differ")
	}
	count := littleEndian.Uint32(b[8:])
	if string(b[:4]) != "regi" || count == 0 || count > 16 {
		return nil, refused("the region table is malformed")
	}
	out := map[[16]byte]vhdxRegion{}
	for e := b[16 : 16+32*count]; len(e) > 0; e = e[32:] {
		id := [16]byte(e[:16])
		r := vhdxRegion{int64(littleEndian.Uint64(e[16:])), int64(littleEndian.Uint32(e[24:]))}
		if id != vhdxBAT && id != vhdxMetadata {
			return nil, refused("it has an unknown region")
		}
		if _, twice := out[id]; twice || r.at < 1<<20 || r.at%(1<<20) != 0 || r.length == 0 {
			return nil, refused("the region table is malformed")
		}
		if err := f.inside("a region", r.at, r.length); err != nil {
			return nil, err
		}
		out[id] = r
	}
	if len(out) != 2 {
		return nil, refused("a region is missing")
	}
	return out, nil
}

// vhdxMetadataOf reads the metadata table.
func vhdxMetadataOf(f fileView, r vhdxRegion) (d vhdxDisk, err error) {
	if r.length < 64<<10 {
		return d, refused("the metadata are malformed")
	}
	b, err := f.bytes("the metadata", r.at, 64<<10)
	if err != nil {
		return d, err
	}
	count := littleEndian.Uint16(b[10:])
	if string(b[:8]) != "metadata" || count == 0 || count > 2047 {
		return d, refused("the metadata are malformed")
	}
	seen := map[[16]byte]bool{}
	for e := b[32 : 32+32*int(count)]; len(e) > 0; e = e[32:] {
		id := [16]byte(e[:16])
		off, n := int64(littleEndian.Uint32(e[16:])), int64(littleEndian.Uint32(e[20:]))
		if seen[id] || off < 64<<10 || off > r.length || n > r.length-off {
			return d, refused("the metadata are malformed")
		}
		seen[id] = true
		if err := d.item(f, id, vhdxRegion{r.at + off, n}); err != nil {
			return d, err
		}
	}
	if d.block == 0 || d.size == 0 || d.logical == 0 {
		return d, refused("the metadata are not complete")
	}
	return d, nil
}

// item reads one metadata item.
func (d *vhdxDisk) item(f fileView, id [16]byte, at vhdxRegion) error {
	switch id {
	case vhdxDiskID, vhdxPhysical:
		return nil
	case vhdxParent:
		return refused("it names a parent")
	case vhdxFile, vhdxDiskSize, vhdxLogical:
	default:
		return refused("it has unknown metadata")
	}
	length := map[[16]byte]int64{vhdxFile: 8, vhdxDiskSize: 8, vhdxLogical: 4}[id]
	if at.length != length {
		return refused("the metadata are malformed")
	}
	b, err := f.bytes("the metadata", at.at, length)
	if err != nil {
		return err
	}
	switch id {
	case vhdxFile:
		d.block = int64(littleEndian.Uint32(b))
		if littleEndian.Uint32(b[4:])&2 != 0 {
			return refused("it stands on a parent")
		}
		if d.block < 1<<20 || d.block > 256<<20 || d.block&(d.block-1) != 0 {
			return refused("blocks of %d bytes", d.block)
		}
	case vhdxDiskSize:
		if size := littleEndian.Uint64(b); size > 0 && size <= 64<<40 {
			d.size = int64(size)
			return nil
		}
		return refused("a disk of %d bytes", littleEndian.Uint64(b))
	case vhdxLogical:
		d.logical = int64(littleEndian.Uint32(b))
		if d.logical != 512 && d.logical != 4096 {
			return refused("sectors of %d bytes", d.logical)
		}
	}
	return nil
}

// checkBAT walks the block allocation table: the entries of the disk's blocks, with one of a sector bitmap after every chunk.
func (d vhdxDisk) checkBAT(f fileView, r vhdxRegion) error {
	ratio := (1 << 23) * d.logical / d.block
	blocks := (d.size-1)/d.block + 1
	entries := blocks + (blocks-1)/ratio
	if entries*8 > r.length {
		return refused("a block table of %d bytes for a disk that needs %d", r.length, entries*8)
	}
	bat, err := f.bytes("the block table", r.at, entries*8)
	if err != nil {
		return err
	}
	held := &sum{limit: f.size}
	for i := int64(0); i < entries; i++ {
		e := littleEndian.Uint64(bat[i*8:])
		state, at := e&7, int64(e>>20)<<20
		switch {
		case (i+1)%(ratio+1) == 0:
			if state != 0 {
				return refused("it has a sector bitmap, as disks with a parent do")
			}
		case state == vhdxBlockPartly:
			return refused("a block is partly in a parent")
		case state == vhdxBlockPresent:
			if at < 1<<20 {
				return refused("a block is where the headers are")
			}
			if err := f.inside("a block", at, 1); err != nil {
				return err
			}
			if err := held.add("its blocks", min(d.block, f.size-at)); err != nil {
				return err
			}
		case state > 3:
			return refused("a block in an unknown state")
		}
	}
	return nil
}
