package linuxnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"carrel/internal/driver"
	"carrel/internal/ident"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// deviceOf names an interface's tap: the id itself when the kernel's 15 bytes have room, else its digits in base 32 behind a letter that says
// how many there were. Different ids always have different names.
func deviceOf(id ident.InterfaceID) string {
	digits := strings.TrimPrefix(string(id), "eni-")
	if len(digits) <= 11 {
		return string(id)
	}
	const alphabet = "0123456789abcdefghijklmnopqrstuv"
	bits := 0
	value := uint32(0)
	name := []byte{byte('f' + len(digits) - 12)}
	for i := range len(digits) {
		d, _ := strconv.ParseUint(digits[i:i+1], 16, 4) // The id was checked.
		value, bits = value<<4|uint32(d), bits+4
		if bits >= 5 {
			bits -= 5
			name = append(name, alphabet[value>>bits&31])
		}
	}
	if bits > 0 {
		name = append(name, alphabet[value<<(5-bits)&31])
	}
	return string(name)
}

// aliasWord begins the alias of every device of Carrel's.
const aliasWord = "carrel"

// alias is what a tap's device says of itself: the facts that never change.
func (p *port) alias() string {
	return strings.Join([]string{aliasWord, string(p.id), string(p.desktop), string(p.vpc), string(p.subnet), p.address.String(), p.mac.String()}, " ")
}

// parseAlias reads an alias back. false: the device is none of ours, or was not finished.
func parseAlias(device, alias string) (*port, bool) {
	w := strings.Split(alias, " ")
	if len(w) != 7 || w[0] != aliasWord {
		return nil, false
	}
	p := &port{device: device}
	var errs [6]error
	p.id, errs[0] = ident.ParseInterfaceID(w[1])
	p.desktop, errs[1] = ident.ParseWorkspaceID(w[2])
	p.vpc, errs[2] = ident.ParseVPCID(w[3])
	p.subnet, errs[3] = ident.ParseSubnetID(w[4])
	p.address, errs[4] = netip.ParseAddr(w[5])
	p.mac, errs[5] = net.ParseMAC(w[6])
	return p, errors.Join(errs[:]...) == nil && p.address.Is4() && len(p.mac) == 6 && deviceOf(p.id) == device
}

// queue attaches to a tap of the VPC and makes it when there is none of that name. EBUSY: somebody is attached; a tap has one queue.
func (f *Fabric) queue(n *network, device string) (fd int, err error) {
	fd = -1
	err = enter(n.ns, func() error {
		// The device belongs to the namespace of the thread that opens the control file.
		fd, err = unix.Open(f.cfg.TunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", f.cfg.TunDevice, err)
		}
		req, err := unix.NewIfreq(device)
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return fmt.Errorf("attach to tap %s: %w", device, err)
		}
		return nil
	})
	if err != nil && fd >= 0 {
		err = errors.Join(err, unix.Close(fd))
	}
	return fd, err
}

// makeTap makes a port's tap, down.
func (f *Fabric) makeTap(n *network, p *port) error {
	fd, err := f.queue(n, p.device)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Without an owner every process in the namespace could attach to it.
	for request, value := range map[uint]int{unix.TUNSETOWNER: 0, unix.TUNSETPERSIST: 1} {
		if err := unix.IoctlSetInt(fd, request, value); err != nil {
			return fmt.Errorf("make tap %s: %w", p.device, err)
		}
	}
	link, err := n.handle.LinkByName(p.device)
	if err != nil {
		return err
	}
	// The alias comes last: a device without it is nobody's.
	return errors.Join(n.handle.LinkSetHardwareAddr(link, routerMAC), n.handle.LinkSetMTU(link, f.cfg.MTU), n.handle.LinkSetAlias(link, p.alias()))
}

// link finds a port's device, nil when there is none. A device of the name that is not the port's is removed.
func (n *network) link(p *port) (netlink.Link, error) {
	link, err := n.handle.LinkByName(p.device)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", p.device, err)
	}
	if found, ok := parseAlias(p.device, link.Attrs().Alias); !ok || found.alias() != p.alias() {
		return nil, n.handle.LinkDel(link)
	}
	return link, nil
}

// OpenTap opens the tap of an attached interface.
func (f *Fabric) OpenTap(ctx context.Context, id ident.InterfaceID) (*driver.Tap, error) {
	n := f.find(id)
	if n == nil {
		return nil, driver.ErrNotFound
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := n.take(); err != nil {
		return nil, err
	}
	defer n.mu.Unlock()
	p := n.ports[id]
	if p == nil {
		return nil, driver.ErrNotFound
	}
	link, err := n.link(p)
	if err != nil {
		return nil, fmt.Errorf("open tap of %s: %w", id, err)
	}
	if link == nil || link.Attrs().Flags&net.FlagUp == 0 {
		// Taken away by somebody's hand, or an Attach that did not finish: its filters may not be in force.
		return nil, fmt.Errorf("open tap of %s: %w", id, driver.ErrNotFound)
	}
	fd, err := f.queue(n, p.device)
	if errors.Is(err, unix.EBUSY) {
		return nil, driver.ErrBusy
	}
	if err != nil {
		return nil, fmt.Errorf("open tap of %s: %w", id, err)
	}
	err = reset(fd)
	if !bytes.Equal(link.Attrs().HardwareAddr, routerMAC) {
		// Whoever has the queue may change it. With the address the kernel forgets the neighbours.
		err = errors.Join(err, n.handle.LinkSetHardwareAddr(link, routerMAC))
	}
	if err := errors.Join(err, n.neighbour(p, link)); err != nil {
		return nil, errors.Join(fmt.Errorf("open tap of %s: %w", id, err), unix.Close(fd))
	}
	return &driver.Tap{File: os.NewFile(uintptr(fd), p.device), NIC: p.nic(), MTU: f.cfg.MTU}, nil
}

// vnetHeader is struct virtio_net_hdr without the count of merged buffers, the kernel's default.
const vnetHeader = 10

// reset undoes what an earlier machine can have set on the device: these settings outlive the descriptor they were made with.
func reset(fd int) error {
	filter := unix.SockFprog{}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNDETACHFILTER, uintptr(unsafe.Pointer(&filter))) // None attached is an error.
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnetHeader); err != nil {
		return fmt.Errorf("set header size: %w", err)
	}
	for request, value := range map[uint]int{unix.TUNSETOFFLOAD: 0, unix.TUNSETPERSIST: 1, unix.TUNSETOWNER: 0} {
		if err := unix.IoctlSetInt(fd, request, value); err != nil {
			return fmt.Errorf("reset tap: %w", err)
		}
	}
	return nil
}
