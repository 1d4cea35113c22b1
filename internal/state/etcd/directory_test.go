package etcd

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// used is a directory that a store with something in it has been closed in.
func used(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s, err := open(t, EmbeddedConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		mustPut(t, s, fmt.Sprint(i), strings.Repeat("v", 1000))
	}
	mustClose(t, s)
	return dir
}

// contents is a digest of every file but the lock.
func contents(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	sums := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == lockName {
			return err
		}
		raw, err := os.ReadFile(path)
		sums[path] = sha256.Sum256(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

func overwrite(t *testing.T, path string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func firstLog(t *testing.T, dir string) string {
	t.Helper()
	pieces, err := filepath.Glob(filepath.Join(logPath(dir), "*.wal"))
	if err != nil || len(pieces) == 0 {
		t.Fatalf("no log: %v", err)
	}
	return pieces[0]
}

func TestDamagedOrForeignDirectoryIsRefusedAndLeftAlone(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		says   string
	}{
		{"a file that is not carrel's", func(t *testing.T, dir string) {
			overwrite(t, filepath.Join(dir, "thesis.tex"), []byte("chapter 1"))
		}, `contains "thesis.tex"`},
		{"a newer format", func(t *testing.T, dir string) {
			overwrite(t, filepath.Join(dir, formatName), []byte(`{"carrel-state":2,"token":"x"}`))
		}, "newer version of carrel (format 2"},
		{"a format file that is garbage", func(t *testing.T, dir string) {
			overwrite(t, filepath.Join(dir, formatName), []byte("\x00\xff"))
		}, "FORMAT file is not carrel's or is damaged"},
		{"an empty format file", func(t *testing.T, dir string) {
			overwrite(t, filepath.Join(dir, formatName), nil)
		}, "FORMAT file is not carrel's or is damaged"},
		{"a database without a format file", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, formatName)); err != nil {
				t.Fatal(err)
			}
		}, "without carrel's FORMAT file"},
		{"a database that is garbage", func(t *testing.T, dir string) {
			overwrite(t, databasePath(dir), bytes.Repeat([]byte("garbage "), 1<<15))
		}, "is damaged"},
		{"a database that is empty", func(t *testing.T, dir string) {
			overwrite(t, databasePath(dir), nil)
		}, "missing or empty"},
		{"a database that is missing", func(t *testing.T, dir string) {
			if err := os.Remove(databasePath(dir)); err != nil {
				t.Fatal(err)
			}
		}, "missing or empty"},
		{"a database that is cut off", func(t *testing.T, dir string) {
			if err := os.Truncate(databasePath(dir), 3*4096); err != nil {
				t.Fatal(err)
			}
		}, "cut off"},
		{"a database whose pages are garbage", func(t *testing.T, dir string) {
			raw := read(t, databasePath(dir))
			for i := 2 * 4096; i < len(raw); i++ {
				raw[i] ^= 0x5a
			}
			overwrite(t, databasePath(dir), raw)
		}, "is damaged"},
		{"a log that is missing", func(t *testing.T, dir string) {
			if err := os.RemoveAll(logPath(dir)); err != nil {
				t.Fatal(err)
			}
		}, "log"},
		{"a log that is garbage", func(t *testing.T, dir string) {
			overwrite(t, firstLog(t, dir), bytes.Repeat([]byte("garbage "), 1<<15))
		}, "is damaged"},
		{"a log with a flipped byte", func(t *testing.T, dir string) {
			raw := read(t, firstLog(t, dir))
			raw[100<<10] ^= 1
			overwrite(t, firstLog(t, dir), raw)
		}, "damaged at record"},
		{"the database of another installation", func(t *testing.T, dir string) {
			overwrite(t, databasePath(dir), read(t, databasePath(used(t))))
		}, "belongs to another installation"},
		{"the log of another installation", func(t *testing.T, dir string) {
			overwrite(t, firstLog(t, dir), read(t, firstLog(t, used(t))))
		}, "belongs to another installation"},
		{"all of another installation's database", func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, memberDir)); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(dir, memberDir), os.DirFS(filepath.Join(used(t), memberDir))); err != nil {
				t.Fatal(err)
			}
		}, "belongs to another installation"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := used(t)
			c.damage(t, dir)
			before := contents(t, dir)
			s, err := open(t, EmbeddedConfig{Dir: dir})
			if err == nil {
				mustClose(t, s)
				t.Fatal("it was opened")
			}
			var problem *DirectoryError
			if !errors.As(err, &problem) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), dir) {
				t.Errorf("says %v, want something with %q and the directory", err, c.says)
			}
			after := contents(t, dir)
			for path, sum := range before {
				if after[path] != sum {
					t.Errorf("%s has been changed", path)
				}
			}
		})
	}
}

func TestForeignDirectoryGetsNoFile(t *testing.T) {
	dir := t.TempDir()
	overwrite(t, filepath.Join(dir, "thesis.tex"), []byte("chapter 1"))
	if _, err := open(t, EmbeddedConfig{Dir: dir}); err == nil {
		t.Fatal("it was opened")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("entries %v, %v; want the one that was there", entries, err)
	}
}

func TestSecondProcessIsToldWhoUsesTheDirectory(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, EmbeddedConfig{Dir: dir})
	_, err := open(t, EmbeddedConfig{Dir: dir})
	want := fmt.Sprintf("another carrel process (pid %d) uses %s", os.Getpid(), dir)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("says %v, want %q", err, want)
	}
	mustPut(t, s, "1", "the first one goes on")
}

func TestInterruptedFirstStartIsStartedAgain(t *testing.T) {
	dir := t.TempDir()
	overwrite(t, filepath.Join(dir, formatName), []byte(`{"carrel-state":1,"token":"carrel-x"}`))
	overwrite(t, filepath.Join(dir, newFormat), []byte(`{"carr`))
	if err := os.MkdirAll(filepath.Dir(databasePath(dir)), 0o700); err != nil {
		t.Fatal(err)
	}
	overwrite(t, databasePath(dir), []byte("half a database"))
	s := mustOpen(t, EmbeddedConfig{Dir: dir})
	mustPut(t, s, "1", "x")
}

func TestDirectoryIsReadableByItsOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	mustOpen(t, EmbeddedConfig{Dir: dir})
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v; want 0700", info.Mode(), err)
	}
}
