package etcd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/state"
)

// crashDir is the environment variable that makes the test binary the process to be killed.
const crashDir = "CARREL_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := writeUntilKilled(dir, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeUntilKilled opens the store and writes to it from 16 goroutines: each transaction puts an item and its twin and
// raises the goroutine's counter. What is acknowledged is printed, in one write, after the acknowledgement.
func writeUntilKilled(dir string, out io.Writer) error {
	ctx := context.Background()
	s, err := Embedded(ctx, EmbeddedConfig{Dir: dir, Logger: quiet()})
	if err != nil {
		return err
	}
	_, generation, err := s.List(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	errs := make(chan error)
	for w := range 16 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d/%d/%d", generation, w, i)
				rev, err := s.Transact(ctx, state.Txn{Puts: []state.Write{
					{Key: state.Key{Table: "a", ID: id}, Value: []byte(id)},
					{Key: state.Key{Table: "twin", ID: id}, Value: []byte(id)},
					{Key: state.Key{Table: "counter", ID: fmt.Sprintf("%d/%d", generation, w)}, Value: []byte(strconv.Itoa(i))},
				}})
				if err == nil {
					mu.Lock()
					_, err = fmt.Fprintf(out, "%s %d\n", id, rev)
					mu.Unlock()
				}
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]state.Revision{}
	for round := range 5 {
		before := len(acknowledged)
		killUnderLoad(t, dir, 200+150*round, acknowledged)
		if len(acknowledged) == before {
			t.Fatal("nothing was acknowledged")
		}
		verify(t, dir, acknowledged)
	}
	t.Logf("%d acknowledged transactions verified", len(acknowledged))
}

// killUnderLoad runs the writing process until it has acknowledged some transactions, kills it in the middle of the
// next ones, and notes all that it has acknowledged.
func killUnderLoad(t *testing.T, dir string, transactions int, acknowledged map[string]state.Revision) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for n := 0; ; n++ {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // its last words, cut off in the middle or not
		}
		id, number, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		rev, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		acknowledged[id] = state.Revision(rev)
		if n == transactions {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the process ended by itself: %v", err)
	}
}

// verify opens the store and looks for everything acknowledged, and for halves of transactions.
func verify(t *testing.T, dir string, acknowledged map[string]state.Revision) {
	t.Helper()
	s, err := open(t, EmbeddedConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	items, _, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[state.Key]state.Item{}
	for _, it := range items {
		found[it.Key] = it
	}
	for id, rev := range acknowledged {
		it, ok := found[state.Key{Table: "a", ID: id}]
		if !ok || string(it.Value) != id || it.Revision != rev {
			t.Errorf("acknowledged %s at %d, found %q at %d", id, rev, it.Value, it.Revision)
		}
	}
	for k, it := range found {
		if k.Table != "a" {
			continue
		}
		if twin, ok := found[state.Key{Table: "twin", ID: k.ID}]; !ok || twin.Revision != it.Revision {
			t.Errorf("half a transaction: %s at %d, its twin at %d", k.ID, it.Revision, twin.Revision)
		}
	}
}
