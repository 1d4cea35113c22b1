package house

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/nftables"
)

// inventory is what the machine itself holds of desktops, whatever Carrel says.
type inventory struct {
	// Machines are QEMU's processes, Taps network devices, Rules what a VPC's filters are made of, Memory blocks at the keeper, Volumes disks,
	// Records machines' directories.
	Machines, Taps, Rules, Memory, Volumes, Records int
	// Half are files and directories of something that was not finished.
	Half []string
}

// inventory looks at processes, network, files and memory.
func (a *apart) inventory() inventory {
	a.t.Helper()
	dir := a.host + "-host"
	var out inventory
	out.Machines = len(a.machines(""))
	for _, ns := range a.glob(dir + "/net/netns/vpc-*") {
		b, err := exec.Command("nsenter", "--net="+ns, "ip", "-d", "-o", "link").Output()
		must(a.t, err)
		out.Taps += strings.Count(string(b), " ws-")
		out.Rules += a.rules(ns)
	}
	for _, pid := range holders(dir + "/memory/keeper.log") {
		for _, l := range a.glob(fmt.Sprintf("/proc/%d/fd/*", pid)) {
			if to, _ := os.Readlink(l); strings.HasPrefix(to, "/memfd:carrel-memory") {
				out.Memory++
			}
		}
	}
	// A template has a block of its own, which is no desktop's.
	out.Memory -= len(a.glob(dir + "/machines/templates/*"))
	out.Volumes = len(a.glob(dir + "/volumes/ws-*/[ru]*"))
	out.Records = len(a.glob(dir + "/machines/ws-*"))
	for _, pattern := range []string{"/volumes/*/.*", "/volumes/*/*/.*", "/machines/*/.*", "/machines/*/saved-memory", "/net/*/*.new"} {
		out.Half = append(out.Half, a.glob(dir+pattern)...)
	}
	return out
}

func (a *apart) glob(pattern string) []string {
	a.t.Helper()
	found, err := filepath.Glob(pattern)
	must(a.t, err)
	return found
}

// rules counts the elements, chains and rules of a namespace's filters, but for the chains of security groups: those are the group's, and stay when
// its last member has left.
func (a *apart) rules(ns string) (n int) {
	a.t.Helper()
	f, err := os.Open(ns)
	must(a.t, err)
	defer f.Close()
	c, err := nftables.New(nftables.WithNetNSFd(int(f.Fd())))
	must(a.t, err)
	tables, err := c.ListTables()
	must(a.t, err)
	for _, table := range tables {
		sets, err := c.GetSets(table)
		must(a.t, err)
		for _, s := range sets {
			elements, err := c.GetSetElements(s)
			must(a.t, err)
			n += len(elements)
		}
	}
	chains, err := c.ListChains()
	must(a.t, err)
	for _, chain := range chains {
		if strings.Contains(chain.Name, "-sg-") {
			continue
		}
		rules, err := c.GetRules(chain.Table, chain)
		must(a.t, err)
		n += 1 + len(rules)
	}
	return n
}

// machines are the QEMU processes that have a disk of the desktop open; of any desktop when id is empty.
func (a *apart) machines(id string) (out []int) {
	for _, pid := range holders(a.host + "-host/volumes/" + id) {
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); strings.Contains(exe, "qemu-system") {
			out = append(out, pid)
		}
	}
	return out
}

// machine is the one process of a desktop.
func (a *apart) machine(id string) int {
	a.t.Helper()
	all := a.machines(id)
	if len(all) != 1 {
		a.t.Fatalf("%s has the processes %v", id, all)
	}
	return all[0]
}

// holders are the processes that have a file open whose path begins with prefix.
func holders(prefix string) (out []int) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		links, _ := filepath.Glob(p + "/fd/*")
		for _, l := range links {
			if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, prefix) {
				if pid, err := strconv.Atoi(filepath.Base(p)); err == nil {
					out = append(out, pid)
				}
				break
			}
		}
	}
	return out
}

// certificates are the ids of a desktop's certificates; each is verified.
func (a *apart) certificates(id string) (out []string) {
	a.t.Helper()
	var all []struct {
		CertificateID string `json:"certificateId"`
		WorkspaceID   string `json:"workspaceId"`
		Simulated     bool   `json:"simulated"`
		BytesZeroed   int64  `json:"bytesZeroed"`
		BytesVerified int64  `json:"bytesVerified"`
	}
	must(a.t, json.Unmarshal([]byte(a.carrel("scrub", "list", "--json")), &all))
	for _, c := range all {
		if c.WorkspaceID != id {
			continue
		}
		if c.Simulated || c.BytesZeroed != guestMemory || c.BytesVerified != c.BytesZeroed {
			a.t.Errorf("%+v", c)
		}
		a.carrel("scrub", "verify", c.CertificateID)
		out = append(out, c.CertificateID)
	}
	return out
}
