package netsvc

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// fabric is a host's fabric without namespaces: it keeps which VPCs were entered, and fails.
type fabric struct {
	mu      sync.Mutex
	ports   []Port
	changed chan struct{}
	entered []ident.VPCID
}

func (f *fabric) Ports() ([]Port, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ports), f.changed
}

func (f *fabric) Enter(_ context.Context, vpc ident.VPCID, _ func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entered = append(f.entered, vpc)
	return driver.ErrNotFound
}

func (f *fabric) set(ports ...Port) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ports, f.entered = ports, nil
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fabric) tries() []ident.VPCID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.entered)
}

func TestServicesFollowTheConnectionsAndAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fabric{changed: make(chan struct{})}
		s, err := New(Config{Ports: f.Ports, Enter: f.Enter, Region: "eu-central-1"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		if got := f.tries(); len(got) != 0 {
			t.Errorf("without connections: entered %v", got)
		}
		f.set(desktop)
		synctest.Wait()
		if got := f.tries(); len(got) != 3 { // DHCP, DNS, metadata
			t.Errorf("entered %v", got)
		}
		time.Sleep(s.retry)
		synctest.Wait()
		if got := f.tries(); len(got) != 6 {
			t.Errorf("after a while: entered %v", got)
		}
		again := desktop
		again.Index++ // The device was made anew: its socket must be, too. The VPC's other services go on.
		f.set(again)
		synctest.Wait()
		if got := f.tries(); len(got) != 1 {
			t.Errorf("with another device: entered %v", got)
		}
		f.set()
		synctest.Wait()
		time.Sleep(time.Minute)
		if got := f.tries(); len(got) != 0 {
			t.Errorf("after the last has gone: entered %v", got)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestNewRefusesWhatCannotServe(t *testing.T) {
	f := &fabric{}
	good := Config{Ports: f.Ports, Enter: f.Enter, Region: "eu-central-1"}
	for name, spoil := range map[string]func(*Config){
		"no ports": func(c *Config) { c.Ports = nil }, "no way in": func(c *Config) { c.Enter = nil }, "no region": func(c *Config) { c.Region = "" },
		"a lease of a second": func(c *Config) { c.Lease = time.Second }, "a lease of ten years": func(c *Config) { c.Lease = 10 * 365 * 24 * time.Hour },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := New(good); err != nil {
		t.Error(errors.Join(errors.New("a good one"), err))
	}
}
