package display_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"carrel/internal/rfb"
)

const (
	rounds = 5
	// pictureBody makes a picture of 5 MiB.
	pictureBody = 9500
)

// BenchmarkP10 is figure P10: the relay beside websockify and beside plain copies, in interleaved rounds, then a thousand idle sessions, then
// twenty that are worked in. It prints what test/bench reads.
func BenchmarkP10(b *testing.B) {
	machine, large, usual := startMachine(b, "picture"), []int{len(pictureOf(pictureBody))}, lengths(newTrace())
	work := startMachine(b, "trace")
	peers := map[string]*peer{"carrel": startRole(b, "relay", machine, false), "Go's copy": startRole(b, "copy", machine, false), "direct": {address: machine}}
	busy := map[string]*peer{"carrel": startRole(b, "relay", work, false), "Go's copy": startRole(b, "copy", work, false)}
	if w := startWebsockify(b, machine); w != nil {
		peers["websockify"] = w
		busy["websockify"] = startWebsockify(b, work)
	} else {
		fmt.Println("missing: websockify (Debian package websockify, test/need): nothing to compare the relay's speed and ping with")
	}
	secure := map[string]*peer{"carrel": startRole(b, "relay", machine, true), "Go's copy": startRole(b, "copy", machine, true)}
	speed, ping, tls, trace := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for range rounds {
		for name, p := range peers {
			ping[name] = append(ping[name], pingOf(b, p))
			if name != "direct" {
				speed[name] = append(speed[name], speedOf(b, p, large))
			}
		}
		for name, p := range busy {
			trace[name] = append(trace[name], speedOf(b, p, usual))
		}
		for name, p := range secure {
			tls[name] = append(tls[name], speedOf(b, p, large))
		}
	}
	beside("pictures of 5 MiB", "MB/s", speed)
	beside("pictures of usual work", "MB/s", trace)
	beside("pictures of 5 MiB with TLS", "MB/s", tls)
	beside("a key and its answer", "us", ping)
	if _, ok := peers["websockify"]; ok {
		var added []float64
		for i, direct := range ping["direct"] {
			added = append(added, (ping["carrel"][i]-direct)/(ping["websockify"][i]-direct))
		}
		judged("bytes a second / websockify, pictures of 5 MiB", "x", ratios(speed["carrel"], speed["websockify"]), 2, ">=")
		judged("bytes a second / websockify, pictures of usual work", "x", ratios(trace["carrel"], trace["websockify"]), 2, ">=")
		judged("ping over direct / that of websockify", "x", added, 0.4, "<=")
	}
	judged("bytes a second with TLS / Go's copy with TLS", "x", ratios(tls["carrel"], tls["Go's copy"]), 0.9, ">=")
	judged("resident memory of an idle session with TLS", "KiB", []float64{idle(b) / 1024}, 64, "<=")
	worked(b)
}

// figure prints a finding for test/bench.
func figure(f map[string]any) {
	f["figure"] = "p10"
	text, err := json.Marshal(f)
	must(err)
	fmt.Printf("figure: %s\n", text)
}

func beside(name, unit string, of map[string][]float64) {
	for server, samples := range of {
		figure(map[string]any{"name": name, "unit": unit, "server": server, "samples": samples})
	}
}

func judged(name, unit string, samples []float64, goal float64, better string) {
	figure(map[string]any{"name": name, "unit": unit, "samples": samples, "goal": goal, "better": better})
}

func ratios(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] / b[i]
	}
	return out
}

// speedOf asks for pictures, whose lengths it knows, for a second, each when the last has come as a browser does, and gives MB/s.
func speedOf(b *testing.B, p *peer, lengths []int) float64 {
	v, err := p.view()
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = v.conn.Close() }()
	v.buf = append(v.buf, make([]byte, 256<<10)...)
	ask := rfb.AppendUpdateRequest(nil, true, full)
	began, taken := time.Now(), 0
	for n := 0; time.Since(began) < time.Second; n++ {
		size := lengths[n%len(lengths)]
		err := v.send(ask)
		if err == nil {
			err = v.take(size)
		}
		if err != nil {
			b.Fatal(err)
		}
		taken += size
	}
	return float64(taken) / time.Since(began).Seconds() / 1e6
}

func lengths(pictures [][]byte) (out []int) {
	for _, p := range pictures {
		out = append(out, len(p))
	}
	return out
}

