package workspace

import (
	"context"
	"time"

	"carrel/internal/reconcile"
	"carrel/internal/state"
)

// chooseIdle is the choice for an AVAILABLE desktop: with AUTO_STOP and nobody connected it stops AutoStopMinutes after it
// became available or was last used, whichever is later.
func (p *planner) chooseIdle(rec *record, now time.Time) reconcile.Choice[record] {
	if rec.Spec.RunningMode != "AUTO_STOP" || rec.Spec.AutoStopMinutes <= 0 || rec.Status.Connection == "CONNECTED" {
		return reconcile.Choice[record]{}
	}
	idle := rec.Status.Since
	if rec.Status.LastUserSeen.After(idle) {
		idle = rec.Status.LastUserSeen
	}
	if due := idle.Add(time.Duration(rec.Spec.AutoStopMinutes) * time.Minute); now.Before(due) {
		return reconcile.Choice[record]{Wake: due}
	}
	return reconcile.Choice[record]{Plan: p.autostop}
}

// idle makes the time that has run out a wish for power off, which the stop plan carries out. It is not taken when
// somebody connects before it is recorded: the choice is made again in the transaction.
func (p *planner) idle() step {
	return step{
		Name: "idle",
		Do: func(context.Context, *record) (effect, error) {
			return func(tx *state.Tx, rec *record) error {
				rec.Spec.Power = state.PowerStopped
				enter(rec, Stopping, tx.Now())
				return nil
			}, nil
		},
	}
}
