package memory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

func TestBlockIsKeptOutOfDumpsAndChildren(t *testing.T) {
	b := allocate(t, 4<<20)
	if err := b.Populate(context.Background()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	maps := 0
	mine, resident := false, 0
	for line := range strings.SplitSeq(string(text), "\n") {
		if r, err := parseRegion(line); err == nil {
			mine = r.file == b.id
			continue
		}
		if f := strings.Fields(line); mine && len(f) > 1 && f[0] == "Rss:" {
			n, _ := strconv.Atoi(f[1])
			resident += n
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && mine {
			maps++
			if !strings.Contains(flags, " dd") || !strings.Contains(flags, " dc") {
				t.Errorf("flags of the mapping are %s: want dd (no dump) and dc (no copy)", flags)
			}
		}
	}
	if maps != 2 || resident != 2*4096 {
		t.Errorf("%d mappings with %d KiB resident: want two of all of it", maps, resident)
	}
	_, size, seals, err := inspect(b.File())
	if err != nil || size != 4<<20 || seals&sizeSeals != sizeSeals || seals&unix.F_SEAL_WRITE != 0 {
		t.Errorf("%d bytes, seals %#x, %v", size, seals, err)
	}
	if err := unix.Ftruncate(int(b.File().Fd()), 4096); err == nil {
		t.Error("the block could be cut")
	}
}

func TestBlockOfAWrongSizeIsRefused(t *testing.T) {
	for _, n := range []int64{0, -4096, 4095, 4097} {
		if b, err := Allocate(n, PagesSmall); err == nil {
			t.Errorf("%d bytes were allocated", n)
			_ = b.Close()
		}
	}
	if _, err := Allocate(4096, "large"); err == nil {
		t.Error("unknown pages were allocated")
	}
	if _, err := Allocate(4096, PagesHuge); err == nil {
		t.Error("a part of a huge page was allocated")
	}
	if b, err := Allocate(4<<20, PagesTransparent); err != nil {
		t.Error(err)
	} else if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestReadBackCountsEveryByteThatIsNotZero(t *testing.T) {
	ctx := context.Background()
	for _, size := range []int{1, 4096, chunkBytes, chunkBytes + 4096, 5*chunkBytes + 8192} {
		b := make([]byte, size)
		if n, digest, err := readBack(ctx, b); n != 0 || err != nil || digest != ZeroDigest(int64(size)) {
			t.Errorf("%d zeros: %d, %s, %v", size, n, digest, err)
		}
		for _, at := range []int{0, size / 2, size - 1} {
			b[at] = 0x80
		}
		want := int64(len(b) - bytes.Count(b, []byte{0}))
		if n, digest, err := readBack(ctx, b); n != want || err != nil || digest != slowDigest(b) {
			t.Errorf("%d bytes with %d marks: %d, %s, %v", size, want, n, digest, err)
		}
		if err := zeroBytes(ctx, b); err != nil || countNonZero(b) != 0 {
			t.Errorf("zeroing %d bytes left something, %v", size, err)
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := readBack(cancelled, make([]byte, chunkBytes)); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled pass gave %v", err)
	}
}

// slowDigest is the definition.
func slowDigest(b []byte) string {
	h := sha256.New()
	for len(b) > 0 {
		n := min(len(b), chunkBytes)
		sum := sha256.Sum256(b[:n])
		h.Write(sum[:])
		b = b[n:]
	}
	return hex.EncodeToString(h.Sum(nil))
}

// The value that the shell line in readback.go gives for 2 MiB.
func TestZeroDigestIsWhatAnybodyCanCompute(t *testing.T) {
	const mib = "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58"
	if got := hex.EncodeToString(zeroChunk[:]); got != mib {
		t.Errorf("SHA-256 of a MiB of zeros is %s", got)
	}
	if got := ZeroDigest(2 << 20); got != slowDigest(make([]byte, 2<<20)) {
		t.Errorf("ZeroDigest is %s", got)
	}
}

func TestMappingForReadingCannotBeMadeWritable(t *testing.T) {
	b := allocate(t, pageBytes)
	m, err := mapReadonly(b.file, b.size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(m) }()
	if err := unix.Mprotect(m, unix.PROT_READ|unix.PROT_WRITE); err == nil {
		t.Error("it could be made writable")
	}
	if err := b.Readonly(); err != nil {
		t.Fatal(err)
	}
	// With only such mappings left the kernel seals.
	if _, err := unix.FcntlInt(b.file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != nil {
		t.Errorf("sealing gave %v", err)
	}
	if _, err := b.Bytes(); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("mapping a sealed block for writing gave %v", err)
	}
}

func TestTemplateIsCopiedCheckedAndScrubbed(t *testing.T) {
	ctx := context.Background()
	k := connect(t, runDir(t))
	b := allocate(t, 8<<20+8192)
	if err := k.Put(ctx, "template-1", b, Meta{Run: "template-1", Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	m, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Populate(ctx); err != nil {
		t.Fatal(err)
	}
	copy(m[4096:], pattern(100_000))
	copy(m[3<<20:], pattern(2<<20))
	m[len(m)-1] = 3
	want := bytes.Clone(m)

	user := start(t, "machine", "x", b.File())
	if err := k.SetProcess(ctx, "template-1", user.pid()); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Template(ctx, "template-1"); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("a template that a machine uses gave %v", err)
	}
	user.kill()
	copy(m, want) // The machine of this test has written its marker.
	tm, err := k.Template(ctx, "template-1")
	if err != nil {
		t.Fatal(err)
	}
	if tm.Digest() != slowDigest(want) {
		t.Errorf("digest %s, want %s", tm.Digest(), slowDigest(want))
	}
	// The machine's memory was taken from the kernel whole; the template has what is not zero, in pieces of 64 KiB: 2 and 32 of them, and the end.
	var st unix.Stat_t
	if err := unix.Fstat(int(b.File().Fd()), &st); err != nil || st.Blocks*512 > 34*thinBytes+8192 || st.Size != int64(len(want)) {
		t.Errorf("it holds %d bytes of memory of %d, %v", st.Blocks*512, st.Size, err)
	}
	for _, populated := range []bool{false, true} {
		clone := allocate(t, tm.Size())
		if populated {
			if err := clone.Populate(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := tm.CopyTo(ctx, clone); err != nil {
			t.Fatal(err)
		}
		if got, err := clone.Bytes(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("populated %v: the copy differs, %v", populated, err)
		}
	}
	if err := tm.CopyTo(ctx, allocate(t, pageBytes)); err == nil {
		t.Error("it was copied into a block of another size")
	}
	if err := tm.Check(ctx); err != nil {
		t.Error(err)
	}
	if _, err := b.file.WriteAt([]byte{9}, 5<<20); err != nil {
		t.Fatal(err)
	}
	if err := tm.Check(ctx); driver.AsPermanent(err) == nil {
		t.Errorf("a changed template gave %v", err)
	}
	w := witness(t, b)
	r, err := k.Scrub(ctx, "template-1", ScrubOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantClean(t, r, b.size)
	if r.ProcessEnded || countNonZero(w) != 0 {
		t.Errorf("report %+v, %d bytes left", r, countNonZero(w))
	}
	if err := tm.CopyTo(ctx, allocate(t, tm.Size())); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("copying a retired template gave %v", err)
	}
	if _, err := k.Template(ctx, "template-1"); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("opening it again gave %v", err)
	}
}

func TestStatWithAHostileNameIsReadFromItsEnd(t *testing.T) {
	line := "42 (a) R 1 1 1 (x) T 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 2 3\n"
	if state, start, err := parseStat([]byte(line)); err != nil || state != 'T' || start != 987654 {
		t.Errorf("got %c, %d, %v", state, start, err)
	}
	for _, bad := range []string{"", "42 (x", "42 (x) R 1", "42 (x) RR " + strings.Repeat("1 ", 30), "42 (x) R " + strings.Repeat("y ", 30)} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestRegionsAreTreatedByWhatTheyAre(t *testing.T) {
	guest := fileID{1, 7}
	for line, want := range map[string]treatment{
		"7f0000000000-7f0000001000 rw-p 00000000 00:00 0 ":                                    ownPages,
		"7f0000000000-7f0000001000 r--p 00000000 08:01 99 /usr/bin/qemu-system-x86_64":        ownPages,
		"7f0000000000-7f0000001000 rw-p 00000000 00:00 0                          [heap]":     ownPages,
		"7f0000000000-7f0000001000 rw-s 00000000 00:01 7 /memfd:carrel-memory (deleted)":      leave,
		"7f0000000000-7f0000001000 rw-s 00000000 00:01 8 /memfd:carrel-memory (deleted)":      wholeRange,
		"7f0000000000-7f0000001000 rw-s 00000000 00:01 9 /dev/zero (deleted)":                 wholeRange,
		"7f0000000000-7f0000001000 rw-s 00000000 00:01 9 /SYSV00000000 (deleted)":             wholeRange,
		"7f0000000000-7f0000001000 r--s 00000000 00:01 9 /memfd:x (deleted)":                  skip,
		"7f0000000000-7f0000001000 rw-s 00000000 00:06 9 /dev/vfio/7":                         skip,
		"7f0000000000-7f0000001000 rw-p 00000000 00:06 9 /dev/mem":                            skip,
		"7f0000000000-7f0000001000 rw-s 00000000 08:01 9 /srv/disk.raw":                       skip,
		"7f0000000000-7f0000001000 rw-s 00000000 00:0e 9 anon_inode:kvm-vcpu:0":               anyPages,
		"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]": leave,
	} {
		r, err := parseRegion(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got, reason := r.treat(guest); got != want || (got == skip) != (strings.HasPrefix(reason, skipDevice) || reason == skipFile || reason == skipReadonly) {
			t.Errorf("%s: treatment %d (%s), want %d", line, got, reason, want)
		}
	}
}

func FuzzMaps(f *testing.F) {
	if b, err := os.ReadFile("/proc/self/maps"); err == nil {
		f.Add(b)
	}
	f.Add([]byte("0-1000 rw-s 0 00:01 5 /memfd:x\\012y (deleted)\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		regions, err := parseMaps(b)
		if err != nil {
			return
		}
		for _, r := range regions {
			_, _ = r.treat(fileID{})
			if r.to < r.from || r.from%pageBytes != 0 {
				t.Fatalf("%+v", r)
			}
		}
	})
}
