package image

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"carrel/internal/durable"
)

// recipeVersion changes when the steps themselves come to make something else of the same inputs.
const recipeVersion = 1

// diskUUID and hashSeed are the same in every image: they name a file system, they protect nothing.
const (
	diskUUID = "c0a2238e-0d12-4b8e-8d6f-2f5d62e8c07d"
	hashSeed = "2f5d62e8-c07d-4f6f-9e1d-2733f6f4ef00"
)

// Package is a package with its version.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// command is a child of its own process group that ends with ctx: asked first, so that it can clear up, then killed. Its output goes to the
// step's log. In a user namespace it runs as the root of it.
func (b *build) command(ctx context.Context, inNamespace bool, argv ...string) (*exec.Cmd, *os.File, error) {
	if inNamespace && b.unshare {
		argv = append([]string{"mmdebstrap", "--unshare-helper"}, argv...)
	}
	log, err := os.OpenFile(b.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(log, "+ %s\n", strings.Join(argv, " "))
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/nonexistent", "DEBIAN_FRONTEND=noninteractive", "TMPDIR=" + b.temporary(),
		"SOURCE_DATE_EPOCH=" + strconv.FormatInt(b.Epoch.Unix(), 10), "E2FSPROGS_FAKE_TIME=" + strconv.FormatInt(b.Epoch.Unix(), 10),
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd, log, nil
}

// temporary is where children put their own temporary files. A user namespace's root may not see into the caller's directories.
func (b *build) temporary() string {
	if b.unshare {
		return os.TempDir()
	}
	return b.work
}

// run runs a program of the step; its error names the log.
func (b *build) run(ctx context.Context, inNamespace bool, argv ...string) error {
	cmd, log, err := b.command(ctx, inNamespace, argv...)
	if err != nil {
		return err
	}
	defer log.Close()
	return b.explain(ctx, argv[0], cmd.Run())
}

// explain adds to a program's failure what a person needs: its last words and where the others are.
func (b *build) explain(ctx context.Context, name string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%s: %w: %s (all of it in %s)", name, err, lastLine(b.log), b.log)
}

// lastLine is the last line of a log that says that something is wrong, or else the last.
func lastLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "no log"
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if l := strings.ToLower(lines[i]); strings.HasPrefix(l, "e: ") || strings.HasPrefix(l, "error") || strings.Contains(l, "failed") {
			return lines[i]
		}
	}
	return lines[len(lines)-1]
}

// mmdebstrap gives its arguments but for the target: everything that decides which packages are installed, and how.
func (b *build) mmdebstrap(ctx context.Context, flags []string, target string) ([]string, error) {
	lines, err := sources("/etc/apt", b.Mirror)
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		_, after, _ := strings.Cut(l, "signed-by=")
		if ring, _, ok := strings.Cut(after, "]"); ok && !exists(ring) {
			return nil, fmt.Errorf("the keys of the package archive are not here: %s (Debian, Ubuntu: apt-get install debian-archive-keyring)", ring)
		}
	}
	mode := "root"
	if b.unshare {
		mode = "unshare"
	}
	argv := append([]string{"mmdebstrap", "--variant=minbase", "--format=tar", "--mode=" + mode,
		`--aptopt=APT::Install-Recommends "false"`, `--aptopt=Acquire::Languages "none"`, "--include=" + strings.Join(b.recipe.packages, ",")}, flags...)
	for _, o := range aptOptions(ctx) {
		argv = append(argv, "--aptopt="+o)
	}
	for _, p := range b.recipe.exclude {
		argv = append(argv, "--dpkgopt=path-exclude="+p)
	}
	return append(append(argv, suite, target), lines...), nil
}

// installLine is what apt's simulation says of a package that it would install.
var installLine = regexp.MustCompile(`^Inst (\S+) (?:\[[^\]]*\] )?\((\S+) `)

