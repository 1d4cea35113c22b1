package app

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"carrel/internal/holder"
)

// wayOut is how desktops of a host role without root reach the outside: pasta, from the package passt, which has one end of a link in the host
// role's network namespace and speaks for what comes by it, with sockets of this user and from a sandbox of its own. The zero value is none.
type wayOut struct {
	pasta string
	// deny are the machine's own addresses. With root the host role sees them itself and drops what is for them.
	deny []netip.Prefix
}

// wayOutLink is the name of the link inside. It is the only thing in there with a default route.
const wayOutLink = "out0"

// findWayOut gives what the setting host.uplink means without root.
func findWayOut(setting string) (wayOut, error) {
	switch setting {
	case "off":
		return wayOut{}, nil
	case "auto":
	default:
		return wayOut{}, fmt.Errorf("host.uplink: without root desktops cannot leave by %s, nor by any other of the machine's interfaces: set it to auto (needs the package passt), or to off", setting)
	}
	w := wayOut{}
	var err error
	if w.pasta, err = exec.LookPath("pasta"); err != nil {
		return wayOut{}, fmt.Errorf("host.uplink is auto, and without root the way out is pasta: install the package passt, or set it to off, when desktops reach their VPC only: %w", err)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return wayOut{}, fmt.Errorf("host.uplink: %w", err)
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			w.deny = append(w.deny, p.Masked())
		}
	}
	return w, nil
}

// start starts it on the host role's network namespace; it ends with ctx. over is closed when it has ended, and at the end of ctx when there is none.
func (w wayOut) start(ctx context.Context, h *holder.Holder, log *slog.Logger) (over <-chan struct{}, err error) {
	done := make(chan struct{})
	if w.pasta == "" {
		context.AfterFunc(ctx, func() { close(done) })
		return done, nil
	}
	user, network := h.Paths()
	var said bytes.Buffer
	// IPv4 only, as the VPCs. No port of the machine leads inside, and none inside to the machine's own.
	c := exec.CommandContext(ctx, w.pasta, "--foreground", "--quiet", "--stderr", "--ipv4-only", "--config-net", "--no-map-gw", "--no-netns-quit",
		"--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none", "--ns-ifname", wayOutLink, "--userns", user, "--netns", network)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = stopPatience
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	c.Stderr = &said
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("way out of the VPCs: %w", err)
	}
	go func() {
		defer close(done)
		if err := c.Wait(); ctx.Err() == nil {
			log.Error("the way out of the VPCs has ended", "error", err, "said", strings.TrimSpace(said.String()))
		}
	}()
	return done, nil
}

// linkPatience is how long the link may take to come up.
const linkPatience = 10 * time.Second
