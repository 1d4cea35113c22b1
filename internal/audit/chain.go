package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"carrel/internal/evidence"
)

const (
	domain = "carrel-audit-v1\x00"
	// maxLine bounds what a reader holds of one line: two documents at their limit, escaped, and the rest.
	maxLine = 2 << 20

	linePrefix   = `{"chain":{"sequence":`
	linePrevious = `,"previous":"`
	lineHash     = `","hash":"`
	lineRecord   = `"},"record":`
)

// link is the chain part of a line.
type link struct {
	sequence       uint64
	previous, hash evidence.Hash
}

// hashRecord is the hash of the package comment.
func hashRecord(sequence uint64, previous evidence.Hash, record []byte) evidence.Hash {
	h := hashers.Get().(*hasher)
	defer hashers.Put(h)
	n := copy(h.head[:], domain)
	binary.BigEndian.PutUint64(h.head[n:], sequence)
	copy(h.head[n+8:], previous[:])
	h.sha.Reset()
	h.sha.Write(h.head[:])
	h.sha.Write(record)
	h.sha.Sum(h.sum[:0])
	return h.sum
}

// hasher is the memory that hashing a record takes.
type hasher struct {
	sha  hash.Hash
	head [len(domain) + 8 + sha256.Size]byte
	sum  evidence.Hash
}

var hashers = sync.Pool{New: func() any { return &hasher{sha: sha256.New()} }}

// appendLine appends the line of a record to b and gives its link.
func appendLine(b []byte, sequence uint64, previous evidence.Hash, record []byte) ([]byte, link) {
	l := link{sequence: sequence, previous: previous, hash: hashRecord(sequence, previous, record)}
	b = append(b, linePrefix...)
	b = strconv.AppendUint(b, sequence, 10)
	b = append(b, linePrevious...)
	b = hex.AppendEncode(b, previous[:])
	b = append(b, lineHash...)
	b = hex.AppendEncode(b, l.hash[:])
	b = append(b, lineRecord...)
	b = append(b, record...)
	return append(b, '}', '\n'), l
}

// parseLine reads a line without its line feed. It accepts the one spelling that appendLine writes. It checks no hash.
func parseLine(line []byte) (link, []byte, error) {
	var l link
	rest, ok := bytes.CutPrefix(line, []byte(linePrefix))
	i := bytes.IndexByte(rest, ',')
	if !ok || i < 1 {
		return l, nil, errors.New("not a chained record")
	}
	n, err := strconv.ParseUint(string(rest[:i]), 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != string(rest[:i]) {
		return l, nil, errors.New("the sequence is not a number")
	}
	l.sequence, rest = n, rest[i:]
	if l.previous, rest, err = cutHash(rest, linePrevious); err != nil {
		return l, nil, err
	}
	if l.hash, rest, err = cutHash(rest, lineHash); err != nil {
		return l, nil, err
	}
	record, ok := bytes.CutPrefix(rest, []byte(lineRecord))
	if record, end := bytes.CutSuffix(record, []byte("}")); ok && end && len(record) > 0 && record[0] == '{' && json.Valid(record) {
		return l, record, nil
	}
	return l, nil, errors.New("the record is not a JSON object")
}

func cutHash(b []byte, prefix string) (evidence.Hash, []byte, error) {
	rest, ok := bytes.CutPrefix(b, []byte(prefix))
	if !ok || len(rest) < 2*sha256.Size {
		return evidence.Hash{}, nil, errors.New("a hash is missing")
	}
	h, err := evidence.ParseHash(string(rest[:2*sha256.Size]))
	return h, rest[2*sha256.Size:], err
}

// segment is one file of the chain.
type segment struct {
	// path is relative to the directory, with slashes.
	path string
	// first is the sequence of its first record, from its name; day the directory's.
	first uint64
	day   string
}

var segmentName = regexp.MustCompile(`^(\d{4}/\d{2}/\d{2})/(\d{20})\.jsonl$`)

func parseSegment(path string) (segment, bool) {
	m := segmentName.FindStringSubmatch(path)
	if m == nil {
		return segment{}, false
	}
	first, err := strconv.ParseUint(m[2], 10, 64)
	return segment{path: path, first: first, day: m[1]}, err == nil
}

// segments lists the files of a directory in the order of the chain. Other files are somebody else's and stay out of it.
func segments(dir string) ([]segment, error) {
	var all []segment
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if s, ok := parseSegment(filepath.ToSlash(name)); ok && d.Type().IsRegular() {
			all = append(all, s)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list audit files: %w", err)
	}
	slices.SortFunc(all, func(a, b segment) int {
		if a.first != b.first {
			if a.first < b.first {
				return -1
			}
			return 1
		}
		return strings.Compare(a.path, b.path)
	})
	return all, nil
}

// lineBefore reads the line that ends at end (behind its line feed) and gives where it starts.
func lineBefore(r io.ReaderAt, end int64) ([]byte, int64, error) {
	start, err := evidence.LineStart(r, end-1)
	if err != nil {
		return nil, 0, err
	}
	if end-start > maxLine {
		return nil, 0, fmt.Errorf("line longer than %d bytes", maxLine)
	}
	line := make([]byte, end-1-start)
	if _, err := r.ReadAt(line, start); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	return line, start, nil
}

// openSegment opens a file of the chain for reading and gives its size.
func openSegment(dir, path string) (*os.File, int64, error) {
	f, err := os.Open(filepath.Join(dir, filepath.FromSlash(path)))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}
