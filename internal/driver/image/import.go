package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"carrel/internal/driver"
	"carrel/internal/driver/jail"
	"carrel/internal/durable"
	"carrel/internal/ident"
)

// defaultMaxVirtual is the largest disk that is imported, in bytes, unless somebody says otherwise.
const defaultMaxVirtual = 2 << 40

// Converter turns the disk image in `from`, which is of the given format and was inspected, into a compressed qcow2 in the empty file `to`. It
// is given files and no paths, because what is opened by name may be another file by then. most is how large the result may be, in bytes.
type Converter interface {
	Convert(ctx context.Context, from *os.File, format Format, to *os.File, most int64) error
}

// ImportOptions say what is imported and how its guest starts.
type ImportOptions struct {
	ID ident.ImageID
	// Path of the file, read once: everything else works on a private copy.
	Path   string
	Format Format
	// Firmware is bios or uefi: an imported disk brings its own loader.
	Firmware driver.Firmware
	// Name for people; empty: the file's.
	Name string
	// MinMemoryMiB of guest memory; 0: 1024.
	MinMemoryMiB int
	// MaxVirtualBytes refuses larger disks; 0: 2 TiB.
	MaxVirtualBytes int64
	Converter       Converter
	Progress        Progress
}

// Import takes somebody else's disk into the store (VMM-3). ErrRefused: it is of a kind that is not imported, for the reason that is wrapped;
// nothing is left behind.
func (s *Store) Import(ctx context.Context, o ImportOptions) (*Manifest, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(s.dir, workPrefix)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", filepath.Base(o.Path), err)
	}
	defer os.RemoveAll(work)
	im := &importing{ImportOptions: o, work: work, result: filepath.Join(work, "image")}
	defer func() {
		if im.private != nil {
			_ = im.private.Close()
		}
	}()
	steps := []step{
		{"copy the file", nil, im.copy},
		{"inspect it", nil, im.inspect},
		{"convert it in a jail", nil, im.convert},
		{"sign and put in place", nil, func(ctx context.Context) error { return im.place(ctx, s) }},
	}
	names := make([]string, len(steps))
	for i, st := range steps {
		names[i] = st.name
	}
	o.Progress.Plan(names)
	for _, st := range steps {
		o.Progress.Begin(st.name)
		err := st.run(ctx)
		o.Progress.End(st.name, false, err)
		if err != nil {
			return nil, fmt.Errorf("import %s: %s: %w", filepath.Base(o.Path), st.name, err)
		}
	}
	return im.manifest, nil
}

func (o *ImportOptions) complete() error {
	if _, err := ident.ParseImageID(string(o.ID)); err != nil {
		return err
	}
	if o.Firmware != driver.FirmwareBIOS && o.Firmware != driver.FirmwareUEFI {
		return fmt.Errorf("firmware %q: an imported disk starts by bios or uefi", o.Firmware)
	}
	if o.Name == "" {
		base := filepath.Base(o.Path)
		o.Name = strings.TrimSuffix(base, filepath.Ext(base))
	}
	if o.Progress == nil {
		o.Progress = Silent{}
	}
	if o.MinMemoryMiB == 0 {
		o.MinMemoryMiB = 1024
	}
	if o.MaxVirtualBytes == 0 {
		o.MaxVirtualBytes = defaultMaxVirtual
	}
	return nil
}

// importing is one run of Import.
type importing struct {
	ImportOptions
	work, result string
	private      *os.File // the copy that nobody else can change
	digest       string   // of the source
	virtual      int64
	manifest     *Manifest
}

