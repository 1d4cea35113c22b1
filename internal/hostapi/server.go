package hostapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
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
	Sessions   driver.Sessions
	Networks   driver.Networks
	Users      directory.Manager
	// Authority is the PEM certificate of who signs the domain controllers' certificates.
	Authority []byte
}

// changer is a directory.Manager whose users can change their own passwords.
type changer interface {
	ChangePassword(ctx context.Context, id ident.DirectoryID, userName string, old, next directory.Password) error
}

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
	bind(mux, machinePlace, up, of(hv, driver.Hypervisor.Place))
	bind(mux, machineStart, up, of(hv, driver.Hypervisor.Start))
	bind(mux, machineStop, up, of(hv, driver.Hypervisor.Stop))
	bind(mux, machineReboot, up, func(ctx context.Context, in rebootArgs) (driver.Machine, error) {
		return hv.Reboot(ctx, in.ID, in.Count)
	})
	bind(mux, machineInspect, up, of(hv, driver.Hypervisor.Inspect))
	bind(mux, machineScrub, up, of(hv, driver.Hypervisor.Scrub))
	bind(mux, machineRelease, up, act(hv, driver.Hypervisor.Release))
	bind(mux, machineList, up, list(hv, driver.Hypervisor.List))
	bind(mux, displayReady, h.Display != nil, act(h.Display, driver.Display.Ready))
	stream(mux, screenConnect, h.Screens != nil, of(h.Screens, driver.Screens.Connect))
	stream(mux, sessionConnect, h.Sessions != nil, of(h.Sessions, driver.Sessions.Session))
}

func (h *Host) disks(mux *http.ServeMux) {
	v, up := h.Volumes, h.Volumes != nil
	bind(mux, volumeCreate, up, of(v, driver.Volumes.Create))
	bind(mux, volumeErase, up, of(v, driver.Volumes.Erase))
	bind(mux, volumeRelease, up, act(v, driver.Volumes.Release))
	bind(mux, volumeList, up, list(v, driver.Volumes.List))
}

func (h *Host) networks(mux *http.ServeMux) {
	f, up := h.Fabric, h.Fabric != nil
	bind(mux, nicAttach, up, of(f, driver.Fabric.Attach))
	bind(mux, nicDetach, up, act(f, driver.Fabric.Detach))
	bind(mux, nicList, up, list(f, driver.Fabric.List))
	n, up := h.Networks, h.Networks != nil
	bind(mux, addressHold, up, func(ctx context.Context, in addressArgs) (none, error) {
		return none{}, n.Hold(ctx, in.Network, in.Address)
	})
	bind(mux, addressDrop, up, func(ctx context.Context, in dropArgs) (none, error) {
		return none{}, n.Drop(ctx, in.VPC, in.Address)
	})
	v, known := h.Networks.(driver.VPCs)
	bind(mux, networkList, up && known, list(v, driver.VPCs.ListNetworks))
	bind(mux, networkRemove, up && known, act(v, driver.VPCs.RemoveNetwork))
	stream(mux, networkDial, up, func(ctx context.Context, in dialArgs) (net.Conn, error) {
		return n.Dial(ctx, in.VPC, in.Network, in.Address)
	})
}

func (h *Host) domains(mux *http.ServeMux) {
	d, up := h.Domain, h.Domain != nil
	bind(mux, domainProvision, up, func(ctx context.Context, in provisionArgs) (driver.DomainInfo, error) {
		in.Spec.AdminPassword = directory.NewPassword(in.AdminPassword)
		return d.Provision(ctx, in.Spec)
	})
	bind(mux, domainInspect, up, of(d, driver.Domain.Inspect))
	bind(mux, domainRemove, up, act(d, driver.Domain.Remove))
	bind(mux, domainList, up, list(d, driver.Domain.List))
}

func (h *Host) users(mux *http.ServeMux) {
	bind(mux, domainAuthority, len(h.Authority) > 0, func(context.Context, none) ([]byte, error) { return h.Authority, nil })
	u, up := h.Users, h.Users != nil
	bind(mux, userLookup, up, func(ctx context.Context, in lookupArgs) (directory.User, error) { return u.Lookup(ctx, in.ID, in.Name) })
	bind(mux, userCreate, up, func(ctx context.Context, in createUserArgs) (directory.User, error) {
		return u.CreateUser(ctx, in.ID, in.User)
	})
	bind(mux, userPassword, up, func(ctx context.Context, in passwordArgs) (none, error) {
		return none{}, u.SetPassword(ctx, in.ID, in.Name, directory.NewPassword(in.Password))
	})
	changer, up2 := u.(changer)
	bind(mux, userChangePassword, up && up2, func(ctx context.Context, in changeArgs) (none, error) {
		return none{}, changer.ChangePassword(ctx, in.ID, in.Name, directory.NewPassword(in.Old), directory.NewPassword(in.Next))
	})
	bind(mux, userDisable, up, func(ctx context.Context, in lookupArgs) (none, error) {
		return none{}, u.DisableUser(ctx, in.ID, in.Name)
	})
	bind(mux, userDelete, up, func(ctx context.Context, in lookupArgs) (none, error) {
		return none{}, u.DeleteUser(ctx, in.ID, in.Name)
	})
	bind(mux, userList, up, func(ctx context.Context, in listUsersArgs) (listUsersResult, error) {
		users, next, err := u.ListUsers(ctx, in.ID, in.After, in.Limit)
		return listUsersResult{users, next}, err
	})
}

// of is a driver's method as bind takes it, act one without a result, list one without arguments. The driver may be missing: then it is never
// called.
func of[D, In, Out any](d D, method func(D, context.Context, In) (Out, error)) func(context.Context, In) (Out, error) {
	return func(ctx context.Context, in In) (Out, error) { return method(d, ctx, in) }
}

func act[D, In any](d D, method func(D, context.Context, In) error) func(context.Context, In) (none, error) {
	return func(ctx context.Context, in In) (none, error) { return none{}, method(d, ctx, in) }
}

func list[D, Out any](d D, method func(D, context.Context) (Out, error)) func(context.Context, none) (Out, error) {
	return func(ctx context.Context, _ none) (Out, error) { return method(d, ctx) }
}

// bind serves a call: the arguments as the request's JSON body, the result or a failure as the answer's.
func bind[In, Out any](mux *http.ServeMux, r route[In, Out], present bool, fn func(context.Context, In) (Out, error)) {
	name := string(r)
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
func stream[In any](mux *http.ServeMux, r route[In, net.Conn], present bool, fn func(context.Context, In) (net.Conn, error)) {
	name := string(r)
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
