package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

const testLimit = 1 << 30

// be and le put a number of the given width at an offset.
func be(b []byte, off, width int, v uint64) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], v)
	copy(b[off:off+width], n[8-width:])
}

func le(b []byte, off, width int, v uint64) {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], v)
	copy(b[off:off+width], n[:width])
}

// goodQCOW2 is a disk of 1 MiB with clusters of 64 KiB, of which one is there: header, reference counts, L1, L2, data.
func goodQCOW2() []byte {
	const c = 64 << 10
	b := make([]byte, 6*c)
	copy(b, "QFI\xfb")
	be(b, 4, 4, 3)
	be(b, 20, 4, 16)
	be(b, 24, 8, 1<<20)
	be(b, 36, 4, 1)
	be(b, 40, 8, 3*c)
	be(b, 48, 8, c)
	be(b, 56, 4, 1)
	be(b, 96, 4, 4)
	be(b, 100, 4, 112)
	be(b, c, 8, 2*c)
	be(b, 3*c, 8, 4*c|1<<63)
	be(b, 4*c, 8, 5*c|1<<63)
	return b
}

// goodVMDK is a disk of 8 MiB in one sparse file: header, descriptor, directory, one table, one grain.
func goodVMDK() []byte {
	b := make([]byte, 512*(32+128))
	copy(b, "KDMV")
	le(b, 4, 4, 1)
	le(b, 8, 4, 1)
	le(b, 12, 8, 16384)
	le(b, 20, 8, 128)
	le(b, 28, 8, 1)
	le(b, 36, 8, 4)
	le(b, 44, 4, 512)
	le(b, 56, 8, 8)
	copy(b[512:], goodDescriptor)
	le(b, 8*512, 4, 9)
	le(b, 9*512, 4, 32)
	return b
}

const goodDescriptor = `# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW 16384 SPARSE "disk.vmdk"
ddb.adapterType = "ide"
`

// goodVHDX is a disk of 4 MiB with blocks of 1 MiB, of which one is there.
func goodVHDX() []byte {
	const mib = 1 << 20
	b := make([]byte, 4*mib)
	copy(b, "vhdxfile")
	for _, at := range []int{vhdxHeader1, vhdxHeader2} {
		copy(b[at:], "head")
		le(b, at+66, 2, 1)
	}
	for _, at := range []int{vhdxRegions1, vhdxRegions2} {
		copy(b[at:], "regi")
		le(b, at+8, 4, 2)
		copy(b[at+16:], vhdxBAT[:])
		le(b, at+32, 8, mib)
		le(b, at+40, 4, mib)
		copy(b[at+48:], vhdxMetadata[:])
		le(b, at+64, 8, 2*mib)
		le(b, at+72, 4, mib)
	}
	copy(b[2*mib:], "metadata")
	items := []struct {
		id    [16]byte
		width int
		value uint64
	}{{vhdxFile, 8, mib}, {vhdxDiskSize, 8, 4 * mib}, {vhdxLogical, 4, 512}, {vhdxPhysical, 4, 4096}}
	le(b, 2*mib+10, 2, uint64(len(items)))
	for i, it := range items {
		e := 2*mib + 32 + 32*i
		copy(b[e:], it.id[:])
		le(b, e+16, 4, uint64(64<<10+16*i))
		le(b, e+20, 4, uint64(it.width))
		le(b, 2*mib+64<<10+16*i, it.width, it.value)
	}
	le(b, mib, 8, 3*mib|vhdxBlockPresent)
	return b
}

func inspectBytes(f Format, b []byte) (int64, error) {
	return inspect(f, bytes.NewReader(b), int64(len(b)), testLimit)
}

