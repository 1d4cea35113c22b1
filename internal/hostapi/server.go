package hostapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"carrel/internal/directory"
	"carrel/internal/driver"
	"carrel/internal/ident"
)

// Host is what a host role offers. A field that is nil answers driver.ErrUnavailable.
type Host struct {
	Hypervisor driver.Hypervisor
	Volumes    driver.Volumes
	Fabric     driver.Fabric
	Display    driver.Display
	Domain     driver.Domain
	Screens    driver.Screens
	Networks   driver.Networks
	Users      directory.Manager
	// Authority is the PEM certificate of who signs the domain controllers' certificates.
	Authority []byte
}

// changer is a directory.Manager whose users can change their own passwords.
type changer interface {
	ChangePassword(ctx context.Context, id ident.DirectoryID, userName string, old, next directory.Password) error
}

// The arguments of calls that have more than one, and results that are.
type (
	none       struct{}
	rebootArgs struct {
		ID    ident.WorkspaceID
		Count int
	}
	provisionArgs struct {
		Spec driver.DomainSpec
		// AdminPassword: a directory.Password refuses to be written into a document, so it travels beside its spec.
		AdminPassword string
	}
	lookupArgs struct {
		ID   ident.DirectoryID
		Name string
	}
	createUserArgs struct {
		ID   ident.DirectoryID
		User directory.NewUser
	}
	changeArgs struct {
		ID              ident.DirectoryID
		Name, Old, Next string
	}
	passwordArgs struct {
		ID             ident.DirectoryID
		Name, Password string
	}
	listUsersArgs struct {
		ID    ident.DirectoryID
		After string
		Limit int
	}
	listUsersResult struct {
		Users []directory.User
		Next  string
	}
	addressArgs struct {
		Network driver.Network
		Address netip.Addr
	}
	dropArgs struct {
		VPC     ident.VPCID
		Address netip.Addr
	}
	dialArgs struct {
		VPC              ident.VPCID
		Network, Address string
	}
)

// Handler serves the calls.
func (h *Host) Handler() http.Handler {
	mux := http.NewServeMux()
	h.machines(mux)
	h.disks(mux)
	h.networks(mux)
	h.domains(mux)
	h.users(mux)
	return mux
}

func (h *Host) machines(mux *http.ServeMux) {
	hv, up := h.Hypervisor, h.Hypervisor != nil
	bind(mux, "hypervisor/place", up, func(ctx context.Context, in driver.MachineSpec) (string, error) { return hv.Place(ctx, in) })
	bind(mux, "hypervisor/start", up, func(ctx context.Context, in driver.MachineSpec) (driver.Machine, error) { return hv.Start(ctx, in) })
	bind(mux, "hypervisor/stop", up, func(ctx context.Context, in ident.WorkspaceID) (driver.Machine, error) { return hv.Stop(ctx, in) })
	bind(mux, "hypervisor/reboot", up, func(ctx context.Context, in rebootArgs) (driver.Machine, error) {
		return hv.Reboot(ctx, in.ID, in.Count)
	})
	bind(mux, "hypervisor/inspect", up, func(ctx context.Context, in ident.WorkspaceID) (driver.Machine, error) { return hv.Inspect(ctx, in) })
	bind(mux, "hypervisor/scrub", up, func(ctx context.Context, in ident.WorkspaceID) (driver.ScrubReport, error) { return hv.Scrub(ctx, in) })
	bind(mux, "hypervisor/release", up, func(ctx context.Context, in ident.WorkspaceID) (none, error) { return none{}, hv.Release(ctx, in) })
	bind(mux, "hypervisor/list", up, func(ctx context.Context, _ none) ([]driver.Machine, error) { return hv.List(ctx) })
	bind(mux, "display/ready", h.Display != nil, func(ctx context.Context, in ident.WorkspaceID) (none, error) { return none{}, h.Display.Ready(ctx, in) })
	stream(mux, "screens/connect", h.Screens != nil, func(ctx context.Context, in ident.WorkspaceID) (net.Conn, error) { return h.Screens.Connect(ctx, in) })
}

func (h *Host) disks(mux *http.ServeMux) {
	v, up := h.Volumes, h.Volumes != nil
	bind(mux, "volumes/create", up, func(ctx context.Context, in driver.VolumeSpec) (driver.Volume, error) { return v.Create(ctx, in) })
	bind(mux, "volumes/erase", up, func(ctx context.Context, in driver.VolumeID) (driver.Erasure, error) { return v.Erase(ctx, in) })
	bind(mux, "volumes/release", up, func(ctx context.Context, in driver.VolumeID) (none, error) { return none{}, v.Release(ctx, in) })
	bind(mux, "volumes/list", up, func(ctx context.Context, _ none) ([]driver.Volume, error) { return v.List(ctx) })
}

func (h *Host) networks(mux *http.ServeMux) {
	f, up := h.Fabric, h.Fabric != nil
	bind(mux, "fabric/attach", up, func(ctx context.Context, in driver.NICSpec) (driver.NIC, error) { return f.Attach(ctx, in) })
	bind(mux, "fabric/detach", up, func(ctx context.Context, in ident.InterfaceID) (none, error) { return none{}, f.Detach(ctx, in) })
	bind(mux, "fabric/list", up, func(ctx context.Context, _ none) ([]driver.NIC, error) { return f.List(ctx) })
	n, up := h.Networks, h.Networks != nil
	bind(mux, "networks/hold", up, func(ctx context.Context, in addressArgs) (none, error) {
		return none{}, n.Hold(ctx, in.Network, in.Address)
	})
	bind(mux, "networks/drop", up, func(ctx context.Context, in dropArgs) (none, error) {
		return none{}, n.Drop(ctx, in.VPC, in.Address)
	})
	v, known := h.Networks.(driver.VPCs)
	bind(mux, "networks/list", up && known, func(ctx context.Context, _ none) ([]ident.VPCID, error) { return v.ListNetworks(ctx) })
	bind(mux, "networks/remove", up && known, func(ctx context.Context, in ident.VPCID) (none, error) { return none{}, v.RemoveNetwork(ctx, in) })
	stream(mux, "networks/dial", up, func(ctx context.Context, in dialArgs) (net.Conn, error) {
		return n.Dial(ctx, in.VPC, in.Network, in.Address)
	})
}

