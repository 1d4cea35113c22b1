package memory

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"carrel/internal/driver"
)

func newKey(t testing.TB) *Key {
	t.Helper()
	k, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Destroy)
	return k
}

func save(t testing.TB, k *Key, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := Save(&out, k)
	if err == nil {
		_, err = io.Copy(w, iotest.HalfReader(bytes.NewReader(plain)))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// load gives what a reader hands out before its error; nil at a good end.
func load(k *Key, saved []byte) ([]byte, error) {
	r, err := Load(bytes.NewReader(saved), k)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i*7)
	}
	return b
}

func TestSavedMemoryComesBackAsItWas(t *testing.T) {
	k := newKey(t)
	for _, n := range []int{0, 1, 4096, chunkBytes - 1, chunkBytes, chunkBytes + 1, 2 * chunkBytes, 3*chunkBytes + 77} {
		plain := pattern(n)
		saved := save(t, k, plain)
		if n > 100 && bytes.Contains(saved, plain[50:100]) {
			t.Errorf("%d bytes: plaintext in the file", n)
		}
		got, err := load(k, saved)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: %d came back, %v", n, len(got), err)
		}
	}
	if bytes.Equal(save(t, k, []byte("same"))[headerBytes:], save(t, k, []byte("same"))[headerBytes:]) {
		t.Error("two files under one key have the same bytes")
	}
}

func TestSavedMemoryOfAnotherKeyIsRefused(t *testing.T) {
	saved := save(t, newKey(t), []byte("text"))
	if got, err := load(newKey(t), saved); !errors.Is(err, ErrWrongKey) || got != nil {
		t.Errorf("gave %q, %v", got, err)
	}
	if _, err := load(newKey(t), []byte("QEVM something else that is long enough to have a header in it")); !errors.Is(err, ErrNotSaved) {
		t.Errorf("another file gave %v", err)
	}
	if _, err := load(newKey(t), saved[:20]); !errors.Is(err, ErrNotSaved) {
		t.Errorf("half a header gave %v", err)
	}
}

func TestDamagedSavedMemoryGivesOnlyWhatWasVerified(t *testing.T) {
	k := newKey(t)
	plain := pattern(2*chunkBytes + 1000)
	saved := save(t, k, plain)
	const sealed = chunkBytes + tagBytes
	chunks := [][]byte{saved[headerBytes : headerBytes+sealed], saved[headerBytes+sealed : headerBytes+2*sealed], saved[headerBytes+2*sealed:]}
	join := func(parts ...[]byte) []byte { return bytes.Join(append([][]byte{saved[:headerBytes]}, parts...), nil) }
	flip := func(at int) []byte {
		b := bytes.Clone(saved)
		b[at] ^= 1
		return b
	}
	empty := save(t, k, nil)
	for name, c := range map[string]struct {
		file []byte
		good int // Bytes that may be given before the error.
	}{
		"salt changed":                      {flip(headerBytes - 1), 0},
		"a bit of the first chunk":          {flip(headerBytes + 5), 0},
		"a bit of the second chunk":         {flip(headerBytes + sealed + 5), chunkBytes},
		"a bit of the last tag":             {flip(len(saved) - 1), 2 * chunkBytes},
		"cut after the header":              {join(), 0},
		"cut between chunks":                {join(chunks[0], chunks[1]), chunkBytes},
		"cut after the first chunk":         {join(chunks[0]), 0},
		"cut within a chunk":                {saved[:headerBytes+sealed+100], chunkBytes},
		"cut by a byte":                     {saved[:len(saved)-1], 2 * chunkBytes},
		"chunks swapped":                    {join(chunks[1], chunks[0], chunks[2]), 0},
		"a chunk left out":                  {join(chunks[0], chunks[2]), chunkBytes},
		"a chunk twice":                     {join(chunks[0], chunks[0], chunks[1], chunks[2]), chunkBytes},
		"a byte more":                       {append(bytes.Clone(saved), 0), 2 * chunkBytes},
		"a file after it":                   {append(bytes.Clone(saved), empty...), 2 * chunkBytes},
		"the last chunk of another file":    {join(chunks[0], chunks[1], empty[headerBytes:]), 2 * chunkBytes},
		"the last chunk moved to the front": {join(chunks[2]), 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := load(k, c.file)
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("gave %v", err)
			}
			if len(got) != c.good || !bytes.Equal(got, plain[:len(got)]) {
				t.Errorf("%d bytes were given out, at most %d are verified", len(got), c.good)
			}
		})
	}
}

