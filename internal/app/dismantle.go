package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"carrel/internal/config"
	"carrel/internal/ident"
	"carrel/internal/operator"
)

// Dismantled is what Dismantle has taken away.
type Dismantled struct {
	Directories []ident.DirectoryID `json:"directories"`
	Networks    []ident.VPCID       `json:"networks"`
	HostDir     string              `json:"hostDir"`
}

// Dismantle takes away what the host role of an installation has made on this machine: directories, networks, memory templates, the keeper of memory, and
// the directory that it keeps all of it in. It refuses while Carrel runs there or has desktops: those are terminated by the API, with evidence. The
// state directory stays. directories says that directories may go, whose users are nowhere else.
func Dismantle(ctx context.Context, conf *config.Config, directories bool, p Process) (Dismantled, error) {
	state, err := filepath.Abs(conf.State.Dir)
	if err != nil {
		return Dismantled{}, err
	}
	out := Dismantled{HostDir: HostDir(state), Directories: []ident.DirectoryID{}, Networks: []ident.VPCID{}}
	if _, err := operator.Dial(state).Status(ctx); err == nil {
		return out, fmt.Errorf("carrel runs on %s: stop it first", state)
	}
	if _, err := os.Stat(out.HostDir); err != nil {
		return out, fmt.Errorf("there is nothing to take away: %w", err)
	}
	// Nothing is started: which accelerator there is does not matter, and finding out takes a while.
	conf.Host.Accelerator = "tcg"
	r := &hostRole{conf: conf, log: newLog(conf.Log, p.Stderr), dir: out.HostDir}
	defer r.close()
	if err := r.open(ctx); err != nil {
		return out, err
	}
	if err := r.nobody(ctx); err != nil {
		return out, err
	}
	domains, err := r.domains.List(ctx)
	if err != nil {
		return out, err
	}
	for _, d := range domains {
		out.Directories = append(out.Directories, d.DirectoryID)
	}
	if len(domains) > 0 && !directories {
		return out, fmt.Errorf("the directories %v would go with all their users: say --yes", out.Directories)
	}
	if err := r.dismantle(ctx, &out); err != nil {
		return out, err
	}
	return out, os.RemoveAll(out.HostDir)
}

// nobody makes sure that no desktop is on this host, running or not.
func (r *hostRole) nobody(ctx context.Context) error {
	machines, err := r.machines.List(ctx)
	if err != nil {
		return err
	}
	volumes, err := r.volumes.List(ctx)
	if err != nil {
		return err
	}
	nics, err := r.fabric.List(ctx)
	if err != nil {
		return err
	}
	seen, left := map[ident.WorkspaceID]bool{}, []string(nil)
	add := func(id ident.WorkspaceID) {
		if !seen[id] {
			seen[id], left = true, append(left, string(id))
		}
	}
	for _, m := range machines {
		add(m.WorkspaceID)
	}
	for _, v := range volumes {
		add(v.WorkspaceID)
	}
	for _, n := range nics {
		add(n.WorkspaceID)
	}
	if len(left) > 0 {
		return fmt.Errorf("there are desktops on this host: %s: terminate them first (carrel serve; aws workspaces terminate-workspaces), so that there is evidence of their end", strings.Join(left, ", "))
	}
	return nil
}

// dismantle takes everything away but the files.
func (r *hostRole) dismantle(ctx context.Context, out *Dismantled) error {
	for _, id := range out.Directories {
		if err := r.domains.Remove(ctx, id); err != nil {
			return fmt.Errorf("directory %s: %w", id, err)
		}
	}
	names, err := os.ReadDir(filepath.Join(r.dir, "net", "netns"))
	if err != nil {
		return err
	}
	for _, name := range names {
		id, err := ident.ParseVPCID(name.Name())
		if err != nil {
			continue
		}
		if err := r.fabric.RemoveNetwork(ctx, id); err != nil {
			return fmt.Errorf("network %s: %w", id, err)
		}
		out.Networks = append(out.Networks, id)
	}
	return errors.Join(r.machines.RetireTemplates(ctx), r.keeper.Quit(ctx))
}
