package memory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

// Method is the name of this way to scrub, for driver.ScrubReport.
const Method = "qemu-freeze-zero-seal-readback"

// ScrubOptions changes how a scrub is done; the zero value is the normal one.
type ScrubOptions struct {
	// Rescan reads the process again after it was overwritten, and overwrites again what something (a disk read that was under way) has
	// brought back, up to three times; what then remains is an error.
	Rescan bool
	// Patience bounds the wait for threads to stop and for foreign mappings to go; 0 is 10 seconds.
	Patience time.Duration
	// Observe is told every point that is reached, in the order of Points. Whatever it does there, ending this process included, another Scrub completes
	// the work.
	Observe func(point string)
}

// Points are the points of a scrub, in order.
var Points = [...]string{"begun", "frozen", "process zeroed", "process noted", "killed", "end noted", "zeroed", "zeroes noted", "unmapped", "sealed", "read", "report noted", "deleted"}

// scrub is one run of the sequence.
type scrub struct {
	k       *Keeper
	id      string
	options ScrubOptions
	j       *journal
	block   *Block
	report  *driver.ScrubReport
}

// Scrub ends the machine that uses a block, zeroes process and block, seals the block, reads all of it back and lets it go. It may be called again
// after any failure or crash, and goes on from what exists; the report tells what was done in total. Complete already: the same report.
//
// driver.ErrNotFound: no such block. driver.ErrBusy: a scrub of it runs. driver.ErrUnclean: something read back was not zero, or somebody
// still maps the block and could write (the error names who): it stays held. ErrLost: nobody has the memory any more.
func (k *Keeper) Scrub(ctx context.Context, id string, o ScrubOptions) (driver.ScrubReport, error) {
	if err := checkID(id); err != nil {
		return driver.ScrubReport{}, err
	}
	k.mu.Lock()
	if k.busy[id] {
		k.mu.Unlock()
		return driver.ScrubReport{}, fmt.Errorf("scrub memory %s: %w", id, driver.ErrBusy)
	}
	k.busy[id] = true
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.busy, id)
		k.mu.Unlock()
	}()
	if o.Patience <= 0 {
		o.Patience = 10 * time.Second
	}
	if o.Observe == nil {
		o.Observe = func(string) {}
	}
	s := &scrub{k: k, id: id, options: o, report: &driver.ScrubReport{}}
	for _, step := range []func(context.Context) error{s.begin, s.endProcess, s.zeroAndSeal, s.readBack, s.letGo} {
		if err := step(ctx); err != nil {
			return *s.report, fmt.Errorf("scrub memory %s: %w", id, err)
		}
	}
	return *s.report, nil
}

// begin finds block and journal and notes that the scrub has begun.
func (s *scrub) begin(ctx context.Context) error {
	j, err := s.k.loadJournal(s.id)
	if err != nil && !errors.Is(err, driver.ErrNotFound) {
		return err
	}
	if j != nil && j.Report != nil {
		s.j, s.report = j, j.Report
		return nil
	}
	h, locked, err := s.k.find(ctx, s.id, j)
	if err != nil {
		return err
	}
	if j == nil {
		j = &journal{}
	}
	j.Meta, s.j, s.block = h.meta, j, h.block
	h.block.retire()
	if j.Started.IsZero() {
		j.Started, j.Facts = s.k.now().UTC(), s.k.host.Facts()
		// The lock of a host role that has ended ended with it.
		j.Facts.Unswappable = locked || h.block.Locked() && (!h.meta.Gap || h.block.pages == PagesHuge)
		j.Facts.CoreDumpsOff = h.meta.CoreDumpsOff
		if err := s.k.saveJournal(s.id, j); err != nil {
			return err
		}
	}
	s.options.Observe("begun")
	return nil
}

// find gives a block from this process, from the keeper, or from the machine that still has it.
func (k *Keeper) find(ctx context.Context, id string, j *journal) (h *holding, locked bool, err error) {
	r, file, err := k.call(ctx, request{Op: opGet, ID: id}, nil)
	if file != nil {
		_ = file.Close()
	}
	if err == nil {
		locked = len(r.Entries) == 1 && r.Entries[0].Locked
	} else if !errors.Is(err, driver.ErrNotFound) {
		return nil, false, err
	}
	k.mu.Lock()
	h = k.known[id]
	k.mu.Unlock()
	if h != nil {
		return h, locked, nil
	}
	if j == nil {
		return nil, false, err
	}
	return k.recover(ctx, id, j.Meta)
}

// recover looks for a block that the keeper does not have in the machine that was noted for it.
func (k *Keeper) recover(ctx context.Context, id string, m Meta) (*holding, bool, error) {
	lost := func(why string) error { return fmt.Errorf("%w: %s", ErrLost, why) }
	if m.Boot != k.host.Boot() {
		return nil, false, lost("the host was restarted since")
	}
	if m.PID == 0 || !alive(m.PID, m.StartTime) {
		return nil, false, lost("the keeper, the host role and the machine have ended")
	}
	file, err := findBlock(m.PID, m.File)
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, lost("the machine does not have it any more")
	}
	if err != nil {
		return nil, false, fmt.Errorf("take the memory from process %d: %w", m.PID, err)
	}
	block, err := newBlock(file, PagesSmall)
	if err != nil {
		return nil, false, errors.Join(err, file.Close())
	}
	m.Gap = true
	h := &holding{block, m}
	if err := k.tell(ctx, id, h); err != nil {
		return nil, false, errors.Join(err, block.Close())
	}
	k.mu.Lock()
	k.known[id] = h
	k.mu.Unlock()
	return h, false, nil
}

