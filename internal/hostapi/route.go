package hostapi

import (
	"net"
	"net/netip"

	"carrel/internal/directory"
	"carrel/internal/driver"
	"carrel/internal/ident"
)

// route is a call: its name on the wire, what it takes and what it gives. Client and server are both made from it, so that neither can mean
// another call than the other. One whose result is a net.Conn is a stream.
type route[In, Out any] string

// The calls.
const (
	machinePlace   route[driver.MachineSpec, string]            = "hypervisor/place"
	machineStart   route[driver.MachineSpec, driver.Machine]    = "hypervisor/start"
	machineStop    route[ident.WorkspaceID, driver.Machine]     = "hypervisor/stop"
	machineReboot  route[rebootArgs, driver.Machine]            = "hypervisor/reboot"
	machineInspect route[ident.WorkspaceID, driver.Machine]     = "hypervisor/inspect"
	machineScrub   route[ident.WorkspaceID, driver.ScrubReport] = "hypervisor/scrub"
	machineRelease route[ident.WorkspaceID, none]               = "hypervisor/release"
	machineList    route[none, []driver.Machine]                = "hypervisor/list"
	displayReady   route[ident.WorkspaceID, none]               = "display/ready"
	screenConnect  route[ident.WorkspaceID, net.Conn]           = "screens/connect"
	sessionConnect route[ident.WorkspaceID, net.Conn]           = "sessions/connect"

	volumeCreate  route[driver.VolumeSpec, driver.Volume] = "volumes/create"
	volumeErase   route[driver.VolumeID, driver.Erasure]  = "volumes/erase"
	volumeRelease route[driver.VolumeID, none]            = "volumes/release"
	volumeList    route[none, []driver.Volume]            = "volumes/list"

	nicAttach     route[driver.NICSpec, driver.NIC] = "fabric/attach"
	nicDetach     route[ident.InterfaceID, none]    = "fabric/detach"
	nicList       route[none, []driver.NIC]         = "fabric/list"
	addressHold   route[addressArgs, none]          = "networks/hold"
	addressDrop   route[dropArgs, none]             = "networks/drop"
	networkList   route[none, []ident.VPCID]        = "networks/list"
	networkRemove route[ident.VPCID, none]          = "networks/remove"
	networkDial   route[dialArgs, net.Conn]         = "networks/dial"

	domainProvision route[provisionArgs, driver.DomainInfo]     = "domain/provision"
	domainInspect   route[ident.DirectoryID, driver.DomainInfo] = "domain/inspect"
	domainRemove    route[ident.DirectoryID, none]              = "domain/remove"
	domainList      route[none, []driver.DomainInfo]            = "domain/list"
	domainAuthority route[none, []byte]                         = "domain/authority"

	userLookup         route[lookupArgs, directory.User]     = "users/lookup"
	userCreate         route[createUserArgs, directory.User] = "users/create"
	userPassword       route[passwordArgs, none]             = "users/password"
	userChangePassword route[changeArgs, none]               = "users/change-password"
	userDisable        route[lookupArgs, none]               = "users/disable"
	userDelete         route[lookupArgs, none]               = "users/delete"
	userList           route[listUsersArgs, listUsersResult] = "users/list"
)

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
