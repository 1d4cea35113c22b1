package audit

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"

	"carrel/internal/evidence"
)

// Problem says what is wrong with an audit record.
type Problem string

// The problems that Verify tells apart.
const (
	// Malformed: the line is not a chained record.
	Malformed Problem = "malformed"
	// Torn: the last line has no line feed: a write that a crash cut short, or an edited file.
	Torn Problem = "torn"
	// MissingFile: the file's name does not go on where the file before ended.
	MissingFile Problem = "missing file"
	// Misplaced: the file's first record is not the one in its name, its day is before the day of the file before, or a signed digest knows its
	// records in another file: files were swapped, renamed or moved.
	Misplaced Problem = "misplaced file"
	// SequenceGap: lines are missing, repeated or swapped.
	SequenceGap Problem = "sequence gap"
	// WrongPrevious: the chain link does not name the record before.
	WrongPrevious Problem = "wrong previous hash"
	// WrongHash: the record does not have the hash it claims: it was edited.
	WrongHash Problem = "wrong hash"
	// WrongDigest: the chain is whole in itself, but not the one that was signed: somewhere between the last good digest and
	// this one, records were rewritten. File and Line are the first record after the last good digest.
	WrongDigest Problem = "not the signed chain"
	// Truncated: the records end before the last signed digest.
	Truncated Problem = "truncated"
)

// Fault is the first bad place of the audit files. It is an error.
type Fault struct {
	// File is relative to the directory; Line counts from 1.
	File string
	Line int
	// Sequence is the one the record should have.
	Sequence uint64
	Problem  Problem
	Detail   string
}

// Error names the place and the problem.
func (f *Fault) Error() string {
	if f.File == "" {
		return fmt.Sprintf("audit log without a file, record %d: %s: %s", f.Sequence, f.Problem, f.Detail)
	}
	return fmt.Sprintf("audit file %s line %d, record %d: %s: %s", f.File, f.Line, f.Sequence, f.Problem, f.Detail)
}

// Report is what Verify saw up to the first fault.
type Report struct {
	// Files and Records that are good.
	Files   int
	Records uint64
	// Digests is how many signed digests agree with the records.
	Digests int
	// Unsigned is how many records at the end stand behind the last digest: the chain holds them, no signature does.
	Unsigned uint64
	// Head is the last good record's sequence and hash.
	Head evidence.Head
	// TornBytes is the length of an incomplete last line (only when Live).
	TornBytes int64
	// Evidence is the report on the evidence log.
	Evidence evidence.Report
}

// Source is what Verify reads.
type Source struct {
	// Dir is the audit directory.
	Dir string
	// Evidence is the evidence log that holds the digests, from its beginning.
	Evidence io.Reader
	// Head is a head of the evidence log known from elsewhere, or nil: see evidence.Options.
	Head *evidence.Head
	// Live allows both logs to end in an incomplete line, because a process may be writing them.
	Live bool
}

// Verify checks the evidence log with the public key alone, then all audit files in order: the chain in and across files, and the
// chain against each signed digest. The first bad place is a *Fault, or an *evidence.Fault when it is in the evidence log; other
// errors are those of reading.
func Verify(src Source, pub ed25519.PublicKey) (Report, error) {
	var report Report
	v := verifier{report: &report, live: src.Live}
	// The audit files may grow while the evidence is read: they are listed after it, so that no digest is ahead of them.
	signed, err := evidence.Verify(src.Evidence, pub, evidence.Options{Head: src.Head, Live: src.Live, Each: v.collect})
	report.Evidence = signed
	if err != nil {
		return report, fmt.Errorf("digests of the audit files: %w", err)
	}
	all, err := segments(src.Dir)
	if err != nil {
		return report, err
	}
	for i, s := range all {
		if err := v.segment(src.Dir, s, i == len(all)-1); err != nil {
			return report, err
		}
	}
	return report, v.end()
}

// place is where a record stands.
type place struct {
	file string
	line int
}

type verifier struct {
	report  *Report
	live    bool
	digests []Digest
	at      place
	// day is the last file's.
	day string
	// since is the first record behind the last good digest.
	since    place
	sinceSeq uint64
}

