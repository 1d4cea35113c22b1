package workspace

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"carrel/internal/driver"
	"carrel/internal/ident"
	"carrel/internal/reconcile"
	"carrel/internal/state"
)

func TestDesktopBecomesAvailableInUnderASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.run(nil)
		began := time.Now()
		p.add(subject, "ada")
		p.await(subject, in(Available))
		if took := time.Since(began); took >= time.Second {
			t.Errorf("it took %s", took)
		}
		rec, _ := p.get(subject)
		if s := rec.Status; s.IPAddress == "" || s.SubnetID != testSubnet || s.Host == "" || s.Booted.IsZero() ||
			s.ComputerName != "WSAMZ-"+strings.ToUpper(string(subject[3:])) || len(s.ComputerName) > 15 {
			t.Errorf("status %+v", s)
		}
		_, _, nics := w.lists()
		if g := nics[0].SecurityGroups; len(g) != 1 || g[0] != "sg-0a1b2c3d4e5f60718" {
			t.Errorf("security groups %v, want the directory's members", g)
		}
	})
}

// TestSimulatedDriversMayFail takes a desktop through its whole life with each fault that `carrel simulate fail` knows.
func TestSimulatedDriversMayFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, name := range w.sim.Faults().Names() {
			d, step, _ := strings.Cut(name, " ")
			// Steps of directories and of people are none of a desktop's life.
			if d == "domain" || name == "display connect" {
				continue
			}
			for _, times := range []int{1, 3} {
				t.Log(name, times)
				if err := w.sim.Faults().Fail(d, step, times); err != nil {
					t.Fatal(err)
				}
				id := ident.NewWorkspaceID(rand.Reader)
				p := w.run(nil)
				p.live(id)
				if left := w.sim.Faults().Active(); len(left) != 0 && step != "list" {
					t.Errorf("%v has not struck", left)
				}
				w.sim.Faults().Clear()
				w.wantNothing(p.db, "ada")
				w.wantCertificate(id)
				p.stop()
			}
		}
	})
}

// live is a desktop's life: created, stopped, started, rebooted, terminated.
func (p *process) live(id ident.WorkspaceID) {
	p.add(id, "ada")
	p.await(id, in(Available))
	p.change(id, func(w *state.Workspace) { w.Spec.Power = state.PowerStopped })
	p.await(id, in(Stopped))
	p.change(id, func(w *state.Workspace) { w.Spec.Power = state.PowerRunning })
	p.await(id, in(Available))
	p.change(id, func(w *state.Workspace) { w.Spec.Reboots++ })
	p.await(id, func(w *state.Workspace) bool { return in(Available)(w) && w.Status.Reboots == 1 })
	p.change(id, func(w *state.Workspace) { w.Spec.Power = state.PowerTerminated })
	p.await(id, gone)
}

// What an administrator has to mend is in the record while it is waited for, and nobody has to ask again afterwards.
func TestADesktopThatWaitsForItsHostSaysWhyAndGoesOn(t *testing.T) {
	image := driver.Permanent(driver.CodeImageUnusable, errors.New("image wsi-0a1b2c3d4: disk.qcow2: cut off"))
	for name, c := range map[string]struct {
		err        error
		code, says string
	}{
		"a full disk":                  {fmt.Errorf("create volume: %w", driver.ErrNoSpace), "InsufficientDiskSpace", "disk space"},
		"a full disk, by the kernel":   {&os.PathError{Op: "write", Path: "/secret/path", Err: syscall.ENOSPC}, "InsufficientDiskSpace", "disk space"},
		"an image that cannot be used": {fmt.Errorf("start: %w", image), "ImageUnusable", "wsi-0a1b2c3d4"},
	} {
		for plan, sc := range scenarios() {
			if plan == "terminate" || plan == "autostop" {
				continue // The one never says more than that it is delayed, the other touches nothing.
			}
			t.Run(name+"/"+plan, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { sc[0].waits(t, plan, c.err, c.code, c.says) })
			})
		}
	}
}

