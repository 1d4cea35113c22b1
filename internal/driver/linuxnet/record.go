package linuxnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"carrel/internal/driver"
	"carrel/internal/durable"
	"carrel/internal/ident"
)

// What the kernel has no room for. A record without its namespace or device means nothing and is removed.

// networkRecord is a VPC's.
type networkRecord struct {
	CIDR netip.Prefix
	// Transit numbers the VPC's link to the uplink; 0: none.
	Transit int `json:",omitempty"`
	// Held are the host's own addresses in the VPC.
	Held []netip.Addr `json:",omitempty"`
	// Groups whose rules were told; others have those of a new group.
	Groups map[ident.SecurityGroupID]Group `json:",omitempty"`
}

// portRecord is an interface's. Its other facts are in the device's alias, which wins.
type portRecord struct {
	Subnet netip.Prefix
	Groups []ident.SecurityGroupID
	Names  driver.Names
}

func (f *Fabric) path(id ident.VPCID) string { return filepath.Join(f.cfg.Dir, "netns", string(id)) }

func (f *Fabric) recordPath(id ident.VPCID) string {
	return filepath.Join(f.cfg.Dir, "vpc", string(id)+".json")
}

func (f *Fabric) portPath(id ident.InterfaceID) string {
	return filepath.Join(f.cfg.Dir, "eni", string(id)+".json")
}

// load reads a record. A file that is absent leaves v as it is.
func load(path string, v any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// save writes a record so that a crash leaves the old one or the new one.
func save(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, b, 0o600)
}