func TestGoodDisksAreAccepted(t *testing.T) {
	compressed := goodQCOW2()
	be(compressed, 4*65536, 8, 1<<62|5*65536)
	version2 := goodQCOW2()
	be(version2, 4, 4, 2)
	clear(version2[72:104])
	stream := goodVMDK()
	copy(stream[512:], strings.Replace(goodDescriptor, "monolithicSparse", "streamOptimized", 1))
	le(stream, 8, 4, 1|1<<16|1<<17)
	le(stream, 77, 2, 1)
	footer := bytes.Clone(stream[:512])
	le(stream, 56, 8, vmdkAtEnd)
	stream = append(append(stream, footer...), make([]byte, 512)...)
	for name, c := range map[string]struct {
		format Format
		data   []byte
		want   int64
	}{
		"qcow2":                     {QCOW2, goodQCOW2(), 1 << 20},
		"qcow2 with compression":    {QCOW2, compressed, 1 << 20},
		"qcow2 of version 2":        {QCOW2, version2, 1 << 20},
		"raw":                       {Raw, make([]byte, 1024), 1024},
		"raw that looks like qcow2": {Raw, goodQCOW2(), 6 * 65536},
		"VMDK":                      {VMDK, goodVMDK(), 8 << 20},
		"VMDK stream":               {VMDK, stream, 8 << 20},
		"VHDX":                      {VHDX, goodVHDX(), 4 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := inspectBytes(c.format, c.data); err != nil || got != c.want {
				t.Errorf("%d, %v, want %d", got, err, c.want)
			}
		})
	}
}

// hostile is one crafted file of VMM-3: what it does to a good one, and what the refusal says.
type hostile struct {
	spoil func(b []byte) []byte
	says  string
}

func in(f func(b []byte)) func([]byte) []byte {
	return func(b []byte) []byte { f(b); return b }
}

// extension puts a header extension into a qcow2.
func extension(kind uint64, length uint64) func([]byte) []byte {
	return in(func(b []byte) { be(b, 112, 4, kind); be(b, 116, 4, length) })
}

// descriptor replaces a word of the VMDK's descriptor.
func descriptor(from, to string) func([]byte) []byte {
	return in(func(b []byte) {
		text := strings.Replace(goodDescriptor, from, to, 1)
		if text == goodDescriptor {
			panic("no " + from)
		}
		clear(b[512 : 5*512])
		copy(b[512:5*512], text)
	})
}

