package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"carrel/internal/driver"
)

// steps lists what can be told to fail, in the order in which it is shown. Every step that changes something can also
// fail with its answer: the effect happens, the caller does not learn of it.
func steps() []struct {
	driver  string
	changes []string
	reads   []string
} {
	return []struct {
		driver  string
		changes []string
		reads   []string
	}{
		// "zero" is not a call: it is the zeroing inside scrub and stop that does not stick, so that the read-back finds it.
		{"hypervisor", []string{"start", "stop", "reboot", "scrub", "release"}, []string{"place", "inspect", "list", "zero"}},
		{"volumes", []string{"create", "erase", "release"}, []string{"list"}},
		{"fabric", []string{"attach", "detach"}, []string{"list"}},
		{"display", nil, []string{"ready", "connect"}},
		{"domain", []string{"provision", "remove"}, []string{"inspect", "list", "lookup", "authenticate", "create-user", "set-password", "delete-user", "list-users"}},
	}
}

// Fault is something that will fail.
type Fault struct {
	Driver, Step string
	// Left is how many times it still fails; 0: always, with a driver.PermanentError.
	Left int
}

// Faults tells a simulation what shall fail.
type Faults struct {
	mu     sync.Mutex
	active map[string]int
}

func newFaults() *Faults { return &Faults{active: map[string]int{}} }

// Names lists what can be told to fail: "hypervisor start".
func (*Faults) Names() []string {
	var out []string
	for _, d := range steps() {
		for _, c := range d.changes {
			out = append(out, d.driver+" "+c, d.driver+" "+c+"-answer")
		}
		for _, r := range d.reads {
			out = append(out, d.driver+" "+r)
		}
	}
	return out
}

// Fail makes a step fail the next times it is taken (driver.ErrUnavailable), or with times 0 always and permanently
// (driver.PermanentError, so that a create ends in ERROR) until Clear. A name that is not in Names is refused with the list.
func (f *Faults) Fail(driverName, step string, times int) error {
	if times < 0 {
		return fmt.Errorf("fail %s %s %d times: want 0 (always) or more", driverName, step, times)
	}
	name := driverName + " " + step
	if names := f.Names(); !slices.Contains(names, name) {
		return fmt.Errorf("there is no step %q to fail; there are: %s", name, strings.Join(names, ", "))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active[name] = times
	return nil
}

// Clear ends all faults.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.active)
}

// Active lists the faults that have not struck often enough yet, in order of name.
func (f *Faults) Active() []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Fault, 0, len(f.active))
	for name, left := range f.active {
		d, step, _ := strings.Cut(name, " ")
		out = append(out, Fault{Driver: d, Step: step, Left: left})
	}
	slices.SortFunc(out, func(a, b Fault) int { return strings.Compare(a.Driver+" "+a.Step, b.Driver+" "+b.Step) })
	return out
}

// strike gives the error of a fault of this step, if there is one, and counts it.
func (f *Faults) strike(driverName, step string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := driverName + " " + step
	left, told := f.active[name]
	switch {
	case !told:
		return nil
	case left == 0:
		return driver.Permanent("SimulatedFault", errors.New("simulated "+name+" was told to fail"))
	case left == 1:
		delete(f.active, name)
	default:
		f.active[name] = left - 1
	}
	return fmt.Errorf("simulated %s was told to fail: %w", name, driver.ErrUnavailable)
}
