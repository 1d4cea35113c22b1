package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

const testID ident.ImageID = "wsi-test00001"

// finished makes a finished image of small files, signed by the store's key.
func finished(t *testing.T, s *Store) string {
	t.Helper()
	dir := t.TempDir()
	m := &Manifest{
		Format: manifestFormat, Name: "Test", Variant: "minimal", OperatingSystem: "UNKNOWN", Firmware: driver.FirmwareDirect,
		CommandLine: "quiet", Agent: true, MinMemoryMiB: 384, VirtualBytes: 1 << 20, InputsHash: strings.Repeat("0", 64), Built: recipeEpoch,
	}
	for _, name := range []string{DiskName, InitrdName, PackagesName, KernelName} {
		data := bytes.Repeat([]byte(name), 1000)
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		m.Files = append(m.Files, File{name, int64(len(data)), hex.EncodeToString(sum[:])})
	}
	data, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := sign(s.Signer(), data)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{ManifestName: data, SignatureName: sig} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// added is a store with one image.
func added(t *testing.T) *Store {
	t.Helper()
	s := openStore(t)
	if err := s.Add(context.Background(), testID, finished(t, s)); err != nil {
		t.Fatal(err)
	}
	return s
}

// overwrite changes a file of the stored image in place, as a fault of the disk or somebody with too many rights does.
func overwrite(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func wantUnusable(t *testing.T, err error, says string) {
	t.Helper()
	if p := driver.AsPermanent(err); p == nil || p.Code != "ImageUnusable" || !strings.Contains(err.Error(), says) {
		t.Errorf("error %v, want ImageUnusable about %q", err, says)
	}
}

func TestAnImageIsAddedListedOpenedAndRemoved(t *testing.T) {
	s := added(t)
	all, err := s.List()
	if err != nil || len(all) != 1 || all[0].ID != testID || all[0].Problem != "" || all[0].Digest == "" {
		t.Fatalf("%+v, %v", all, err)
	}
	img, err := s.OpenImage(context.Background(), testID)
	if err != nil {
		t.Fatal(err)
	}
	if img.Digest != all[0].Digest || img.VirtualBytes != 1<<20 || !img.Agent || img.MinMemoryMiB != 384 || img.CommandLine != "quiet" {
		t.Errorf("%+v", img)
	}
	for name, f := range map[string]*os.File{DiskName: img.Disk, KernelName: img.Kernel, InitrdName: img.Initrd} {
		if data, err := io.ReadAll(f); err != nil || !bytes.HasPrefix(data, []byte(name)) {
			t.Errorf("%s: %.20q, %v", name, data, err)
		}
	}
	if err := img.Close(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(s.Remove(testID), s.Remove(testID)); err != nil {
		t.Error(err)
	}
	if _, err := s.OpenImage(context.Background(), testID); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("after its removal: %v", err)
	}
}

func TestOneFlippedByteIsFoundAndTheFileNamed(t *testing.T) {
	for _, name := range []string{DiskName, KernelName, InitrdName, PackagesName} {
		t.Run(name, func(t *testing.T) {
			s := added(t)
			overwrite(t, filepath.Join(s.dir, string(testID), name), 77, []byte{'!'})
			_, err := s.Verify(context.Background(), testID)
			wantUnusable(t, err, name)
			if _, err := s.OpenImage(context.Background(), testID); name != PackagesName {
				wantUnusable(t, err, name)
			}
		})
	}
}

func TestADamagedImageIsReadOnceUntilSomebodyMendsIt(t *testing.T) {
	s := added(t)
	dir := filepath.Join(s.dir, string(testID))
	disk := filepath.Join(dir, DiskName)
	whole, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, disk, 77, []byte{'!'})
	_, err = s.OpenImage(context.Background(), testID)
	wantUnusable(t, err, DiskName)
	first := s.rejected[dir].err
	_, err = s.OpenImage(context.Background(), testID)
	wantUnusable(t, err, DiskName)
	if !errors.Is(err, first) {
		t.Errorf("it was read again: %v", err)
	}
	// The kernel's times are coarser than this test is quick.
	later := func(h int) {
		if at := time.Now().Add(time.Duration(h) * time.Hour); os.Chtimes(disk, at, at) != nil {
			t.Fatal("no times")
		}
	}
	overwrite(t, disk, 77, []byte{'?'})
	later(1)
	_, err = s.OpenImage(context.Background(), testID)
	wantUnusable(t, err, DiskName)
	if errors.Is(err, first) {
		t.Error("it was not read again although it has changed")
	}
	if _, err := s.Verify(context.Background(), testID); err == nil {
		t.Error("whoever asks for it has it read")
	}
	overwrite(t, disk, 0, whole)
	later(2)
	img, err := s.OpenImage(context.Background(), testID)
	if err != nil {
		t.Fatalf("mended: %v", err)
	}
	_ = img.Close()
	if len(s.rejected) != 0 {
		t.Errorf("still remembered: %+v", s.rejected)
	}
}

func TestAManifestOrSignatureThatIsNotOursIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		file, says string
	}{
		"a changed manifest":  {ManifestName, "signature"},
		"a changed signature": {SignatureName, "signature"},
	} {
		t.Run(name, func(t *testing.T) {
			s := added(t)
			file := filepath.Join(s.dir, string(testID), c.file)
			was, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			// A signature is random: a fixed character would now and then be the one that is there.
			other := byte('0')
			if was[20] == other {
				other = '1'
			}
			overwrite(t, file, 20, []byte{other})
			_, err = s.OpenImage(context.Background(), testID)
			wantUnusable(t, err, c.says)
			if all, _ := s.List(); len(all) != 1 || all[0].Problem == "" {
				t.Errorf("listed as %+v", all)
			}
		})
	}
	t.Run("another installation's", func(t *testing.T) {
		s := openStore(t)
		wantUnusable(t, s.Add(context.Background(), testID, finished(t, openStore(t))), "signature")
		if left, _ := filepath.Glob(filepath.Join(s.dir, "*wsi*")); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

func TestAnImageWithoutItsSealIsReadInFullAndSealedAgain(t *testing.T) {
	s := added(t)
	note := filepath.Join(s.dir, string(testID), sealName)
	for name, spoil := range map[string]func() error{
		"none":       func() error { return os.Remove(note) },
		"somebody's": func() error { return os.WriteFile(note, []byte(`{"seal":{"manifest":"x"},"signature":"00"}`), 0o644) },
		"a restored file": func() error {
			disk := filepath.Join(s.dir, string(testID), DiskName)
			data, err := os.ReadFile(disk)
			return errors.Join(err, os.Remove(disk), os.WriteFile(disk, data, 0o644))
		},
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		img, err := s.OpenImage(context.Background(), testID)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = img.Close()
		if _, sealed, err := s.open(filepath.Join(s.dir, string(testID)), testID); err != nil || !sealed {
			t.Errorf("%s: not sealed again: %v", name, err)
		}
	}
}

func TestASymbolicLinkInAnImageIsNotFollowed(t *testing.T) {
	s := added(t)
	disk := filepath.Join(s.dir, string(testID), DiskName)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.WriteFile(secret, []byte("s"), 0o600), os.Remove(disk), os.Symlink(secret, disk)); err != nil {
		t.Fatal(err)
	}
	_, err := s.OpenImage(context.Background(), testID)
	wantUnusable(t, err, DiskName)
}

func TestAnAliasStandsForAnImage(t *testing.T) {
	s := added(t)
	const alias, other ident.ImageID = "wsi-alias0001", "wsi-other0001"
	if err := s.Alias(alias, other); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
	if err := errors.Join(s.Alias(alias, testID), s.Alias(alias, testID)); err != nil {
		t.Fatal(err)
	}
	img, err := s.OpenImage(context.Background(), alias)
	if err != nil || img.ID != alias {
		t.Fatalf("%+v, %v", img, err)
	}
	_ = img.Close()
	if err := s.Remove(testID); err == nil {
		t.Error("an image that an alias stands on was removed")
	}
	if err := s.Alias(testID, alias); err == nil {
		t.Error("an image was replaced by an alias")
	}
	if err := errors.Join(s.Remove(alias), s.Remove(testID)); err != nil {
		t.Error(err)
	}
}

func TestAnImageOfTheSameIDIsReplacedWhileTheOldOneIsOpen(t *testing.T) {
	s := added(t)
	img, err := s.OpenImage(context.Background(), testID)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if err := s.Add(context.Background(), testID, finished(t, s)); err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(img.Disk); err != nil || len(data) == 0 {
		t.Errorf("the old one: %d bytes, %v", len(data), err)
	}
	left, _ := filepath.Glob(filepath.Join(s.dir, workPrefix+"*"))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestIDsThatLeadOutOfTheStoreAreRefused(t *testing.T) {
	s := added(t)
	for _, id := range []ident.ImageID{"", "..", "../x", "key", "wsi-/../../x", "wsi-TEST00001"} {
		if _, err := s.OpenImage(context.Background(), id); err == nil {
			t.Errorf("%q opened", id)
		}
		if s.Remove(id) == nil || s.Add(context.Background(), id, s.dir) == nil || s.Alias(id, testID) == nil {
			t.Errorf("%q accepted", id)
		}
	}
}

func TestTheKeyIsMadeOnceAndIsNobodyElses(t *testing.T) {
	s := openStore(t)
	info, err := os.Stat(filepath.Join(s.dir, keyName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	again, err := Open(s.dir)
	if err != nil || !again.Public().Equal(s.Public()) {
		t.Errorf("another key: %v", err)
	}
	if err := os.Chmod(filepath.Join(s.dir, keyName), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.dir); err == nil {
		t.Error("a key that everybody can read was used")
	}
}

func TestAManifestIsReadStrictly(t *testing.T) {
	s := openStore(t)
	data, err := os.ReadFile(filepath.Join(finished(t, s), ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseManifest(data); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"a file outside":         {`"disk.qcow2"`, `"../disk.qcow2"`},
		"a file of another name": {`"initrd"`, `"shadow"`},
		"a file twice":           {`"initrd"`, `"disk.qcow2"`},
		"an unknown field":       {`"format"`, `"extra": 1, "format"`},
		"another format":         {`"format": 1`, `"format": 2`},
		"another firmware":       {`"direct"`, `"network"`},
		"a command line of two":  {`"quiet"`, `"quiet\nx"`},
		"no memory":              {`"minMemoryMiB": 384`, `"minMemoryMiB": 0`},
		"a digest that is none":  {`"sha256": "`, `"sha256": "x`},
	} {
		bad := strings.Replace(string(data), change[0], change[1], 1)
		if bad == string(data) {
			t.Fatalf("%s: nothing changed", name)
		}
		if _, err := parseManifest([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := parseManifest(append(data, '{')); err == nil {
		t.Error("something after it: accepted")
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"files":[{"name":"disk.qcow2"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := parseManifest(data); err == nil {
			if _, err := m.encode(); err != nil {
				t.Error(err)
			}
		}
	})
}
