package workspace

import (
	"context"
	"errors"
	"fmt"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// scrub has the hypervisor zero the desktop's memory and read it back. Nothing after it happens before it has succeeded.
func (p *planner) scrub() step {
	return step{
		Name:   "scrub",
		Needed: uncertified,
		Do: func(ctx context.Context, rec *record) (effect, error) {
			_, _, err := p.scrubbed(ctx, rec.ID, !rec.Status.Booted.IsZero())
			return nil, err
		},
	}
}

func uncertified(rec *record) bool { return rec.Status.Certificate == "" }

// scrubbed gives the clean report of a desktop's scrub; none (and no error) for a desktop that never held memory. One that did
// and that the hypervisor no longer knows is an error for good: there is nothing left that could prove where its memory went.
func (p *planner) scrubbed(ctx context.Context, id ident.WorkspaceID, booted bool) (report driver.ScrubReport, some bool, err error) {
	report, err = p.drivers.Hypervisor.Scrub(ctx, id)
	switch {
	case errors.Is(err, driver.ErrNotFound) && !booted:
		return driver.ScrubReport{}, false, nil
	case errors.Is(err, driver.ErrNotFound):
		return driver.ScrubReport{}, false, fmt.Errorf("scrub %s: the hypervisor no longer knows the machine, so its memory cannot be certified: %w", id, err)
	case err != nil:
		return driver.ScrubReport{}, false, fmt.Errorf("scrub %s: %w", id, err)
	}
	if report.WorkspaceID != id {
		return driver.ScrubReport{}, false, fmt.Errorf("scrub %s: the report is about %q", id, report.WorkspaceID)
	}
	if err := report.Clean(); err != nil {
		return driver.ScrubReport{}, false, fmt.Errorf("scrub %s: %w", id, err)
	}
	return report, true, nil
}