var hostileQCOW2 = map[string]hostile{
	"a backing file":                         {in(func(b []byte) { be(b, 8, 8, 200); be(b, 16, 4, 11) }), "backing file"},
	"a backing file of no length":            {in(func(b []byte) { be(b, 8, 8, 200) }), "backing file"},
	"the format of a backing file":           {extension(0xe2792aca, 3), "backing file"},
	"a data file by feature":                 {in(func(b []byte) { be(b, 72, 8, 4) }), "another file"},
	"a data file by name":                    {extension(0x44415441, 11), "another file"},
	"encryption":                             {in(func(b []byte) { be(b, 32, 4, 2) }), "encrypted"},
	"an encryption header":                   {extension(0x0537be77, 16), "encrypted"},
	"snapshots":                              {in(func(b []byte) { be(b, 60, 4, 1) }), "snapshots"},
	"bitmaps":                                {extension(0x23852875, 24), "bitmaps"},
	"an unknown feature":                     {in(func(b []byte) { be(b, 72, 8, 1<<5) }), "unknown features"},
	"the corrupt mark":                       {in(func(b []byte) { be(b, 72, 8, 2) }), "corrupt"},
	"the dirty mark":                         {in(func(b []byte) { be(b, 72, 8, 1) }), "not closed"},
	"an unknown compression":                 {in(func(b []byte) { be(b, 72, 8, 8); b[104] = 9 }), "compression"},
	"version 4":                              {in(func(b []byte) { be(b, 4, 4, 4) }), "version 4"},
	"clusters of 2 GiB":                      {in(func(b []byte) { be(b, 20, 4, 31) }), "clusters"},
	"clusters of 2^4294967295":               {in(func(b []byte) { be(b, 20, 4, 1<<32-1) }), "clusters"},
	"a disk of exabytes (a bomb)":            {in(func(b []byte) { be(b, 24, 8, 1<<60) }), "allowed"},
	"a disk of no bytes":                     {in(func(b []byte) { be(b, 24, 8, 0) }), "0 bytes"},
	"a disk of half a sector":                {in(func(b []byte) { be(b, 24, 8, 1<<20-1) }), "none"},
	"an L1 table of 2^32 entries":            {in(func(b []byte) { be(b, 36, 4, 1<<32-1) }), "L1"},
	"no L1 table":                            {in(func(b []byte) { be(b, 36, 4, 0) }), "L1"},
	"an L1 table outside":                    {in(func(b []byte) { be(b, 40, 8, 1<<40) }), "L1 table is outside"},
	"an L1 table at a negative offset":       {in(func(b []byte) { be(b, 40, 8, 1<<63) }), "L1"},
	"an L2 table outside":                    {in(func(b []byte) { be(b, 3*65536, 8, 1<<40) }), "L2 table is outside"},
	"a cluster outside":                      {in(func(b []byte) { be(b, 4*65536, 8, 1<<40) }), "cluster is outside"},
	"a cluster between two":                  {in(func(b []byte) { be(b, 4*65536, 8, 5*65536+512) }), "not aligned"},
	"a compressed cluster outside":           {in(func(b []byte) { be(b, 4*65536, 8, 1<<62|1<<40) }), "compressed cluster is outside"},
	"a compressed cluster that ends outside": {in(func(b []byte) { be(b, 4*65536, 8, 1<<62|255<<54|(6*65536-512)) }), "compressed cluster is outside"},
	"the same cluster everywhere (a bomb)": {in(func(b []byte) {
		for i := 0; i < 8192; i++ {
			be(b, 4*65536+8*i, 8, 5*65536|1<<63)
		}
	}), "add up"},
	"reference counts of 2^64 clusters": {in(func(b []byte) { be(b, 56, 4, 1<<32-1) }), "reference counts"},
	"reference counts outside":          {in(func(b []byte) { be(b, 48, 8, 1<<40) }), "reference counts is outside"},
	"a reference block outside":         {in(func(b []byte) { be(b, 65536, 8, 1<<40) }), "block of reference counts is outside"},
	"a header longer than a cluster":    {in(func(b []byte) { be(b, 100, 4, 1<<31) }), "header of"},
	"an endless header extension":       {extension(1, 1<<32-1), "longer"},
	"half a header":                     {func(b []byte) []byte { return b[:80] }, "outside"},
	"nothing":                           {func(b []byte) []byte { return nil }, "outside"},
	"another format inside":             {func([]byte) []byte { return goodVMDK() }, "not qcow2"},
}

