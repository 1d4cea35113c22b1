package sim

import (
	"bytes"
	"compress/zlib"
	"hash/maphash"
	"image"
	"net"
	"sync"
	"time"

	"carrel/internal/clock"
	"carrel/internal/rfb"
)

// clipboardBytes is the longest text a simulated desktop copies.
const clipboardBytes = 1 << 20

// viewer is one connection to a screen: a server of RFC 6143 the way QEMU's behaves.
type viewer struct {
	screen  *screen
	conn    net.Conn
	clock   clock.Clock
	stirred chan struct{}
	// gone: the machine has ended; guarded by screen.mu. What this viewer's reader still has in hand changes nothing.
	gone bool

	mu     sync.Mutex
	format rfb.PixelFormat
	can    map[rfb.Encoding]bool
	// wanted: an update was asked for, whole: of everything.
	wanted, whole bool
	// told is the size the viewer knows. answers are messages to be sent before the next update.
	told    rfb.Size
	answers []byte
	copied  string

	// Only the writer uses these.
	seen   sight
	tiles  map[image.Point]uint64
	seed   maphash.Seed
	packed bytes.Buffer
	packer *zlib.Writer
}

func newViewer(sc *screen, conn net.Conn) *viewer {
	return &viewer{screen: sc, conn: conn, clock: sc.sim.clock, stirred: make(chan struct{}, 1), format: rfb.Little,
		can: map[rfb.Encoding]bool{}, tiles: map[image.Point]uint64{}, seed: maphash.MakeSeed(), copied: sc.look().Clipboard}
}

// wake tells the writer to look again.
func (v *viewer) wake() {
	select {
	case v.stirred <- struct{}{}:
	default:
	}
}

// serve speaks with the viewer until one of the two ends it.
func (v *viewer) serve() {
	defer func() { _ = v.conn.Close() }()
	size := v.screen.look().Size
	v.told = size
	if _, err := rfb.Accept(v.conn, rfb.ServerInit{Screen: size, Name: "SIM (" + string(v.screen.id) + ")"}); err != nil {
		return
	}
	over := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(over)
		v.read()
	})
	v.write(over)
	_ = v.conn.Close()
	reader.Wait()
}

func (v *viewer) read() {
	in := rfb.NewClientStream(v.conn, func() rfb.Size { return v.screen.look().Size }, rfb.ClientLimits{TextBytes: clipboardBytes}, nil)
	for {
		ev, err := in.Next()
		if err != nil {
			return
		}
		v.take(ev)
		v.wake()
	}
}

// alter changes the desk unless its machine has ended.
func (v *viewer) alter(fn func(d *desk) bool) {
	v.screen.change(func(d *desk) bool { return !v.gone && fn(d) })
}

func (v *viewer) take(ev rfb.ClientEvent) {
	switch ev.Type {
	case rfb.KeyEvent:
		v.alter(func(d *desk) bool { return d.key(ev.Key, v.clock.Now()) })
	case rfb.PointerEvent:
		v.alter(func(d *desk) bool {
			pasted := ev.Pointer.Buttons&^d.Pointer.Buttons&2 != 0
			if d.Pointer.Buttons != 0 || ev.Pointer.Buttons != 0 {
				d.Version++
			}
			if d.Pointer = ev.Pointer; pasted {
				d.paste(v.clock.Now())
			}
			return pasted
		})
	case rfb.SetDesktopSize:
		v.resize(ev.Resize)
	case rfb.ClientCutText:
		v.clip(ev.Clip)
	case rfb.SetPixelFormat:
		v.mu.Lock()
		v.format = ev.Format
		v.mu.Unlock()
	case rfb.SetEncodings:
		v.setEncodings(ev.Encodings)
	case rfb.UpdateRequest:
		v.mu.Lock()
		v.wanted, v.whole = true, v.whole || !ev.Incremental
		v.mu.Unlock()
	}
}

