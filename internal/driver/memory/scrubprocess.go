package memory

import (
	"context"
	"errors"
	"fmt"

	"carrel/internal/driver"
)

// endProcess stops the machine's process, overwrites what it holds and ends it.
func (s *scrub) endProcess(ctx context.Context) error {
	if s.j.Report != nil || !s.j.RunEnded.IsZero() {
		return nil
	}
	p, err := s.process(ctx)
	if errors.Is(err, errEnded) {
		return s.ended()
	}
	if err != nil {
		return err
	}
	if p == nil { // A template has no process.
		s.j.RunEnded = s.k.now().UTC()
		return s.k.saveJournal(s.id, s.j)
	}
	defer p.close()
	// Even when the journal says that it was done: since then somebody may have continued it.
	err = s.zeroProcess(ctx, p)
	if errors.Is(err, errEnded) {
		return s.ended()
	}
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, s.options.Patience)
	defer cancel()
	if err := p.kill(limited); err != nil {
		return err
	}
	s.options.Observe("killed")
	s.j.RunEnded = s.k.now().UTC()
	if err := s.k.saveJournal(s.id, s.j); err != nil {
		return err
	}
	s.options.Observe("end noted")
	return nil
}

// process opens the machine's process. One that was started and not noted any more, because the host role ended between, is found by its
// descriptor of the block: nobody else was given one.
func (s *scrub) process(ctx context.Context) (*process, error) {
	m := s.j.Meta
	if m.Template {
		return nil, nil
	}
	if m.PID == 0 {
		keeper, _, err := s.k.call(ctx, request{Op: opHello}, nil)
		if err != nil {
			return nil, err
		}
		found, err := openers(s.block.id, keeper.PID)
		if err != nil {
			return nil, err
		}
		if len(found) > 1 {
			return nil, fmt.Errorf("%w: no process was noted and several have the memory: %v", driver.ErrUnclean, found)
		}
		if len(found) == 1 {
			return openProcess(found[0].pid, found[0].start)
		}
		return nil, errEnded
	}
	return openProcess(m.PID, m.StartTime)
}

// ended notes that the process ended before all of it could be overwritten (or, when the journal says that it was, after).
func (s *scrub) ended() error {
	s.j.ProcessEnded = !s.j.ProcessZeroed
	s.j.RunEnded = s.k.now().UTC()
	if err := s.k.saveJournal(s.id, s.j); err != nil {
		return err
	}
	s.options.Observe("end noted")
	return nil
}

// zeroProcess stops and overwrites the process and notes how much.
func (s *scrub) zeroProcess(ctx context.Context, p *process) error {
	limited, cancel := context.WithTimeout(ctx, s.options.Patience)
	defer cancel()
	if err := p.freeze(limited); err != nil {
		return err
	}
	s.options.Observe("frozen")
	if !s.k.host.CoreDumpsOff(p.pid) {
		s.j.Facts.CoreDumpsOff = false
	}
	w, err := s.overwrite(ctx, p)
	if err != nil {
		return err
	}
	if runs, err := p.running(); err != nil || runs != "" {
		return errors.Join(err, fmt.Errorf("process %d was continued by somebody while it was overwritten: thread %s", p.pid, runs))
	}
	s.options.Observe("process zeroed")
	s.j.ProcessZeroed, s.j.ProcessBytes, s.j.Skipped = true, w.Bytes, w.Skipped
	if err := s.k.saveJournal(s.id, s.j); err != nil {
		return err
	}
	s.options.Observe("process noted")
	return nil
}

// overwrite zeroes a stopped process, and looks again when that was asked for.
func (s *scrub) overwrite(ctx context.Context, p *process) (w wiped, err error) {
	var left int64
	for range 3 {
		v, err := p.look(s.block.id)
		if err != nil {
			return w, err
		}
		w, err = v.zero(ctx)
		if err == nil && s.options.Rescan {
			left, err = v.count(ctx)
		}
		v.close()
		if err != nil || left == 0 {
			return w, err
		}
	}
	return w, fmt.Errorf("%w: %d bytes of process %d are not zero after overwriting it three times", driver.ErrUnclean, left, p.pid)
}
