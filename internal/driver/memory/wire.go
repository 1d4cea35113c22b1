package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

// The keeper's protocol: one request and one reply a connection, each a packet of a SOCK_SEQPACKET socket, so that a message has an end
// without being parsed; JSON inside; at most one descriptor beside it. It is kept simple because an old keeper must serve a new host role.

const (
	protocolVersion = 1
	maxPacket       = 32 << 10
	// listBytes ends a page of a list; one more entry still fits into a packet.
	listBytes = maxPacket - maxMeta - 4<<10
)

// operation is what a request asks for.
type operation string

const (
	opHello   operation = "hello"
	opPut     operation = "put"
	opGet     operation = "get"
	opList    operation = "list"
	opDelete  operation = "delete"
	opPutFile operation = "put-file"
	opGetFile operation = "get-file"
	opQuit    operation = "quit"
)

type request struct {
	Op operation `json:"op"`
	// ID names a block: put, get, delete, put-file, get-file.
	ID string `json:"id,omitempty"`
	// Name of a file that is held beside the block: put-file, get-file.
	Name string `json:"name,omitempty"`
	// Meta goes with put; the keeper does not look into it.
	Meta json.RawMessage `json:"meta,omitempty"`
	// After is the last id of the page before: list.
	After string `json:"after,omitempty"`
}

type reply struct {
	// Error is empty when the request was done, and Code one of the codes below otherwise.
	Error string `json:"error,omitempty"`
	Code  string `json:"code,omitempty"`
	// Hello: who answers.
	Version int `json:"version,omitempty"`
	PID     int `json:"pid,omitempty"`
	// Entries: get (one), list (a page; More says that there is another).
	Entries []heldEntry `json:"entries,omitempty"`
	More    bool        `json:"more,omitempty"`
}

// heldEntry is a block as the keeper knows it.
type heldEntry struct {
	ID   string          `json:"id"`
	Meta json.RawMessage `json:"meta"`
	// Locked: the keeper holds all of it locked into memory.
	Locked bool `json:"locked,omitempty"`
	// Files are the names of what is held beside it.
	Files []string `json:"files,omitempty"`
}

// codes are the errors that mean something to a caller.
var codes = map[string]error{"not-found": driver.ErrNotFound, "dirty": errDirty, "order": driver.ErrOrder, "busy": driver.ErrBusy}

func (r reply) err() error {
	if r.Error == "" {
		return nil
	}
	if known := codes[r.Code]; known != nil {
		return fmt.Errorf("%w: %s", known, r.Error)
	}
	return errors.New("keeper: " + r.Error)
}

// refusal is a reply that says why nothing was done.
func refusal(err error) reply {
	r := reply{Error: err.Error()}
	for code, known := range codes {
		if errors.Is(err, known) {
			r.Code = code
		}
	}
	return r
}

// decodeRequest reads a request and refuses what no host role sends.
func decodeRequest(packet []byte) (request, error) {
	var r request
	if len(packet) > maxPacket {
		return r, fmt.Errorf("request of %d bytes: at most %d", len(packet), maxPacket)
	}
	if err := json.Unmarshal(packet, &r); err != nil {
		return request{}, fmt.Errorf("request: %w", err)
	}
	var err error
	switch r.Op {
	case opHello, opQuit:
	case opList:
		if r.After != "" {
			err = checkID(r.After)
		}
	case opPut, opGet, opDelete:
		err = checkID(r.ID)
	case opPutFile, opGetFile:
		err = errors.Join(checkID(r.ID), checkFile(r.Name))
	default:
		err = fmt.Errorf("request: unknown operation %.40q", r.Op)
	}
	if err == nil && (len(r.Meta) > maxMeta || (r.Op == opPut) != (len(r.Meta) > 0)) {
		err = fmt.Errorf("request: %s with %d bytes of meta", r.Op, len(r.Meta))
	}
	if err != nil {
		return request{}, err
	}
	return r, nil
}

// send writes one message, with a descriptor when file is not nil.
func send(c *net.UnixConn, message any, file *os.File) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(b) > maxPacket {
		return fmt.Errorf("message of %d bytes: at most %d", len(b), maxPacket)
	}
	if file == nil {
		_, _, err = c.WriteMsgUnix(b, nil, nil)
		return err
	}
	// Not by Fd, which may make the descriptor one that blocks, and with it all its copies: those of a connection that somebody reads from.
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { _, _, err = c.WriteMsgUnix(b, unix.UnixRights(int(fd)), nil) }); e != nil {
		return e
	}
	return err
}

// receive reads one packet and the descriptor that came with it, nil when none did. More than one, or a packet that was cut, is refused and
// everything that came is closed: who sends it decides neither how much memory nor how many descriptors the receiver holds.
func receive(c *net.UnixConn) ([]byte, *os.File, error) {
	b := make([]byte, maxPacket+1)
	rights := make([]byte, unix.CmsgSpace(4*4))
	n, rn, flags, _, err := c.ReadMsgUnix(b, rights)
	if err != nil {
		return nil, nil, err
	}
	files, err := passed(rights[:rn])
	if err == nil && (n > maxPacket || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || len(files) > 1) {
		err = fmt.Errorf("packet of %d bytes and %d descriptors: at most %d and one", n, len(files), maxPacket)
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		for _, f := range files {
			_ = f.Close()
		}
		return nil, nil, err
	}
	if len(files) == 0 {
		return b[:n], nil, nil
	}
	return b[:n], files[0], nil
}

// passed takes the descriptors out of control messages.
func passed(rights []byte) ([]*os.File, error) {
	messages, err := syscall.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			continue // Not descriptors: nobody asked for it.
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), blockName))
		}
	}
	return files, nil
}

// peerUID is who is at the other end of a Unix socket, by the kernel's word.
func peerUID(c *net.UnixConn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
