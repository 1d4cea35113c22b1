package qemu

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"carrel/internal/driver"
	"carrel/internal/driver/memory"
)

// A machine that is stopped is one encrypted stream in a file: the state of its devices, in pieces with their length before them and one of length 0 after
// them, and then its memory, which this process reads out of the machine's block and not QEMU out of its own. So it is also this process that
// fills the block of the next run, while QEMU starts.
const (
	pieceBytes = 256 << 10
	// mostDevices bounds the state of devices; that of a screen is most of it.
	mostDevices = 256 << 20
)

// saveMachine stops the guest and writes what there is of it.
func (d *Driver) saveMachine(ctx context.Context, m *machine, dst io.Writer, key *memory.Key) error {
	block, _, err := d.cfg.Keeper.Get(m.Run)
	if err != nil {
		return err
	}
	out, err := memory.Save(dst, key)
	if err != nil {
		return err
	}
	err = d.moveOut(ctx, m.live, func(r io.Reader) error { return writePieces(out, r) })
	if err == nil {
		// Nobody writes to it any more: the guest stands still, and its devices have said so with the end of their state.
		_, err = block.WriteTo(out)
	}
	if err != nil {
		out.Abort()
		return err
	}
	return out.Close()
}

func writePieces(dst io.Writer, src io.Reader) error {
	b := make([]byte, 4+pieceBytes)
	defer clear(b)
	for {
		n, err := io.ReadFull(src, b[4:])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		binary.BigEndian.PutUint32(b, uint32(n))
		if _, err := dst.Write(b[:4+n]); err != nil || n == 0 {
			return err
		}
	}
}

// pieces are the state of devices. It is the guest's, and is wiped after use.
type pieces [][]byte

func (p pieces) wipe() {
	for _, b := range p {
		clear(b)
	}
}

func (p pieces) reader() io.Reader {
	all := make([]io.Reader, len(p))
	for i, b := range p {
		all[i] = bytes.NewReader(b)
	}
	return io.MultiReader(all...)
}

func readPieces(src io.Reader) (pieces, error) {
	var p pieces
	fail := func(err error) (pieces, error) {
		p.wipe()
		return nil, err
	}
	for sum := 0; ; {
		var head [4]byte
		if _, err := io.ReadFull(src, head[:]); err != nil {
			return fail(err)
		}
		n := int(binary.BigEndian.Uint32(head[:]))
		if n == 0 {
			return p, nil
		}
		if sum += n; n > pieceBytes || sum > mostDevices {
			return fail(fmt.Errorf("%w: %d bytes of devices", memory.ErrDamaged, sum))
		}
		b := make([]byte, n)
		p = append(p, b)
		if _, err := io.ReadFull(src, b); err != nil {
			return fail(err)
		}
	}
}

// restore fills a new block with saved memory and gives the state of the devices.
func (d *Driver) restore(ctx context.Context, m *machine, block *memory.Block) (pieces, error) {
	raw, err := d.cfg.Keys.Unwrap("", savedBinding(m, m.Saved), m.Saved.Wrapped)
	if err != nil {
		return nil, fmt.Errorf("the key of saved memory: %w", err)
	}
	key, err := memory.KeyFrom(raw)
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	f, err := os.Open(d.path(m, savedFile))
	if err != nil {
		return nil, driver.Permanent("SavedMemoryLost", err)
	}
	defer f.Close()
	in, err := memory.Load(f, key)
	if err != nil {
		return nil, driver.Permanent("SavedMemoryDamaged", err)
	}
	defer in.Close()
	p, err := readPieces(in)
	if err == nil {
		if err = block.LoadFrom(ctx, in); err != nil {
			p.wipe()
		}
	}
	switch {
	case errors.Is(err, memory.ErrDamaged), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, driver.Permanent("SavedMemoryDamaged", err)
	case err != nil:
		return nil, err
	}
	return p, nil
}
