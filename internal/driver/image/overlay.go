package image

import (
	"archive/tar"
	"bytes"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"
)

// rootfs holds the guest's own files: common to both variants, and of each.
//
//go:embed all:rootfs
var rootfs embed.FS

// aptSources is what the image itself updates from, whatever mirror it was built from.
const aptSources = `deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
`

// overlayFile is one of the guest's own files.
type overlayFile struct {
	name string // without a leading slash
	data []byte
	link string // target of a symbolic link
	mode int64
}

// overlay gives the guest's own files of a variant in order of name. A file of the variant replaces a common one.
func overlay(v Variant) ([]overlayFile, error) {
	files := map[string]overlayFile{}
	for _, top := range []string{"rootfs/common", "rootfs/" + string(v)} {
		err := fs.WalkDir(rootfs, top, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := rootfs.ReadFile(p)
			if err != nil {
				return err
			}
			f := overlayFile{name: strings.TrimPrefix(p, top+"/"), data: data, mode: 0o644}
			if bytes.HasPrefix(data, []byte("#!")) {
				f.mode = 0o755 // embedding keeps no modes
			}
			files[f.name] = f
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("the guest's files: %w", err)
		}
	}
	files["etc/hostname"] = overlayFile{name: "etc/hostname", data: []byte("desktop\n"), mode: 0o644}
	files["etc/hosts"] = overlayFile{name: "etc/hosts", data: []byte("127.0.0.1 localhost\n127.0.1.1 desktop\n::1 localhost ip6-localhost\n"), mode: 0o644}
	files["etc/apt/sources.list"] = overlayFile{name: "etc/apt/sources.list", data: []byte(aptSources), mode: 0o644}
	if v == Minimal {
		// busybox is what it is called as.
		files["usr/lib/carrel/init"] = overlayFile{name: "usr/lib/carrel/init", link: "/bin/busybox"}
		for _, n := range []string{"reboot", "poweroff", "halt"} {
			files["usr/sbin/"+n] = overlayFile{name: "usr/sbin/" + n, link: "/bin/busybox"}
		}
	}
	out := make([]overlayFile, 0, len(files))
	for _, f := range files {
		out = append(out, f)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out, nil
}

// writeOverlay writes files as a tar archive that unpacks the same everywhere: owner root, one date, missing directories named.
func writeOverlay(w io.Writer, files []overlayFile, epoch time.Time) error {
	tw := tar.NewWriter(w)
	dirs := map[string]bool{".": true}
	var mkdir func(string) error
	mkdir = func(d string) error {
		if dirs[d] {
			return nil
		}
		dirs[d] = true
		if err := mkdir(path.Dir(d)); err != nil {
			return err
		}
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o755, ModTime: epoch, Format: tar.FormatPAX})
	}
	for _, f := range files {
		if err := mkdir(path.Dir(f.name)); err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: epoch, Format: tar.FormatPAX}
		if f.link != "" {
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(f.data); err != nil {
			return err
		}
	}
	return tw.Close()
}
