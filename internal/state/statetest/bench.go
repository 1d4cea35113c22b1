package statetest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"carrel/internal/state"
)

// Parallel runs b.N operations on so many goroutines, numbered from 0, and reports how many it did a second.
func Parallel(b *testing.B, goroutines int, fn func(ctx context.Context, i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range goroutines {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				if err := fn(b.Context(), i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// Bench measures transactions of a Store: of one put of 1 KiB by one writer and by 64, and of a hundred puts.
func Bench(b *testing.B, open func(b *testing.B) state.Store) {
	value := []byte(strings.Repeat("v", 1024))
	for _, c := range []struct {
		name          string
		writers, puts int
	}{
		{"one put, 1 writer", 1, 1}, {"one put, 64 writers", 64, 1}, {"100 puts, 1 writer", 1, 100},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := open(b)
			b.Cleanup(func() {
				if err := s.Close(); err != nil {
					b.Error(err)
				}
			})
			Parallel(b, c.writers, func(ctx context.Context, i int) error {
				var txn state.Txn
				for p := range c.puts {
					txn.Puts = append(txn.Puts, state.Write{Key: key("bench", fmt.Sprintf("%d/%d", i, p)), Value: value})
				}
				_, err := s.Transact(ctx, txn)
				return err
			})
		})
	}
}
