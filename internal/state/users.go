package state

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"carrel/internal/ident"
)

// userMark is how many characters of a WorkSpace's id stand for its user: 36^4 marks are so many that WorkSpaces written in the same
// moment seldom share one, and the 36^5 ids of each are so many that a user's next WorkSpace gets an id nobody has had.
const userMark = 4

// NewUserWorkspaceID makes the id of a user's WorkSpace, and sees to it that the user has no other: *ClaimedError when one is there.
//
// Nothing but the id is stored for it. Ids of one user's WorkSpaces begin alike, and the transaction is guarded against every write below
// that beginning since its snapshot: of two transactions that make a WorkSpace for one user, on any nodes, the store applies one, and the
// other runs again and finds it.
func NewUserWorkspaceID(tx *Tx, r io.Reader, d ident.DirectoryID, userName string) (ident.WorkspaceID, error) {
	user := UserKey(d, userName)
	if owner, taken := tx.workspaceOf(user); taken {
		return "", &ClaimedError{Name: user, Owner: owner}
	}
	prefix := workspacePrefix(user)
	tx.Guard(WorkspaceTable, prefix)
	for {
		drawn := string(ident.NewWorkspaceID(r))
		if id := prefix + drawn[len(prefix):]; !Has(tx, Workspaces, id) {
			return ident.WorkspaceID(id), nil
		}
	}
}

// workspaceOf finds the user's WorkSpace as it will be after the transaction.
func (tx *Tx) workspaceOf(user string) (id string, ok bool) {
	for w := range AllBy(tx, Workspaces, WorkspacesByUser, user) {
		if _, again := tx.written(Key{WorkspaceTable, string(w.ID)}); !again {
			return string(w.ID), true
		}
	}
	for _, k := range tx.order {
		if w, _ := tx.writes[k].rec.(*Workspace); w != nil && UserKey(w.Spec.DirectoryID, w.Spec.UserName) == user {
			return k.ID, true
		}
	}
	return "", false
}

// workspacePrefix is how the ids of a user's WorkSpaces begin ("ws-1f0a"). It says nothing to those who do not know the user's name, and
// those who do can ask for the WorkSpace.
func workspacePrefix(user string) string {
	const marks = 36 * 36 * 36 * 36
	h := sha256.Sum256([]byte("workspace of " + user))
	mark := strconv.FormatUint(binary.BigEndian.Uint64(h[:])%marks, 36)
	return fmt.Sprintf("ws-%s%s", strings.Repeat("0", userMark-len(mark)), mark)
}
