// Package image makes, keeps and hands out the images that desktops start from: a Debian built without mounts or emulation, other
// people's disks converted in a jail, and a store of signed content that is read in full before it is believed.
//
// It refuses to guess a disk's format, to hand an importing tool a path or a file that names other files, to let a half-built image be
// seen, and to open content that differs from its manifest.
package image

import (
	"fmt"
	"time"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// Variant is a kind of image that Build makes.
type Variant string

// The variants.
const (
	// Desktop is Xfce under systemd: what people get.
	Desktop Variant = "desktop"
	// Minimal is a window manager and a terminal under an init of a few lines: quick to build and to start under emulation.
	Minimal Variant = "minimal"
)

// DefaultID is the image id that a variant is stored as. Desktop's is that of the bundles Carrel comes with.
func (v Variant) DefaultID() ident.ImageID {
	if v == Minimal {
		return "wsi-minimal12"
	}
	return "wsi-debian012"
}

// suite is the Debian release of the images.
const suite = "bookworm"

// recipeEpoch is the date of every file and of the image unless SOURCE_DATE_EPOCH says otherwise: the same inputs give the same bytes.
var recipeEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// recipe is what a variant is made of.
type recipe struct {
	name     string
	packages []string
	// exclude are paths that dpkg leaves out.
	exclude []string
	// locales are made at build; others are made when a person needs them.
	locales string
	// commandLine is the kernel's.
	commandLine  string
	virtualBytes int64
	minMemoryMiB int
}

// common to both variants: what the guest's own files call, and the X server.
var commonPackages = []string{
	"base-files", "busybox-static", "e2fsprogs", "iproute2", "jq", "kmod", "linux-image-amd64", "locales", "procps", "qemu-guest-agent", "sudo",
	// Satisfies the kernel's wish for an initrd at almost no cost; ours is made by Build.
	"tiny-initramfs",
	"tzdata", "udev", "ca-certificates", "x11-xkb-utils", "x11-xserver-utils", "xkb-data", "xserver-xorg-core", "xserver-xorg-input-libinput",
}

var commonExclude = []string{
	"/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/lintian/*", "/usr/share/linda/*",
	// The compiler that xrdb's preprocessor brings.
	"/usr/lib/gcc/*",
}

// commonCommandLine: the initrd finds the disk itself; cards are called eth0 whatever slot they are plugged into.
const commonCommandLine = "console=ttyS0 quiet loglevel=3 net.ifnames=0 random.trust_cpu=on"

var recipes = map[Variant]recipe{
	Minimal: {
		name: "Debian 12 minimal",
		packages: append([]string{
			"fonts-dejavu-core", "icewm", "xterm", "adwaita-icon-theme", "librsvg2-common",
		}, commonPackages...),
		exclude: append([]string{
			"/usr/share/locale/*",
			// X draws without a 3D library; this is most of what would otherwise be read at its start.
			"/usr/lib/x86_64-linux-gnu/dri/*", "/usr/lib/x86_64-linux-gnu/libLLVM*", "/usr/lib/x86_64-linux-gnu/libz3*",
			"/usr/share/icons/Adwaita/cursors/*_*", "/usr/share/icons/Adwaita/512x512/*", "/usr/share/icons/Adwaita/256x256/*",
		}, commonExclude...),
		locales:      "en_US.UTF-8",
		commandLine:  commonCommandLine + " init=/usr/lib/carrel/init",
		virtualBytes: 4 << 30,
		minMemoryMiB: 384,
	},
	Desktop: {
		name: "Debian 12 desktop",
		packages: append([]string{
			"systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd", "polkitd", "spice-vdagent", "x11-utils",
			"xfce4-session", "xfce4-panel", "xfwm4", "xfdesktop4", "xfce4-settings", "xfconf", "xfce4-appfinder", "xfce4-notifyd",
			"xfce4-whiskermenu-plugin", "xfce4-screenshooter", "xfce4-taskmanager", "xfce4-terminal",
			"thunar", "thunar-archive-plugin", "thunar-volman", "gvfs", "engrampa", "mousepad", "ristretto", "tumbler", "galculator",
			"firefox-esr", "xdg-user-dirs", "xdg-utils", "shared-mime-info", "desktop-file-utils",
			"fonts-inter", "fonts-noto-core", "fonts-noto-mono", "fonts-noto-color-emoji", "fonts-liberation2",
			"papirus-icon-theme", "adwaita-icon-theme", "arc-theme", "gtk-update-icon-cache", "librsvg2-common", "unzip", "zip", "nano", "less",
		}, commonPackages...),
		exclude: append([]string{
			// Sizes that nothing shows; Papirus alone would be 116,000 files.
			"/usr/share/icons/Papirus/*@2x/*", "/usr/share/icons/Papirus/8x8/*", "/usr/share/icons/Papirus/18x18/*", "/usr/share/icons/Papirus/42x42/*",
			"/usr/share/icons/Papirus/84x84/*", "/usr/share/icons/Papirus/96x96/*", "/usr/share/icons/Papirus/128x128/*",
			"/usr/share/icons/Papirus-Light/*", "/usr/share/icons/ePapirus/*", "/usr/share/icons/ePapirus-Dark/*",
			"/usr/share/icons/Papirus-Dark/*@2x/*", "/usr/share/icons/Papirus-Dark/8x8/*", "/usr/share/icons/Papirus-Dark/18x18/*",
			"/usr/share/icons/Papirus-Dark/42x42/*", "/usr/share/icons/Papirus-Dark/84x84/*",
			"/usr/share/icons/Papirus-Dark/96x96/*", "/usr/share/icons/Papirus-Dark/128x128/*",
		}, commonExclude...),
		locales:      "en_US.UTF-8 en_GB.UTF-8 de_DE.UTF-8 es_ES.UTF-8 fr_FR.UTF-8 it_IT.UTF-8 nl_NL.UTF-8 pl_PL.UTF-8 pt_BR.UTF-8",
		commandLine:  commonCommandLine + " systemd.show_status=0",
		virtualBytes: 8 << 30,
		minMemoryMiB: 1024,
	},
}

// recipeOf gives a variant's recipe.
func recipeOf(v Variant) (recipe, error) {
	r, ok := recipes[v]
	if !ok {
		return recipe{}, fmt.Errorf("no image variant %q: there are %s and %s", v, Desktop, Minimal)
	}
	return r, nil
}

// manifest of an image made by this recipe; its files are still missing.
func (r recipe) manifest(v Variant, inputs string, built time.Time) *Manifest {
	return &Manifest{
		Format: manifestFormat, Name: r.name, Variant: string(v), OperatingSystem: "UNKNOWN", Firmware: driver.FirmwareDirect,
		CommandLine: r.commandLine, Agent: true, MinMemoryMiB: r.minMemoryMiB, VirtualBytes: r.virtualBytes, InputsHash: inputs, Built: built.UTC(),
	}
}
