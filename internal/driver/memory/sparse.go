package memory

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

// A block's content as a stream, to be put through Save: "CARRELB1", the block's size, then runs of pages that are not zero, each with its offset
// and length, in order, then a run of length 0 at the block's size. Numbers have 8 bytes, big-endian.

const blockMagic = "CARRELB1"

// WriteTo writes the content of the block. Nobody may write to the block meanwhile.
func (b *Block) WriteTo(dst io.Writer) (int64, error) {
	b.mu.Lock()
	m, err := b.readable()
	b.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("save memory block: %w", err)
	}
	out := &countingWriter{dst: dst}
	out.number([]byte(blockMagic), uint64(b.size))
	err = extents(b.file, b.size, func(from, to int64) error {
		for from < to && out.err == nil {
			// Runs of at most a chunk: looking for the end of a run and writing it reads memory once.
			end := min(from+chunkBytes, to)
			for from < end && countNonZero(m[from:min(from+pageBytes, end)]) == 0 {
				from += pageBytes
			}
			stop := from
			for stop < end && countNonZero(m[stop:min(stop+pageBytes, end)]) != 0 {
				stop += pageBytes
			}
			stop = min(stop, end)
			if stop > from {
				out.number(nil, uint64(from), uint64(stop-from))
				out.write(m[from:stop])
				from = stop
			}
		}
		return out.err
	})
	if err == nil {
		out.number(nil, uint64(b.size), 0)
		err = out.err
	}
	if err != nil {
		return out.n, fmt.Errorf("save memory block: %w", err)
	}
	return out.n, nil
}

// countingWriter keeps the first error.
type countingWriter struct {
	dst io.Writer
	n   int64
	err error
}

func (w *countingWriter) write(p []byte) {
	if w.err == nil {
		var n int
		n, w.err = w.dst.Write(p)
		w.n += int64(n)
	}
}

func (w *countingWriter) number(p []byte, numbers ...uint64) {
	for _, n := range numbers {
		p = binary.BigEndian.AppendUint64(p, n)
	}
	w.write(p)
}

// LoadFrom fills a block that holds nothing yet from what WriteTo wrote. On an error the block holds a part and must not be used for a machine;
// it is scrubbed like any. ErrDamaged: the stream is not one; errors of src as they are.
func (b *Block) LoadFrom(ctx context.Context, src io.Reader) error {
	m, err := b.Bytes()
	if err != nil {
		return fmt.Errorf("load memory block: %w", err)
	}
	if err := loadBlock(ctx, m, src); err != nil {
		return fmt.Errorf("load memory block: %w", err)
	}
	return nil
}

// loadBlock reads a block's content into m, which is zero.
func loadBlock(ctx context.Context, m []byte, src io.Reader) error {
	in := bufio.NewReaderSize(src, 64<<10)
	bad := func(err error, what string) error {
		if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: %s", ErrDamaged, what)
		}
		return err
	}
	var head [16]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return bad(err, "no header")
	}
	size := uint64(len(m))
	if string(head[:8]) != blockMagic {
		return bad(nil, "it is no block")
	}
	if got := binary.BigEndian.Uint64(head[8:]); got != size {
		return driver.Permanent("MemorySize", fmt.Errorf("%d bytes were saved, the block has %d", got, size))
	}
	for at := uint64(0); ; {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return bad(err, "no next run")
		}
		from, n := binary.BigEndian.Uint64(head[:8]), binary.BigEndian.Uint64(head[8:])
		if from == size && n == 0 {
			break
		}
		if from < at || from >= size || n == 0 || n > size-from {
			return bad(nil, fmt.Sprintf("run of %d bytes at %d, in %d to %d", n, from, at, size))
		}
		// Takes the pages in a way that reports a full host as an error; touching them would be SIGBUS. Linux before 5.14 does not know it.
		if err := unix.Madvise(m[from&^(pageBytes-1):from+n], unix.MADV_POPULATE_WRITE); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
		if _, err := io.ReadFull(in, m[from:from+n]); err != nil {
			return bad(err, "a run is cut short")
		}
		at = from + n
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		return bad(err, "something follows the end")
	}
	return nil
}
