package sim

import (
	"image"
	"time"
	"unicode/utf8"

	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"

	"carrel/internal/rfb"
)

// tileSide is the side of the squares in which a screen is painted and sent.
const tileSide = 64

// colour is 0xRRGGBB.
type colour uint32

const (
	panelColour  colour = 0x1d2530
	panelText    colour = 0xe8edf2
	accentColour colour = 0x3fa796
	windowColour colour = 0x10161d
	titleColour  colour = 0x2b3744
	promptColour colour = 0x7fd6a3
	textColour   colour = 0xd5dde5
	shadowColour colour = 0x0c1f29
)

// tile is a piece of a screen: what is painted outside of it is cut off. No picture larger than a tile is ever kept.
type tile struct {
	area   image.Rectangle
	pixels [tileSide * tileSide]colour
}

func (t *tile) at(x, y int) *colour { return &t.pixels[(y-t.area.Min.Y)*tileSide+x-t.area.Min.X] }

func (t *tile) fill(r image.Rectangle, c colour) {
	r = r.Intersect(t.area)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			*t.at(x, y) = c
		}
	}
}

const (
	charWidth, lineHeight = 7, 16
)

// text writes one line with its upper left corner at p, and gives where it ends.
func (t *tile) text(p image.Point, s string, c colour) int {
	end := p.X + utf8.RuneCountInString(s)*charWidth
	if p.Y >= t.area.Max.Y || p.Y+lineHeight <= t.area.Min.Y || p.X >= t.area.Max.X || end <= t.area.Min.X {
		return end
	}
	for _, r := range s {
		if p.X < t.area.Max.X && p.X+charWidth > t.area.Min.X {
			t.glyph(p, r, c)
		}
		p.X += charWidth
	}
	return end
}

func (t *tile) glyph(p image.Point, r rune, c colour) {
	place, mask, from, _, ok := basicfont.Face7x13.Glyph(fixed.P(p.X, p.Y+basicfont.Face7x13.Ascent), r)
	alpha, isAlpha := mask.(*image.Alpha)
	if !ok || !isAlpha {
		return
	}
	cut := place.Intersect(t.area)
	for y := cut.Min.Y; y < cut.Max.Y; y++ {
		for x := cut.Min.X; x < cut.Max.X; x++ {
			if alpha.AlphaAt(from.X+x-place.Min.X, from.Y+y-place.Min.Y).A > 0 {
				*t.at(x, y) = c
			}
		}
	}
}

// paint draws the part of the desk that t shows.
func (d *desk) paint(t *tile, now time.Time, withPointer bool) {
	d.wallpaper(t)
	d.icons(t)
	d.window(t)
	d.panel(t, now)
	if d.Pointer.Buttons != 0 {
		at := image.Pt(d.Pointer.X, d.Pointer.Y)
		t.fill(image.Rectangle{at.Add(image.Pt(-9, -9)), at.Add(image.Pt(10, -7))}, accentColour)
		t.fill(image.Rectangle{at.Add(image.Pt(-9, 8)), at.Add(image.Pt(10, 10))}, accentColour)
		t.fill(image.Rectangle{at.Add(image.Pt(-9, -9)), at.Add(image.Pt(-7, 10))}, accentColour)
		t.fill(image.Rectangle{at.Add(image.Pt(8, -9)), at.Add(image.Pt(10, 10))}, accentColour)
	}
	if withPointer {
		for y := range arrowSide {
			for x := range arrowSide {
				if c, shown := arrow(x, y); shown {
					t.fill(image.Rect(0, 0, 1, 1).Add(image.Pt(d.Pointer.X+x, d.Pointer.Y+y)), c)
				}
			}
		}
	}
}

// arrowSide is the side of the pointer's picture.
const arrowSide = 16

// arrow is the pointer: white with a dark edge.
func arrow(x, y int) (c colour, shown bool) {
	switch {
	case x > y || x+y/2 > 14 || y > 14:
		return 0, false
	case x == 0 || x == y || x+y/2 == 14 || y == 14:
		return 0x101418, true
	}
	return 0xffffff, true
}

// wallpaper is a slope of colours, the same along every line.
func (d *desk) wallpaper(t *tile) {
	height := max(1, d.Size.Height-1)
	for y := t.area.Min.Y; y < t.area.Max.Y; y++ {
		mix := func(top, bottom int) colour { return colour(top + (bottom-top)*y/height) }
		t.fill(image.Rect(t.area.Min.X, y, t.area.Max.X, y+1), mix(0x1f, 0x0e)<<16|mix(0x5a, 0x22)<<8|mix(0x6b, 0x3a))
	}
}

