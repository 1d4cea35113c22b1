// Package factor takes the codes of MFA devices: it says whether a code is of the device, and sees to it that each is taken once.
//
// It refuses to know who may use a device for what, and in which words a service refuses a code: those are IAM's and STS's.
package factor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/totp"
)

// The refusals. The caller of a service is told the same of each kind of ErrCode.
var (
	// ErrDevice: there is no such device, or it is somebody else's.
	ErrDevice = errors.New("factor: the device is not the caller's")
	// ErrCode: the code is not the device's of this time, or it was taken before.
	ErrCode = errors.New("factor: the code is not valid")
	// ErrGuessed, which is an ErrCode: too many wrong codes were shown for the device, so that none is taken for a while.
	ErrGuessed = fmt.Errorf("%w: too many wrong ones", ErrCode)
)

const (
	// window is how many steps a code may be early or late (RFC 6238, section 5.2, and AWS's own one step).
	window = 1
	// enableWindow and resyncWindow are how far a clock may be off when two codes in a row are shown: five minutes at first, half a day later.
	enableWindow, resyncWindow = 10, 1440

	// Wrong codes are forgiven one by one. Who knows a person's key guesses at most budget and then one code per pause: with three codes that are
	// right at any time, that is a chance of less than one in a thousand a day.
	budget = 10
	pause  = 5 * time.Minute
)

// Take checks a code that userID (a user's unique id, or state.RootDevice) shows for the device of that serial number, and marks it as taken. Of
// two calls with one code only one succeeds, on whatever node they are made. Errors: ErrDevice, ErrCode; those of the store are as
// service.Update gives them, and mean that the code is not accepted.
func Take(ctx context.Context, db *state.DB, userID, serial, code string) error {
	return attempt(ctx, db, userID, serial, func(d *state.MFADevice, seed []byte, now int64) (int64, bool) {
		at := now + d.Drift
		return totp.Find(seed, code, at-window, at+window)
	})
}

// Device names a device and whose it is.
type Device struct{ UserID, Serial string }

// Pair is two codes in a row.
type Pair struct{ First, Second string }

// Resync checks two codes in a row of somebody's device, and learns from them how far its clock is off. Two that were taken before, or are older
// than one that was, say nothing: who has seen them could put the device out of step. Errors are as of Take.
func Resync(ctx context.Context, db *state.DB, device Device, pair Pair) error {
	return attempt(ctx, db, device.UserID, device.Serial, func(d *state.MFADevice, seed []byte, now int64) (int64, bool) {
		return align(d, seed, pair, around{now, resyncWindow})
	})
}

// Enable checks the two codes that give a device to a user. d is the caller's own clone, which it stores when there is no error; else the error is
// ErrCode.
func Enable(d *state.MFADevice, pair Pair, now time.Time) error {
	seed, err := totp.Seed(d.Seed.Reveal())
	if err != nil {
		return fmt.Errorf("factor: device %s: %w", d.Serial, err)
	}
	step, ok := align(d, seed, pair, around{totp.Step(now), enableWindow})
	if !ok || step <= d.Step {
		return ErrCode
	}
	d.Step = step
	return nil
}

// around is a time step and how many steps before and after it are looked at.
type around struct{ now, window int64 }

// align finds the step of the second code of a pair, and sets how far the device's clock is off if that step is a new one.
func align(d *state.MFADevice, seed []byte, pair Pair, a around) (int64, bool) {
	step, ok := totp.FindPair(seed, [2]string{pair.First, pair.Second}, a.now-a.window, a.now+a.window)
	if !ok {
		return 0, false
	}
	step++
	if step > d.Step {
		d.Drift = step - a.now
		if d.Drift >= -window && d.Drift <= window {
			d.Drift = 0 // as well the time that typing took
		}
	}
	return step, true
}

// attempt is one try at a device: find says which step the code belongs to. What comes of it is stored in any case, a wrong code too, or guessing
// would be free; so it cannot be part of a caller's transaction, which is undone when the caller refuses.
func attempt(ctx context.Context, db *state.DB, userID, serial string, find func(d *state.MFADevice, seed []byte, now int64) (int64, bool)) error {
	var refusal error
	err := service.Update(ctx, db, func(tx *state.Tx) error {
		refusal = nil
		old, ok := state.Get(tx, state.MFADevices, serial)
		if !ok || userID == "" || old.UserID != userID {
			refusal = ErrDevice
			return nil
		}
		d, now := state.Clone(old), tx.Now()
		seed, err := totp.Seed(d.Seed.Reveal())
		if err != nil {
			return fmt.Errorf("factor: device %s: %w", serial, err)
		}
		if d.Guessed.Sub(now) > (budget-1)*pause {
			refusal = ErrGuessed
			return nil
		}
		switch step, ok := find(d, seed, totp.Step(now)); {
		case ok && step > d.Step:
			d.Step = step
		case ok:
			refusal = ErrCode // used before: no guess, and nothing to store
			return nil
		default:
			refusal = ErrCode
			if d.Guessed.Before(now) {
				d.Guessed = now
			}
			d.Guessed = d.Guessed.Add(pause)
		}
		state.Put(tx, state.MFADevices, d)
		return nil
	})
	if err != nil {
		return err
	}
	return refusal
}
