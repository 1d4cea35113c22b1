// Package image_test builds real images, boots the minimal one under emulation, and imports disks of every format through the real converter.
package image_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"carrel/internal/driver/image"
	"carrel/internal/driver/jail"
	"carrel/internal/ident"
)

func TestMain(m *testing.M) {
	jail.Main()
	os.Exit(m.Run())
}

// need fails the test with the package that has a missing program.
func need(t *testing.T, programs map[string]string) {
	t.Helper()
	for program, pkg := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: apt-get install %s", program, pkg)
		}
	}
}

// cacheDir is where built images outlive a run: .cache/images of the repository, or CARREL_TEST_IMAGES.
func cacheDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("CARREL_TEST_IMAGES")
	if dir == "" {
		dir = filepath.Join("..", "..", ".cache", "images")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

const minimalID = ident.ImageID("wsi-minimal12")

var (
	once      sync.Once
	storeDir  string
	buildDone *image.Result
	buildErr  error
)

// minimal is a store with the minimal image, built when the cache does not have it.
func minimal(t *testing.T) (*image.Store, *image.Result) {
	t.Helper()
	need(t, map[string]string{"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "qemu-img": "qemu-utils", "xz": "xz-utils"})
	cache := cacheDir(t)
	once.Do(func() {
		storeDir = filepath.Join(cache, "store")
		var s *image.Store
		if s, buildErr = image.Open(storeDir); buildErr != nil {
			return
		}
		buildDone, buildErr = build(t, s, cache)
		if buildErr == nil {
			buildErr = s.Add(t.Context(), minimalID, buildDone.Dir)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	s, err := image.Open(storeDir)
	if err != nil {
		t.Fatal(err)
	}
	return s, buildDone
}

// build waits for another suite's build in the same cache.
func build(t *testing.T, s *image.Store, cache string) (*image.Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	for {
		r, err := image.Build(ctx, image.BuildOptions{Variant: image.Minimal, Cache: cache, Key: s.Signer(), Progress: lines{t}})
		if !errors.Is(err, image.ErrBusy) {
			return r, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Second):
		}
	}
}

// lines shows the progress of a build in the test's log.
type lines struct{ t *testing.T }

func (lines) Plan([]string)       {}
func (l lines) Begin(step string) { l.t.Log("begins: ", step) }
func (l lines) End(step string, cached bool, err error) {
	l.t.Log("ended:  ", step, "cached:", cached, "error:", err)
}
