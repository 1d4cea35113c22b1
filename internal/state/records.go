package state

import (
	"time"

	"carrel/internal/ident"
)

// Meta is common to all records. Records in the DB are shared: nobody changes one, a change is made to a copy and Put.
type Meta struct {
	// Revision is filled by the DB when the record is read.
	Revision Revision `json:"-"`
	Created  time.Time
	Tags     map[string]string `json:",omitempty"`
}

// Backoff is a reconciler's account of a plan that does not get on; it lives in Status so that it survives restarts.
type Backoff struct {
	Step     string    `json:",omitempty" state:"common"`
	Attempts int       `json:",omitempty"`
	Next     time.Time `json:",omitzero"`
	Error    string    `json:",omitempty"`
}

// Power is what a desktop should be.
type Power string

// The powers of a WorkspaceSpec.
const (
	PowerRunning    Power = "running"
	PowerStopped    Power = "stopped"
	PowerTerminated Power = "terminated"
)

// Workspace is a WorkSpace's record.
//
// Here and in Interface the tag state:"common" marks texts of which there are few for all records together, ever; never one that clients
// choose: memory keeps them for good (words). state:"id" marks what the id says.
type Workspace struct {
	Meta
	ID     ident.WorkspaceID `state:"id"`
	Spec   WorkspaceSpec
	Status WorkspaceStatus
}

// WorkspaceSpec is what should be.
type WorkspaceSpec struct {
	DirectoryID ident.DirectoryID `state:"common"`
	// UserName as the directory spells it.
	UserName string
	// UserSID is the directory's unchanging id of the user: a user deleted and made again owns nothing.
	UserSID             string         `json:",omitempty"`
	BundleID            ident.BundleID `state:"common"`
	Name                string         `json:",omitempty"`
	VolumeEncryptionKey string         `json:",omitempty"`
	EncryptUser         bool           `json:",omitempty"`
	EncryptRoot         bool           `json:",omitempty"`
	// RunningMode is AUTO_STOP, ALWAYS_ON or MANUAL; AutoStopMinutes only with AUTO_STOP.
	RunningMode     string `state:"common"`
	AutoStopMinutes int    `json:",omitempty"`
	RootGiB         int
	UserGiB         int
	// Compute is the ComputeTypeName ("STANDARD").
	Compute         string   `state:"common"`
	Protocols       []string `json:",omitempty" state:"common"`
	OperatingSystem string   `json:",omitempty" state:"common"`
	Power           Power    `state:"common"`
	// Reboots counts the reboots asked for; Status.Reboots those done.
	Reboots int `json:",omitempty"`
}

// WorkspaceStatus is what is.
type WorkspaceStatus struct {
	// State is the API's WorkspaceState ("PENDING").
	State string `state:"common"`
	// Since is when State was entered.
	Since        time.Time
	IPAddress    string              `json:",omitempty"`
	SubnetID     ident.SubnetID      `json:",omitempty" state:"common"`
	Interface    ident.InterfaceID   `json:",omitempty"`
	ComputerName string              `json:",omitempty"`
	Host         string              `json:",omitempty" state:"common"`
	ErrorCode    string              `json:",omitempty" state:"common"`
	ErrorMessage string              `json:",omitempty"`
	Reboots      int                 `json:",omitempty"`
	Certificate  ident.CertificateID `json:",omitempty"`
	// Booted is when its machine first ran; zero: it never held memory, so there is none to scrub.
	Booted  time.Time `json:",omitzero"`
	Backoff Backoff   `json:",omitzero"`
	// Connection is the last known ConnectionState ("CONNECTED", "DISCONNECTED"), empty: never reported.
	Connection   string    `json:",omitempty" state:"common"`
	CheckedAt    time.Time `json:",omitzero"`
	LastUserSeen time.Time `json:",omitzero"`
}

// Directory is a Directory Service directory and, once registered, its WorkSpaces registration.
type Directory struct {
	Meta
	ID     ident.DirectoryID
	Spec   DirectorySpec
	Status DirectoryStatus
	// Registration is nil while the directory is not registered with WorkSpaces.
	Registration *Registration `json:",omitempty"`
}

