package evidence

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Problem says what is wrong with a record.
type Problem string

// The problems that Verify tells apart, in the order in which it looks for them.
const (
	// Malformed: the line is not a record in canonical form.
	Malformed Problem = "malformed"
	// Torn: the last line has no line feed: a write that a crash cut short, or an edited file.
	Torn Problem = "torn"
	// WrongKey: signed by another key than the verifier's.
	WrongKey Problem = "wrong key"
	// SequenceGap: the sequence is not one more than the one before: lines are missing, repeated or swapped.
	SequenceGap Problem = "sequence gap"
	// WrongPrevious: the chain link does not name the record before.
	WrongPrevious Problem = "wrong previous hash"
	// WrongHash: the content does not have the hash it claims: it was edited.
	WrongHash Problem = "wrong hash"
	// WrongSignature: the hash is right and the signature is not: it was made without the key.
	WrongSignature Problem = "wrong signature"
	// TimeBack: the record is older than the one before.
	TimeBack Problem = "time going back"
	// WrongHead: the record at the expected head's sequence is another one.
	WrongHead Problem = "wrong head"
	// Truncated: the log ends before the expected head.
	Truncated Problem = "truncated"
)

// Fault is the first bad record of a log. It is an error.
type Fault struct {
	// Line counts from 1; Offset is that line's first byte in the file. Both are 0 for a record verified alone.
	Line   int
	Offset int64
	// Sequence is the one the record should have (its own for a record verified alone).
	Sequence uint64
	Problem  Problem
	Detail   string
}

// Error names the place and the problem.
func (f *Fault) Error() string {
	if f.Line == 0 {
		return fmt.Sprintf("evidence record %d: %s: %s", f.Sequence, f.Problem, f.Detail)
	}
	return fmt.Sprintf("evidence line %d (byte %d), record %d: %s: %s", f.Line, f.Offset, f.Sequence, f.Problem, f.Detail)
}

// Options of Verify; the zero value is the strict one.
type Options struct {
	// Head is a head known from elsewhere; the log must contain it. nil leaves a cut-off tail unnoticed.
	Head *Head
	// Live allows the last line to be incomplete, because a process may be writing it: it is then only counted in Report.TornBytes.
	Live bool
	// Each sees every good record in order, before the verdict on the whole; an error of its own ends the verification.
	Each func(Record) error
}

// Report is what Verify saw up to the first fault.
type Report struct {
	// Records is how many good records stand before the first fault, or in all.
	Records uint64
	// Head is the last good record's.
	Head Head
	// First and Last are the times of the first and last good record.
	First, Last time.Time
	// Kinds counts good records by kind.
	Kinds map[Kind]uint64
	// Simulated counts scrub certificates that prove nothing because no memory existed.
	Simulated uint64
	// TornBytes is the length of an incomplete last line (only with Options.Live).
	TornBytes int64
}

// Verify reads a whole log and checks it with the public key alone. A log with anything wrong gives the report up to there and a
// *Fault that names the first bad record; other errors are those of r and of opts.Each.
func Verify(r io.Reader, pub ed25519.PublicKey, opts Options) (Report, error) {
	report := Report{Kinds: map[Kind]uint64{}}
	if len(pub) != ed25519.PublicKeySize {
		return report, errors.New("verify evidence: public key is not 32 bytes")
	}
	v := verifier{pub: pub, opts: opts, report: &report}
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(in)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errLong) {
			return report, fmt.Errorf("verify evidence: %w", err)
		}
		if errors.Is(err, io.EOF) {
			if len(line) > 0 && !opts.Live {
				return report, v.fault(Torn, fmt.Sprintf("%d bytes without a line feed", len(line)))
			}
			report.TornBytes = int64(len(line))
			return report, v.end()
		}
		if errors.Is(err, errLong) {
			return report, v.fault(Malformed, err.Error())
		}
		if err := v.line(line); err != nil {
			return report, err
		}
	}
}

var errLong = fmt.Errorf("line longer than %d bytes", MaxRecord)

// readLine gives a line without its line feed, or what is left and io.EOF. It holds no more than MaxRecord bytes: the file may be
// an attacker's.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > MaxRecord {
			return nil, errLong
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return line, err
		}
		return line[:len(line)-1], nil
	}
}

type verifier struct {
	pub    ed25519.PublicKey
	opts   Options
	report *Report
	lines  int
	offset int64
	seen   bool
}

func (v *verifier) fault(p Problem, detail string) *Fault {
	return &Fault{Line: v.lines + 1, Offset: v.offset, Sequence: v.report.Records + 1, Problem: p, Detail: detail}
}

func (v *verifier) line(line []byte) error {
	rec, err := ParseRecord(line)
	if err != nil {
		return v.fault(Malformed, err.Error())
	}
	if problem, detail := v.check(&rec); problem != "" {
		return v.fault(problem, detail)
	}
	v.count(&rec)
	v.lines++
	v.offset += int64(len(line)) + 1
	if v.opts.Each != nil {
		return v.opts.Each(rec)
	}
	return nil
}

