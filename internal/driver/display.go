package driver

import (
	"context"

	"carrel/internal/ident"
)

// Display is the way to a desktop's screen. It has no objects of its own: a display lives and dies with its machine.
type Display interface {
	// Ready returns once the desktop's screen accepts a viewer, and waits for it while ctx lasts.
	// ErrNotFound: no machine. ErrOrder: the machine does not run. ErrUnavailable: the screen does not come.
	Ready(ctx context.Context, id ident.WorkspaceID) error
}
