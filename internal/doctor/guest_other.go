//go:build !amd64

package doctor

import (
	"errors"
	"runtime"
)

// runGuest has no guest for other processors: what was not tried does not count as working.
func runGuest() error {
	return errors.New("there is no probe guest for " + runtime.GOARCH + " yet")
}
