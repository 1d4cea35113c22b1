package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/durable"
	"carrel/internal/evidence"
)

// BuildOptions say what to build and where.
type BuildOptions struct {
	Variant Variant
	// Cache is a directory for everything that a later build can use again: installed packages, finished images, logs of steps.
	Cache string
	// Mirror replaces the host's sources of packages; empty: what the host's apt uses.
	Mirror string
	// Epoch is the date of everything in the image; zero: the recipe's own.
	Epoch time.Time
	// Key signs the manifest: an installation's image key (Store.Signer).
	Key      evidence.Signer
	Progress Progress
}

// Result is a finished image.
type Result struct {
	// Dir holds its files; it stays the cache's: the store links or copies (Store.Add).
	Dir      string
	Manifest *Manifest
	// Cached: nothing had to be made.
	Cached bool
}

// ErrBusy: another build uses the same cache.
var ErrBusy = errors.New("another image build uses this cache")

// build is one run of Build.
type build struct {
	BuildOptions
	recipe  recipe
	files   []overlayFile
	work    string // everything half done; removed at the end
	log     string // of the running step
	unshare bool   // not root: work in a user namespace

	packages []Package // resolved
	inputs   string    // hash of everything that goes in
	base     string    // archive of the installed packages
	tree     string
	boot     bootFiles
	image    string // directory of the result, still in work
	manifest *Manifest
}

// step is one named part of a build. done, when it says yes, makes run unnecessary.
type step struct {
	name string
	done func() bool
	run  func(context.Context) error
}

// Build makes an image, or finds it in the cache. Everything half done is in a work directory that goes in the end; a finished
// image appears by one rename. An error names the step, and the log of its programs where there is one.
func Build(ctx context.Context, opt BuildOptions) (*Result, error) {
	r, err := recipeOf(opt.Variant)
	if err != nil {
		return nil, err
	}
	b := &build{BuildOptions: opt, recipe: r, unshare: os.Geteuid() != 0}
	if b.Epoch.IsZero() {
		b.Epoch = recipeEpoch
	}
	if b.Progress == nil {
		b.Progress = Silent{}
	}
	if b.files, err = overlay(opt.Variant); err != nil {
		return nil, err
	}
	if err := needTools("mmdebstrap", "mke2fs", "qemu-img", "tar", "xz"); err != nil {
		return nil, err
	}
	unlock, err := b.prepare()
	if err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	defer unlock()
	cached, err := b.runSteps(ctx)
	if err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	return b.result(cached)
}

// needTools finds the programs of a build before its first step rather than in its fifth.
func needTools(names ...string) error {
	var missing []string
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("build image: programs are missing: %s (Debian: apt-get install mmdebstrap e2fsprogs qemu-utils tar xz-utils)", strings.Join(missing, ", "))
	}
	return nil
}

