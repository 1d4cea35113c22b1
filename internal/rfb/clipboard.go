package rfb

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/adler32"
	"io"
	"unicode/utf8"
)

// ClipAction is what a message of the extended clipboard does (rfbproto, "Extended Clipboard Pseudo-Encoding"): one bit of its flags.
type ClipAction uint32

// The actions. ClipPlain is none of them: the old cut text message, whose text is Latin-1.
const (
	ClipPlain   ClipAction = 0
	ClipCaps    ClipAction = 1 << 24
	ClipRequest ClipAction = 1 << 25
	ClipPeek    ClipAction = 1 << 26
	ClipNotify  ClipAction = 1 << 27
	ClipProvide ClipAction = 1 << 28

	clipActions = 0xff000000
	clipText    = 1
	clipFormats = 0xffff
)

// Clip is one clipboard message. Of all formats only text is read; what a message holds beside it is dropped.
type Clip struct {
	Action ClipAction
	// Can are the actions that the sender of ClipCaps understands.
	Can ClipAction
	// HasText: text is among the formats the message is about.
	HasText bool
	// Text is that of ClipPlain (Latin-1) and ClipProvide (UTF-8, without the zero byte at its end).
	Text []byte
	// TooLong: there was a text over the limit; it was not kept.
	TooLong bool
}

// readClip reads a cut text message's body. length is as on the wire: negative for the extended clipboard.
func readClip(r *reader, from Side, length int32, limit int) (Clip, error) {
	if length >= 0 {
		c := Clip{Action: ClipPlain, HasText: true}
		var err error
		c.Text, c.TooLong, err = readText(r, from, int(length), limit)
		return c, err
	}
	n := -int64(length)
	if n < 4 {
		return Clip{}, broken(from, ErrLength, "an extended clipboard message of %d bytes", n)
	}
	body, long, err := readText(r, from, int(n), needed(limit)+8)
	if err != nil {
		return Clip{}, err
	}
	if long {
		// Which message it was stands in what was dropped; only one that provides can be long.
		return Clip{Action: ClipProvide, HasText: true, TooLong: true}, nil
	}
	return parseClip(body, from, limit)
}

// readText reads n bytes, or reads them away when they are more than limit. Memory grows with what has come, not with what is announced.
func readText(r *reader, from Side, n, limit int) (text []byte, long bool, err error) {
	if n > limit+textDropBytes {
		return nil, false, broken(from, ErrLength, "clipboard of %d bytes", n)
	}
	long = n > limit
	for n > 0 {
		b, err := r.take(min(n, 4096))
		if err != nil {
			return nil, false, err
		}
		if !long {
			text = append(text, b...)
		}
		n -= len(b)
	}
	return text, long, nil
}

// parseClip reads an extended clipboard message: its flags and what follows them.
func parseClip(body []byte, from Side, limit int) (Clip, error) {
	flags, rest := binary.BigEndian.Uint32(body), body[4:]
	c := Clip{Action: ClipAction(flags & clipActions), HasText: flags&clipText != 0}
	if c.Action&ClipCaps != 0 {
		return Clip{Action: ClipCaps, Can: c.Action &^ ClipCaps, HasText: c.HasText}, nil
	}
	switch c.Action {
	case ClipRequest, ClipPeek, ClipNotify:
		return c, nil
	case ClipProvide:
		if !c.HasText {
			return c, nil
		}
		var err error
		c.Text, c.TooLong, err = inflateText(rest, from, limit)
		return c, err
	}
	return Clip{}, broken(from, ErrMessage, "extended clipboard flags %#x", flags)
}

// inflateText reads the first of the formats a ClipProvide holds, which is the text: its length and its bytes, in zlib. No more than
// limit is ever inflated, whatever the data would grow to.
func inflateText(data []byte, from Side, limit int) (text []byte, long bool, err error) {
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, false, broken(from, ErrFormat, "clipboard data is not zlib")
	}
	var head [4]byte
	if _, err := io.ReadFull(z, head[:]); err != nil {
		return nil, false, broken(from, ErrFormat, "clipboard data ends in its length")
	}
	n := binary.BigEndian.Uint32(head[:])
	if int64(n) > int64(limit)+1 {
		return nil, true, nil
	}
	var out bytes.Buffer
	if _, err := io.CopyN(&out, z, int64(n)); err != nil {
		return nil, false, broken(from, ErrFormat, "clipboard data is shorter than it says")
	}
	text = bytes.TrimSuffix(out.Bytes(), []byte{0})
	if len(text) > limit {
		return nil, true, nil
	}
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return nil, false, broken(from, ErrFormat, "clipboard text is not UTF-8 text")
	}
	return text, false, nil
}

// append writes the body of a cut text message, from its length on. Both directions share it.
func (c Clip) append(b []byte) []byte {
	if c.Action == ClipPlain {
		b = binary.BigEndian.AppendUint32(b, uint32(len(c.Text)))
		return append(b, c.Text...)
	}
	flags := uint32(c.Action | c.Can)
	if c.HasText {
		flags |= clipText
	}
	body := binary.BigEndian.AppendUint32(nil, flags)
	switch {
	case c.Action == ClipCaps && c.HasText:
		body = binary.BigEndian.AppendUint32(body, 0) // No text is to be sent unasked.
	case c.Action == ClipProvide && c.HasText:
		plain := binary.BigEndian.AppendUint32(nil, uint32(len(c.Text)+1))
		body = appendStored(body, append(append(plain, c.Text...), 0))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(-int32(len(body))))
	return append(b, body...)
}

// appendStored writes data as zlib (RFC 1950) of stored blocks: a compressor would take a megabyte of memory for a line of text.
func appendStored(b, data []byte) []byte {
	b = append(b, 0x78, 0x01)
	for rest := data; ; {
		n := min(len(rest), 0xffff)
		last := byte(0)
		if n == len(rest) {
			last = 1
		}
		b = append(b, last, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		b = append(b, rest[:n]...)
		if rest = rest[n:]; last == 1 {
			break
		}
	}
	return binary.BigEndian.AppendUint32(b, adler32.Checksum(data))
}

// AppendServerClip writes a ServerCutText.
func AppendServerClip(b []byte, c Clip) []byte { return c.append(append(b, ServerCutText, 0, 0, 0)) }

// AppendClientClip writes a ClientCutText.
func AppendClientClip(b []byte, c Clip) []byte { return c.append(append(b, ClientCutText, 0, 0, 0)) }
