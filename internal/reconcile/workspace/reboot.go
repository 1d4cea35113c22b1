package workspace

import (
	"context"
	"fmt"

	"carrel/internal/state"
)

// restart reboots the guest once for all reboots asked for so far. The machine counts: asked again, it does nothing.
func (p *planner) restart() step {
	return step{
		Name:   "reboot",
		Needed: func(rec *record) bool { return rec.Status.Reboots < rec.Spec.Reboots },
		Do: func(ctx context.Context, rec *record) (effect, error) {
			count := rec.Spec.Reboots
			if _, err := p.drivers.Hypervisor.Reboot(ctx, rec.ID, count); err != nil {
				return nil, fmt.Errorf("reboot %s: %w", rec.ID, err)
			}
			return func(_ *state.Tx, rec *record) error {
				rec.Status.Reboots = count
				return nil
			}, nil
		},
	}
}

// announceReboot says AVAILABLE, unless another reboot has been asked for meanwhile.
func (p *planner) announceReboot() step {
	return step{
		Name:   "announce",
		Needed: func(rec *record) bool { return rec.Status.Reboots >= rec.Spec.Reboots },
		Do:     p.announce().Do,
	}
}
