// Package evidence holds hash-chained, signed records: scrub certificates, digests of the audit files, and whatever else must
// be provable later to somebody who trusts nothing but a public key.
//
// It refuses to interpret what it signs (a payload is canonical JSON of its caller's), to hold secrets in payloads, and to repair
// anything but the unacknowledged tail of a crash.
//
// # Format, for verifiers that are not this code
//
// A log is a text file. Each line is one record, a JSON object without insignificant white space, with exactly these members in
// this order, ended by one line feed:
//
//	{"sequence":1,"time":"2026-11-23T10:00:00.000000000Z","kind":"scrub-certificate","subject":"ws-f9abcdefg",
//	 "payload":{...},"previous":"<64 hex>","key":"<64 hex>","hash":"<64 hex>","signature":"<88 base64>"}
//
// sequence starts at 1 and grows by one. time is UTC, RFC 3339 with nine fraction digits, and never smaller than the record before.
// previous is the hash of the record before; of the first record it is 64 zeros. key is the SHA-256 of the raw 32-byte Ed25519
// public key, in lower-case hex like all hashes. payload is canonical JSON: members sorted by name, no white space.
//
// The encoding E of a record is the concatenation of
//
//	"carrel-evidence-v1\x00"        19 bytes, so that no signature of ours can be taken for one over something else
//	sequence                        8 bytes, big endian
//	time, kind, subject, payload    each: length in 4 bytes, big endian, then the bytes (UTF-8, JSON escapes of the subject undone;
//	                                the payload byte by byte as it stands in the line)
//	previous                        32 raw bytes
//	key                             32 raw bytes
//
// hash is SHA-256(E). signature is the pure Ed25519 signature (RFC 8032) over E, in padded standard base64 (RFC 4648).
//
// # What the chain cannot know
//
// Whoever can write the file can cut records off its end and leave a shorter, valid log. A verifier notices when it knows a later
// head (sequence and hash, see Head): keep heads where the host cannot reach them, and pass the newest to Verify.
package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind says what a record's payload is: lower-case letters, digits and hyphens, at most 64 (`scrub-certificate`).
type Kind string

// The kinds that Carrel writes.
const (
	KindScrub       Kind = "scrub-certificate"
	KindAuditDigest Kind = "audit-digest"
)

// ParseKind checks a kind (`audit-digest`).
func ParseKind(s string) (Kind, error) {
	if s == "" || len(s) > 64 {
		return "", fmt.Errorf("evidence kind %q: want 1 to 64 characters", s)
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return "", fmt.Errorf("evidence kind %q: want a-z, 0-9 and hyphen", s)
		}
	}
	return Kind(s), nil
}

// Hash is a SHA-256 digest; in text 64 lower-case hex digits.
type Hash [sha256.Size]byte

// ParseHash reads 64 lower-case hex digits. Upper case is refused: every hash has one spelling.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*len(h) || strings.ToLower(s) != s {
		return Hash{}, errors.New("hash: want 64 lower-case hex digits")
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("hash: %w", err)
	}
	return h, nil
}

// String is the 64 hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText is String.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText is ParseHash.
func (h *Hash) UnmarshalText(text []byte) error {
	parsed, err := ParseHash(string(text))
	if err == nil {
		*h = parsed
	}
	return err
}

// Record is one signed entry of a log. The package comment tells how it is encoded.
type Record struct {
	Sequence uint64
	// Time is UTC.
	Time time.Time
	Kind Kind
	// Subject is what the record is about (a WorkSpace id, a file name), for look-ups: at most 256 bytes.
	Subject string
	// Payload is canonical JSON.
	Payload json.RawMessage
	// Previous is the hash of the record before, zero for the first.
	Previous Hash
	// Key is the fingerprint of the signer's public key.
	Key  Hash
	Hash Hash
	// Signature is 64 bytes of Ed25519.
	Signature []byte
}

// Head names the end of a chain: the last record's sequence and hash. The zero Head is that of an empty log.
// In text `12:<64 hex>`.
type Head struct {
	Sequence uint64
	Hash     Hash
}

// ParseHead reads `12:<64 hex>`.
func ParseHead(s string) (Head, error) {
	number, text, ok := strings.Cut(s, ":")
	if !ok {
		return Head{}, fmt.Errorf("evidence head %q: want sequence:hash", s)
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return Head{}, fmt.Errorf("evidence head %q: %w", s, err)
	}
	hash, err := ParseHash(text)
	if err != nil {
		return Head{}, fmt.Errorf("evidence head %q: %w", s, err)
	}
	return Head{Sequence: n, Hash: hash}, nil
}

// String is `12:<64 hex>`.
func (h Head) String() string { return strconv.FormatUint(h.Sequence, 10) + ":" + h.Hash.String() }

// Head is the chain's head when r is its last record.
func (r *Record) Head() Head { return Head{Sequence: r.Sequence, Hash: r.Hash} }
