package etcd

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"carrel/internal/durable"
)

// The entries of a directory. Anything else in it, and it is not one of ours.
const (
	lockName   = "LOCK"
	formatName = "FORMAT"
	newFormat  = "FORMAT.new"
	memberDir  = "member"
)

// formatVersion is the layout this version writes, and the newest it reads.
const formatVersion = 1

// lockTimeout bounds the wait for bbolt's own lock, which nobody can hold while we hold ours.
const lockTimeout = 2 * time.Second

// format is the content of the FORMAT file. It is written before the server first starts, with Member 0; once it has
// started, with the member's id, and only then is the store handed out. So a directory whose Member is 0 holds nothing
// that was ever acknowledged.
type format struct {
	Format int `json:"carrel-state"`
	// Token makes the ids of the cluster and its member this directory's own.
	Token   string `json:"token"`
	Member  uint64 `json:"member,string,omitempty"`
	Cluster uint64 `json:"cluster,string,omitempty"`
}

// DirectoryError says why a directory cannot be used. Nothing was changed in it.
type DirectoryError struct {
	Dir     string
	Problem string
}

func (e *DirectoryError) Error() string {
	return fmt.Sprintf("state directory %s: %s", e.Dir, e.Problem)
}

// directory is a data directory that this process holds the lock of.
type directory struct {
	path   string
	lock   *os.File
	format format
	// fresh: there is no FORMAT file yet.
	fresh bool
}

func (d *directory) problem(format string, args ...any) error {
	return &DirectoryError{d.path, fmt.Sprintf(format, args...)}
}

// openDirectory locks the directory and looks through it. It changes nothing, except that it makes the directory, and the
// lock file in one that is empty or ours.
func openDirectory(path string) (*directory, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &directory{path: abs}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, d.problem("%v", err)
	}
	if err := d.checkEntries(); err != nil {
		return nil, err
	}
	if err := d.takeLock(); err != nil {
		return nil, err
	}
	if err := d.inspect(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// checkEntries refuses a directory with entries that are not ours: it is somebody's home, or another program's.
func (d *directory) checkEntries() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return d.problem("%v", err)
	}
	has := map[string]bool{}
	for _, e := range entries {
		switch e.Name() {
		case lockName, formatName, newFormat, memberDir:
			has[e.Name()] = true
		default:
			return d.problem("it contains %q, which is not carrel's; give carrel a directory of its own", e.Name())
		}
	}
	if has[memberDir] && !has[formatName] {
		return d.problem("it holds an etcd database without carrel's %s file: it is another program's, or the file was removed", formatName)
	}
	return nil
}

