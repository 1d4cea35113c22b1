package directory

import (
	"crypto/rand"
	"testing"
)

func TestFirstPasswordsAreStrongAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		p, err := GeneratePassword(rand.Reader)
		if err != nil || len(p) != 19 || seen[p] {
			t.Fatalf("%q, %v", p, err)
		}
		seen[p] = true
	}
}
