package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// hands is a clock that tests set.
type hands struct {
	mu sync.Mutex
	at time.Time
}

func (h *hands) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(time.Second)
	return h.at
}

func (h *hands) set(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = t
}

func newHands() *hands { return &hands{at: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)} }

func newKey(t testing.TB) PrivateKey {
	t.Helper()
	key, err := GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func open(t testing.TB, path string, key PrivateKey, clock Clock) *Log {
	t.Helper()
	l, err := Open(path, key, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// written makes a log of n records and gives its lines.
func written(t testing.TB, key PrivateKey, n int) [][]byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "evidence.jsonl")
	l := open(t, path, key, newHands())
	for i := range n {
		if _, err := l.Append("test", fmt.Sprintf("subject-%d", i), map[string]any{"n": i, "a": "<&>\u2028é"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	return lines[:len(lines)-1]
}

func TestVerifyLocatesTheFirstBadRecord(t *testing.T) {
	key, other := newKey(t), newKey(t)
	good := written(t, key, 6)
	reseal := func(line []byte, with Signer, change func(*Record)) []byte {
		rec, err := ParseRecord(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			t.Fatal(err)
		}
		change(&rec)
		if rec, err = seal(rec, with); err != nil {
			t.Fatal(err)
		}
		out, err := rec.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		return append(out, '\n')
	}
	replace := func(n int, old, new string) func([][]byte) [][]byte {
		return func(l [][]byte) [][]byte {
			if !bytes.Contains(l[n], []byte(old)) {
				t.Fatalf("line %s has no %q", l[n], old)
			}
			l[n] = bytes.Replace(l[n], []byte(old), []byte(new), 1)
			return l
		}
	}
	last, err := ParseRecord(bytes.TrimSuffix(good[5], []byte("\n")))
	if err != nil {
		t.Fatal(err)
	}
	head := last.Head()
	later := Head{Sequence: 9, Hash: Hash{1}}
	wrong := Head{Sequence: 3, Hash: Hash{1}}
	tests := []struct {
		name   string
		tamper func([][]byte) [][]byte
		head   *Head
		want   Problem
		line   int
	}{
		{"an edited payload has the wrong hash", replace(2, `"n":2`, `"n":7`), nil, WrongHash, 3},
		{"an edited subject has the wrong hash", replace(1, `subject-1`, `subject-2`), nil, WrongHash, 2},
		{"an edited time has the wrong hash", replace(1, `10:00:02`, `10:00:03`), nil, WrongHash, 2},
		{"an edited kind has the wrong hash", replace(0, `"kind":"test"`, `"kind":"best"`), nil, WrongHash, 1},
		{"a payload edited together with its hash has the wrong signature", func(l [][]byte) [][]byte {
			signature := bytes.Clone(last.Signature)
			l[2] = reseal(l[2], forger{key.Public(), signature}, func(r *Record) { r.Payload = json.RawMessage(`{}`) })
			return l
		}, nil, WrongSignature, 3},
		{"an edited signature is wrong", func(l [][]byte) [][]byte {
			l[4] = reseal(l[4], forger{key.Public(), make([]byte, 64)}, func(*Record) {})
			return l
		}, nil, WrongSignature, 5},
		{"a record of another key is noticed", func(l [][]byte) [][]byte {
			l[3] = reseal(l[3], other, func(*Record) {})
			return l
		}, nil, WrongKey, 4},
		{"a deleted first line is a gap", func(l [][]byte) [][]byte { return l[1:] }, nil, SequenceGap, 1},
		{"a deleted middle line is a gap", func(l [][]byte) [][]byte { return append(l[:2], l[3:]...) }, nil, SequenceGap, 3},
		{"a repeated line is a gap", func(l [][]byte) [][]byte { l[3] = l[2]; return l }, nil, SequenceGap, 4},
		{"swapped lines are a gap", func(l [][]byte) [][]byte { l[1], l[2] = l[2], l[1]; return l }, nil, SequenceGap, 2},
		{"a record signed again after its predecessor changed breaks the link", func(l [][]byte) [][]byte {
			l[2] = reseal(l[2], key, func(r *Record) { r.Subject = "rewritten" })
			return l
		}, nil, WrongPrevious, 4},
		{"a record older than the one before is noticed", func(l [][]byte) [][]byte {
			l[5] = reseal(l[5], key, func(r *Record) { r.Time = r.Time.Add(-time.Hour) })
			return l
		}, nil, TimeBack, 6},
		{"white space is malformed", replace(1, `,"time"`, `, "time"`), nil, Malformed, 2},
		{"a repeated member is malformed", replace(1, `"kind":"test"`, `"kind":"test","kind":"test"`), nil, Malformed, 2},
		{"a repeated member of the payload is malformed", replace(1, `"n":1`, `"n":1,"n":1`), nil, Malformed, 2},
		{"an unknown member is malformed", replace(1, `"kind"`, `"x":1,"kind"`), nil, Malformed, 2},
		{"an upper-case hash is malformed", func(l [][]byte) [][]byte {
			i := bytes.Index(l[1], []byte(`"hash":"`)) + 8
			copy(l[1][i:i+64], bytes.ToUpper(l[1][i:i+64]))
			return l
		}, nil, Malformed, 2},
		{"an empty line is malformed", func(l [][]byte) [][]byte { l[2] = []byte("\n"); return l }, nil, Malformed, 3},
		{"a line without end is malformed", func(l [][]byte) [][]byte {
			l[2] = append(bytes.Repeat([]byte("x"), MaxRecord+1), '\n')
			return l
		}, nil, Malformed, 3},
		{"a torn middle line joins the next and is malformed", func(l [][]byte) [][]byte { l[2] = l[2][:40]; return l }, nil, Malformed, 3},
		{"a missing last line feed is torn", func(l [][]byte) [][]byte { l[5] = l[5][:len(l[5])-1]; return l }, nil, Torn, 6},
		{"a cut-off tail is noticed by a later head", func(l [][]byte) [][]byte { return l[:4] }, &head, Truncated, 5},
		{"an emptied log is noticed by a later head", func(l [][]byte) [][]byte { return nil }, &head, Truncated, 1},
		{"a head that is not there yet is noticed", func(l [][]byte) [][]byte { return l }, &later, Truncated, 7},
		{"a head with another hash is noticed", func(l [][]byte) [][]byte { return l }, &wrong, WrongHead, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lines := make([][]byte, len(good))
			for i := range good {
				lines[i] = bytes.Clone(good[i])
			}
			data := bytes.Join(tt.tamper(lines), nil)
			report, err := Verify(bytes.NewReader(data), key.Public(), Options{Head: tt.head})
			var fault *Fault
			if !errors.As(err, &fault) {
				t.Fatalf("Verify = %v, want a fault", err)
			}
			if fault.Problem != tt.want || fault.Line != tt.line || fault.Sequence != uint64(tt.line) {
				t.Errorf("fault %v, want %s in line %d", fault, tt.want, tt.line)
			}
			if report.Records != uint64(tt.line-1) {
				t.Errorf("%d good records before the fault, want %d", report.Records, tt.line-1)
			}
			if tt.line <= len(lines) {
				if want := len(bytes.Join(good[:tt.line-1], nil)); tt.want != Truncated && fault.Offset != int64(want) && tt.name != "a deleted first line is a gap" {
					t.Errorf("offset %d, want %d", fault.Offset, want)
				}
			}
		})
	}
	t.Run("the untouched log is good, with its head", func(t *testing.T) {
		report, err := Verify(bytes.NewReader(bytes.Join(good, nil)), key.Public(), Options{Head: &head})
		if err != nil || report.Records != 6 || report.Head != head || report.Kinds["test"] != 6 {
			t.Errorf("Verify = %+v, %v", report, err)
		}
	})
	t.Run("every single flipped bit is noticed", func(t *testing.T) {
		data := bytes.Join(good[:2], nil)
		for i := range data {
			bad := bytes.Clone(data)
			bad[i] ^= 1
			if _, err := Verify(bytes.NewReader(bad), key.Public(), Options{Head: &Head{Sequence: 2, Hash: mustRecord(t, good[1]).Hash}}); err == nil {
				t.Fatalf("flipped bit in byte %d (%q) is not noticed", i, data[i])
			}
		}
	})
}

func mustRecord(t testing.TB, line []byte) Record {
	t.Helper()
	rec, err := ParseRecord(bytes.TrimSuffix(line, []byte("\n")))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// forger is somebody without the private key: the signature is any.
type forger struct {
	pub       ed25519.PublicKey
	signature []byte
}

func (f forger) Public() ed25519.PublicKey   { return f.pub }
func (f forger) Sign([]byte) ([]byte, error) { return f.signature, nil }

func TestTheDocumentedEncodingIsTheOneSigned(t *testing.T) {
	key := newKey(t)
	line := written(t, key, 2)[1]
	// Written from the package comment, without the package's code.
	var w struct {
		Sequence                                 uint64
		Time, Kind, Subject, Previous, Key, Hash string
		Payload                                  json.RawMessage
		Signature                                []byte
	}
	if err := json.Unmarshal(line, &w); err != nil {
		t.Fatal(err)
	}
	e := []byte("carrel-evidence-v1\x00")
	e = binary.BigEndian.AppendUint64(e, w.Sequence)
	for _, s := range []string{w.Time, w.Kind, w.Subject, string(w.Payload)} {
		e = binary.BigEndian.AppendUint32(e, uint32(len(s)))
		e = append(e, s...)
	}
	for _, s := range []string{w.Previous, w.Key} {
		raw, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		e = append(e, raw...)
	}
	if !ed25519.Verify(key.Public(), e, w.Signature) {
		t.Error("the signature is not over the documented encoding")
	}
}

func TestLogAcrossRestarts(t *testing.T) {
	key := newKey(t)
	t.Run("it goes on where it ended", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		clock := newHands()
		for i := range 3 {
			l := open(t, path, key, clock)
			if _, err := l.Append("test", "s", i); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		verifyFile(t, path, key, 3)
	})
	t.Run("a clock that went back does not make time go back", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		clock := newHands()
		l := open(t, path, key, clock)
		for range 3 {
			if _, err := l.Append("test", "s", nil); err != nil {
				t.Fatal(err)
			}
			clock.set(clock.Now().Add(-time.Hour))
		}
		_ = l.Close()
		verifyFile(t, path, key, 3)
	})
	t.Run("a torn last line of any length is cut off and told", func(t *testing.T) {
		lines := written(t, key, 3)
		whole := bytes.Join(lines[:2], nil)
		for n := 1; n < len(lines[2]); n++ {
			path := filepath.Join(t.TempDir(), "log")
			write(t, path, append(bytes.Clone(whole), lines[2][:n]...))
			l := open(t, path, key, newHands())
			if l.Torn() != int64(n) {
				t.Fatalf("Torn() = %d, want %d", l.Torn(), n)
			}
			_ = l.Close()
			if got, _ := os.ReadFile(path); !bytes.Equal(got, whole) {
				t.Fatalf("after %d torn bytes the log is not what it was", n)
			}
		}
	})
	t.Run("a torn tail of zeros is cut off", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		write(t, path, append(written(t, key, 1)[0], make([]byte, 5000)...))
		l := open(t, path, key, newHands())
		if _, err := l.Append("test", "s", nil); err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		verifyFile(t, path, key, 2)
	})
	refused := []struct {
		name string
		data func() []byte
	}{
		{"a foreign file is refused and not changed", func() []byte { return []byte("my only copy of a thesis") }},
		{"a foreign text file is refused and not changed", func() []byte { return []byte("line\nline\n") }},
		{"an edited last record is refused and not changed", func() []byte {
			return bytes.Replace(bytes.Join(written(t, key, 2), nil), []byte("subject-1"), []byte("subject-7"), 1)
		}},
		{"a log of another key is refused and not changed", func() []byte { return bytes.Join(written(t, newKey(t), 2), nil) }},
		{"an edited last record with a torn tail is refused and not changed", func() []byte {
			l := written(t, key, 3)
			return append(bytes.Replace(bytes.Join(l[:2], nil), []byte("subject-1"), []byte("subject-7"), 1), l[2][:30]...)
		}},
	}
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			data := tt.data()
			write(t, path, data)
			if l, err := Open(path, key, newHands()); err == nil {
				_ = l.Close()
				t.Error("Open accepts it")
			}
			if got, _ := os.ReadFile(path); !bytes.Equal(got, data) {
				t.Error("the file changed")
			}
		})
	}
	t.Run("a second opener is told that it is locked", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		open(t, path, key, newHands())
		if _, err := Open(path, key, newHands()); !errors.Is(err, ErrLocked) {
			t.Errorf("Open = %v, want ErrLocked", err)
		}
	})
	t.Run("an append after Close is refused", func(t *testing.T) {
		l := open(t, filepath.Join(t.TempDir(), "log"), key, newHands())
		_ = l.Close()
		if _, err := l.Append("test", "s", nil); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Append = %v", err)
		}
	})
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func verifyFile(t testing.TB, path string, key PrivateKey, want uint64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Verify(bytes.NewReader(data), key.Public(), Options{})
	if err != nil || report.Records != want {
		t.Fatalf("Verify = %+v, %v; want %d records", report, err, want)
	}
}

