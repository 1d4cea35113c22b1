package driver

import (
	"context"
	"time"

	"carrel/internal/ident"
)

// VolumeID names a volume: "ws-f9abcdefg/root".
type VolumeID string

// VolumeRole is what a volume is for.
type VolumeRole string

// The roles of a volume.
const (
	RootVolume VolumeRole = "root"
	UserVolume VolumeRole = "user"
)

// VolumeOf is the id of a desktop's volume.
func VolumeOf(id ident.WorkspaceID, role VolumeRole) VolumeID {
	return VolumeID(string(id) + "/" + string(role))
}

// VolumeSpec is what a volume is made of. Every volume is encrypted with a fresh key of its own, whatever the record says:
// destroying that key is how it is erased.
type VolumeSpec struct {
	ID          VolumeID
	WorkspaceID ident.WorkspaceID
	Role        VolumeRole
	GiB         int
	// ImageID is the image under a root volume; empty for user volumes.
	ImageID ident.ImageID
	// Encrypted: the customer asked for encryption with WrappingKey, which then also wraps the volume's own key.
	Encrypted   bool
	WrappingKey string
}

// Volume is what exists of a volume.
type Volume struct {
	ID          VolumeID
	WorkspaceID ident.WorkspaceID
	Role        VolumeRole
	GiB         int
	// KeyID names the volume's own key, never the key itself.
	KeyID string
	// Erased: the key is destroyed; only the report is left, until Release.
	Erased bool
}

// Erasure says that a volume's key is gone.
type Erasure struct {
	VolumeID VolumeID
	KeyID    string
	// Method names the way ("luks-keyslot", "simulated").
	Method string
	// Verified: the volume was opened with the old key afterwards, and refused it.
	Verified bool
	At       time.Time
}

// Volumes keeps desktops' disks. Methods may be called concurrently; two calls on one id at once give ErrBusy to the
// second. Every method may give ErrUnavailable.
type Volumes interface {
	// Create makes the volume. There already: success, its contents untouched.
	// ErrOrder: it is erased. PermanentError: the image is unusable or the size is.
	Create(ctx context.Context, spec VolumeSpec) (Volume, error)
	// Erase destroys the volume's key and proves it. Erased already: the same report again, until Release. ErrNotFound.
	// ErrOrder: a running machine uses it.
	Erase(ctx context.Context, id VolumeID) (Erasure, error)
	// Release forgets an erased volume and frees its space. Gone already: success. ErrOrder: it is not erased.
	Release(ctx context.Context, id VolumeID) error
	// List gives all volumes, erased ones included, in order of id.
	List(ctx context.Context) ([]Volume, error)
}
