package memory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// The memory of the machine's process itself: heap, stacks, video memory, translated code. Copies of guest data and disk keys were found in it,
// so it is overwritten while the process is stopped, through /proc/PID/mem.

// span is a piece of a process's address space.
type span struct {
	from, to uint64
	// kind says in a word what it is, for the counts of what could not be overwritten.
	kind string
}

// Why bytes of a process were not overwritten; keys of driver.ScrubReport.ProcessSkipped.
const (
	skipDevice   = "device"            // A device's memory: writing there would talk to the device.
	skipFile     = "shared file"       // A file on a disk that would lose its content.
	skipReadonly = "shared, read-only" // Not writable through this mapping.
	skipRefused  = "refused by the kernel"
	noteSwapped  = "was in swap" // Overwritten, but a copy of it was on a swap device.
)

// wiped is what was done to a process.
type wiped struct {
	// Bytes were overwritten; Skipped counts those that were not, by reason.
	Bytes   int64
	Skipped map[string]int64
}

// treatment is what is done with a region.
type treatment int

const (
	leave      treatment = iota
	skip                 // Counted, with the reason.
	wholeRange           // Every page: the page tables do not tell what a shared object holds.
	ownPages             // The pages that belong to the process alone: anonymous ones, copies of a file's.
	anyPages             // Every page that is there.
)

// treat decides by what a region is. guest is the machine's block, which is zeroed after the process has ended.
func (r region) treat(guest fileID) (treatment, string) {
	switch {
	case r.file == guest && r.shared():
		return leave, ""
	case strings.HasPrefix(r.name, "[v"), r.name == "[uprobes]", r.name == "[sigpage]": // vdso, vvar, vsyscall: the kernel's.
		return leave, ""
	case strings.HasPrefix(r.name, "/dev/") && !strings.HasPrefix(r.name, "/dev/zero") && !strings.HasPrefix(r.name, "/dev/shm/") &&
		!strings.HasPrefix(r.name, "/dev/hugepages/"), strings.Contains(r.name, "vfio"):
		return skip, skipDevice
	case !r.shared():
		return ownPages, "private"
	}
	nameless := strings.HasPrefix(r.name, "/dev/zero") || strings.HasPrefix(r.name, "/SYSV") || strings.HasPrefix(r.name, "/memfd:") ||
		strings.HasPrefix(r.name, "/anon_hugepage") || strings.HasPrefix(r.name, "/dev/shm/") || strings.HasPrefix(r.name, "/dev/hugepages/")
	switch {
	case strings.HasPrefix(r.name, "anon_inode:"): // A virtual processor's page, a ring shared with the kernel.
		return anyPages, "kernel"
	case nameless && r.writable():
		return wholeRange, "shared"
	case nameless:
		return skip, skipReadonly
	case r.writable():
		return skip, skipFile
	}
	return leave, "" // A file on a disk that this process cannot have written through here.
}

// view is a stopped process's memory.
type view struct {
	p       *process
	mem     *os.File
	pagemap *os.File
	regions []region
	guest   fileID
}

// look opens the memory of a process; it must be stopped, or what is seen is out of date. errEnded.
func (p *process) look(guest fileID) (*view, error) {
	v := &view{p: p, guest: guest}
	b, err := os.ReadFile(filepath.Join(p.dir, "maps"))
	if err == nil {
		v.regions, err = parseMaps(b)
	}
	if err == nil {
		v.mem, err = os.OpenFile(filepath.Join(p.dir, "mem"), os.O_RDWR, 0)
	}
	if err == nil {
		v.pagemap, err = os.Open(filepath.Join(p.dir, "pagemap"))
	}
	// Opened by number: only if the process is still there were these files its own.
	if p.ended() {
		err = errEnded
	}
	if err != nil {
		v.close()
		if errors.Is(err, errEnded) {
			return nil, errEnded
		}
		return nil, fmt.Errorf("memory of process %d: %w", p.pid, err)
	}
	return v, nil
}

