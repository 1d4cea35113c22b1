package doctor

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Write prints the report for people: a line a check, the remedy under it where there is something to do, the verdict at the end.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	width := 0
	for _, c := range r.Checks {
		width = max(width, len(c.Name))
	}
	group := Group("")
	for _, c := range r.Checks {
		if c.Group != group {
			group = c.Group
			fmt.Fprintf(&b, "%s\n", group)
		}
		fmt.Fprintf(&b, "  %-7s  %-*s  %s\n", c.Status, width, c.Name, printable(c.Detail))
		if c.Remedy != "" {
			fmt.Fprintf(&b, "           %-*s  -> %s\n", width, "", printable(c.Remedy))
		}
	}
	b.WriteString("\n" + r.verdict() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Report) verdict() string {
	how := "in software emulation (TCG)"
	if r.KVM {
		how = "on KVM"
	}
	lacking := r.Lacks()
	if len(lacking) == 0 {
		return "This machine can run real desktops, " + how + "."
	}
	names := make([]string, len(lacking))
	for i, c := range lacking {
		names[i] = c.Name
	}
	return "This machine can run simulated desktops only. For real ones (they would run " + how + ") it lacks: " + strings.Join(names, ", ") + "."
}

// printable keeps a line a line: details quote files and programs' output, which must not steer an administrator's terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
