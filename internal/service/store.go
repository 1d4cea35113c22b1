package service

import (
	"context"
	"errors"

	"carrel/internal/awserr"
	"carrel/internal/state"
)

// Update runs fn as one transaction of db, and gives what a client is to be told: fn's own error, that there is no room, or, when the
// store is away or others were always faster, that it may try again (503, which the SDKs do by themselves).
// fn may run several times, so what it gives to its caller it must set afresh each time.
func Update(ctx context.Context, db *state.DB, fn func(*state.Tx) error) error {
	_, err := db.Update(ctx, fn)
	return Stored(err)
}

// Stored is what a client is to be told of an error of the store, as Update tells it; nil stays nil.
func Stored(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, state.ErrFull):
		return awserr.Full(err)
	case errors.Is(err, state.ErrUnavailable), errors.Is(err, state.ErrConflict):
		return awserr.New(awserr.Unavailable, "The request has failed due to a temporary failure of the server.").Because(err)
	}
	return awserr.From(err)
}
