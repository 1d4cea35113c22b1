package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

// Keeper is the host role's hold on all blocks: they live in the keeper process as well, so that neither the end of this process nor
// that of a machine loses one. All methods may be called concurrently.
type Keeper struct {
	path string
	// dir is open on path for the whole life: sockets and files are reached through it, so a renamed directory is noticed by nobody else.
	dir, lock *os.File
	host      Host
	now       func() time.Time

	// reviving: one at a time looks for the keeper process or starts it. process is the one started here, to be waited for.
	reviving sync.Mutex
	process  *exec.Cmd

	mu    sync.Mutex
	known map[string]*holding
	// files are what is held beside blocks, by the block's id.
	files map[string]descriptors
	busy  map[string]bool
}

// holding is a block that this process holds too.
type holding struct {
	block *Block
	meta  Meta
}

// Entry is what is known of one block.
type Entry struct {
	ID   string
	Meta Meta
	// Alive: the noted process exists.
	Alive bool
	// Scrubbing: a scrub was begun, so the machine must not be used again; Scrub completes it.
	Scrubbing bool
	// Report is there when the scrub is complete; Forget removes the entry.
	Report *driver.ScrubReport
	// Lost: nobody that could be asked holds the memory. Scrub looks for it in processes, then gives ErrLost.
	Lost bool
}

// Connect uses dir, made with mode 0700 when it is not there, and the keeper that listens in it, started when none does. It takes over all
// blocks that the keeper has. The directory should be on a file system that survives the host role (/run is enough; blocks do not survive a
// restart of the host). driver.ErrBusy: another host role uses it. driver.ErrUnavailable: a keeper exists and does not answer.
func Connect(ctx context.Context, dir string) (*Keeper, error) {
	k := &Keeper{now: time.Now, known: map[string]*holding{}, files: map[string]descriptors{}, busy: map[string]bool{}}
	err := k.open(dir)
	if err == nil {
		err = k.revive(ctx)
	}
	if err == nil {
		err = k.adopt(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("memory keeper in %s: %w", dir, err), k.Close())
	}
	return k, nil
}

