// Package disks tests desktops' disks with the real qemu-img: what is on the raw file, before and after an erase.
package disks

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/driver/volume"
	"carrel/internal/ident"
)

const desktop = ident.WorkspaceID("ws-000000001")

type noImages struct{}

func (noImages) OpenImage(context.Context, ident.ImageID) (*driver.OpenImage, error) {
	return nil, driver.ErrNotFound
}

func volumes(t *testing.T) *volume.Volumes {
	t.Helper()
	for _, program := range []string{"qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: install qemu-utils", program)
		}
	}
	dir := t.TempDir()
	keys, err := volume.OpenMaster(filepath.Join(dir, "master"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v, err := volume.Open(volume.Config{Dir: filepath.Join(dir, "volumes"), Images: noImages{}, Keys: keys, Tool: volume.QemuImg{}, Clock: clock.System{}, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// qemuIO runs one command on an open volume as a machine would open it.
func qemuIO(t *testing.T, disk *os.File, key []byte, command string) (string, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = w.Write(key)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "qemu-io", "--object", "secret,id=key,file=/proc/self/fd/4", "--image-opts", "-c", command,
		"driver=qcow2,file.driver=file,file.filename=/proc/self/fd/3,file.locking=off,encrypt.format=luks,encrypt.key-secret=key")
	cmd.ExtraFiles = []*os.File{disk, r}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// DSK-1: what a guest writes is not on the raw disk, and after the erase the key that opened it opens nothing.
func TestDSK1AnErasedDiskOpensToNobodyAndItsContentsWereNeverThere(t *testing.T) {
	v := volumes(t)
	id := driver.VolumeOf(desktop, driver.UserVolume)
	if _, err := v.Create(t.Context(), driver.VolumeSpec{ID: id, WorkspaceID: desktop, Role: driver.UserVolume, GiB: 1}); err != nil {
		t.Fatal(err)
	}
	o, err := v.OpenVolume(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.Clone(o.Passphrase)
	// 0x5a four million times is what the guest "knows".
	if out, err := qemuIO(t, o.File, key, "write -P 0x5a 0 4M"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := qemuIO(t, o.File, key, "read -P 0x5a 0 4M"); err != nil || bytes.Contains([]byte(out), []byte("Pattern verification failed")) {
		t.Fatalf("it cannot be read back: %v: %s", err, out)
	}
	raw := filepath.Join(t.TempDir(), "raw")
	copyFile(t, o.File, raw)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(raw); err != nil || bytes.Contains(b, bytes.Repeat([]byte{0x5a}, 64)) || bytes.Contains(b, key) {
		t.Errorf("the raw disk shows what the guest wrote, or the key (%v)", err)
	}
	before, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if out, err := qemuIO(t, before, key, "read 0 512"); err != nil {
		t.Fatalf("the copy before the erase does not open, so this test could not fail: %v: %s", err, out)
	}
	e, err := v.Erase(t.Context(), id)
	if err != nil || !e.Verified {
		t.Fatalf("%+v, %v", e, err)
	}
	after, err := os.Open(diskOf(t, v, id))
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if out, err := qemuIO(t, after, key, "read 0 512"); err == nil {
		t.Errorf("the erased disk opens: %s", out)
	}
	if err := v.Release(t.Context(), id); err != nil {
		t.Error(err)
	}
	if l, err := v.List(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("%v, %v", l, err)
	}
}

// The LUKS header is Carrel's own writing; QEMU's reading of it is what counts.
func TestQEMUReadsTheDisksThatAreWrittenHere(t *testing.T) {
	v := volumes(t)
	id := driver.VolumeOf(desktop, driver.UserVolume)
	for _, gib := range []int{1, 100, 2000} {
		if _, err := v.Create(t.Context(), driver.VolumeSpec{ID: id, WorkspaceID: desktop, Role: driver.UserVolume, GiB: gib}); err != nil {
			t.Fatal(err)
		}
		disk := diskOf(t, v, id)
		out, err := exec.CommandContext(t.Context(), "qemu-img", "info", "-f", "qcow2", disk).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, want := range []string{fmt.Sprintf("virtual size: %d ", gib), "cipher alg: aes-256", "cipher mode: xts", "ivgen alg: plain64", "hash alg: sha256", "payload offset: 2068480", "master key iters: 1000", "active: true", "encrypted: yes"} {
			if !bytes.Contains(out, []byte(want)) && !bytes.Contains(out, []byte(strings.ReplaceAll(want, fmt.Sprintf("%d ", gib), fmt.Sprintf("%.2f ", float64(gib)/1024)))) {
				t.Errorf("%d GiB: it does not say %q: %s", gib, want, out)
			}
		}
		if n := bytes.Count(out, []byte("active: true")); n != 1 {
			t.Errorf("%d slots are in use", n)
		}
		o, err := v.OpenVolume(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		key, size := bytes.Clone(o.Passphrase), int64(gib)<<30
		for _, at := range []int64{0, size / 2, size - 65536} {
			if out, err := qemuIO(t, o.File, key, fmt.Sprintf("write -P 0x5a %d 64k", at)); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if out, err := qemuIO(t, o.File, key, fmt.Sprintf("read -P 0x5a %d 64k", at)); err != nil || strings.Contains(out, "Pattern verification failed") {
				t.Errorf("at %d: %v: %s", at, err, out)
			}
		}
		key[0] ^= 1
		if out, err := qemuIO(t, o.File, key, "read 0 512"); err == nil {
			t.Errorf("another key opens it: %s", out)
		}
		key[0] ^= 1
		// Its tables are sound, which only one with the key can tell.
		if out, err := check(t, disk, key); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		if e, err := v.Erase(t.Context(), id); err != nil || !e.Verified {
			t.Fatalf("%+v, %v", e, err)
		}
		if err := v.Release(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

func check(t *testing.T, disk string, key []byte) ([]byte, error) {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(secret, key, 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), "qemu-img", "check", "--object", "secret,id=key,file="+secret, "--image-opts",
		"driver=qcow2,file.driver=file,file.filename="+disk+",file.locking=off,encrypt.format=luks,encrypt.key-secret=key").CombinedOutput()
}

func TestAMachineThatHoldsTheDiskKeepsItFromBeingErased(t *testing.T) {
	v := volumes(t)
	id := driver.VolumeOf(desktop, driver.UserVolume)
	if _, err := v.Create(t.Context(), driver.VolumeSpec{ID: id, WorkspaceID: desktop, Role: driver.UserVolume, GiB: 1}); err != nil {
		t.Fatal(err)
	}
	o, err := v.OpenVolume(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	// A process that was handed the file, while the one that opened it is gone from it.
	machine := exec.CommandContext(t.Context(), "sleep", "60")
	machine.ExtraFiles = []*os.File{o.File}
	if err := machine.Start(); err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Erase(t.Context(), id); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("erase: %v", err)
	}
	_ = machine.Process.Kill()
	_ = machine.Wait()
	if e, err := v.Erase(t.Context(), id); err != nil || !e.Verified {
		t.Errorf("%+v, %v", e, err)
	}
}

func copyFile(t *testing.T, from *os.File, to string) {
	t.Helper()
	info, err := from.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, io.NewSectionReader(from, 0, info.Size()))
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func diskOf(t *testing.T, v *volume.Volumes, id driver.VolumeID) string {
	t.Helper()
	path := filepath.Join(v.Dir(), fmt.Sprint(id), "disk.qcow2")
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}
