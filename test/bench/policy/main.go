// Command policy measures figure P5: the policy engine beside cedar-go on one workload, in one process: go run . [-strict].
//
// It is a module of its own, so that cedar-go (Apache-2.0) stays out of the program's dependencies.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
)

const rounds = 5

// engine decides the workload's requests.
type engine struct {
	name   string
	decide func(allowed bool) bool // of the request that is allowed, or of the one that is not
}

func main() {
	strict := flag.Bool("strict", false, "exit with 1 when a goal is missed")
	flag.Parse()
	missed := false
	goal := func(ok bool, format string, args ...any) {
		mark := "met"
		if !ok {
			mark, missed = "MISSED", true
		}
		fmt.Printf("p5: %-6s %s\n", mark, fmt.Sprintf(format, args...))
	}
	own, cedar := map[int]engine{}, map[int]engine{}
	for _, n := range []int{10, 100, 1000} {
		own[n], cedar[n] = carrelEngine(n), cedarEngine(n)
		for _, e := range []engine{own[n], cedar[n]} {
			if !e.decide(true) || e.decide(false) {
				fmt.Fprintf(os.Stderr, "p5: %s decides the workload of %d statements wrongly\n", e.name, n)
				os.Exit(2)
			}
		}
	}
	ratio, growth, took := sample(own, cedar)
	goal(ratio >= 40, "100 statements: %.0f ns, cedar-go %.0f ns: %.0fx (goal: at least 40x)", took[0], took[1], ratio)
	goal(took[0] <= 1400, "100 statements: %.0f ns (goal: at most 1,400)", took[0])
	goal(growth <= 2, "1,000 statements take %.2fx of 10 (goal: at most 2x); cedar-go: %.0fx", growth, took[2])
	allocs := testing.AllocsPerRun(1000, func() { own[100].decide(true) })
	goal(allocs == 0, "%.0f allocations a decision (goal: 0)", allocs)
	if missed && *strict {
		os.Exit(1)
	}
}

// sample takes the medians of interleaved rounds: how many times faster than cedar-go, how many times longer 1,000 statements take than 10,
// and beside them the times that are printed.
func sample(own, cedar map[int]engine) (ratio, growth float64, took [3]float64) {
	var ratios, growths, ours, theirs, theirGrowth []float64
	for range rounds {
		ten, hundred, thousand := time1(own[10]), time1(own[100]), time1(own[1000])
		cedarTen, cedarHundred, cedarThousand := time1(cedar[10]), time1(cedar[100]), time1(cedar[1000])
		ratios, growths = append(ratios, cedarHundred/hundred), append(growths, thousand/ten)
		ours, theirs, theirGrowth = append(ours, hundred), append(theirs, cedarHundred), append(theirGrowth, cedarThousand/cedarTen)
	}
	return median(ratios), median(growths), [3]float64{median(ours), median(theirs), median(theirGrowth)}
}

// time1 is how long one decision takes, in nanoseconds: the quickest of the batches in 50 ms, so that other work of the machine counts for nothing.
func time1(e engine) float64 {
	runtime.GC()
	begin := time.Now()
	e.decide(true)
	batch := max(1, int(50*time.Microsecond/max(1, time.Since(begin))))
	best := time.Hour
	for time.Since(begin) < 50*time.Millisecond {
		start := time.Now()
		for range batch {
			e.decide(true)
		}
		best = min(best, time.Since(start))
	}
	return float64(best.Nanoseconds()) / float64(batch)
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
