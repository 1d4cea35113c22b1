package state

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
)

// A backup is lines of JSON: a head, one line an item, and a tail whose sum is the SHA-256 of all bytes before it. It does
// not depend on the kind of store it was taken from.
type (
	backupHead struct {
		Format   int      `json:"carrel-backup"`
		Revision Revision `json:"revision"`
	}
	backupItem struct {
		Table Table  `json:"t"`
		ID    string `json:"i"`
		Value []byte `json:"v"`
	}
	backupTail struct {
		Items int    `json:"items"`
		Sum   string `json:"sha256"`
	}
)

const (
	backupFormat = 1
	// backupLine bounds a line; etcd takes no value of more than 16 MiB.
	backupLine = 32 << 20
	// restoreItems and restoreBytes bound one transaction of Restore, below what an external etcd takes by default.
	restoreItems = 100
	restoreBytes = 1 << 20
	// restoringTable holds one item from the first transaction of Restore to the last, so that a store whose restore was
	// interrupted is never taken for a whole one.
	restoringTable Table = "restoring"
)

// ErrBackup is what errors about the content of a backup are, by errors.Is.
var ErrBackup = errors.New("state: not a whole backup")

// Backup writes all of a store, as of one revision, to w. It holds the secrets that the store holds.
func Backup(ctx context.Context, store Store, w io.Writer) (Revision, error) {
	items, rev, err := store.List(ctx)
	if err != nil {
		return 0, err
	}
	buf := bufio.NewWriter(w)
	sum := sha256.New()
	enc := json.NewEncoder(io.MultiWriter(buf, sum))
	if err := enc.Encode(backupHead{backupFormat, rev}); err != nil {
		return 0, err
	}
	for _, it := range items {
		if err := enc.Encode(backupItem{it.Key.Table, it.Key.ID, it.Value}); err != nil {
			return 0, err
		}
	}
	tail := backupTail{len(items), hex.EncodeToString(sum.Sum(nil))}
	if err := json.NewEncoder(buf).Encode(tail); err != nil {
		return 0, err
	}
	return rev, buf.Flush()
}

// Restore reads a backup to its end, and only when it is whole and every record in it can be read writes it to store,
// which must be empty. It gives the number of items. A store whose restore was interrupted is refused by Open.
func Restore(ctx context.Context, store Store, r io.Reader) (int, error) {
	items, err := readBackup(r)
	if err != nil {
		return 0, err
	}
	views := map[Table]anyView{}
	for _, d := range definitions() {
		views[d.table()] = d.view()
	}
	for _, it := range items {
		v, ok := views[it.Key.Table]
		if !ok {
			return 0, fmt.Errorf("%w: this version of carrel has no table %q", ErrBackup, it.Key.Table)
		}
		if err := put(v, it); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrBackup, err)
		}
	}
	existing, _, err := store.List(ctx)
	if err != nil {
		return 0, err
	}
	if len(existing) > 0 {
		return 0, fmt.Errorf("state: a backup is restored into an empty store only; this one holds %d items", len(existing))
	}
	return len(items), writeBackup(ctx, store, items)
}

func writeBackup(ctx context.Context, store Store, items []Item) error {
	marker := Key{restoringTable, "this"}
	txn := Txn{Checks: []Check{{Key: marker}}, Puts: []Write{{Key: marker, Value: []byte("{}")}}}
	size := 0
	for _, it := range items {
		if len(txn.Puts) == restoreItems || size > restoreBytes {
			if _, err := store.Transact(ctx, txn); err != nil {
				return fmt.Errorf("state: restoring: %w", err)
			}
			txn, size = Txn{}, 0
		}
		txn.Puts = append(txn.Puts, Write{it.Key, it.Value})
		size += len(it.Value)
	}
	if _, err := store.Transact(ctx, txn); err != nil {
		return fmt.Errorf("state: restoring: %w", err)
	}
	_, err := store.Transact(ctx, Txn{Deletes: []Key{marker}})
	return err
}

// readBackup gives the items of a backup whose sum is right.
func readBackup(r io.Reader) ([]Item, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, backupLine)
	sum := sha256.New()
	var head backupHead
	if !lines.Scan() || strictly(lines.Bytes(), &head) != nil || head.Format == 0 {
		return nil, errors.Join(fmt.Errorf("%w: it does not begin as one", ErrBackup), lines.Err())
	}
	if head.Format != backupFormat {
		return nil, fmt.Errorf("%w: it has format %d, this version of carrel reads %d", ErrBackup, head.Format, backupFormat)
	}
	addLine(sum, lines.Bytes())
	var items []Item
	seen := map[Key]struct{}{}
	for lines.Scan() {
		var tail backupTail
		if strictly(lines.Bytes(), &tail) == nil {
			return items, checkTail(tail, len(items), sum, lines)
		}
		var it backupItem
		if err := strictly(lines.Bytes(), &it); err != nil {
			return nil, fmt.Errorf("%w: item %d: %w", ErrBackup, len(items)+1, err)
		}
		key := Key{it.Table, it.ID}
		if _, twice := seen[key]; twice || key.validate(false) != nil {
			return nil, fmt.Errorf("%w: item %d has no key or another one's", ErrBackup, len(items)+1)
		}
		seen[key] = struct{}{}
		items = append(items, Item{Key: key, Value: it.Value})
		addLine(sum, lines.Bytes())
	}
	return nil, errors.Join(fmt.Errorf("%w: it ends early", ErrBackup), lines.Err())
}

func checkTail(tail backupTail, items int, sum hash.Hash, lines *bufio.Scanner) error {
	if tail.Items != items || tail.Sum != hex.EncodeToString(sum.Sum(nil)) {
		return fmt.Errorf("%w: its checksum is not that of its content", ErrBackup)
	}
	if lines.Scan() {
		return fmt.Errorf("%w: it goes on after its end", ErrBackup)
	}
	return lines.Err()
}

func addLine(sum hash.Hash, line []byte) {
	sum.Write(line)
	sum.Write([]byte{'\n'})
}

// strictly decodes one JSON value that has no field v does not have.
func strictly(line []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}
