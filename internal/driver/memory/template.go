package memory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

// Template is the memory of a machine that was started once and is copied into the blocks of others.
//
// It is not sealed against writing, although that would be the obvious protection: a memory file that is sealed can never be zeroed again (the kernel
// refuses writing and punching holes alike, and a seal cannot be taken back), and giving pages back to the kernel proves nothing. A template
// was made without a person, a network card or a user volume, so it holds nothing personal; but that is a promise of who made it, so it goes through
// the same scrub as any block when it is retired. What protects it meanwhile: its descriptor is never given to a machine (machines get
// copies), this process and the keeper map it through descriptors that cannot write, and its digest is taken when it is made, so that Check can
// tell whether it still is what it was.
type Template struct {
	block  *Block
	digest string
}

// Template makes a held block into a template, or opens one. Its machine must have ended. driver.ErrNotFound; driver.ErrOrder: a process uses it, or it is
// being scrubbed.
func (k *Keeper) Template(ctx context.Context, id string) (*Template, error) {
	fail := func(err error) (*Template, error) { return nil, fmt.Errorf("template %s: %w", id, err) }
	block, meta, err := k.Get(id)
	if err != nil {
		return fail(err)
	}
	if meta.PID != 0 && alive(meta.PID, meta.StartTime) {
		return fail(fmt.Errorf("%w: process %d uses it", driver.ErrOrder, meta.PID))
	}
	j, err := k.loadJournal(id)
	if err == nil && !j.Started.IsZero() {
		err = fmt.Errorf("%w: it is being scrubbed", driver.ErrOrder)
	}
	if err != nil {
		return fail(err)
	}
	if err := block.Readonly(); err != nil {
		return fail(err)
	}
	if found, err := holders(block.id); err != nil || len(found) > 0 {
		return fail(errors.Join(err, fmt.Errorf("%w: %s", driver.ErrOrder, whoMaps(block.id))))
	}
	if !meta.Template {
		if err := block.thin(ctx); err != nil {
			return fail(err)
		}
		h := &holding{block, meta}
		h.meta.Template, h.meta.PID, h.meta.StartTime = true, 0, 0
		if err := k.tell(ctx, id, h); err != nil {
			return fail(err)
		}
		k.mu.Lock()
		k.known[id] = h
		k.mu.Unlock()
		j.Meta = h.meta
		if err := k.saveJournal(id, j); err != nil {
			return fail(err)
		}
	}
	t := &Template{block: block}
	if t.digest, err = block.contentDigest(ctx); err != nil {
		return fail(err)
	}
	return t, nil
}

// thinBytes is the least that is given back at once: smaller holes are not worth their splitting of huge pages.
const thinBytes = 64 << 10

