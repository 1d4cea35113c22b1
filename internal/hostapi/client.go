package hostapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"carrel/internal/directory"
	"carrel/internal/driver"
	"carrel/internal/ident"
)

// Client speaks to one host role. Its methods give the drivers; a host that does not answer is driver.ErrUnavailable.
type Client struct {
	dial func(context.Context) (net.Conn, error)
	http *http.Client
}

// NewClient makes a client; dial opens a connection to the host role each time one is needed.
func NewClient(dial func(context.Context) (net.Conn, error)) *Client {
	return &Client{dial: dial, http: &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute, DisableCompression: true,
	}}}
}

// Close ends the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// The drivers of the host.
func (c *Client) Hypervisor() driver.Hypervisor { return hypervisor{c} }

// Volumes is the host's driver.Volumes.
func (c *Client) Volumes() driver.Volumes { return volumes{c} }

// Fabric is the host's driver.Fabric.
func (c *Client) Fabric() driver.Fabric { return fabric{c} }

// Display is the host's driver.Display; it is a driver.Screens and a driver.Sessions too.
func (c *Client) Display() driver.Display { return display{c} }

// Domain is the host's driver.Domain.
func (c *Client) Domain() driver.Domain { return domain{c} }

// Users is the host's directory.Manager.
func (c *Client) Users() directory.Manager { return users{c} }

// Networks is the host's driver.Networks, without Namespace: descriptors stay on their host.
func (c *Client) Networks() driver.Networks { return networks{c} }

// VPCs is the host's driver.VPCs.
func (c *Client) VPCs() driver.VPCs { return networks{c} }

// Authority gives the PEM certificate of who signs the domain controllers' certificates.
func (c *Client) Authority(ctx context.Context) ([]byte, error) {
	return call(ctx, c, domainAuthority, none{})
}

type (
	hypervisor struct{ *Client }
	volumes    struct{ *Client }
	fabric     struct{ *Client }
	display    struct{ *Client }
	domain     struct{ *Client }
	users      struct{ *Client }
	networks   struct{ *Client }
)

var (
	_ driver.Screens  = display{}
	_ driver.Sessions = display{}
)

func request(ctx context.Context, name string, in any) (*http.Request, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("hostapi: %s: %w", name, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://host"+prefix+name, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("hostapi: %s: %w", name, err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r, nil
}

// call makes a call and decodes its answer. Every driver method may be asked again, so a connection that breaks is no more than
// driver.ErrUnavailable.
func call[In, Out any](ctx context.Context, c *Client, to route[In, Out], in In) (out Out, err error) {
	name := string(to)
	r, err := request(ctx, name, in)
	if err != nil {
		return out, err
	}
	// Even a request whose answer was cut off may be sent again: the contract says so of every method.
	// net/http takes the key without values for that permission, and does not send it.
	r.Header["Idempotency-Key"] = []string{}
	resp, err := c.http.Do(r)
	if err != nil {
		return out, unavailable(ctx, name, err)
	}
	defer resp.Body.Close()
	return decode[Out](ctx, name, resp)
}

func decode[Out any](ctx context.Context, name string, resp *http.Response) (out Out, err error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage+1))
	if err != nil {
		return out, unavailable(ctx, name, err)
	}
	if len(b) > maxMessage {
		return out, fmt.Errorf("hostapi: %s: %w: the host's answer is larger than %d bytes", name, driver.ErrUnavailable, maxMessage)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if err := json.Unmarshal(b, &out); err != nil {
			return out, fmt.Errorf("hostapi: %s: %w: %w", name, driver.ErrUnavailable, err)
		}
		return out, nil
	case http.StatusUnprocessableEntity:
		f := new(failure)
		if err := json.Unmarshal(b, f); err != nil {
			return out, fmt.Errorf("hostapi: %s: %w: %w", name, driver.ErrUnavailable, err)
		}
		return out, decodeError(f)
	}
	return out, fmt.Errorf("hostapi: %s: %w: the host answers %s", name, driver.ErrUnavailable, resp.Status)
}

