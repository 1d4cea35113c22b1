// Package webui embeds the web assets of the people's door: the portal's pages and, when web/portal/assets has put it beside them before
// the build, noVNC. Without noVNC everything works but the view of a desktop, which says what is missing.
//
// It refuses to hold logic: pages are static files.
package webui

import (
	"embed"
	"io/fs"
)

//go:embed static
var static embed.FS

// Pages are the files served at the portal door's root.
func Pages() fs.FS {
	sub, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // The directory is embedded above.
	}
	return sub
}
