package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"carrel/internal/driver"
	"carrel/internal/driver/memory"
	"carrel/internal/ident"
)

// A memory template is a machine of an image that was started once, without network card, user volume and person, and stopped when its screen
// was up. Its memory is a block at the keeper; its device state a file; its disk the layer under the root volumes of all desktops that have started from
// it, because their memory is full of what was on it. A template goes when it is retired; its layer stays as long as a volume lies on it.

// The files of a template, in Dir/templates/<id>/.
const (
	templatesDir   = "templates"
	templateFile   = "template.json"
	layerFile      = "layer.qcow2"
	deviceFile     = "devices"
	templatePrefix = "template-"
)

// hardwareVersion goes up when the devices of a machine change: a template's state fits only machines with the same. 2: the session's port.
const hardwareVersion = 2

// templateState is how far a template is.
type templateState string

const (
	templateMaking  templateState = "making"
	templateReady   templateState = "ready"
	templateRetired templateState = "retired"
)

// templateRecord is what is remembered of a template.
type templateRecord struct {
	// ID names the directory, the layer and the block.
	ID    string
	State templateState
	// A template is for machines of this content and size on this kind of processor.
	Image    ident.ImageID
	Digest   string
	Size     Size
	Accel    Accelerator
	Hardware int
	// Model is the machine type that it was made as.
	Model string
	// Memory is the digest of its memory, Bytes how much of it there is.
	Memory  string
	Bytes   int64
	Created time.Time
}

// template is a record and, once somebody has wanted it, its memory.
type template struct {
	templateRecord
	dir string

	opening sync.Mutex
	memory  *memory.Template
	// Guarded by templates.mu: how many starts are using it, how many have failed since one went well, when it was last used.
	users, failures int
	used            time.Time
}

// wish is a template that somebody would have started from.
type wish struct {
	image   ident.ImageID
	compute string
}

// templates are those of this host.
type templates struct {
	mu  sync.Mutex
	all map[string]*template
	// making is the memory of the one that is being made, in bytes, and uid its process's user.
	making int64
	uid    int

	// one at a time is made.
	one    sync.Mutex
	wishes chan wish
	// abort gives the one up that is being made, and made is closed when it is or has been given up; nil when none is.
	abort context.CancelFunc
	made  chan struct{}
}

// begin notes that a template is being made; over has to be called when it is, or is not to be.
func (ts *templates) begin(ctx context.Context) (_ context.Context, over func()) {
	ctx, abort := context.WithCancel(ctx)
	made := make(chan struct{})
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.abort, ts.made = abort, made
	return ctx, func() {
		abort()
		ts.mu.Lock()
		defer ts.mu.Unlock()
		ts.abort, ts.made = nil, nil
		close(made)
	}
}

// pending is the memory of the template that is being made, in bytes.
func (ts *templates) pending() int64 {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.making
}

// giveUp ends the making of a template and waits until its memory is scrubbed. false: none is being made.
func (ts *templates) giveUp(ctx context.Context) bool {
	ts.mu.Lock()
	abort, made := ts.abort, ts.made
	ts.mu.Unlock()
	if abort == nil {
		return false
	}
	abort()
	select {
	case <-made:
	case <-ctx.Done():
	}
	return true
}

// maxFailures is after how many starts that went wrong a template is not used any more.
const maxFailures = 2

func (r *templateRecord) fits(digest string, size Size, accel Accelerator) bool {
	return r.State == templateReady && r.Digest == digest && r.Size == size && r.Accel == accel && r.Hardware == hardwareVersion
}

// write puts the record on disk, all of it or none.
func (t *template) write() error {
	b, err := json.MarshalIndent(t.templateRecord, "", "\t")
	if err != nil {
		return err
	}
	return replaceFile(t.dir, templateFile, b)
}