// thin gives the parts that are all zero back to the kernel: they read as zeros all the same, and a machine's memory was taken from the kernel whole.
func (b *Block) thin(ctx context.Context) error {
	if b.pages == PagesHuge {
		return nil // The pool's pages are of no use to others.
	}
	b.mu.Lock()
	m, err := b.readable()
	b.mu.Unlock()
	if err != nil {
		return err
	}
	return extents(b.file, b.size, func(from, to int64) error {
		from = (from + thinBytes - 1) / thinBytes * thinBytes
		for hole := from; from < to; from, hole = from+thinBytes, from+thinBytes {
			for from+thinBytes <= to && countNonZero(m[from:from+thinBytes]) == 0 {
				from += thinBytes
			}
			if from > hole {
				if err := unix.Fallocate(int(b.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, hole, from-hole); err != nil {
					return fmt.Errorf("give back zeros: %w", err)
				}
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Size is the size of the blocks that it can be copied into.
func (t *Template) Size() int64 { return t.block.size }

// Digest is of its content, as the read-back digest of a scrub is.
func (t *Template) Digest() string { return t.digest }

// Check reads the template and gives an error when it is not what it was when it was made or opened.
func (t *Template) Check(ctx context.Context) error {
	t.block.retiring.RLock()
	defer t.block.retiring.RUnlock()
	now, err := t.block.contentDigest(ctx)
	if err == nil && now != t.digest {
		err = driver.Permanent("TemplateChanged", fmt.Errorf("template memory: it was %s and is %s", t.digest, now))
	}
	return err
}

// CopyTo fills a block that holds nothing yet. driver.ErrOrder: the template was retired.
func (t *Template) CopyTo(ctx context.Context, b *Block) error {
	t.block.retiring.RLock()
	defer t.block.retiring.RUnlock()
	if t.block.retired {
		return fmt.Errorf("copy template: %w: it was retired", driver.ErrOrder)
	}
	t.block.mu.Lock()
	m, err := t.block.readable()
	t.block.mu.Unlock()
	if err != nil {
		return fmt.Errorf("copy template: %w", err)
	}
	return copyExtents(ctx, b, t.block.file, m)
}

// retire ends copying for good: a copy made while the template is zeroed would be a machine with holes.
func (b *Block) retire() {
	b.retiring.Lock()
	defer b.retiring.Unlock()
	b.retired = true
}

// contentDigest is the read-back digest of whatever the block holds. Parts that were never written are not touched.
func (b *Block) contentDigest(ctx context.Context) (string, error) {
	sums := make([]byte, 0, (b.size+chunkBytes-1)/chunkBytes*sha256.Size)
	for at := int64(0); at < b.size; at += chunkBytes {
		sum := sha256.Sum256(zeros[:min(chunkBytes, b.size-at)])
		if b.size-at >= chunkBytes {
			sum = zeroChunk
		}
		sums = append(sums, sum[:]...)
	}
	var parts []span
	err := extents(b.file, b.size, func(from, to int64) error {
		// Whole chunks, each once: the next extent may begin in the chunk in which this one ends.
		first := from / chunkBytes * chunkBytes
		if n := len(parts); n > 0 {
			first = max(first, int64(parts[n-1].to))
		}
		for ; first < to; first += chunkBytes {
			parts = append(parts, span{uint64(first), uint64(min(first+chunkBytes, b.size)), ""})
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("digest of memory: %w", err)
	}
	err = pieces(int64(len(parts)), 1, func(_, from, _ int64) error {
		p := parts[from]
		// Read and not looked at in a mapping: that would take memory for what lies between.
		chunk := make([]byte, p.to-p.from)
		defer clear(chunk)
		if _, err := b.file.ReadAt(chunk, int64(p.from)); err != nil {
			return err
		}
		sum := sha256.Sum256(chunk)
		copy(sums[p.from/chunkBytes*sha256.Size:], sum[:])
		return ctx.Err()
	})
	sum := sha256.Sum256(sums)
	return hex.EncodeToString(sum[:]), err
}

// extents calls each for every part of a memory file that was ever written; what lies between reads as zeros and takes no memory.
func extents(file *os.File, size int64, each func(from, to int64) error) error {
	for at := int64(0); at < size; {
		from, err := unix.Seek(int(file.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		to, err := unix.Seek(int(file.Fd()), from, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := each(from, min(to, size)); err != nil {
			return err
		}
		at = to
	}
	return nil
}

// copyExtents copies what there is of a memory file, mapped as memory, into a block that holds nothing yet.
func copyExtents(ctx context.Context, b *Block, from *os.File, memory []byte) error {
	if int64(len(memory)) != b.size {
		return fmt.Errorf("copy memory: %d bytes into a block of %d", len(memory), b.size)
	}
	var parts []span
	err := extents(from, b.size, func(from, to int64) error {
		parts = append(parts, cut([]span{{uint64(from), uint64(to), ""}}, chunkBytes)...)
		return nil
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && b.populated {
		w := b.write
		return pieces(int64(len(parts)), 4, func(_, first, last int64) error {
			for _, s := range parts[first:last] {
				copy(w[s.from:s.to], memory[s.from:s.to])
			}
			return ctx.Err()
		})
	}
	// Into pages that do not exist yet the kernel's own write is the fastest: it does not zero them first. It is serial by the file's lock.
	for _, s := range parts {
		for err == nil && s.from < s.to {
			var n int
			n, err = unix.Pwrite(int(b.file.Fd()), memory[s.from:s.to], int64(s.from))
			s.from += uint64(max(0, n))
			err = errors.Join(err, ctx.Err())
		}
	}
	if err != nil {
		return fmt.Errorf("copy memory: %w", err)
	}
	return nil
}
