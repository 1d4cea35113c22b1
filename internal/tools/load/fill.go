package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"carrel/internal/ident"
	"carrel/internal/state"
	"carrel/internal/state/memory"
)

// commandFill makes a large installation without waiting for its desktops: it reads a backup, adds records of desktops as they are once
// a desktop was made and stopped - the WorkSpace and its address - and writes a backup that `carrel restore`
// checks and takes. Stopped desktops need nothing done, so the control plane leaves them as they are.
func commandFill(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("fill", flag.ExitOnError)
	from := f.String("backup", "", "backup of a fresh simulated installation")
	to := f.String("out", "", "file to write")
	n := f.Int("desktops", 1000, "how many desktops to add")
	_ = f.Parse(args) // ExitOnError: it does not come back with an error
	return fill(ctx, *from, *to, *n)
}

func fill(ctx context.Context, from, to string, desktops int) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer discard(in)
	store := memory.New()
	defer discard(store)
	if _, err := state.Restore(ctx, store, in); err != nil {
		return err
	}
	if err := addDesktops(ctx, store, desktops); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // it holds the root's secret key
	if err != nil {
		return err
	}
	_, err = state.Backup(ctx, store, out)
	return errors.Join(err, out.Close())
}

// addressesPerSubnet keeps below a /16's 65,530; Amazon VPC has no larger subnets.
const addressesPerSubnet = 60_000

func addDesktops(ctx context.Context, store state.Store, n int) error {
	items, _, err := store.List(ctx)
	if err != nil {
		return err
	}
	s := site{now: time.Now().UTC().Truncate(time.Second)}
	if err := errors.Join(first(items, state.DirectoryTable, &s.dir), first(items, state.BundleTable, &s.bundle)); err != nil {
		return err
	}
	if s.subnets, err = addNetworks(ctx, store, n); err != nil {
		return err
	}
	for i := range n {
		puts, err := s.desktop(i)
		if err != nil {
			return err
		}
		if _, err := store.Transact(ctx, state.Txn{Puts: puts}); err != nil {
			return err
		}
	}
	return nil
}

// addNetworks makes VPCs of one subnet with room for n desktops: the default one has room for 8,000.
func addNetworks(ctx context.Context, store state.Store, n int) ([]ident.SubnetID, error) {
	var subnets []ident.SubnetID
	for i := 0; i*addressesPerSubnet < n; i++ {
		cidr := fmt.Sprintf("10.%d.0.0/16", i)
		vpc := &state.VPC{ID: ident.VPCID(fmt.Sprintf("vpc-%017x", i)), CIDR: cidr, DNSLookup: true}
		subnet := &state.Subnet{ID: ident.SubnetID(fmt.Sprintf("subnet-%017x", i)), VPCID: vpc.ID, CIDR: cidr, Zone: "us-east-1a", ZoneID: "use1-az1"}
		var w writes
		w.put(state.VPCTable, string(vpc.ID), vpc)
		w.put(state.SubnetTable, string(subnet.ID), subnet)
		if w.err != nil {
			return nil, w.err
		}
		if _, err := store.Transact(ctx, state.Txn{Puts: w.puts}); err != nil {
			return nil, err
		}
		subnets = append(subnets, subnet.ID)
	}
	return subnets, nil
}

// site is where the desktops are.
type site struct {
	dir     state.Directory
	bundle  state.Bundle
	subnets []ident.SubnetID
	now     time.Time
}

// desktop is everything the state holds of the i-th desktop.
func (s *site) desktop(i int) ([]state.Write, error) {
	dir, bundle, subnet, now := &s.dir, &s.bundle, s.subnets[i/addressesPerSubnet], s.now
	id, user, name := desktopID(i), userName(i), "WSAMZ-"+strings.ToUpper(strings.TrimPrefix(string(desktopID(i)), "ws-"))
	host := i%addressesPerSubnet + 256
	address := fmt.Sprintf("10.%d.%d.%d", i/addressesPerSubnet, host/256, host%256)
	nic := &state.Interface{Meta: state.Meta{Created: now}, ID: ident.InterfaceID(fmt.Sprintf("eni-%017x", i)), SubnetID: subnet, Address: address, WorkspaceID: id}
	rec := &state.Workspace{
		Meta: state.Meta{Created: now},
		ID:   id,
		Spec: state.WorkspaceSpec{
			DirectoryID: dir.ID, UserName: user, UserSID: fmt.Sprintf("S-1-5-21-1004336348-1177238915-682003330-%d", 10_000+i), BundleID: bundle.ID,
			RunningMode: "AUTO_STOP", AutoStopMinutes: 60, RootGiB: bundle.RootGiB, UserGiB: bundle.UserGiB, Compute: bundle.Compute,
			Protocols: bundle.Protocols[:min(1, len(bundle.Protocols))], OperatingSystem: bundle.OperatingSystem, Power: state.PowerStopped,
		},
		Status: state.WorkspaceStatus{State: "STOPPED", Since: now, IPAddress: address, SubnetID: subnet, Interface: nic.ID, ComputerName: name, Host: "sim-1", Booted: now},
	}
	var w writes
	w.put(state.WorkspaceTable, string(id), rec)
	w.put(state.InterfaceTable, state.InterfaceKey(subnet, address), nic)
	return w.puts, w.err
}

// desktopID is the i-th desktop's: all different, and as scattered as random ones (the factor has none in common with 36^9).
func desktopID(i int) ident.WorkspaceID {
	const ids = 36 * 36 * 36 * 36 * 36 * 36 * 36 * 36 * 36
	text := strconv.FormatUint(uint64(i+1)*2_654_435_761%ids, 36)
	return ident.WorkspaceID("ws-" + strings.Repeat("0", 9-len(text)) + text)
}

func userName(i int) string { return fmt.Sprintf("user%06d", i) }

// writes collects records in the form a store keeps.
type writes struct {
	puts []state.Write
	err  error
}

func (w *writes) put(table state.Table, id string, rec any) {
	value, err := json.Marshal(rec)
	w.err = errors.Join(w.err, err)
	w.puts = append(w.puts, state.Write{Key: state.Key{Table: table, ID: id}, Value: value})
}

// first decodes the first record of a table.
func first(items []state.Item, table state.Table, rec any) error {
	for _, it := range items {
		if it.Key.Table == table {
			return json.Unmarshal(it.Value, rec)
		}
	}
	return fmt.Errorf("the backup has no %s", table)
}
