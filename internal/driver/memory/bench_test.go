package memory

import (
	"context"
	"flag"
	"testing"
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

// BenchmarkZero is the first half of figure P9; test/bench/memory.c is the program beside it.
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