func (v *viewer) setEncodings(list []rfb.Encoding) {
	desk := v.screen.look()
	v.mu.Lock()
	defer v.mu.Unlock()
	before := v.can
	v.can = map[rfb.Encoding]bool{}
	for _, e := range list {
		v.can[e] = true
	}
	fresh := func(e rfb.Encoding) bool { return v.can[e] && !before[e] }
	if fresh(rfb.PseudoExtendedKeys) {
		v.answers = rfb.AppendRectangle(rfb.AppendUpdate(v.answers, 1), image.Point{}, desk.Size, rfb.PseudoExtendedKeys)
	}
	if fresh(rfb.PseudoExtendedDesktopSize) {
		v.answers = rfb.AppendExtendedDesktopSize(rfb.AppendUpdate(v.answers, 1), rfb.ResizeByServer, rfb.ResizeDone, rfb.Resize{Size: v.told})
	}
	if fresh(rfb.PseudoLED) {
		v.answers = append(rfb.AppendRectangle(rfb.AppendUpdate(v.answers, 1), image.Point{}, rfb.Size{Width: 1, Height: 1}, rfb.PseudoLED), 2)
	}
	if fresh(rfb.PseudoCursor) {
		v.answers = append(rfb.AppendUpdate(v.answers, 1), v.cursor()...)
	}
	if fresh(rfb.PseudoExtendedClipboard) {
		v.answers = rfb.AppendServerClip(v.answers, rfb.Clip{Action: rfb.ClipCaps, Can: rfb.ClipRequest | rfb.ClipNotify | rfb.ClipProvide, HasText: true})
	}
}

// cursor is the pointer's picture as a rectangle.
func (v *viewer) cursor() []byte {
	t := tile{area: image.Rect(0, 0, arrowSide, arrowSide)}
	var mask []byte
	for y := range arrowSide {
		row := uint16(0)
		for x := range arrowSide {
			if c, shown := arrow(x, y); shown {
				*t.at(x, y) = c
				row |= 0x8000 >> x
			}
		}
		mask = append(mask, byte(row>>8), byte(row))
	}
	b := rfb.AppendRectangle(nil, image.Point{}, rfb.Size{Width: arrowSide, Height: arrowSide}, rfb.PseudoCursor)
	return append(t.raw(b, v.format), mask...)
}

func (v *viewer) resize(r rfb.Resize) {
	if !allowed(r.Size) {
		v.mu.Lock()
		v.answers = rfb.AppendExtendedDesktopSize(rfb.AppendUpdate(v.answers, 1), rfb.ResizeByClient, rfb.ResizeInvalid, rfb.Resize{Size: v.told})
		v.mu.Unlock()
		return
	}
	// The answer first, then the screen: it comes before any picture of the new size.
	v.mu.Lock()
	v.told, v.whole = r.Size, true
	v.answers = rfb.AppendExtendedDesktopSize(rfb.AppendUpdate(v.answers, 1), rfb.ResizeByClient, rfb.ResizeDone, r)
	v.mu.Unlock()
	v.alter(func(d *desk) bool {
		d.Size = r.Size
		return true
	})
}

// clip takes a clipboard message: a text that is announced is fetched at once, as if the person pasted at once.
func (v *viewer) clip(c rfb.Clip) {
	answer := func(c rfb.Clip) {
		v.mu.Lock()
		v.answers = rfb.AppendServerClip(v.answers, c)
		v.mu.Unlock()
	}
	switch {
	case c.TooLong || !c.HasText:
	case c.Action == rfb.ClipNotify:
		answer(rfb.Clip{Action: rfb.ClipRequest, HasText: true})
	case c.Action == rfb.ClipRequest:
		answer(rfb.Clip{Action: rfb.ClipProvide, HasText: true, Text: []byte(v.screen.look().Clipboard)})
	case c.Action == rfb.ClipPlain, c.Action == rfb.ClipProvide:
		v.mu.Lock()
		v.copied = string(c.Text)
		v.mu.Unlock()
		v.alter(func(d *desk) bool {
			d.Clipboard = string(c.Text)
			return true
		})
	}
}

// write sends answers and, when asked for, what has changed; it looks again whenever something stirs and at every full second, which
// the clock on the screen shows.
func (v *viewer) write(over <-chan struct{}) {
	for {
		if b := v.next(); len(b) > 0 {
			if _, err := v.conn.Write(b); err != nil {
				return
			}
			continue
		}
		now := v.clock.Now()
		second, stop := v.clock.After(now.Truncate(time.Second).Add(time.Second).Sub(now))
		select {
		case <-over:
			stop()
			return
		case <-v.stirred:
		case <-second:
		}
		stop()
	}
}

