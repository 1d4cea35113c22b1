package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// kvmAPIVersion is the only one there is: Documentation/virt/kvm/api.rst refuses every other.
const kvmAPIVersion = 12

const (
	remedyFlags  = "enable VT-x or AMD-V (SVM) in the firmware; inside a virtual machine, enable nested virtualisation or choose a type that offers it"
	remedyDevice = "load kvm_intel or kvm_amd; as an ordinary user join the group kvm: usermod -aG kvm USER"
	remedyGuest  = "use a host whose KVM runs guests: bare metal, or nested virtualisation with vmx/svm"
	remedyBoot   = "for a complete verdict: apt install qemu-system-x86, and a kernel image readable under /boot (apt install linux-image-generic or linux-image-amd64)"
	remedyTCG    = "desktops run, slower, in software emulation; for KVM see the lines above"
)

// virtualisation finds out whether KVM is usable. Each stage is a line of its own; the verdict is a line too. A device that opens
// proves nothing: on machines that offer KVM without processor support (paravirtual KVM in a cloud guest) small guests may run while
// ordinary kernels hang.
func (e *examiner) virtualisation(ctx context.Context) {
	var failed []string
	stage := func(c Check, err error) bool {
		c.Group = GroupVirtualisation
		e.settle(c, err)
		if err != nil {
			failed = append(failed, c.Name)
		}
		return err == nil
	}
	flag, err := e.cpuFlag()
	flags := stage(Check{Name: "processor support", Detail: flag + " in /proc/cpuinfo", Remedy: remedyFlags}, err)
	version, err := e.Probes.KVMVersion()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = errors.New("no /dev/kvm")
	case err == nil && version != kvmAPIVersion:
		err = fmt.Errorf("/dev/kvm speaks API version %d, not %d", version, kvmAPIVersion)
	}
	device := stage(Check{Name: "/dev/kvm", Detail: "opens, API version 12 (this alone proves nothing)", Remedy: remedyDevice}, err)
	if !device {
		e.notRun("probe guest", "not run: no working /dev/kvm", remedyDevice)
		e.notRun("ordinary kernel", "not booted: no working /dev/kvm", remedyDevice)
		e.verdict(failed, "")
		return
	}
	guest := stage(Check{Name: "probe guest", Detail: "went from real mode to long mode, computed, did port I/O and halted", Remedy: remedyGuest}, e.Probes.Guest(ctx))
	note := ""
	qemu, kernel, why := e.bootable()
	switch {
	case !flags || !guest:
		e.notRun("ordinary kernel", "not booted: an earlier stage has failed already", remedyGuest)
	case why != "":
		note = "; no ordinary kernel was booted"
		e.notRun("ordinary kernel", "not booted: "+why, remedyBoot)
	default:
		stage(Check{Name: "ordinary kernel", Detail: kernel + " booted under QEMU with KVM", Remedy: remedyGuest}, e.Probes.Boot(ctx, qemu, kernel))
	}
	e.verdict(failed, note)
}

// notRun reports a stage that had no chance. It is a warning: it neither passed nor failed.
func (e *examiner) notRun(name, detail, remedy string) {
	e.add(Check{Group: GroupVirtualisation, Name: name, Status: Warning, Detail: detail, Remedy: remedy})
}

func (e *examiner) verdict(failed []string, note string) {
	c := Check{Group: GroupVirtualisation, Name: "verdict", Status: OK, Detail: "KVM usable" + note, Remedy: remedyTCG}
	e.report.KVM = len(failed) == 0
	if !e.report.KVM {
		c.Status = Warning
		c.Detail = "software emulation (TCG) will be used; failed: " + strings.Join(failed, ", ")
	}
	e.add(c)
}

// cpuFlag gives the processor's virtualisation flag, vmx (Intel) or svm (AMD).
func (e *examiner) cpuFlag() (string, error) {
	text, err := fs.ReadFile(e.Files, "proc/cpuinfo")
	if err != nil {
		return "", fmt.Errorf("read /proc/cpuinfo: %w", err)
	}
	hypervisor := false
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) != "flags" {
			continue
		}
		for _, f := range strings.Fields(value) {
			if f == "vmx" || f == "svm" {
				return f, nil
			}
			hypervisor = hypervisor || f == "hypervisor"
		}
	}
	if hypervisor {
		return "", errors.New("neither vmx nor svm in /proc/cpuinfo (this is a virtual machine itself, without nested virtualisation)")
	}
	return "", errors.New("neither vmx nor svm in /proc/cpuinfo")
}

// bootable finds QEMU and the newest kernel image that can be read, or says why there is nothing to boot.
func (e *examiner) bootable() (qemu, kernel, why string) {
	qemu, err := e.Probes.Lookup("qemu-system-x86_64")
	if err != nil {
		return "", "", "qemu-system-x86_64 is not installed"
	}
	images, _ := fs.Glob(e.Files, "boot/vmlinuz-*") // the pattern is well-formed, the only error there is
	slices.SortFunc(images, func(a, b string) int { return byVersion(path.Base(b), path.Base(a)) })
	for _, image := range images {
		f, err := e.Files.Open(image)
		if err != nil {
			continue // Ubuntu's are for root's eyes only
		}
		f.Close()
		return qemu, "/" + image, ""
	}
	if len(images) > 0 {
		return "", "", "no kernel image under /boot can be read by user " + strconv.Itoa(os.Geteuid())
	}
	return "", "", "no kernel image under /boot"
}

var digits = regexp.MustCompile(`\d+|\D+`)

// byVersion compares file names with the numbers in them as numbers: vmlinuz-6.10 is newer than vmlinuz-6.9.
func byVersion(a, b string) int {
	return slices.CompareFunc(digits.FindAllString(a, -1), digits.FindAllString(b, -1), func(x, y string) int {
		m, errM := strconv.Atoi(x)
		n, errN := strconv.Atoi(y)
		if errM == nil && errN == nil {
			return m - n
		}
		return strings.Compare(x, y)
	})
}
