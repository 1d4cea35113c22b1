package qemu

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/driver/memory"
)

// config is complete; nothing in it works.
func config(t *testing.T) Config {
	type volumes struct{ driver.VolumeOpener }
	type images struct{ driver.ImageOpener }
	type taps struct{ driver.TapOpener }
	type keys struct{ Wrapper }
	return Config{Dir: t.TempDir(), Host: "h", Keeper: &memory.Keeper{}, Volumes: volumes{}, Images: images{}, Taps: taps{}, Keys: keys{}, Clock: clock.System{}, Random: &bytes.Buffer{},
		Log: slog.New(slog.DiscardHandler), Accel: TCG, Size: func(string) (Size, bool) { return Size{}, false }, Memory: 1, FirstUID: 64100, UIDs: 100}
}

func TestAConfigurationThatLacksSomethingIsRefusedByName(t *testing.T) {
	c := config(t)
	if err := c.check(); err != nil {
		t.Error(err)
	}
	c.Keeper, c.Accel = nil, "xen"
	if err := c.check(); err == nil || !strings.Contains(err.Error(), "Accel, Keeper") {
		t.Errorf("%v", err)
	}
}

// A machine that broke out and ran as the keeper's user could end it.
func TestNoMachineRunsAsTheMemoryKeepersUser(t *testing.T) {
	for first, good := range map[int]bool{memory.KeeperUser: false, memory.KeeperUser - 99: false, memory.KeeperUser - 100: true, memory.KeeperUser + 1: true} {
		c := config(t)
		c.FirstUID = first
		if err := c.check(); (err == nil) != good {
			t.Errorf("user ids from %d: %v", first, err)
		}
	}
}
