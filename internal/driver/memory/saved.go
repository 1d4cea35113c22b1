package memory

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Saved memory: a header, then chunks of one MiB sealed with AES-256-GCM in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015):
// the nonce of a chunk is its number and whether it is the last one, so chunks can be neither changed, reordered, left out, repeated nor cut off.
//
//	header   magic "CARRELM1" | key id, 8 bytes | salt, 32 random bytes                                48 bytes
//	chunk    AES-256-GCM(file key, number in 11 bytes big-endian | last in 1 byte, plaintext)          at most 1 MiB + 16
//
// The file key is HKDF-SHA256(key, salt, whole header): a change of the header is a change of the key, and a caller that saves twice under one key
// repeats no nonce. Every chunk but the last is full; the last may be empty only when it is the first.

// ErrWrongKey: the saved memory was written with another key. Nothing was read.
var ErrWrongKey = errors.New("memory: saved memory of another key")

// ErrDamaged: the saved memory was cut short, changed or put together from parts. What was read before is what was written.
var ErrDamaged = errors.New("memory: saved memory is damaged")

// ErrNotSaved: the file is no saved memory of this version.
var ErrNotSaved = errors.New("memory: not saved memory")

const (
	savedMagic  = "CARRELM1"
	headerBytes = len(savedMagic) + 8 + 32
	nonceBytes  = 12
	tagBytes    = 16
)

// sealer is the cipher of one file.
type sealer struct {
	block  cipher.Block
	gcm    cipher.AEAD
	number uint64
}

// newSealer derives the file key. The copies that this makes of it are wiped here and in wipe.
func newSealer(k *Key, header []byte) (*sealer, error) {
	s := new(sealer)
	err := k.Expose(func(key []byte) error {
		file, err := hkdf.Key(sha256.New, key, header[headerBytes-32:], "carrel saved memory: "+string(header), KeyBytes)
		if err != nil {
			return err
		}
		defer clear(file)
		if s.block, err = aes.NewCipher(file); err != nil {
			return err
		}
		s.gcm, err = cipher.NewGCM(s.block)
		return err
	})
	return s, err
}

func (s *sealer) nonce(last bool) []byte {
	var n [nonceBytes]byte
	binary.BigEndian.PutUint64(n[3:], s.number)
	if last {
		n[nonceBytes-1] = 1
	}
	return n[:]
}

func (s *sealer) wipe() {
	wipe(s.gcm)
	wipe(s.block)
}

// Writer encrypts a stream. Only after Close is it complete; without Close a Reader refuses its end.
type Writer struct {
	dst    io.Writer
	seal   *sealer
	buf    []byte // The next chunk's plaintext; its capacity has room for the tag.
	ahead  [4096]byte
	err    error
	closed bool
}

// Save writes the header of saved memory to dst and gives the writer for the rest. dst is not closed.
func Save(dst io.Writer, k *Key) (*Writer, error) {
	header := make([]byte, headerBytes)
	id, err := hex.DecodeString(k.ID()[len("mk-"):])
	if err != nil {
		return nil, err
	}
	copy(header, savedMagic)
	copy(header[len(savedMagic):], id)
	if _, err := rand.Read(header[headerBytes-32:]); err != nil {
		return nil, err
	}
	s, err := newSealer(k, header)
	if err == nil {
		_, err = dst.Write(header)
	}
	if err != nil {
		return nil, fmt.Errorf("save memory: %w", err)
	}
	return &Writer{dst: dst, seal: s, buf: make([]byte, 0, chunkBytes+tagBytes)}, nil
}

// Write encrypts p; parts of it may stay in the writer until Close.
func (w *Writer) Write(p []byte) (n int, err error) {
	if w.closed {
		return 0, errors.New("save memory: written to after Close")
	}
	for len(p) > 0 && w.err == nil {
		if len(w.buf) == chunkBytes { // Only now is it known that another one follows.
			w.flush(false)
			continue
		}
		m := min(len(p), chunkBytes-len(w.buf))
		w.buf = append(w.buf, p[:m]...)
		p, n = p[m:], n+m
	}
	return n, w.err
}

// ReadFrom takes everything from a stream with no copy between: io.Copy uses it.
func (w *Writer) ReadFrom(src io.Reader) (n int64, err error) {
	for w.err == nil && !w.closed {
		into := w.buf[len(w.buf):chunkBytes]
		if len(into) == 0 { // Whether this chunk is the last is known only when something follows.
			into = w.ahead[:]
		}
		m, err := src.Read(into)
		n += int64(m)
		if len(w.buf) < chunkBytes {
			w.buf = w.buf[:len(w.buf)+m]
		} else if _, e := w.Write(into[:m]); e != nil {
			return n, e
		}
		if errors.Is(err, io.EOF) {
			return n, w.err
		}
		if err != nil {
			return n, err
		}
	}
	return n, w.err
}