// pingOf presses keys and gives the median of the times until the answer was there, in microseconds.
func pingOf(b *testing.B, p *peer) float64 {
	v, err := p.view()
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = v.conn.Close() }()
	press := rfb.AppendKey(nil, rfb.Key{Down: true, Keysym: 'x'})
	took := make([]float64, 2000)
	for i := range took {
		began := time.Now()
		err := v.send(press)
		if err == nil {
			err = v.take(len(glyph))
		}
		if err != nil {
			b.Fatal(err)
		}
		took[i] = float64(time.Since(began).Nanoseconds()) / 1000
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// idle opens a thousand sessions, each of which is sent a picture and then looks at a desktop where nothing happens, and gives what one of
// them adds to the relay's resident memory.
func idle(b *testing.B) float64 {
	const sessions = 1000
	first := newTrace()[0]
	once := func() func(*net.TCPConn) error {
		sent := false
		return func(conn *net.TCPConn) (err error) {
			if !sent {
				_, err = conn.Write(first)
			}
			sent = true
			return err
		}
	}
	p := startRole(b, "relay", within(b, once), true)
	open := func(n int) (stop func()) {
		var viewers []*viewer
		for range n {
			v, err := p.view()
			if err == nil {
				err = v.follow()
			}
			if err == nil {
				err = v.picture(len(first))
			}
			if err != nil {
				b.Fatal(err)
			}
			viewers = append(viewers, v)
			go func() { _ = v.picture(1) }() // Answers fences and pings until the connection is closed.
		}
		return func() {
			for _, v := range viewers {
				_ = v.conn.Close()
			}
		}
	}
	open(20)()
	rest := func() float64 {
		time.Sleep(10 * time.Second) // What a figure of memory at rest is about.
		return p.resident(b)
	}
	before := rest()
	defer open(sessions)()
	return (rest() - before) / sessions
}

// worked plays the trace to twenty people at once, with TLS, and gives what the slowest of them sees.
func worked(b *testing.B) {
	const sessions, frames = 20, 180
	trace := newTrace()
	var mu sync.Mutex
	next := 0
	play := func() func(*net.TCPConn) error {
		mu.Lock()
		defer mu.Unlock()
		at := next * 15
		next++
		due := time.Now()
		return func(conn *net.TCPConn) error {
			// QEMU looks for what has changed every 33 ms; a request that is late waits for the next time.
			for due = due.Add(tick); time.Since(due) > 0; {
				due = due.Add(tick)
			}
			time.Sleep(time.Until(due))
			at++
			_, err := conn.Write(trace[(at-1)%len(trace)])
			return err
		}
	}
	p := startRole(b, "relay", within(b, play), true)
	var slowest, busy []float64
	for range 3 {
		mu.Lock()
		next = 0
		mu.Unlock()
		var all sync.WaitGroup
		rates := make([]float64, sessions)
		began, before := time.Now(), p.busy(b)
		for i := range sessions {
			v, err := p.view()
			if err == nil {
				err = v.follow()
			}
			if err != nil {
				b.Fatal(err)
			}
			all.Go(func() {
				defer func() { _ = v.conn.Close() }()
				var first time.Time
				for n := range frames {
					if err := v.picture(len(trace[(15*i+n)%len(trace)])); err != nil {
						b.Errorf("session %d, picture %d: %v", i, n, err)
						return
					}
					if n == 0 {
						first = time.Now()
					}
				}
				rates[i] = (frames - 1) / time.Since(first).Seconds()
			})
		}
		all.Wait()
		slowest = append(slowest, slices.Min(rates))
		busy = append(busy, float64(p.busy(b)-before)/float64(time.Since(began)))
	}
	figure(map[string]any{"name": "processors that the relay keeps busy with 20 sessions", "samples": busy})
	judged("pictures a second of the slowest of 20 sessions with TLS", "fps", slowest, 30, ">=")
}

const tick = 33 * time.Millisecond

// follow turns continuous updates on, as noVNC does.
func (v *viewer) follow() error {
	return v.send(rfb.AppendEnableContinuousUpdates(nil, true, full))
}

// picture takes one update of a size that is known, and answers what comes before it.
func (v *viewer) picture(size int) error {
	for {
		b, err := v.piece(1)
		if err != nil {
			return err
		}
		switch b[0] {
		case rfb.FramebufferUpdate:
			return v.take(size - 1)
		case rfb.Fence:
			var head [8 + 8]byte // The relay's fences have eight bytes.
			for n := 0; n < len(head); {
				b, err := v.piece(len(head) - n)
				if err != nil {
					return err
				}
				n += copy(head[n:], b)
			}
			if err := v.send(rfb.AppendFence(nil, binary.BigEndian.Uint32(head[3:])&3, head[8:])); err != nil {
				return err
			}
		case 150: // Continuous updates are understood.
		default:
			return fmt.Errorf("message %d", b[0])
		}
	}
}

// newTrace is ten seconds of somebody at work on 1920x1080 at QEMU's 30 pictures a second, with rectangles, kinds and sizes as its Tight
// encoder makes them at noVNC's usual quality: a terminal that scrolls (25 KB a picture), a window that is moved (60 KB), typing (200
// bytes), and twice another page over the whole screen (500 KB).
func newTrace() [][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	photo, stripe := newJPEG(random, 256, 60, 70), newJPEG(random, 256, 64, 60)
	var trace [][]byte
	for n := range 300 {
		switch {
		case n == 120 || n == 240:
			trace = append(trace, pageOf(photo))
		case n < 150:
			trace = append(trace, scrolled(random))
		case n < 240:
			trace = append(trace, moved(random, stripe, 2*(n-150)))
		default:
			trace = append(trace, typed(random, 8*(n-240)))
		}
	}
	return trace
}

func noise(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// palette is a rectangle of two colours, packed and compressed to a size.
func palette(b []byte, random *rand.Rand, at image.Point, size rfb.Size, body int) []byte {
	b = rfb.AppendRectangle(b, at, size, rfb.Tight)
	b = append(b, 0x50, 1, 1, 0, 0, 0, 0xee, 0xee, 0xee)
	return append(rfb.AppendCompactLength(b, body), noise(random, body)...)
}

func jpegAt(b []byte, at image.Point, size rfb.Size, picture []byte) []byte {
	b = append(rfb.AppendRectangle(b, at, size, rfb.Tight), 0x90)
	return append(rfb.AppendCompactLength(b, len(picture)), picture...)
}

func filled(b []byte, at image.Point, size rfb.Size) []byte {
	return append(rfb.AppendRectangle(b, at, size, rfb.Tight), 0x80, 0x30, 0x30, 0x30)
}

// scrolled is a terminal of 120 columns and 38 lines, all of which have changed.
func scrolled(random *rand.Rand) []byte {
	b := rfb.AppendUpdate(nil, 38)
	for line := range 38 {
		b = palette(b, random, pt(200, 150+16*line), rfb.Size{Width: 960, Height: 16}, 400+random.IntN(500))
	}
	return b
}

// moved is a window of 768x640 at another place, half of it plain, and the background where it was.
func moved(random *rand.Rand, stripe []byte, by int) []byte {
	b := rfb.AppendUpdate(nil, 30+1+10)
	for row := range 10 {
		for column := range 3 {
			at, size := pt(300+by+256*column, 200+64*row), rfb.Size{Width: 256, Height: 64}
			switch (row + column) % 3 {
			case 0:
				b = jpegAt(b, at, size, stripe)
			case 1:
				b = palette(b, random, at, size, 700+random.IntN(600))
			default:
				b = filled(b, at, size)
			}
		}
	}
	b = filled(b, pt(300, 200), rfb.Size{Width: 2 + by, Height: 640})
	for row := range 10 {
		b = palette(b, random, pt(40, 200+64*row), rfb.Size{Width: 8, Height: 64}, 40)
	}
	return b
}

// typed is a glyph and the cursor beside it.
func typed(random *rand.Rand, x int) []byte {
	b := palette(rfb.AppendUpdate(nil, 2), random, pt(400+x, 600), rfb.Size{Width: 16, Height: 16}, 30)
	return filled(b, pt(416+x, 600), rfb.Size{Width: 8, Height: 16})
}

// pageOf is the whole screen as photographs.
func pageOf(photo []byte) []byte {
	size := rfb.Size{Width: 256, Height: 60}
	var places []image.Point
	for y := 0; y+size.Height <= full.Height; y += size.Height {
		for x := 0; x+size.Width <= full.Width; x += size.Width {
			places = append(places, pt(x, y))
		}
	}
	b := rfb.AppendUpdate(nil, len(places))
	for _, at := range places {
		b = jpegAt(b, at, size, photo)
	}
	return b
}

// newJPEG is a picture with slopes and noise.
func newJPEG(random *rand.Rand, w, h, quality int) []byte {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			n := uint8(random.IntN(24))
			m.SetRGBA(x, y, color.RGBA{uint8(x) + n, uint8(2*y) + n, uint8(x+y) + n, 255})
		}
	}
	var out bytes.Buffer
	must(jpeg.Encode(&out, m, &jpeg.Options{Quality: quality}))
	return out.Bytes()
}
