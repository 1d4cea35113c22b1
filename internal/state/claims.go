package state

import "carrel/internal/ident"

// WorkspaceClaim is the name that a WorkSpace's record holds for its user, with the WorkSpace's id as owner: one WorkSpace a user
// and directory. CreateWorkspaces claims it, the transaction that deletes the record releases it.
func WorkspaceClaim(d ident.DirectoryID, userName string) string {
	return "workspace-user/" + UserKey(d, userName)
}
