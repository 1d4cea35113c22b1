package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/clock"
)

func TestSourcesAreThoseOfTheHostForTheRelease(t *testing.T) {
	write := func(t *testing.T, files map[string]string) string {
		etc := t.TempDir()
		for name, text := range files {
			path := filepath.Join(etc, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		return etc
	}
	defaults := []string{
		"deb [signed-by=" + debianKeyring + "] " + debianMirror + " bookworm main", "deb [signed-by=" + debianKeyring + "] " + debianMirror + " bookworm-updates main",
		"deb [signed-by=" + debianKeyring + "] " + securityMirror + " bookworm-security main",
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"no sources at all":    {nil, defaults},
		"another distribution": {map[string]string{"sources.list": "deb http://archive.ubuntu.com/ubuntu noble main\n"}, defaults},
		"one-line style": {map[string]string{
			"sources.list":             "# deb http://no bookworm main\ndeb http://site/debian bookworm main contrib # ours\ndeb-src http://site/debian bookworm main\n",
			"sources.list.d/sec.list":  "deb [arch=amd64 signed-by=/k.gpg] http://site/sec bookworm-security main\n",
			"sources.list.d/node.list": "deb https://other bookworm-extra main\n",
		}, []string{"deb [signed-by=/k.gpg] http://site/sec bookworm-security main", "deb http://site/debian bookworm main"}},
		"deb822": {map[string]string{"sources.list.d/debian.sources": `Types: deb deb-src
URIs: http://site/debian
# a comment
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://off
Suites: bookworm
Components: main
Enabled: no
`}, []string{"deb [signed-by=" + debianKeyring + "] http://site/debian bookworm main", "deb [signed-by=" + debianKeyring + "] http://site/debian bookworm-updates main"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sources(write(t, c.files), "")
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
	if got, err := sources(t.TempDir(), "http://m/debian/"); err != nil || !strings.Contains(got[2], " http://m/debian-security bookworm-security main") {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"m", "http://m [x]", "http://m\nDeb"} {
		if _, err := sources(t.TempDir(), bad); err == nil {
			t.Errorf("mirror %q accepted", bad)
		}
	}
}

func TestWhatAptSimulatesIsRead(t *testing.T) {
	got := parseSimulation("Reading...\nInst b (2:1.0-1 Debian:12.15/oldstable [amd64])\nInst a:amd64 [0.9] (1.0 Debian [all]) [b:amd64 ]\nConf b (9 Debian)\nInst b (2:1.0-1 x [amd64])\n")
	if want := []Package{{"a", "1.0"}, {"b", "2:1.0-1"}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if p, differs := difference([]Package{{"a", "1.1"}}, got); !differs || p.Version != "1.1" {
		t.Error("another version is no difference")
	}
	if _, differs := difference([]Package{{"a", "1.0"}}, got); differs {
		t.Error("a package less is a difference")
	}
}

func TestModulesAreLoadedAfterWhatTheyNeed(t *testing.T) {
	dep := "kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/jbd2/jbd2.ko kernel/crypto/crc32c_generic.ko\nkernel/fs/jbd2/jbd2.ko:\nkernel/lib/crc16.ko:\n" +
		"kernel/crypto/crc32c_generic.ko:\nkernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio-ring.ko\nkernel/drivers/virtio/virtio-ring.ko:\n"
	got := loadOrder(dep, []string{"virtio_pci", "ext4", "not-there", "crc32c_generic"})
	want := []string{"kernel/drivers/virtio/virtio-ring.ko", "kernel/drivers/virtio/virtio_pci.ko", "kernel/crypto/crc32c_generic.ko", "kernel/fs/jbd2/jbd2.ko", "kernel/lib/crc16.ko", "kernel/fs/ext4/ext4.ko"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := loadOrder("a.ko: b.ko\nb.ko: a.ko\n", []string{"a"}); len(got) != 2 {
		t.Errorf("a circle: %q", got)
	}
}

func TestTheGuestsFilesAreTheSameAtEveryBuildAndRootOwnsThem(t *testing.T) {
	for _, v := range []Variant{Minimal, Desktop} {
		files, err := overlay(v)
		if err != nil {
			t.Fatal(err)
		}
		var one, two bytes.Buffer
		if err := errors.Join(writeOverlay(&one, files, recipeEpoch), writeOverlay(&two, files, recipeEpoch)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one.Bytes(), two.Bytes()) {
			t.Errorf("%s: two archives differ", v)
		}
		mode := map[string]int64{}
		for r := tar.NewReader(&one); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(recipeEpoch) || strings.HasPrefix(h.Name, "/") {
				t.Errorf("%s: %+v", v, h)
			}
			mode[strings.TrimSuffix(h.Name, "/")] = h.Mode
		}
		for name, want := range map[string]int64{"usr": 0o755, "usr/lib/carrel/renew": 0o755, "usr/lib/carrel/service": 0o755, "usr/lib/carrel/session": 0o755, "etc/udev/rules.d/90-carrel.rules": 0o644} {
			if mode[name] != want {
				t.Errorf("%s: %s has mode %o, want %o", v, name, mode[name], want)
			}
		}
	}
	if _, err := recipeOf("huge"); err == nil {
		t.Error("an unknown variant is known")
	}
}

func TestTheInputsHashChangesWithEveryInput(t *testing.T) {
	files, err := overlay(Minimal)
	if err != nil {
		t.Fatal(err)
	}
	make := func() *build {
		return &build{BuildOptions: BuildOptions{Variant: Minimal, Epoch: recipeEpoch, Mirror: "http://a"}, recipe: recipes[Minimal], files: slices.Clone(files)}
	}
	packages := []Package{{"a", "1"}}
	want := make().hashInputs(packages)
	other := make()
	other.Mirror = "http://b"
	if other.hashInputs(packages) != want {
		t.Error("the mirror counts")
	}
	seen := map[string]string{want: "nothing"}
	for name, change := range map[string]func(b *build){
		"a file": func(b *build) { b.files[0].data = []byte("x") }, "the date": func(b *build) { b.Epoch = b.Epoch.Add(time.Second) },
		"the command line": func(b *build) { b.recipe.commandLine += " x" }, "the size": func(b *build) { b.recipe.virtualBytes++ },
		"a package": func(b *build) { packages = []Package{{"a", "2"}} },
	} {
		b := make()
		packages = []Package{{"a", "1"}}
		change(b)
		h := b.hashInputs(packages)
		if was, twice := seen[h]; twice {
			t.Errorf("%s gives the hash of %s", name, was)
		}
		seen[h] = name
	}
}

func TestABuildThatFailsNamesStepAndLogAndLeavesNothing(t *testing.T) {
	bin := t.TempDir()
	for name, script := range map[string]string{
		"mmdebstrap": "#!/bin/sh\necho 'E: mirror on fire' >&2\nexit 25\n", "mke2fs": "", "qemu-img": "", "tar": "", "xz": "", "apt-config": "#!/bin/sh\n",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	cache := t.TempDir()
	_, err := Build(context.Background(), BuildOptions{Variant: Minimal, Cache: cache, Mirror: "http://127.0.0.1:1/debian"})
	if err == nil || !strings.Contains(err.Error(), "look up packages") {
		t.Fatalf("%v", err)
	}
	// Where the host has the archive's keys the fake ran, and its words and log are in the error.
	if exists(debianKeyring) && (!strings.Contains(err.Error(), "mirror on fire") || !strings.Contains(err.Error(), filepath.Join(cache, "log"))) {
		t.Errorf("%v", err)
	}
	for _, d := range []string{"image/*", "base/*", workPrefix + "*"} {
		if left, _ := filepath.Glob(filepath.Join(cache, d)); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestTwoBuildsDoNotShareACache(t *testing.T) {
	a := &build{BuildOptions: BuildOptions{Cache: t.TempDir()}}
	unlock, err := a.prepare()
	if err != nil {
		t.Fatal(err)
	}
	b := &build{BuildOptions: BuildOptions{Cache: a.Cache}}
	if _, err := b.prepare(); !errors.Is(err, ErrBusy) {
		t.Errorf("error %v", err)
	}
	unlock()
	// What a killed build leaves is cleared by the next.
	if err := os.Mkdir(filepath.Join(a.Cache, workPrefix+"dead"), 0o755); err != nil {
		t.Fatal(err)
	}
	if unlock, err = b.prepare(); err != nil {
		t.Fatal(err)
	}
	unlock()
	if left, _ := filepath.Glob(filepath.Join(a.Cache, workPrefix+"*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestProgressSaysWhatIsWhatWasAndWhatComes(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		var out bytes.Buffer
		p := NewText(&out, terminal, &clock.Movable{})
		p.Plan([]string{"one", "two"})
		p.Begin("one")
		p.End("one", false, nil)
		p.Begin("two")
		p.End("two", true, nil)
		for _, want := range []string{"[1/2] one: done in 0:00", "[2/2] two: in the cache already"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("terminal %v: %q does not say %q", terminal, out.String(), want)
			}
		}
		if !terminal && !strings.Contains(out.String(), "[1/2] one, then: two") {
			t.Errorf("%q", out.String())
		}
	}
}

func TestAKernelThatIsNoneIsRefused(t *testing.T) {
	good := make([]byte, 0x1000)
	copy(good[0x202:], "HdrS")
	for name, spoil := range map[string]func(b []byte) []byte{
		"short":                 func(b []byte) []byte { return b[:100] },
		"no magic":              func(b []byte) []byte { b[0x202] = 0; return b },
		"a payload outside":     func(b []byte) []byte { le(b, 0x248, 4, 1<<31); le(b, 0x24c, 4, 1<<31); return b },
		"no payload":            func(b []byte) []byte { return b },
		"unknown compression":   func(b []byte) []byte { le(b, 0x24c, 4, 16); return b },
		"a kernel of gigabytes": func(b []byte) []byte { le(b, 0x24c, 4, 16); le(b, 5*512+12, 4, 1<<32-1); return b },
	} {
		if _, err := vmlinux(context.Background(), spoil(bytes.Clone(good))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
