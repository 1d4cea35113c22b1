package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Format is a disk image format that can be imported.
type Format string

// The formats.
const (
	QCOW2 Format = "qcow2"
	Raw   Format = "raw"
	VMDK  Format = "vmdk"
	VHDX  Format = "vhdx"
)

// FormatOf is the format that a person named, or that the file's extension names without doubt. The content is never asked: it is the
// attacker's, and a raw disk can begin like any other format (VMM-3).
func FormatOf(flag, path string) (Format, error) {
	if flag == "" {
		switch strings.ToLower(filepath.Ext(path)) {
		case ".qcow2":
			return QCOW2, nil
		case ".raw":
			return Raw, nil
		case ".vmdk":
			return VMDK, nil
		case ".vhdx":
			return VHDX, nil
		}
		return "", fmt.Errorf("the name %q does not say which format it is: name it (qcow2, raw, vmdk, vhdx)", filepath.Base(path))
	}
	switch f := Format(flag); f {
	case QCOW2, Raw, VMDK, VHDX:
		return f, nil
	}
	return "", fmt.Errorf("no format %q: there are qcow2, raw, vmdk and vhdx", flag)
}

// ErrRefused: the file is of a kind that is not imported. What it wraps says why.
var ErrRefused = errors.New("disk image refused")

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// inspect reads the headers and tables of a disk image of the given format and size, in bytes, and gives the size of the disk in it. It
// refuses everything that makes a converter look at another file, that does not fit the file, or that becomes more than limit bytes. It
// runs before any other program has seen the file, and trusts nothing in it.
func inspect(format Format, r io.ReaderAt, size, limit int64) (virtual int64, err error) {
	f := fileView{r, size}
	switch format {
	case QCOW2:
		virtual, err = inspectQCOW2(f, limit)
	case VMDK:
		virtual, err = inspectVMDK(f, limit)
	case VHDX:
		virtual, err = inspectVHDX(f, limit)
	case Raw:
		virtual = size
	default:
		return 0, fmt.Errorf("no format %q", format)
	}
	if err != nil {
		return 0, err
	}
	switch {
	case virtual <= 0 || virtual%512 != 0:
		return 0, refused("a disk of %d bytes is none", virtual)
	case virtual > limit:
		return 0, refused("a disk of %d bytes, more than the %d allowed", virtual, limit)
	}
	return virtual, nil
}

// fileView reads a file whose offsets come from the file itself.
type fileView struct {
	r    io.ReaderAt
	size int64
}

// maxTable bounds what is read at once for one table, in bytes.
const maxTable = 64 << 20

// bytes reads n bytes at off; what is outside of the file is refused. what names it in the error.
func (f fileView) bytes(what string, off, n int64) ([]byte, error) {
	if err := f.inside(what, off, n); err != nil {
		return nil, err
	}
	if n > maxTable {
		return nil, refused("%s is %d bytes", what, n)
	}
	buf := make([]byte, n)
	if _, err := f.r.ReadAt(buf, off); err != nil && !(errors.Is(err, io.EOF) && off+n == f.size) {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return buf, nil
}

// inside refuses a range that is not in the file.
func (f fileView) inside(what string, off, n int64) error {
	if off < 0 || n < 0 || off > f.size || n > f.size-off {
		return refused("%s is outside of the file", what)
	}
	return nil
}

// sum adds up what tables claim to hold; more than the file has means that parts are used twice, which is how a small file becomes a big one.
type sum struct {
	total, limit int64
}

func (s *sum) add(what string, n int64) error {
	if n < 0 || n > s.limit-s.total {
		return refused("%s add up to more than the file holds", what)
	}
	s.total += n
	return nil
}

var (
	bigEndian    = binary.BigEndian
	littleEndian = binary.LittleEndian
)
