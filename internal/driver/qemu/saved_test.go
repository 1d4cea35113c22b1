package qemu

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"carrel/internal/driver"
	"carrel/internal/driver/memory"
)

func TestStateOfDevicesComesBackInPiecesAndLeavesWhatFollows(t *testing.T) {
	for _, size := range []int{0, 1, pieceBytes - 1, pieceBytes, pieceBytes + 1, 3*pieceBytes + 7} {
		state := make([]byte, size)
		_, _ = rand.Read(state)
		var out bytes.Buffer
		if err := writePieces(&out, iotest.HalfReader(bytes.NewReader(state))); err != nil {
			t.Fatal(err)
		}
		out.WriteString("memory")
		p, err := readPieces(&out)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(p.reader()); err != nil || !bytes.Equal(got, state) || out.String() != "memory" {
			t.Errorf("%d bytes: %d came back, %v, and then %q", size, len(got), err, out.String())
		}
		p.wipe()
		for _, piece := range p {
			if !bytes.Equal(piece, make([]byte, len(piece))) {
				t.Error("wiped, and something is left")
			}
		}
	}
}

func TestStateOfDevicesThatIsNoneIsRefused(t *testing.T) {
	long := binary.BigEndian.AppendUint32(nil, pieceBytes+1)
	if _, err := readPieces(bytes.NewReader(append(long, make([]byte, pieceBytes+1)...))); !errors.Is(err, memory.ErrDamaged) {
		t.Errorf("a piece that is too long: %v", err)
	}
	short := append(binary.BigEndian.AppendUint32(nil, 10), "half"...)
	if _, err := readPieces(bytes.NewReader(short)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a piece that is cut off: %v", err)
	}
	if _, err := readPieces(bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, 1), 'x'))); !errors.Is(err, io.EOF) {
		t.Errorf("pieces without an end: %v", err)
	}
	broken := errors.New("broken")
	if err := writePieces(io.Discard, iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func TestTheMakingOfATemplateIsGivenUpAndWaitedFor(t *testing.T) {
	var ts templates
	if ts.giveUp(t.Context()) {
		t.Error("none is being made")
	}
	ctx, over := ts.begin(t.Context())
	gone := make(chan bool)
	go func() { gone <- ts.giveUp(t.Context()) }()
	<-ctx.Done()
	select {
	case <-gone:
		t.Error("its memory is still there, and nobody waits for it")
	case <-time.After(20 * time.Millisecond):
	}
	over()
	if !<-gone || ts.giveUp(t.Context()) {
		t.Error("it was given up, and is not")
	}
	ctx, over = ts.begin(t.Context())
	defer over()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if !ts.giveUp(ended) || ctx.Err() == nil {
		t.Error("somebody who has no time does not give it up")
	}
}

func TestAHostWithoutTemplatesMakesNone(t *testing.T) {
	d := &Driver{cfg: config(t), layers: noLayers{}}
	d.cfg.NoTemplates = true
	if err := d.MakeTemplate(t.Context(), "wsi-000000001", "STANDARD"); driver.AsPermanent(err) == nil {
		t.Errorf("%v", err)
	}
}

type noLayers struct{ driver.VolumeLayers }
