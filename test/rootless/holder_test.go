package rootless

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// holds gives the process that is written down as the one that holds the namespaces.
func (h *house) holds() int {
	h.t.Helper()
	var id struct{ PID int }
	b, err := os.ReadFile(filepath.Join(h.state+"-host", "holder.json"))
	must(h.t, err)
	must(h.t, json.Unmarshal(b, &id))
	return id.PID
}

// Desktops, and what they are connected to, are in the user and the mount namespace of the host role, and the way out in its network namespace.
func TestTheNamespacesOutliveEverybodyWhoUsesThem(t *testing.T) {
	h := settle(t, somebody(t))
	if l := line(t, h.carrel("doctor", "--json")); l.Status != "ok" {
		t.Errorf("doctor: %+v", l)
	}
	h.start()
	host := h.the("carrel", "host")
	h.the("carrel", "hold") // And none that doctor has left.
	user, mounts, network := namespace(t, host.pid, "user"), namespace(t, host.pid, "mnt"), namespace(t, host.pid, "net")
	if user == namespace(t, os.Getpid(), "user") || network == namespace(t, os.Getpid(), "net") {
		t.Fatal("the host role is in the host's own namespaces")
	}
	same := func(t *testing.T) {
		t.Helper()
		now := h.the("carrel", "host").pid
		if u, m, n := namespace(t, now, "user"), namespace(t, now, "mnt"), namespace(t, now, "net"); u != user || m != mounts || n != network {
			t.Errorf("the host role is in %s %s %s, was in %s %s %s", u, m, n, user, mounts, network)
		}
		if q := h.the("carrel", "hold"); q.pid != h.holds() || namespace(t, q.pid, "user") != user || namespace(t, q.pid, "net") != network {
			t.Errorf("the process that holds them is %d in %s %s, %d is written down", q.pid, namespace(t, q.pid, "user"), namespace(t, q.pid, "net"), h.holds())
		}
	}
	ready := func() int { return strings.Count(h.logged(), "host role ready") }

	t.Run("the host role is killed", func(t *testing.T) {
		before := ready()
		must(t, syscall.Kill(host.pid, syscall.SIGKILL))
		h.eventually("another host role", func() bool { return ready() > before })
		same(t)
	})
	t.Run("the process that holds them is told to end", func(t *testing.T) {
		for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
			must(t, syscall.Kill(h.holds(), s))
		}
		same(t)
	})
	t.Run("the process that holds them is killed", func(t *testing.T) {
		held := h.holds()
		must(t, syscall.Kill(held, syscall.SIGKILL))
		h.eventually("another one", func() bool { return h.holds() != held })
		same(t)
	})
	t.Run("carrel serve is stopped and started", func(t *testing.T) {
		h.stop()
		h.start()
		same(t)
	})
	t.Run("carrel serve is killed and started", func(t *testing.T) {
		h.die()
		h.start()
		same(t)
	})
	t.Run("both are killed, and only the memory keeper is left", func(t *testing.T) {
		keeper := h.the("carrel-memory-keeper").pid
		// Stopped, it cannot have another process hold them.
		must(t, h.serve.Process.Signal(syscall.SIGSTOP))
		must(t, syscall.Kill(h.holds(), syscall.SIGKILL))
		h.die()
		h.start()
		network = namespace(t, h.the("carrel", "host").pid, "net") // A new one: nothing of the desktops is in it.
		same(t)
		if now := h.the("carrel-memory-keeper").pid; now != keeper {
			t.Errorf("the memory keeper is %d, was %d", now, keeper)
		}
	})
	t.Run("until it is all taken away", func(t *testing.T) { h.dismantled() })
}

// die kills carrel serve, and waits until its roles have noticed.
func (h *house) die() {
	h.t.Helper()
	roles := []process{h.the("carrel", "host"), h.the("carrel", "serve", "--control")}
	must(h.t, h.serve.Process.Kill())
	_ = h.serve.Wait()
	h.serve = nil
	for _, q := range roles {
		h.eventually("the end of "+strings.Join(q.args[:2], " "), func() bool { return syscall.Kill(q.pid, 0) != nil })
	}
}

// dismantled takes away what carrel serve has left, and looks whether anything of it is there.
func (h *house) dismantled() {
	h.t.Helper()
	if out, err := h.command(h.binary, "dismantle", "--yes", "--state", h.state).CombinedOutput(); err == nil || !strings.Contains(string(out), "stop it first") {
		h.t.Errorf("dismantle while it runs: %v: %s", err, out)
	}
	h.stop()
	h.carrel("dismantle", "--yes")
	if _, err := os.Stat(h.state + "-host"); !os.IsNotExist(err) {
		h.t.Errorf("%s-host: %v", h.state, err)
	}
	for _, q := range processes(h.t) {
		// One who was not made for the test may run other things.
		if (h.his(q.uid) || q.uid == h.uid) && (h.made || q.args[0] == h.binary) && q.status["State"][:1] != "Z" {
			h.t.Errorf("left: %d %q", q.pid, q.args)
		}
	}
}