func (im *importing) size() (int64, error) {
	info, err := im.private.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// copy takes a private copy: what is inspected is what is converted, whatever happens to the original meanwhile.
func (im *importing) copy(ctx context.Context) error {
	in, err := openRegular(im.Path)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if info.Size() > im.MaxVirtualBytes+im.MaxVirtualBytes/8 {
		return refused("a file of %d bytes", info.Size())
	}
	out, err := os.OpenFile(filepath.Join(im.work, "source"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	// The copy has no name: it goes with its last descriptor.
	if err := os.Remove(out.Name()); err != nil {
		return errors.Join(err, out.Close())
	}
	im.private = out
	h := sha256.New()
	h.Write([]byte(im.Format + "\n"))
	n, err := copyContext(ctx, io.MultiWriter(&holeWriter{f: out}, h), in)
	if err == nil {
		err = out.Truncate(n)
	}
	im.digest = hex.EncodeToString(h.Sum(nil))
	return err
}

// holeWriter writes a file from its start and leaves holes where there are only zeros.
type holeWriter struct {
	f  *os.File
	at int64
}

func (w *holeWriter) Write(p []byte) (int, error) {
	const page = 64 << 10
	for off := 0; off < len(p); off += page {
		part := p[off:min(off+page, len(p))]
		if !allZero(part) {
			if _, err := w.f.WriteAt(part, w.at+int64(off)); err != nil {
				return off, err
			}
		}
	}
	w.at += int64(len(p))
	return len(p), nil
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

func (im *importing) inspect(context.Context) error {
	size, err := im.size()
	if err != nil {
		return err
	}
	im.virtual, err = inspect(im.Format, im.private, size, im.MaxVirtualBytes)
	return err
}

// convert has the copy converted, and inspects what came out as strictly as what went in: the converter may have been taken over by it.
func (im *importing) convert(ctx context.Context) error {
	if err := os.Mkdir(im.result, 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(im.result, DiskName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	// Compressed clusters that do not compress are stored as they are; the tables are less than an eighth.
	most := im.virtual + im.virtual/8 + 16<<20
	if err := im.Converter.Convert(ctx, im.private, im.Format, out, most); err != nil {
		return err
	}
	info, err := out.Stat()
	if err != nil {
		return err
	}
	got, err := inspect(QCOW2, out, info.Size(), im.MaxVirtualBytes)
	if err != nil {
		return fmt.Errorf("what the converter wrote: %w", err)
	}
	if got != im.virtual {
		return refused("what the converter wrote is a disk of %d bytes, not %d", got, im.virtual)
	}
	return errors.Join(out.Chmod(0o444), out.Chown(os.Geteuid(), os.Getegid()), out.Sync())
}

func (im *importing) place(ctx context.Context, s *Store) error {
	disk, err := describe(ctx, im.result, DiskName)
	if err != nil {
		return err
	}
	m := &Manifest{
		Format: manifestFormat, Name: im.Name, Variant: "imported", OperatingSystem: "UNKNOWN", Firmware: im.Firmware,
		MinMemoryMiB: im.MinMemoryMiB, VirtualBytes: im.virtual, InputsHash: im.digest, Built: recipeEpoch, Files: []File{disk},
	}
	data, err := m.encode()
	if err != nil {
		return err
	}
	sig, err := sign(s.key, data)
	if err != nil {
		return err
	}
	if err := errors.Join(durable.WriteFile(filepath.Join(im.result, ManifestName), data, 0o644), durable.WriteFile(filepath.Join(im.result, SignatureName), sig, 0o644)); err != nil {
		return err
	}
	im.manifest = m
	return s.Add(ctx, im.ID, im.result)
}

// Jailed converts with qemu-img in a jail: a uid of its own, no network, no other file of the host than libraries, and limits. The program
// that uses it must call jail.Main first in its main.
type Jailed struct {
	// UID is what qemu-img runs as; nothing else on the host may have it. 0: 64090.
	UID int
	// Program is qemu-img's path; empty: /usr/bin/qemu-img.
	Program string
	// Timeout bounds one conversion; 0: two hours.
	Timeout time.Duration
}

// jailUID is the default uid of a conversion, in the range that Debian leaves to local use.
const jailUID = 64090

// Convert runs qemu-img on the two descriptors.
func (j Jailed) Convert(ctx context.Context, from *os.File, format Format, to *os.File, most int64) error {
	if j.UID == 0 {
		j.UID = jailUID
	}
	if j.Program == "" {
		j.Program = "/usr/bin/qemu-img"
	}
	if j.Timeout == 0 {
		j.Timeout = 2 * time.Hour
	}
	ctx, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	// Opened anew inside by the descriptor's number, which the file's mode must allow to that uid. Both are private to us.
	for _, f := range []*os.File{from, to} {
		if os.Geteuid() != 0 {
			break // rootless the uid inside is the caller's own outside
		}
		if err := f.Chown(j.UID, j.UID); err != nil {
			return fmt.Errorf("hand the files to the converter: %w", err)
		}
	}
	var said strings.Builder
	err := jail.Run(ctx, jail.Spec{
		Name: fmt.Sprintf("import-%d", os.Getpid()), Program: j.Program, UID: j.UID, GID: j.UID,
		Files: []*os.File{from, to}, ReadOnly: jail.SystemLibraries(), Proc: true,
		Args:   convertArgs(format),
		Limits: jail.Limits{Memory: 1 << 30, Processes: 64, OpenFiles: 64, FileSize: most, Output: 8 << 10},
		Stderr: &said,
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, words(said.String()))
	}
	return nil
}

// convertArgs names both formats and both files: nothing is probed, nothing is found by name.
func convertArgs(format Format) []string {
	source := fmt.Sprintf(`json:{"driver":%q,"file":{"driver":"file","filename":"/proc/self/fd/3","locking":"off"}}`, string(format))
	return []string{"convert", "-O", "qcow2", "-c", "-o", "compression_type=zstd,compat=1.1", source, "/proc/self/fd/4"}
}
