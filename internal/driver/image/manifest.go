package image

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"carrel/internal/driver"
	"carrel/internal/evidence"
)

// The names of the files of an image.
const (
	ManifestName  = "manifest.json"
	SignatureName = "manifest.sig"
	DiskName      = "disk.qcow2"
	KernelName    = "vmlinux"
	InitrdName    = "initrd"
	PackagesName  = "packages.txt"
)

// manifestFormat is the version of the manifest that this release writes and reads.
const manifestFormat = 1

// maxManifest bounds what is read of a manifest before its signature is checked.
const maxManifest = 1 << 20

// domain separates what is signed here from everything else that the same key could ever be asked to sign.
const (
	manifestDomain = "carrel image manifest v1\n"
	sealDomain     = "carrel image seal v1\n"
)

// Manifest says what an image is. Its SHA-256 names the image's content.
type Manifest struct {
	// Format is 1.
	Format int `json:"format"`
	// Name for people ("Debian 12 desktop"); Variant is "desktop", "minimal" or "imported".
	Name    string `json:"name"`
	Variant string `json:"variant"`
	// OperatingSystem is the WorkSpaces OperatingSystemName. The model has none for Debian: "UNKNOWN".
	OperatingSystem string          `json:"operatingSystem"`
	Firmware        driver.Firmware `json:"firmware"`
	// CommandLine is the kernel's; empty unless the firmware is "direct".
	CommandLine string `json:"commandLine,omitempty"`
	// Agent: the guest runs qemu-guest-agent and has the commands of driver/guest.
	Agent bool `json:"agent"`
	// MinMemoryMiB is the least guest memory it works with.
	MinMemoryMiB int `json:"minMemoryMiB"`
	// VirtualBytes is the disk's size as the guest sees it.
	VirtualBytes int64 `json:"virtualBytes"`
	// InputsHash is the SHA-256 of everything the image was made from, lower-case hexadecimal.
	InputsHash string `json:"inputsHash"`
	// Built is SOURCE_DATE_EPOCH, not the time of the build: the same inputs give the same manifest.
	Built time.Time `json:"built"`
	// Files in order of name, the manifest and its signature not among them.
	Files []File `json:"files"`
}

// File is one file of an image.
type File struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	// SHA256 of the contents, lower-case hexadecimal.
	SHA256 string `json:"sha256"`
}

var (
	hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// Only the names of above: a manifest cannot make anybody open something else.
	fileName = regexp.MustCompile(`^(disk\.qcow2|vmlinux|initrd|packages\.txt)$`)
)

// encode gives the bytes that are signed and stored.
func (m *Manifest) encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	out, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the manifest: %w", err)
	}
	return append(out, '\n'), nil
}

// parseManifest reads a manifest strictly.
func parseManifest(data []byte) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("manifest of %d bytes, more than %d", len(data), maxManifest)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	m := new(Manifest)
	if err := dec.Decode(m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("manifest: something follows it")
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return m, nil
}

// check names the first thing that is wrong with the manifest.
func (m *Manifest) check() error {
	switch {
	case m.Format != manifestFormat:
		return fmt.Errorf("manifest: format %d, this release knows %d", m.Format, manifestFormat)
	case m.Firmware != driver.FirmwareDirect && m.Firmware != driver.FirmwareBIOS && m.Firmware != driver.FirmwareUEFI:
		return fmt.Errorf("manifest: unknown firmware %q", m.Firmware)
	case m.Firmware != driver.FirmwareDirect && m.CommandLine != "":
		return errors.New("manifest: a command line, but its firmware starts no kernel with one")
	case strings.ContainsFunc(m.CommandLine, func(r rune) bool { return r < ' ' || r > '~' }):
		return errors.New("manifest: the command line is not printable ASCII")
	case m.VirtualBytes <= 0 || m.MinMemoryMiB <= 0:
		return errors.New("manifest: no size of disk or memory")
	case !hexDigest.MatchString(m.InputsHash):
		return errors.New("manifest: inputs hash is not a SHA-256")
	}
	seen := map[string]bool{}
	last := ""
	for _, f := range m.Files {
		if !fileName.MatchString(f.Name) || f.Name <= last || f.Bytes < 0 || !hexDigest.MatchString(f.SHA256) {
			return fmt.Errorf("manifest: entry of file %q is malformed", f.Name)
		}
		last = f.Name
		seen[f.Name] = true
	}
	if !seen[DiskName] || m.Firmware == driver.FirmwareDirect && (!seen[KernelName] || !seen[InitrdName]) {
		return errors.New("manifest: a file that its firmware needs is missing")
	}
	return nil
}

// contentDigest names the image: SHA-256 of the stored manifest.
func contentDigest(manifest []byte) string {
	sum := sha256.Sum256(manifest)
	return hex.EncodeToString(sum[:])
}

// sign makes the detached signature of a manifest.
func sign(key evidence.Signer, manifest []byte) ([]byte, error) {
	sig, err := key.Sign(append([]byte(manifestDomain), manifest...))
	if err != nil {
		return nil, fmt.Errorf("sign the manifest: %w", err)
	}
	return []byte(hex.EncodeToString(sig) + "\n"), nil
}

// readManifest reads the manifest of dir and checks its signature before anything of it is believed.
func readManifest(dir string, pub ed25519.PublicKey) (*Manifest, []byte, error) {
	data, err := readSmall(filepath.Join(dir, ManifestName), maxManifest)
	if err != nil {
		return nil, nil, err
	}
	text, err := readSmall(filepath.Join(dir, SignatureName), 1024)
	if err != nil {
		return nil, nil, err
	}
	sig, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || !ed25519.Verify(pub, append([]byte(manifestDomain), data...), sig) {
		return nil, nil, fmt.Errorf("%s: the signature is not this installation's", ManifestName)
	}
	m, err := parseManifest(data)
	if err != nil {
		return nil, nil, err
	}
	return m, data, nil
}

// readSmall reads a regular file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", filepath.Base(path), limit)
	}
	return data, nil
}
