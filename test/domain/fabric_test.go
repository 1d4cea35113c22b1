package domain

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"carrel/internal/directory/ad"
	"carrel/internal/driver/linuxnet"
	"carrel/internal/ident"
)

// In the networks that desktops are in: made and kept by the fabric, with its filters in force.
func TestADomainInTheFabricOutlivesTheHostRole(t *testing.T) {
	w := newWorld(t)
	cfg := linuxnet.Config{Dir: filepath.Join(w.dir, "net")}
	fabric := func() *linuxnet.Fabric {
		f, err := linuxnet.Open(cfg)
		must(t, err)
		w.fabric = f
		w.open()
		return f
	}
	f := fabric()
	t.Cleanup(func() {
		_ = f.Close() // the test may have done so
		f := fabric()
		ctx := context.Background() // the test's own has ended
		err := errors.Join(w.domains.Remove(ctx, corp), f.RemoveNetwork(ctx, vpcA), f.Close())
		if w.fabric = nil; err != nil {
			t.Error(err)
		}
	})
	d := spec(corp, vpcA, "corp.example.test", "CORP")
	people := client(t, map[ident.DirectoryID]ad.Settings{corp: w.settings(d)})
	_, err := w.domains.Provision(t.Context(), d)
	must(t, err)
	s := &scene{world: w, corp: d, users: w.domains.Manager(), people: people}
	made := s.user(t, "ada")
	u, err := s.login(t, "ada", password)
	if err != nil || u.SID != made.SID {
		t.Errorf("%+v, %v", u, err)
	}
	pid := w.pid(corp)

	must(t, f.Close())
	f = fabric()
	s.users = w.domains.Manager()
	_, err = w.domains.Provision(t.Context(), d)
	must(t, err)
	if w.pid(corp) != pid {
		t.Error("the running controller was not taken over")
	}
	if _, err := s.login(t, "ada", password); err != nil {
		t.Error(err)
	}
}
