package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// entry is one line of the journal: the object of that kind and id now has this value, or (null) is gone.
type entry struct {
	Kind  string          `json:"kind"`
	ID    string          `json:"id"`
	Value json.RawMessage `json:"value"`
}

// journal is an append-only file of entries. It is not synced: it must outlive the process (as machines outlive the control
// plane), not the computer, whose end ends simulated machines as it ends real ones.
type journal struct {
	path string
	file *os.File
	// lines written since the last compaction.
	lines int
	// torn: a write failed half way; the next one must not follow it.
	torn bool
}

func (j *journal) close() error { return j.file.Close() }

// open reads what exists and puts right what a kill between two file operations left.
func (s *Sim) open() error {
	for _, dir := range []string{s.dir, s.memoryDir(), s.keyDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	path := filepath.Join(s.dir, "journal")
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Bytes after the last line feed are of a call that was never answered.
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	n := 0
	for line := range bytes.Lines(data) {
		n++
		if err := s.replay(line); err != nil {
			return fmt.Errorf("journal line %d: %w", n, err)
		}
	}
	for id, n := range s.nics {
		s.addresses[place(n)] = id
	}
	s.journal = &journal{path: path}
	if err := s.compact(); err != nil {
		return err
	}
	return s.heal()
}

func (s *Sim) replay(line []byte) error {
	var e entry
	if err := json.Unmarshal(line, &e); err != nil {
		return err
	}
	switch e.Kind {
	case "machine":
		return replay(s.machines, ident.WorkspaceID(e.ID), e.Value)
	case "volume":
		return replay(s.volumes, driver.VolumeID(e.ID), e.Value)
	case "nic":
		return replay(s.nics, ident.InterfaceID(e.ID), e.Value)
	case "domain":
		return replay(s.domains, ident.DirectoryID(e.ID), e.Value)
	}
	return fmt.Errorf("unknown kind %q", e.Kind)
}

func replay[K comparable, V any](m map[K]*V, id K, value json.RawMessage) error {
	if bytes.Equal(value, []byte("null")) {
		delete(m, id)
		return nil
	}
	v := new(V)
	if err := json.Unmarshal(value, v); err != nil {
		return err
	}
	m[id] = v
	return nil
}

// save appends what an object now is (nil: gone). The caller holds mu and changes its map only after success.
func (s *Sim) save(kind, id string, value any) error {
	line, err := encode(kind, id, value)
	if err != nil {
		return err
	}
	// Compacting comes before the append: the maps do not hold this change yet.
	if live := len(s.machines) + len(s.volumes) + len(s.nics) + len(s.domains); s.journal.torn || s.journal.lines > 20_000+4*live {
		if err := s.compact(); err != nil {
			return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
		}
	}
	if _, err := s.journal.file.Write(line); err != nil {
		s.journal.torn = true
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	s.journal.lines++
	return nil
}

func encode(kind, id string, value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(entry{Kind: kind, ID: id, Value: body})
	return append(line, '\n'), err
}

// compact writes the journal anew with one line an object and puts it in the old one's place by renaming.
func (s *Sim) compact() error {
	var out bytes.Buffer
	err := errors.Join(dump(&out, "machine", s.machines), dump(&out, "volume", s.volumes), dump(&out, "nic", s.nics), dump(&out, "domain", s.domains))
	if err != nil {
		return err
	}
	next := s.journal.path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(out.Bytes()); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := os.Rename(next, s.journal.path); err != nil {
		return errors.Join(err, f.Close())
	}
	if s.journal.file != nil {
		_ = s.journal.file.Close()
	}
	s.journal.file, s.journal.lines, s.journal.torn = f, 0, false
	return nil
}

func dump[K ~string, V any](out *bytes.Buffer, kind string, m map[K]*V) error {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, string(k))
	}
	slices.Sort(keys)
	for _, k := range keys {
		line, err := encode(kind, k, m[K(k)])
		if err != nil {
			return err
		}
		out.Write(line)
	}
	return nil
}

// heal brings memory and key files in line with the journal, which is written first when something is made and before the file
// goes when something ends.
func (s *Sim) heal() error {
	for id, m := range s.machines {
		if _, err := os.Stat(s.memoryFile(id)); m.State == driver.MachineRunning && errors.Is(err, fs.ErrNotExist) {
			if err := s.fillMemory(id); err != nil {
				return err
			}
		}
	}
	memories, err := os.ReadDir(s.memoryDir())
	if err != nil {
		return err
	}
	for _, e := range memories {
		if m := s.machines[ident.WorkspaceID(e.Name())]; m == nil || m.State != driver.MachineRunning {
			if err := s.dropMemory(ident.WorkspaceID(e.Name())); err != nil {
				return err
			}
		}
	}
	for id, v := range s.volumes {
		if _, err := os.Stat(s.keyFile(id)); !v.Erased && errors.Is(err, fs.ErrNotExist) {
			if err := s.writeKey(id); err != nil {
				return err
			}
		}
	}
	keys, err := os.ReadDir(s.keyDir())
	if err != nil {
		return err
	}
	for _, e := range keys {
		if v := s.volumes[driver.VolumeID(strings.Replace(e.Name(), ".", "/", 1))]; v == nil || v.Erased {
			if err := destroyFile(filepath.Join(s.keyDir(), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
