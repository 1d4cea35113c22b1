package driver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"

	"carrel/internal/ident"
)

// What the drivers of one host hand each other: open files and descriptors, never paths, so that what is used cannot be
// replaced by something else of the same name. None of it leaves the host. The interfaces here are optional abilities of the drivers
// named in their comments; a driver on another host (hostapi) and the simulated ones need not have them.

// OpenVolume is a volume as its host opens it for a machine.
type OpenVolume struct {
	ID VolumeID
	// Role, GiB and ImageID as in the VolumeSpec.
	Role    VolumeRole
	GiB     int
	ImageID ident.ImageID
	// File is the volume itself: qcow2 with a LUKS layer, open for reading and writing. How it is opened is fixed: format is never probed.
	File *os.File
	// Backing are the qcow2 files under it, nearest first, open for reading only. Empty for a user volume.
	Backing []*os.File
	// Layer names what lies between a root volume and its image: the disk of a memory template, of which Backing does not have the file. Empty: nothing.
	Layer string
	// Fresh: nothing was ever written to it. BeginVolume ends that.
	Fresh bool
	// Passphrase opens the LUKS layer: printable ASCII. Close zeroes it.
	Passphrase []byte
}

// Close closes the files and zeroes the passphrase.
func (v *OpenVolume) Close() error {
	clear(v.Passphrase)
	err := v.File.Close()
	for _, f := range v.Backing {
		err = errors.Join(err, f.Close())
	}
	return err
}

// VolumeOpener is an ability of Volumes.
type VolumeOpener interface {
	// OpenVolume opens a volume for the machine that is about to use it; the caller closes it. While a machine holds it open for
	// writing a second OpenVolume gives ErrBusy. ErrNotFound. ErrOrder: it is erased.
	OpenVolume(ctx context.Context, id VolumeID) (*OpenVolume, error)
}

// VolumeLayers is an ability of Volumes: a desktop that starts from a memory template needs a disk with what the template's disk had then, because
// the memory is full of it. So the template's disk becomes a layer between the volume and its image, for good.
type VolumeLayers interface {
	// BeginVolume notes durably that a fresh volume is about to be written to, and the layer that it lies on; empty: none. It must come before its
	// machine's first instruction. Noted already, with the same layer: success. ErrNotFound. ErrOrder: it is not fresh.
	BeginVolume(ctx context.Context, id VolumeID, layer string) error
	// Layers are the layers that volumes lie on, without repetition. A layer that is not among them is needed by nobody.
	Layers(ctx context.Context) ([]string, error)
}

// Firmware is how an image's system is started.
type Firmware string

// The ways to start a guest.
const (
	// FirmwareDirect: the image has its kernel and first file system beside it; nothing in the guest chooses what is loaded.
	FirmwareDirect Firmware = "direct"
	// FirmwareBIOS and FirmwareUEFI: the disk brings its own loader.
	FirmwareBIOS Firmware = "bios"
	FirmwareUEFI Firmware = "uefi"
)

// OpenImage is an image as its host opens it: content that was checked against its signed manifest.
type OpenImage struct {
	ID ident.ImageID
	// Digest names the content: SHA-256 of the manifest, lower-case hexadecimal.
	Digest string
	// Disk is the qcow2 file under root volumes, open for reading only; VirtualBytes its size as a guest sees it.
	Disk         *os.File
	VirtualBytes int64
	Firmware     Firmware
	// Kernel, Initrd and CommandLine are set with FirmwareDirect only.
	Kernel, Initrd *os.File
	CommandLine    string
	// Agent: the guest runs qemu-guest-agent and has the commands of driver/guest.
	Agent bool
	// MinMemoryMiB is the least memory it works with.
	MinMemoryMiB int
}

// Close closes the files.
func (i *OpenImage) Close() error {
	err := i.Disk.Close()
	for _, f := range []*os.File{i.Kernel, i.Initrd} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// ImageOpener gives the images of a host.
type ImageOpener interface {
	// OpenImage opens an image; the caller closes it. ErrNotFound. PermanentError "ImageUnusable": it is not what its manifest says.
	OpenImage(ctx context.Context, id ident.ImageID) (*OpenImage, error)
}

// Tap is the host's end of a desktop's network card.
type Tap struct {
	// File is one queue of the tap device, with IFF_VNET_HDR.
	File *os.File
	NIC  NIC
	MTU  int
}

// TapOpener is an ability of Fabric.
type TapOpener interface {
	// OpenTap opens the tap of an attached interface for the machine that is about to use it; the caller closes it. The filters are in
	// force already. ErrNotFound. ErrBusy: somebody has it open.
	OpenTap(ctx context.Context, id ident.InterfaceID) (*Tap, error)
}

// Network is the VPC that an address is in: what a host has to know to make it.
type Network struct {
	VPC  ident.VPCID
	CIDR netip.Prefix
}

// Networks is an ability of Fabric: sockets and processes inside VPCs.
type Networks interface {
	// Namespace opens the VPC's network namespace (for setns), made when there is none; the caller closes the file.
	Namespace(ctx context.Context, n Network) (*os.File, error)
	// Hold puts an address of the host's own into the VPC (a domain controller's, an endpoint's), with the VPC made when there is
	// none. Held already: success. PermanentError: a desktop has it.
	Hold(ctx context.Context, n Network, address netip.Addr) error
	// Drop takes a held address back. Not held: success.
	Drop(ctx context.Context, vpc ident.VPCID, address netip.Addr) error
	// Dial connects to an IP address and port inside the VPC ("tcp", "10.0.0.10:636"). ErrNotFound: the host has no such VPC.
	Dial(ctx context.Context, vpc ident.VPCID, network, address string) (net.Conn, error)
}

// VPCs is an ability of Fabric: which networks a host has.
type VPCs interface {
	// ListNetworks gives the VPCs that the host has a network of, in order of id.
	ListNetworks(ctx context.Context) ([]ident.VPCID, error)
	// RemoveNetwork ends a VPC on the host: its namespace, its services, its way out. Gone already: success. ErrOrder: something is in it.
	RemoveNetwork(ctx context.Context, vpc ident.VPCID) error
}

// Screens is an ability of Display: the screen itself.
type Screens interface {
	// Connect opens a new viewer's connection to the machine's screen: the machine is an RFB server (RFC 6143) without authentication on
	// it, and what it sends is the guest's word. The caller closes it. ErrNotFound: no machine. ErrOrder: it does not run.
	Connect(ctx context.Context, id ident.WorkspaceID) (net.Conn, error)
}

// Sessions is an ability of Display: the person's session in the guest, for what is neither picture nor key.
type Sessions interface {
	// Session opens a connection on which whatever speaks for the session in the guest says and hears lines (package deskline); what it says is the
	// guest's word, and nobody may be there at all. The caller closes it. ErrNotFound: no machine. ErrOrder: it does not run. ErrUnavailable: this
	// machine has no way to a session.
	Session(ctx context.Context, id ident.WorkspaceID) (net.Conn, error)
}
