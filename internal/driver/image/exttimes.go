package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// setTimes gives every inode of an ext4 file system one time of access, change and making, and no time of modification after it. mke2fs takes
// them from the tree, where they are the moment of the build, and no tool can set a change time. The layout is that of the kernel's
// Documentation/filesystems/ext4; the file system must have been made without metadata checksums.
func setTimes(path string, epoch time.Time) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	super := make([]byte, 1024)
	if _, err := f.ReadAt(super, 1024); err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint16(super[0x38:]) != 0xef53 {
		return errors.New("no ext4 file system")
	}
	if le.Uint32(super[0x64:])&0x400 != 0 {
		return errors.New("the file system has metadata checksums")
	}
	block := int64(1024) << le.Uint32(super[0x18:])
	perGroup := int64(le.Uint32(super[0x28:]))
	inodes := int64(le.Uint32(super[0x0:]))
	size := int64(le.Uint16(super[0x58:]))
	descriptor := int64(32)
	wide := le.Uint32(super[0x60:])&0x80 != 0
	if wide {
		descriptor = int64(le.Uint16(super[0xfe:]))
	}
	if size < 160 || perGroup <= 0 || inodes > 1<<24 || descriptor < 32 || wide && descriptor < 64 {
		return errors.New("a file system of another kind than we make")
	}
	table := (int64(le.Uint32(super[0x14:])) + 1) * block
	for g := int64(0); g*perGroup < inodes; g++ {
		desc := make([]byte, descriptor)
		if _, err := f.ReadAt(desc, table+g*descriptor); err != nil {
			return err
		}
		if le.Uint16(desc[0x12:])&1 != 0 {
			continue // EXT4_BG_INODE_UNINIT: none in use
		}
		at := int64(le.Uint32(desc[0x8:]))
		if wide {
			at |= int64(le.Uint32(desc[0x28:])) << 32
		}
		if err := setTableTimes(f, inodeTable{at * block, perGroup, size}, epoch); err != nil {
			return fmt.Errorf("group %d: %w", g, err)
		}
	}
	return f.Sync()
}

// inodeTable is where a group's inodes are, in bytes, and how many of which size.
type inodeTable struct{ at, count, size int64 }

// setTableTimes does one inode table.
func setTableTimes(f *os.File, t inodeTable, epoch time.Time) error {
	buf := make([]byte, t.count*t.size)
	if _, err := f.ReadAt(buf, t.at); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	le := binary.LittleEndian
	when := uint32(epoch.Unix())
	changed := false
	for i := int64(0); i < t.count; i++ {
		inode := buf[i*t.size : (i+1)*t.size]
		if le.Uint16(inode) == 0 && le.Uint16(inode[0x1a:]) == 0 {
			continue // never used: neither mode nor links
		}
		changed = true
		le.PutUint32(inode[0x8:], when)     // access
		le.PutUint32(inode[0xc:], when)     // change
		if le.Uint32(inode[0x10:]) > when { // modification
			le.PutUint32(inode[0x10:], when)
		}
		le.PutUint32(inode[0x84:], 0) // change, below a second
		le.PutUint32(inode[0x88:], 0) // modification
		le.PutUint32(inode[0x8c:], 0) // access
		le.PutUint32(inode[0x90:], when)
		le.PutUint32(inode[0x94:], 0) // making
	}
	if !changed {
		return nil
	}
	_, err := f.WriteAt(buf, t.at)
	return err
}
