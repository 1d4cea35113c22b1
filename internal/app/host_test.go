package app

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestTheHostDirectoryIsBesideTheStateWhereOthersReachIt(t *testing.T) {
	open, err := os.MkdirTemp("", "h-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(open) })
	for dir := open; dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&1 == 0 {
			if err := os.Chmod(dir, info.Mode().Perm()|0o111); err != nil {
				t.Skip(err)
			}
		}
	}
	if dir := HostDir(filepath.Join(open, "state/")); dir != filepath.Join(open, "state-host") {
		t.Errorf("beside an open one: %s", dir)
	}
	if dir := HostDir(filepath.Join(open, strings.Repeat("long", 20))); filepath.Dir(dir) != hostDirs {
		t.Errorf("with a name that is too long for sockets: %s", dir)
	}
	closed := filepath.Join(open, "closed %home$")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, state := range []string{"state", "st/ate", "st_ate", strings.Repeat("long/", 60) + "state"} {
		dir := HostDir(filepath.Join(closed, state))
		if filepath.Dir(dir) != hostDirs || !regexp.MustCompile(`^[0-9a-f]{12}$`).MatchString(filepath.Base(dir)) || seen[dir] {
			t.Errorf("in a closed one: %s", dir)
		}
		seen[dir] = true
	}
	// What an installation has already stays its own.
	if err := os.Mkdir(filepath.Join(closed, "old-host"), 0o711); err != nil {
		t.Fatal(err)
	}
	if dir := HostDir(filepath.Join(closed, "old")); dir != filepath.Join(closed, "old-host") {
		t.Errorf("one that is there: %s", dir)
	}
}
