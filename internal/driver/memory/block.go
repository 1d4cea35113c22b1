package memory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

// Pages is how the kernel pages a block.
type Pages string

// The kinds of pages.
const (
	// PagesSmall is the default: 4 KiB pages, always there.
	PagesSmall Pages = ""
	// PagesTransparent asks for huge pages where the kernel has them (shmem_enabled=advise).
	PagesTransparent Pages = "transparent"
	// PagesHuge takes 2 MiB pages out of the host's reserved pool, which are never swapped. Allocate fails when the pool is too small.
	PagesHuge Pages = "huge"
)

const (
	pageBytes = 4096
	hugeBytes = 2 << 20
	// blockName shows in /proc/PID/maps of everybody who maps a block, so it names no desktop.
	blockName = "carrel-memory"
	// stepBytes is the piece of passes that go through the kernel (populating, locking).
	stepBytes = 64 << 20
	// seals that every block has from the start: nobody who holds the descriptor can cut the memory off under a mapping (SIGBUS) or let it
	// grow beyond what is zeroed.
	sizeSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
)

// Block is the memory of one machine: an anonymous file that exists as long as somebody holds its descriptor. All methods may be called
// concurrently, but a slice from Bytes must not be used once Close, a scrub or Readonly has run.
type Block struct {
	file  *os.File
	size  int64
	pages Pages
	id    fileID

	mu sync.Mutex
	// write and read are mappings; read is of a descriptor that was opened for reading only, so the kernel does not count it as a mapping
	// that could write (F_SEAL_WRITE would be refused) and nobody can make it one.
	write, read []byte
	populated   bool
	// mapped: every page of the read mapping is there, as far as nothing has taken it away, which costs a fault when it is read.
	mapped bool
	locked bool

	// retiring is held while a template is copied; retired once its scrub has begun.
	retiring sync.RWMutex
	retired  bool
}

// fileID says whether two descriptors or mappings are of the same file.
type fileID struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

// Allocate makes a block of zeros. bytes must be a multiple of the page size. Nothing of it is touched yet: see Populate.
func Allocate(bytes int64, pages Pages) (*Block, error) {
	unit := int64(pageBytes)
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	switch pages {
	case PagesSmall, PagesTransparent:
	case PagesHuge:
		unit, flags = hugeBytes, flags|unix.MFD_HUGETLB|unix.MFD_HUGE_2MB
	default:
		return nil, fmt.Errorf("allocate memory: unknown kind of pages %q", pages)
	}
	if bytes <= 0 || bytes%unit != 0 {
		return nil, fmt.Errorf("allocate memory: %d bytes: want a multiple of %d", bytes, unit)
	}
	// A guest's memory is never a program; kernels before 6.3 do not know the flag.
	fd, err := unix.MemfdCreate(blockName, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(blockName, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("allocate memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), blockName)
	err = unix.Ftruncate(fd, bytes)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, sizeSeals)
	}
	var b *Block
	if err == nil {
		b, err = newBlock(file, pages)
	}
	if err == nil {
		_, err = b.Bytes()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("allocate %d bytes of memory: %w", bytes, err), file.Close())
	}
	return b, nil
}

// newBlock takes over a descriptor, which must be a sized-sealed memory file.
func newBlock(file *os.File, pages Pages) (*Block, error) {
	id, size, seals, err := inspect(file)
	if err != nil {
		return nil, err
	}
	if seals&sizeSeals != sizeSeals || size <= 0 {
		return nil, fmt.Errorf("not a memory block: %d bytes, seals %#x", size, seals)
	}
	return &Block{file: file, size: size, pages: pages, id: id}, nil
}

// inspect reads identity, size and seals. An error: it is no memory file that can be sealed.
func inspect(file *os.File) (id fileID, size int64, seals int, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return id, 0, 0, fmt.Errorf("inspect memory: %w", err)
	}
	seals, err = unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return id, 0, 0, fmt.Errorf("inspect memory: %w", err)
	}
	return fileID{st.Dev, st.Ino}, st.Size, seals, nil
}

// Size is the block's size in bytes.
func (b *Block) Size() int64 { return b.size }

// File is the descriptor to pass to the machine: descriptor N of the child, memory-backend-file with mem-path=/proc/self/fd/N and share=on.
// It belongs to the block.
func (b *Block) File() *os.File { return b.file }

// Bytes is the memory itself, mapped for writing. driver.ErrOrder: it is sealed.
func (b *Block) Bytes() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.writable()
}

