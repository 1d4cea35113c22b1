package samba

import (
	"context"
	"sync"
	"time"
)

// Run keeps the controllers of all domains running until ctx ends, then stops them and gives ctx's error. A controller that outlived an
// earlier process which could not do that is taken over. Each domain has its own loop, so that one that hangs holds up no other.
func (s *Domains) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	watched := map[*domain]bool{}
	for {
		for _, d := range s.all() {
			if !watched[d] && s.runs(d) {
				watched[d] = true
				wait.Go(func() { d.supervise(ctx) })
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.arrived:
		}
	}
}

// runs says whether a domain is made and stays.
func (s *Domains) runs(d *domain) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return d.made && !d.rec.Removing
}

// supervise has a controller run until ctx ends or the domain is removed.
func (d *domain) supervise(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.gone, cancel)()
	defer func() {
		// A removed domain's controller is Remove's to end.
		if d.gone.Err() == nil {
			d.working.Lock()
			defer d.working.Unlock()
			d.stop()
		}
	}()
	t := d.all.cfg.Timing
	pause := t.Retry
	for {
		begin := time.Now()
		err := d.ensure(ctx)
		if ctx.Err() != nil {
			return
		}
		why := "it does not start"
		if err == nil {
			why = d.attend(ctx)
			if ctx.Err() != nil {
				return
			}
		}
		d.all.cfg.Log.Error("domain controller is started again", "directory", d.id, "why", why, "error", err, "in", pause)
		// One that ran for long begins with the shortest pause again.
		if time.Since(begin) > t.RetryMost+t.Start {
			pause = t.Retry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, t.RetryMost)
	}
}

// attend watches a controller that answers until it ends, or until it is ended here because it does not answer any more or needs a new
// certificate; it says which.
func (d *domain) attend(ctx context.Context) (why string) {
	c := d.running.Load()
	if c == nil {
		return "it is gone"
	}
	t := d.all.cfg.Timing
	tick := time.NewTicker(t.Check)
	defer tick.Stop()
	renew := time.NewTicker(renewEvery)
	defer renew.Stop()
	heard := time.Now()
	for {
		select {
		case <-ctx.Done():
			return "we end"
		case <-c.ended:
			return c.exit.String()
		case <-renew.C:
			if !d.certified(time.Now()) {
				d.working.Lock()
				d.stop()
				d.working.Unlock()
				return "its certificate is renewed"
			}
		case <-tick.C:
			err := d.answers(ctx)
			if err == nil {
				heard = time.Now()
			} else if time.Since(heard) > t.Hang && ctx.Err() == nil {
				d.all.cfg.Log.Error("domain controller does not answer", "directory", d.id, "error", err)
				c.end()
				return "it did not answer"
			}
		}
	}
}