func TestAppendRefusesWhatItCannotSign(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "log"), newKey(t), newHands())
	tests := []struct {
		name    string
		kind    Kind
		subject string
		payload any
	}{
		{"an empty kind", "", "s", nil},
		{"a kind with a line feed", "a\nb", "s", nil},
		{"an empty subject", "test", "", nil},
		{"a subject that is not UTF-8", "test", "\xff", nil},
		{"a subject too long", "test", strings.Repeat("x", 257), nil},
		{"a payload that is not JSON", "test", "s", json.RawMessage("{")},
		{"a payload that cannot be JSON", "test", "s", func() {}},
		{"a record too long", "test", "s", strings.Repeat("x", MaxRecord)},
	}
	for _, tt := range tests {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			if _, err := l.Append(tt.kind, tt.subject, tt.payload); err == nil {
				t.Error("Append accepts it")
			}
		})
	}
	t.Run("and the log is still good", func(t *testing.T) {
		if rec, err := l.Append("test", "a\nb", nil); err != nil || rec.Sequence != 1 {
			t.Errorf("Append = %v, %v", rec, err)
		}
	})
}

func TestConcurrentAppendsAndLookUps(t *testing.T) {
	key := newKey(t)
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, path, key, newHands())
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 10 {
				if _, err := l.Append(Kind(fmt.Sprintf("k%d", g)), fmt.Sprintf("s%d", i), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for rec, err := range l.Records("k3", "s4") {
		if err != nil || rec.Kind != "k3" || rec.Subject != "s4" {
			t.Errorf("Records gives %v, %v", rec, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("Records(k3, s4) gives %d records, want 1", n)
	}
	if _, err := l.Append("last", "x", "y"); err != nil {
		t.Fatal(err)
	}
	if rec, ok, err := l.Latest("k5"); err != nil || !ok || rec.Kind != "k5" || rec.Subject != "s9" {
		t.Errorf("Latest(k5) = %v, %v, %v", rec, ok, err)
	}
	if _, ok, err := l.Latest("none"); ok || err != nil {
		t.Errorf("Latest(none) = %v, %v", ok, err)
	}
	if l.Head().Sequence != 81 {
		t.Errorf("Head = %v", l.Head())
	}
	_ = l.Close()
	verifyFile(t, path, key, 81)
}

// failing is a disk whose n-th operation fails, a write after half of its bytes.
type failing struct {
	file
	left int
}

var errDisk = errors.New("disk full")

func (f *failing) fails() bool { f.left--; return f.left == 0 }

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if f.fails() {
		n, _ := f.file.WriteAt(p[:len(p)/2], off)
		return n, errDisk
	}
	return f.file.WriteAt(p, off)
}

func (f *failing) Sync() error {
	if f.fails() {
		return errDisk
	}
	return f.file.Sync()
}

func (f *failing) Truncate(size int64) error {
	if f.fails() {
		return errDisk
	}
	return f.file.Truncate(size)
}

func TestADiskThatFailsOnceAtAnyOperation(t *testing.T) {
	key := newKey(t)
	for n := 1; n <= 20; n++ {
		t.Run(fmt.Sprintf("R15: failing at operation %d loses nothing acknowledged and keeps the chain", n), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			l := open(t, path, key, newHands())
			l.f = &failing{file: l.f, left: n}
			var acknowledged []Head
			failed := 0
			for range 8 {
				rec, err := l.Append("test", "s", nil)
				if err != nil {
					failed++
					continue
				}
				acknowledged = append(acknowledged, rec.Head())
			}
			if want := 1; n <= 16 && failed != want {
				t.Errorf("%d appends failed, want %d", failed, want)
			}
			_ = l.Close()
			verifyFile(t, path, key, uint64(len(acknowledged)))
			i := 0
			for rec, err := range open(t, path, key, newHands()).Records("", "") {
				if err != nil || rec.Head() != acknowledged[i] {
					t.Fatalf("record %d: %v, %v; acknowledged was %v", i, rec.Head(), err, acknowledged[i])
				}
				i++
			}
		})
	}
	t.Run("a disk full for everybody fails everybody and recovers", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		l := open(t, path, key, newHands())
		f := &always{file: l.f}
		l.f = f
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := l.Append("test", "s", nil); !errors.Is(err, errDisk) {
					t.Errorf("Append = %v, want the disk's error", err)
				}
			})
		}
		wg.Wait()
		f.repaired = true
		if rec, err := l.Append("test", "s", nil); err != nil || rec.Sequence != 1 {
			t.Errorf("Append after repair = %v, %v", rec, err)
		}
		_ = l.Close()
		verifyFile(t, path, key, 1)
	})
}