var hostileVMDK = map[string]hostile{
	"a text descriptor": {func([]byte) []byte {
		return append([]byte(strings.Replace(goodDescriptor, "disk.vmdk", "/etc/shadow", 1)), make([]byte, 512)...)
	}, "names other files"},
	"no capacity, so that the descriptor counts": {in(func(b []byte) { le(b, 12, 8, 0) }), "0 sectors"},
	"a flat extent":             {descriptor(`SPARSE "disk.vmdk"`, `FLAT "shadow" 0`), "another kind"},
	"two extents":               {descriptor("ddb.", "RW 16384 SPARSE \"two.vmdk\"\nddb."), "2 extents"},
	"no extent":                 {descriptor("RW 16384", "#"), "0 extents"},
	"an extent elsewhere":       {descriptor("disk.vmdk", "/etc/shadow"), "another directory"},
	"an extent elsewhere, up":   {descriptor("disk.vmdk", `..\x`), "another directory"},
	"an extent of another size": {descriptor("RW 16384", "RW 99"), "another size"},
	"a parent":                  {descriptor("parentCID=ffffffff", "parentCID=12345678"), "parent"},
	"a parent, spaced":          {descriptor("parentCID=ffffffff", `parentCID = "12345678"`), "parent"},
	"a parent's name":           {descriptor("ddb.", "parentFileNameHint=\"/etc/shadow\"\nddb."), "parent"},
	"encryption":                {descriptor("ddb.", "encryption.keySafe = \"x\"\nddb."), "encrypted"},
	"an ESX kind":               {descriptor("monolithicSparse", "vmfsSparse"), "vmfsSparse"},
	"a split kind":              {descriptor("monolithicSparse", "twoGbMaxExtentSparse"), "twoGb"},
	"a snapshot's magic":        {in(func(b []byte) { copy(b, "COWD") }), "snapshot"},
	"no descriptor":             {in(func(b []byte) { le(b, 28, 8, 0) }), "no descriptor"},
	"a descriptor outside":      {in(func(b []byte) { le(b, 28, 8, 1<<30) }), "descriptor is outside"},
	"a descriptor of gigabytes": {in(func(b []byte) { le(b, 36, 8, 1<<40) }), "descriptor of"},
	"a disk of exabytes (a bomb)": {in(func(b []byte) {
		le(b, 12, 8, 1<<52)
		copy(b[512:], strings.Replace(goodDescriptor, "16384", "4503599627370496", 1))
	}), "allowed"},
	"version 9":              {in(func(b []byte) { le(b, 4, 4, 9) }), "version 9"},
	"an unknown feature":     {in(func(b []byte) { le(b, 8, 4, 1<<9) }), "unknown features"},
	"grains of 3 sectors":    {in(func(b []byte) { le(b, 20, 8, 3) }), "grains"},
	"grains of 2^63 sectors": {in(func(b []byte) { le(b, 20, 8, 1<<63) }), "grains"},
	"tables of 2^32 entries": {in(func(b []byte) { le(b, 44, 4, 1<<32-1) }), "entries"},
	"an unknown compression": {in(func(b []byte) { le(b, 77, 2, 7) }), "compression"},
	"a directory outside":    {in(func(b []byte) { le(b, 56, 8, 1<<40) }), "directory is outside"},
	"a directory at 2^63":    {in(func(b []byte) { le(b, 56, 8, 1<<63) }), "directory is outside"},
	"a table outside":        {in(func(b []byte) { le(b, 8*512, 4, 1<<31) }), "table is outside"},
	"a grain outside":        {in(func(b []byte) { le(b, 9*512, 4, 1<<31) }), "grain is outside"},
	"the same grain everywhere (a bomb)": {in(func(b []byte) {
		for i := 0; i < 512; i++ {
			le(b, 9*512+4*i, 4, 32)
		}
	}), "add up"},
	"a footer of another disk": {in(func(b []byte) {
		footer := bytes.Clone(b[:512])
		le(footer, 12, 8, 0x7fffffff)
		le(b, 56, 8, vmdkAtEnd)
		copy(b[len(b)-1024:], footer)
	}), "footer"},
	"nothing": {func([]byte) []byte { return nil }, "outside"},
}

// metadataItem changes the value of the n-th metadata item of the VHDX.
func metadataItem(n, width int, v uint64) func([]byte) []byte {
	return in(func(b []byte) { le(b, 2<<20+64<<10+16*n, width, v) })
}

var hostileVHDX = map[string]hostile{
	"a parent by flag":            {in(func(b []byte) { le(b, 2<<20+64<<10+4, 4, 2) }), "parent"},
	"a parent by locator":         {in(func(b []byte) { copy(b[2<<20+32+32*3:], vhdxParent[:]) }), "parent"},
	"unknown metadata":            {in(func(b []byte) { b[2<<20+32+32*3] ^= 1 }), "unknown metadata"},
	"an unknown region":           {in(func(b []byte) { b[vhdxRegions1+16] ^= 1; b[vhdxRegions2+16] ^= 1 }), "unknown region"},
	"two region tables":           {in(func(b []byte) { b[vhdxRegions2+33] ^= 1 }), "differ"},
	"a log to replay":             {in(func(b []byte) { b[vhdxHeader2+50] = 1 }), "log"},
	"version 2":                   {in(func(b []byte) { b[vhdxHeader1+66] = 2 }), "version 2"},
	"a region outside":            {in(func(b []byte) { le(b, vhdxRegions1+32, 8, 1<<40); le(b, vhdxRegions2+32, 8, 1<<40) }), "region is outside"},
	"a region in the headers":     {in(func(b []byte) { le(b, vhdxRegions1+32, 8, 0); le(b, vhdxRegions2+32, 8, 0) }), "region table"},
	"a disk of exabytes (a bomb)": {metadataItem(1, 8, 1<<60), "bytes"},
	"a disk over the limit":       {metadataItem(1, 8, 1<<40), "allowed"},
	"a disk of no bytes":          {metadataItem(1, 8, 0), "0 bytes"},
	"blocks of 3 bytes":           {metadataItem(0, 4, 3), "blocks of"},
	"sectors of 1 byte":           {metadataItem(2, 4, 1), "sectors of"},
	"metadata outside":            {in(func(b []byte) { le(b, 2<<20+32+16, 4, 1<<31) }), "malformed"},
	"an item twice":               {in(func(b []byte) { copy(b[2<<20+64:], b[2<<20+32:2<<20+48]) }), "malformed"},
	"2^16 items":                  {in(func(b []byte) { le(b, 2<<20+10, 2, 1<<16-1) }), "malformed"},
	"a block outside":             {in(func(b []byte) { le(b, 1<<20, 8, 1<<40|vhdxBlockPresent) }), "block is outside"},
	"a block of the headers":      {in(func(b []byte) { le(b, 1<<20, 8, vhdxBlockPresent) }), "headers"},
	"a block of a parent":         {in(func(b []byte) { le(b, 1<<20, 8, 3<<20|vhdxBlockPartly) }), "parent"},
	"the same block everywhere (a bomb)": {func(b []byte) []byte {
		le(b, 2<<20+64<<10+16, 8, 64<<20)
		for i := 0; i < 64; i++ {
			le(b, 1<<20+8*i, 8, 3<<20|vhdxBlockPresent)
		}
		return b
	}, "add up"},
	"half a file": {func(b []byte) []byte { return b[:200<<10] }, "outside"},
	"nothing":     {func([]byte) []byte { return nil }, "outside"},
}

