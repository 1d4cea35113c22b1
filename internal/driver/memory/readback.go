package memory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync/atomic"
)

// The read-back digest. SHA-256 of a whole block would take longer than everything else in a scrub, and it cannot be computed by several
// processors. So the digest is defined over chunks of one MiB (the last may be shorter):
//
//	SHA-256( SHA-256(chunk 0) || SHA-256(chunk 1) || ... )
//
// Every byte is compared with zero. A chunk that compared equal is not hashed again: its hash is that of a chunk of zeros, by what was just
// proven. A chunk that did not is hashed as it is. So the digest of clean memory depends on its size alone, and everybody can compute it:
// ZeroDigest here, and in a shell for n MiB
//
//	yes "$(head -c 1048576 /dev/zero | sha256sum | cut -c1-64)" | head -n $n | xxd -r -p | sha256sum
const chunkBytes = 1 << 20

const (
	// zeroPiece: clear uses stores that go past the cache from 32 MiB on, which do not read what they overwrite.
	zeroPiece = 32 << 20
	// comparePiece stays in the first-level cache, so a compare reads memory once and not twice.
	comparePiece = 16 << 10
)

var (
	zeros     [chunkBytes]byte
	zeroChunk = sha256.Sum256(zeros[:])
)

// zeroBytes overwrites b with zeros, on all processors.
func zeroBytes(ctx context.Context, b []byte) error {
	return pieces(int64(len(b)), zeroPiece, func(_, from, to int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		clear(b[from:to])
		return nil
	})
}

// readBack compares every byte of b with zero and gives the number of those that differ and the digest.
func readBack(ctx context.Context, b []byte) (nonZero int64, digest string, err error) {
	size := int64(len(b))
	sums := make([]byte, (size+chunkBytes-1)/chunkBytes*sha256.Size)
	var count atomic.Int64
	err = pieces(size, chunkBytes, func(n, from, to int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk := b[from:to]
		sum := zeroChunk
		if bad := countNonZero(chunk); bad != 0 {
			count.Add(bad)
			sum = sha256.Sum256(chunk)
		} else if len(chunk) != chunkBytes {
			sum = sha256.Sum256(zeros[:len(chunk)])
		}
		copy(sums[n*sha256.Size:], sum[:])
		return nil
	})
	sum := sha256.Sum256(sums)
	return count.Load(), hex.EncodeToString(sum[:]), err
}

// countNonZero counts the bytes of b that are not zero.
func countNonZero(b []byte) (n int64) {
	for len(b) > 0 {
		piece := b[:min(len(b), comparePiece)]
		if !bytes.Equal(piece, zeros[:len(piece)]) {
			n += int64(len(piece) - bytes.Count(piece, zeros[:1]))
		}
		b = b[len(piece):]
	}
	return n
}

// ZeroDigest is the digest that a scrub of size bytes gives when all of them read back as zero.
func ZeroDigest(size int64) string {
	h := sha256.New()
	for ; size >= chunkBytes; size -= chunkBytes {
		h.Write(zeroChunk[:])
	}
	if size > 0 {
		rest := sha256.Sum256(zeros[:size])
		h.Write(rest[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}
