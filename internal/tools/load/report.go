package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what a run has found, for people and as JSON.
type report struct {
	out      io.Writer
	Started  time.Time `json:"started"`
	Measures []measure `json:"measures"`
	Goals    []goal    `json:"goals"`
}

// measure is one quantity of one server: a sample a pair, and their median.
type measure struct {
	Figure  string    `json:"figure"`
	Name    string    `json:"name"`
	Server  string    `json:"server"`
	Median  float64   `json:"median"`
	Samples []float64 `json:"samples"`
}

// goal is a limit and what was found of it.
type goal struct {
	Figure string  `json:"figure"`
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Limit  string  `json:"limit"`
	Met    bool    `json:"met"`
}

func newReport(out io.Writer) *report { return &report{out: out, Started: time.Now().UTC()} }

func (r *report) begin(figure, title string) {
	fmt.Fprintf(r.out, "\n== %s  %s\n", strings.ToUpper(figure), title)
}

// samples are measurements by quantity and server, in the order they were first added.
type samples struct {
	names, servers []string
	values         map[[2]string][]float64
}

func newSamples() *samples { return &samples{values: map[[2]string][]float64{}} }

func (s *samples) add(name, server string, v float64) {
	if !slices.Contains(s.names, name) {
		s.names = append(s.names, name)
	}
	if !slices.Contains(s.servers, server) {
		s.servers = append(s.servers, server)
	}
	key := [2]string{name, server}
	s.values[key] = append(s.values[key], v)
}

func (s *samples) of(name, server string) []float64 { return s.values[[2]string{name, server}] }

// ratio is the median over the pairs of one server's sample to another's.
func (s *samples) ratio(name, server, to string) float64 { return s.across(name, server, name, to) }

// across is ratio between two quantities.
func (s *samples) across(name, server, toName, to string) float64 {
	a, b := s.of(name, server), s.of(toName, to)
	var all []float64
	for i := range min(len(a), len(b)) {
		all = append(all, a[i]/b[i])
	}
	return median(all)
}

// table prints the medians side by side, a column a server, and keeps all samples.
func (r *report) table(figure string, s *samples) {
	w := tabwriter.NewWriter(r.out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "   \t%s\t\n", strings.Join(s.servers, "\t"))
	for _, name := range s.names {
		fmt.Fprintf(w, "   %s\t", name)
		for _, server := range s.servers {
			values := s.of(name, server)
			if len(values) == 0 {
				fmt.Fprint(w, "-\t")
				continue
			}
			fmt.Fprintf(w, "%s\t", number(median(values)))
			r.Measures = append(r.Measures, measure{figure, name, server, median(values), values})
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // standard output
}

// atMost and atLeast judge a value against a goal's limit and print it.
func (r *report) atMost(figure, name string, value, limit float64) {
	r.judge(goal{figure, name, value, "<= " + number(limit), value <= limit})
}

func (r *report) atLeast(figure, name string, value, limit float64) {
	r.judge(goal{figure, name, value, ">= " + number(limit), value >= limit})
}

func (r *report) judge(g goal) {
	// JSON has no NaN; a value that could not be found is a goal that is not met.
	if math.IsNaN(g.Value) || math.IsInf(g.Value, 0) {
		g.Value, g.Met = -1, false
	}
	r.Goals = append(r.Goals, g)
	fmt.Fprintf(r.out, "   %-7s %-4s %-72s %10s   goal %s\n", verdict(g.Met), g.Figure, g.Name, number(g.Value), g.Limit)
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}

// summary prints all goals once more and gives how many were missed.
func (r *report) summary() (missed int) {
	fmt.Fprintf(r.out, "\n== goals (%d s)\n", int(time.Since(r.Started).Seconds()))
	all := r.Goals
	r.Goals = nil
	for _, g := range all {
		r.judge(g)
		if !g.Met {
			missed++
		}
	}
	fmt.Fprintf(r.out, "   %d of %d goals met\n", len(all)-missed, len(all))
	return missed
}

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// number prints four significant digits, or all of an integer.
func number(v float64) string {
	if math.Abs(v) >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.4g", v)
}
