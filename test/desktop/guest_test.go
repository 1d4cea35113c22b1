package desktop

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carrel/internal/deskline"
	"carrel/internal/driver"
	"carrel/internal/driver/image"
	"carrel/internal/driver/qmp"
	"carrel/internal/ident"
)

const minimal = ident.ImageID("wsi-minimal12")

// realImages is a store with the minimal image, taken from the repository's cache or built there.
func realImages(t testing.TB) driver.ImageOpener {
	t.Helper()
	need(t, "mmdebstrap", "mke2fs", "xz")
	cache, err := filepath.Abs("../../.cache/images")
	if err != nil {
		t.Fatal(err)
	}
	s, err := image.Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	for {
		r, err := image.Build(ctx, image.BuildOptions{Variant: image.Minimal, Cache: cache, Key: s.Signer(), Progress: steps{t}})
		if errors.Is(err, image.ErrBusy) {
			time.Sleep(time.Second) // Another suite builds.
			continue
		}
		if err == nil {
			err = s.Add(ctx, minimal, r.Dir)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

type steps struct{ t testing.TB }

func (steps) Plan([]string) {}
func (s steps) Begin(step string) {
	s.t.Log("image:", step)
}
func (steps) End(string, bool, error) {}

// asked runs a shell command in a guest through the connection that the keeper holds, while this process is no host role.
func asked(t *testing.T, h *host, run, script string) string {
	t.Helper()
	f, err := h.keeper.GetFile(t.Context(), run, "agent")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	a := qmp.NewAgent(conn, time.Minute)
	defer a.Close()
	out, err := a.Run(limited(t), qmp.Command{Path: "/bin/sh", Args: []string{"-c", script}})
	if err != nil || out.Code != 0 {
		t.Fatalf("%s: exit status %d, %v: %s", script, out.Code, err, out.Stderr)
	}
	return strings.TrimSpace(string(out.Stdout))
}

// takesTexts puts a text on the clipboard of a guest's session, which says that it has it. Sessions of a template's rehearsal and of an earlier host role
// have spoken on the same port before.
func takesTexts(t *testing.T, h *host, id ident.WorkspaceID) {
	t.Helper()
	ctx := limited(t)
	conn, err := h.driver.Session(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	in := deskline.NewReader(conn)
	for _, step := range []struct {
		say  deskline.Message
		want deskline.Kind
	}{{deskline.Message{Kind: deskline.Hello}, deskline.Hello}, {deskline.Message{Kind: deskline.Clip, Text: []byte("für " + string(id))}, deskline.Taken}} {
		if _, err := conn.Write(deskline.Append(nil, step.say)); err != nil {
			t.Fatal(err)
		}
		for {
			line, err := in.Next()
			if err != nil {
				t.Fatalf("%s does not answer: %v", id, err)
			}
			if m, err := deskline.Parse(line); err == nil && m.Kind == step.want {
				break
			}
		}
	}
}

// VMM-7 and P7, with a guest that is one.
func TestVMM7TwoDesktopsOfOneTemplateShareNothingThatNamesThem(t *testing.T) {
	const size = 512 << 20
	h := newHost(t, realImages(t), size)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	began := time.Now()
	if err := h.driver.MakeTemplate(ctx, minimal, "STANDARD"); err != nil {
		t.Fatal(err)
	}
	cold := time.Since(began)
	two, eni2 := ident.WorkspaceID("ws-000000002"), ident.InterfaceID("eni-00000000000000002")
	specs := []driver.MachineSpec{h.build(t, minimal), h.buildAs(t, two, eni2, minimal)}
	var runs []string
	for _, s := range specs {
		began := time.Now()
		m, err := h.driver.Start(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		warm := time.Since(began)
		t.Logf("%s runs %s after its start was asked for, from a template; the template's machine was made in %s (%.2f)", s.WorkspaceID, warm, cold, warm.Seconds()/cold.Seconds())
		runs = append(runs, m.Run)
	}
	if strings.Contains(h.log.String(), "WARN") {
		t.Fatalf("%s", h.log)
	}
	// Before anybody has told them who they are: the generation id alone has changed their random numbers.
	if err := h.driver.Close(); err != nil {
		t.Fatal(err)
	}
	const random = "head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n'"
	if a, b := asked(t, h, runs[0], random), asked(t, h, runs[1], random); a == b || len(a) != 64 {
		t.Errorf("random numbers before the renewal: %s, %s", a, b)
	}
	h.leave(t)
	h.open(t, size)
	for i, s := range specs {
		m, err := h.driver.Inspect(ctx, s.WorkspaceID)
		if err != nil || m.State != driver.MachineRunning || m.Run != runs[i] {
			t.Fatalf("%+v, %v", m, err)
		}
		began := time.Now()
		if err := h.driver.Ready(ctx, s.WorkspaceID); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: its person's session is up %s after it was told who it is", s.WorkspaceID, time.Since(began))
		takesTexts(t, h, s.WorkspaceID)
	}
	if err := h.driver.Close(); err != nil {
		t.Fatal(err)
	}
	for what, script := range map[string]string{
		"machine id": "cat /etc/machine-id", "boot id": "cat /proc/sys/kernel/random/boot_id", "host name": "hostname", "MAC": "cat /sys/class/net/eth0/address",
		"random numbers": random, "uuid": "cat /proc/sys/kernel/random/uuid", "X cookie": "od -An -tx1 /run/carrel/xauth.user | tr -d ' \\n'", "user volume": "blkid -s UUID -o value $(findmnt -no SOURCE /home)",
	} {
		a, b := asked(t, h, runs[0], script), asked(t, h, runs[1], script)
		if a == b || a == "" || b == "" {
			t.Errorf("%s: %q and %q", what, a, b)
		}
	}
	for i, run := range runs {
		if got := asked(t, h, run, "hostname"); got != specs[i].ComputerName {
			t.Errorf("host name %q", got)
		}
		if got := asked(t, h, run, "cat /sys/block/$(basename $(findmnt -no SOURCE /))/size"); got != "12582912" {
			t.Errorf("its root disk has %s sectors, not 6 GiB", got)
		}
		now := asked(t, h, run, "date +%s")
		if s, err := time.ParseDuration(now + "s"); err != nil || time.Since(time.Unix(int64(s.Seconds()), 0)).Abs() > time.Minute {
			t.Errorf("its clock says %s, %v", now, err)
		}
	}
	h.leave(t)
	h.open(t, size)
	for _, s := range specs {
		takesTexts(t, h, s.WorkspaceID)
		if report, err := h.driver.Scrub(ctx, s.WorkspaceID); err != nil || report.Clean() != nil {
			t.Errorf("%+v, %v", report, err)
		}
	}
}
