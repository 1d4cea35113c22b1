package ident

import (
	"bytes"
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
	var random [32]byte
	for i := range random {
		random[i] = byte(i * 17)
	}
	if u := UUID(bytes.NewReader(random[:])); u != "01234567-89ab-4def-8123-456789abcdef" {
		t.Errorf("%q", u)
	}
	for range 64 {
		u := UUID(rand.Reader)
		if len(u) != 36 || u[14] != '4' || (u[19] != '8' && u[19] != '9' && u[19] != 'a' && u[19] != 'b') {
			t.Fatalf("not a version 4 UUID: %q", u)
		}
	}
}

func TestASessionKeyNamesItsAccount(t *testing.T) {
	for _, account := range []string{"123456789012", "000000000001", "999999999999"} {
		a, b := NewSessionKeyOf(rand.Reader, account), NewSessionKeyOf(rand.Reader, account)
		if got, ok := a.Account(); !ok || got != account || a == b {
			t.Errorf("%s and %s name %s, %t", a, b, got, ok)
		}
		if _, err := ParseSessionKeyID(string(a)); err != nil {
			t.Error(err)
		}
	}
	t.Run("as AWS's do", func(t *testing.T) {
		if got, ok := SessionKeyID("ASIAQNZGKIQY56JQ7WML").Account(); !ok || got != "029608264753" {
			t.Error(got, ok)
		}
	})
	for _, none := range []SessionKeyID{"", "ASIA", "ASIAAAAAAAAAAAAAAAAA", "ASIA7777777777777777", "AKIAQNZGKIQY56JQ7WML", "ASIAIOSFODNN7EXAMPLE"} {
		if got, ok := none.Account(); ok {
			t.Errorf("%q names %s", none, got)
		}
	}
	t.Run("what is not an account has none", func(t *testing.T) {
		defer func() {
			if recover() == nil {
				t.Error("a key was made")
			}
		}()
		NewSessionKeyOf(rand.Reader, "ada")
	})
}