// always fails every write until repaired, truncation too.
type always struct {
	file
	repaired bool
}

func (f *always) WriteAt(p []byte, off int64) (int, error) {
	if f.repaired {
		return f.file.WriteAt(p, off)
	}
	n, _ := f.file.WriteAt(p[:len(p)/2], off)
	return n, errDisk
}

func (f *always) Truncate(size int64) error {
	if f.repaired {
		return f.file.Truncate(size)
	}
	return errDisk
}

func TestKeysKeepToThemselves(t *testing.T) {
	key := newKey(t)
	pem, err := key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "evidence.key")
	if err := CreateKey(path, key); err != nil {
		t.Fatal(err)
	}
	t.Run("the file has mode 0600 and gives the key back", func(t *testing.T) {
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Fatalf("mode %v, %v", info.Mode(), err)
		}
		again, err := LoadKey(path)
		if err != nil || !again.key.Equal(key.key) {
			t.Errorf("LoadKey = %v, another key", err)
		}
	})
	t.Run("an existing key is not overwritten", func(t *testing.T) {
		if err := CreateKey(path, newKey(t)); !errors.Is(err, fs.ErrExist) {
			t.Errorf("CreateKey = %v", err)
		}
	})
	t.Run("a key that others may read is refused", func(t *testing.T) {
		open := filepath.Join(dir, "open.key")
		write(t, open, pem)
		if err := os.Chmod(open, 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(open); err == nil {
			t.Error("LoadKey accepts it")
		}
	})
	t.Run("printing, logging and JSON do not show it", func(t *testing.T) {
		var out bytes.Buffer
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", key)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", key)
		fmt.Fprintf(&out, "%v %+v %#v %s %x %d %q", key, key, key, key, key, key, key)
		text, err := json.Marshal(struct{ K PrivateKey }{key})
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
		seed := key.key.Seed()
		for _, secret := range []string{hex.EncodeToString(seed), string(seed), fmt.Sprint(seed[:8]), fmt.Sprintf("%#v", seed[:2])} {
			if strings.Contains(out.String(), secret) {
				t.Errorf("%s shows the key", out.String())
			}
		}
		if n := strings.Count(out.String(), "REDACTED"); n != 10 {
			t.Errorf("%d times REDACTED, want 10: %s", n, out.String())
		}
	})
	t.Run("errors do not quote the input", func(t *testing.T) {
		if _, err := ParsePrivateKey([]byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")); err == nil || strings.Contains(err.Error(), "c2Vj") {
			t.Errorf("ParsePrivateKey = %v", err)
		}
	})
	t.Run("the public key survives its PEM and the private one is not taken for it", func(t *testing.T) {
		text, err := PublicPEM(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		if pub, err := ParsePublicKey(text); err != nil || !pub.Equal(key.Public()) {
			t.Errorf("ParsePublicKey = %v", err)
		}
		if _, err := ParsePublicKey(pem); err == nil {
			t.Error("ParsePublicKey takes a private key")
		}
	})
	t.Run("the zero key opens no log", func(t *testing.T) {
		if _, err := Open(filepath.Join(dir, "zero"), PrivateKey{}, newHands()); err == nil {
			t.Error("Open accepts the zero key")
		}
	})
}