func (v *verifier) collect(rec evidence.Record) error {
	if rec.Kind != evidence.KindAuditDigest {
		return nil
	}
	d, err := ParseDigest(rec)
	if err != nil {
		return err
	}
	if n := len(v.digests); n > 0 && v.digests[n-1].Sequence >= d.Sequence {
		return fmt.Errorf("audit digest in evidence record %d goes back to record %d", rec.Sequence, d.Sequence)
	}
	v.digests = append(v.digests, d)
	return nil
}

func (v *verifier) fault(p Problem, format string, args ...any) *Fault {
	return &Fault{File: v.at.file, Line: v.at.line, Sequence: v.report.Records + 1, Problem: p, Detail: fmt.Sprintf(format, args...)}
}

func (v *verifier) segment(dir string, s segment, last bool) error {
	v.at = place{file: s.path, line: 1}
	if s.first != v.report.Records+1 {
		return v.fault(MissingFile, "its name begins with record %d, the one before ended with %d", s.first, v.report.Records)
	}
	if s.day < v.day {
		return v.fault(Misplaced, "the file before it is of the later day %s", v.day)
	}
	v.day = s.day
	f, _, err := openSegment(dir, s.path)
	if err != nil {
		return fmt.Errorf("verify audit file %s: %w", s.path, err)
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewReaderSize(f, 64<<10)
	for ; ; v.at.line++ {
		line, err := readLine(in)
		switch {
		case errors.Is(err, errLong):
			return v.fault(Malformed, "%v", err)
		case errors.Is(err, io.EOF):
			if len(line) > 0 && (!last || !v.live) {
				return v.fault(Torn, "%d bytes without a line feed", len(line))
			}
			v.report.TornBytes = int64(len(line))
			v.report.Files++
			return nil
		case err != nil:
			return fmt.Errorf("verify audit file %s: %w", s.path, err)
		}
		if err := v.line(line); err != nil {
			return err
		}
	}
}

func (v *verifier) line(line []byte) error {
	head := v.report.Head
	l, record, err := parseLine(line)
	if err != nil {
		return v.fault(Malformed, "%v", err)
	}
	if l.sequence != head.Sequence+1 {
		if v.at.line == 1 {
			return v.fault(Misplaced, "begins with record %d", l.sequence)
		}
		return v.fault(SequenceGap, "record %d follows %d", l.sequence, head.Sequence)
	}
	if l.previous != head.Hash {
		return v.fault(WrongPrevious, "names %s, the record before is %s", l.previous, head.Hash)
	}
	if sum := hashRecord(l.sequence, l.previous, record); sum != l.hash {
		return v.fault(WrongHash, "content has %s, record claims %s", sum, l.hash)
	}
	if v.sinceSeq == 0 {
		v.since, v.sinceSeq = v.at, l.sequence
	}
	if len(v.digests) > 0 && v.digests[0].Sequence == l.sequence {
		d := v.digests[0]
		if d.Hash != l.hash {
			return &Fault{File: v.since.file, Line: v.since.line, Sequence: v.sinceSeq, Problem: WrongDigest,
				Detail: fmt.Sprintf("records %d to %d are not the signed ones: hash %s, digest %s", v.sinceSeq, l.sequence, l.hash, d.Hash)}
		}
		if d.File != v.at.file {
			return v.fault(Misplaced, "a signed digest knows record %d in the file %s", l.sequence, d.File)
		}
		v.digests, v.sinceSeq = v.digests[1:], 0
		v.report.Digests++
		v.report.Unsigned = 0
	} else {
		v.report.Unsigned++
	}
	v.report.Records = l.sequence
	v.report.Head = evidence.Head{Sequence: l.sequence, Hash: l.hash}
	return nil
}

func (v *verifier) end() error {
	if len(v.digests) == 0 {
		return nil
	}
	d := v.digests[len(v.digests)-1]
	return v.fault(Truncated, "the records end at %d, a signed digest knows %d (%s)", v.report.Records, d.Sequence, d.File)
}

var errLong = fmt.Errorf("line longer than %d bytes", maxLine)

// readLine gives a line without its line feed, or what is left and io.EOF. It holds no more than maxLine bytes: the file may be an
// attacker's. The line is valid until the next call.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	long := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = in.ReadSlice('\n')
		if long = append(long, line...); len(long) > maxLine {
			return nil, errLong
		}
	}
	if err != nil {
		return long, err
	}
	return long[:len(long)-1], nil
}
