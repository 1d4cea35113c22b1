package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// A simulated guest's memory is a file, because it must outlive the process: what a restarted control plane finds, it must be able to scrub.

func (s *Sim) memoryDir() string { return filepath.Join(s.dir, "memory") }
func (s *Sim) memoryFile(id ident.WorkspaceID) string {
	return filepath.Join(s.memoryDir(), string(id))
}
func (s *Sim) keyDir() string { return filepath.Join(s.dir, "keys") }
func (s *Sim) keyFile(id driver.VolumeID) string {
	return filepath.Join(s.keyDir(), strings.Replace(string(id), "/", ".", 1))
}

// fillMemory lets the guest use its memory: a mark that can be searched for, everywhere.
func (s *Sim) fillMemory(id ident.WorkspaceID) error {
	mark := []byte("memory of " + string(id) + ";")
	return os.WriteFile(s.memoryFile(id), bytes.Repeat(mark, s.memory/len(mark)+1)[:s.memory], 0o600)
}

// zeroMemory overwrites the guest's memory and reads all of it back from the file. The fault "hypervisor zero" leaves some of it.
func (s *Sim) zeroMemory(id ident.WorkspaceID, r *driver.ScrubReport) error {
	f, err := os.OpenFile(s.memoryFile(id), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	zeros := make([]byte, info.Size())
	written := zeros
	fault := s.faults.strike("hypervisor", "zero")
	if fault != nil {
		written = zeros[:len(zeros)/2]
	}
	if _, err := f.WriteAt(written, 0); err != nil {
		return err
	}
	// A file open for reading only stands for the sealed mapping.
	sealed, err := os.Open(s.memoryFile(id))
	if err != nil {
		return err
	}
	defer func() { _ = sealed.Close() }()
	back, err := io.ReadAll(sealed)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(back)
	r.MemoryBytes, r.ReadBytes, r.Digest, r.Sealed = info.Size(), int64(len(back)), hex.EncodeToString(digest[:]), true
	r.NonZero = int64(len(back) - bytes.Count(back, []byte{0}))
	r.Finished = s.now()
	if err := r.Clean(); err != nil {
		// The fault's own error tells whether this one is permanent.
		return errors.Join(err, fault)
	}
	return nil
}

// dropMemory gives zeroed memory back; memory that still holds something is zeroed first.
func (s *Sim) dropMemory(id ident.WorkspaceID) error { return destroyFile(s.memoryFile(id)) }

// writeKey makes a volume's key. Nothing ever reads it but destroyFile's proof.
func (s *Sim) writeKey(id driver.VolumeID) error {
	key := make([]byte, 32)
	if _, err := io.ReadFull(s.random, key); err != nil {
		return fmt.Errorf("no randomness: %w", err)
	}
	return os.WriteFile(s.keyFile(id), key, 0o600)
}

// destroyFile overwrites a file with zeros and removes it. Gone already: success.
func destroyFile(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, info.Size()), 0); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Remove(path)
}
