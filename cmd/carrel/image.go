package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/driver/image"
	"carrel/internal/ident"
)

// imageFlags are what all image subcommands take.
type imageFlags struct {
	*global
	out string
}

func newImage(g *global) *cobra.Command {
	f := &imageFlags{global: g}
	c := &cobra.Command{
		Use:   "image",
		Short: "Build, list, verify and import the images that desktops start from",
		Long: `An image is a signed directory: a disk, for our own ones a kernel, and the list of the software in it. Images are kept below the state
directory; bundles name them by id.`,
		Example: `  carrel image build
  carrel image list
  carrel image import golden.vmdk --format vmdk --firmware uefi --id wsi-golden0001`,
	}
	c.PersistentFlags().StringVar(&f.out, "out", "", "image store (default: images in the state directory)")
	c.AddCommand(newImageBuild(f), newImageList(f), newImageVerify(f), newImageImport(f))
	return c
}

// store opens the image store.
func (f *imageFlags) store() (*image.Store, error) {
	if f.out == "" {
		f.out = filepath.Join(f.state, "images")
	}
	return image.Open(f.out)
}

// imageID is the id of --id, or the default.
func imageID(flag string, or ident.ImageID) (ident.ImageID, error) {
	if flag == "" {
		return or, nil
	}
	return ident.ParseImageID(flag)
}

// sourceDate is SOURCE_DATE_EPOCH (reproducible-builds.org); zero when it is not set.
func sourceDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q is no number of seconds", text)
	}
	return time.Unix(n, 0).UTC(), nil
}

// isTerminal says whether f can show a line that changes.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil && os.Getenv("TERM") != "dumb"
}

func newImageBuild(f *imageFlags) *cobra.Command {
	var variant, cache, mirror, id string
	c := &cobra.Command{
		Use:   "build",
		Short: "Build a Debian desktop image and put it into the store",
		Long: `Installs Debian 12 from the mirror that this host's apt uses, adds Carrel's own files, and makes a signed image of it: without loop mounts
and without KVM, as root or, where user namespaces and /etc/subuid allow it, as anybody. What was built once is found in the cache as long as
no package and no file of ours has changed; the same inputs give the same bytes.`,
		Example: `  carrel image build
  carrel image build --variant minimal --id wsi-debian012
  carrel image build --mirror http://mirror.example.com/debian`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			kind := image.Variant(variant)
			as, err := imageID(id, kind.DefaultID())
			if err != nil {
				return err
			}
			epoch, err := sourceDate()
			if err != nil {
				return err
			}
			s, err := f.store()
			if err != nil {
				return err
			}
			if cache == "" {
				cache = filepath.Join(filepath.Dir(f.out), "image-cache")
			}
			began := time.Now()
			res, err := image.Build(c.Context(), image.BuildOptions{
				Variant: kind, Cache: cache, Mirror: mirror, Epoch: epoch, Key: s.Signer(),
				Progress: image.NewText(c.ErrOrStderr(), isTerminal(os.Stderr), clock.System{}),
			})
			if err != nil {
				return err
			}
			if err := s.Add(c.Context(), as, res.Dir); err != nil {
				return err
			}
			word := "made"
			if res.Cached {
				word = "unchanged since it was made"
			}
			return f.added(c, s, as, word+", "+time.Since(began).Round(time.Second).String())
		},
	}
	c.Flags().StringVar(&variant, "variant", string(image.Desktop), "desktop (Xfce) or minimal (a window manager and a terminal: quick to start without KVM)")
	c.Flags().StringVar(&cache, "cache", "", "cache of packages and images (default: image-cache beside the store)")
	c.Flags().StringVar(&mirror, "mirror", "", "Debian mirror; its security archive is expected beside it as URL-security (default: what this host's apt uses)")
	c.Flags().StringVar(&id, "id", "", "image id (default: wsi-debian012 for desktop, wsi-minimal12 for minimal)")
	return c
}

// added prints an image that has come into the store; how says how.
func (f *imageFlags) added(c *cobra.Command, s *image.Store, id ident.ImageID, how string) error {
	all, err := s.List()
	if err != nil {
		return err
	}
	for _, info := range all {
		if info.ID != id {
			continue
		}
		return f.print(c.OutOrStdout(), info, func(w io.Writer) {
			fmt.Fprintf(w, "%s  %s: %s (%d MB, content %s)\n", info.ID, info.Manifest.Name, how, info.Bytes/1e6, info.Digest[:12])
		})
	}
	return fmt.Errorf("image %s is not in the store", id)
}

