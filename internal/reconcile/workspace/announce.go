package workspace

import (
	"context"

	"carrel/internal/state"
)

// announce says AVAILABLE.
func (p *planner) announce() step {
	return step{
		Name: "announce",
		Do: func(context.Context, *record) (effect, error) {
			return func(tx *state.Tx, rec *record) error {
				enter(rec, Available, tx.Now())
				rec.Status.ErrorCode, rec.Status.ErrorMessage = "", ""
				return nil
			}, nil
		},
	}
}
