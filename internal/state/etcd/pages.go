package etcd

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/etcd/server/v3/storage/backend"
	"golang.org/x/sys/unix"
)

// GiveBack lets go of the pages of the database that this process has mapped: starting and dropping history read all of it, and what was
// read counts as this process's memory until the kernel needs it, though reads of records never come here. The mapping is a shared one of a
// file that is only read through it, so nothing is lost: a page that is needed again comes from the kernel's cache of the file.
func (s *Store) GiveBack() {
	if s.pages == nil {
		return
	}
	_, done, err := s.begin(context.Background())
	if err != nil {
		return
	}
	defer done()
	_ = s.pages() // the memory is the kernel's to take anyway
}

// dropPages drops the pages of a backend's file. A transaction is open meanwhile, because bbolt does not move or end its mapping under one:
// where it was there could be something else by the time the kernel is told, and that would be lost.
func dropPages(of backend.Backend, path string) error {
	tx := of.ConcurrentReadTx()
	tx.RLock()
	defer tx.RUnlock()
	return dropMapped(path)
}

// dropMapped tells the kernel that no page of a mapped file is needed.
func dropMapped(path string) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer func() { _ = maps.Close() }() // it was only read
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		// "7f0c40000000-7f0ec0000000 r--s 00000000 fd:00 1234   /path": see proc_pid_maps(5). Only what is shared and read-only is dropped.
		if !strings.HasSuffix(lines.Text(), " "+path) {
			continue
		}
		var from, to uintptr
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || mode != "r--s" {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return lines.Err()
}
