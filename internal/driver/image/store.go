package image

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
	"carrel/internal/durable"
	"carrel/internal/evidence"
	"carrel/internal/ident"
)

// The names beside the images in a store.
const (
	keyName    = "key"
	publicName = "key.pub"
	sealName   = "seal.json"
	// Names with a dot are work in progress: no image id has one.
	workPrefix = ".new-"
)

// Store keeps the images of a host: a directory for each, and the key that signs them. It is a driver.ImageOpener.
// Methods may be called concurrently, by several processes too: an image appears and goes by one rename.
type Store struct {
	dir string
	key evidence.Signer
	// mu keeps two full verifications of one image from running at once in this process.
	mu sync.Mutex
	// rejected are the images that OpenImage has read in full and refused, by directory: many desktops may wait for one to be mended, and each asks
	// again and again. Held with mu.
	rejected map[string]rejection
}

// Info is an image of the store.
type Info struct {
	ID ident.ImageID `json:"id"`
	// AliasOf is set when the id only stands for another's content.
	AliasOf  ident.ImageID `json:"aliasOf,omitempty"`
	Digest   string        `json:"digest,omitempty"`
	Manifest *Manifest     `json:"manifest,omitempty"`
	// Bytes the image's files hold on disk.
	Bytes int64 `json:"bytes"`
	// Problem says why it cannot be used; empty when its signature is good. Digests are not part of a listing.
	Problem string `json:"problem,omitempty"`
}

// Open opens the store in dir, made when there is none, together with its key: dir/key, mode 0600, and dir/key.pub.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open the image store: %w", err)
	}
	key, err := openKey(dir)
	if err != nil {
		return nil, fmt.Errorf("open the image store: %w", err)
	}
	return &Store{dir: dir, key: key}, nil
}

// openKey loads the key of a store. Of several that make one at once, the first wins and the others take its key.
func openKey(dir string) (evidence.Signer, error) {
	path := filepath.Join(dir, keyName)
	key, err := evidence.LoadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		fresh, err2 := evidence.GenerateKey(rand.Reader)
		if err2 != nil {
			return nil, err2
		}
		if err2 := evidence.CreateKey(path, fresh); err2 != nil && !errors.Is(err2, fs.ErrExist) {
			return nil, err2
		}
		key, err = evidence.LoadKey(path)
	}
	if err != nil {
		return nil, err
	}
	public, err := evidence.PublicPEM(key.Public())
	if err != nil {
		return nil, err
	}
	if old, err := os.ReadFile(filepath.Join(dir, publicName)); err == nil && string(old) == string(public) {
		return key, nil
	}
	return key, durable.WriteFile(filepath.Join(dir, publicName), public, 0o644)
}

// Signer is the store's key, for what signs images that this store will be given.
func (s *Store) Signer() evidence.Signer { return s.key }

// Public verifies the store's images.
func (s *Store) Public() ed25519.PublicKey { return s.key.Public() }