// DirectorySpec is what should be.
type DirectorySpec struct {
	// Type is ds's DirectoryType: SimpleAD, MicrosoftAD, ADConnector.
	Type        string
	Name        string
	ShortName   string
	Alias       string `json:",omitempty"`
	Description string `json:",omitempty"`
	Size        string `json:",omitempty"`
	Edition     string `json:",omitempty"`
	VPCID       ident.VPCID
	SubnetIDs   []ident.SubnetID
	// AdminPassword is the domain administrator's first password, sealed (internal/seal) and kept from the request until the domain has been made
	// with it.
	AdminPassword Secret `json:",omitempty"`
}

// DirectoryStatus is what is.
type DirectoryStatus struct {
	// Stage is ds's DirectoryStage ("Active").
	Stage           string
	StageSince      time.Time
	StageReason     string `json:",omitempty"`
	DNSAddresses    []string
	Zones           []string              `json:",omitempty"`
	SecurityGroupID ident.SecurityGroupID `json:",omitempty"`
	Backoff         Backoff               `json:",omitzero"`
}

// Registration is a directory's registration with WorkSpaces.
type Registration struct {
	// State is the API's WorkspaceDirectoryState: REGISTERING, REGISTERED, DEREGISTERING, ERROR.
	State          string
	Since          time.Time
	Code           string
	SubnetIDs      []ident.SubnetID
	Tenancy        string
	SelfService    map[string]string
	Access         map[string]string
	MembersGroupID ident.SecurityGroupID
	IPGroupIDs     []ident.IPGroupID `json:",omitempty"`
	// Tags of the registered directory (workspaces tags, not ds's).
	Tags    map[string]string `json:",omitempty"`
	Backoff Backoff           `json:",omitzero"`
}

// Bundle is a WorkSpace bundle.
type Bundle struct {
	Meta
	ID ident.BundleID
	// Owner is "AMAZON" for the bundles Carrel comes with, else an account id.
	Owner       string
	Name        string
	Description string
	ImageID     ident.ImageID
	Compute     string
	RootGiB     int
	UserGiB     int
	State       string
	Updated     time.Time
	// OperatingSystem is the OperatingSystemName of the image ("UBUNTU_22_04", "UNKNOWN").
	OperatingSystem string
	Protocols       []string
}

// Image is a WorkSpace image.
type Image struct {
	Meta
	ID          ident.ImageID
	Owner       string
	Name        string
	Description string
	// Platform is OperatingSystemType: WINDOWS, LINUX.
	Platform        string
	State           string
	RequiredTenancy string
	ErrorCode       string `json:",omitempty"`
	ErrorMessage    string `json:",omitempty"`
}

// IPRule is one rule of an IP group, kept as it was sent: clients compare it as text.
type IPRule struct {
	Rule        string
	Description string `json:",omitempty"`
}

// IPGroup is an IP access control group.
type IPGroup struct {
	Meta
	ID          ident.IPGroupID
	Name        string
	Description string `json:",omitempty"`
	Rules       []IPRule
}

// VPC is a virtual private cloud.
type VPC struct {
	Meta
	ID        ident.VPCID
	CIDR      string
	Default   bool
	DNSNames  bool
	DNSLookup bool
}

// Subnet is a subnet of a VPC.
type Subnet struct {
	Meta
	ID      ident.SubnetID
	VPCID   ident.VPCID
	CIDR    string
	Zone    string
	ZoneID  string
	Default bool
}

// SecurityGroup is a security group.
type SecurityGroup struct {
	Meta
	ID          ident.SecurityGroupID
	VPCID       ident.VPCID
	Name        string
	Description string
}

// Installation is the one record that says whose state this is.
type Installation struct {
	Meta
	AccountID string
	Region    string
	Partition string
	Simulated bool
	Version   int
}

// Interface is an address taken in a subnet. It is stored under both (InterfaceKey), so that an address is nobody's or one's.
type Interface struct {
	Meta
	ID          ident.InterfaceID
	SubnetID    ident.SubnetID `state:"common"`
	Address     string
	WorkspaceID ident.WorkspaceID `json:",omitempty"`
	// DirectoryID is set instead when a directory's controller has the address.
	DirectoryID ident.DirectoryID `json:",omitempty" state:"common"`
}

// Claim holds a name that must be unique: two transactions that claim the same conflict.
type Claim struct {
	Meta
	// Name is the id the claim is stored under.
	Name  string `json:"-"`
	Owner string
}
