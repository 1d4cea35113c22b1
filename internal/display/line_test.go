package display

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// ends are a line and the browser's end of it.
func ends(t *testing.T) (*line, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return &line{Conn: near}, far
}

func TestAFrameIsWholeWhateverItsLength(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, recordBytes - headBytes, recordBytes, 65520, 65535, 65536, 200_000} {
		l, far := ends(t)
		payload := bytes.Repeat([]byte("carrel!"), n/7+1)[:n]
		sent := make(chan error, 1)
		go func() {
			err := l.send(websocket.MessageBinary, payload, time.Minute)
			sent <- errors.Join(err, l.Close())
		}()
		got, err := io.ReadAll(far)
		if err = errors.Join(err, <-sent); err != nil {
			t.Fatal(n, err)
		}
		head := appendHead(nil, websocket.MessageBinary, n)
		if !bytes.Equal(got, append(head, payload...)) || got[0] != 0x82 {
			t.Errorf("a frame of %d bytes came as %d, head % x", n, len(got), got[:len(head)])
		}
	}
}

func TestControlFramesWaitForThePieceAndNothingFollowsTheFarewell(t *testing.T) {
	l, far := ends(t)
	piece := make([]byte, 100_000)
	sent := make(chan error, 1)
	go func() { sent <- l.send(websocket.MessageBinary, piece, time.Minute) }()
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil { // It is being written.
		t.Fatal(err)
	}
	ping, farewell := []byte{0x89, 1, '7'}, []byte{0x88, 2, 0x0f, 0xa0}
	for _, frame := range [][]byte{ping, farewell} {
		if n, err := l.Write(frame); n != len(frame) || err != nil {
			t.Fatal(n, err)
		}
	}
	rest := make([]byte, headBytes-1+len(piece)+len(ping)+len(farewell))
	if _, err := io.ReadFull(far, rest); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(rest, append(ping, farewell...)) {
		t.Errorf("after the piece came % x", rest[len(rest)-10:])
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if err := l.send(websocket.MessageBinary, piece, time.Minute); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the farewell: %v", err)
	}
}

func TestABrowserThatPingsAndTakesNothingIsCutOff(t *testing.T) {
	l, far := ends(t)
	go func() { _ = l.send(websocket.MessageBinary, make([]byte, 100_000), time.Minute) }()
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	pong, total := append([]byte{0x8a, 125}, make([]byte, 125)...), 0
	for {
		n, err := l.Write(pong)
		if errors.Is(err, errControls) {
			break
		}
		if total += n; err != nil || total > heldBytes {
			t.Fatalf("%d bytes of control frames wait, %v", total, err)
		}
	}
}

func TestAPieceThatIsNotTakenInTimeFails(t *testing.T) {
	l, _ := ends(t)
	var timeout net.Error
	if err := l.send(websocket.MessageBinary, make([]byte, 100_000), time.Millisecond); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v", err)
	}
}

func TestWhatCameBehindTheRequestIsReadFirst(t *testing.T) {
	l, far := ends(t)
	l.first = []byte("early")
	go func() {
		_, _ = far.Write([]byte("late"))
		_ = far.Close()
	}()
	if got, err := io.ReadAll(l); string(got) != "earlylate" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