func (d *desk) icons(t *tile) {
	for i, name := range []string{"Home", "Files", "Browser", "Trash"} {
		at := image.Pt(24, panelHeight+24+i*84)
		t.fill(image.Rect(0, 8, 44, 40).Add(at), accentColour)
		t.fill(image.Rect(0, 2, 20, 8).Add(at), accentColour)
		t.fill(image.Rect(4, 14, 40, 36).Add(at), 0x2c7d70)
		t.text(at.Add(image.Pt(22-len(name)*charWidth/2, 46)), name, panelText)
	}
}

const (
	panelHeight = 28
	titleHeight = 24
)

func (d *desk) panel(t *tile, now time.Time) {
	t.fill(image.Rect(0, 0, d.Size.Width, panelHeight), panelColour)
	t.fill(image.Rect(10, 9, 20, 19), accentColour)
	t.text(image.Pt(28, 8), "Applications", panelText)
	t.text(image.Pt((d.Size.Width-len(d.Computer)*charWidth)/2, 8), d.Computer, panelText)
	right := d.User + "   " + now.UTC().Format("15:04:05")
	t.text(image.Pt(d.Size.Width-10-len(right)*charWidth, 8), right, panelText)
}

// windowArea is where the terminal is.
func (d *desk) windowArea() image.Rectangle {
	z := d.Size
	if z.Width < 500 || z.Height < 300 {
		return image.Rect(0, panelHeight, z.Width, z.Height)
	}
	return image.Rect(120, panelHeight+36, z.Width-60, z.Height-50)
}

func (d *desk) window(t *tile) {
	r := d.windowArea()
	t.fill(r.Add(image.Pt(4, 4)), shadowColour)
	t.fill(r, windowColour)
	t.fill(image.Rect(r.Min.X, r.Min.Y, r.Max.X, r.Min.Y+titleHeight), titleColour)
	t.text(r.Min.Add(image.Pt(10, 6)), "Terminal - "+d.User+"@"+d.Computer, panelText)
	for i, c := range []colour{0x5c6b7a, 0x5c6b7a, 0xc4554d} {
		t.fill(image.Rect(0, 0, 10, 10).Add(image.Pt(r.Max.X-60+i*18, r.Min.Y+7)), c)
	}
	rows := (r.Dy() - titleHeight - 12) / lineHeight
	at := r.Min.Add(image.Pt(10, titleHeight+6))
	lines := d.Terminal.Lines
	for _, line := range lines[max(0, len(lines)-(rows-1)):] {
		t.text(at, line, textColour)
		at.Y += lineHeight
	}
	x := t.text(at, d.prompt(), promptColour)
	x = t.text(image.Pt(x, at.Y), d.Terminal.Line, textColour)
	t.fill(image.Rect(x, at.Y, x+charWidth, at.Y+14), textColour)
}

// single tells whether the tile has one colour only.
func (t *tile) single() (colour, bool) {
	c := *t.at(t.area.Min.X, t.area.Min.Y)
	for y := t.area.Min.Y; y < t.area.Max.Y; y++ {
		for x := t.area.Min.X; x < t.area.Max.X; x++ {
			if *t.at(x, y) != c {
				return 0, false
			}
		}
	}
	return c, true
}

// raw appends the pixels in a viewer's format.
func (t *tile) raw(b []byte, f rfb.PixelFormat) []byte {
	t.each(func(c colour) {
		v := uint32(c>>16&0xff)<<f.RedShift | uint32(c>>8&0xff)<<f.GreenShift | uint32(c&0xff)<<f.BlueShift
		if f.BigEndian {
			b = append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
		} else {
			b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
		}
	})
	return b
}

// rgb appends the pixels as three bytes each.
func (t *tile) rgb(b []byte) []byte {
	t.each(func(c colour) { b = append(b, byte(c>>16), byte(c>>8), byte(c)) })
	return b
}

func (t *tile) each(fn func(c colour)) {
	for y := t.area.Min.Y; y < t.area.Max.Y; y++ {
		for x := t.area.Min.X; x < t.area.Max.X; x++ {
			fn(*t.at(x, y))
		}
	}
}
