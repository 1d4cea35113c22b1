package jail

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// outputs are the standard files of a program: its ends and, for what is passed on, ours.
type outputs struct {
	null, stdout, stderr *os.File
	taps                 []*tap
	running              sync.WaitGroup
}

// tap passes on what a program writes, within an allowance, and throws the rest away.
type tap struct {
	from *os.File
	to   io.Writer
	allowance
	discarded atomic.Int64
}

// openOutputs makes a pipe for each writer of the spec; everything else is /dev/null.
func openOutputs(s *Spec, l Limits) (*outputs, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	o := &outputs{null: null, stdout: null, stderr: null}
	for _, w := range []struct {
		to   io.Writer
		slot **os.File
	}{{s.Stdout, &o.stdout}, {s.Stderr, &o.stderr}} {
		if w.to == nil {
			continue
		}
		r, theirs, err := os.Pipe()
		if err != nil {
			o.closeTheirs()
			o.closeMine()
			return nil, err
		}
		*w.slot = theirs
		o.taps = append(o.taps, &tap{from: r, to: w.to, allowance: allowance{left: l.Output, most: l.Output, perSecond: l.OutputPerSecond, now: time.Now}})
	}
	return o, nil
}

func (o *outputs) closeTheirs() {
	for _, f := range []*os.File{o.null, o.stdout, o.stderr} {
		f.Close()
	}
}

func (o *outputs) closeMine() {
	for _, t := range o.taps {
		t.from.Close()
	}
}

func (o *outputs) start() {
	for _, t := range o.taps {
		o.running.Go(t.run)
	}
}

// wait waits until the program's ends are closed and says how much was thrown away.
func (o *outputs) wait() (discarded int64) {
	for _, t := range o.taps {
		// The program is dead, so only what the pipe still holds is to come; whoever it passed its end to must not keep us here.
		_ = t.from.SetReadDeadline(time.Now().Add(drainTime))
	}
	o.running.Wait()
	for _, t := range o.taps {
		discarded += t.discarded.Load()
	}
	return discarded
}

// drainPause is between reads of output that nobody gets: a flood costs the program, which waits for its pipe, and not the host role.
// drainTime is how long the end of the output is waited for when the program is dead.
const (
	drainPause = 10 * time.Millisecond
	drainTime  = 5 * time.Second
)

func (t *tap) run() {
	defer t.from.Close()
	buffer := make([]byte, 32<<10)
	broken := false
	for {
		n, err := t.from.Read(buffer)
		pass := 0
		if !broken {
			pass = t.take(n)
		}
		if pass > 0 {
			// A writer that fails must not stop the reading: the program would hang on a full pipe.
			_, writeErr := t.to.Write(buffer[:pass])
			broken = writeErr != nil
		}
		t.discarded.Add(int64(n - pass))
		if err != nil {
			return // io.EOF, or the pipe is of no use any more.
		}
		if pass < n {
			time.Sleep(drainPause)
		}
	}
}

// allowance is a bucket of bytes that refills.
type allowance struct {
	left, most, perSecond int64
	now                   func() time.Time
	last                  time.Time
}

// take gives how many of n bytes may pass now.
func (a *allowance) take(n int) int {
	if a.perSecond > 0 {
		now := a.now()
		if !a.last.IsZero() {
			gained := int64(min(now.Sub(a.last).Seconds(), float64(a.most)) * float64(a.perSecond))
			a.left = min(a.most, a.left+gained)
		}
		a.last = now
	}
	pass := min(int64(n), a.left)
	a.left -= pass
	return int(pass)
}
