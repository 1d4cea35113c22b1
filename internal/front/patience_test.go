package front

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPatienceEndsWhenTimeIsUpTheClientIsGoneOrTheRequestIsAnswered(t *testing.T) {
	for _, tt := range []struct {
		name string
		want error
		end  func(p *patience, leave context.CancelFunc)
	}{
		{"time is up", context.DeadlineExceeded, func(*patience, context.CancelFunc) { time.Sleep(time.Minute) }},
		{"the client is gone", context.Canceled, func(_ *patience, leave context.CancelFunc) { leave() }},
		{"the request is answered", context.Canceled, func(p *patience, _ context.CancelFunc) { p.end() }},
	} {
		for _, early := range []bool{true, false} {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, leave := context.WithCancel(t.Context())
					defer leave()
					p := newPatience(parent, time.Minute)
					defer p.end()
					if at, ok := p.Deadline(); !ok || !at.Equal(time.Now().Add(time.Minute)) {
						t.Errorf("deadline %s, %v", at, ok)
					}
					if early {
						// Somebody waits already: the timer is set.
						select {
						case <-p.Done():
							t.Fatal("done at the beginning")
						default:
						}
					}
					if err := p.Err(); err != nil {
						t.Fatalf("at the beginning: %v", err)
					}
					tt.end(p, leave)
					synctest.Wait()
					if err := p.Err(); !errors.Is(err, tt.want) {
						t.Errorf("got %v, want %v", err, tt.want)
					}
					child, cancel := context.WithCancel(p)
					defer cancel()
					<-child.Done()
					if err := child.Err(); !errors.Is(err, tt.want) {
						t.Errorf("a child: got %v, want %v", err, tt.want)
					}
				})
			})
		}
	}
}
