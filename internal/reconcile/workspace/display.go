package workspace

import (
	"context"
	"fmt"
)

// display waits until the screen can be shown: a desktop is AVAILABLE when somebody could work with it.
func (p *planner) display() step {
	return step{
		Name: "display",
		Do: func(ctx context.Context, rec *record) (effect, error) {
			if err := p.drivers.Display.Ready(ctx, rec.ID); err != nil {
				return nil, fmt.Errorf("wait for the display of %s: %w", rec.ID, err)
			}
			return nil, nil
		},
	}
}
