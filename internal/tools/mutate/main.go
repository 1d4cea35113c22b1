// Command mutate checks that a package's tests notice wrong code: mutate [-min 95] [-slow REGEXP] [-skip REGEXP] ./internal/policy.
//
// It rewrites the package so that each small change (a comparison turned round, && made ||, a statement left out, true made false) can be
// switched on by a number, builds the tests once with all of them, and runs the tests once for each number. A change under which all tests still
// pass has survived: either a test is missing or the code is needless. The package itself is not touched: the compiler is given an overlay.
//
// Tests that -slow names are only run when the others have let a change pass; those that measure time belong into -skip, because a busy machine makes
// them fail without any change. A run that does not end counts as noticed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	least := flag.Float64("min", 95, "percent of the changes that must be noticed")
	slow := flag.String("slow", "", "tests to run only when the others have noticed nothing")
	skip := flag.String("skip", "^$", "tests never to run")
	only := flag.String("only", "", "files to change, separated by commas (default: all of the package)")
	timeout := flag.Duration("timeout", time.Minute, "how long one run of the tests may take")
	workers := flag.Int("workers", 2, "runs at the same time")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	r := &run{pkg: flag.Arg(0), slow: *slow, skip: *skip, timeout: *timeout}
	share, err := r.all(*only, *workers)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
	if share < *least {
		fmt.Printf("mutate: FAILED: less than %g %%\n", *least)
		os.Exit(1)
	}
}

// run is one package under test.
type run struct {
	pkg, slow, skip string
	timeout         time.Duration
	binary          string
}

// all gives how many percent of the changes were noticed.
func (r *run) all(only string, workers int) (float64, error) {
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	changes, err := r.build(dir, only)
	if err != nil {
		return 0, err
	}
	if noticed, out := r.notices(0); noticed {
		return 0, fmt.Errorf("the tests fail without any change:\n%s", out)
	}
	survived := make([]bool, len(changes))
	ids := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range ids {
				if noticed, _ := r.notices(i + 1); !noticed { // 0 is no change.
					survived[i] = true
					fmt.Println("survived:", changes[i])
				}
			}
		}()
	}
	for i := range changes {
		ids <- i
	}
	close(ids)
	wg.Wait()
	alive := 0
	for _, s := range survived {
		if s {
			alive++
		}
	}
	share := 100 * float64(len(changes)-alive) / float64(len(changes))
	fmt.Printf("mutate: %d of %d changes of %s noticed (%.1f %%)\n", len(changes)-alive, len(changes), r.pkg, share)
	return share, nil
}

// build compiles the package's tests with every change in them.
func (r *run) build(dir, only string) ([]string, error) {
	m, err := rewrite(r.pkg, only)
	if err != nil {
		return nil, err
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for path, source := range m.files {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		to := filepath.Join(dir, strconv.Itoa(len(overlay.Replace))+".go")
		overlay.Replace[abs] = to
		if err := os.WriteFile(to, source, 0o600); err != nil {
			return nil, err
		}
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o600); err != nil {
		return nil, err
	}
	r.binary = filepath.Join(dir, "tests")
	out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", r.binary, r.pkg).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return m.changes, nil
}

// notices runs the tests with one change: the quick ones, and the slow ones when those pass.
func (r *run) notices(change int) (bool, []byte) {
	if r.slow == "" {
		return r.fails(change, "-test.skip="+r.skip)
	}
	if noticed, out := r.fails(change, "-test.skip="+r.skip+"|"+r.slow); noticed {
		return true, out
	}
	return r.fails(change, "-test.skip="+r.skip, "-test.run="+r.slow)
}

func (r *run) fails(change int, which ...string) (bool, []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	// A change may make a loop that only ends with the memory: it gets 3 GiB.
	args := append([]string{"-c", `ulimit -v 3145728; exec "$0" "$@"`, r.binary, "-test.short", "-test.failfast"}, which...)
	cmd := exec.CommandContext(ctx, "/bin/sh", args...)
	cmd.Dir = r.pkg
	cmd.Env = append(os.Environ(), variable+"="+strconv.Itoa(change))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "mutate:", strings.TrimSpace(err.Error()))
	}
	return err != nil, out.Bytes()
}
