// Package bootstrap gives a new installation its first records: the account, its root access key, the role that
// WorkSpaces acts with, the default network, the bundles, and in simulation a directory. On later starts it checks that the state is the one that was asked for.
//
// It refuses to change a state that exists: whatever does not fit is an error that names the flag, and nothing is written.
package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/state"
)

// version is the layout of the records. A higher one in the state was written by a newer Carrel; a lower one is no release's.
const version = 2

// What an installation is when nothing is said at its first start.
const (
	DefaultRegion    = "us-east-1"
	DefaultPartition = "aws"
)

// Options say what the installation should be. AccountID, Region and Partition may be empty: what the state has, at the first
// start a random account in DefaultRegion and DefaultPartition.
type Options struct {
	AccountID, Region, Partition string
	// Simulate must be what it was at the first start.
	Simulate bool
	// Rand makes ids and secrets (crypto/rand.Reader).
	Rand io.Reader
}

// Result is the installation as it is.
type Result struct {
	Installation state.Installation
	// First is true when this call made it.
	First bool
	// RootKey is the root's oldest active access key, for the credentials file.
	RootKey state.AccessKey
}

// MismatchError is a flag that does not fit the state.
type MismatchError struct {
	// Flag is the command line's ("--region"); Have and Want are what the state has and what was asked for.
	Flag, Have, Want string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("this state was made with %s=%s, not %s: start with %s=%s or choose another state directory with --state (nothing was changed)",
		e.Flag, e.Have, e.Want, e.Flag, e.Have)
}

// ErrForeign: the state is not one that this program can use. The text says why.
var ErrForeign = errors.New("the state cannot be used")

// Ensure makes a new installation in one transaction, or checks the one there is: *MismatchError, ErrForeign. Two processes that
// start at once on one external cluster get the same installation.
func Ensure(ctx context.Context, db *state.DB, o Options) (Result, error) {
	var r Result
	_, err := db.Update(ctx, func(tx *state.Tx) error {
		r = Result{}
		have, ok := state.Get(tx, state.Installations, installationID)
		if !ok {
			if err := empty(tx); err != nil {
				return err
			}
			var err error
			r, err = o.install(tx)
			return err
		}
		if err := o.fits(have); err != nil {
			return err
		}
		key, ok := rootKey(tx)
		if !ok {
			return fmt.Errorf("%w: the account %s has no active root access key", ErrForeign, have.AccountID)
		}
		r.Installation, r.RootKey = *state.Clone(have), *state.Clone(key)
		return nil
	})
	if err != nil {
		return Result{}, fmt.Errorf("prepare the state: %w", err)
	}
	return r, nil
}

// installationID is the id of the one record of state.Installations.
var installationID = state.Installations.ID(nil)

func (o Options) fits(have *state.Installation) error {
	if have.Version < version {
		return fmt.Errorf("%w: its records have layout %d, which no released Carrel has written; this one knows %d", ErrForeign, have.Version, version)
	}
	if have.Version > version {
		return fmt.Errorf("%w: it was written by a newer Carrel (layout %d, this one knows %d)", ErrForeign, have.Version, version)
	}
	for _, m := range []MismatchError{
		{"--account-id", have.AccountID, o.AccountID},
		{"--region", have.Region, o.Region},
		{"partition", have.Partition, o.Partition},
	} {
		if m.Want != "" && m.Have != m.Want {
			return &m
		}
	}
	if have.Simulated != o.Simulate {
		return &MismatchError{"--simulate", strconv.FormatBool(have.Simulated), strconv.FormatBool(o.Simulate)}
	}
	return nil
}

// empty refuses a state that has records but no installation: something else made it, or it was restored in part.
func empty(r state.Reader) error {
	counts := []struct {
		table state.Table
		n     int
	}{
		{state.WorkspaceTable, state.Count(r, state.Workspaces)}, {state.DirectoryTable, state.Count(r, state.Directories)},
		{state.BundleTable, state.Count(r, state.Bundles)}, {state.ImageTable, state.Count(r, state.Images)},
		{state.IPGroupTable, state.Count(r, state.IPGroups)}, {state.UserTable, state.Count(r, state.Users)},
		{state.RoleTable, state.Count(r, state.Roles)},
		{state.AccessKeyTable, state.Count(r, state.AccessKeys)}, {state.VPCTable, state.Count(r, state.VPCs)},
		{state.SubnetTable, state.Count(r, state.Subnets)}, {state.SecurityGroupTable, state.Count(r, state.SecurityGroups)},
		{state.InterfaceTable, state.Count(r, state.Interfaces)},
	}
	for _, c := range counts {
		if c.n > 0 {
			return fmt.Errorf("%w: it has %d records of table %s but does not say whose they are", ErrForeign, c.n, c.table)
		}
	}
	return nil
}

// install collects the first records in tx.
func (o Options) install(tx *state.Tx) (Result, error) {
	meta := state.Meta{Created: tx.Now()}
	r := Result{First: true, Installation: state.Installation{
		Meta: meta, AccountID: o.AccountID, Region: o.Region, Partition: o.Partition, Simulated: o.Simulate, Version: version,
	}}
	if r.Installation.AccountID == "" {
		r.Installation.AccountID = ident.Digits(o.Rand, 12)
	}
	if r.Installation.Region == "" {
		r.Installation.Region = DefaultRegion
	}
	if r.Installation.Partition == "" {
		r.Installation.Partition = DefaultPartition
	}
	state.Put(tx, state.Installations, state.Clone(&r.Installation))

	r.RootKey = state.AccessKey{Meta: meta, ID: ident.NewAccessKeyID(o.Rand), Secret: identity.NewSecret(o.Rand), Active: true}
	state.Put(tx, state.AccessKeys, state.Clone(&r.RootKey))

	if err := o.defaultRole(tx, r.Installation.Partition); err != nil {
		return Result{}, err
	}
	network := o.network(tx, r.Installation.Region)
	bundles(tx)
	if o.Simulate {
		if err := o.directory(tx, network, r.Installation.Region); err != nil {
			return Result{}, err
		}
	}
	return r, nil
}

// rootKey is the oldest active key of the root.
func rootKey(r state.Reader) (*state.AccessKey, bool) {
	keys := slices.Collect(state.AllBy(r, state.AccessKeys, state.AccessKeysByUser, "root"))
	keys = slices.DeleteFunc(keys, func(k *state.AccessKey) bool { return !k.Active })
	if len(keys) == 0 {
		return nil, false
	}
	return slices.MinFunc(keys, func(a, b *state.AccessKey) int { return a.Created.Compare(b.Created) }), true
}
