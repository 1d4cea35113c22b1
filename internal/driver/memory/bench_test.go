package memory

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var benchMiB = flag.Int64("mib", 64, "size of the block in benchmarks, in MiB")

func benchBlock(b *testing.B) *Block {
	b.Helper()
	block, err := Allocate(*benchMiB<<20, PagesSmall)
	if err == nil {
		err = block.Populate(context.Background())
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = block.Close() })
	b.SetBytes(block.size)
	b.ResetTimer()
	return block
}

// BenchmarkP9 scrubs a machine with one GiB as the host role does, with keeper, process, journal and seals, beside plain C that fills and
// compares as much. Each is run once a pair, on fresh memory. It prints what test/bench reads.
func BenchmarkP9(b *testing.B) {
	const mib, pairs = 1024, 5
	plain := filepath.Join(b.TempDir(), "memory")
	if out, err := exec.Command("cc", "-O2", "-pthread", "-o", plain, "../../../test/bench/memory.c").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	k := connect(b, runDir(b))
	// The first scrub of a process is not like the others: it has the pages of both mappings of one's first time.
	scrubOnce(b, k, "run-warm", mib)
	var zero, verify, together, zeroes, compares []float64
	for i := range pairs {
		z, v, all := scrubOnce(b, k, fmt.Sprintf("run-%d", i), mib)
		out, err := exec.Command(plain, fmt.Sprint(mib), fmt.Sprint(workers()), "1").Output()
		var set, compare float64
		if err == nil {
			_, err = fmt.Sscanf(string(out), "memset %f GB/s, memcmp %f GB/s", &set, &compare)
		}
		if err != nil {
			b.Fatalf("%s: %v", out, err)
		}
		speed := func(d time.Duration) float64 { return (mib << 20) / d.Seconds() / 1e9 }
		zero, verify = append(zero, speed(z)/set), append(verify, speed(v)/compare)
		together = append(together, (z+v).Seconds()*1000*1024/mib)
		zeroes, compares = append(zeroes, speed(z)), append(compares, speed(v))
		figure(map[string]any{"name": "zeroing", "unit": "GB/s", "server": "plain C", "samples": []float64{set}})
		figure(map[string]any{"name": "reading back", "unit": "GB/s", "server": "plain C", "samples": []float64{compare}})
		figure(map[string]any{"name": "the whole scrub of a GiB, its process included", "unit": "ms", "samples": []float64{all.Seconds() * 1000}})
	}
	figure(map[string]any{"name": "zeroing", "unit": "GB/s", "samples": zeroes})
	figure(map[string]any{"name": "reading back", "unit": "GB/s", "samples": compares})
	figure(map[string]any{"name": "zeroing / plain memset", "unit": "x", "samples": zero, "goal": 0.7, "better": ">="})
	figure(map[string]any{"name": "reading back / plain memcmp", "unit": "x", "samples": verify, "goal": 0.7, "better": ">="})
	figure(map[string]any{"name": "zeroing and reading back a GiB", "unit": "ms", "samples": together, "goal": 100, "better": "<="})
}

// figure prints a finding for test/bench.
func figure(f map[string]any) {
	f["figure"] = "p9"
	b, err := json.Marshal(f)
	must(err)
	fmt.Printf("figure: %s\n", b)
}

// scrubOnce runs a machine that has written all of its memory, scrubs it, and gives the time of zeroing, of reading back and of everything.
func scrubOnce(b *testing.B, k *Keeper, id string, mib int64) (zero, verify, all time.Duration) {
	block, err := Allocate(mib<<20, PagesSmall)
	if err == nil {
		err = k.Put(b.Context(), id, block, Meta{WorkspaceID: "ws-abcdefgh1", Run: id, Host: "host-1", Created: time.Now()})
	}
	if err == nil {
		err = block.Populate(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	m := start(b, "machine", newMarker(b), block.File())
	defer m.kill()
	if err := k.SetProcess(b.Context(), id, m.pid()); err != nil {
		b.Fatal(err)
	}
	at := map[string]time.Time{}
	began := time.Now()
	r, err := k.Scrub(b.Context(), id, ScrubOptions{Observe: func(point string) { at[point] = time.Now() }})
	all = time.Since(began)
	if err != nil {
		b.Fatal(err)
	}
	wantClean(b, r, mib<<20)
	if err := k.Forget(b.Context(), id); err != nil {
		b.Fatal(err)
	}
	return at["zeroed"].Sub(at["end noted"]), at["read"].Sub(at["sealed"]), all
}

// BenchmarkZero is the first half of figure P9 alone; test/bench/memory.c is the program beside it.
func BenchmarkZero(b *testing.B) {
	block := benchBlock(b)
	for b.Loop() {
		if err := zeroBytes(context.Background(), block.write); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify is the second half of figure P9.
func BenchmarkVerify(b *testing.B) {
	block := benchBlock(b)
	for b.Loop() {
		if n, _, err := readBack(context.Background(), block.read); n != 0 || err != nil {
			b.Fatal(n, err)
		}
	}
}