func TestHeadText(t *testing.T) {
	h := Head{Sequence: 12, Hash: Hash{0xab}}
	if got, err := ParseHead(h.String()); err != nil || got != h {
		t.Errorf("ParseHead(%s) = %v, %v", h, got, err)
	}
	for _, s := range []string{"", "12", "12:", "-1:" + h.Hash.String(), "1:" + strings.ToUpper(h.Hash.String()), "x:" + h.Hash.String()} {
		if _, err := ParseHead(s); err == nil {
			t.Errorf("ParseHead(%q) is accepted", s)
		}
	}
}

func certificate() *ScrubCertificate {
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	return &ScrubCertificate{
		CertificateID: "sc-0123456789abcdef0", WorkspaceID: "ws-f9abcdefg", Host: "host-1", Machine: "m-1",
		MachineStart: at, MachineEnd: at.Add(time.Hour), ScrubStart: at.Add(time.Hour), ScrubEnd: at.Add(61 * time.Minute),
		Method: "simulated", BytesZeroed: 1 << 32, BytesVerified: 1 << 32, ReadBackDigest: strings.Repeat("0a", 32),
		VolumeKeysDestroyed: []VolumeKey{{Volume: "root", KeyID: "k1", DestroyedAt: at.Add(time.Hour)}},
	}
}

