package workspace

import (
	"strings"

	"carrel/internal/ident"
)

// computerName is the NetBIOS name, of at most 15 characters, by which a desktop is known in its directory: "WSAMZ-F9ABCDEFG". It holds all
// of the WorkSpace's id, so that no two desktops share a computer account.
func computerName(id ident.WorkspaceID) string {
	return "WSAMZ-" + strings.ToUpper(strings.TrimPrefix(string(id), "ws-"))
}
