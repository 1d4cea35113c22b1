package image

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
	"carrel/internal/durable"
	"carrel/internal/ident"
)

// Reading gigabytes at every start of a desktop is too slow, so digests are read in full when an image comes in and when somebody asks
// (Verify), and a seal is left: which inodes with which times were read then, signed. Opening checks the signature of the manifest and that
// the opened files are those of the seal. Whoever can write a file and keep inode, size, mtime and ctime has the host's kernel, and needs no
// image. Files that do not fit their seal (a restored backup, a hard link more) are read in full again, not refused.

// seal is the note of a full verification.
type seal struct {
	// Manifest is the content digest that was verified.
	Manifest string       `json:"manifest"`
	Files    []sealedFile `json:"files"`
}

// sealedFile is what a file was like when it was read. Times are nanoseconds since 1970.
type sealedFile struct {
	Name  string `json:"name"`
	Inode uint64 `json:"inode"`
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"`
	CTime int64  `json:"ctime"`
}

// signedSeal is a seal as it is stored.
type signedSeal struct {
	Seal      json.RawMessage `json:"seal"`
	Signature string          `json:"signature"`
}

func statFile(f *os.File, name string) (sealedFile, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return sealedFile{}, fmt.Errorf("%s: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return sealedFile{}, fmt.Errorf("%s: not a regular file", name)
	}
	return sealedFile{Name: name, Inode: st.Ino, Size: st.Size, MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano()}, nil
}

// Verify reads all of an image: signature and every digest. The error names the first file that is not what the manifest says.
// ErrNotFound. PermanentError "ImageUnusable".
func (s *Store) Verify(ctx context.Context, id ident.ImageID) (*Manifest, error) {
	dir, _, err := s.resolve(id)
	if err != nil {
		return nil, err
	}
	m, _, err := readManifest(dir, s.Public())
	if err != nil {
		return nil, unusable(id, err)
	}
	if err := s.verifyAndSeal(ctx, dir); err != nil {
		return nil, unusable(id, err)
	}
	return m, nil
}

// verifyAndSeal reads every file of the image in dir in full and leaves the seal. An old seal goes first, so that none outlives a bad result.
func (s *Store) verifyAndSeal(ctx context.Context, dir string) error {
	m, data, err := readManifest(dir, s.Public())
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, sealName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	note := seal{Manifest: contentDigest(data)}
	for _, want := range m.Files {
		got, err := verifyFile(ctx, filepath.Join(dir, want.Name), want)
		if err != nil {
			return err
		}
		note.Files = append(note.Files, got)
	}
	inner, err := json.Marshal(note)
	if err != nil {
		return err
	}
	sig, err := s.key.Sign(append([]byte(sealDomain), inner...))
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	out, err := json.Marshal(signedSeal{inner, hex.EncodeToString(sig)})
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, sealName), out, 0o644)
}