func (v *view) close() {
	for _, f := range []*os.File{v.mem, v.pagemap} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// spans gives what has to be overwritten, and counts what will not be.
func (v *view) spans(skipped map[string]int64) ([]span, error) {
	var all []span
	elsewhere := map[fileID]bool{}
	for _, r := range v.regions {
		if how, _ := r.treat(v.guest); how == wholeRange {
			elsewhere[r.file] = true
		}
	}
	for _, r := range v.regions {
		how, kind := r.treat(v.guest)
		switch how {
		case skip:
			// Generated code may be mapped twice: once to be written, once to run.
			if kind != skipReadonly || !elsewhere[r.file] {
				skipped[kind] += int64(r.to - r.from)
			}
		case wholeRange:
			all = append(all, span{r.from, r.to, kind})
		case ownPages, anyPages:
			pages, err := v.pages(r, span{kind: kind}, how == anyPages, skipped)
			if err != nil {
				return nil, err
			}
			all = append(all, pages...)
		}
	}
	return all, nil
}

// Bits of a page's entry in /proc/PID/pagemap.
const (
	pagePresent = 1 << 63
	pageSwapped = 1 << 62
	pageOfFile  = 1 << 61 // A file's page or shared memory: not a private copy.
)

// pages finds the pages of a region that are there. The permissions do not matter: a page that was written and then made read-only (relocations,
// generated code) holds what was written.
func (v *view) pages(r region, like span, files bool, skipped map[string]int64) ([]span, error) {
	var all []span
	buf := make([]byte, 64<<10)
	for at := r.from; at < r.to; {
		n := min(uint64(len(buf)/8), (r.to-at)/pageBytes)
		got, err := v.pagemap.ReadAt(buf[:n*8], int64(at/pageBytes*8))
		if got == 0 || err != nil && !errors.Is(err, io.EOF) {
			if v.p.ended() {
				return nil, errEnded
			}
			return nil, fmt.Errorf("pages of process %d at %x: %w", v.p.pid, at, err)
		}
		for i := 0; i+8 <= got; i += 8 {
			e := binary.NativeEndian.Uint64(buf[i:])
			page := at + uint64(i/8)*pageBytes
			if e&(pagePresent|pageSwapped) == 0 || e&pageOfFile != 0 && !files {
				continue
			}
			if e&pagePresent == 0 {
				skipped[noteSwapped] += pageBytes
			}
			if k := len(all) - 1; k >= 0 && all[k].to == page {
				all[k].to += pageBytes
			} else {
				all = append(all, span{page, page + pageBytes, like.kind})
			}
		}
		at += uint64(got/8) * pageBytes
	}
	return all, nil
}

// zero overwrites everything that the process itself holds. errEnded: it ended meanwhile; what was counted until then is given.
func (v *view) zero(ctx context.Context) (wiped, error) {
	w := wiped{Skipped: map[string]int64{}}
	spans, err := v.spans(w.Skipped)
	if err != nil {
		return w, err
	}
	spans = cut(spans, chunkBytes)
	var mu sync.Mutex
	err = pieces(int64(len(spans)), 16, func(_, from, to int64) error {
		for _, s := range spans[from:to] {
			if err := ctx.Err(); err != nil {
				return err
			}
			done, err := v.overwrite(s)
			mu.Lock()
			w.Bytes += done
			if err == nil {
				if left := int64(s.to-s.from) - done; left > 0 {
					w.Skipped[skipRefused+", "+s.kind] += left
				}
			}
			mu.Unlock()
			if err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errEnded) {
		return w, errEnded
	}
	return w, err
}

// cut makes long spans into several.
func cut(spans []span, size uint64) []span {
	var out []span
	for _, s := range spans {
		for ; s.to-s.from > size; s.from += size {
			out = append(out, span{s.from, s.from + size, s.kind})
		}
		out = append(out, s)
	}
	return out
}

// overwrite writes zeros into a span of at most a chunk, going around pages that the kernel refuses.
func (v *view) overwrite(s span) (done int64, err error) {
	for at := s.from; at < s.to; {
		n, err := unix.Pwrite(int(v.mem.Fd()), zeros[:s.to-at], int64(at))
		switch {
		case n > 0:
			done += int64(n)
			at += uint64(n)
		case err == nil || errors.Is(err, unix.ESRCH):
			return done, errEnded // The address space is gone.
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EIO) || errors.Is(err, unix.EFAULT):
			at = at&^(pageBytes-1) + pageBytes
		default:
			return done, fmt.Errorf("overwrite process %d at %x: %w", v.p.pid, at, err)
		}
	}
	return done, nil
}

// count counts the bytes that are not zero in what zero overwrites.
func (v *view) count(ctx context.Context) (n int64, err error) {
	spans, err := v.spans(map[string]int64{})
	if err != nil {
		return 0, err
	}
	buf := make([]byte, chunkBytes)
	defer clear(buf)
	for _, s := range cut(spans, chunkBytes) {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		got, err := unix.Pread(int(v.mem.Fd()), buf[:s.to-s.from], int64(s.from))
		if err != nil && !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EFAULT) {
			return n, fmt.Errorf("read process %d at %x: %w", v.p.pid, s.from, err)
		}
		n += countNonZero(buf[:max(0, got)])
	}
	return n, nil
}
