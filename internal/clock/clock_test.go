package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

func fired(c <-chan time.Time) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestMovableRunsWithTheMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Movable
		begin := m.Now()
		c, stop := m.After(time.Minute)
		defer stop()
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		if fired(c) {
			t.Error("woken too early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !fired(c) || m.Now().Sub(begin) != time.Minute {
			t.Errorf("after a minute: %v", m.Now().Sub(begin))
		}
	})
}

func TestAdvanceWakesWhoseTimeHasComeAndNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Movable
		begin := m.Now()
		soon, stopSoon := m.After(time.Minute)
		late, stopLate := m.After(time.Hour)
		gone, stopGone := m.After(time.Minute)
		defer stopSoon()
		defer stopLate()
		stopGone()
		stopGone()
		m.Advance(20 * time.Minute)
		synctest.Wait()
		if !fired(soon) || fired(late) || fired(gone) {
			t.Error("20 minutes on, the wrong ones were woken")
		}
		if m.Offset() != 20*time.Minute || m.Now().Sub(begin) != 20*time.Minute {
			t.Errorf("offset %v, now %v later", m.Offset(), m.Now().Sub(begin))
		}
		// The rest of the hour passes by itself.
		time.Sleep(40*time.Minute - 1)
		synctest.Wait()
		if fired(late) {
			t.Error("woken before its hour")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !fired(late) {
			t.Error("not woken after its hour")
		}
	})
}

func TestMovableNeverGoesBackAndWakesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Movable
		c, stop := m.After(time.Minute)
		defer stop()
		m.Advance(-time.Hour)
		m.Advance(0)
		if m.Offset() != 0 {
			t.Errorf("offset %v", m.Offset())
		}
		m.Advance(time.Minute)
		m.Advance(time.Minute)
		time.Sleep(time.Hour)
		synctest.Wait()
		if !fired(c) || fired(c) {
			t.Error("not woken exactly once")
		}
		now, stopNow := m.After(0)
		defer stopNow()
		synctest.Wait()
		if !fired(now) {
			t.Error("what takes no time takes some")
		}
	})
}

func TestSystemStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := System{}.After(time.Second)
		stop()
		d, stopD := System{}.After(time.Second)
		defer stopD()
		time.Sleep(time.Second)
		synctest.Wait()
		if fired(c) || !fired(d) {
			t.Error("a stopped timer fired, or a running one did not")
		}
	})
}
