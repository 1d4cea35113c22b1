package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func TestAFileIsReplacedWholeWithItsMode(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "record")
	for _, c := range []struct {
		text string
		mode os.FileMode
	}{{"first, and longer than the second", 0o600}, {"second", 0o644}, {"", 0o444}, {"read-only is replaced too", 0o600}} {
		if err := WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		info, err2 := os.Stat(path)
		if err := errors.Join(err, err2); err != nil || string(b) != c.text || info.Mode() != c.mode {
			t.Errorf("%q %v, %v", b, info.Mode(), err)
		}
	}
	if got := names(t, dir); got != "record" {
		t.Errorf("there are %s", got)
	}
}

func TestAWriteThatFailsLeavesTheOldContentAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "record")
	if err := WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	told := errors.New("told to fail")
	err := WriteFile(path, []byte("new"), 0o600, func(f *os.File) error {
		if info, err := f.Stat(); err != nil || info.Size() != 3 {
			t.Errorf("prepared before it is written: %v, %v", info, err)
		}
		if b, _ := os.ReadFile(path); string(b) != "old" {
			t.Errorf("the new content has its name already: %q", b)
		}
		return told
	})
	if b, _ := os.ReadFile(path); !errors.Is(err, told) || string(b) != "old" || !strings.Contains(err.Error(), path) {
		t.Errorf("%q, %v", b, err)
	}
	// Its name is taken by a directory.
	if err := os.MkdirAll(filepath.Join(dir, "taken", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "taken"), []byte("x"), 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if err := WriteFile(filepath.Join(dir, "nowhere", "x"), []byte("x"), 0o600); err == nil {
		t.Error("a file in no directory")
	}
	if got := names(t, dir); got != "record taken" {
		t.Errorf("there are %s", got)
	}
}

func TestNoLinkIsFollowed(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	if err := os.WriteFile(outside, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "record")
	if err := os.Symlink(outside, path); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(outside); string(b) != "theirs" {
		t.Errorf("written through a link: %q", b)
	}
	if b, _ := os.ReadFile(path); string(b) != "ours" {
		t.Errorf("%q", b)
	}
}