// resolve asks the mirror which packages in which versions the image will have.
func (b *build) resolve(ctx context.Context) error {
	_ = os.Remove(b.log)
	argv, err := b.mmdebstrap(ctx, []string{"--simulate", "--verbose"}, "/dev/null")
	if err != nil {
		return err
	}
	if err := b.run(ctx, false, argv...); err != nil {
		return err
	}
	out, err := os.ReadFile(b.log)
	if err != nil {
		return err
	}
	b.packages = parseSimulation(string(out))
	if len(b.packages) == 0 {
		return fmt.Errorf("apt would install nothing (all of it in %s)", b.log)
	}
	b.inputs = b.hashInputs(b.packages)
	key := hashJSON([]any{recipeVersion, b.packages, b.recipe.packages, b.recipe.exclude, b.Epoch.Unix(), b.unshare})
	b.base = filepath.Join(b.Cache, "base", string(b.Variant)+"-"+key[:20]+".tar")
	return nil
}

// parseSimulation reads what apt-get -s says. A package named in two runs has its last version.
func parseSimulation(text string) []Package {
	found := map[string]string{}
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		if m := installLine.FindStringSubmatch(sc.Text()); m != nil {
			name, _, _ := strings.Cut(m[1], ":")
			found[name] = m[2]
		}
	}
	out := make([]Package, 0, len(found))
	for n, v := range found {
		out = append(out, Package{n, v})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// install has the packages installed into an archive.
func (b *build) install(ctx context.Context) error {
	_ = os.Remove(b.log)
	tarball := filepath.Join(b.work, "base.tar")
	argv, err := b.mmdebstrap(ctx, nil, tarball)
	if err != nil {
		return err
	}
	if err := b.run(ctx, false, argv...); err != nil {
		return err
	}
	return os.Rename(tarball, b.base)
}

// unpack makes a tree of the archive. Device nodes stay out: the guest has a devtmpfs, and a user namespace cannot make any.
func (b *build) unpack(ctx context.Context) error {
	_ = os.Remove(b.log)
	b.tree = filepath.Join(b.work, "tree")
	if b.unshare {
		dir, err := os.MkdirTemp("", "carrel-image-")
		if err != nil {
			return err
		}
		b.tree = filepath.Join(dir, "tree")
		// The namespace's root is another user to this directory's owner: it makes the tree itself. Nobody can list the directory, and its
		// name is not to be guessed.
		if err := os.Chmod(dir, 0o733); err != nil {
			return err
		}
		if err := b.run(ctx, true, "mkdir", b.tree); err != nil {
			return err
		}
	} else if err := os.Mkdir(b.tree, 0o755); err != nil {
		return err
	}
	base, err := os.Open(b.base)
	if err != nil {
		return err
	}
	defer base.Close()
	if err := b.untar(ctx, base, "--exclude=./dev/*"); err != nil {
		return err
	}
	installed, err := installedPackages(filepath.Join(b.tree, "var/lib/dpkg/status"))
	if err != nil {
		return err
	}
	// The simulation starts from nothing, so it may choose a package that the real run finds unnecessary, never another version.
	if p, differs := difference(installed, b.packages); differs {
		_ = os.Remove(b.base)
		return fmt.Errorf("the mirror's packages have changed since they were looked up (%s %s): build again", p.Name, p.Version)
	}
	b.packages = installed
	return nil
}

// untar unpacks r into the tree, with owners, modes and extended attributes.
func (b *build) untar(ctx context.Context, r io.Reader, flags ...string) error {
	argv := append([]string{"tar", "-C", b.tree, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", "-"}, flags...)
	cmd, log, err := b.command(ctx, true, argv...)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdin = r
	return b.explain(ctx, "tar", cmd.Run())
}

// installedPackages reads dpkg's status file.
func installedPackages(path string) ([]Package, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []Package
	for _, stanza := range strings.Split(string(data), "\n\n") {
		var p Package
		for _, line := range strings.Split(stanza, "\n") {
			if v, ok := strings.CutPrefix(line, "Package: "); ok {
				p.Name = v
			}
			if v, ok := strings.CutPrefix(line, "Version: "); ok {
				p.Version = v
			}
		}
		if p.Name != "" && strings.Contains(stanza, "\nStatus: install ok installed\n") {
			out = append(out, p)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// difference finds a package that was installed and not looked up, or in another version.
func difference(installed, lookedUp []Package) (Package, bool) {
	for _, p := range installed {
		if !slices.Contains(lookedUp, p) {
			return p, true
		}
	}
	return Package{}, false
}

func (b *build) readBoot(ctx context.Context) (err error) {
	b.boot, err = readBoot(ctx, b.tree, b.Epoch)
	return err
}

// finish adds the guest's own files and runs their last step in the tree, without network.
func (b *build) finish(ctx context.Context) error {
	_ = os.Remove(b.log)
	var buf bytes.Buffer
	// A plain file takes what the step's programs throw away, for there are no devices.
	files := append(slices.Clone(b.files), overlayFile{name: "dev/null", mode: 0o666})
	if err := writeOverlay(&buf, files, b.Epoch); err != nil {
		return err
	}
	if err := b.untar(ctx, &buf, "--keep-directory-symlink"); err != nil {
		return err
	}
	err := b.run(ctx, true, "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
		"chroot", b.tree, "/usr/lib/carrel/finish", string(b.Variant), b.recipe.locales)
	if err != nil {
		return err
	}
	return b.run(ctx, true, "rm", filepath.Join(b.tree, "dev/null"))
}

// makeFileSystem writes the tree as an ext4 file system, and sets the times that mke2fs cannot.
func (b *build) makeFileSystem(ctx context.Context) error {
	_ = os.Remove(b.log)
	raw := b.rawDisk()
	if err := makeFileSystem(ctx, b, b.tree, raw); err != nil {
		return err
	}
	b.dropTree()
	return nil
}

func (b *build) rawDisk() string { return filepath.Join(b.work, "disk.raw") }

// makeFileSystem is the same for the same tree, whatever file system the tree is on: mke2fs reads directories in order of name.
func makeFileSystem(ctx context.Context, b *build, tree, raw string) error {
	out := raw
	if b.unshare {
		out = filepath.Join(filepath.Dir(tree), "disk.raw")
	}
	f, err := os.OpenFile(out, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(b.recipe.virtualBytes)
	if b.unshare {
		err = errors.Join(err, f.Chmod(0o666)) // in a directory that nobody can list
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	err = b.run(ctx, true, "mke2fs", "-q", "-F", "-t", "ext4", "-L", "carrel-root", "-m", "1", "-U", diskUUID, "-J", "size=32",
		"-O", "^metadata_csum,^metadata_csum_seed,^orphan_file",
		// Nothing is left to the guest's first mount to initialise: it would write all of it into every desktop's overlay.
		"-E", "hash_seed="+hashSeed+",lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", "-d", tree, out)
	if err != nil {
		return err
	}
	if err := setTimes(out, b.Epoch); err != nil {
		return err
	}
	if out == raw {
		return nil
	}
	return moveFile(ctx, out, raw)
}

// moveFile moves across file systems too, keeping holes.
func moveFile(ctx context.Context, from, to string) error {
	if err := os.Rename(from, to); err == nil {
		return nil
	}
	if err := exec.CommandContext(ctx, "cp", "--sparse=always", from, to).Run(); err != nil {
		return fmt.Errorf("copy the disk: %w", err)
	}
	return os.Remove(from)
}

// compress makes the directory of the image: a compressed qcow2 of the disk, and what is beside it.
func (b *build) compress(ctx context.Context) error {
	_ = os.Remove(b.log)
	b.image = filepath.Join(b.work, "image")
	if err := os.Mkdir(b.image, 0o755); err != nil {
		return err
	}
	disk := filepath.Join(b.image, DiskName)
	// Both formats are named: qemu-img never looks for itself.
	err := b.run(ctx, false, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd,compat=1.1", b.rawDisk(), disk)
	if err != nil {
		return err
	}
	var list strings.Builder
	for _, p := range b.packages {
		fmt.Fprintf(&list, "%s %s\n", p.Name, p.Version)
	}
	for name, data := range map[string][]byte{KernelName: b.boot.kernel, InitrdName: b.boot.initrd, PackagesName: []byte(list.String())} {
		if err := durable.WriteFile(filepath.Join(b.image, name), data, 0o444); err != nil {
			return err
		}
	}
	if err := os.Chmod(disk, 0o444); err != nil {
		return err
	}
	return os.Remove(b.rawDisk())
}