func (h *Host) domains(mux *http.ServeMux) {
	d, up := h.Domain, h.Domain != nil
	bind(mux, "domain/provision", up, func(ctx context.Context, in provisionArgs) (driver.DomainInfo, error) {
		in.Spec.AdminPassword = directory.NewPassword(in.AdminPassword)
		return d.Provision(ctx, in.Spec)
	})
	bind(mux, "domain/inspect", up, func(ctx context.Context, in ident.DirectoryID) (driver.DomainInfo, error) { return d.Inspect(ctx, in) })
	bind(mux, "domain/remove", up, func(ctx context.Context, in ident.DirectoryID) (none, error) { return none{}, d.Remove(ctx, in) })
	bind(mux, "domain/list", up, func(ctx context.Context, _ none) ([]driver.DomainInfo, error) { return d.List(ctx) })
}

func (h *Host) users(mux *http.ServeMux) {
	bind(mux, "domain/authority", len(h.Authority) > 0, func(context.Context, none) ([]byte, error) { return h.Authority, nil })
	u, up := h.Users, h.Users != nil
	bind(mux, "users/lookup", up, func(ctx context.Context, in lookupArgs) (directory.User, error) { return u.Lookup(ctx, in.ID, in.Name) })
	bind(mux, "users/create", up, func(ctx context.Context, in createUserArgs) (directory.User, error) {
		return u.CreateUser(ctx, in.ID, in.User)
	})
	bind(mux, "users/password", up, func(ctx context.Context, in passwordArgs) (none, error) {
		return none{}, u.SetPassword(ctx, in.ID, in.Name, directory.NewPassword(in.Password))
	})
	changer, up2 := u.(changer)
	bind(mux, "users/change-password", up && up2, func(ctx context.Context, in changeArgs) (none, error) {
		return none{}, changer.ChangePassword(ctx, in.ID, in.Name, directory.NewPassword(in.Old), directory.NewPassword(in.Next))
	})
	bind(mux, "users/disable", up, func(ctx context.Context, in lookupArgs) (none, error) {
		return none{}, u.DisableUser(ctx, in.ID, in.Name)
	})
	bind(mux, "users/delete", up, func(ctx context.Context, in lookupArgs) (none, error) {
		return none{}, u.DeleteUser(ctx, in.ID, in.Name)
	})
	bind(mux, "users/list", up, func(ctx context.Context, in listUsersArgs) (listUsersResult, error) {
		users, next, err := u.ListUsers(ctx, in.ID, in.After, in.Limit)
		return listUsersResult{users, next}, err
	})
}

// bind serves a call: the arguments as the request's JSON body, the result or a failure as the answer's.
func bind[In, Out any](mux *http.ServeMux, name string, present bool, fn func(context.Context, In) (Out, error)) {
	mux.HandleFunc("POST "+prefix+name, func(w http.ResponseWriter, r *http.Request) {
		in, err := arguments[In](w, r, name, present)
		var out Out
		if err == nil {
			out, err = fn(r.Context(), in)
		}
		answer(w, out, err)
	})
}

func arguments[In any](w http.ResponseWriter, r *http.Request, name string, present bool) (in In, err error) {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMessage))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return in, fmt.Errorf("hostapi: %s: %w", name, err)
	}
	if !present {
		return in, fmt.Errorf("hostapi: %s: this host has no such driver: %w", name, driver.ErrUnavailable)
	}
	return in, nil
}

func answer(w http.ResponseWriter, out any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		out = encodeError(err)
	}
	// The client is gone when this fails; it asks again.
	_ = json.NewEncoder(w).Encode(out)
}

// stream serves a call whose result is a connection, which the request's own connection becomes.
func stream[In any](mux *http.ServeMux, name string, present bool, fn func(context.Context, In) (net.Conn, error)) {
	mux.HandleFunc("POST "+prefix+name, func(w http.ResponseWriter, r *http.Request) {
		in, err := arguments[In](w, r, name, present)
		if err != nil {
			answer(w, nil, err)
			return
		}
		inner, err := fn(r.Context(), in)
		if err != nil {
			answer(w, nil, err)
			return
		}
		defer inner.Close()
		outer, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			answer(w, nil, err)
			return
		}
		defer outer.Close()
		join(outer, buffered, inner)
	})
}

// join tells the client that its connection is now the stream, and copies both ways until either side ends. How it ended is seen by
// whoever speaks through it.
func join(outer net.Conn, buffered *bufio.ReadWriter, inner net.Conn) {
	if _, err := io.WriteString(outer, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+upgrade+"\r\n\r\n"); err != nil {
		return
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		_, _ = io.Copy(inner, buffered.Reader)
		_ = inner.Close()
	})
	_, _ = io.Copy(outer, inner)
	_ = outer.Close()
	wait.Wait()
}