func (v *verifier) check(rec *Record) (Problem, string) {
	head := v.report.Head
	if rec.Key != Fingerprint(v.pub) {
		return WrongKey, fmt.Sprintf("signed by %s, verifying with %s", rec.Key, Fingerprint(v.pub))
	}
	if rec.Sequence != head.Sequence+1 {
		return SequenceGap, fmt.Sprintf("sequence %d follows %d", rec.Sequence, head.Sequence)
	}
	if rec.Previous != head.Hash {
		return WrongPrevious, fmt.Sprintf("names %s, the record before is %s", rec.Previous, head.Hash)
	}
	if problem, detail := checkSeal(rec, v.pub); problem != "" {
		return problem, detail
	}
	if rec.Time.Before(v.report.Last) {
		return TimeBack, fmt.Sprintf("%s follows %s", rec.Time.Format(timeLayout), v.report.Last.Format(timeLayout))
	}
	if want := v.opts.Head; want != nil && want.Sequence == rec.Sequence {
		if want.Hash != rec.Hash {
			return WrongHead, fmt.Sprintf("hash %s, expected %s", rec.Hash, want.Hash)
		}
		v.seen = true
	}
	return "", ""
}

func (v *verifier) count(rec *Record) {
	if v.report.Records == 0 {
		v.report.First = rec.Time
	}
	v.report.Records++
	v.report.Last = rec.Time
	v.report.Head = rec.Head()
	v.report.Kinds[rec.Kind]++
	if rec.Kind == KindScrub {
		var c struct {
			Simulated bool `json:"simulated"`
		}
		if json.Unmarshal(rec.Payload, &c) == nil && c.Simulated {
			v.report.Simulated++
		}
	}
}

func (v *verifier) end() error {
	if want := v.opts.Head; want != nil && !v.seen && want.Sequence > 0 {
		return v.fault(Truncated, fmt.Sprintf("the log ends at record %d, head %s is expected", v.report.Records, want))
	}
	return nil
}

func checkSeal(rec *Record, pub ed25519.PublicKey) (Problem, string) {
	e := rec.encoding()
	if sum := Hash(sha256.Sum256(e)); !bytes.Equal(sum[:], rec.Hash[:]) {
		return WrongHash, fmt.Sprintf("content has %s, record claims %s", sum, rec.Hash)
	}
	if !ed25519.Verify(pub, e, rec.Signature) {
		return WrongSignature, "not a signature of this key over this record"
	}
	return "", ""
}

// VerifyRecord checks one record alone: its key, hash and signature. Its place in a chain is not proven by that.
// A bad record gives a *Fault.
func VerifyRecord(rec Record, pub ed25519.PublicKey) error {
	if len(pub) != ed25519.PublicKeySize {
		return errors.New("verify evidence: public key is not 32 bytes")
	}
	if rec.Key != Fingerprint(pub) {
		return &Fault{Sequence: rec.Sequence, Problem: WrongKey, Detail: fmt.Sprintf("signed by %s, verifying with %s", rec.Key, Fingerprint(pub))}
	}
	if problem, detail := checkSeal(&rec, pub); problem != "" {
		return &Fault{Sequence: rec.Sequence, Problem: problem, Detail: detail}
	}
	return nil
}

const proofFormat = "carrel-evidence-proof-v1"

// Proof is one record to hand out: a file that VerifyRecord can check without the log.
type Proof struct {
	// Format is "carrel-evidence-proof-v1".
	Format string `json:"format"`
	// PublicKeyFingerprint tells which public key to verify with. It is a hint: trust comes from the verifier's own copy of the key.
	PublicKeyFingerprint Hash   `json:"publicKeyFingerprint"`
	Record               Record `json:"record"`
}

// NewProof wraps a record.
func NewProof(rec Record) Proof {
	return Proof{Format: proofFormat, PublicKeyFingerprint: rec.Key, Record: rec}
}

// ParseProof reads a proof in any JSON spelling; it checks its form only.
func ParseProof(data []byte) (Proof, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var p Proof
	if err := dec.Decode(&p); err != nil {
		return Proof{}, fmt.Errorf("evidence proof: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Proof{}, errors.New("evidence proof: more than one JSON value")
	}
	if p.Format != proofFormat {
		return Proof{}, fmt.Errorf("evidence proof: format %q, want %q", p.Format, proofFormat)
	}
	if p.PublicKeyFingerprint != p.Record.Key {
		return Proof{}, errors.New("evidence proof: fingerprint is not that of its record")
	}
	return p, nil
}

// Verify checks the record with the verifier's own public key.
func (p Proof) Verify(pub ed25519.PublicKey) error { return VerifyRecord(p.Record, pub) }
