package qemu

import (
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// node is a device node as stat(2) shows it.
type node struct {
	mode fs.FileMode
	gid  uint32
}

func (n node) Name() string       { return "kvm" }
func (n node) Size() int64        { return 0 }
func (n node) Mode() fs.FileMode  { return n.mode | fs.ModeDevice | fs.ModeCharDevice }
func (n node) ModTime() time.Time { return time.Time{} }
func (n node) IsDir() bool        { return false }
func (n node) Sys() any           { return &syscall.Stat_t{Gid: n.gid} }

func TestMachinesHaveTheGroupThatOpensKVM(t *testing.T) {
	for name, c := range map[string]struct {
		node node
		gid  int
		says string
	}{
		"Debian: the group kvm":                      {node{0o660, 106}, 106, ""},
		"everybody, as systemd's default":            {node{0o666, 106}, 0, ""},
		"everybody, of the group root":               {node{0o666, 0}, 0, ""},
		"root alone":                                 {node{0o600, 0}, 0, "chgrp kvm"},
		"a group that only reads":                    {node{0o640, 106}, 0, "mode 0640"},
		"the group root":                             {node{0o660, 0}, 0, "group root"},
		"a group that the user namespace has not":    {node{0o660, 65534}, 0, "without root"},
		"everybody, in a user namespace without it":  {node{0o666, 65534}, 0, ""},
		"everybody reads, its group may write alone": {node{0o664, 106}, 106, ""},
	} {
		gid, err := groupOf(c.node, 65534)
		if gid != c.gid || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d, %v", name, gid, err)
		}
	}
	if _, err := os.Stat(kvmDevice); err == nil {
		if gid, err := KVMGroup(); (gid < 0) || err != nil && !strings.Contains(err.Error(), kvmDevice) {
			t.Errorf("this machine's: %d, %v", gid, err)
		}
	}
}