func TestVMM3HostileDisksAreRefusedForTheirReason(t *testing.T) {
	for _, f := range []struct {
		format Format
		good   func() []byte
		cases  map[string]hostile
	}{{QCOW2, goodQCOW2, hostileQCOW2}, {VMDK, goodVMDK, hostileVMDK}, {VHDX, goodVHDX, hostileVHDX}} {
		for name, c := range f.cases {
			t.Run(fmt.Sprintf("%s with %s", f.format, name), func(t *testing.T) {
				_, err := inspectBytes(f.format, c.spoil(f.good()))
				if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("error %v, want a refusal about %q", err, c.says)
				}
			})
		}
	}
}

func TestVMM3TheFormatIsNeverProbed(t *testing.T) {
	for path, want := range map[string]Format{"a.qcow2": QCOW2, "A.VMDK": VMDK, "x.vhdx": VHDX, "x.raw": Raw, "x.img": "", "x": "", "x.qcow2.gz": ""} {
		if got, err := FormatOf("", path); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if f, err := FormatOf("raw", "a.qcow2"); err != nil || f != Raw {
		t.Errorf("a person's word does not count: %q, %v", f, err)
	}
	if _, err := FormatOf("vdi", "a.qcow2"); err == nil {
		t.Error("an unknown format was accepted")
	}
	for _, f := range []Format{QCOW2, VMDK, VHDX} {
		if _, err := inspectBytes(f, make([]byte, 1<<20)); !errors.Is(err, ErrRefused) {
			t.Errorf("zeros as %s: %v", f, err)
		}
	}
	args := strings.Join(convertArgs(Raw), " ")
	if !strings.Contains(args, `"driver":"raw"`) || !strings.Contains(args, "/proc/self/fd/3") {
		t.Errorf("%s", args)
	}
}

func fuzzFormat(f *testing.F, format Format, good []byte, cases map[string]hostile, make func() []byte) {
	f.Add(good)
	for _, c := range cases {
		if b := c.spoil(make()); len(b) < 1<<19 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := inspectBytes(format, data)
		if err == nil && (n <= 0 || n > testLimit || n%512 != 0) {
			t.Errorf("a disk of %d bytes", n)
		}
	})
}

func FuzzQCOW2(f *testing.F) { fuzzFormat(f, QCOW2, goodQCOW2(), hostileQCOW2, goodQCOW2) }
func FuzzVMDK(f *testing.F)  { fuzzFormat(f, VMDK, goodVMDK(), hostileVMDK, goodVMDK) }
func FuzzVHDX(f *testing.F)  { fuzzFormat(f, VHDX, goodVHDX(), hostileVHDX, goodVHDX) }
