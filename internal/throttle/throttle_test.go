package throttle

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carrel/internal/clock"
)

func all(r Rate) Rates { return func(Call) Rate { return r } }

var ada = Call{Principal: "AIDAADA", Service: "workspaces", Operation: "DescribeWorkspaces", ReadOnly: true}

// allowed calls n times at once and counts.
func allowed(l *Limiter, c Call, n int) int {
	count := 0
	for range n {
		if l.Allow(c) {
			count++
		}
	}
	return count
}

func TestABucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(clock.System{}, all(Rate{2, 5}))
		expect := func(what string, n, want int) {
			t.Helper()
			if got := allowed(l, ada, n); got != want {
				t.Errorf("%s: %d of %d calls, want %d", what, got, n, want)
			}
		}
		expect("a burst", 20, 5)
		time.Sleep(499 * time.Millisecond)
		expect("just before the next token", 20, 0)
		time.Sleep(time.Millisecond)
		expect("with it", 20, 1)
		time.Sleep(time.Second)
		expect("a second later", 20, 2)
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			l.Allow(ada)
		}
		time.Sleep(500 * time.Millisecond)
		expect("whoever goes on asking gets the steady rate all the same", 20, 1)
		time.Sleep(time.Hour)
		expect("after an hour no more than a burst", 20, 5)
	})
}

func TestTheSteadyRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, n := New(clock.System{}, all(Rate{2, 5})), 0
		for range 10 * 60 * 10 {
			n += allowed(l, ada, 3)
			time.Sleep(100 * time.Millisecond)
		}
		if want := 5 + 2*600; n < want-2 || n > want {
			t.Errorf("%d calls in ten minutes, want %d", n, want)
		}
	})
}

func TestBucketsAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(clock.System{}, all(Rate{1, 1}))
		l.Allow(ada)
		for what, c := range map[string]Call{
			"another principal": {"AIDABOB", ada.Service, ada.Operation, true},
			"another service":   {ada.Principal, "ds", ada.Operation, true},
			"another operation": {ada.Principal, ada.Service, "DescribeIpGroups", true},
		} {
			if !l.Allow(c) {
				t.Errorf("%s has no bucket of its own", what)
			}
		}
		if l.Allow(ada) {
			t.Error("the first one's was refilled by the others")
		}
	})
}

func TestIdleBucketsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(clock.System{}, all(Rate{2, 5}))
		for i := range 10_000 {
			l.Allow(Call{Principal: fmt.Sprint(i)})
		}
		for range 3 {
			time.Sleep(time.Minute)
			l.Allow(ada)
		}
		if n := len(l.young) + len(l.old); n > 2 {
			t.Errorf("%d buckets are kept", n)
		}
		for i := range 10_000 {
			l.Allow(Call{Principal: fmt.Sprint(i)})
		}
		time.Sleep(time.Hour)
		l.Allow(ada)
		if n := len(l.young) + len(l.old); n != 1 {
			t.Errorf("%d buckets are kept after a long silence", n)
		}
	})
}

func TestNoBucketIsForgottenBeforeItIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Ten minutes until it is full, much longer than a period is at first.
		l := New(clock.System{}, all(Rate{0.1, 60}))
		if n := allowed(l, ada, 100); n != 60 {
			t.Fatalf("%d at first", n)
		}
		for range 9 {
			time.Sleep(time.Minute)
			l.Allow(Call{Principal: "another"})
		}
		if n := allowed(l, ada, 100); n != 54 {
			t.Errorf("%d after nine minutes, want 54", n)
		}
	})
}

func TestMemoryHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, late := New(clock.System{}, all(Rate{1, 1})), 0
		for i := range most + 1000 {
			if l.Allow(Call{Principal: fmt.Sprint(i)}) && i >= most {
				late++
			}
		}
		if len(l.young) > most+1 || late != 1 {
			t.Errorf("%d buckets, %d calls of those who came late; they share one", len(l.young), late)
		}
		if allowed(l, Call{Principal: "7"}, 1) != 0 {
			t.Error("one who was there before has lost the bucket")
		}
	})
}

// back is a clock that goes where it is told.
type back struct {
	clock.System
	now time.Time
}

func (b *back) Now() time.Time { return b.now }

func TestAClockThatIsSetBackGivesAndTakesNothing(t *testing.T) {
	c := &back{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	l := New(c, all(Rate{1, 3}))
	allowed(l, ada, 2)
	c.now = c.now.Add(-time.Hour)
	if n := allowed(l, ada, 5); n != 1 {
		t.Errorf("%d calls, want the one that was left", n)
	}
	c.now = c.now.Add(2 * time.Second)
	if n := allowed(l, ada, 5); n != 2 {
		t.Errorf("%d calls two seconds later", n)
	}
}

func TestARateThatIsNoneAllowsNothing(t *testing.T) {
	for _, r := range []Rate{{}, {1, 0}, {0, 1}, {-1, 5}} {
		if New(clock.System{}, all(r)).Allow(ada) {
			t.Errorf("%v allows", r)
		}
	}
}

func TestCallersAtOnceShareTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(clock.System{}, all(Rate{1, 100}))
		var wait sync.WaitGroup
		counts := make([]int, 8)
		for i := range counts {
			wait.Go(func() { counts[i] = allowed(l, ada, 50) })
		}
		wait.Wait()
		sum := 0
		for _, n := range counts {
			sum += n
		}
		if sum != 100 {
			t.Errorf("%d calls", sum)
		}
	})
}

// TestAWSLike writes the figures down once more: reference 4.17, and AWS's pages for the others.
func TestAWSLike(t *testing.T) {
	for _, c := range []struct {
		call Call
		want Rate
	}{
		{Call{Service: "workspaces", Operation: "DescribeWorkspaces", ReadOnly: true}, Rate{2, 5}},
		{Call{Service: "workspaces", Operation: "CreateWorkspaces"}, Rate{2, 5}},
		{Call{Service: "ec2", Operation: "DescribeVpcs", ReadOnly: true}, Rate{20, 100}},
		{Call{Service: "ec2", Operation: "CreateVpc"}, Rate{5, 50}},
		{Call{Service: "sts", Operation: "AssumeRole"}, Rate{600, 600}},
		{Call{Service: "cloudtrail", Operation: "LookupEvents", ReadOnly: true}, Rate{2, 2}},
		{Call{Service: "cloudtrail", Operation: "DescribeTrails", ReadOnly: true}, Rate{10, 10}},
		{Call{Service: "cloudtrail", Operation: "CreateTrail"}, Rate{1, 1}},
		{Call{Service: "a service without a row"}, Rate{1, 1}},
	} {
		if got := AWSLike(c.call); got != c.want {
			t.Errorf("%+v: %v, want %v", c.call, got, c.want)
		}
	}
	for service, r := range awsLike {
		if r.read.PerSecond <= 0 || r.read.Burst < 1 || r.write.PerSecond <= 0 || r.write.Burst < 1 {
			t.Errorf("%s: %+v allows nothing", service, r)
		}
	}
}

func BenchmarkAllow(b *testing.B) {
	l := New(clock.System{}, all(Rate{1e12, 1 << 30}))
	b.ReportAllocs()
	for b.Loop() {
		l.Allow(ada)
	}
}