func (b *Block) writable() ([]byte, error) {
	if b.write != nil {
		return b.write, nil
	}
	m, err := unix.Mmap(int(b.file.Fd()), 0, int(b.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("map memory: %w: it is sealed against writing", driver.ErrOrder)
	}
	if err != nil {
		return nil, fmt.Errorf("map memory: %w", err)
	}
	if err := b.advise(m); err != nil {
		return nil, errors.Join(err, unix.Munmap(m))
	}
	b.write = m
	return m, nil
}

// readable maps the block through a descriptor opened for reading only.
func (b *Block) readable() ([]byte, error) {
	if b.read != nil {
		return b.read, nil
	}
	m, err := mapReadonly(b.file, b.size)
	if err != nil {
		return nil, err
	}
	if err := b.advise(m); err != nil {
		return nil, errors.Join(err, unix.Munmap(m))
	}
	b.read = m
	return m, nil
}

// mapReadonly maps a memory file in a way that can never be made writable. The descriptor is opened anew because kernels before 6.7 count
// every shared mapping of a writable descriptor as one that may write.
func mapReadonly(file *os.File, size int64) ([]byte, error) {
	r, err := reopen(file, unix.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("map memory for reading: %w", err)
	}
	defer func() { _ = r.Close() }() // The mapping keeps the file.
	m, err := unix.Mmap(int(r.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map memory for reading: %w", err)
	}
	return m, nil
}

// reopen opens the same file again with other rights.
func reopen(file *os.File, flags int) (*os.File, error) {
	return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), flags|unix.O_CLOEXEC, 0)
}

// advise keeps a mapping out of core dumps, out of children and out of page merging.
func (b *Block) advise(m []byte) error {
	for _, a := range []struct {
		advice int
		name   string
	}{{unix.MADV_DONTDUMP, "core dumps"}, {unix.MADV_DONTFORK, "children"}} {
		if err := unix.Madvise(m, a.advice); err != nil {
			return fmt.Errorf("keep memory out of %s: %w", a.name, err)
		}
	}
	// Without KSM in the kernel there is nothing to be kept out of (EINVAL); huge pages are only a wish.
	_ = unix.Madvise(m, unix.MADV_UNMERGEABLE)
	if b.pages == PagesTransparent {
		_ = unix.Madvise(m, unix.MADV_HUGEPAGE)
	}
	return nil
}

// Populate takes every page from the kernel now, so that the guest cannot run into a full host later, and locks them into memory when that is
// allowed. It may run while the machine starts. An error: the host has not enough memory; some of it may have been taken.
func (b *Block) Populate(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.populated {
		return nil
	}
	w, err := b.writable()
	if err != nil {
		return err
	}
	r, err := b.readable()
	if err != nil {
		return err
	}
	err = pieces(b.size, stepBytes, func(_, from, to int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := populate(b.file, w[from:to], from, unix.MADV_POPULATE_WRITE); err != nil {
			return err
		}
		return populate(b.file, r[from:to], from, unix.MADV_POPULATE_READ)
	})
	if err != nil {
		return fmt.Errorf("take %d bytes of memory: %w", b.size, err)
	}
	b.populated, b.mapped = true, true
	// Not being allowed (RLIMIT_MEMLOCK) is a fact that the scrub report tells, not an error.
	b.locked = unix.Mlock(w) == nil
	return nil
}

// populate maps the pages of m, which is mapped at offset from of the file. advice is MADV_POPULATE_READ or _WRITE.
func populate(file *os.File, m []byte, from int64, advice int) error {
	err := unix.Madvise(m, advice)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// Linux before 5.14. The pages are taken by fallocate, which reports a full host as an error where touching them would be SIGBUS.
	if advice == unix.MADV_POPULATE_WRITE {
		if err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, from, int64(len(m))); err != nil {
			return err
		}
	}
	var sum byte
	for i := 0; i < len(m); i += pageBytes {
		sum |= m[i]
	}
	_ = sum
	return nil
}

// Locked tells whether this process holds the whole block locked into memory.
func (b *Block) Locked() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.locked || b.pages == PagesHuge
}

// Readonly takes this process's own writable mapping away.
func (b *Block) Readonly() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unmapWritable()
}

func (b *Block) unmapWritable() error {
	if b.write == nil {
		return nil
	}
	// The kernel takes a mapping apart page by page, and unmapping does it on one processor. Where it does not let the pages go first
	// (Linux before 5.18), that is all that happens.
	_ = pieces(b.size, stepBytes, func(_, from, to int64) error { return unix.Madvise(b.write[from:to], unix.MADV_DONTNEED_LOCKED) })
	if err := unix.Munmap(b.write); err != nil {
		return fmt.Errorf("unmap memory: %w", err)
	}
	b.write, b.locked = nil, false
	return nil
}

// Close unmaps the block and closes the descriptor. The memory itself lives as long as anybody else holds it. Closed already: success.
func (b *Block) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.unmapWritable()
	if b.read != nil {
		err = errors.Join(err, unix.Munmap(b.read))
		b.read, b.mapped = nil, false
	}
	if e := b.file.Close(); !errors.Is(e, os.ErrClosed) {
		err = errors.Join(err, e)
	}
	return err
}
