package rfb

import (
	"encoding/binary"
	"io"
)

// ServerInit is RFC 6143 section 7.3.2. The pixel format a server starts with is not kept: a client sets the one it wants.
type ServerInit struct {
	Screen Size
	// Name is what the server calls itself. A guest may have chosen it: show a name of your own instead.
	Name string
}

const (
	securityNone = 1
	// nameBytes bounds a server's name: guacd was broken by believing lengths like this one (CVE-2023-43826).
	nameBytes = 1024
	// reasonBytes bounds a server's reason for refusing.
	reasonBytes = 1024
)

// Connect is the client's half of the handshake with a server that wants no authentication, such as a QEMU display on a passed
// socket. shared leaves other viewers connected. bound is the largest screen taken.
// *Error: the server broke the protocol or wants authentication. Anything else: rw's own error.
func Connect(rw io.ReadWriter, shared bool, bound Size) (ServerInit, error) {
	var b [24]byte
	if _, err := io.ReadFull(rw, b[:len(version)]); err != nil {
		return ServerInit{}, err
	}
	if string(b[:len(version)]) != version {
		return ServerInit{}, broken(Server, ErrVersion, "not version 3.8")
	}
	if _, err := io.WriteString(rw, version); err != nil {
		return ServerInit{}, err
	}
	if err := connectSecurity(rw); err != nil {
		return ServerInit{}, err
	}
	flag := []byte{0}
	if shared {
		flag[0] = 1
	}
	if _, err := rw.Write(flag); err != nil {
		return ServerInit{}, err
	}
	if _, err := io.ReadFull(rw, b[:]); err != nil {
		return ServerInit{}, err
	}
	init := ServerInit{Screen: Size{int(binary.BigEndian.Uint16(b[0:])), int(binary.BigEndian.Uint16(b[2:]))}}
	if err := init.Screen.within(bound); err != nil {
		return ServerInit{}, err
	}
	n := binary.BigEndian.Uint32(b[20:])
	if n > nameBytes {
		return ServerInit{}, broken(Server, ErrLength, "a name of %d bytes, more than %d", n, nameBytes)
	}
	name := make([]byte, n)
	if _, err := io.ReadFull(rw, name); err != nil {
		return ServerInit{}, err
	}
	init.Name = string(name)
	return init, nil
}

func (s Size) within(bound Size) error {
	if s.Width < 1 || s.Height < 1 || s.Width > bound.Width || s.Height > bound.Height {
		return broken(Server, ErrBounds, "a screen of %v, allowed up to %v", s, bound)
	}
	return nil
}

func connectSecurity(rw io.ReadWriter) error {
	var b [256]byte
	if _, err := io.ReadFull(rw, b[:1]); err != nil {
		return err
	}
	n := int(b[0])
	if n == 0 {
		return refused(rw, "no security type")
	}
	if _, err := io.ReadFull(rw, b[:n]); err != nil {
		return err
	}
	none := false
	for _, t := range b[:n] {
		none = none || t == securityNone
	}
	if !none {
		return broken(Server, ErrSecurity, "authentication is wanted (%d types, none of them None)", n)
	}
	if _, err := rw.Write([]byte{securityNone}); err != nil {
		return err
	}
	if _, err := io.ReadFull(rw, b[:4]); err != nil {
		return err
	}
	if status := binary.BigEndian.Uint32(b[:]); status != 0 {
		return refused(rw, "security result")
	}
	return nil
}

// refused reads and drops the server's reason, so that its length is checked like every other one.
func refused(r io.Reader, what string) error {
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(b[:])
	if n > reasonBytes {
		return broken(Server, ErrLength, "a reason of %d bytes", n)
	}
	if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil {
		return err
	}
	return broken(Server, ErrSecurity, "%s: refused with a reason of %d bytes", what, n)
}

// Accept is the server's half of the handshake. It offers no authentication: the caller has done it by other means before the first
// byte. It tells whether the client wants to leave other viewers connected.
func Accept(rw io.ReadWriter, init ServerInit) (shared bool, err error) {
	if _, err := io.WriteString(rw, version); err != nil {
		return false, err
	}
	var b [len(version)]byte
	if _, err := io.ReadFull(rw, b[:]); err != nil {
		return false, err
	}
	if string(b[:]) != version {
		return false, broken(Client, ErrVersion, "not version 3.8")
	}
	if _, err := rw.Write([]byte{1, securityNone}); err != nil {
		return false, err
	}
	if _, err := io.ReadFull(rw, b[:1]); err != nil {
		return false, err
	}
	if b[0] != securityNone {
		return false, broken(Client, ErrSecurity, "type %d was not offered", b[0])
	}
	if _, err := rw.Write([]byte{0, 0, 0, 0}); err != nil {
		return false, err
	}
	if _, err := io.ReadFull(rw, b[:1]); err != nil {
		return false, err
	}
	shared = b[0] != 0
	out := binary.BigEndian.AppendUint16(nil, uint16(init.Screen.Width))
	out = binary.BigEndian.AppendUint16(out, uint16(init.Screen.Height))
	out = AppendPixelFormat(out, Little)
	name := init.Name[:min(len(init.Name), nameBytes)]
	out = binary.BigEndian.AppendUint32(out, uint32(len(name)))
	_, err = rw.Write(append(out, name...))
	return shared, err
}
