package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// region is a piece of a file.
type region struct{ Offset, Length int64 }

const (
	// cryptoExtension is the header extension "full disk encryption header pointer", qcow2LUKS the encryption method LUKS.
	cryptoExtension = 0x0537be77
	qcow2LUKS       = 2
)

// cryptoHeader finds where the LUKS header and its key slots are in a qcow2 file: the header extension "full disk encryption header
// pointer" (QEMU, docs/interop/qcow2.txt). It is asked once, of a file that this package has just had made, and kept in the record:
// the file itself is later written by a machine's process, whose word on what is to be erased does not count.
func cryptoHeader(f io.ReaderAt) (region, error) {
	const mostBytes = 64 << 20
	head := make([]byte, 4096)
	if n, err := f.ReadAt(head, 0); err != nil && !(errors.Is(err, io.EOF) && n >= 112) {
		return region{}, fmt.Errorf("qcow2 header: %w", err)
	}
	be := binary.BigEndian
	if string(head[:4]) != "QFI\xfb" || be.Uint32(head[4:]) != 3 {
		return region{}, errors.New("qcow2 header: not a qcow2 file of version 3")
	}
	if method := be.Uint32(head[32:]); method != qcow2LUKS {
		return region{}, fmt.Errorf("qcow2 header: encryption method %d, not LUKS", method)
	}
	for at := uint64(be.Uint32(head[100:])); at+8 <= uint64(len(head)); {
		kind, length := be.Uint32(head[at:]), uint64(be.Uint32(head[at+4:]))
		if kind == 0 {
			break
		}
		if kind == cryptoExtension {
			if length != 16 || at+24 > uint64(len(head)) {
				return region{}, errors.New("qcow2 header: the encryption header's pointer is cut off")
			}
			r := region{int64(be.Uint64(head[at+8:])), int64(be.Uint64(head[at+16:]))}
			if r.Offset < 4096 || r.Length < 4096 || r.Length > mostBytes || r.Offset > 1<<40 {
				return region{}, fmt.Errorf("qcow2 header: the encryption header cannot be at %d with %d bytes", r.Offset, r.Length)
			}
			return r, nil
		}
		at += 8 + (length+7)/8*8
	}
	return region{}, errors.New("qcow2 header: it points to no encryption header")
}
