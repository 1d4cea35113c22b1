package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// restarts of P13: one more than pairs, because the first one after a restore is not like the others.
const extraRestarts = 2

// p13 kills the control plane of 100,000 desktops and counts from the new process's start to its first right, signed answer.
func (b *bench) p13(ctx context.Context) error {
	b.report.begin("p13", fmt.Sprintf("restart after kill -9 with %d desktops, %d times", large, b.pairs+extraRestarts))
	dir, err := b.installation(ctx, large)
	if err != nil {
		return err
	}
	p, e, err := b.serve(ctx, dir)
	if err != nil {
		return err
	}
	s := newSamples()
	for i := range b.pairs + extraRestarts {
		p.kill()
		if p, err = b.launch(dir, e.address); err != nil {
			return err
		}
		took, err := firstAnswer(ctx, p, e, byID(i*12_345%large))
		if err != nil {
			discard(p)
			return err
		}
		s.add("first right answer after s", "carrel", took.Seconds())
	}
	discard(p)
	b.report.table("P13", s)
	values := s.of("first right answer after s", "carrel")
	b.report.atMost("P13", "seconds from start to the first right answer (median)", median(values), 1.5)
	b.report.atMost("P13", "seconds from start to the first right answer (slowest)", slices.Max(values), 1.5)
	return nil
}

// firstAnswer asks every other millisecond until the answer is right.
func firstAnswer(ctx context.Context, p *process, e *endpoint, c call) (time.Duration, error) {
	err := p.until(ctx, func() error {
		_, err := e.once(ctx, c)
		return err
	})
	return time.Since(p.started), err
}
