package workspace

import (
	"context"
	"errors"
	"fmt"

	"carrel/internal/driver"
	"carrel/internal/state"
)

// save has the hypervisor save the guest's memory encrypted and give the memory back, scrubbed.
func (p *planner) save() step {
	return step{
		Name: "save",
		Do: func(ctx context.Context, rec *record) (effect, error) {
			_, err := p.drivers.Hypervisor.Stop(ctx, rec.ID)
			if errors.Is(err, driver.ErrNotFound) {
				// What never ran (a WorkSpace in ERROR) or is gone from its host does not run: the next start makes it anew.
				return nil, nil
			}
			if err != nil {
				return nil, fmt.Errorf("stop %s: %w", rec.ID, err)
			}
			return nil, nil
		},
	}
}

// announceStopped says STOPPED.
func (p *planner) announceStopped() step {
	return step{
		Name: "announce",
		Do: func(context.Context, *record) (effect, error) {
			return func(tx *state.Tx, rec *record) error {
				enter(rec, Stopped, tx.Now())
				rec.Status.ErrorCode, rec.Status.ErrorMessage = "", ""
				return nil
			}, nil
		},
	}
}
