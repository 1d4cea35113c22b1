package driver

import (
	"context"

	"carrel/internal/directory"
	"carrel/internal/ident"
)

// DomainStage is how far a directory's domain is.
type DomainStage string

// The stages of a domain.
const (
	DomainCreating DomainStage = "creating"
	DomainActive   DomainStage = "active"
	DomainImpaired DomainStage = "impaired"
)

// DomainController is where one of a domain's controllers stands.
type DomainController struct {
	Subnet  ident.SubnetID
	Address string
}

// DomainSpec is what a domain is made of. A domain that Carrel runs has one controller for each entry.
type DomainSpec struct {
	DirectoryID ident.DirectoryID
	// Type is ds's DirectoryType ("SimpleAD").
	Type string
	// Name is the DNS name ("corp.example.com"), ShortName the NetBIOS name ("CORP").
	Name      string
	ShortName string
	VPC       ident.VPCID
	// VPCCIDR tells a host that makes the networks itself what the VPC is.
	VPCCIDR     string
	Controllers []DomainController
	// AdminPassword is the domain administrator's first password, needed by the first Provision only.
	AdminPassword directory.Password `json:"-"`
}

// DomainInfo is what exists of a domain.
type DomainInfo struct {
	DirectoryID ident.DirectoryID
	Stage       DomainStage
	// DNSAddresses of the controllers, in the order of the spec.
	DNSAddresses []string
}

// Domain runs the directories' domain controllers. Methods may be called concurrently; two calls on one directory at once give
// ErrBusy to the second. Every method may give ErrUnavailable. An implementation whose users are known to it also
// is a directory.Lister.
type Domain interface {
	// Provision makes the domain and returns once it answers. There already: success.
	// PermanentError: the name or type cannot be served.
	Provision(ctx context.Context, spec DomainSpec) (DomainInfo, error)
	// Inspect tells what exists. ErrNotFound.
	Inspect(ctx context.Context, id ident.DirectoryID) (DomainInfo, error)
	// Remove ends the domain and destroys its data. Gone already: success.
	Remove(ctx context.Context, id ident.DirectoryID) error
	// List gives all domains in order of id.
	List(ctx context.Context) ([]DomainInfo, error)
}
