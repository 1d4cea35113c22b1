package workspace

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"carrel/internal/driver"
	"carrel/internal/ident"
	"carrel/internal/reconcile"
	"carrel/internal/state"
)

const subject = ident.WorkspaceID("ws-f9abcdefg")

// scenario brings a desktop to where a plan begins, makes the plan the thing to do, and says how it must end.
type scenario struct {
	// before runs without faults.
	before func(p *process)
	// trigger asks for the plan.
	trigger func(p *process)
	ends    func(*state.Workspace) bool
	machine driver.MachineState
}

func scenarios() map[string][]scenario {
	running := func(p *process) {
		p.add(subject, "ada")
		p.await(subject, in(Available))
	}
	stopped := func(p *process) {
		running(p)
		p.change(subject, func(w *state.Workspace) { w.Spec.Power = state.PowerStopped })
		p.await(subject, in(Stopped))
	}
	// neverRan ends its create in ERROR before anything exists and is stopped then: its start has everything still to do.
	neverRan := func(p *process) {
		if err := p.world.sim.Faults().Fail("hypervisor", "place", 0); err != nil {
			p.world.t.Fatal(err)
		}
		p.add(subject, "ada")
		p.await(subject, in(Error))
		p.world.sim.Faults().Clear()
		p.change(subject, func(w *state.Workspace) { w.Spec.Power = state.PowerStopped })
		p.await(subject, in(Stopped))
	}
	power := func(to state.Power) func(*process) {
		return func(p *process) { p.change(subject, func(w *state.Workspace) { w.Spec.Power = to }) }
	}
	return map[string][]scenario{
		"create": {{func(*process) {}, func(p *process) { p.add(subject, "ada") }, in(Available), driver.MachineRunning}},
		"start": {{stopped, power(state.PowerRunning), in(Available), driver.MachineRunning},
			{neverRan, power(state.PowerRunning), in(Available), driver.MachineRunning}},
		"stop": {{running, power(state.PowerStopped), in(Stopped), driver.MachineStopped}},
		"reboot": {{running, func(p *process) { p.change(subject, func(w *state.Workspace) { w.Spec.Reboots++ }) },
			func(w *state.Workspace) bool { return in(Available)(w) && w.Status.Reboots == 1 }, driver.MachineRunning}},
		"recover": {{running, func(p *process) {
			if _, err := p.world.sim.Hypervisor().Lose(subject); err != nil {
				p.world.t.Fatal(err)
			}
			p.change(subject, func(w *state.Workspace) { w.Status.State = Unhealthy })
		}, in(Available), driver.MachineRunning}},
		"autostop": {{running, func(p *process) {
			p.world.clock.Advance(61 * time.Minute)
			p.change(subject, func(w *state.Workspace) { w.Spec.RunningMode, w.Spec.AutoStopMinutes = "AUTO_STOP", 60 })
		}, in(Stopped), driver.MachineStopped}},
		"terminate": {{running, power(state.PowerTerminated), gone, ""}, {stopped, power(state.PowerTerminated), gone, ""}},
	}
}

// fault is a way in which a step can go wrong.
type fault struct {
	name string
	// before and after make that many calls of Do fail, before or after its effect.
	before, after int
	// crash kills the process in that phase of the step.
	crash reconcile.Phase
}

func faults() []fault {
	return []fault{
		{name: "fails once", before: 1},
		{name: "fails three times", before: 3},
		{name: "happens but its answer is lost three times", after: 3},
		{name: "is cut off by a crash before it begins", crash: reconcile.Began},
		{name: "is cut off by a crash before it is recorded", crash: reconcile.Done},
		{name: "is followed by a crash once it is recorded", crash: reconcile.Recorded},
	}
}

// inject puts the fault into a step of the process's plans and counts how often it strikes.
func (f fault) inject(p *process, plan, step string) *int {
	struck := new(int)
	for _, pl := range p.rec.plans() {
		for i := range pl.Steps {
			if s := &pl.Steps[i]; pl.Name == plan && s.Name == step && f.crash == "" {
				f.wrap(s, struck)
			}
		}
	}
	if f.crash != "" {
		p.observe(func(e reconcile.Event) {
			if e.Plan == plan && e.Step == step && e.Phase == f.crash {
				*struck++
				p.kill()
			}
		})
	}
	return struck
}

func (f fault) wrap(s *step, struck *int) {
	do, before, after := s.Do, f.before, f.after
	failed := errors.New("told to fail")
	s.Do = func(ctx context.Context, rec *record) (effect, error) {
		if before > 0 {
			before, *struck = before-1, *struck+1
			return nil, failed
		}
		e, err := do(ctx, rec)
		if after > 0 && err == nil {
			after, *struck = after-1, *struck+1
			return nil, failed
		}
		return e, err
	}
}

// TestEveryStepOfEveryPlanMayFail is the shape of figure R5: whatever step goes wrong however, the desktop ends as it should be, the drivers hold
// nothing that no record stands for, and a terminated desktop has exactly one certificate. The steps come from the plans themselves.
func TestEveryStepOfEveryPlanMayFail(t *testing.T) {
	all := scenarios()
	for _, pl := range newPlanner(Config{}).plans() {
		if len(all[pl.Name]) == 0 {
			t.Errorf("plan %s has no scenario", pl.Name)
			continue
		}
		for _, s := range pl.Steps {
			for _, f := range faults() {
				t.Run(fmt.Sprintf("%s/%s/%s", pl.Name, s.Name, f.name), func(t *testing.T) {
					struck := 0
					for _, sc := range all[pl.Name] {
						synctest.Test(t, func(t *testing.T) { struck += sc.play(t, f, pl.Name, s.Name) })
					}
					if struck == 0 {
						t.Fatal("the fault never struck")
					}
				})
			}
		}
	}
}

// play gives how often the fault struck.
func (sc scenario) play(t *testing.T, f fault, plan, step string) int {
	w := newWorld(t)
	p := w.run(nil)
	sc.before(p)
	p.stop()

	var struck *int
	p = w.run(func(p *process) { struck = f.inject(p, plan, step) })
	sc.trigger(p)
	if !p.await(subject, sc.ends) {
		p.done.Wait()
		w.close()
		w.open()
		p = w.run(nil)
		p.await(subject, sc.ends)
	}
	// The step after the last record may still be due to crash.
	synctest.Wait()
	if p.ctx.Err() != nil {
		p.done.Wait()
		p = w.run(nil)
	}
	if err := p.rec.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if rec, ok := p.get(subject); ok {
		w.wantDesktop(rec, sc.machine)
		if sc.machine == driver.MachineRunning && rec.Status.Backoff != (state.Backoff{}) {
			t.Errorf("backoff is left: %+v", rec.Status.Backoff)
		}
		if n := len(w.certificates(subject)); n != 0 {
			t.Errorf("%d certificates of a desktop that exists", n)
		}
		p.change(subject, func(w *state.Workspace) { w.Spec.Power = state.PowerTerminated })
		p.await(subject, gone)
	}
	w.wantNothing(p.db, "ada")
	w.wantCertificate(subject)
	if err := p.db.CheckShared(t.Context()); err != nil {
		t.Error(err)
	}
	p.stop()
	return *struck
}
