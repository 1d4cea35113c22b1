package display

import (
	"testing"
	"time"
)

var start = time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)

func TestPacerAsksOncePerPicture(t *testing.T) {
	var p pacer
	if ask, _ := p.next(); ask {
		t.Error("asks before the browser has")
	}
	p.want(false)
	if ask, incremental := p.next(); !ask || incremental {
		t.Error("the first picture is a whole one")
	}
	p.want(true)
	if ask, _ := p.next(); ask {
		t.Error("asks while a picture is owed")
	}
	p.want(false)
	if ask, incremental := p.next(); !ask || incremental {
		t.Error("a whole picture is asked for even while changes are owed")
	}
	if _, fence := p.drawn(start); fence {
		t.Error("a fence for a browser that asks")
	}
	if ask, _ := p.next(); ask {
		t.Error("asks again by itself")
	}
	p.want(true)
	if ask, incremental := p.next(); !ask || !incremental {
		t.Error("does not ask for changes")
	}
}

func TestPacerKeepsARequestThatComesBeforeThePictureIsDone(t *testing.T) {
	var p pacer
	p.want(false)
	p.next()
	p.want(true) // The browser has seen the last byte before we know that it was written.
	p.drawn(start)
	if ask, incremental := p.next(); !ask || !incremental {
		t.Error("the request is lost")
	}
	if ask, _ := p.next(); ask {
		t.Error("it counts twice")
	}
}

func TestPacerKeepsAWindow(t *testing.T) {
	var p pacer
	p.follow(true)
	var serials []uint64
	draw := func() bool {
		if ask, _ := p.next(); !ask {
			return false
		}
		serial, fence := p.drawn(start)
		if !fence {
			t.Fatal("no fence")
		}
		serials = append(serials, serial)
		return true
	}
	for draw() {
	}
	if len(serials) != 2 {
		t.Fatalf("%d pictures on their way to a browser of unknown distance", len(serials))
	}
	p.landed(99, start)
	if draw() {
		t.Error("an answer to a fence that was never sent counts")
	}
	p.landed(serials[1], start.Add(100*time.Millisecond))
	if p.mean() != 100*time.Millisecond {
		t.Errorf("latency %v", p.mean())
	}
	for draw() {
	}
	if n := len(serials) - 2; n != 5 {
		t.Errorf("%d pictures on their way to a browser 100 ms away", n)
	}
	p.landed(serials[len(serials)-1], start.Add(time.Hour))
	before := len(serials)
	for draw() {
	}
	if n := len(serials) - before; n != 5 {
		t.Errorf("a slow answer makes the window %d", n)
	}
	p.follow(false)
	if draw() {
		t.Error("goes on without being asked")
	}
}

func TestPacerWindowIsBounded(t *testing.T) {
	p := pacer{continuous: true, lowest: time.Hour}
	n := 0
	for ask, _ := p.next(); ask; ask, _ = p.next() {
		p.drawn(start)
		n++
	}
	if n != windowMost {
		t.Errorf("%d", n)
	}
}

func TestPacerMeasuresOnlyWhenNothingElseDoes(t *testing.T) {
	var p pacer
	if _, fence := p.probe(start); fence {
		t.Error("a fence for a browser that has none")
	}
	p.follow(true)
	serial, fence := p.probe(start)
	if !fence {
		t.Fatal("no fence")
	}
	if _, fence := p.probe(start); fence {
		t.Error("a second one")
	}
	if ask, _ := p.next(); !ask {
		t.Error("a measuring fence takes a picture's place")
	}
	p.landed(serial, start.Add(3*time.Millisecond))
	if p.mean() != 3*time.Millisecond {
		t.Errorf("%v", p.mean())
	}
}

func TestBucket(t *testing.T) {
	b := bucket{rate: 5}
	for i := range 50 {
		if b.take(start) != 0 {
			t.Fatalf("the %dth waits", i)
		}
	}
	if wait := b.take(start); wait != 200*time.Millisecond {
		t.Errorf("the 51st waits %v", wait)
	}
	if b.allow(start) || b.allow(start.Add(200*time.Millisecond)) {
		t.Error("more than the rate")
	}
	if !b.allow(start.Add(400*time.Millisecond)) || b.allow(start.Add(400*time.Millisecond)) {
		t.Error("not one more after a fifth of a second")
	}
	if b.allow(start.Add(-time.Hour)) {
		t.Error("a clock that goes back gives some")
	}
	if !b.allow(start.Add(time.Hour)) {
		t.Error("an hour later there are none")
	}
}