// next is what is to be sent now; nothing when there is nothing.
func (v *viewer) next() []byte {
	desk := v.screen.look()
	v.mu.Lock()
	b := v.answers
	v.answers = nil
	b = v.announce(b, desk)
	if !v.wanted || v.told != desk.Size {
		v.mu.Unlock()
		return b
	}
	whole, format, tight, pointer := v.whole, v.format, v.can[rfb.Tight], !v.can[rfb.PseudoCursor]
	v.mu.Unlock()
	if whole {
		clear(v.tiles)
	}
	now := v.clock.Now()
	seen := sight{desk.Version, now.Unix(), rfb.Pointer{}}
	if pointer {
		seen.pointer = desk.Pointer
	}
	if seen == v.seen && !whole {
		return b
	}
	v.seen = seen
	rectangles, n := v.paint(&desk, now, style{format, tight, pointer})
	if n == 0 {
		return b
	}
	v.mu.Lock()
	v.wanted, v.whole = false, v.whole && !whole
	v.mu.Unlock()
	return append(rfb.AppendUpdate(b, n), rectangles...)
}

// announce tells of a size that another viewer has set and of a text that the desktop has copied. The caller holds mu.
func (v *viewer) announce(b []byte, desk desk) []byte {
	if desk.Size != v.told {
		switch {
		case v.can[rfb.PseudoExtendedDesktopSize]:
			b = rfb.AppendExtendedDesktopSize(rfb.AppendUpdate(b, 1), rfb.ResizeByServer, rfb.ResizeDone, rfb.Resize{Size: desk.Size})
		case v.can[rfb.PseudoDesktopSize]:
			b = rfb.AppendRectangle(rfb.AppendUpdate(b, 1), image.Point{}, desk.Size, rfb.PseudoDesktopSize)
		default:
			return b // It cannot be told, and gets no more pictures.
		}
		v.told, v.whole = desk.Size, true
	}
	if desk.Clipboard != v.copied {
		v.copied = desk.Clipboard
		if v.can[rfb.PseudoExtendedClipboard] {
			b = rfb.AppendServerClip(b, rfb.Clip{Action: rfb.ClipNotify, HasText: true})
		} else {
			b = rfb.AppendServerClip(b, rfb.Clip{HasText: true, Text: []byte(desk.Clipboard)})
		}
	}
	return b
}

// sight is what a picture depends on: while it stays the same nothing need be painted.
type sight struct {
	version uint64
	second  int64
	pointer rfb.Pointer
}

// style is how a viewer wants its picture.
type style struct {
	format         rfb.PixelFormat
	tight, pointer bool
}

// paint draws tile by tile and gives those that are not as they were sent last.
func (v *viewer) paint(d *desk, now time.Time, s style) (b []byte, n int) {
	var t tile
	var pixels []byte
	for y := 0; y < d.Size.Height; y += tileSide {
		for x := 0; x < d.Size.Width; x += tileSide {
			t.area = image.Rect(x, y, min(x+tileSide, d.Size.Width), min(y+tileSide, d.Size.Height))
			d.paint(&t, now, s.pointer)
			pixels = t.rgb(pixels[:0])
			sum := maphash.Bytes(v.seed, pixels)
			if last, known := v.tiles[t.area.Min]; known && last == sum {
				continue
			}
			v.tiles[t.area.Min] = sum
			b = v.send(b, &t, s, pixels)
			n++
		}
	}
	return b, n
}

// send appends one tile as a rectangle.
func (v *viewer) send(b []byte, t *tile, s style, rgb []byte) []byte {
	size := rfb.Size{Width: t.area.Dx(), Height: t.area.Dy()}
	if !s.tight {
		return t.raw(rfb.AppendRectangle(b, t.area.Min, size, rfb.Raw), s.format)
	}
	b = rfb.AppendRectangle(b, t.area.Min, size, rfb.Tight)
	if c, ok := t.single(); ok {
		return append(b, 0x80, byte(c>>16), byte(c>>8), byte(c))
	}
	b = append(b, 0)
	if len(rgb) < 12 {
		return append(b, rgb...)
	}
	if v.packer == nil {
		v.packer, _ = zlib.NewWriterLevel(&v.packed, zlib.BestSpeed)
	}
	v.packed.Reset()
	// Neither can fail: the buffer takes everything.
	_, _ = v.packer.Write(rgb)
	_ = v.packer.Flush()
	b = rfb.AppendCompactLength(b, v.packed.Len())
	return append(b, v.packed.Bytes()...)
}
