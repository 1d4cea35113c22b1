package volume

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/driver/drivertest"
	"carrel/internal/durable"
	"carrel/internal/ident"
)

const (
	desktop = ident.WorkspaceID("ws-000000001")
	image   = ident.ImageID("wsi-000000001")
)

// images is a host with one image.
type images struct {
	dir     string
	digest  string
	virtual int64
}

func (i *images) OpenImage(_ context.Context, id ident.ImageID) (*driver.OpenImage, error) {
	if id != image {
		return nil, driver.ErrNotFound
	}
	f, err := os.OpenFile(filepath.Join(i.dir, "image"), os.O_RDONLY|os.O_CREATE, 0o600)
	return &driver.OpenImage{ID: id, Digest: i.digest, VirtualBytes: i.virtual, Disk: f}, err
}

// tool is a qemu-img without cryptography: the "LUKS header" holds a digest of the key that opens it.
type tool struct {
	calls []string
	fail  map[string]error
	// stubborn leaves the slot as it is.
	stubborn bool
}

const at, long = 0x10000, 0x2000

func (f *tool) begin(call string) error {
	f.calls = append(f.calls, call)
	err := f.fail[call]
	delete(f.fail, call)
	return err
}

func (f *tool) Format(_ context.Context, disk *os.File, size int64, key []byte) error {
	if err := f.begin("format"); err != nil {
		return err
	}
	_, err := disk.WriteAt(header(2, at, long), 0)
	sum := sha256.Sum256(key)
	_, err2 := disk.WriteAt(append([]byte("LUKS"), sum[:]...), at)
	return errors.Join(err, err2, disk.Truncate(at+long+4096))
}

func (f *tool) Kill(ctx context.Context, disk *os.File, key []byte) error {
	if err := f.begin("kill"); err != nil {
		return err
	}
	if err := f.opens(disk, key); err != nil {
		return err
	}
	if f.stubborn {
		return nil
	}
	_, err := disk.WriteAt(make([]byte, 32), at+4)
	return err
}

func (f *tool) Try(_ context.Context, disk *os.File, key []byte) error {
	if err := f.begin("try"); err != nil {
		return err
	}
	return f.opens(disk, key)
}

func (f *tool) opens(disk *os.File, key []byte) error {
	b := make([]byte, 36)
	if _, err := disk.ReadAt(b, at); err != nil {
		return err
	}
	if sum := sha256.Sum256(key); string(b[:4]) != "LUKS" || !bytes.Equal(b[4:], sum[:]) {
		return ErrRefused
	}
	return nil
}

// header makes the first bytes of a qcow2 file.
func header(method uint32, offset, length uint64) []byte {
	b := make([]byte, 0x90)
	copy(b, "QFI\xfb")
	be := binary.BigEndian
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[32:], method)
	be.PutUint32(b[100:], 112)
	be.PutUint32(b[112:], 0x0537be77)
	be.PutUint32(b[116:], 16)
	be.PutUint64(b[120:], offset)
	be.PutUint64(b[128:], length)
	return append(b, make([]byte, 4096)...)
}

type host struct {
	cfg    Config
	tool   *tool
	images *images
}

