package workspace

import (
	"io"
	"strings"

	"carrel/internal/ident"
)

// newComputerName makes a NetBIOS name of 15 characters, the longest there is: "WSAMZN-1F0A93C7".
func newComputerName(r io.Reader) string { return "WSAMZN-" + strings.ToUpper(ident.Hex(r, 8)) }
