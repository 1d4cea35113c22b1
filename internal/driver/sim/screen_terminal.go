package sim

import (
	"slices"
	"strings"
	"time"

	"carrel/internal/rfb"
)

const (
	terminalLines   = 200
	terminalColumns = 300
)

// terminal is a window in which typed keys appear and a few words are commands.
type terminal struct {
	// Lines are what scrolled past, Line is being typed.
	Lines   []string
	Line    string
	Control bool `json:"-"`
}

func (t terminal) copied() terminal {
	t.Lines = slices.Clone(t.Lines)
	return t
}

// Keysyms (X11 keysymdef.h) that do something.
const (
	keyBackSpace = 0xff08
	keyReturn    = 0xff0d
	keyEnter     = 0xff8d
	keyControlL  = 0xffe3
	keyControlR  = 0xffe4
)

// key takes a key of the keyboard; it tells whether anything changed that is to be kept.
func (d *desk) key(k rfb.Key, now time.Time) bool {
	t := &d.Terminal
	if k.Keysym == keyControlL || k.Keysym == keyControlR {
		t.Control = k.Down
		return false
	}
	if !k.Down {
		return false
	}
	switch {
	case t.Control && (k.Keysym|0x20) == 'v':
		d.paste(now)
	case t.Control && (k.Keysym|0x20) == 'c':
		t.print(d.prompt() + t.Line + "^C")
		t.Line = ""
	case k.Keysym == keyBackSpace:
		t.Line = t.Line[:max(0, len(t.Line)-1)]
	case k.Keysym == keyReturn || k.Keysym == keyEnter:
		d.enter(now)
	case k.Keysym >= ' ' && k.Keysym <= '~' && len(t.Line) < terminalColumns:
		t.Line += string(rune(k.Keysym))
	default:
		return false
	}
	return true
}

func (d *desk) prompt() string { return d.User + "@" + d.Computer + ":~$ " }

// paste types the clipboard.
func (d *desk) paste(now time.Time) {
	for _, c := range d.Clipboard[:min(len(d.Clipboard), 4096)] {
		sym := uint32(c)
		if c == '\n' {
			sym = keyReturn
		}
		if sym == keyReturn || sym >= ' ' && sym <= '~' {
			control := d.Terminal.Control
			d.Terminal.Control = false
			d.key(rfb.Key{Down: true, Keysym: sym}, now)
			d.Terminal.Control = control
		}
	}
}

// enter runs what was typed.
func (d *desk) enter(now time.Time) {
	t := &d.Terminal
	line := t.Line
	t.print(d.prompt() + line)
	t.Line = ""
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch word {
	case "":
	case "echo":
		t.print(rest)
	case "date":
		t.print(now.UTC().Format(time.UnixDate))
	case "hostname":
		t.print(d.Computer)
	case "whoami":
		t.print(d.User)
	case "clear":
		t.Lines = nil
	case "copy":
		d.Clipboard = rest
	case "help":
		t.print("clear copy date echo help hostname whoami")
	default:
		t.print(word + ": command not found (try help)")
	}
}

func (t *terminal) print(s string) {
	t.Lines = append(t.Lines, s[:min(len(s), terminalColumns)])
	t.Lines = slices.Delete(t.Lines, 0, max(0, len(t.Lines)-terminalLines))
}