// verifyFile reads one file in full. What it was like is taken before and after: a file that changes while it is read is not verified.
func verifyFile(ctx context.Context, path string, want File) (sealedFile, error) {
	f, err := openRegular(path)
	if err != nil {
		return sealedFile{}, err
	}
	defer f.Close()
	before, err := statFile(f, want.Name)
	if err != nil {
		return sealedFile{}, err
	}
	if before.Size != want.Bytes {
		return sealedFile{}, fmt.Errorf("%s: %d bytes, the manifest says %d", want.Name, before.Size, want.Bytes)
	}
	h := sha256.New()
	if _, err := copyContext(ctx, h, f); err != nil {
		return sealedFile{}, fmt.Errorf("%s: %w", want.Name, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want.SHA256 {
		return sealedFile{}, fmt.Errorf("%s: SHA-256 %s, the manifest says %s", want.Name, got, want.SHA256)
	}
	after, err := statFile(f, want.Name)
	if err == nil && after != before {
		err = fmt.Errorf("%s: changed while it was read", want.Name)
	}
	return after, err
}

// readSeal gives the seal of dir; nil when there is none that this installation signed for that manifest.
func readSeal(dir, digest string, pub ed25519.PublicKey) *seal {
	data, err := readSmall(filepath.Join(dir, sealName), maxManifest)
	if err != nil {
		return nil
	}
	var outer signedSeal
	var note seal
	if json.Unmarshal(data, &outer) != nil {
		return nil
	}
	sig, err := hex.DecodeString(outer.Signature)
	if err != nil || !ed25519.Verify(pub, append([]byte(sealDomain), outer.Seal...), sig) {
		return nil
	}
	if json.Unmarshal(outer.Seal, &note) != nil || note.Manifest != digest {
		return nil
	}
	return &note
}

// fits says whether an opened file is the one that was read in full.
func (n *seal) fits(f *os.File, name string) bool {
	if n == nil {
		return false
	}
	now, err := statFile(f, name)
	if err != nil {
		return false
	}
	for _, was := range n.Files {
		if was.Name == name {
			return was == now
		}
	}
	return false
}

// OpenImage opens an image for reading. See driver.ImageOpener.
func (s *Store) OpenImage(ctx context.Context, id ident.ImageID) (*driver.OpenImage, error) {
	dir, _, err := s.resolve(id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	img, sealed, err := s.open(dir, id)
	if err == nil && sealed {
		return img, nil
	}
	if err == nil {
		_ = img.Close()
		if err = s.verifyOnce(ctx, dir); err == nil {
			if img, sealed, err = s.open(dir, id); err == nil && sealed {
				return img, nil
			}
		}
		if err == nil {
			_ = img.Close()
			err = errors.New("its files change while they are opened")
		}
	}
	return nil, unusable(id, err)
}

// rejection is a full verification that failed: what the files were like, and why.
type rejection struct {
	files []sealedFile
	err   error
}

// verifyOnce is verifyAndSeal, which does not read again what it has refused and what nobody has touched since. The caller holds mu.
func (s *Store) verifyOnce(ctx context.Context, dir string) error {
	before, err := look(dir)
	if err != nil {
		return err
	}
	if r, ok := s.rejected[dir]; ok && slices.Equal(r.files, before) {
		return r.err
	}
	delete(s.rejected, dir)
	if err = s.verifyAndSeal(ctx, dir); err != nil && ctx.Err() == nil {
		if s.rejected == nil {
			s.rejected = map[string]rejection{}
		}
		s.rejected[dir] = rejection{before, err}
	}
	return err
}

// look says what the files of an image are like, but for the seal: its change means nothing.
func look(dir string) ([]sealedFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []sealedFile
	for _, e := range entries {
		var st unix.Stat_t
		if e.Name() == sealName {
			continue
		}
		if err := unix.Lstat(filepath.Join(dir, e.Name()), &st); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		out = append(out, sealedFile{Name: e.Name(), Inode: st.Ino, Size: st.Size, MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano()})
	}
	return out, nil
}

// open opens the files of the image in dir; sealed says whether all of them are those that were read in full.
func (s *Store) open(dir string, id ident.ImageID) (img *driver.OpenImage, sealed bool, err error) {
	m, data, err := readManifest(dir, s.Public())
	if err != nil {
		return nil, false, err
	}
	digest := contentDigest(data)
	note := readSeal(dir, digest, s.Public())
	img = &driver.OpenImage{
		ID: id, Digest: digest, VirtualBytes: m.VirtualBytes, Firmware: m.Firmware,
		CommandLine: m.CommandLine, Agent: m.Agent, MinMemoryMiB: m.MinMemoryMiB,
	}
	wanted := []struct {
		name string
		to   **os.File
	}{{DiskName, &img.Disk}, {KernelName, &img.Kernel}, {InitrdName, &img.Initrd}}
	sealed = true
	for _, w := range wanted {
		if w.name != DiskName && m.Firmware != driver.FirmwareDirect {
			continue
		}
		f, err := openRegular(filepath.Join(dir, w.name))
		if err != nil {
			if img.Disk != nil {
				_ = img.Close()
			}
			return nil, false, err
		}
		*w.to = f
		sealed = sealed && note.fits(f, w.name)
	}
	return img, sealed, nil
}

// openRegular opens a file for reading, without following a symbolic link or waiting on a pipe.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, fmt.Errorf("%s: not a regular file", filepath.Base(path))
	}
	return f, nil
}

// copyContext is io.Copy that gives up when ctx ends.
func copyContext(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	buf := make([]byte, 1<<20)
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		k, err := r.Read(buf)
		n += int64(k)
		if k > 0 {
			if _, werr := w.Write(buf[:k]); werr != nil {
				return n, werr
			}
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