// zeroAndSeal zeroes the block, takes this process's own writable mapping away and lets the kernel refuse writing from then on, which it grants only
// when no writable mapping is left anywhere. Until then everything is zeroed again before each try: who still maps it may have written.
func (s *scrub) zeroAndSeal(ctx context.Context) error {
	if s.j.Report != nil {
		return nil
	}
	b := s.block
	b.mu.Lock()
	defer b.mu.Unlock()
	var refused time.Time
	for pause := time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		_, _, seals, err := inspect(b.file)
		if err != nil {
			return err
		}
		if seals&unix.F_SEAL_WRITE != 0 { // By an earlier scrub; it cannot be written any more.
			return b.unmapWritable()
		}
		if err := s.zeroBlock(ctx); err != nil {
			return err
		}
		s.options.Observe("unmapped")
		_, err = unix.FcntlInt(b.file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|sizeSeals)
		if err == nil {
			s.options.Observe("sealed")
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("seal memory: %w", err)
		}
		if refused.IsZero() {
			refused = time.Now()
		}
		if time.Since(refused) >= s.options.Patience {
			return fmt.Errorf("%w: it cannot be sealed, %s", driver.ErrUnclean, whoMaps(b.id))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (s *scrub) zeroBlock(ctx context.Context) error {
	b := s.block
	w, err := b.writable()
	if err != nil {
		return err
	}
	if !b.populated {
		if err := pieces(b.size, stepBytes, func(_, from, to int64) error {
			return populate(b.file, w[from:to], from, unix.MADV_POPULATE_WRITE)
		}); err != nil {
			return fmt.Errorf("map memory: %w", err)
		}
	}
	if err := zeroBytes(ctx, w); err != nil {
		return err
	}
	s.options.Observe("zeroed")
	if s.j.MemoryBytes != b.size {
		s.j.MemoryBytes = b.size
		if err := s.k.saveJournal(s.id, s.j); err != nil {
			return err
		}
		s.options.Observe("zeroes noted")
	}
	b.populated = false // A new mapping, should there have to be one, is empty.
	return b.unmapWritable()
}

// whoMaps names those who keep a block from being sealed.
func whoMaps(id fileID) string {
	found, err := holders(id)
	if err != nil || len(found) == 0 {
		return "and no process that may be looked into maps it: the kernel itself (input or output under way), or another user's process"
	}
	names := make([]string, len(found))
	for i, h := range found {
		names[i] = h.String()
	}
	return "mapped writable by " + strings.Join(names, ", ")
}

// readBack reads all of the sealed block and makes the report.
func (s *scrub) readBack(ctx context.Context) error {
	if s.j.Report != nil {
		return nil
	}
	b := s.block
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _, seals, err := inspect(b.file)
	if err != nil {
		return err
	}
	r, err := b.readable()
	if err == nil && !b.mapped {
		err = pieces(b.size, stepBytes, func(_, from, to int64) error { return populate(b.file, r[from:to], from, unix.MADV_POPULATE_READ) })
	}
	if err != nil {
		return fmt.Errorf("read memory back: %w", err)
	}
	nonZero, digest, err := readBack(ctx, r)
	if err != nil {
		return err
	}
	s.options.Observe("read")
	j, m := s.j, s.j.Meta
	*s.report = driver.ScrubReport{WorkspaceID: m.WorkspaceID, Host: m.Host, Method: Method, Run: m.Run, RunStarted: m.Created, RunEnded: j.RunEnded,
		MemoryBytes: j.MemoryBytes, ReadBytes: b.size, ProcessBytes: j.ProcessBytes, ProcessEnded: j.ProcessEnded, ProcessSkipped: maps.Clone(j.Skipped),
		NonZero: nonZero, Digest: digest, Sealed: seals&unix.F_SEAL_WRITE != 0, Started: j.Started, Finished: s.k.now().UTC(), Facts: j.Facts}
	if err := s.report.Clean(); err != nil {
		return err
	}
	j.Report = s.report
	if err := s.k.saveJournal(s.id, j); err != nil {
		return err
	}
	s.options.Observe("report noted")
	return nil
}

// letGo lets the keeper look for itself and gives the memory back.
func (s *scrub) letGo(ctx context.Context) error {
	_, _, err := s.k.call(ctx, request{Op: opDelete, ID: s.id}, nil)
	if err != nil && !errors.Is(err, driver.ErrNotFound) {
		return err
	}
	s.options.Observe("deleted")
	s.k.mu.Lock()
	h := s.k.known[s.id]
	delete(s.k.known, s.id)
	files := s.k.files[s.id]
	delete(s.k.files, s.id)
	s.k.mu.Unlock()
	if err := files.close(); err != nil {
		return err
	}
	if h == nil {
		return nil
	}
	// Had the keeper been killed just now, the new one would have been given the block again.
	if _, _, err := s.k.exchange(ctx, request{Op: opDelete, ID: s.id}, nil); err != nil && !errors.Is(err, driver.ErrNotFound) && !errors.Is(err, errGone) {
		return errors.Join(err, h.block.Close())
	}
	return h.block.Close()
}