func TestSavedMemoryThatWasNotCompletedIsRefused(t *testing.T) {
	k := newKey(t)
	var out bytes.Buffer
	w, err := Save(&out, k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(pattern(3 * chunkBytes)); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if _, err := load(k, out.Bytes()); !errors.Is(err, ErrDamaged) {
		t.Errorf("gave %v", err)
	}
	if countNonZero(w.buf[:cap(w.buf)]) != 0 {
		t.Error("plaintext stays in the writer")
	}
	full, err := Save(&failing{}, k)
	if err == nil {
		_, err = full.Write(pattern(2 * chunkBytes))
		if e := full.Close(); e == nil || err == nil {
			t.Errorf("a full disk gave %v, %v", err, e)
		}
	}
}

// failing takes a header and nothing more.
type failing struct{ n int }

func (f *failing) Write(p []byte) (int, error) {
	if f.n += len(p); f.n > headerBytes {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

func TestReaderPassesErrorsOfItsSourceOn(t *testing.T) {
	k := newKey(t)
	saved := save(t, k, pattern(2*chunkBytes))
	broken := errors.New("disk error")
	r, err := Load(io.MultiReader(bytes.NewReader(saved[:headerBytes+chunkBytes+200]), iotest.ErrReader(broken)), k)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); !errors.Is(err, broken) || errors.Is(err, ErrDamaged) {
		t.Errorf("gave %d bytes, %v", len(got), err)
	}
	r.Close()
}

func TestKeyShowsItsIDAndLeavesNothing(t *testing.T) {
	raw := pattern(KeyBytes)
	k, err := KeyFrom(raw)
	if err != nil || countNonZero(raw) != 0 {
		t.Fatalf("%v, %x: want the given bytes zeroed", err, raw)
	}
	again, err := KeyFrom(pattern(KeyBytes))
	if err != nil || again.ID() != k.ID() || len(k.ID()) != 19 {
		t.Errorf("ids %s and %s, %v", k.ID(), again.ID(), err)
	}
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(form, k); s != k.ID() {
			t.Errorf("%s prints %s", form, s)
		}
	}
	page := k.page
	if err := k.Expose(func(b []byte) error {
		if !bytes.Equal(b, pattern(KeyBytes)) || &b[0] != &page[0] {
			t.Error("other bytes")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	k.Destroy()
	k.Destroy()
	if _, err := Save(io.Discard, k); !errors.Is(err, errDestroyed) {
		t.Errorf("a destroyed key gave %v", err)
	}
	again.Destroy()
	if _, err := KeyFrom(make([]byte, 31)); err == nil {
		t.Error("31 bytes were taken")
	}
}

// When this fails, a new version of Go keeps round keys behind a pointer: wipe must learn where.
func TestRoundKeysOfTheStandardLibraryAreWiped(t *testing.T) {
	block, err := aes.NewCipher(pattern(32))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{block, gcm} {
		if !wipe(v) {
			t.Errorf("%T cannot be wiped", v)
		}
	}
	if wipe(struct{}{}) || wipe((*Key)(nil)) || wipe(&Key{}) {
		t.Error("something with pointers was wiped")
	}
}

func TestBlockContentComesBackAndHolesStayHoles(t *testing.T) {
	ctx := context.Background()
	b := allocate(t, 16<<20)
	m, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	copy(m[pageBytes:], pattern(3*pageBytes))
	copy(m[9<<20-100:], pattern(2<<20+300))
	m[len(m)-1] = 1
	k := newKey(t)
	var out bytes.Buffer
	w, err := Save(&out, k)
	if err == nil {
		_, err = b.WriteTo(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil || out.Len() > 3<<20 {
		t.Fatalf("%d bytes were saved, %v: want only what is not zero", out.Len(), err)
	}
	other := allocate(t, 16<<20)
	r, err := Load(bytes.NewReader(out.Bytes()), k)
	if err == nil {
		err = other.LoadFrom(ctx, r)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := other.Bytes(); err != nil || !bytes.Equal(got, m) {
		t.Errorf("other content came back, %v", err)
	}
	small := allocate(t, 8<<20)
	r, err = Load(bytes.NewReader(out.Bytes()), k)
	if err == nil {
		err = small.LoadFrom(ctx, r)
		r.Close()
	}
	if p := driver.AsPermanent(err); p == nil || p.Code != "MemorySize" {
		t.Errorf("a block of another size gave %v", err)
	}
	cut := out.Bytes()[:out.Len()-5]
	r, err = Load(bytes.NewReader(cut), k)
	if err == nil {
		err = allocate(t, 16<<20).LoadFrom(ctx, r)
	}
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("a cut file gave %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	k, err := KeyFrom(pattern(KeyBytes))
	if err != nil {
		f.Fatal(err)
	}
	short := save(f, k, []byte("some text"))
	f.Add(short, 0, byte(0))
	f.Add(short, 60, byte(1))
	f.Add(short[:50], 3, byte(2))
	f.Add(save(f, k, nil), 40, byte(4))
	f.Fuzz(func(t *testing.T, b []byte, at int, x byte) {
		b = bytes.Clone(b)
		if len(b) > 0 {
			b[(at&0xffffff)%len(b)] ^= x
		}
		got, err := load(k, b)
		if err == nil && !bytes.Equal(got, []byte("some text")) && len(got) != 0 {
			t.Fatalf("%q came out of a file that nobody wrote", got)
		}
		if err != nil && len(got) != 0 {
			t.Fatalf("%d bytes before %v", len(got), err)
		}
	})
}

func FuzzLoadBlock(f *testing.F) {
	var out bytes.Buffer
	b, err := Allocate(4*pageBytes, PagesSmall)
	if err != nil {
		f.Fatal(err)
	}
	defer b.Close()
	m, err := b.Bytes()
	if err != nil {
		f.Fatal(err)
	}
	copy(m[pageBytes:], pattern(pageBytes+9))
	if _, err := b.WriteTo(&out); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Add(out.Bytes()[:40])
	f.Fuzz(func(t *testing.T, in []byte) {
		m := make([]byte, 4*pageBytes+2)[1 : 4*pageBytes+1]
		guard := m[:len(m)+1]
		_ = loadBlock(context.Background(), m, bytes.NewReader(in))
		if guard[len(m)] != 0 {
			t.Fatal("written beyond the block")
		}
	})
}

// BenchmarkSave and BenchmarkLoad have a goal of 1 GB/s.
func BenchmarkSave(b *testing.B) {
	k := newKey(b)
	plain := pattern(64 << 20)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		w, err := Save(io.Discard, k)
		if err == nil {
			_, err = io.Copy(w, onlyReader{bytes.NewReader(plain)})
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// onlyReader hides WriteTo, as a pipe from QEMU has none.
type onlyReader struct{ io.Reader }

func BenchmarkLoad(b *testing.B) {
	k := newKey(b)
	saved := save(b, k, pattern(64<<20))
	b.SetBytes(64 << 20)
	for b.Loop() {
		r, err := Load(bytes.NewReader(saved), k)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
