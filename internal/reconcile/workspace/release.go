package workspace

import (
	"context"
	"fmt"

	"carrel/internal/reconcile/network"
	"carrel/internal/state"
)

// release has the hypervisor forget the machine. The driver refuses unless it is scrubbed.
func (p *planner) release() step {
	return step{
		Name: "release-machine",
		Do: func(ctx context.Context, rec *record) (effect, error) {
			if err := p.drivers.Hypervisor.Release(ctx, rec.ID); err != nil {
				return nil, fmt.Errorf("release machine %s: %w", rec.ID, err)
			}
			return nil, nil
		},
	}
}

// detach takes the desktop off its subnet.
func (p *planner) detach() step {
	return step{
		Name:   "detach",
		Needed: func(rec *record) bool { return rec.Status.Interface != "" },
		Do: func(ctx context.Context, rec *record) (effect, error) {
			if err := p.drivers.Fabric.Detach(ctx, rec.Status.Interface); err != nil {
				return nil, fmt.Errorf("detach %s of %s: %w", rec.Status.Interface, rec.ID, err)
			}
			return nil, nil
		},
	}
}

// announceTerminated says TERMINATED: nothing of the desktop exists any more.
func (p *planner) announceTerminated() step {
	return step{
		Name:   "announce",
		Needed: func(rec *record) bool { return rec.Status.State != Terminated },
		Do: func(context.Context, *record) (effect, error) {
			return func(tx *state.Tx, rec *record) error {
				enter(rec, Terminated, tx.Now())
				return nil
			}, nil
		},
	}
}

// forget deletes the record and with it, in one transaction, gives the address back. Its user and its computer name are free by that alone:
// they are looked up among the records.
func (p *planner) forget() step {
	return step{
		Name: "forget",
		Ends: true,
		Do: func(_ context.Context, rec *record) (effect, error) {
			p.certify.forget(rec.ID)
			return func(tx *state.Tx, rec *record) error {
				network.Free(tx, rec.Status.SubnetID, rec.Status.IPAddress, rec.Status.Interface)
				return nil
			}, nil
		},
	}
}