func TestScrubCertificates(t *testing.T) {
	key := newKey(t)
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, path, key, newHands())
	simulated := certificate()
	simulated.Simulated = true
	rec, err := l.AppendScrub(simulated)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("one comes back from its record as it was", func(t *testing.T) {
		got, err := Scrub(rec)
		if err != nil || got.String() != simulated.String() || rec.Subject != "ws-f9abcdefg" {
			t.Errorf("Scrub = %v, %v", got, err)
		}
	})
	t.Run("a simulated one says so first, a real one never", func(t *testing.T) {
		if !strings.HasPrefix(simulated.String(), "*** SIMULATED") || strings.Contains(certificate().String(), "SIMULATED") {
			t.Error("String hides or invents the simulation")
		}
	})
	t.Run("verification counts the simulated ones", func(t *testing.T) {
		data, _ := os.ReadFile(path)
		if report, err := Verify(bytes.NewReader(data), key.Public(), Options{}); err != nil || report.Simulated != 1 {
			t.Errorf("Verify = %+v, %v", report, err)
		}
	})
	bad := []struct {
		name   string
		change func(*ScrubCertificate)
	}{
		{"less read back than zeroed", func(c *ScrubCertificate) { c.BytesVerified-- }},
		{"nothing zeroed", func(c *ScrubCertificate) { c.BytesZeroed, c.BytesVerified = 0, 0 }},
		{"an id of another shape", func(c *ScrubCertificate) { c.CertificateID = "sc-xyz" }},
		{"an id with a line feed behind it", func(c *ScrubCertificate) { c.CertificateID += "\n" }},
		{"no WorkSpace", func(c *ScrubCertificate) { c.WorkspaceID = "" }},
		{"no digest", func(c *ScrubCertificate) { c.ReadBackDigest = "" }},
		{"an end before its start", func(c *ScrubCertificate) { c.ScrubEnd = c.ScrubStart.Add(-1) }},
		{"skipped bytes without a reason", func(c *ScrubCertificate) { c.ProcessBytesSkipped = map[string]int64{"": 1} }},
		{"a reason that skipped nothing", func(c *ScrubCertificate) { c.ProcessBytesSkipped = map[string]int64{"device": 0} }},
		{"a key without an id", func(c *ScrubCertificate) { c.VolumeKeysDestroyed[0].KeyID = "" }},
	}
	for _, tt := range bad {
		t.Run("one with "+tt.name+" is refused", func(t *testing.T) {
			c := certificate()
			tt.change(c)
			if _, err := l.AppendScrub(c); err == nil {
				t.Error("AppendScrub accepts it")
			}
		})
	}
}

