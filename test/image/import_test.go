package image_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"carrel/internal/driver"
	"carrel/internal/driver/image"
)

// qemuImg runs qemu-img on files of our own making.
func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v: %s", args, err, out)
	}
}

// rawDisk is 24 MiB with random bytes at both ends.
func rawDisk(t *testing.T, dir string) string {
	t.Helper()
	data := make([]byte, 24<<20)
	_, _ = rand.Read(data[:1<<20])
	_, _ = rand.Read(data[23<<20:])
	path := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDisksOfEveryFormatAreImportedWithTheirContent(t *testing.T) {
	need(t, map[string]string{"qemu-img": "qemu-utils"})
	dir := t.TempDir()
	raw := rawDisk(t, dir)
	want, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	s, err := image.Open(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		format image.Format
		make   []string
	}{
		"raw":              {image.Raw, nil},
		"qcow2":            {image.QCOW2, []string{"-O", "qcow2"}},
		"compressed qcow2": {image.QCOW2, []string{"-O", "qcow2", "-c"}},
		"zstd qcow2":       {image.QCOW2, []string{"-O", "qcow2", "-c", "-o", "compression_type=zstd"}},
		"old qcow2":        {image.QCOW2, []string{"-O", "qcow2", "-o", "compat=0.10"}},
		"small qcow2":      {image.QCOW2, []string{"-O", "qcow2", "-o", "cluster_size=512"}},
		"VMDK":             {image.VMDK, []string{"-O", "vmdk"}},
		"stream VMDK":      {image.VMDK, []string{"-O", "vmdk", "-o", "subformat=streamOptimized"}},
		"VHDX":             {image.VHDX, []string{"-O", "vhdx"}},
		"fixed VHDX":       {image.VHDX, []string{"-O", "vhdx", "-o", "subformat=fixed"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := raw
			if c.make != nil {
				file = filepath.Join(t.TempDir(), "disk")
				qemuImg(t, append(append([]string{"convert", "-f", "raw"}, c.make...), raw, file)...)
			}
			const id = "wsi-import001"
			m, err := s.Import(t.Context(), image.ImportOptions{ID: id, Path: file, Format: c.format, Firmware: driver.FirmwareUEFI, Converter: image.Jailed{}})
			if err != nil {
				t.Fatal(err)
			}
			img, err := s.OpenImage(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			if img.Firmware != driver.FirmwareUEFI || img.Kernel != nil || img.Agent || m.VirtualBytes != int64(len(want)) {
				t.Errorf("%+v", m)
			}
			back := filepath.Join(t.TempDir(), "back")
			qemuImg(t, "convert", "-f", "qcow2", "-O", "raw", img.Disk.Name(), back)
			if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes that are not the disk's, %v", len(got), err)
			}
		})
	}
}

func TestVMM3RealFilesThatNameOthersAreRefusedAndLeaveNothing(t *testing.T) {
	need(t, map[string]string{"qemu-img": "qemu-utils"})
	dir := t.TempDir()
	raw := rawDisk(t, dir)
	s, err := image.Open(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		format image.Format
		args   []string
	}{
		"qcow2 on a backing file": {image.QCOW2, []string{"create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", "FILE"}},
		"qcow2 with a data file":  {image.QCOW2, []string{"create", "-q", "-f", "qcow2", "-o", "data_file=" + filepath.Join(dir, "data"), "FILE", "8M"}},
		"encrypted qcow2":         {image.QCOW2, []string{"create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=x", "-o", "encrypt.format=aes,encrypt.key-secret=s", "FILE", "8M"}},
		"huge qcow2":              {image.QCOW2, []string{"create", "-q", "-f", "qcow2", "FILE", "64T"}},
		"VMDK in pieces":          {image.VMDK, []string{"create", "-q", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "FILE", "8M"}},
		"flat VMDK":               {image.VMDK, []string{"create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", "FILE", "8M"}},
		"VHDX called qcow2":       {image.QCOW2, []string{"create", "-q", "-f", "vhdx", "FILE", "8M"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "disk")
			for i, a := range c.args {
				if a == "FILE" {
					c.args[i] = file
				}
			}
			qemuImg(t, c.args...)
			_, err := s.Import(t.Context(), image.ImportOptions{ID: "wsi-hostile01", Path: file, Format: c.format, Firmware: driver.FirmwareBIOS, Converter: image.Jailed{}})
			if !errors.Is(err, image.ErrRefused) {
				t.Errorf("error %v, want a refusal", err)
			}
		})
	}
	left, err := os.ReadDir(filepath.Join(dir, "store"))
	if err != nil || len(left) != 2 { // the key and its public half
		t.Errorf("left behind: %v, %v", left, err)
	}
}