// takeLock keeps every other process out for as long as this one lives; the kernel drops the lock with the process.
func (d *directory) takeLock() error {
	f, err := os.OpenFile(filepath.Join(d.path, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return d.problem("%v", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid, _ := io.ReadAll(io.LimitReader(f, 20)) // for the message only: an empty one says as much as an error
		return errors.Join(&DirectoryError{d.path, fmt.Sprintf("another carrel process (pid %s) uses %s", strings.TrimSpace(string(pid)), d.path)}, f.Close())
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return errors.Join(d.problem("locking: %v", err), f.Close())
	}
	d.lock = f
	return nil
}

func (d *directory) close() error { return d.lock.Close() }

// inspect reads FORMAT and, where the store has been in use, makes sure that the database and the log are there, are
// whole as far as their frame goes, and belong together. etcd would make a new, empty one of what is missing.
func (d *directory) inspect() error {
	raw, err := os.ReadFile(filepath.Join(d.path, formatName))
	if errors.Is(err, fs.ErrNotExist) {
		d.fresh = true
		return nil
	}
	if err != nil {
		return d.problem("%v", err)
	}
	if err := json.Unmarshal(raw, &d.format); err != nil || d.format.Format < 1 || d.format.Token == "" {
		return d.problem("its %s file is not carrel's or is damaged", formatName)
	}
	if d.format.Format > formatVersion {
		return d.problem("it was written by a newer version of carrel (format %d, this version reads up to %d)", d.format.Format, formatVersion)
	}
	if d.format.Member == 0 {
		return nil
	}
	if err := d.checkDatabase(); err != nil {
		return err
	}
	return d.checkLog()
}

// checkDatabase opens the database read-only.
func (d *directory) checkDatabase() (err error) {
	path := databasePath(d.path)
	info, err := os.Stat(path)
	if err != nil || info.Size() == 0 {
		return d.problem("its database %s is missing or empty; restore a backup into a new directory", path)
	}
	// A damaged page makes bbolt panic, and a shortened file makes reading the mapped memory fault.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = d.problem("its database %s is damaged: %v; restore a backup into a new directory", path, p)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil {
		return d.problem("its database %s is damaged: %v; restore a backup into a new directory", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bbolt.Tx) error {
		if tx.Size() > info.Size() {
			return d.problem("its database %s has been cut off: %d of %d bytes; restore a backup into a new directory", path, info.Size(), tx.Size())
		}
		members := tx.Bucket([]byte("members"))
		if members == nil || tx.Bucket([]byte("key")) == nil {
			return d.problem("its database %s is not etcd's", path)
		}
		if members.Get([]byte(strconv.FormatUint(d.format.Member, 16))) == nil {
			return d.problem("its database %s belongs to another installation", path)
		}
		return nil
	})
}

// checkLog reads the write-ahead log: whose it is, and whether every record has its checksum. etcd would find the latter
// only after it has begun to write. A last record that is cut off is what a crash leaves of something unacknowledged.
func (d *directory) checkLog() (err error) {
	pieces, err := filepath.Glob(filepath.Join(logPath(d.path), "*.wal"))
	if err != nil || len(pieces) == 0 {
		return d.problem("its log %s is missing; restore a backup into a new directory", logPath(d.path))
	}
	var readers []fileutil.FileReader
	for _, p := range pieces {
		f, openErr := os.Open(p)
		if openErr != nil {
			return errors.Join(err, d.problem("%v", openErr))
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		readers = append(readers, fileutil.NewFileReader(f))
	}
	dec := wal.NewDecoder(readers...)
	for n := 0; ; n++ {
		rec := &walpb.Record{}
		err := dec.Decode(rec)
		if n > 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
			return nil
		}
		if err == nil {
			err = d.checkRecord(dec, rec)
		}
		var foreign *DirectoryError
		switch {
		case errors.As(err, &foreign):
			return err
		case err != nil:
			return d.problem("its log %s is damaged at record %d: %v; restore a backup into a new directory", logPath(d.path), n+1, err)
		}
	}
}

// checkRecord checks what stands at the head of each piece of the log.
func (d *directory) checkRecord(dec wal.Decoder, rec *walpb.Record) error {
	switch rec.GetType() {
	case wal.CrcType:
		// The checksum runs on from piece to piece.
		if crc := dec.LastCRC(); crc != 0 {
			if err := rec.Validate(crc); err != nil {
				return err
			}
		}
		dec.UpdateCRC(rec.GetCrc())
	case wal.MetadataType:
		meta := &pb.Metadata{}
		if err := proto.Unmarshal(rec.GetData(), meta); err != nil {
			return err
		}
		if meta.GetNodeID() != d.format.Member || meta.GetClusterID() != d.format.Cluster {
			return d.problem("its log %s belongs to another installation", logPath(d.path))
		}
	}
	return nil
}

// prepare makes a directory that is empty, or whose first start was interrupted, ready for a first start.
func (d *directory) prepare() error {
	if d.format.Member != 0 {
		return nil
	}
	if err := os.Chmod(d.path, 0o700); err != nil {
		return d.problem("%v", err)
	}
	if !d.fresh {
		// Nothing in there was ever handed out (see format).
		if err := os.RemoveAll(filepath.Join(d.path, memberDir)); err != nil {
			return d.problem("%v", err)
		}
		return nil
	}
	d.format = format{Format: formatVersion, Token: "carrel-" + rand.Text()}
	return d.writeFormat()
}

// adopt notes the ids of the server that has started, the first time.
func (d *directory) adopt(member, cluster uint64) error {
	if d.format.Member == 0 {
		d.format.Member, d.format.Cluster = member, cluster
		return d.writeFormat()
	}
	if d.format.Member != member || d.format.Cluster != cluster {
		return d.problem("its database belongs to another installation")
	}
	return nil
}

// writeFormat replaces FORMAT so that after a crash it is the old one or the new one.
func (d *directory) writeFormat() (err error) {
	raw, err := json.Marshal(d.format)
	if err != nil {
		return err
	}
	next := filepath.Join(d.path, newFormat)
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return d.problem("%v", err)
	}
	_, err = f.Write(append(raw, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return d.problem("%v", err)
	}
	if err := os.Rename(next, filepath.Join(d.path, formatName)); err != nil {
		return d.problem("%v", err)
	}
	return durable.SyncDir(d.path)
}
