package memory

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// KeyBytes is the size of a key of saved memory.
const KeyBytes = 32

// Key is a key of saved memory. It lives outside Go's heap, in a page of its own that is locked when that is allowed, in no core dump and in no
// child; Destroy zeroes it. It never shows its bytes when printed.
type Key struct {
	mu   sync.Mutex
	page []byte
	id   string
}

// errDestroyed: the key was destroyed.
var errDestroyed = errors.New("memory: the key was destroyed")

// NewKey makes a key from random (crypto/rand.Reader).
func NewKey(random io.Reader) (*Key, error) {
	var b [KeyBytes]byte
	defer clear(b[:])
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return KeyFrom(b[:])
}

// KeyFrom takes a key that was kept elsewhere, and zeroes b.
func KeyFrom(b []byte) (*Key, error) {
	defer clear(b)
	if len(b) != KeyBytes {
		return nil, fmt.Errorf("key of %d bytes: want %d", len(b), KeyBytes)
	}
	page, err := unix.Mmap(-1, 0, pageBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("page for a key: %w", err)
	}
	for _, advice := range []int{unix.MADV_DONTDUMP, unix.MADV_WIPEONFORK} {
		if err := unix.Madvise(page, advice); err != nil {
			return nil, errors.Join(fmt.Errorf("page for a key: %w", err), unix.Munmap(page))
		}
	}
	_ = unix.Mlock(page) // Not allowed: as swappable as the rest of this process.
	k := &Key{page: page}
	copy(page, b)
	id, err := hkdf.Key(sha256.New, page[:KeyBytes], nil, "carrel saved memory: key id", 8)
	if err != nil {
		k.Destroy()
		return nil, err
	}
	k.id = "mk-" + hex.EncodeToString(id)
	return k, nil
}

// ID names the key for ever; it is derived from it and says nothing about it (`mk-0123456789abcdef`).
func (k *Key) ID() string { return k.id }

// Expose calls use with the key's bytes, to wrap it for storage; use must not keep them.
func (k *Key) Expose(use func([]byte) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.page == nil {
		return errDestroyed
	}
	return use(k.page[:KeyBytes])
}

// Destroy zeroes the key. Destroyed already: nothing.
func (k *Key) Destroy() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.page == nil {
		return
	}
	clear(k.page)
	_ = unix.Munmap(k.page)
	k.page = nil
}

// String, GoString and LogValue show the id.
func (k *Key) String() string { return k.id }

// GoString is for %#v.
func (k *Key) GoString() string { return k.id }

// LogValue is for slog.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.id) }

// wipe zeroes what a pointer to a plain struct points to: the ciphers of the standard library, whose round keys are as good as the key. It does
// nothing, and says so, when there could be a pointer inside; a test notices when a new Go version has one.
func wipe(v any) bool {
	r := reflect.ValueOf(v)
	if r.Kind() != reflect.Pointer || r.IsNil() || !plain(r.Type().Elem()) {
		return false
	}
	clear(unsafe.Slice((*byte)(r.UnsafePointer()), r.Type().Elem().Size()))
	return true
}

// plain: a value of that type is bytes and nothing else.
func plain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if !plain(t.Field(i).Type) {
				return false
			}
		}
		return true
	case reflect.Array:
		return plain(t.Elem())
	default:
		return t.Kind() >= reflect.Bool && t.Kind() <= reflect.Complex128 && t.Kind() != reflect.Uintptr
	}
}
