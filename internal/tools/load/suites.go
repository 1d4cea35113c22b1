package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// suite is a Go benchmark that measures a figure from within: it needs the product's own packages, root, or machines that run. It is run
// once and prints a line for each finding:
//
//	figure: {"figure":"p7","name":"template start / cold boot","unit":"x","samples":[0.09,0.1],"goal":0.1,"better":"<="}
//	figure: {"figure":"p10","name":"MB/s","server":"websockify","samples":[512]}
//	missing: websockify: nothing to compare the relay with
//
// The first is judged by the median of its samples; the second, without a goal, stands in the table; the third says what this machine
// could not do. A benchmark that prints nothing of all this has not measured, and that is an error.
type suite struct {
	pkg, benchmark string
	// root: it needs to be run as root. programs are what it cannot do without.
	root     bool
	programs []string
}

// inside is a figure that suites measure.
type inside struct {
	name, title string
	suites      []suite
}

var machines = []string{"qemu-system-x86_64", "qemu-img"}

func insides() []inside {
	return []inside{
		{"p1b", "what authorization adds to a signed describe", []suite{{"./internal/front", "BenchmarkP1", false, nil}}},
		{"p7", "from create to an answering machine, templates, resumes", []suite{{"./test/desktop", "BenchmarkP7", true, machines}}},
		{"p8", "a desktop from nothing to its first picture", []suite{{"./test/house", "BenchmarkP8", true, append([]string{"samba"}, machines...)}}},
		{"p9", "scrub: zeroing and reading back beside plain C", []suite{{"./internal/driver/memory", "BenchmarkP9", false, []string{"cc"}}, {"./test/desktop", "BenchmarkP9", true, machines}}},
		{"p10", "the relay of screens beside websockify and a plain copy", []suite{{"./internal/display", "BenchmarkP10", false, nil}}},
		{"p13b", "a new host role takes fifty running machines over", []suite{{"./test/desktop", "BenchmarkP13b", true, machines}}},
	}
}

// measure runs the suites of a figure that this machine can run.
func (i inside) measure(b *bench, ctx context.Context) error {
	b.report.begin(i.name, i.title)
	for _, s := range i.suites {
		if lacks := s.lacks(os.Geteuid(), exec.LookPath); lacks != "" {
			b.say("not measured: %s %s needs %s (test/need)", s.pkg, s.benchmark, lacks)
			continue
		}
		out, err := s.run(ctx)
		if err != nil {
			return fmt.Errorf("%s %s: %w\n%s", s.pkg, s.benchmark, err, trimmed(out))
		}
		found, missing, err := findings(i.name, out)
		if err != nil {
			return fmt.Errorf("%s %s: %w\n%s", s.pkg, s.benchmark, err, trimmed(out))
		}
		for _, m := range missing {
			b.say("not measured: %s", m)
		}
		b.report.findings(found)
	}
	return nil
}

// lacks says what this machine has not got; empty: it can run the suite.
func (s suite) lacks(uid int, look func(string) (string, error)) string {
	var lacks []string
	if s.root && uid != 0 {
		lacks = append(lacks, "root")
	}
	for _, p := range s.programs {
		if _, err := look(p); err != nil {
			lacks = append(lacks, p)
		}
	}
	return strings.Join(lacks, ", ")
}

func (s suite) run(ctx context.Context) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-trimpath", "-buildvcs=false", "-run", "^$", "-bench", "^"+s.benchmark+"$", "-benchtime", "1x", "-timeout", "20m", s.pkg)
	// An interrupted go test ends what it has started, which takes its machines down.
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, time.Minute
	return cmd.CombinedOutput()
}

// finding is a line that a benchmark has printed.
type finding struct {
	Figure  string    `json:"figure"`
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`
	Server  string    `json:"server"`
	Samples []float64 `json:"samples"`
	Goal    float64   `json:"goal"`
	Better  string    `json:"better"`
	Note    string    `json:"note"`
}

// A benchmark's own line may have begun already.
var findingLine = regexp.MustCompile(`(?m)\b(figure|missing): (.*)$`)

// findings reads a benchmark's output.
func findings(figure string, out []byte) (found []finding, missing []string, err error) {
	for _, m := range findingLine.FindAllSubmatch(out, -1) {
		if string(m[1]) == "missing" {
			missing = append(missing, string(m[2]))
			continue
		}
		f, err := parseFinding(m[2])
		if err == nil && f.Figure != figure {
			err = fmt.Errorf("a line of %s", f.Figure)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%q: %w", m[2], err)
		}
		found = append(found, f)
	}
	if len(found)+len(missing) == 0 {
		return nil, nil, errors.New("it printed no figure")
	}
	return found, missing, nil
}

func parseFinding(line []byte) (f finding, err error) {
	in := json.NewDecoder(bytes.NewReader(line))
	in.DisallowUnknownFields()
	switch err = in.Decode(&f); {
	case err != nil:
	case in.More():
		err = errors.New("more than one value")
	case f.Name == "" || len(f.Samples) == 0:
		err = errors.New("no name, or no samples")
	case f.Better != "" && f.Better != "<=" && f.Better != ">=":
		err = fmt.Errorf("better is %q: want <= or >=", f.Better)
	case f.Better == "" && f.Goal != 0:
		err = errors.New("a goal, and not which side of it is better")
	}
	return f, err
}

// label is a finding's name with its unit.
func (f finding) label() string {
	if f.Unit == "" {
		return f.Name
	}
	return f.Name + ", " + f.Unit
}

// findings prints what stands side by side first, then what is judged.
func (r *report) findings(found []finding) {
	const ours = "carrel"
	beside := newSamples()
	for _, f := range found {
		if f.Server == "" {
			f.Server = ours
		}
		if f.Better != "" {
			continue
		}
		for _, v := range f.Samples {
			beside.add(f.label(), f.Server, v)
		}
	}
	if len(beside.names) > 0 {
		r.table(strings.ToUpper(found[0].Figure), beside)
	}
	for _, f := range found {
		if f.Better == "" {
			continue
		}
		figure, value := strings.ToUpper(f.Figure), median(f.Samples)
		r.Measures = append(r.Measures, measure{figure, f.label(), ours, value, f.Samples})
		if f.Better == "<=" {
			r.atMost(figure, f.label(), value, f.Goal)
		} else {
			r.atLeast(figure, f.label(), value, f.Goal)
		}
		if f.Note != "" {
			fmt.Fprintf(r.out, "                %s\n", f.Note)
		}
	}
}
