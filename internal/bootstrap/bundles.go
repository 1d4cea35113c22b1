package bootstrap

import (
	"carrel/internal/ident"
	"carrel/internal/state"
)

// The image and bundles that Carrel comes with. Their ids are the same in every installation, as those of AWS's public bundles are
// in every account, so that scripts can name them.
const (
	ImageDebian       ident.ImageID  = "wsi-debian012"
	BundleValue       ident.BundleID = "wsb-value0012"
	BundleStandard    ident.BundleID = "wsb-standard2"
	BundlePerformance ident.BundleID = "wsb-perform12"
	BundlePower       ident.BundleID = "wsb-power0012"
	BundlePowerPro    ident.BundleID = "wsb-powerpro2"
)

// publicOwner owns what Carrel comes with (WorkSpaces API reference, DescribeWorkspaceBundles).
const publicOwner = "AMAZON"

// bundlePlan has the sizes of AWS's public bundles ("Amazon WorkSpaces bundles"): root and user volume in GiB.
var bundlePlan = [...]struct {
	id         ident.BundleID
	compute    string
	word       string
	root, user int
}{
	{BundleValue, "VALUE", "Value", 80, 10},
	{BundleStandard, "STANDARD", "Standard", 80, 50},
	{BundlePerformance, "PERFORMANCE", "Performance", 80, 100},
	{BundlePower, "POWER", "Power", 175, 100},
	{BundlePowerPro, "POWERPRO", "PowerPro", 175, 100},
}

// bundles collects the image and the bundles in tx.
func bundles(tx *state.Tx) {
	meta := state.Meta{Created: tx.Now()}
	state.Put(tx, state.Images, &state.Image{
		Meta: meta, ID: ImageDebian, Owner: publicOwner, Name: "Debian-12-Carrel", Description: "Debian 12 desktop (Carrel)",
		Platform: "LINUX", State: "AVAILABLE", RequiredTenancy: "DEFAULT",
	})
	for _, b := range bundlePlan {
		state.Put(tx, state.Bundles, &state.Bundle{
			Meta: meta, ID: b.id, Owner: publicOwner, Name: b.word + " with Debian 12 (Carrel)",
			Description: b.word + " desktop with Debian 12", ImageID: ImageDebian, Compute: b.compute, RootGiB: b.root, UserGiB: b.user,
			State: "AVAILABLE", Updated: tx.Now(),
			// The model's OperatingSystemName has no Debian.
			OperatingSystem: "UNKNOWN", Protocols: []string{"WSP"},
		})
	}
}
