package volume

import (
	"errors"
	"slices"
	"testing"

	"carrel/internal/driver"
)

func TestAVolumeLiesOnOneLayerFromItsFirstUseOn(t *testing.T) {
	v := newHost(t).open(t)
	root, user := spec(driver.RootVolume), spec(driver.UserVolume)
	for _, s := range []driver.VolumeSpec{root, user} {
		if _, err := v.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	seen := func(id driver.VolumeID) (string, bool) {
		o, err := v.OpenVolume(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		return o.Layer, o.Fresh
	}
	if layer, fresh := seen(root.ID); layer != "" || !fresh {
		t.Errorf("a new volume: layer %q, fresh %v", layer, fresh)
	}
	for range 2 {
		if err := v.BeginVolume(t.Context(), root.ID, "template-1"); err != nil {
			t.Error(err)
		}
	}
	if layer, fresh := seen(root.ID); layer != "template-1" || fresh {
		t.Errorf("a used volume: layer %q, fresh %v", layer, fresh)
	}
	for _, layer := range []string{"", "template-2"} {
		if err := v.BeginVolume(t.Context(), root.ID, layer); !errors.Is(err, driver.ErrOrder) {
			t.Errorf("another layer, %q: %v", layer, err)
		}
	}
	if err := v.BeginVolume(t.Context(), user.ID, "template-1"); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("a user volume on a layer: %v", err)
	}
	if err := v.BeginVolume(t.Context(), user.ID, ""); err != nil {
		t.Error(err)
	}
	if err := v.BeginVolume(t.Context(), "ws-000000009/root", ""); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("no volume: %v", err)
	}
	if layers, err := v.Layers(t.Context()); err != nil || !slices.Equal(layers, []string{"template-1"}) {
		t.Errorf("%v, %v", layers, err)
	}
	if _, err := v.Erase(t.Context(), root.ID); err != nil {
		t.Fatal(err)
	}
	if layers, err := v.Layers(t.Context()); err != nil || len(layers) != 0 {
		t.Errorf("after it was erased: %v, %v", layers, err)
	}
}
