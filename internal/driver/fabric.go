package driver

import (
	"context"

	"carrel/internal/ident"
)

// NICSpec is a desktop's connection to a subnet. The fabric lets the desktop send with this MAC and address only.
type NICSpec struct {
	InterfaceID    ident.InterfaceID
	WorkspaceID    ident.WorkspaceID
	VPC            ident.VPCID
	Subnet         ident.SubnetID
	Address        string
	MAC            string
	SecurityGroups []ident.SecurityGroupID
	// VPCCIDR and SubnetCIDR tell a host that makes the networks itself what they are.
	VPCCIDR, SubnetCIDR string
	Names               Names
}

// Names are what a network's services tell a desktop about itself. Each may be empty.
type Names struct {
	// Hostname is what the desktop is called, a DNS label ("WSAMZ-F9ABCDEFG").
	Hostname string
	// Zone is the availability zone ("eu-central-1a") and its id ("euc1-az2").
	Zone, ZoneID string
}

// NIC is what exists of a connection.
type NIC struct {
	InterfaceID ident.InterfaceID
	WorkspaceID ident.WorkspaceID
	VPC         ident.VPCID
	Subnet      ident.SubnetID
	Address     string
	MAC         string
	// SecurityGroups in force.
	SecurityGroups []ident.SecurityGroupID
	Names          Names
}

// Fabric is the virtual networks on the hosts. Methods may be called concurrently; two calls on one interface at once give
// ErrBusy to the second. Every method may give ErrUnavailable.
type Fabric interface {
	// Attach makes the connection with its filters in force before the first packet. There already: its security groups
	// and names become the spec's. PermanentError: the address is taken in that VPC, or an interface of that id has another address.
	Attach(ctx context.Context, spec NICSpec) (NIC, error)
	// Detach removes the connection and cuts its flows. Gone already: success. ErrOrder: a running machine uses it.
	Detach(ctx context.Context, id ident.InterfaceID) error
	// List gives all connections in order of id.
	List(ctx context.Context) ([]NIC, error)
}