func newImageList(f *imageFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the images of the store",
		Example: "  carrel image list --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := f.store()
			if err != nil {
				return err
			}
			all, err := s.List()
			if err != nil {
				return err
			}
			return f.print(c.OutOrStdout(), all, func(w io.Writer) { printImages(w, all) })
		},
	}
}

func printImages(w io.Writer, all []image.Info) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	fmt.Fprintln(t, "ID\tNAME\tFIRMWARE\tDISK\tON DISK\tCONTENT\tSTATE")
	for _, i := range all {
		state := "signed"
		if i.AliasOf != "" {
			state += ", is " + string(i.AliasOf)
		}
		if i.Problem != "" {
			fmt.Fprintf(t, "%s\t\t\t\t\t\tunusable: %s\n", i.ID, i.Problem)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d GiB\t%d MB\t%s\t%s\n", i.ID, i.Manifest.Name, i.Manifest.Firmware, i.Manifest.VirtualBytes>>30, i.Bytes/1e6, i.Digest[:12], state)
	}
}

func newImageVerify(f *imageFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [ID...]",
		Short: "Read images in full: signature and every digest (all images when none is named)",
		Example: `  carrel image verify
  carrel image verify wsi-debian012`,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := f.store()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				all, err := s.List()
				if err != nil {
					return err
				}
				for _, i := range all {
					if i.AliasOf == "" {
						args = append(args, string(i.ID))
					}
				}
			}
			return f.verify(c.Context(), c.OutOrStdout(), s, args)
		},
	}
}

// verified is the outcome of one image's verification.
type verified struct {
	ID      string `json:"id"`
	Good    bool   `json:"good"`
	Problem string `json:"problem,omitempty"`
}

func (f *imageFlags) verify(ctx context.Context, w io.Writer, s *image.Store, ids []string) error {
	out := []verified{}
	bad := 0
	for _, text := range ids {
		id, err := ident.ParseImageID(text)
		if err == nil {
			_, err = s.Verify(ctx, id)
		}
		v := verified{ID: text, Good: err == nil}
		if err != nil {
			bad++
			v.Problem = err.Error()
		}
		out = append(out, v)
	}
	err := f.print(w, out, func(w io.Writer) {
		for _, v := range out {
			if v.Good {
				fmt.Fprintf(w, "%s  good: signature and every digest\n", v.ID)
			} else {
				fmt.Fprintf(w, "%s  BAD: %s\n", v.ID, v.Problem)
			}
		}
	})
	if err == nil && bad > 0 {
		err = fmt.Errorf("%d of %d images cannot be used", bad, len(out))
	}
	return err
}

func newImageImport(f *imageFlags) *cobra.Command {
	var format, firmware, name, id string
	var memory int
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "Import a disk image (qcow2, raw, vmdk, vhdx) into the store",
		Long: `Takes a disk made elsewhere into the store. Its format is what you say, or what the file's extension says without doubt, never what the
content looks like. Files that name other files (backing files, parents, extents), that are encrypted or not closed, or that do not fit
themselves are refused before any converter sees them; the conversion itself runs in a jail.`,
		Example: `  carrel image import golden.qcow2 --id wsi-golden001
  carrel image import disk.img --format raw --firmware uefi --name "Accounting 2026"`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			kind, err := image.FormatOf(format, args[0])
			if err != nil {
				return err
			}
			as, err := imageID(id, ident.NewImageID(rand.Reader))
			if err != nil {
				return err
			}
			s, err := f.store()
			if err != nil {
				return err
			}
			began := time.Now()
			_, err = s.Import(c.Context(), image.ImportOptions{
				ID: as, Path: args[0], Format: kind, Firmware: driver.Firmware(firmware), Name: name, MinMemoryMiB: memory, Converter: image.Jailed{},
				Progress: image.NewText(c.ErrOrStderr(), isTerminal(os.Stderr), clock.System{}),
			})
			if err != nil {
				return err
			}
			return f.added(c, s, as, "imported, "+time.Since(began).Round(time.Second).String())
		},
	}
	c.Flags().StringVar(&format, "format", "", "qcow2, raw, vmdk or vhdx (default: the file's extension)")
	c.Flags().StringVar(&firmware, "firmware", string(driver.FirmwareBIOS), "how its system starts: bios or uefi")
	c.Flags().StringVar(&name, "name", "", "name for people (default: the file's)")
	c.Flags().StringVar(&id, "id", "", "image id (default: a new one)")
	c.Flags().IntVar(&memory, "min-memory", 0, "least guest memory in MiB (default: 1024)")
	return c
}