func TestWhatWasSkippedIsInTheCertificateAndIsOptional(t *testing.T) {
	old, err := json.Marshal(certificate())
	if err != nil || bytes.Contains(old, []byte("processBytesSkipped")) {
		t.Fatalf("%s, %v", old, err)
	}
	c := certificate()
	c.ProcessBytesSkipped = map[string]int64{"was in swap": 4096, "device": 512}
	rec, err := open(t, filepath.Join(t.TempDir(), "log"), newKey(t), newHands()).AppendScrub(c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Scrub(rec)
	if err != nil || !maps.Equal(got.ProcessBytesSkipped, c.ProcessBytesSkipped) {
		t.Errorf("%+v, %v", got, err)
	}
	if text := got.String(); !strings.Contains(text, "512 bytes not overwritten, or elsewhere too: device") || strings.Index(text, "4096 bytes") < strings.Index(text, "512 bytes") {
		t.Errorf("%s", text)
	}
}

func TestTheDigestIsComparedWithThatOfZeros(t *testing.T) {
	// In a shell: head -c 3145728 /dev/zero | sha256sum; and yes "$(head -c 1048576 /dev/zero | sha256sum | cut -c1-64)" | head -n 3 | xxd -r -p | sha256sum
	const (
		size  = 3 << 20
		plain = "bbd05cf6097ac9b1f89ea29d2542c1b7b67ee46848393895f5a9e43fa1f621e5"
		tree  = "247b30c63a7faee2412bc10286cbdeaf8d5906e8e35891e8101e4a1e1d05330f"
	)
	for _, c := range []struct {
		method, digest string
		size           int64
		compared, good bool
	}{
		{"simulated", plain, size, true, true},
		{"simulated", tree, size, true, false},
		{"qemu-freeze-zero-seal-readback", tree, size, true, true},
		{"qemu-freeze-zero-seal-readback", tree, size + 1, true, false},
		{"qemu-freeze-zero-seal-readback", plain, size, true, false},
		{"of a later version", plain, size, false, true},
	} {
		cert := certificate()
		cert.Method, cert.ReadBackDigest, cert.BytesZeroed, cert.BytesVerified = c.method, c.digest, c.size, c.size
		compared, err := cert.CheckDigest()
		if compared != c.compared || (err == nil) != c.good || err != nil && !errors.Is(err, ErrDigest) {
			t.Errorf("%s, %d bytes, %s: compared %t, %v", c.method, c.size, c.digest, compared, err)
		}
	}
}

func TestProofs(t *testing.T) {
	key := newKey(t)
	rec := mustRecord(t, written(t, key, 3)[2])
	text, err := json.MarshalIndent(NewProof(rec), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("one record verifies alone with the public key", func(t *testing.T) {
		p, err := ParseProof(text)
		if err != nil || p.Verify(key.Public()) != nil {
			t.Errorf("ParseProof = %v, Verify = %v", err, p.Verify(key.Public()))
		}
	})
	t.Run("another key does not verify it", func(t *testing.T) {
		p, _ := ParseProof(text)
		var fault *Fault
		if err := p.Verify(newKey(t).Public()); !errors.As(err, &fault) || fault.Problem != WrongKey {
			t.Errorf("Verify = %v", err)
		}
	})
	for _, change := range [][2]string{{`"n": 2`, `"n": 3`}, {`subject-2`, `subject-3`}, {`"sequence": 3`, `"sequence": 4`}} {
		t.Run("an edited "+change[0]+" does not verify", func(t *testing.T) {
			p, err := ParseProof(bytes.Replace(text, []byte(change[0]), []byte(change[1]), 1))
			if err != nil {
				t.Fatal(err)
			}
			var fault *Fault
			if err := p.Verify(key.Public()); !errors.As(err, &fault) || fault.Problem != WrongHash {
				t.Errorf("Verify = %v", err)
			}
		})
	}
	t.Run("a file of another format is refused", func(t *testing.T) {
		if _, err := ParseProof(bytes.Replace(text, []byte(proofFormat), []byte("x"), 1)); err == nil {
			t.Error("ParseProof accepts it")
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	key := newKey(f)
	for _, line := range written(f, key, 2) {
		f.Add(bytes.TrimSuffix(line, []byte("\n")))
	}
	f.Add([]byte(`{"sequence":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		rec, err := ParseRecord(line)
		if err != nil {
			return
		}
		again, err := rec.MarshalJSON()
		if err != nil || !bytes.Equal(again, line) {
			t.Errorf("a line has a second spelling: %s, %v", again, err)
		}
		_ = VerifyRecord(rec, key.Public())
	})
}

func BenchmarkAppend(b *testing.B) {
	l := open(b, filepath.Join(b.TempDir(), "log"), newKey(b), newHands())
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := l.Append("test", "s", certificate()); err != nil {
				b.Error(err)
			}
		}
	})
}

// script is a disk whose writes and truncations do what the next step says.
type script struct {
	file
	gate      chan struct{} // when not nil, a write waits for it
	writes    []error
	truncates []error
}

func next(steps *[]error) error {
	if len(*steps) == 0 {
		return nil
	}
	err := (*steps)[0]
	*steps = (*steps)[1:]
	return err
}

func (f *script) WriteAt(p []byte, off int64) (int, error) {
	if f.gate != nil {
		<-f.gate
	}
	if err := next(&f.writes); err != nil {
		n, _ := f.file.WriteAt(p[:len(p)-1], off)
		return n, err
	}
	return f.file.WriteAt(p, off)
}

func (f *script) Truncate(size int64) error {
	if err := next(&f.truncates); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func TestWhatAFailedWriteLeavesBehind(t *testing.T) {
	key := newKey(t)
	t.Run("R15: the remains of a long record do not stand behind a short one", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		l := open(t, path, key, newHands())
		l.f = &script{file: l.f, writes: []error{errDisk}, truncates: []error{errDisk}}
		if _, err := l.Append("test", "long", strings.Repeat("x", 9000)); !errors.Is(err, errDisk) {
			t.Fatalf("Append = %v", err)
		}
		if _, err := l.Append("test", "short", nil); err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		verifyFile(t, path, key, 1)
	})
	t.Run("R15: a record queued behind a failed one fails with it", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		l := open(t, path, key, newHands())
		gate := make(chan struct{})
		l.f = &script{file: l.f, gate: gate, writes: []error{errDisk}}
		results := make(chan error, 2)
		appendOne := func() { _, err := l.Append("test", "s", nil); results <- err }
		queued := func(n uint64) {
			for {
				l.mu.Lock()
				at, taken := l.next.head.Sequence, len(l.pending.lines) == 0
				l.mu.Unlock()
				if at == n && (n > 1 || taken) {
					return
				}
				runtime.Gosched()
			}
		}
		go appendOne()
		queued(1)
		go appendOne()
		queued(2)
		close(gate)
		for range 2 {
			if err := <-results; !errors.Is(err, errDisk) {
				t.Errorf("Append = %v, want the disk's error", err)
			}
		}
		if rec, err := l.Append("test", "s", nil); err != nil || rec.Sequence != 1 {
			t.Errorf("Append = %v, %v", rec.Sequence, err)
		}
		_ = l.Close()
		verifyFile(t, path, key, 1)
	})
}
