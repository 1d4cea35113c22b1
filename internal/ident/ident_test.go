package ident

import (
	"crypto/rand"
	"testing"
)

func TestIdsAreMadeAndReadBack(t *testing.T) {
	id := NewWorkspaceID(rand.Reader)
	if got, err := ParseWorkspaceID(string(id)); err != nil || got != id {
		t.Fatalf("ParseWorkspaceID(%q) = %q, %v", id, got, err)
	}
	for _, bad := range []string{"", "ws-", "ws-short", "ws-UPPERCASE1", "wsb-f9abcdefg", "ws-f9abcdefg\n", "ws-f9abcdéfg"} {
		if _, err := ParseWorkspaceID(bad); err == nil {
			t.Errorf("ParseWorkspaceID(%q) accepted it", bad)
		}
	}
	if d := NewDirectoryID(rand.Reader); len(d) != 12 {
		t.Errorf("directory id %q", d)
	}
	if k := NewAccessKeyID(rand.Reader); len(k) != 20 {
		t.Errorf("access key id %q", k)
	}
	if a := Digits(rand.Reader, 12); len(a) != 12 || a[0] == '0' {
		t.Errorf("account id %q", a)
	}
}

func TestUUIDIsVersion4(t *testing.T) {
	for range 64 {
		u := UUID(rand.Reader)
		if len(u) != 36 || u[14] != '4' || (u[19] != '8' && u[19] != '9' && u[19] != 'a' && u[19] != 'b') {
			t.Fatalf("not a version 4 UUID: %q", u)
		}
	}
}
