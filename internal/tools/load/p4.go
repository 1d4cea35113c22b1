package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// p4 is the signature verifier beside the one that is written plainly with the standard library, in one binary.
func (b *bench) p4(ctx context.Context) error {
	b.report.begin("p4", fmt.Sprintf("signature verification, %d interleaved rounds (medians)", b.pairs))
	binary := filepath.Join(b.dir, "sigv4.test")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "./internal/sigv4").CombinedOutput(); err != nil {
		return fmt.Errorf("go test: %w\n%s", err, trimmed(out))
	}
	s := newSamples()
	for range b.pairs {
		out, err := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.bench=^BenchmarkP4$", "-test.benchmem", "-test.benchtime=500ms").CombinedOutput()
		if err != nil {
			return fmt.Errorf("BenchmarkP4: %w\n%s", err, trimmed(out))
		}
		found := benchmarkLine.FindAllStringSubmatch(string(out), -1)
		if len(found) == 0 {
			return fmt.Errorf("BenchmarkP4 printed no result:\n%s", trimmed(out))
		}
		for _, m := range found {
			ns, _ := strconv.ParseFloat(m[2], 64)
			allocs, _ := strconv.ParseFloat(m[3], 64)
			s.add("ns/verification", m[1], ns)
			s.add("allocations", m[1], allocs)
		}
	}
	b.report.table("P4", s)
	b.report.atMost("P4", "right signature / naive verifier", s.ratio("ns/verification", "right", "naive"), 0.4)
	b.report.atMost("P4", "wrong signature / right signature", s.ratio("ns/verification", "wrong", "right"), 1)
	b.report.atMost("P4", "allocations of a verification", median(s.of("allocations", "right")), 2)
	return nil
}

// benchmarkLine is a line of the Go benchmark format.
var benchmarkLine = regexp.MustCompile(`(?m)^BenchmarkP4/(\w+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op\s+\d+ B/op\s+(\d+) allocs/op`)
