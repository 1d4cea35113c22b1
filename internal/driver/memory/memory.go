// Package memory holds the memory of machines from allocation to evidence: blocks that a machine maps by descriptor, the keeper process
// that holds them across crashes, templates, encrypted saved memory, and the scrub, which proves that nothing is left.
//
// It refuses to give memory back that was not read back as zero after it was sealed against writing, to touch a process whose start time
// is not the noted one, and to hand out a byte of saved memory that was not authenticated. It starts no machine and knows no QMP.
//
// The keeper is this same binary under another name: KeeperMain must be the first thing that main (and TestMain of a package that
// allocates memory) does. It must outlive the host role, so a supervisor has to leave it alone when it stops the role (systemd:
// KillMode=process); it ends only when told to and empty.
package memory

import (
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"sync"
	"sync/atomic"

	"carrel/internal/driver"
)

// ErrLost: the memory was given back to the kernel before it could be zeroed, because the keeper, the host role and the machine all ended
// (or the host was restarted). Nothing can be read back, so nothing can be certified; it wraps driver.ErrUnclean.
var ErrLost = fmt.Errorf("%w: it went back to the kernel before it could be zeroed", driver.ErrUnclean)

// errDirty is the keeper's refusal to let a block go.
var errDirty = fmt.Errorf("%w: the keeper refuses to let it go", driver.ErrUnclean)

var idForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// checkID refuses what could not be a file name: ids name files in the run directory.
func checkID(id string) error {
	if !idForm.MatchString(id) {
		return fmt.Errorf("memory id %.80q: want up to 63 of a-z, 0-9 and -, the first a letter or digit", id)
	}
	return nil
}

// workers is how many processors a pass over memory may use.
func workers() int { return max(1, runtime.GOMAXPROCS(0)) }

// pieces calls do for every piece of [0, size), several at once, and gives the first errors. A piece bounds how long a processor is away from
// the scheduler (clear cannot be preempted) and how late a cancelled pass ends. do is called with the number of its piece.
func pieces(size, piece int64, do func(n, from, to int64) error) error {
	var next atomic.Int64
	var failed atomic.Bool
	var wg sync.WaitGroup
	errs := make([]error, workers())
	for w := range errs {
		wg.Go(func() {
			for !failed.Load() {
				n := next.Add(1) - 1
				from := n * piece
				if from >= size {
					return
				}
				if err := do(n, from, min(from+piece, size)); err != nil {
					errs[w] = err
					failed.Store(true)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