func (sc scenario) waits(t *testing.T, plan string, cause error, code, says string) {
	w := newWorld(t)
	p := w.run(nil)
	sc.before(p)
	p.stop()
	var mended atomic.Bool
	p = w.run(func(p *process) {
		for _, pl := range p.rec.plans() {
			for i := range pl.Steps {
				if s := &pl.Steps[i]; pl.Name == plan && s.Name != "begin" {
					do := s.Do
					s.Do = func(ctx context.Context, rec *record) (effect, error) {
						if !mended.Load() {
							return nil, cause
						}
						return do(ctx, rec)
					}
				}
			}
		}
	})
	sc.trigger(p)
	p.await(subject, func(rec *state.Workspace) bool { return rec != nil && rec.Status.Backoff.Attempts > 3 })
	rec, _ := p.get(subject)
	if s := rec.Status; s.ErrorCode != code || !strings.Contains(s.ErrorMessage, says) || strings.Contains(s.ErrorMessage, "/secret") || s.State == Error {
		t.Errorf("while it waits: %+v", s)
	}
	mended.Store(true)
	p.await(subject, sc.ends)
	if rec, _ = p.get(subject); rec.Status.ErrorCode != "" || rec.Status.ErrorMessage != "" {
		t.Errorf("afterwards: %+v", rec.Status)
	}
	w.wantDesktop(rec, sc.machine)
	p.stop()
}

func TestCreateThatCannotSucceedEndsInError(t *testing.T) {
	for _, name := range []string{"hypervisor place", "volumes create", "fabric attach", "hypervisor start", "display ready"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d, step, _ := strings.Cut(name, " ")
				if err := w.sim.Faults().Fail(d, step, 0); err != nil {
					t.Fatal(err)
				}
				p := w.run(nil)
				p.add(subject, "ada")
				p.await(subject, in(Error))
				rec, _ := p.get(subject)
				if rec.Status.ErrorCode != "SimulatedFault" || rec.Status.ErrorMessage == "" {
					t.Errorf("status %+v", rec.Status)
				}
				if err := p.rec.Sweep(t.Context()); err != nil {
					t.Error(err)
				}
				w.sim.Faults().Clear()
				booted := !rec.Status.Booted.IsZero()
				if booted != (name == "display ready") {
					t.Errorf("booted: %t", booted)
				}
				p.change(subject, func(w *state.Workspace) { w.Spec.Power = state.PowerTerminated })
				p.await(subject, gone)
				w.wantNothing(p.db, "ada")
				if !booted {
					if n := len(w.certificates(subject)); n != 0 {
						t.Errorf("%d certificates of memory that never was", n)
					}
					return
				}
				w.wantCertificate(subject)
			})
		})
	}
	t.Run("a directory that is not registered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := w.run(nil)
			p.update(func(tx *state.Tx) error {
				state.Put(tx, state.Directories, &state.Directory{ID: testDirectory})
				return nil
			})
			p.add(subject, "ada")
			p.await(subject, func(w *state.Workspace) bool { return in(Error)(w) && w.Status.ErrorCode == "DirectoryNotRegistered" })
		})
	})
	t.Run("a subnet without a free address, which a later desktop gets once one is given back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := w.run(nil)
			p.update(func(tx *state.Tx) error {
				state.Put(tx, state.Subnets, &state.Subnet{ID: testSubnet, VPCID: testVPC, CIDR: "10.0.1.0/29"})
				return nil
			})
			p.add("ws-000000001", "ada")
			p.add("ws-000000002", "grace")
			p.await("ws-000000001", in(Available))
			p.await("ws-000000002", in(Available))
			p.add("ws-000000003", "alan")
			p.await("ws-000000003", func(w *state.Workspace) bool {
				return in(Error)(w) && w.Status.ErrorCode == "InsufficientFreeAddressesInSubnet"
			})
			p.change("ws-000000001", func(w *state.Workspace) { w.Spec.Power = state.PowerTerminated })
			p.await("ws-000000001", gone)
			p.add("ws-000000004", "barbara")
			p.await("ws-000000004", in(Available))
		})
	})
}