func newHost(t *testing.T) *host {
	t.Helper()
	dir := t.TempDir()
	keys, err := OpenMaster(filepath.Join(dir, "master"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{tool: &tool{fail: map[string]error{}}, images: &images{dir: dir, digest: "d1", virtual: 1 << 30}}
	h.cfg = Config{Dir: filepath.Join(dir, "volumes"), Images: h.images, Keys: keys, Tool: h.tool, Clock: clock.System{}, Random: rand.Reader}
	return h
}

func (h *host) open(t *testing.T) *Volumes {
	t.Helper()
	v, err := Open(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func spec(role driver.VolumeRole) driver.VolumeSpec {
	s := driver.VolumeSpec{ID: driver.VolumeOf(desktop, role), WorkspaceID: desktop, Role: role, GiB: 2}
	if role == driver.RootVolume {
		s.ImageID = image
	}
	return s
}

func TestConformance(t *testing.T) {
	drivertest.Volumes(t, func(t *testing.T) drivertest.Set {
		h := newHost(t)
		var set func(*testing.T) drivertest.Set
		set = func(t *testing.T) drivertest.Set {
			v := h.open(t)
			return drivertest.Set{Volumes: v, Image: image, Reopen: set, Busy: func(t *testing.T, ids []driver.VolumeID, _ ident.InterfaceID) func() {
				var held []*driver.OpenVolume
				for _, id := range ids {
					o, err := v.OpenVolume(t.Context(), id)
					if err != nil {
						t.Fatal(err)
					}
					held = append(held, o)
				}
				return func() {
					for _, o := range held {
						_ = o.Close()
					}
				}
			}}
		}
		return set(t)
	})
}

func TestAVolumeIsOpenedOnceAndItsKeyOpensIt(t *testing.T) {
	h := newHost(t)
	v := h.open(t)
	if _, err := v.Create(t.Context(), spec(driver.RootVolume)); err != nil {
		t.Fatal(err)
	}
	id := driver.VolumeOf(desktop, driver.RootVolume)
	o, err := v.OpenVolume(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.tool.opens(o.File, o.Passphrase); err != nil || len(o.Backing) != 1 || o.ImageID != image || len(o.Passphrase) != 64 {
		t.Errorf("opened %+v: %v", o, err)
	}
	if _, err := h.open(t).OpenVolume(t.Context(), id); !errors.Is(err, driver.ErrBusy) {
		t.Errorf("opened twice: %v", err)
	}
	key := o.Passphrase
	if err := o.Close(); err != nil || !bytes.Equal(key, make([]byte, 64)) {
		t.Errorf("after Close: %v, key %q", err, key)
	}
	o, err = v.OpenVolume(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	_ = o.Close()
	h.images.digest = "d2"
	if _, err := v.OpenVolume(t.Context(), id); driver.AsPermanent(err) == nil {
		t.Errorf("opened over another image: %v", err)
	}
}

func TestNoKeyIsOnDiskOpen(t *testing.T) {
	h := newHost(t)
	v := h.open(t)
	if _, err := v.Create(t.Context(), spec(driver.UserVolume)); err != nil {
		t.Fatal(err)
	}
	o, err := v.OpenVolume(t.Context(), driver.VolumeOf(desktop, driver.UserVolume))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	seen := 0
	err = filepath.WalkDir(h.cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		seen++
		b, err := os.ReadFile(path)
		if bytes.Contains(b, o.Passphrase) {
			t.Errorf("%s contains the key", path)
		}
		return err
	})
	if err != nil || seen != 3 {
		t.Errorf("%d files, %v", seen, err)
	}
}

func TestAWrappedKeyOpensOnlyInItsOwnPlace(t *testing.T) {
	h := newHost(t)
	k := h.cfg.Keys
	w, err := k.Wrap("", "ws-000000001/root vk-1", []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Unwrap("", "ws-000000001/root vk-1", w); err != nil || string(got) != "key" {
		t.Errorf("%q, %v", got, err)
	}
	flipped := bytes.Clone(w)
	flipped[len(flipped)-1] ^= 1
	for name, try := range map[string]func() ([]byte, error){
		"another volume's":      func() ([]byte, error) { return k.Unwrap("", "ws-000000002/root vk-1", w) },
		"another customer key":  func() ([]byte, error) { return k.Unwrap("alias/a", "ws-000000001/root vk-1", w) },
		"a flipped bit":         func() ([]byte, error) { return k.Unwrap("", "ws-000000001/root vk-1", flipped) },
		"cut off":               func() ([]byte, error) { return k.Unwrap("", "ws-000000001/root vk-1", w[:5]) },
		"another host's master": func() ([]byte, error) { return newHost(t).cfg.Keys.Unwrap("", "ws-000000001/root vk-1", w) },
	} {
		if got, err := try(); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestMasterKeyOfAnotherSizeIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master")
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenMaster(path, rand.Reader); err == nil || !strings.Contains(err.Error(), "5 bytes") {
		t.Errorf("%v", err)
	}
}

// DSK-1, without real cryptography: the header is zero, the wrapped key is gone, the disk's old key opens nothing.
func TestEraseDestroysEveryCopyOfTheKey(t *testing.T) {
	h := newHost(t)
	v := h.open(t)
	id := driver.VolumeOf(desktop, driver.UserVolume)
	if _, err := v.Create(t.Context(), spec(driver.UserVolume)); err != nil {
		t.Fatal(err)
	}
	wrapped, err := os.ReadFile(filepath.Join(v.dir(id), keyFile))
	if err != nil {
		t.Fatal(err)
	}
	e, err := v.Erase(t.Context(), id)
	if err != nil || !e.Verified || e.Method != EraseMethod {
		t.Fatalf("%+v, %v", e, err)
	}
	disk, err := os.ReadFile(filepath.Join(v.dir(id), diskFile))
	if err != nil || !bytes.Equal(disk[at:at+long], make([]byte, long)) {
		t.Errorf("the header is not zero (%v)", err)
	}
	if _, err := os.Stat(filepath.Join(v.dir(id), keyFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("wrapped key: %v", err)
	}
	_ = filepath.WalkDir(h.cfg.Dir, func(path string, d fs.DirEntry, _ error) error {
		if b, _ := os.ReadFile(path); bytes.Contains(b, wrapped) {
			t.Errorf("%s has the wrapped key", path)
		}
		return nil
	})
	if _, err := v.OpenVolume(t.Context(), id); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("opened after Erase: %v", err)
	}
}

func TestEraseCutOffAnywhereIsCompletedByTheNext(t *testing.T) {
	for _, call := range []string{"kill", "try"} {
		t.Run("at "+call, func(t *testing.T) {
			h := newHost(t)
			id := driver.VolumeOf(desktop, driver.UserVolume)
			if _, err := h.open(t).Create(t.Context(), spec(driver.UserVolume)); err != nil {
				t.Fatal(err)
			}
			h.tool.fail[call] = errors.New("killed")
			if e, err := h.open(t).Erase(t.Context(), id); err == nil {
				t.Fatalf("%+v", e)
			}
			if e, err := h.open(t).Erase(t.Context(), id); err != nil || !e.Verified {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
	t.Run("between the report and the wrapped key", func(t *testing.T) {
		h := newHost(t)
		v := h.open(t)
		id := driver.VolumeOf(desktop, driver.UserVolume)
		if _, err := v.Create(t.Context(), spec(driver.UserVolume)); err != nil {
			t.Fatal(err)
		}
		r, err := v.read(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.eraseDisk(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		r.Erasure = &driver.Erasure{VolumeID: id, KeyID: r.KeyID, Verified: true, At: v.cfg.Clock.Now()}
		if err := v.write(v.dir(id), r); err != nil {
			t.Fatal(err)
		}
		if err := h.open(t).Release(t.Context(), id); !errors.Is(err, driver.ErrOrder) {
			t.Errorf("released with its wrapped key there: %v", err)
		}
		if _, err := h.open(t).Erase(t.Context(), id); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(v.dir(id), keyFile)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("wrapped key: %v", err)
		}
	})
}

func TestADiskThatItsOldKeyStillOpensIsNotErased(t *testing.T) {
	h := newHost(t)
	h.tool.stubborn = true
	v := h.open(t)
	id := driver.VolumeOf(desktop, driver.UserVolume)
	if _, err := v.Create(t.Context(), spec(driver.UserVolume)); err != nil {
		t.Fatal(err)
	}
	if e, err := v.Erase(t.Context(), id); !errors.Is(err, ErrNotErased) {
		t.Errorf("%+v, %v", e, err)
	}
	if l, err := v.List(t.Context()); err != nil || len(l) != 1 || l[0].Erased {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestACreateThatFailsLeavesNothing(t *testing.T) {
	h := newHost(t)
	h.tool.fail["format"] = errors.New("no space left on device")
	v := h.open(t)
	if _, err := v.Create(t.Context(), spec(driver.UserVolume)); err == nil {
		t.Fatal("created")
	}
	left, err := filepath.Glob(filepath.Join(h.cfg.Dir, "*", "*"))
	hidden, err2 := filepath.Glob(filepath.Join(h.cfg.Dir, "*", ".*"))
	if err != nil || err2 != nil || len(left)+len(hidden) > 0 {
		t.Errorf("left %v %v", left, hidden)
	}
	if err := os.MkdirAll(filepath.Join(h.cfg.Dir, string(desktop), halfMade+"1"), 0o700); err != nil {
		t.Fatal(err)
	}
	v = h.open(t)
	if l, err := v.List(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("%v, %v", l, err)
	}
	if _, err := v.Create(t.Context(), spec(driver.UserVolume)); err != nil {
		t.Error(err)
	}
	half := filepath.Join(v.dir(driver.VolumeOf(desktop, driver.UserVolume)), durable.Prefix+"1")
	if err := os.WriteFile(half, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := h.open(t).List(t.Context()); err != nil || len(l) != 1 {
		t.Errorf("%v, %v", l, err)
	}
	if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a record: %v", err)
	}
}

func TestWhatCannotBeAVolumeIsRefusedForGood(t *testing.T) {
	h := newHost(t)
	v := h.open(t)
	for name, change := range map[string]func(*driver.VolumeSpec){
		"an id with a path":        func(s *driver.VolumeSpec) { s.ID = "../../etc/root" },
		"another desktop's id":     func(s *driver.VolumeSpec) { s.ID = "ws-000000002/root" },
		"no size":                  func(s *driver.VolumeSpec) { s.GiB = 0 },
		"too large":                func(s *driver.VolumeSpec) { s.GiB = 2001 },
		"smaller than its image":   func(s *driver.VolumeSpec) { h.images.virtual = 3 << 30 },
		"no image":                 func(s *driver.VolumeSpec) { s.ImageID = "" },
		"an image nobody has":      func(s *driver.VolumeSpec) { s.ImageID = "wsi-999999999" },
		"encryption without a key": func(s *driver.VolumeSpec) { s.Encrypted = true },
		"a key without encryption": func(s *driver.VolumeSpec) { s.WrappingKey = "alias/x" },
		"a role that is none":      func(s *driver.VolumeSpec) { s.Role, s.ID = "swap", "ws-000000001/swap" },
	} {
		s := spec(driver.RootVolume)
		h.images.virtual = 1 << 30
		change(&s)
		if _, err := v.Create(t.Context(), s); driver.AsPermanent(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCryptoHeader(f *testing.F) {
	f.Add(header(2, at, long))
	f.Add(header(1, at, long))
	f.Add(header(2, 1<<63, 1<<62))
	f.Add([]byte("QFI\xfb"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := cryptoHeader(bytes.NewReader(b))
		if err == nil && (r.Offset < 4096 || r.Length <= 0 || r.Length > 64<<20) {
			t.Errorf("%+v", r)
		}
	})
}

func TestTheToolsOwnWordsForARefusedKey(t *testing.T) {
	for text, want := range map[string]bool{
		"qemu-img: Could not open 'driver=qcow2': Invalid password, cannot unlock any keyslot": true,
		"qemu-img: Could not open 'x': Volume is not in LUKS format":                           true,
		"qemu-img: Could not open 'x': No space left on device":                                false,
		"": false,
	} {
		if refused(text) != want {
			t.Errorf("%q", text)
		}
	}
	full := func(context.Context, string, []string, []*os.File) ([]byte, error) {
		return []byte("qemu-img: /proc/self/fd/3: Could not resize image: No space left on device"), errors.New("exit status 1")
	}
	if err := (QemuImg{Run: full}).Kill(t.Context(), os.Stdin, []byte("key")); !driver.OutOfSpace(err) || errors.Is(err, ErrRefused) {
		t.Errorf("a full file system, in the tool's words: %v", err)
	}
	disk, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if err := (QemuImg{Random: rand.Reader}).Format(t.Context(), disk, 1<<30, []byte("0123456789abcdef0123456789abcdef")); !driver.OutOfSpace(err) {
		t.Errorf("a full file system, in the kernel's: %v", err)
	}
	if got := said([]byte("one\ntwo  " + strings.Repeat("x", 900))); !strings.HasPrefix(got, "one two x") || len(got) != 500 {
		t.Errorf("%q", got)
	}
}