// open makes and checks the directory. Whoever can write in it could put another socket there and be given guest memory.
func (k *Keeper) open(dir string) (err error) {
	if k.path, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(k.path, 0o700); err != nil {
		return err
	}
	if k.dir, err = os.OpenFile(k.path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(k.dir.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&0o7777 != 0o700 || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("the directory has mode %#o and belongs to user %d: want 0700 and %d", st.Mode&0o7777, st.Uid, os.Geteuid())
	}
	if k.lock, err = os.OpenFile(filepath.Join(k.path, "lock"), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(int(k.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%w: another host role uses it", driver.ErrBusy)
		}
		return err
	}
	return nil
}

// Close lets go of everything in this process. The keeper process and the memory stay.
func (k *Keeper) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var err error
	for id, h := range k.known {
		err = errors.Join(err, h.block.Close())
		delete(k.known, id)
	}
	for id, files := range k.files {
		err = errors.Join(err, files.close())
		delete(k.files, id)
	}
	for _, f := range []*os.File{k.dir, k.lock} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// adopt takes over what the keeper holds.
func (k *Keeper) adopt(ctx context.Context) error {
	entries, err := k.held(ctx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		block, meta, err := k.fetch(ctx, e.ID)
		if err != nil {
			return err
		}
		if !meta.Gap {
			meta.Gap = true
			if err := k.tell(ctx, e.ID, &holding{block, meta}); err != nil {
				return errors.Join(err, block.Close())
			}
		}
		k.known[e.ID] = &holding{block, meta}
		if err := k.adoptFiles(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// fetch gets one block from the keeper.
func (k *Keeper) fetch(ctx context.Context, id string) (*Block, Meta, error) {
	r, file, err := k.call(ctx, request{Op: opGet, ID: id}, nil)
	if err != nil {
		return nil, Meta{}, err
	}
	if file == nil || len(r.Entries) != 1 {
		return nil, Meta{}, fmt.Errorf("block %s: the keeper gave no descriptor", id)
	}
	var meta Meta
	var block *Block
	if err = json.Unmarshal(r.Entries[0].Meta, &meta); err == nil {
		block, err = newBlock(file, PagesSmall)
	}
	if err == nil && (block.id != meta.File || block.size != meta.Bytes) {
		err = errors.New("the keeper gave another block")
	}
	if err != nil {
		return nil, Meta{}, errors.Join(fmt.Errorf("block %s: %w", id, err), file.Close())
	}
	return block, meta, nil
}

// held lists what the keeper has.
func (k *Keeper) held(ctx context.Context) ([]heldEntry, error) {
	var all []heldEntry
	after := ""
	for {
		r, _, err := k.call(ctx, request{Op: opList, After: after}, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, r.Entries...)
		if !r.More || len(r.Entries) == 0 {
			return all, nil
		}
		after = r.Entries[len(r.Entries)-1].ID
	}
}

// tell puts a block, or its new meta, into the keeper.
func (k *Keeper) tell(ctx context.Context, id string, h *holding) error {
	meta, err := h.meta.encode()
	if err == nil {
		_, _, err = k.call(ctx, request{Op: opPut, ID: id, Meta: meta}, h.block.file)
	}
	if err != nil {
		return fmt.Errorf("put memory %s: %w", id, err)
	}
	return nil
}

// Put gives a block to the keeper; it must come before any machine gets the descriptor. The block belongs to k from then on: it is closed when it
// was scrubbed. id names it (the run of the machine). The same block again: success. driver.ErrOrder: the id is another block's.
func (k *Keeper) Put(ctx context.Context, id string, b *Block, m Meta) error {
	if err := checkID(id); err != nil {
		return err
	}
	m.Bytes, m.File, m.Boot, m.Gap = b.size, b.id, k.host.Boot(), false
	h := &holding{b, m}
	k.mu.Lock()
	had := k.known[id]
	k.mu.Unlock()
	if had != nil {
		if had.block.id != b.id {
			return fmt.Errorf("put memory %s: %w: it is another block", id, driver.ErrOrder)
		}
		return k.tell(ctx, id, had)
	}
	if _, err := k.loadJournal(id); !errors.Is(err, driver.ErrNotFound) {
		return errors.Join(fmt.Errorf("put memory %s: %w: the id was used before", id, driver.ErrOrder), err)
	}
	// The keeper first: a block that only the journal knows would count as lost.
	if err := k.tell(ctx, id, h); err != nil {
		return err
	}
	k.mu.Lock()
	k.known[id] = h
	k.mu.Unlock()
	return k.saveJournal(id, &journal{Meta: m})
}

// SetProcess notes the machine's process, which must be alive; as soon as it was started, and again for a new one on the same block.
func (k *Keeper) SetProcess(ctx context.Context, id string, pid int) error {
	start, err := StartTime(pid)
	if err != nil {
		return fmt.Errorf("note the process of memory %s: %w", id, err)
	}
	k.mu.Lock()
	had := k.known[id]
	k.mu.Unlock()
	if had == nil {
		return fmt.Errorf("note the process of memory %s: %w", id, driver.ErrNotFound)
	}
	j, err := k.loadJournal(id)
	if errors.Is(err, driver.ErrNotFound) { // The host role that put it ended before it could note that.
		j, err = new(journal), nil
	}
	if err == nil && !j.Started.IsZero() {
		err = fmt.Errorf("%w: it is being scrubbed", driver.ErrOrder)
	}
	if err != nil {
		return fmt.Errorf("note the process of memory %s: %w", id, err)
	}
	h := &holding{had.block, had.meta}
	h.meta.PID, h.meta.StartTime, h.meta.CoreDumpsOff = pid, start, k.host.CoreDumpsOff(pid)
	if err := k.tell(ctx, id, h); err != nil {
		return err
	}
	k.mu.Lock()
	k.known[id] = h
	k.mu.Unlock()
	j.Meta = h.meta
	return k.saveJournal(id, j)
}

// Get gives a block that is held. driver.ErrNotFound.
func (k *Keeper) Get(id string) (*Block, Meta, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.known[id]
	if h == nil {
		return nil, Meta{}, fmt.Errorf("%w: memory %s", driver.ErrNotFound, id)
	}
	return h.block, h.meta, nil
}

// List tells all there is, in order of id: what the keeper holds and what the journals remember. At the start of a host role everything in it
// that is not a machine to be adopted has to be scrubbed before memory is allocated.
func (k *Keeper) List(ctx context.Context) ([]Entry, error) {
	held, err := k.held(ctx)
	if err != nil {
		return nil, fmt.Errorf("list memory: %w", err)
	}
	entries := map[string]*Entry{}
	var problems []error
	for _, h := range held {
		e := &Entry{ID: h.ID}
		if err := json.Unmarshal(h.Meta, &e.Meta); err != nil {
			problems = append(problems, fmt.Errorf("memory %s: %w", h.ID, err))
		}
		entries[h.ID] = e
	}
	ids, err := k.journals()
	problems = append(problems, err)
	for _, id := range ids {
		j, err := k.loadJournal(id)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		e := entries[id]
		if e == nil {
			e = &Entry{ID: id, Meta: j.Meta, Lost: j.Report == nil}
			entries[id] = e
		}
		e.Scrubbing, e.Report = !j.Started.IsZero(), j.Report
	}
	all := make([]Entry, 0, len(entries))
	for _, e := range entries {
		e.Alive = e.Meta.PID != 0 && alive(e.Meta.PID, e.Meta.StartTime)
		all = append(all, *e)
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.ID, b.ID) })
	return all, errors.Join(problems...)
}

// Forget removes what is remembered of a completely scrubbed block, and of a lost one whose loss the caller has recorded. Forgotten already:
// success. driver.ErrOrder: the memory still exists.
func (k *Keeper) Forget(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	_, file, err := k.call(ctx, request{Op: opGet, ID: id}, nil)
	if file != nil {
		_ = file.Close()
	}
	switch {
	case err == nil:
		return fmt.Errorf("forget memory %s: %w: it is held", id, driver.ErrOrder)
	case !errors.Is(err, driver.ErrNotFound):
		return fmt.Errorf("forget memory %s: %w", id, err)
	}
	return k.removeJournal(id)
}
