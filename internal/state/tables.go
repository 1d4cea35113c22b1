package state

import (
	"reflect"
	"strings"

	"carrel/internal/ident"
)

// The tables.
const (
	InstallationTable  Table = "installation"
	WorkspaceTable     Table = "workspace"
	DirectoryTable     Table = "directory"
	BundleTable        Table = "bundle"
	ImageTable         Table = "image"
	IPGroupTable       Table = "ipgroup"
	VPCTable           Table = "vpc"
	SubnetTable        Table = "subnet"
	SecurityGroupTable Table = "securitygroup"
	InterfaceTable     Table = "interface"
	ClaimTable         Table = "claim"
)

// Index orders records of a table by a text: Of appends to keys the text(s) under which a record is found, if any. Without Of, which
// only packed tables know, a record is found under what its id has before a slash.
type Index[T any] struct {
	Name string
	Of   func(rec *T, keys []string) []string
}

// Definition says how a record type is stored: its table, the id of a record, its Meta and its indexes.
type Definition[T any] struct {
	Table   Table
	ID      func(*T) string
	Meta    func(*T) *Meta
	Indexes []Index[T]
	// setID gives a record what its id says, for records whose value (nameless) or packed form does not contain it.
	setID    func(*T, string)
	nameless bool
	// packed, where set, is how records are kept in memory: see packedView. It is for the tables with a record a desktop.
	packed *codec
}

// definition is a Definition without its record type.
type definition interface {
	table() Table
	view() anyView
}

func (d *Definition[T]) table() Table { return d.Table }
func (d *Definition[T]) view() anyView {
	if d.packed != nil {
		return newPackedView(d)
	}
	return newView(d)
}

// definitions lists every table there is. A table that is not listed cannot be used, and a store that contains one is
// taken for somebody else's or for a newer version's: Open refuses it.
func definitions() []definition {
	return []definition{
		Installations, Workspaces, Directories, Bundles, Images, IPGroups, Users, AccessKeys,
		Groups, Roles, Policies, MFADevices, InstanceProfiles, RoleDeletions, SAMLProviders, OIDCProviders, Accounts, TokenKeys, SpentOnes, Uses,
		VPCs, Subnets, SecurityGroups, Interfaces, claims,
	}
}

// The definitions. A record's indexes are looked up by the Index values beside them.
var (
	Installations = &Definition[Installation]{Table: InstallationTable, ID: func(*Installation) string { return "this" }, Meta: func(r *Installation) *Meta { return &r.Meta }}

	// WorkspacesByDirectory, ByUser, ByBundle order WorkSpaces for DescribeWorkspaces.
	WorkspacesByDirectory = Index[Workspace]{"directory", func(w *Workspace, keys []string) []string { return append(keys, string(w.Spec.DirectoryID)) }}
	WorkspacesByUser      = Index[Workspace]{"user", func(w *Workspace, keys []string) []string {
		return append(keys, UserKey(w.Spec.DirectoryID, w.Spec.UserName))
	}}
	WorkspacesByBundle = Index[Workspace]{"bundle", func(w *Workspace, keys []string) []string { return append(keys, string(w.Spec.BundleID)) }}
	// WorkspacesConnected finds, under "CONNECTED", the few that somebody is connected to.
	WorkspacesConnected = Index[Workspace]{"connected", func(w *Workspace, keys []string) []string {
		if w.Status.Connection != "CONNECTED" {
			return keys
		}
		return append(keys, w.Status.Connection)
	}}
	Workspaces = &Definition[Workspace]{Table: WorkspaceTable, ID: func(r *Workspace) string { return string(r.ID) }, Meta: func(r *Workspace) *Meta { return &r.Meta },
		Indexes: []Index[Workspace]{WorkspacesByDirectory, WorkspacesByUser, WorkspacesByBundle, WorkspacesConnected},
		packed:  newCodec(reflect.TypeFor[Workspace]()), setID: func(w *Workspace, id string) { w.ID = ident.WorkspaceID(id) }}

	Directories = &Definition[Directory]{Table: DirectoryTable, ID: func(r *Directory) string { return string(r.ID) }, Meta: func(r *Directory) *Meta { return &r.Meta }}
	Bundles     = &Definition[Bundle]{Table: BundleTable, ID: func(r *Bundle) string { return string(r.ID) }, Meta: func(r *Bundle) *Meta { return &r.Meta }}
	Images      = &Definition[Image]{Table: ImageTable, ID: func(r *Image) string { return string(r.ID) }, Meta: func(r *Image) *Meta { return &r.Meta }}
	IPGroups    = &Definition[IPGroup]{Table: IPGroupTable, ID: func(r *IPGroup) string { return string(r.ID) }, Meta: func(r *IPGroup) *Meta { return &r.Meta }}

	VPCs           = &Definition[VPC]{Table: VPCTable, ID: func(r *VPC) string { return string(r.ID) }, Meta: func(r *VPC) *Meta { return &r.Meta }}
	Subnets        = &Definition[Subnet]{Table: SubnetTable, ID: func(r *Subnet) string { return string(r.ID) }, Meta: func(r *Subnet) *Meta { return &r.Meta }}
	SecurityGroups = &Definition[SecurityGroup]{Table: SecurityGroupTable, ID: func(r *SecurityGroup) string { return string(r.ID) }, Meta: func(r *SecurityGroup) *Meta { return &r.Meta }}

	// InterfacesBySubnet finds the addresses taken in a subnet, by the beginning of their ids.
	InterfacesBySubnet = Index[Interface]{Name: "subnet"}
	Interfaces         = &Definition[Interface]{Table: InterfaceTable, ID: func(r *Interface) string { return InterfaceKey(r.SubnetID, r.Address) }, Meta: func(r *Interface) *Meta { return &r.Meta },
		Indexes: []Index[Interface]{InterfacesBySubnet}, packed: newCodec(reflect.TypeFor[Interface]())}

	// claims are reached through Tx.Claim, Tx.Release and Owner.
	claims = &Definition[Claim]{Table: ClaimTable, ID: func(c *Claim) string { return c.Name }, Meta: func(c *Claim) *Meta { return &c.Meta },
		setID: func(c *Claim, name string) { c.Name = name }, nameless: true}
)

// UserKey is the text under which a directory's user is indexed and claimed: user names compare without regard to case.
func UserKey(d ident.DirectoryID, userName string) string {
	return string(d) + "/" + strings.ToLower(userName)
}

// InterfaceKey is the id that an address taken in a subnet is stored under.
func InterfaceKey(subnet ident.SubnetID, address string) string {
	return string(subnet) + "/" + address
}
