package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"carrel/internal/clock"
	"carrel/internal/config"
	"carrel/internal/doctor"
	"carrel/internal/driver/image"
	"carrel/internal/driver/jail"
	"carrel/internal/driver/linuxnet"
	"carrel/internal/driver/memory"
	"carrel/internal/driver/netsvc"
	"carrel/internal/driver/qemu"
	"carrel/internal/driver/samba"
	"carrel/internal/driver/volume"
	"carrel/internal/firewall"
	"carrel/internal/hostapi"
	"carrel/internal/ident"
	"carrel/internal/pki"
)

// Helpers takes over when this process was started as one of its own helpers, and does not return then. To be called first of all.
func Helpers() {
	jail.Main()
	memory.KeeperMain()
}

// The images and the host role's socket are in the state directory. What the host role keeps for itself is beside it: the state directory
// is closed to everybody but the control plane's user, and helper processes, which are others still, must find their own files.
const (
	imagesDir  = "images"
	hostSocket = "host.sock"
	// memoryDir is the memory keeper's, in HostDir.
	memoryDir = "memory"
)

// hostDirs is where host directories are that cannot be beside their state directory: because helper processes could not reach them, or for
// their length.
const hostDirs = "/var/lib/carrel-host"

// domainsDir is the domains', in HostDir.
const domainsDir = "dc"

// HostDir is where the host role of an installation keeps machines, volumes, networks and domains: root's. It is beside the state directory, unless
// Samba cannot work with its name, or something above is closed to others, as people's homes often are; without root there is no other place. state is an absolute path.
func HostDir(state string) string {
	beside := filepath.Clean(state) + "-host"
	if withoutRoot() {
		return beside
	}
	if _, err := os.Stat(beside); err == nil || samba.CheckDir(filepath.Join(beside, domainsDir)) == nil && passable(filepath.Dir(beside)) == nil {
		return beside
	}
	sum := sha256.Sum256([]byte(filepath.Clean(state)))
	return filepath.Join(hostDirs, hex.EncodeToString(sum[:6]))
}

