package ident

import (
	"fmt"
	"io"
)

// WorkspaceID names a WorkSpace: "ws-f9abcdefg".
type WorkspaceID string

// ParseWorkspaceID checks s.
func ParseWorkspaceID(s string) (WorkspaceID, error) {
	if !check(s, "ws-", base36, size{8, 63}) {
		return "", fmt.Errorf("%q is not the id of a WorkSpace (like ws-f9abcdefg)", s)
	}
	return WorkspaceID(s), nil
}

// NewWorkspaceID makes a random one from r.
func NewWorkspaceID(r io.Reader) WorkspaceID { return WorkspaceID("ws-" + draw(r, base36, 9)) }

// BundleID names a WorkSpace bundle: "wsb-bh8rsxt14".
type BundleID string

// ParseBundleID checks s.
func ParseBundleID(s string) (BundleID, error) {
	if !check(s, "wsb-", base36, size{8, 63}) {
		return "", fmt.Errorf("%q is not the id of a WorkSpace bundle (like wsb-bh8rsxt14)", s)
	}
	return BundleID(s), nil
}

// NewBundleID makes a random one from r.
func NewBundleID(r io.Reader) BundleID { return BundleID("wsb-" + draw(r, base36, 9)) }

// ImageID names a WorkSpace image: "wsi-0a1b2c3d4".
type ImageID string

// ParseImageID checks s.
func ParseImageID(s string) (ImageID, error) {
	if !check(s, "wsi-", base36, size{8, 63}) {
		return "", fmt.Errorf("%q is not the id of a WorkSpace image (like wsi-0a1b2c3d4)", s)
	}
	return ImageID(s), nil
}

// NewImageID makes a random one from r.
func NewImageID(r io.Reader) ImageID { return ImageID("wsi-" + draw(r, base36, 9)) }

// IPGroupID names an IP access control group: "wsipg-1a2b3c4d5".
type IPGroupID string

// ParseIPGroupID checks s.
func ParseIPGroupID(s string) (IPGroupID, error) {
	if !check(s, "wsipg-", base36, size{8, 63}) {
		return "", fmt.Errorf("%q is not the id of an IP access control group (like wsipg-1a2b3c4d5)", s)
	}
	return IPGroupID(s), nil
}

// NewIPGroupID makes a random one from r.
func NewIPGroupID(r io.Reader) IPGroupID { return IPGroupID("wsipg-" + draw(r, base36, 9)) }

// DirectoryID names a directory: "d-90670a1b2c".
type DirectoryID string

// ParseDirectoryID checks s.
func ParseDirectoryID(s string) (DirectoryID, error) {
	if !check(s, "d-", hex16, size{8, 63}) {
		return "", fmt.Errorf("%q is not the id of a directory (like d-90670a1b2c)", s)
	}
	return DirectoryID(s), nil
}

// NewDirectoryID makes a random one from r.
func NewDirectoryID(r io.Reader) DirectoryID { return DirectoryID("d-" + draw(r, hex16, 10)) }

// CertificateID names a scrub certificate: "sc-0123456789abcdef0".
type CertificateID string

// ParseCertificateID checks s.
func ParseCertificateID(s string) (CertificateID, error) {
	if !check(s, "sc-", hex16, size{17, 17}) {
		return "", fmt.Errorf("%q is not the id of a scrub certificate (like sc-0123456789abcdef0)", s)
	}
	return CertificateID(s), nil
}

// NewCertificateID makes a random one from r.
func NewCertificateID(r io.Reader) CertificateID { return CertificateID("sc-" + draw(r, hex16, 17)) }