// openTemplates finds the templates of an earlier host role. entries are what the keeper has of them; what no template is, is left in it.
func (d *Driver) openTemplates(ctx context.Context, entries map[string]memory.Entry) error {
	dirs, err := filepath.Glob(filepath.Join(d.cfg.Dir, templatesDir, templatePrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		t := &template{dir: dir}
		b, err := os.ReadFile(filepath.Join(dir, templateFile))
		if err == nil {
			err = json.Unmarshal(b, &t.templateRecord)
		}
		if err == nil && t.ID != filepath.Base(dir) {
			err = fmt.Errorf("it is the record of %q", t.ID)
		}
		if errors.Is(err, fs.ErrNotExist) || err == nil && t.State == templateMaking {
			// Never used: the memory of its machine, if there is any, is scrubbed like that of everybody else.
			if err := os.RemoveAll(dir); err != nil {
				return fmt.Errorf("qemu: %w", err)
			}
			continue
		}
		if err != nil {
			// Volumes may lie on its layer, so it stays; nothing starts from it.
			d.cfg.Log.ErrorContext(ctx, "a memory template cannot be read", "template", dir, "error", err)
			continue
		}
		d.templates.all[t.ID] = t
		if e, held := entries[t.ID]; t.State == templateReady && held && e.Meta.Template && !e.Scrubbing && !d.cfg.NoTemplates {
			delete(entries, t.ID)
			continue
		}
		// Its memory went with a restart of the host, or is on its way out, or is not wanted any more.
		if err := d.retire(ctx, t); err != nil {
			d.cfg.Log.ErrorContext(ctx, "a memory template cannot be retired", "template", t.ID, "error", err)
		}
		delete(entries, t.ID)
	}
	return nil
}

// pick gives a template for a machine, whose memory cannot go until release; nil when there is none.
func (d *Driver) pick(ctx context.Context, digest string, size Size) *template {
	ts := &d.templates
	ts.mu.Lock()
	var t *template
	for _, one := range ts.all {
		if one.fits(digest, size, d.cfg.Accel) && one.failures < maxFailures {
			t = one
			t.users++
			break
		}
	}
	ts.mu.Unlock()
	if t == nil {
		return nil
	}
	if err := d.open(ctx, t); err != nil {
		d.cfg.Log.ErrorContext(ctx, "a memory template cannot be used", "template", t.ID, "error", err)
		d.release(t, err)
		return nil
	}
	return t
}

// open opens a template's memory, which must be what it was when it was made.
func (d *Driver) open(ctx context.Context, t *template) error {
	t.opening.Lock()
	defer t.opening.Unlock()
	if t.memory != nil {
		return nil
	}
	m, err := d.cfg.Keeper.Template(ctx, t.ID)
	if err == nil && m.Digest() != t.Memory {
		err = fmt.Errorf("its memory was %s and is %s", t.Memory, m.Digest())
	}
	if err != nil {
		return err
	}
	t.memory = m
	return nil
}

// release gives a picked template back and says how the start has gone.
func (d *Driver) release(t *template, err error) {
	d.templates.mu.Lock()
	defer d.templates.mu.Unlock()
	t.users--
	t.used = d.cfg.Clock.Now()
	if err == nil {
		t.failures = 0
	} else {
		t.failures++
	}
}

// wanted notes that a template would have been of use. Nobody waits for it.
func (d *Driver) wanted(image ident.ImageID, compute string) {
	select {
	case d.templates.wishes <- wish{image, compute}:
	default: // Enough is to be made already.
	}
}

// retire ends a template: its memory is scrubbed, and its layer goes unless a volume lies on it.
func (d *Driver) retire(ctx context.Context, t *template) error {
	d.templates.mu.Lock()
	if t.users > 0 {
		d.templates.mu.Unlock()
		return fmt.Errorf("retire %s: %w: a machine is starting from it", t.ID, driver.ErrBusy)
	}
	before := t.State
	t.State = templateRetired
	d.templates.mu.Unlock()
	if before != templateRetired {
		if err := t.write(); err != nil {
			return fmt.Errorf("retire %s: %w", t.ID, err)
		}
	}
	if _, err := d.cfg.Keeper.Scrub(ctx, t.ID, scrubOptions(nil)); err != nil && !errors.Is(err, driver.ErrNotFound) && !errors.Is(err, memory.ErrLost) {
		return fmt.Errorf("retire %s: %w", t.ID, err)
	}
	if err := d.cfg.Keeper.Forget(ctx, t.ID); err != nil {
		return fmt.Errorf("retire %s: %w", t.ID, err)
	}
	if err := os.Remove(filepath.Join(t.dir, deviceFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("retire %s: %w", t.ID, err)
	}
	return d.collect(ctx, t)
}

// RetireTemplates ends all templates, as for a host that is given up. Layers that volumes lie on stay.
func (d *Driver) RetireTemplates(ctx context.Context) error {
	d.templates.one.Lock()
	defer d.templates.one.Unlock()
	var err error
	for _, t := range d.templates.list() {
		err = errors.Join(err, d.retire(ctx, t))
	}
	return err
}

// collect removes a retired template that no volume lies on.
func (d *Driver) collect(ctx context.Context, t *template) error {
	layers, err := d.layers.Layers(ctx)
	if err != nil {
		return fmt.Errorf("retire %s: %w", t.ID, err)
	}
	if slices.Contains(layers, t.ID) {
		return nil
	}
	if err := os.RemoveAll(t.dir); err != nil {
		return fmt.Errorf("retire %s: %w", t.ID, err)
	}
	d.templates.mu.Lock()
	defer d.templates.mu.Unlock()
	delete(d.templates.all, t.ID)
	return nil
}

// users are the user ids that templates have: the machine's that becomes one.
func (ts *templates) users() map[int]bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return map[int]bool{ts.uid: true}
}

// of gives a template's record as it is now, and whether it has failed too often.
func (ts *templates) of(t *template) (r templateRecord, broken bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return t.templateRecord, t.failures >= maxFailures
}

// list gives the templates in order of their last use.
func (ts *templates) list() []*template {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	all := make([]*template, 0, len(ts.all))
	for _, t := range ts.all {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *template) int {
		if c := a.used.Compare(b.used); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// held is the memory of all templates, in bytes.
func (ts *templates) held() int64 {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	sum := ts.making
	for _, t := range ts.all {
		if t.State == templateReady {
			sum += t.Bytes
		}
	}
	return sum
}

// evict retires templates, those that were not used for longest first, until size more memory may be given out. A desktop that can run is worth more
// than ones that would start sooner.
func (d *Driver) evict(ctx context.Context, size int64) {
	for _, t := range d.templates.list() {
		if d.room(size) == nil {
			return
		}
		if r, _ := d.templates.of(t); r.State != templateReady {
			continue
		}
		if err := d.retire(ctx, t); err != nil {
			d.cfg.Log.WarnContext(ctx, "a memory template stays although its memory is wanted", "template", t.ID, "error", err)
			continue
		}
		d.cfg.Log.InfoContext(ctx, "a memory template was given up: its memory is wanted", "template", t.ID)
	}
	if d.room(size) != nil && d.room(size-d.templates.pending()) == nil && d.templates.giveUp(ctx) {
		d.cfg.Log.InfoContext(ctx, "the making of a memory template was given up: its memory is wanted")
	}
}

// openLayer opens what a root volume lies on.
func (d *Driver) openLayer(id string) (*os.File, error) {
	if !strings.HasPrefix(id, templatePrefix) || id != filepath.Base(id) {
		return nil, driver.Permanent("LayerLost", fmt.Errorf("layer %q is not a template's", id))
	}
	f, err := os.Open(filepath.Join(d.cfg.Dir, templatesDir, id, layerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, driver.Permanent("LayerLost", fmt.Errorf("the root volume lies on layer %s, which is gone: %w", id, err))
	}
	return f, err
}
