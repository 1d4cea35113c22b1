package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"carrel/internal/api/ds"
	"carrel/internal/api/shape"
	"carrel/internal/config"
	"carrel/internal/driver"
	"carrel/internal/ident"
	"carrel/internal/pki"
	"carrel/internal/reconcile/directory"
	"carrel/internal/service"
	"carrel/internal/state"
)

// recognisable is a password that is nowhere by chance.
const recognisable = "Recognisable-Passw0rd-7c1f"

// domains keeps the specs that domains were made with, and lets them be made once told to.
type domains struct {
	driver.Domain
	mu   sync.Mutex
	down bool
	made []driver.DomainSpec
}

func (d *domains) Provision(ctx context.Context, spec driver.DomainSpec) (driver.DomainInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down && spec.Name == "seal.example.com" {
		return driver.DomainInfo{}, driver.ErrUnavailable
	}
	d.made = append(d.made, spec)
	return d.Domain.Provision(ctx, spec)
}

// installation is an open house in dir with records, without doors.
func installation(t *testing.T, dir string, d *domains) (*house, func()) {
	t.Helper()
	conf := &config.Config{State: config.State{Dir: dir}, Simulate: true}
	conf.Complete()
	h, err := open(t.Context(), conf, pki.Subject{Names: []string{"localhost"}}, Process{Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	d.Domain, h.desks.Domain = h.desks.Domain, d
	if h.directories, err = directory.New(directory.Config{DB: h.db, Clock: h.clock, Random: random, Log: h.log, Domain: d, Seal: h.seal}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for _, run := range []func(context.Context) error{h.audit.Run, h.db.Run, h.directories.Run} {
		wait.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	if err := h.initialise(ctx); err != nil {
		t.Fatal(err)
	}
	return h, func() { stop(); wait.Wait(); h.close() }
}

// create asks for a directory by the API's handler.
func (h *house) create(t *testing.T, password string) string {
	t.Helper()
	snap := h.db.Snapshot()
	in := &ds.CreateDirectoryInput{Name: shape.Ptr("seal.example.com"), Password: &password, Size: shape.Ptr(ds.DirectorySizeSmall), VpcSettings: &ds.DirectoryVpcSettings{}}
	for s := range state.All(snap, state.Subnets) {
		if len(in.VpcSettings.SubnetIds) < 2 {
			in.VpcSettings.VpcId = shape.Ptr(string(s.VPCID))
			in.VpcSettings.SubnetIds = append(in.VpcSettings.SubnetIds, string(s.ID))
		}
	}
	out, err := h.handlers()[ds.CreateDirectory.Operation](t.Context(), service.Call{}, in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.(*ds.CreateDirectoryOutput).DirectoryId
}

// until waits for a directory's record.
func (h *house) until(t *testing.T, id string, wanted func(*state.Directory) bool) {
	t.Helper()
	changed := make(chan struct{}, 1)
	h.db.Subscribe(state.DirectoryTable, func(string, bool) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	limit := time.After(30 * time.Second)
	for {
		if d, ok := state.Get(h.db.Snapshot(), state.Directories, id); ok && wanted(d) {
			return
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond): // A change before Subscribe.
		case <-limit:
			d, _ := state.Get(h.db.Snapshot(), state.Directories, id)
			t.Fatalf("%+v", d)
		}
	}
}

// holding gives the files under dir that hold text.
func filesWith(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	files := 0
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files++
		if bytes.Contains(b, []byte(text)) {
			found = append(found, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if files < 3 {
		t.Fatalf("%s has %d files", dir, files)
	}
	return found
}

func TestTheFirstPasswordOfADirectoryIsNeverInTheStoreInTheClear(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	d := &domains{down: true}
	h, stop := installation(t, dir, d)
	id := h.create(t, recognisable)
	// The domain cannot be made yet: now the record holds it.
	h.until(t, id, func(d *state.Directory) bool { return d.Status.Backoff.Attempts > 0 && d.Spec.AdminPassword != "" })
	var backup bytes.Buffer
	if _, err := state.Backup(t.Context(), h.store, &backup); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.down = false
	d.mu.Unlock()
	h.until(t, id, func(d *state.Directory) bool { return d.Status.Stage == "Active" && d.Spec.AdminPassword == "" })
	d.mu.Lock()
	if n := len(d.made); n == 0 || d.made[n-1].AdminPassword.Reveal() != recognisable {
		t.Error("the domain was not made with the password")
	}
	d.mu.Unlock()
	// The name, written by the same transaction, is what shows that this way of looking finds what is there.
	const known = "seal.example.com"
	stop()
	for where, found := range map[string][]string{"the state directory": filesWith(t, dir, recognisable), "etcd": filesWith(t, filepath.Join(dir, "etcd"), recognisable)} {
		if len(found) > 0 {
			t.Errorf("%s: the password is in %v", where, found)
		}
	}
	if len(filesWith(t, filepath.Join(dir, "etcd"), known)) == 0 {
		t.Error("not even the directory's name is found in etcd's files")
	}
	// A backup holds records as base64 text.
	restored := restoredFrom(t, &backup)
	if len(filesWith(t, restored, recognisable)) > 0 || len(filesWith(t, filepath.Join(restored, "etcd"), known)) == 0 {
		t.Error("the backup holds the password, or not even the name")
	}
	t.Run("records from a backup, without the key, end in Failed and say why", func(t *testing.T) {
		d := &domains{}
		h, stop := installation(t, restored, d)
		defer stop()
		h.until(t, id, func(d *state.Directory) bool {
			return d.Status.Stage == "Failed" && d.Spec.AdminPassword == "" && d.Status.StageReason != ""
		})
		if d.mu.Lock(); len(d.made) > 0 && d.made[len(d.made)-1].DirectoryID == ident.DirectoryID(id) {
			t.Error("a domain was made without its password")
		}
		d.mu.Unlock()
	})
}

// restoredFrom makes a state directory of a backup.
func restoredFrom(t *testing.T, backup io.Reader) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	if err := Restore(t.Context(), dir, backup); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return dir
}
