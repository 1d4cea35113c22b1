package seal

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T, path string) *Key {
	t.Helper()
	k, err := Open(path, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestWhatIsSealedIsOpenedByItsKeyForItsRecordOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seal.key")
	k := open(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Size() != keyBytes {
		t.Errorf("%v, %v", info, err)
	}
	for _, secret := range []string{"", "Correct-Horse-7", "Pä\"ss\x00", strings.Repeat("x", 1000)} {
		sealed := k.Seal(secret, "d-1")
		if secret != "" && strings.Contains(sealed, secret) {
			t.Errorf("%q shows", secret)
		}
		if again := k.Seal(secret, "d-1"); again == sealed {
			t.Error("sealed twice alike")
		}
		// By the same key read again, as after a restart.
		if got, err := open(t, path).Unseal(sealed, "d-1"); err != nil || got != secret {
			t.Errorf("%q, %v", got, err)
		}
		changed := []byte(sealed)
		changed[len(changed)/2] ^= 1
		for what, err := range map[string]error{
			"another record": second(k.Unseal(sealed, "d-2")),
			"another key":    second(open(t, filepath.Join(dir, "other.key")).Unseal(sealed, "d-1")),
			"changed":        second(k.Unseal(string(changed), "d-1")),
			"cut off":        second(k.Unseal(sealed[:10], "d-1")),
			"clear text":     second(k.Unseal(secret, "d-1")),
		} {
			if !errors.Is(err, ErrSeal) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func second(_ string, err error) error { return err }

func TestAKeyThatIsNoneIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.key")
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, rand.Reader); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "short" {
		t.Error("it was replaced")
	}
}