// prepare makes the cache's directories, takes its lock and clears what a killed build has left.
func (b *build) prepare() (unlock func(), err error) {
	if b.Cache, err = filepath.Abs(b.Cache); err != nil {
		return nil, err
	}
	for _, d := range []string{"base", "image", "log"} {
		if err := os.MkdirAll(filepath.Join(b.Cache, d), 0o755); err != nil {
			return nil, err
		}
	}
	lock, err := os.OpenFile(filepath.Join(b.Cache, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("%s: %w", b.Cache, ErrBusy)
	}
	left, err := filepath.Glob(filepath.Join(b.Cache, workPrefix+"*"))
	for _, d := range left {
		err = errors.Join(err, os.RemoveAll(d))
	}
	if err == nil {
		b.work, err = os.MkdirTemp(b.Cache, workPrefix)
	}
	if err == nil {
		err = os.Chmod(b.work, 0o711) // apt downloads as a user of its own
	}
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return func() {
		b.dropTree()
		_ = os.RemoveAll(b.work)
		_ = lock.Close()
	}, nil
}

// runSteps runs the steps that are not done yet. cached: the image was there.
func (b *build) runSteps(ctx context.Context) (cached bool, err error) {
	have := func() bool { return b.finished() }
	steps := []step{
		{"look up packages", nil, b.resolve},
		{"download and install packages", func() bool { return have() || exists(b.base) }, b.install},
		{"unpack", have, b.unpack},
		{"kernel and initrd", have, b.readBoot},
		{"add Carrel's files", have, b.finish},
		{"make the file system", have, b.makeFileSystem},
		{"compress the disk", have, b.compress},
		{"sign and put in place", nil, b.place},
	}
	names := make([]string, len(steps))
	for i, s := range steps {
		names[i] = s.name
	}
	b.Progress.Plan(names)
	for i, s := range steps {
		b.log = filepath.Join(b.Cache, "log", fmt.Sprintf("%s-%d.log", b.Variant, i+1))
		b.Progress.Begin(s.name)
		skip := s.done != nil && s.done()
		cached = cached || i == len(steps)-2 && skip
		if !skip {
			err = s.run(ctx)
			if err == nil {
				err = ctx.Err()
			}
		}
		b.Progress.End(s.name, skip, err)
		if err != nil {
			return false, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return cached, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// target is the directory of the finished image in the cache.
func (b *build) target() string {
	return filepath.Join(b.Cache, "image", string(b.Variant)+"-"+b.inputs[:20])
}

// finished says whether the cache has the image.
func (b *build) finished() bool { return exists(filepath.Join(b.target(), ManifestName)) }

// hashInputs names everything that the image is made from. The mirror is not among it: the same versions are the same packages.
func (b *build) hashInputs(packages []Package) string {
	type file struct{ Name, Data, Link string }
	in := struct {
		Recipe                               int
		Suite, Variant, Name, Locales, Flags string
		Exclude, Wanted, InitrdModules       []string
		VirtualBytes, Epoch                  int64
		MinMemory                            int
		Packages                             []Package
		Files                                []file
	}{
		Recipe: recipeVersion, Suite: suite, Variant: string(b.Variant), Name: b.recipe.name, Locales: b.recipe.locales,
		Flags: b.recipe.commandLine, Exclude: b.recipe.exclude, Wanted: b.recipe.packages, InitrdModules: initrdModules,
		VirtualBytes: b.recipe.virtualBytes, MinMemory: b.recipe.minMemoryMiB, Epoch: b.Epoch.Unix(), Packages: packages,
	}
	script, _ := rootfs.ReadFile("rootfs/initrd/init")
	for _, f := range append(b.files, overlayFile{name: "initrd", data: script}) {
		sum := sha256.Sum256(f.data)
		in.Files = append(in.Files, file{f.name, hex.EncodeToString(sum[:]), f.link})
	}
	return hashJSON(in)
}

// hashJSON is the SHA-256 of v as JSON, lower-case hexadecimal. v holds nothing that cannot be encoded.
func hashJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// place writes the manifest with the files' digests, moves the image to its place in the cache, and signs. An image that was there is
// signed again: the cache may serve several installations, each with its own key.
func (b *build) place(ctx context.Context) error {
	if !b.finished() {
		m := b.recipe.manifest(b.Variant, b.inputs, b.Epoch)
		for _, name := range []string{DiskName, InitrdName, PackagesName, KernelName} {
			f, err := describe(ctx, b.image, name)
			if err != nil {
				return err
			}
			m.Files = append(m.Files, f)
		}
		data, err := m.encode()
		if err != nil {
			return err
		}
		if err := durable.WriteFile(filepath.Join(b.image, ManifestName), data, 0o644); err != nil {
			return err
		}
		b.dropOld()
		if err := os.Rename(b.image, b.target()); err != nil {
			return err
		}
		if err := durable.SyncDir(filepath.Dir(b.target())); err != nil {
			return err
		}
	}
	return b.signResult()
}

func (b *build) signResult() error {
	data, err := readSmall(filepath.Join(b.target(), ManifestName), maxManifest)
	if err != nil {
		return err
	}
	if b.manifest, err = parseManifest(data); err != nil {
		return err
	}
	sig, err := sign(b.Key, data)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(b.target(), SignatureName), sig, 0o644)
}

// dropOld removes what the cache holds of this variant's earlier inputs. Stores have their own links or copies.
func (b *build) dropOld() {
	for _, d := range []string{"image", "base"} {
		old, err := filepath.Glob(filepath.Join(b.Cache, d, string(b.Variant)+"-*"))
		if err != nil {
			continue
		}
		for _, p := range old {
			if p != b.base && p != b.target() {
				_ = os.RemoveAll(p)
			}
		}
	}
}

func (b *build) result(cached bool) (*Result, error) {
	return &Result{Dir: b.target(), Manifest: b.manifest, Cached: cached}, nil
}

// describe reads a file for its entry in the manifest.
func describe(ctx context.Context, dir, name string) (File, error) {
	f, err := openRegular(filepath.Join(dir, name))
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := copyContext(ctx, h, f)
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", name, err)
	}
	return File{Name: name, Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// dropTree removes the unpacked tree, which outside of root belongs to ids of the user namespace.
func (b *build) dropTree() {
	if b.tree == "" {
		return
	}
	if b.unshare {
		_ = exec.Command("mmdebstrap", "--unshare-helper", "rm", "-rf", b.tree).Run()
		_ = os.RemoveAll(filepath.Dir(b.tree))
	}
	if err := os.RemoveAll(b.tree); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	b.tree = ""
}
