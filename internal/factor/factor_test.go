package factor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"carrel/internal/clock"
	"carrel/internal/state"
	"carrel/internal/state/memory"
	"carrel/internal/state/statetest"
	"carrel/internal/totp"
)

const (
	ada    = "AIDAADAADAADAADAADAAD"
	serial = "arn:aws:iam::123456789012:mfa/ada"
)

// world is one device of ada's, and a clock that stands where the test sets it.
type world struct {
	t    *testing.T
	db   *state.DB
	seed []byte
	now  time.Time
}

// Now is the time; what waits waits on the machine's clock.
func (w *world) Now() time.Time                                   { return w.now }
func (w *world) After(d time.Duration) (<-chan time.Time, func()) { return clock.System{}.After(d) }

func open(t *testing.T) *world {
	t.Helper()
	text := "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	w := &world{t: t, now: time.Unix(1_700_000_010, 0)}
	w.seed, _ = totp.Seed(text)
	w.db = statetest.OpenDB(t, memory.New(), w)
	w.put(&state.MFADevice{Serial: serial, Name: "ada", Path: "/", Seed: state.Secret(text), UserID: ada, Enabled: w.now})
	return w
}

func (w *world) put(d *state.MFADevice) {
	w.t.Helper()
	if _, err := w.db.Update(w.t.Context(), func(tx *state.Tx) error { state.Put(tx, state.MFADevices, d); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) device() *state.MFADevice {
	w.t.Helper()
	d, ok := state.Get(w.db.Snapshot(), state.MFADevices, serial)
	if !ok {
		w.t.Fatal("the device is gone")
	}
	return state.Clone(d)
}

// code is the code that is so many steps from now, by the device's clock when it goes right.
func (w *world) code(steps int64) string { return totp.Code(w.seed, totp.Step(w.now)+steps) }

func (w *world) pair(steps int64) Pair { return Pair{w.code(steps), w.code(steps + 1)} }

func (w *world) wrong() string {
	for i := 0; ; i++ {
		code := fmt.Sprintf("%06d", i)
		if _, right := totp.Find(w.seed, code, totp.Step(w.now)-5, totp.Step(w.now)+5); !right {
			return code
		}
	}
}

func (w *world) take(code string) error { return Take(w.t.Context(), w.db, ada, serial, code) }

func (w *world) want(err, want error) {
	w.t.Helper()
	if !errors.Is(err, want) || (want == nil && err != nil) || (want == ErrCode && errors.Is(err, ErrGuessed)) {
		w.t.Errorf("%v, want %v", err, want)
	}
}

func TestACodeIsTakenInItsWindow(t *testing.T) {
	for steps, want := range map[int64]error{-2: ErrCode, -1: nil, 0: nil, 1: nil, 2: ErrCode} {
		t.Run(fmt.Sprint("MFA-3 a code of step ", steps), func(t *testing.T) {
			w := open(t)
			w.want(w.take(w.code(steps)), want)
		})
	}
	t.Run("the window goes with a device whose clock is off", func(t *testing.T) {
		w := open(t)
		d := w.device()
		d.Drift = 7
		w.put(d)
		w.want(w.take(w.code(0)), ErrCode)
		w.want(w.take(w.code(5)), ErrCode)
		w.want(w.take(w.code(6)), nil)
		w.want(w.take(w.code(8)), nil)
	})
}

func TestACodeIsTakenOnce(t *testing.T) {
	t.Run("MFA-3 the same step again", func(t *testing.T) {
		w := open(t)
		w.want(w.take(w.code(0)), nil)
		w.want(w.take(w.code(0)), ErrCode)
		w.now = w.now.Add(totp.Period)
		w.want(w.take(w.code(-1)), ErrCode)
		w.want(w.take(w.code(0)), nil)
	})
	t.Run("MFA-3 an earlier step after a later one", func(t *testing.T) {
		w := open(t)
		w.want(w.take(w.code(1)), nil)
		w.want(w.take(w.code(-1)), ErrCode)
		w.want(w.take(w.code(0)), ErrCode)
	})
	t.Run("a code that was used before is no guess", func(t *testing.T) {
		w := open(t)
		w.want(w.take(w.code(0)), nil)
		for range 3 * budget {
			w.want(w.take(w.code(0)), ErrCode)
		}
		w.want(w.take(w.code(1)), nil)
	})
	t.Run("MFA-3 the clock jumps back", func(t *testing.T) {
		w := open(t)
		w.want(w.take(w.code(0)), nil)
		w.now = w.now.Add(-time.Hour)
		w.want(w.take(w.code(0)), ErrCode)
		w.now = w.now.Add(time.Hour + totp.Period)
		w.want(w.take(w.code(0)), nil)
	})
	t.Run("MFA-3 of many at once one wins", func(t *testing.T) {
		w := open(t)
		code := w.code(0)
		const at = 16
		results := make([]error, at)
		var all sync.WaitGroup
		for i := range at {
			all.Go(func() { results[i] = w.take(code) })
		}
		all.Wait()
		won := 0
		for _, err := range results {
			if err == nil {
				won++
			} else {
				w.want(err, ErrCode)
			}
		}
		if won != 1 {
			t.Errorf("%d calls were let through with one code", won)
		}
	})
}

func TestGuessesAreBounded(t *testing.T) {
	w := open(t)
	for range budget {
		w.want(w.take(w.wrong()), ErrCode)
	}
	t.Run("MFA-3 after too many wrong codes the right one is refused too, and is not spent", func(t *testing.T) {
		before := w.device()
		w.want(w.take(w.code(0)), ErrGuessed)
		if after := w.device(); after.Step != before.Step || after.Revision != before.Revision {
			t.Errorf("%+v", after)
		}
	})
	t.Run("one wrong code is forgiven in a while", func(t *testing.T) {
		w.now = w.now.Add(pause)
		w.want(w.take(w.wrong()), ErrCode)
		w.want(w.take(w.code(0)), ErrGuessed)
		w.now = w.now.Add(pause)
		w.want(w.take(w.code(0)), nil)
	})
	t.Run("a code that is right does not give new guesses", func(t *testing.T) {
		w.want(w.take(w.wrong()), ErrCode)
		w.want(w.take(w.code(1)), ErrGuessed)
	})
	t.Run("all are forgiven at last, and no more than all", func(t *testing.T) {
		w.now = w.now.Add(1000 * pause)
		for range budget {
			w.want(w.take(w.wrong()), ErrCode)
		}
		w.want(w.take(w.wrong()), ErrGuessed)
	})
	t.Run("guesses at resynchronisation count as well", func(t *testing.T) {
		w := open(t)
		for range budget {
			w.want(Resync(t.Context(), w.db, Device{ada, serial}, Pair{w.wrong(), w.code(1)}), ErrCode)
		}
		w.want(Resync(t.Context(), w.db, Device{ada, serial}, w.pair(0)), ErrGuessed)
	})
}

func TestADeviceIsItsOwnersOnly(t *testing.T) {
	w := open(t)
	ctx := t.Context()
	w.want(Take(ctx, w.db, "AIDABOB", serial, w.code(0)), ErrDevice)
	w.want(Take(ctx, w.db, state.RootDevice, serial, w.code(0)), ErrDevice)
	w.want(Take(ctx, w.db, ada, serial+"x", w.code(0)), ErrDevice)
	w.want(Take(ctx, w.db, ada, "", w.code(0)), ErrDevice)
	w.want(Resync(ctx, w.db, Device{"AIDABOB", serial}, w.pair(0)), ErrDevice)
	d := w.device()
	d.UserID = ""
	w.put(d)
	w.want(Take(ctx, w.db, "", serial, w.code(0)), ErrDevice)
	w.want(w.take(w.code(0)), ErrDevice)
	d = w.device()
	d.UserID = state.RootDevice
	w.put(d)
	w.want(Take(ctx, w.db, state.RootDevice, serial, w.code(0)), nil)
}

func TestEnablingWantsTwoCodesInARow(t *testing.T) {
	for _, c := range []struct {
		name  string
		pair  func(*world) Pair
		err   error
		drift int64
	}{
		{"the last one and this one", func(w *world) Pair { return w.pair(-1) }, nil, 0},
		{"this one and the next", func(w *world) Pair { return w.pair(0) }, nil, 0},
		{"two of a clock that is ahead", func(w *world) Pair { return w.pair(5) }, nil, 6},
		{"two of a clock that is behind", func(w *world) Pair { return w.pair(-10) }, nil, -9},
		{"two that are too old", func(w *world) Pair { return w.pair(-enableWindow - 1) }, ErrCode, 0},
		{"one twice", func(w *world) Pair { return Pair{w.code(0), w.code(0)} }, ErrCode, 0},
		{"the wrong way round", func(w *world) Pair { return Pair{w.code(1), w.code(0)} }, ErrCode, 0},
		{"a wrong second", func(w *world) Pair { return Pair{w.code(0), w.wrong()} }, ErrCode, 0},
		{"a wrong first", func(w *world) Pair { return Pair{w.wrong(), w.code(1)} }, ErrCode, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := open(t)
			d := w.device()
			pair := c.pair(w)
			w.want(Enable(d, pair, w.now), c.err)
			if d.Drift != c.drift || (d.Step == 0) != (c.err != nil) {
				t.Errorf("drift %d, step %d", d.Drift, d.Step)
			}
			if c.err != nil {
				return
			}
			t.Run("MFA-3 neither opens anything afterwards", func(t *testing.T) {
				w.put(d)
				w.want(w.take(pair.First), ErrCode)
				w.want(w.take(pair.Second), ErrCode)
				w.want(Enable(w.device(), pair, w.now), ErrCode)
				w.now = w.now.Add(totp.Period)
				w.want(w.take(totp.Code(w.seed, d.Step+1)), nil)
			})
		})
	}
}

func TestResynchronisationLearnsTheClock(t *testing.T) {
	w := open(t)
	resync := func(p Pair) error { return Resync(t.Context(), w.db, Device{ada, serial}, p) }
	w.want(resync(w.pair(100)), nil)
	if d := w.device(); d.Drift != 101 {
		t.Errorf("drift %d", d.Drift)
	}
	w.now = w.now.Add(totp.Period)
	w.want(w.take(w.code(0)), ErrCode)
	w.want(w.take(w.code(101)), nil)
	t.Run("MFA-3 two old codes do not put it out of step", func(t *testing.T) {
		w.want(resync(w.pair(-100)), ErrCode)
		w.want(resync(w.pair(99)), ErrCode)
		if d := w.device(); d.Drift != 101 {
			t.Errorf("drift %d", d.Drift)
		}
	})
	t.Run("a clock that goes right again", func(t *testing.T) {
		w.now = w.now.Add(time.Hour)
		w.want(resync(w.pair(0)), nil)
		if d := w.device(); d.Drift != 0 {
			t.Errorf("drift %d", d.Drift)
		}
	})
	w.want(resync(w.pair(resyncWindow+1)), ErrCode)
}

func TestAFaultIsNeverALetThrough(t *testing.T) {
	t.Run("a seed that cannot be read", func(t *testing.T) {
		w := open(t)
		d := w.device()
		d.Seed = ""
		w.put(d)
		for _, err := range []error{w.take(totp.Code(nil, totp.Step(w.now))), Enable(d, w.pair(0), w.now)} {
			if err == nil || errors.Is(err, ErrCode) {
				t.Error(err)
			}
		}
	})
	t.Run("a store that is away", func(t *testing.T) {
		w := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Take(ctx, w.db, ada, serial, w.code(0)); err == nil || errors.Is(err, ErrCode) || errors.Is(err, ErrDevice) {
			t.Error(err)
		}
	})
}
