// Command load measures Carrel beside its peers and prints the figures: make bench.
//
// It drives real processes over real sockets and reads their processor time and memory from /proc. It refuses to know what a figure
// would be elsewhere: every goal is a ratio to something that runs in the same minute, in interleaved pairs, or an absolute limit that
// the figure itself names.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

const usage = `usage:
  load run [flags] [p2] [p3] [p4] [p7] [p8] [p9] [p10] [p13] [p13b] [p14]    measure these figures (all of them when none is named)
  load floor -address HOST:PORT -ca FILE         the floor: an empty HTTPS handler over TLS 1.3 that reads the body
  load fill -backup FILE -desktops N -out FILE   a backup with N stopped desktops more than FILE (carrel restore takes it)`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "load: "+err.Error())
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("no subcommand\n" + usage)
	}
	switch args[0] {
	case "run":
		return commandRun(ctx, args[1:])
	case "floor":
		return commandFloor(ctx, args[1:])
	case "fill":
		return commandFill(ctx, args[1:])
	}
	return fmt.Errorf("there is no subcommand %q\n%s", args[0], usage)
}

// bench is one run: where things are, and what it has found so far.
type bench struct {
	carrel, self, moto string
	dir                string
	pairs              int
	// profiles is where CPU profiles of Carrel under load are written; empty: nowhere.
	profiles string
	report   *report
	// base is a backup of a fresh installation, made when first asked for.
	base string
}

// figure is one part of the run.
type figure struct {
	name    string
	measure func(*bench, context.Context) error
}

func figures() []figure {
	all := []figure{{"p1", (*bench).p1}, {"p2", (*bench).p2}, {"p3", (*bench).p3}, {"p4", (*bench).p4}, {"p13", (*bench).p13}, {"p14", (*bench).p14}}
	for _, i := range insides() {
		all = append(all, figure{i.name, i.measure})
	}
	return all
}

func commandRun(ctx context.Context, args []string) error {
	b := &bench{}
	f := flag.NewFlagSet("run", flag.ExitOnError)
	f.StringVar(&b.carrel, "carrel", "bin/carrel", "the program under test")
	f.StringVar(&b.moto, "moto", "", "the moto_server command; empty: not installed")
	f.StringVar(&b.dir, "dir", "", "an empty directory for states, which stays")
	f.StringVar(&b.profiles, "profiles", "", "directory for CPU profiles of Carrel under load")
	f.IntVar(&b.pairs, "pairs", 5, "interleaved pairs; goals are judged by their median")
	out := f.String("json", "", "file for the results as JSON")
	strict := f.Bool("strict", false, "exit with 1 when a goal is missed")
	_ = f.Parse(args) // ExitOnError: it does not come back with an error
	chosen, err := choose(f.Args())
	if err != nil {
		return err
	}
	if b.dir == "" {
		return errors.New("-dir is missing")
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	b.report = newReport(os.Stdout)
	for _, c := range chosen {
		if err := c.measure(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	missed := b.report.summary()
	if *out != "" {
		if err := b.report.write(*out); err != nil {
			return err
		}
	}
	if missed > 0 && *strict {
		return fmt.Errorf("%d goals missed", missed)
	}
	return nil
}

func choose(names []string) ([]figure, error) {
	all := figures()
	for _, n := range names {
		if !slices.ContainsFunc(all, func(f figure) bool { return f.name == n }) {
			return nil, fmt.Errorf("there is no part %q\n%s", n, usage)
		}
	}
	if len(names) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(f figure) bool { return !slices.Contains(names, f.name) }), nil
}

// say tells the reader what is going on; the tables are the report's.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.report.out, "   "+format+"\n", args...)
}

// discard closes what cannot fail in a way that matters to a measurement.
func discard(closers ...io.Closer) {
	for _, c := range closers {
		_ = c.Close()
	}
}

// trimmed is the end of a process's output, for errors.
func trimmed(output []byte) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}