// passable says what, if anything, keeps other users from passing through dir and what is above it.
func passable(dir string) error {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			// Made when it is needed, so that others pass.
			continue
		}
		if err != nil {
			return err
		}
		// Helper processes of a host role without root are its own user until they have opened their files.
		own := withoutRoot() && int(info.Sys().(*syscall.Stat_t).Uid) == os.Geteuid() && info.Mode().Perm()&0o100 != 0
		if info.Mode().Perm()&0o001 == 0 && !own {
			return fmt.Errorf("%s cannot be passed through by others, so desktops' helper processes cannot reach what is in it: choose a state directory elsewhere, or run chmod o+x %s", dir, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// prepareHostDir makes it. Helper processes pass through it and through what is above it, and look into neither.
func prepareHostDir(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	return passable(filepath.Dir(dir))
}

// The user ids of the helper processes. Nobody else on the machine may have them.
const (
	toolUID                 = 64100
	sambaUID, sambaUIDs     = 64200, 100
	machineUID, machineUIDs = 64400, 1000
)

// computeMiB is what AWS gives each compute type.
var computeMiB = map[string]qemu.Size{
	"VALUE": {Processors: 1, Memory: 2 << 30}, "STANDARD": {Processors: 2, Memory: 4 << 30}, "PERFORMANCE": {Processors: 2, Memory: 8 << 30},
	"POWER": {Processors: 4, Memory: 16 << 30}, "POWERPRO": {Processors: 8, Memory: 32 << 30},
}

// HostOptions are what the host role is told by who starts it.
type HostOptions struct {
	// User is who the control plane runs as.
	User uint32
	// Deny are networks that desktops must not reach beside those that the host role sees itself.
	Deny []netip.Prefix
}

// Host runs the host role until ctx ends: the drivers, answering the control plane on a socket in the state directory. It is the only part with
// privilege, and it listens to nobody else.
func Host(ctx context.Context, conf *config.Config, o HostOptions, p Process) error {
	log := newLog(conf.Log, p.Stderr)
	state, err := filepath.Abs(conf.State.Dir)
	if err != nil {
		return fmt.Errorf("host role: %w", err)
	}
	dir := HostDir(state)
	if err := prepareHostDir(dir); err != nil {
		return fmt.Errorf("host role: %w", err)
	}
	r := &hostRole{conf: conf, log: log, dir: dir, deny: o.Deny}
	defer r.close()
	if err := r.open(ctx); err != nil {
		return fmt.Errorf("host role: %w", err)
	}
	path := filepath.Join(conf.State.Dir, hostSocket)
	l, err := hostapi.Listen(path, o.User, uint32(os.Geteuid()))
	if err != nil {
		return fmt.Errorf("host role: %w", err)
	}
	defer l.Close()
	if err := os.Chown(path, int(o.User), -1); err != nil {
		return fmt.Errorf("host role: %w", err)
	}
	log.Info("host role ready", "socket", path, "accelerator", r.accel)
	return r.run(ctx, l)
}

// hostRole holds the opened drivers.
type hostRole struct {
	conf  *config.Config
	log   *slog.Logger
	dir   string
	deny  []netip.Prefix
	accel qemu.Accelerator

	keeper   *memory.Keeper
	fabric   *linuxnet.Fabric
	services *netsvc.Server
	images   *image.Store
	// keys wrap the volumes' keys and those of saved memory.
	keys      *volume.Master
	volumes   *volume.Volumes
	machines  *qemu.Driver
	domains   *samba.Domains
	authority *pki.Authority
	closers   []func() error
}

func (r *hostRole) close() {
	for i := len(r.closers) - 1; i >= 0; i-- {
		if err := r.closers[i](); err != nil {
			r.log.Error("close", "error", err)
		}
	}
}

// open opens the drivers, those that others use first. Leftovers of an earlier host role are scrubbed on the way.
func (r *hostRole) open(ctx context.Context) error {
	// Where a service manager has given this service control groups, helpers get limits of their own; groups of helpers that ended unseen go.
	if err := jail.Delegate(); err != nil {
		r.log.Warn("helper processes have no control groups", "error", err)
	}
	jail.Sweep()
	for _, step := range []func(context.Context) error{r.openNetwork, r.openDisks, r.openMachines, r.openDomains} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *hostRole) openNetwork(ctx context.Context) error {
	uplink := linuxnet.Uplink{Deny: append(linuxnet.NotPublic(), r.deny...)}
	var err error
	if uplink.Interface, err = uplinkOf(ctx, r.conf.Host.Uplink); err != nil {
		return err
	}
	if r.fabric, err = linuxnet.Open(linuxnet.Config{Dir: filepath.Join(r.dir, "net"), Uplink: uplink}); err != nil {
		return err
	}
	r.closers = append(r.closers, r.fabric.Close)
	if uplink.Interface != "" {
		r.warnOfFirewall()
	}
	var resolvers []netip.AddrPort
	for _, text := range r.conf.Host.Resolvers {
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			return err
		}
		resolvers = append(resolvers, a)
	}
	region, suffix := r.conf.Region, "amazonaws.com"
	if region == "" {
		region = "us-east-1"
	}
	r.services, err = netsvc.New(netsvc.Config{Ports: r.ports, Enter: r.fabric.Enter, Region: region, Suffix: suffix, Zones: r.zones, Resolvers: resolvers, Log: r.log})
	return err
}

// warnOfFirewall says at the start what of the host's own firewall would keep desktops from the outside: nothing later would.
func (r *hostRole) warnOfFirewall() {
	obstacles, err := firewall.Forwarding(nil)
	if err != nil {
		r.log.Warn("whether the host's firewall lets desktops out is not known", "error", err)
	}
	for _, o := range obstacles {
		r.log.Warn("the host's firewall drops what desktops send out", "chain", o.Chain, "reason", o.Why, "remedy", firewall.Remedy)
	}
}

// ports gives the services the fabric's ports.
func (r *hostRole) ports() ([]netsvc.Port, <-chan struct{}) {
	all, changed := r.fabric.Ports()
	out := make([]netsvc.Port, 0, len(all))
	for _, p := range all {
		out = append(out, netsvc.Port(p))
	}
	return out, changed
}

// zones are the domains whose controllers are inside a VPC: their names are asked of them.
func (r *hostRole) zones(vpc ident.VPCID) []netsvc.Zone {
	var out []netsvc.Zone
	for _, z := range r.domains.Zones(vpc) {
		out = append(out, netsvc.Zone{Name: z.Name, Servers: z.Servers})
	}
	return out
}

func (r *hostRole) openDisks(context.Context) (err error) {
	if r.images, err = image.Open(filepath.Join(r.conf.State.Dir, imagesDir)); err != nil {
		return err
	}
	if r.keys, err = volume.OpenMaster(filepath.Join(r.dir, "master.key"), random); err != nil {
		return err
	}
	tool := &jail.Tool{Name: "disk", UID: toolUID, GID: toolUID}
	r.volumes, err = volume.Open(volume.Config{Dir: filepath.Join(r.dir, "volumes"), Images: r.images, Keys: r.keys, Tool: volume.QemuImg{Run: tool.Run}, Clock: clock.System{}, Random: random})
	return err
}

func (r *hostRole) openMachines(ctx context.Context) (err error) {
	if r.accel, err = r.accelerator(ctx); err != nil {
		return err
	}
	if r.keeper, err = memory.Connect(ctx, filepath.Join(r.dir, memoryDir)); err != nil {
		return err
	}
	r.closers = append(r.closers, r.keeper.Close)
	total := r.conf.Host.MemoryMiB << 20
	if total == 0 {
		if total, err = memoryOfHost(); err != nil {
			return err
		}
		total = total / 4 * 3
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	h := r.conf.Host
	r.machines, err = qemu.Open(ctx, qemu.Config{
		Dir: filepath.Join(r.dir, "machines"), Host: name, Keeper: r.keeper, Volumes: r.volumes, Images: r.images, Taps: r.fabric, Keys: r.keys,
		Clock: clock.System{}, Random: random, Log: r.log, Accel: r.accel, Size: r.size, Memory: total, FirstUID: machineUID, UIDs: machineUIDs, NoTemplates: !*h.Templates,
		Guest: qemu.Settings{Locale: h.Locale, Layout: h.Keyboard, TimeZone: h.TimeZone},
	})
	if err == nil {
		r.closers = append(r.closers, r.machines.Close)
	}
	return err
}

// size is a compute type as this host gives it.
func (r *hostRole) size(compute string) (qemu.Size, bool) {
	s, ok := computeMiB[compute]
	for _, entry := range r.conf.Host.Compute {
		if name, n, err := config.ComputeMiB(entry); err == nil && name == compute {
			s.Memory, s.Processors, ok = n<<20, max(1, s.Processors), true
		}
	}
	s.Processors = min(s.Processors, runtime.NumCPU())
	return s, ok
}

func (r *hostRole) openDomains(context.Context) (err error) {
	if r.authority, err = pki.Open(pki.Options{Dir: filepath.Join(r.dir, "directory-ca")}); err != nil {
		return err
	}
	r.domains, err = samba.Open(samba.Config{Dir: filepath.Join(r.dir, domainsDir), Networks: r.fabric, Certificates: r.authority, FirstUID: sambaUID, UIDs: sambaUIDs, Random: random, Log: r.log})
	return err
}

// accelerator is the configuration's, or KVM where a probe guest has run: that /dev/kvm is there proves nothing.
func (r *hostRole) accelerator(ctx context.Context) (qemu.Accelerator, error) {
	if r.conf.Host.Accelerator == "tcg" {
		return qemu.TCG, nil
	}
	works, why := doctor.Virtualisation(ctx, doctor.ThisMachine("doctor", "probe"))
	if works {
		// The probe ran as this role; machines run as others.
		if _, err := qemu.KVMGroup(); err != nil {
			works, why = false, err.Error()
		}
	}
	switch {
	case works:
		return qemu.KVM, nil
	case r.conf.Host.Accelerator == "kvm":
		return "", fmt.Errorf("host.accelerator is kvm, and KVM does not work here: %s", why)
	}
	r.log.Warn("desktops are emulated: KVM does not work here", "reason", why)
	return qemu.TCG, nil
}

// run answers the control plane until ctx ends. Desktops go on running after it.
func (r *hostRole) run(ctx context.Context, l net.Listener) error {
	api := &hostapi.Host{Hypervisor: r.machines, Volumes: r.volumes, Fabric: r.fabric, Display: r.machines, Domain: r.domains, Screens: r.machines, Sessions: r.machines,
		Networks: r.fabric, Users: r.domains.Manager(), Authority: r.authority.CertificatePEM()}
	g, ctx := errgroup.WithContext(ctx)
	s := &http.Server{Handler: api.Handler(), ReadHeaderTimeout: 10 * time.Second}
	g.Go(func() error {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if err := s.Shutdown(end); err != nil {
			return s.Close()
		}
		return nil
	})
	for _, part := range []func(context.Context) error{r.keeper.Run, r.services.Run, r.domains.Run, r.machines.Run} {
		g.Go(func() error { return part(ctx) })
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("host role: %w", err)
	}
	return nil
}

// uplinkOf is the interface that the configuration means. Without root it is the end of a link that whoever started this process is just making.
func uplinkOf(ctx context.Context, setting string) (string, error) {
	switch setting {
	case "off":
		return "", nil
	case "auto":
	default:
		return setting, nil
	}
	for end := time.Now().Add(linkPatience); ; {
		name, err := linuxnet.DefaultUplink()
		switch {
		case err != nil:
			return "", fmt.Errorf("host.uplink is auto: %w", err)
		case name != "":
			return name, nil
		case !inUserNamespace():
			return "", errors.New("host.uplink is auto, and this machine has no default route: name the interface, or set it to off")
		case time.Now().After(end):
			return "", fmt.Errorf("host.uplink is auto, and pasta has made no link to the outside within %s: has this machine a default route? Else set it to off", linkPatience)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// memoryOfHost is the machine's memory in bytes.
func memoryOfHost() (int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("/proc/meminfo does not tell how much memory there is")
}
