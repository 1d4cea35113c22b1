package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

const (
	// domain separates our signatures from any other use of the same key.
	domain = "carrel-evidence-v1\x00"
	// timeLayout always has nine fraction digits: one instant, one spelling.
	timeLayout = "2006-01-02T15:04:05.000000000Z"
	// MaxRecord is the longest line in bytes, line feed included.
	MaxRecord  = 1 << 20
	maxSubject = 256
)

// Canonical gives the canonical JSON of a value: members sorted by name, no white space, numbers as encoding/json writes them.
// A json.RawMessage is brought into that form.
func Canonical(v any) (json.RawMessage, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode evidence payload: %w", err)
	}
	return canonical(data)
}

func canonical(data []byte) (json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("payload: more than one JSON value")
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(tree); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// encoding is E of the package comment: what is hashed and signed.
func (r *Record) encoding() []byte {
	b := make([]byte, 0, len(domain)+8+4*4+len(timeLayout)+len(r.Kind)+len(r.Subject)+len(r.Payload)+2*sha256.Size)
	b = append(b, domain...)
	b = binary.BigEndian.AppendUint64(b, r.Sequence)
	field := func(s []byte) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	field([]byte(r.Time.UTC().Format(timeLayout)))
	field([]byte(r.Kind))
	field([]byte(r.Subject))
	field(r.Payload)
	b = append(b, r.Previous[:]...)
	return append(b, r.Key[:]...)
}

// wire is a line as JSON. The order of the fields is the order of the members.
type wire struct {
	Sequence  uint64          `json:"sequence"`
	Time      string          `json:"time"`
	Kind      string          `json:"kind"`
	Subject   string          `json:"subject"`
	Payload   json.RawMessage `json:"payload"`
	Previous  Hash            `json:"previous"`
	Key       Hash            `json:"key"`
	Hash      Hash            `json:"hash"`
	Signature string          `json:"signature"`
}

// MarshalJSON is the record's line without its line feed.
func (r Record) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(wire{
		Sequence: r.Sequence, Time: r.Time.UTC().Format(timeLayout), Kind: string(r.Kind), Subject: r.Subject, Payload: r.Payload,
		Previous: r.Previous, Key: r.Key, Hash: r.Hash, Signature: base64.StdEncoding.EncodeToString(r.Signature),
	})
	if err != nil {
		return nil, fmt.Errorf("encode evidence record %d: %w", r.Sequence, err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// UnmarshalJSON reads a record in any JSON spelling (indented, say, inside a Proof) and brings the payload into canonical form.
// It checks no hash and no signature: VerifyRecord does. ParseRecord is the strict reader of a log's lines.
func (r *Record) UnmarshalJSON(data []byte) error {
	var w wire
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return fmt.Errorf("evidence record: %w", err)
	}
	at, err := time.Parse(timeLayout, w.Time)
	if err != nil {
		return fmt.Errorf("evidence record: %w", err)
	}
	kind, err := ParseKind(w.Kind)
	if err != nil {
		return err
	}
	if err := checkSubject(w.Subject); err != nil {
		return err
	}
	payload, err := canonical(w.Payload)
	if err != nil {
		return fmt.Errorf("evidence record: %w", err)
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(w.Signature)
	if err != nil || len(signature) != ed25519.SignatureSize {
		return errors.New("evidence record: signature is not 64 bytes of base64")
	}
	*r = Record{Sequence: w.Sequence, Time: at, Kind: kind, Subject: w.Subject, Payload: payload,
		Previous: w.Previous, Key: w.Key, Hash: w.Hash, Signature: signature}
	return nil
}

// ParseRecord reads one line without its line feed. It accepts only the one spelling that the package comment describes, so that
// no two readers can see different things in one line: white space, unknown, repeated or reordered members are refused.
// It checks no hash and no signature.
func ParseRecord(line []byte) (Record, error) {
	if len(line) >= MaxRecord {
		return Record{}, fmt.Errorf("evidence record: longer than %d bytes", MaxRecord)
	}
	var r Record
	if err := r.UnmarshalJSON(line); err != nil {
		return Record{}, err
	}
	again, err := r.MarshalJSON()
	if err != nil {
		return Record{}, err
	}
	if !bytes.Equal(again, line) {
		return Record{}, errors.New("evidence record: not in canonical form")
	}
	return r, nil
}

func checkSubject(s string) error {
	if s == "" || len(s) > maxSubject || !utf8.ValidString(s) {
		return fmt.Errorf("evidence subject %q: want 1 to %d bytes of UTF-8", s, maxSubject)
	}
	return nil
}

// seal makes the record that follows head. at is clamped by the caller.
func seal(r Record, signer Signer) (Record, error) {
	r.Key = Fingerprint(signer.Public())
	e := r.encoding()
	r.Hash = sha256.Sum256(e)
	signature, err := signer.Sign(e)
	if err != nil {
		return Record{}, fmt.Errorf("sign evidence record %d: %w", r.Sequence, err)
	}
	if len(signature) != ed25519.SignatureSize {
		return Record{}, fmt.Errorf("sign evidence record %d: signer gave %d bytes, want %d", r.Sequence, len(signature), ed25519.SignatureSize)
	}
	r.Signature = signature
	return r, nil
}