// Add takes the image in resultDir into the store as id, by reflinks or hard links where the file system can, after reading all of it: signature and
// every digest. The same content there already: success. Other content: it is replaced; whoever has the old one open keeps it.
// PermanentError "ImageUnusable": it is not what its manifest says.
func (s *Store) Add(ctx context.Context, id ident.ImageID, resultDir string) error {
	if _, err := ident.ParseImageID(string(id)); err != nil {
		return err
	}
	work, err := os.MkdirTemp(s.dir, workPrefix)
	if err != nil {
		return fmt.Errorf("add image %s: %w", id, err)
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil {
		return fmt.Errorf("add image %s: %w", id, err)
	}
	m, data, err := readManifest(resultDir, s.Public())
	if err != nil {
		return unusable(id, err)
	}
	for _, f := range m.Files {
		if err := cloneFile(ctx, filepath.Join(resultDir, f.Name), filepath.Join(work, f.Name)); err != nil {
			return fmt.Errorf("add image %s: %w", id, err)
		}
	}
	sig, err := sign(s.key, data)
	if err != nil {
		return fmt.Errorf("add image %s: %w", id, err)
	}
	for name, content := range map[string][]byte{ManifestName: data, SignatureName: sig} {
		if err := durable.WriteFile(filepath.Join(work, name), content, 0o644); err != nil {
			return fmt.Errorf("add image %s: %w", id, err)
		}
	}
	// What was linked is read, not what was linked from.
	if err := s.verifyAndSeal(ctx, work); err != nil {
		return unusable(id, err)
	}
	if err := s.place(work, string(id)); err != nil {
		return fmt.Errorf("add image %s: %w", id, err)
	}
	return nil
}

// place puts the finished directory (or symbolic link) work at name, in one step as others see it.
func (s *Store) place(work, name string) error {
	to := filepath.Join(s.dir, name)
	err := unix.Renameat2(unix.AT_FDCWD, work, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		// The old one takes the work's name, and goes.
		if err = unix.Renameat2(unix.AT_FDCWD, work, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE); err == nil {
			err = os.RemoveAll(work)
		}
	}
	if err != nil {
		return fmt.Errorf("put %s in its place: %w", name, err)
	}
	return durable.SyncDir(s.dir)
}

// Alias lets id stand for the content of target: a bundle's image id for the image that this host has. Over an older alias of
// that id it is replaced; over an image it is refused.
func (s *Store) Alias(id, target ident.ImageID) error {
	for _, i := range []ident.ImageID{id, target} {
		if _, err := ident.ParseImageID(string(i)); err != nil {
			return err
		}
	}
	info, err := os.Lstat(filepath.Join(s.dir, string(target)))
	if err != nil || !info.IsDir() {
		return fmt.Errorf("alias %s: image %s: %w", id, target, driver.ErrNotFound)
	}
	if info, err := os.Lstat(filepath.Join(s.dir, string(id))); err == nil && info.IsDir() {
		return fmt.Errorf("alias %s: it is an image of its own", id)
	}
	work, err := os.MkdirTemp(s.dir, workPrefix)
	if err != nil {
		return fmt.Errorf("alias %s: %w", id, err)
	}
	defer os.RemoveAll(work)
	link := filepath.Join(work, "link")
	if err := os.Symlink(string(target), link); err != nil {
		return fmt.Errorf("alias %s: %w", id, err)
	}
	return s.place(link, string(id))
}

// resolve gives the directory of an image, through at most one alias. Names are ids, so nothing leads out of the store.
func (s *Store) resolve(id ident.ImageID) (dir string, alias ident.ImageID, err error) {
	if _, err := ident.ParseImageID(string(id)); err != nil {
		return "", "", err
	}
	dir = filepath.Join(s.dir, string(id))
	if to, err := os.Readlink(dir); err == nil {
		target, err := ident.ParseImageID(to)
		if err != nil {
			return "", "", fmt.Errorf("image %s: alias of %q: %w", id, to, err)
		}
		dir, alias = filepath.Join(s.dir, to), target
	}
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return "", "", fmt.Errorf("image %s: %w", id, driver.ErrNotFound)
	}
	return dir, alias, err
}

// List gives all images and aliases in order of id. One that is broken is listed with its problem.
func (s *Store) List() ([]Info, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	out := []Info{}
	for _, e := range entries {
		id, err := ident.ParseImageID(e.Name())
		if err != nil {
			continue
		}
		dir, alias, err := s.resolve(id)
		info := Info{ID: id, AliasOf: alias}
		if err == nil {
			var data []byte
			if info.Manifest, data, err = readManifest(dir, s.Public()); err == nil {
				info.Digest = contentDigest(data)
				info.Bytes = diskBytes(dir, info.Manifest)
			}
		}
		if err != nil {
			info.Problem = err.Error()
		}
		out = append(out, info)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out, nil
}

// diskBytes is what the files of an image hold on disk, aliases not counted twice by the caller.
func diskBytes(dir string, m *Manifest) (n int64) {
	for _, f := range m.Files {
		var st unix.Stat_t
		if unix.Lstat(filepath.Join(dir, f.Name), &st) == nil {
			n += st.Blocks * 512
		}
	}
	return n
}

// Remove takes an image or an alias out of the store. Gone already: success. An image that an alias stands on is refused.
func (s *Store) Remove(id ident.ImageID) error {
	if _, err := ident.ParseImageID(string(id)); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(s.dir, e.Name())); err == nil && to == string(id) && !strings.HasPrefix(e.Name(), ".") {
			return fmt.Errorf("remove image %s: %s stands for it", id, e.Name())
		}
	}
	// Renamed first: half an image never has an image's name.
	work, err := os.MkdirTemp(s.dir, workPrefix)
	if err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	defer os.RemoveAll(work)
	err = os.Rename(filepath.Join(s.dir, string(id)), filepath.Join(work, "gone"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	return durable.SyncDir(s.dir)
}

// unusable is the PermanentError of the contract.
func unusable(id ident.ImageID, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err // nothing is said about the image
	}
	return driver.Permanent(driver.CodeImageUnusable, fmt.Errorf("image %s: %w", id, err))
}
