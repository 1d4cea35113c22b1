package image_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"carrel/internal/driver/image"
)

func TestASecondBuildIsFoundInTheCacheAndVerifies(t *testing.T) {
	s, first := minimal(t)
	again, err := build(t, s, cacheDir(t))
	if err != nil {
		t.Fatal(err)
	}
	if !again.Cached || again.Dir != first.Dir {
		t.Errorf("built again: %s and %s", first.Dir, again.Dir)
	}
	if _, err := s.Verify(t.Context(), minimalID); err != nil {
		t.Error(err)
	}
}

func TestTheSameInputsGiveTheSameImage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the archive of installed packages is another one outside of root")
	}
	s, first := minimal(t)
	other, err := os.MkdirTemp(cacheDir(t), "again-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(other)
	// The installed packages are shared; everything after them is made anew.
	bases, err := filepath.Glob(filepath.Join(cacheDir(t), "base", "minimal-*.tar"))
	if err != nil || len(bases) != 1 {
		t.Fatalf("%v, %v", bases, err)
	}
	if err := os.Mkdir(filepath.Join(other, "base"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(bases[0], filepath.Join(other, "base", filepath.Base(bases[0]))); err != nil {
		t.Fatal(err)
	}
	second, err := build(t, s, other)
	if err != nil {
		t.Fatal(err)
	}
	if second.Cached {
		t.Fatal("it was not built")
	}
	if diff := cmp.Diff(first.Manifest, second.Manifest); diff != "" {
		t.Errorf("the manifests differ (-first +second):\n%s", diff)
	}
	left, err := filepath.Glob(filepath.Join(other, ".new-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAnUnknownVariantIsRefusedByName(t *testing.T) {
	if _, err := image.Build(t.Context(), image.BuildOptions{Variant: "huge", Cache: t.TempDir()}); err == nil {
		t.Error("built")
	}
}