func (w *Writer) flush(last bool) {
	w.buf = w.seal.gcm.Seal(w.buf[:0], w.seal.nonce(last), w.buf, nil)
	w.seal.number++
	if _, err := w.dst.Write(w.buf); err != nil {
		w.err = fmt.Errorf("save memory: %w", err)
	}
	w.buf = w.buf[:0]
}

// Close writes the last chunk and wipes what the writer held. It must be called whatever happened before; closed already: the same error again.
func (w *Writer) Close() error {
	if w.closed {
		return w.err
	}
	w.closed = true
	if w.err == nil {
		w.flush(true)
	}
	clear(w.buf[:cap(w.buf)])
	clear(w.ahead[:])
	w.seal.wipe()
	return w.err
}

// Abort wipes the writer without completing the stream, so that no Reader accepts it.
func (w *Writer) Abort() {
	if w.err == nil {
		w.err = errors.New("save memory: given up")
	}
	_ = w.Close()
}

// Reader decrypts a stream and gives only what was authenticated.
type Reader struct {
	src  io.Reader
	seal *sealer
	// next is the chunk after the one that is given out, as it was read: whether a chunk is the last is known only when nothing follows it.
	next  []byte
	chunk []byte // Its capacity is the buffer's.
	ready []byte // The part of chunk that was not given out yet.
	last  bool
	err   error
}

// Load reads the header from src and gives the reader for the rest. ErrNotSaved; ErrWrongKey.
func Load(src io.Reader, k *Key) (*Reader, error) {
	header := make([]byte, headerBytes)
	if _, err := io.ReadFull(src, header); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: too short", ErrNotSaved)
		}
		return nil, fmt.Errorf("load memory: %w", err)
	}
	if !bytes.HasPrefix(header, []byte(savedMagic)) {
		return nil, fmt.Errorf("load memory: %w: it begins with %q", ErrNotSaved, header[:len(savedMagic)])
	}
	if id := "mk-" + hex.EncodeToString(header[len(savedMagic):headerBytes-32]); id != k.ID() {
		return nil, fmt.Errorf("load memory: %w: it is of %s, this is %s", ErrWrongKey, id, k.ID())
	}
	s, err := newSealer(k, header)
	if err != nil {
		return nil, fmt.Errorf("load memory: %w", err)
	}
	r := &Reader{src: src, seal: s, next: make([]byte, 0, chunkBytes+tagBytes), chunk: make([]byte, 0, chunkBytes+tagBytes)}
	r.fill()
	return r, nil
}

// fill reads the chunk after the present one into next; empty at the end of the stream.
func (r *Reader) fill() {
	n, err := io.ReadFull(r.src, r.next[:chunkBytes+tagBytes])
	r.next = r.next[:n]
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		r.err = fmt.Errorf("load memory: %w", err)
	}
}

// Read gives authenticated bytes; io.EOF only after the last chunk was. ErrDamaged.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.ready) == 0 && len(p) > 0 {
		if r.err == nil && r.last {
			r.err = io.EOF
		}
		if r.err == nil {
			r.open()
		}
		if r.err != nil {
			r.Close()
			return 0, r.err
		}
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// open authenticates and decrypts the next chunk.
func (r *Reader) open() {
	if len(r.next) == 0 {
		r.err = fmt.Errorf("load memory: %w: it was cut off after chunk %d", ErrDamaged, r.seal.number)
		return
	}
	sealed := r.next
	r.next, r.chunk = r.chunk[:0], r.next
	full := len(sealed) == chunkBytes+tagBytes
	if r.last = !full; full {
		r.fill()
		if r.err != nil {
			return
		}
		r.last = len(r.next) == 0
	}
	plain, err := r.seal.gcm.Open(sealed[:0], r.seal.nonce(r.last), sealed, nil)
	if err != nil {
		r.err = fmt.Errorf("load memory: %w: chunk %d", ErrDamaged, r.seal.number)
		return
	}
	if len(plain) == 0 && r.seal.number > 0 {
		r.err = fmt.Errorf("load memory: %w: chunk %d is empty", ErrDamaged, r.seal.number)
		return
	}
	r.ready = plain
	r.seal.number++
}

// Close wipes what the reader held. Reading to the end or to an error does the same.
func (r *Reader) Close() {
	if r.err == nil {
		r.err = errors.New("load memory: closed")
	}
	clear(r.chunk[:cap(r.chunk)])
	clear(r.next[:cap(r.next)])
	r.ready = nil
	r.seal.wipe()
}