func TestDesktopThatCannotBeScrubbedIsNeverTerminated(t *testing.T) {
	terminate := func(w *state.Workspace) { w.Spec.Power = state.PowerTerminated }
	stuck := func(reason string) func(*state.Workspace) bool {
		return func(w *state.Workspace) bool {
			if w == nil || w.Status.State == Terminated {
				panic("it was terminated")
			}
			return w.Status.Backoff.Attempts >= 12 && strings.Contains(w.Status.Backoff.Error, reason)
		}
	}
	t.Run("memory that does not read back as zero", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := w.run(nil)
			p.add(subject, "ada")
			p.await(subject, in(Available))
			if err := w.sim.Faults().Fail("hypervisor", "zero", 0); err != nil {
				t.Fatal(err)
			}
			p.change(subject, terminate)
			p.await(subject, stuck("not clean"))
			rec, _ := p.get(subject)
			w.wantDesktop(rec, driver.MachineRunning)
			if n := len(w.certificates(subject)); n != 0 || rec.Status.State != Terminating || rec.Status.Certificate != "" {
				t.Errorf("%d certificates, status %+v", n, rec.Status)
			}
			w.sim.Faults().Clear()
			p.await(subject, gone)
			w.wantCertificate(subject)
		})
	})
	t.Run("a machine that its host has lost", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := w.run(nil)
			p.add(subject, "ada")
			p.await(subject, in(Available))
			if lost, err := w.sim.Hypervisor().Lose(subject); !lost || err != nil {
				t.Fatal(lost, err)
			}
			p.change(subject, terminate)
			p.await(subject, stuck("no longer knows the machine"))
			if n := state.CountBy(p.db.Snapshot(), state.Workspaces, state.WorkspacesByUser, state.UserKey(testDirectory, "ada")); n != 1 {
				t.Errorf("its user has %d WorkSpaces", n)
			}
			if n := state.Count(p.db.Snapshot(), state.Interfaces); n != 1 {
				t.Errorf("%d addresses are taken, not its own", n)
			}
		})
	})
	t.Run("a certificate that cannot be signed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := w.run(nil)
			p.add(subject, "ada")
			p.await(subject, in(Available))
			if err := w.log.Close(); err != nil {
				t.Fatal(err)
			}
			p.change(subject, terminate)
			p.await(subject, stuck("already closed"))
			if machines, volumes, nics := w.lists(); len(machines) != 1 || len(volumes) != 2 || len(nics) != 1 {
				t.Error("something was released without a certificate", machines, volumes, nics)
			}
		})
	})
}

func TestAutoStop(t *testing.T) {
	start := func(t *testing.T) (*world, *process) {
		w := newWorld(t)
		p := w.run(nil)
		p.add(subject, "ada")
		p.change(subject, func(w *state.Workspace) { w.Spec.RunningMode, w.Spec.AutoStopMinutes = "AUTO_STOP", 60 })
		p.await(subject, in(Available))
		return w, p
	}
	settled := func(p *process) string {
		time.Sleep(time.Second) // of the bubble
		synctest.Wait()
		rec, _ := p.get(subject)
		return rec.Status.State
	}
	t.Run("a desktop nobody uses stops when the clock is moved by 61 minutes and not before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, p := start(t)
			w.clock.Advance(59 * time.Minute)
			if s := settled(p); s != Available {
				t.Fatalf("after 59 minutes it is %s", s)
			}
			w.clock.Advance(2 * time.Minute)
			if s := settled(p); s != Stopped {
				t.Fatalf("after 61 minutes it is %s", s)
			}
			rec, _ := p.get(subject)
			w.wantDesktop(rec, driver.MachineStopped)
			p.change(subject, func(w *state.Workspace) { w.Spec.Power = state.PowerRunning })
			if s := settled(p); s != Available {
				t.Fatalf("started again it is %s", s)
			}
		})
	})
	t.Run("the time left survives a restart", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, p := start(t)
			w.clock.Advance(40 * time.Minute)
			p.stop()
			w.clock.Advance(21 * time.Minute)
			p = w.run(nil)
			if s := settled(p); s != Stopped {
				t.Fatalf("it is %s", s)
			}
		})
	})
	t.Run("a connected desktop does not stop, a disconnected one does an hour after", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, p := start(t)
			p.change(subject, func(w *state.Workspace) { w.Status.Connection = "CONNECTED" })
			w.clock.Advance(5 * time.Hour)
			if s := settled(p); s != Available {
				t.Fatalf("connected it is %s", s)
			}
			p.change(subject, func(r *state.Workspace) {
				r.Status.Connection, r.Status.LastUserSeen = "DISCONNECTED", w.clock.Now()
			})
			w.clock.Advance(59 * time.Minute)
			if s := settled(p); s != Available {
				t.Fatalf("59 minutes after it is %s", s)
			}
			w.clock.Advance(2 * time.Minute)
			if s := settled(p); s != Stopped {
				t.Fatalf("61 minutes after it is %s", s)
			}
		})
	})
	t.Run("other running modes do not stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, p := start(t)
			p.change(subject, func(w *state.Workspace) { w.Spec.RunningMode = "MANUAL" })
			w.clock.Advance(100 * time.Hour)
			if s := settled(p); s != Available {
				t.Fatalf("it is %s", s)
			}
		})
	})
}

