package audit

import (
	"encoding/json"
	"fmt"

	"carrel/internal/evidence"
)

// Digest is the payload of an audit-digest record of the evidence log: a signed statement of how far the chain went.
// Because the chain links all records, a digest vouches for everything before it, so one that could not be written is made good
// by the next. The record's subject is the file.
type Digest struct {
	// File is the path of the file that holds the last record, relative to the audit directory.
	File string `json:"file"`
	// FileFirst is the sequence of that file's first record.
	FileFirst uint64 `json:"fileFirst"`
	// Sequence and Hash are the last record's.
	Sequence uint64        `json:"sequence"`
	Hash     evidence.Hash `json:"hash"`
	// Closed is true when the file was finished with this record.
	Closed bool `json:"closed"`
}

// ParseDigest reads the digest of an audit-digest record. It does not verify the record.
func ParseDigest(rec evidence.Record) (Digest, error) {
	var d Digest
	if rec.Kind != evidence.KindAuditDigest {
		return d, fmt.Errorf("evidence record %d is a %s, not a %s", rec.Sequence, rec.Kind, evidence.KindAuditDigest)
	}
	if err := json.Unmarshal(rec.Payload, &d); err != nil {
		return d, fmt.Errorf("evidence record %d: %w", rec.Sequence, err)
	}
	return d, nil
}