// unavailable says that the host did not answer, and keeps the caller's own end of patience apart from that.
func unavailable(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("hostapi: %s: %w", name, context.Cause(ctx))
	}
	return fmt.Errorf("hostapi: %s: %w: %w", name, driver.ErrUnavailable, err)
}

// do makes a call that has no result.
func do[In any](ctx context.Context, c *Client, to route[In, none], in In) error {
	_, err := call(ctx, c, to, in)
	return err
}

// connect makes a call whose result is a connection.
func connect[In any](ctx context.Context, c *Client, to route[In, net.Conn], in In) (net.Conn, error) {
	name := string(to)
	r, err := request(ctx, name, in)
	if err != nil {
		return nil, err
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, unavailable(ctx, name, err)
	}
	// The caller's patience is for the answer; the stream after it has no end of its own.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	s, err := handshake(ctx, name, conn, r)
	if !stop() && err == nil {
		err = unavailable(ctx, name, context.Cause(ctx))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

func handshake(ctx context.Context, name string, conn net.Conn, r *http.Request) (net.Conn, error) {
	if err := r.Write(conn); err != nil {
		return nil, unavailable(ctx, name, err)
	}
	b := bufio.NewReader(conn)
	resp, err := http.ReadResponse(b, r)
	if err != nil {
		return nil, unavailable(ctx, name, err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != upgrade {
		_, err := decode[none](ctx, name, resp)
		if err == nil {
			err = fmt.Errorf("hostapi: %s: %w: the host did not open a stream", name, driver.ErrUnavailable)
		}
		return nil, err
	}
	return &buffered{conn, b}, nil
}

// buffered is a connection of which a reader may hold the beginning.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

func (c hypervisor) Place(ctx context.Context, spec driver.MachineSpec) (string, error) {
	return call(ctx, c.Client, machinePlace, spec)
}

func (c hypervisor) Start(ctx context.Context, spec driver.MachineSpec) (driver.Machine, error) {
	return call(ctx, c.Client, machineStart, spec)
}

func (c hypervisor) Stop(ctx context.Context, id ident.WorkspaceID) (driver.Machine, error) {
	return call(ctx, c.Client, machineStop, id)
}

func (c hypervisor) Reboot(ctx context.Context, id ident.WorkspaceID, count int) (driver.Machine, error) {
	return call(ctx, c.Client, machineReboot, rebootArgs{id, count})
}

func (c hypervisor) Inspect(ctx context.Context, id ident.WorkspaceID) (driver.Machine, error) {
	return call(ctx, c.Client, machineInspect, id)
}

func (c hypervisor) Scrub(ctx context.Context, id ident.WorkspaceID) (driver.ScrubReport, error) {
	return call(ctx, c.Client, machineScrub, id)
}

func (c hypervisor) Release(ctx context.Context, id ident.WorkspaceID) error {
	return do(ctx, c.Client, machineRelease, id)
}

func (c hypervisor) List(ctx context.Context) ([]driver.Machine, error) {
	return call(ctx, c.Client, machineList, none{})
}

func (c volumes) Create(ctx context.Context, spec driver.VolumeSpec) (driver.Volume, error) {
	return call(ctx, c.Client, volumeCreate, spec)
}

func (c volumes) Erase(ctx context.Context, id driver.VolumeID) (driver.Erasure, error) {
	return call(ctx, c.Client, volumeErase, id)
}

func (c volumes) Release(ctx context.Context, id driver.VolumeID) error {
	return do(ctx, c.Client, volumeRelease, id)
}

func (c volumes) List(ctx context.Context) ([]driver.Volume, error) {
	return call(ctx, c.Client, volumeList, none{})
}

func (c fabric) Attach(ctx context.Context, spec driver.NICSpec) (driver.NIC, error) {
	return call(ctx, c.Client, nicAttach, spec)
}

func (c fabric) Detach(ctx context.Context, id ident.InterfaceID) error {
	return do(ctx, c.Client, nicDetach, id)
}

func (c fabric) List(ctx context.Context) ([]driver.NIC, error) {
	return call(ctx, c.Client, nicList, none{})
}

func (c display) Ready(ctx context.Context, id ident.WorkspaceID) error {
	return do(ctx, c.Client, displayReady, id)
}

func (c display) Connect(ctx context.Context, id ident.WorkspaceID) (net.Conn, error) {
	return connect(ctx, c.Client, screenConnect, id)
}

func (c display) Session(ctx context.Context, id ident.WorkspaceID) (net.Conn, error) {
	return connect(ctx, c.Client, sessionConnect, id)
}

func (c domain) Provision(ctx context.Context, spec driver.DomainSpec) (driver.DomainInfo, error) {
	password := spec.AdminPassword.Reveal()
	spec.AdminPassword = directory.Password{}
	return call(ctx, c.Client, domainProvision, provisionArgs{spec, password})
}

func (c domain) Inspect(ctx context.Context, id ident.DirectoryID) (driver.DomainInfo, error) {
	return call(ctx, c.Client, domainInspect, id)
}

func (c domain) Remove(ctx context.Context, id ident.DirectoryID) error {
	return do(ctx, c.Client, domainRemove, id)
}

func (c domain) List(ctx context.Context) ([]driver.DomainInfo, error) {
	return call(ctx, c.Client, domainList, none{})
}

func (c users) Lookup(ctx context.Context, id ident.DirectoryID, name string) (directory.User, error) {
	return call(ctx, c.Client, userLookup, lookupArgs{id, name})
}

func (c users) CreateUser(ctx context.Context, id ident.DirectoryID, user directory.NewUser) (directory.User, error) {
	return call(ctx, c.Client, userCreate, createUserArgs{id, user})
}

func (c users) SetPassword(ctx context.Context, id ident.DirectoryID, name string, password directory.Password) error {
	return do(ctx, c.Client, userPassword, passwordArgs{id, name, password.Reveal()})
}

// ChangePassword changes a user's password for the user, who knows the old one: *directory.LoginError, directory.ErrWeakPassword.
func (c *Client) ChangePassword(ctx context.Context, id ident.DirectoryID, name string, old, next directory.Password) error {
	return do(ctx, c, userChangePassword, changeArgs{id, name, old.Reveal(), next.Reveal()})
}

func (c users) DisableUser(ctx context.Context, id ident.DirectoryID, name string) error {
	return do(ctx, c.Client, userDisable, lookupArgs{id, name})
}

func (c users) DeleteUser(ctx context.Context, id ident.DirectoryID, name string) error {
	return do(ctx, c.Client, userDelete, lookupArgs{id, name})
}

func (c users) ListUsers(ctx context.Context, id ident.DirectoryID, after string, limit int) ([]directory.User, string, error) {
	r, err := call(ctx, c.Client, userList, listUsersArgs{id, after, limit})
	return r.Users, r.Next, err
}

func (c networks) Namespace(context.Context, driver.Network) (*os.File, error) {
	return nil, fmt.Errorf("hostapi: a network namespace stays on its host: %w", driver.ErrOrder)
}

func (c networks) Hold(ctx context.Context, n driver.Network, address netip.Addr) error {
	return do(ctx, c.Client, addressHold, addressArgs{n, address})
}

func (c networks) Drop(ctx context.Context, vpc ident.VPCID, address netip.Addr) error {
	return do(ctx, c.Client, addressDrop, dropArgs{vpc, address})
}

func (c networks) ListNetworks(ctx context.Context) ([]ident.VPCID, error) {
	return call(ctx, c.Client, networkList, none{})
}

func (c networks) RemoveNetwork(ctx context.Context, vpc ident.VPCID) error {
	return do(ctx, c.Client, networkRemove, vpc)
}

func (c networks) Dial(ctx context.Context, vpc ident.VPCID, network, address string) (net.Conn, error) {
	return connect(ctx, c.Client, networkDial, dialArgs{vpc, network, address})
}
