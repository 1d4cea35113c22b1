package desktop

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/driver"
)

func TestADesktopStartsFromATemplateAndIsLikeAnyOther(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	if err := h.driver.MakeTemplate(limited(t), bare, "STANDARD"); err != nil {
		t.Fatal(err)
	}
	entries, err := h.keeper.List(t.Context())
	if err != nil || len(entries) != 1 || !entries[0].Meta.Template {
		t.Fatalf("%+v, %v: want the template's memory", entries, err)
	}
	spec := h.build(t, bare)
	begin := time.Now()
	m, err := h.driver.Start(limited(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("started from a template in %s", time.Since(begin))
	if strings.Contains(h.log.String(), "WARN") {
		t.Errorf("%s", h.log)
	}
	if layers, err := h.volumes.Layers(t.Context()); err != nil || len(layers) != 1 || layers[0] != entries[0].ID {
		t.Errorf("%v, %v", layers, err)
	}
	jailed(t, h)
	greeting(t, h)
	// Saved memory fits a machine that is started with everything in its place.
	for range 2 {
		if _, err := h.driver.Stop(limited(t), desktop); err != nil {
			t.Fatal(err)
		}
		if m, err = h.driver.Start(limited(t), spec); err != nil || m.State != driver.MachineRunning {
			t.Fatalf("%+v, %v", m, err)
		}
		greeting(t, h)
	}
	// And a new host role.
	h.leave(t)
	h.open(t, guestMemory)
	greeting(t, h)
	report, err := h.driver.Scrub(limited(t), desktop)
	if err != nil || report.Clean() != nil || report.ProcessBytes == 0 {
		t.Errorf("%+v, %v", report, err)
	}
	// The next machine on the same volumes is not fresh: it starts from its disk, which lies on the template's.
	if err := h.driver.Release(t.Context(), desktop); err != nil {
		t.Fatal(err)
	}
	if m, err = h.driver.Start(limited(t), spec); err != nil || m.State != driver.MachineRunning {
		t.Fatalf("%+v, %v", m, err)
	}
	greeting(t, h)
}

// templates are the ids of those whose memory the keeper has.
func templates(t *testing.T, h *host) (ids []string) {
	t.Helper()
	entries, err := h.keeper.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Meta.Template {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

func TestATemplateIsMadeAfterTheFirstStartAndOutlivesTheHostRole(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	spec := h.build(t, bare)
	if _, err := h.driver.Start(limited(t), spec); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.driver.Run(ctx) }()
	for end := time.Now().Add(time.Minute); len(templates(t, h)) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no template is made: %s", h.log)
		}
	}
	for end := time.Now().Add(time.Minute); !strings.Contains(h.log.String(), "memory template made"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the template is not finished: %s", h.log)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	was := templates(t, h)
	h.leave(t)
	h.open(t, guestMemory)
	if now := templates(t, h); !slices.Equal(now, was) {
		t.Errorf("%v, was %v", now, was)
	}
	greeting(t, h)
	two := h.buildAs(t, "ws-000000002", "eni-00000000000000002", bare)
	if _, err := h.driver.Start(limited(t), two); err != nil {
		t.Fatal(err)
	}
	if layers, err := h.volumes.Layers(t.Context()); err != nil || !slices.Equal(layers, was) || strings.Contains(h.log.String(), "level=WARN") {
		t.Errorf("%v, %v: want one desktop on %v\n%s", layers, err, was, h.log)
	}
}

func TestATemplateThatDoesNotWorkIsInNobodysWay(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	if err := h.driver.MakeTemplate(limited(t), bare, "STANDARD"); err != nil {
		t.Fatal(err)
	}
	was := templates(t, h)
	if err := os.Truncate(filepath.Join(h.dir, "machines", "templates", was[0], "devices"), 1000); err != nil {
		t.Fatal(err)
	}
	spec := h.build(t, bare)
	if m, err := h.driver.Start(limited(t), spec); err != nil || m.State != driver.MachineRunning {
		t.Fatalf("%+v, %v", m, err)
	}
	if !strings.Contains(h.log.String(), "the desktop starts from its disk") {
		t.Errorf("nothing is said of it: %s", h.log)
	}
	greeting(t, h)
	if _, err := h.driver.Stop(limited(t), desktop); err != nil {
		t.Error(err)
	}
	if m, err := h.driver.Start(limited(t), spec); err != nil || m.State != driver.MachineRunning {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestATemplateOfAnImageThatChangedIsRetiredAndItsLayerStaysWhileAVolumeLiesOnIt(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	if err := h.driver.MakeTemplate(limited(t), bare, "STANDARD"); err != nil {
		t.Fatal(err)
	}
	first := templates(t, h)
	if err := h.driver.MakeTemplate(limited(t), bare, "STANDARD"); err != nil || !slices.Equal(templates(t, h), first) {
		t.Errorf("a second one was made: %v, %v", templates(t, h), err)
	}
	spec := h.build(t, bare)
	if _, err := h.driver.Start(limited(t), spec); err != nil {
		t.Fatal(err)
	}
	h.images.(blank).changed.Store(true)
	if err := h.driver.MakeTemplate(limited(t), bare, "STANDARD"); err != nil {
		t.Fatal(err)
	}
	if now := templates(t, h); len(now) != 1 || now[0] == first[0] {
		t.Errorf("templates %v, were %v", now, first)
	}
	files := func() (names []string) {
		all, err := os.ReadDir(filepath.Join(h.dir, "machines", "templates", first[0]))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, f := range all {
			names = append(names, f.Name())
		}
		return names
	}
	if now := files(); !slices.Equal(now, []string{"layer.qcow2", "template.json"}) {
		t.Errorf("the old one has %v", now)
	}
	greeting(t, h)
	if _, err := h.driver.Scrub(limited(t), desktop); err != nil {
		t.Fatal(err)
	}
	if _, err := h.volumes.Erase(t.Context(), spec.Root); err != nil {
		t.Fatal(err)
	}
	if err := h.driver.MakeTemplate(limited(t), bare, "STANDARD"); err != nil {
		t.Fatal(err)
	}
	if now := files(); len(now) != 0 {
		t.Errorf("nobody lies on it, and it has %v", now)
	}
}

func TestADesktopIsWorthMoreThanATemplate(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	h.leave(t)
	h.memory = guestMemory
	h.open(t, guestMemory)
	if err := h.driver.MakeTemplate(limited(t), bare, "STANDARD"); err != nil {
		t.Fatal(err)
	}
	was := templates(t, h)
	if m, err := h.driver.Start(limited(t), h.build(t, bare)); err != nil || m.State != driver.MachineRunning {
		t.Fatalf("%+v, %v", m, err)
	}
	if now := templates(t, h); len(was) != 1 || len(now) != 0 {
		t.Errorf("templates %v, then %v", was, now)
	}
	if err := h.driver.MakeTemplate(limited(t), bare, "STANDARD"); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("without memory for it: %v", err)
	}
}

func TestADesktopIsWorthMoreThanATemplateThatIsBeingMade(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	h.leave(t)
	h.memory = guestMemory
	h.open(t, guestMemory)
	spec := h.build(t, bare)
	made := make(chan error)
	go func() { made <- h.driver.MakeTemplate(limited(t), bare, "STANDARD") }()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if entries, err := h.keeper.List(t.Context()); err != nil || time.Now().After(end) {
			t.Fatalf("no template is begun: %v", err)
		} else if len(entries) == 1 {
			break
		}
	}
	if m, err := h.driver.Start(limited(t), spec); err != nil || m.State != driver.MachineRunning {
		t.Fatalf("%+v, %v", m, err)
	}
	if err := <-made; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if entries, err := h.keeper.List(t.Context()); err != nil || len(entries) != 1 || entries[0].Meta.WorkspaceID != desktop {
		t.Errorf("%+v, %v: want the desktop's memory alone", entries, err)
	}
	if left, err := os.ReadDir(filepath.Join(h.dir, "machines", "templates")); err != nil || len(left) != 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
	greeting(t, h)
}

func TestAHostThatIsSetToHaveNoTemplatesGivesThemBackAndKeepsTheirLayers(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	if err := h.driver.MakeTemplate(limited(t), bare, "STANDARD"); err != nil {
		t.Fatal(err)
	}
	spec := h.build(t, bare)
	if _, err := h.driver.Start(limited(t), spec); err != nil {
		t.Fatal(err)
	}
	if _, err := h.driver.Stop(limited(t), desktop); err != nil {
		t.Fatal(err)
	}
	h.leave(t)
	h.noTemplates = true
	h.open(t, guestMemory)
	if now := templates(t, h); len(now) != 0 {
		t.Errorf("templates %v", now)
	}
	// What was started from one goes on, and what is new starts from its disk.
	two := h.buildAs(t, "ws-000000002", "eni-00000000000000002", bare)
	for _, s := range []driver.MachineSpec{spec, two} {
		if m, err := h.driver.Start(limited(t), s); err != nil || m.State != driver.MachineRunning {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	if !strings.Contains(h.log.String(), `from="saved memory"`) || !strings.Contains(h.log.String(), "from=disk") {
		t.Errorf("%s", h.log)
	}
	if layers, err := h.volumes.Layers(t.Context()); err != nil || len(layers) != 1 {
		t.Errorf("%v, %v: want one desktop on a layer", layers, err)
	}
}

// FLT: the host role is killed while it makes a template, and while it starts a desktop from one.
func TestTheHostRoleIsKilledAtATemplate(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	h.leave(t)
	killed(t, h.dir, "template", "paused")
	h.open(t, guestMemory)
	if left, err := h.keeper.List(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("memory left: %+v, %v", left, err)
	}
	if left, err := os.ReadDir(filepath.Join(h.dir, "machines", "templates")); err != nil || len(left) != 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
	if err := h.driver.MakeTemplate(limited(t), bare, "STANDARD"); err != nil {
		t.Fatal(err)
	}
	was := templates(t, h)
	spec := h.build(t, bare)
	h.leave(t)
	killed(t, h.dir, "start", "runs")
	h.open(t, guestMemory)
	if _, err := h.driver.Inspect(t.Context(), desktop); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if now := templates(t, h); !slices.Equal(now, was) {
		t.Errorf("templates %v, were %v", now, was)
	}
	// Its guest has run, so its disk is not the template's any more.
	if m, err := h.driver.Start(limited(t), spec); err != nil || m.State != driver.MachineRunning {
		t.Fatalf("%+v, %v", m, err)
	}
	greeting(t, h)
}

func TestALayerIsSoundQcow2(t *testing.T) {
	h := newHost(t, nil, guestMemory)
	if err := h.driver.MakeTemplate(limited(t), bare, "STANDARD"); err != nil {
		t.Fatal(err)
	}
	layer := filepath.Join(h.dir, "machines", "templates", templates(t, h)[0], "layer.qcow2")
	if out, err := exec.Command("qemu-img", "check", "-f", "qcow2", layer).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