func TestSweep(t *testing.T) {
	t.Run("a desktop without a record is scrubbed, certified and destroyed at the next start", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := w.run(nil)
			p.add(subject, "ada")
			p.await(subject, in(Available))
			p.stop()
			_, err := w.store.Transact(t.Context(), state.Txn{Deletes: []state.Key{{Table: state.WorkspaceTable, ID: string(subject)}}})
			if err != nil {
				t.Fatal(err)
			}
			w.run(nil)
			time.Sleep(time.Second) // of the bubble
			synctest.Wait()
			if machines, volumes, nics := w.lists(); len(machines)+len(volumes)+len(nics) != 0 {
				t.Error("left over", machines, volumes, nics)
			}
			w.wantCertificate(subject)
		})
	})
	t.Run("an orphan whose destruction is cut off anywhere has one certificate in the end", func(t *testing.T) {
		for _, name := range []string{"hypervisor scrub-answer", "volumes erase-answer", "hypervisor release", "hypervisor release-answer", "fabric detach", "volumes release", "volumes release-answer"} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				p := w.run(nil)
				p.add(subject, "ada")
				p.await(subject, in(Available))
				p.stop()
				_, err := w.store.Transact(t.Context(), state.Txn{Deletes: []state.Key{{Table: state.WorkspaceTable, ID: string(subject)}}})
				if err != nil {
					t.Fatal(err)
				}
				d, step, _ := strings.Cut(name, " ")
				if err := w.sim.Faults().Fail(d, step, 1); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					p = w.run(nil)
					time.Sleep(time.Second) // of the bubble
					p.stop()
				}
				if machines, volumes, nics := w.lists(); len(machines)+len(volumes)+len(nics) != 0 {
					t.Error(name, "left over", machines, volumes, nics)
				}
				w.wantCertificate(subject)
			})
		}
	})
	t.Run("an available desktop whose host has lost it is started again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := w.run(nil)
			p.add(subject, "ada")
			p.await(subject, in(Available))
			if lost, err := w.sim.Hypervisor().Lose(subject); !lost || err != nil {
				t.Fatal(lost, err)
			}
			if err := p.rec.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if rec, _ := p.get(subject); rec.Status.State != Unhealthy || rec.Status.ErrorCode != "MachineMissing" {
				t.Errorf("status %+v", rec.Status)
			}
			p.await(subject, in(Available))
			rec, _ := p.get(subject)
			w.wantDesktop(rec, driver.MachineRunning)
		})
	})
	t.Run("desktops that are being made are left alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := w.run(nil)
			for i := range 20 {
				p.add(ident.WorkspaceID(fmt.Sprintf("ws-%09d", i)), fmt.Sprint("user", i))
			}
			for range 40 {
				if err := p.rec.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond) // of the bubble
			}
			for i := range 20 {
				id := ident.WorkspaceID(fmt.Sprintf("ws-%09d", i))
				p.await(id, in(Available))
				if n := len(w.certificates(id)); n != 0 {
					t.Errorf("%s has a certificate", id)
				}
			}
			if machines, volumes, nics := w.lists(); len(machines) != 20 || len(volumes) != 40 || len(nics) != 20 {
				t.Error(len(machines), len(volumes), len(nics))
			}
		})
	})
}

func TestTerminateAtAnyMomentOfACreate(t *testing.T) {
	for after := time.Duration(0); after < 300*time.Millisecond; after += 7 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := w.run(nil)
			p.add(subject, "ada")
			time.Sleep(after) // of the bubble
			p.change(subject, func(w *state.Workspace) { w.Spec.Power, w.Status.State = state.PowerTerminated, Terminating })
			p.await(subject, func(w *state.Workspace) bool {
				if w != nil && w.Status.State == Available {
					t.Error("it was announced although it was to be terminated")
				}
				return w == nil
			})
			w.wantNothing(p.db, "ada")
			if n := len(w.certificates(subject)); n > 1 || n == 0 && after > 250*time.Millisecond {
				t.Errorf("terminated after %s: %d certificates", after, n)
			}
		})
	}
}

func TestARebootAskedForTwiceDuringARebootEndsWithTheCountAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.run(nil)
		p.add(subject, "ada")
		p.await(subject, in(Available))
		p.change(subject, func(w *state.Workspace) { w.Spec.Reboots, w.Status.State = 1, Rebooting })
		time.Sleep(30 * time.Millisecond) // of the bubble: the first reboot is under way
		p.change(subject, func(w *state.Workspace) { w.Spec.Reboots = 2 })
		p.await(subject, func(w *state.Workspace) bool { return in(Available)(w) && w.Status.Reboots == 2 })
		machines, _, _ := w.lists()
		if machines[0].Reboots != 2 {
			t.Errorf("machine %+v", machines[0])
		}
	})
}

func TestBackoffIsKeptInTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if err := w.sim.Faults().Fail("hypervisor", "start", 1000); err != nil {
			t.Fatal(err)
		}
		p := w.run(nil)
		p.add(subject, "ada")
		p.await(subject, func(w *state.Workspace) bool { return w.Status.Backoff.Attempts == 12 })
		rec, _ := p.get(subject)
		b := rec.Status.Backoff
		if rec.Status.State != Pending || b.Step != "create/machine" || b.Error == "" || b.Next.Sub(w.clock.Now()) > 3*time.Minute {
			t.Errorf("status %+v", rec.Status)
		}
		p.stop()
		left := w.sim.Faults().Active()[0].Left
		p = w.run(nil)
		time.Sleep(b.Next.Sub(w.clock.Now()) - time.Second) // of the bubble
		if again := w.sim.Faults().Active()[0].Left; again != left {
			t.Errorf("a restart has hurried: %d attempts before the time", left-again)
		}
		w.sim.Faults().Clear()
		p.await(subject, in(Available))
		if rec, _ := p.get(subject); rec.Status.Backoff != (state.Backoff{}) {
			t.Errorf("backoff is left: %+v", rec.Status.Backoff)
		}
	})
}

func TestLostVolumesAreNotReplacedByEmptyOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.run(nil)
		p.add(subject, "ada")
		p.await(subject, in(Available))
		p.change(subject, func(w *state.Workspace) { w.Spec.Power = state.PowerStopped })
		p.await(subject, in(Stopped))
		ctx, v := context.Background(), w.sim.Volumes()
		id := driver.VolumeOf(subject, driver.UserVolume)
		if _, err := v.Erase(ctx, id); err != nil {
			t.Fatal(err)
		}
		if err := v.Release(ctx, id); err != nil {
			t.Fatal(err)
		}
		p.change(subject, func(w *state.Workspace) { w.Spec.Power = state.PowerRunning })
		p.await(subject, func(w *state.Workspace) bool { return w.Status.State == Starting && w.Status.Backoff.Attempts > 3 })
		if _, volumes, _ := w.lists(); len(volumes) != 1 {
			t.Errorf("volumes %+v", volumes)
		}
	})
}

func TestScrubReportOfAnotherDesktopIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := newPlanner(Config{Drivers: Drivers{Hypervisor: liar{w.sim.Hypervisor()}}})
		if _, _, err := p.scrubbed(t.Context(), subject, true); err == nil || errors.Is(err, driver.ErrNotFound) {
			t.Errorf("error %v", err)
		}
	})
}

// liar is a hypervisor that mixes its machines up.
type liar struct{ driver.Hypervisor }

func (liar) Scrub(context.Context, ident.WorkspaceID) (driver.ScrubReport, error) {
	return driver.ScrubReport{WorkspaceID: "ws-somebodyelse", MemoryBytes: 1, ReadBytes: 1, Sealed: true, Finished: time.Unix(1, 0)}, nil
}

// TestTerminateBetweenAStepAndItsRecordWins asks for the end of the desktop at the one moment at which a step is done and not
// recorded, for every step of a create and a start.
func TestTerminateBetweenAStepAndItsRecordWins(t *testing.T) {
	for _, s := range newPlanner(Config{}).create.Steps {
		t.Run(s.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				asked := false
				var p *process
				ready := make(chan struct{})
				p = w.run(func(p *process) {
					p.observe(func(e reconcile.Event) {
						<-ready
						if !asked && e.Plan == "create" && e.Step == s.Name && e.Phase == reconcile.Done {
							asked = true
							p.change(subject, func(w *state.Workspace) { w.Spec.Power, w.Status.State = state.PowerTerminated, Terminating })
						}
						if rec, ok := p.get(subject); asked && ok && rec.Status.State != Terminating && rec.Status.State != Terminated {
							t.Errorf("it was to be terminated and is %s", rec.Status.State)
						}
					})
				})
				close(ready)
				p.add(subject, "ada")
				p.await(subject, gone)
				if !asked {
					t.Fatal("the moment never came")
				}
				w.wantNothing(p.db, "ada")
			})
		})
	}
}

func TestADesktopThatIsLookedIntoIsStartedAgainLongBeforeTheNextSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.run(nil)
		p.add(subject, "ada")
		p.await(subject, in(Available))
		synctest.Wait() // The first sweep is over.
		if _, err := w.sim.Hypervisor().Lose(subject); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for range 3 {
			p.rec.Look()
		}
		p.await(subject, in(Unhealthy))
		p.await(subject, in(Available))
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
		rec, _ := p.get(subject)
		w.wantDesktop(rec, driver.MachineRunning)
		p.stop()
	})
}
