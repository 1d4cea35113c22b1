package state

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// whole decodes a value as the DB does, and as it would without the short way.
func whole[T any](t *testing.T, d *Definition[T], id, value string) {
	t.Helper()
	it := Item{Key: Key{d.Table, id}, Value: []byte(value), Revision: 7}
	long := *d
	long.plain = nil
	got, gotErr := d.decode(it)
	want, wantErr := long.decode(it)
	if (gotErr == nil) != (wantErr == nil) || gotErr != nil && gotErr.Error() != wantErr.Error() {
		t.Errorf("%s\nends with %v, strictly with %v", value, gotErr, wantErr)
		return
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s\n-strictly +plainly\n%s", value, d)
	}
}

// everyDamage runs whole on the value, on each of its beginnings, and with each byte dropped, doubled and changed.
func everyDamage[T any](t *testing.T, d *Definition[T], id string, rec *T) {
	t.Helper()
	raw, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	value := string(raw)
	whole(t, d, id, value)
	whole(t, d, id, " "+value+"\n")
	whole(t, d, id, value+"{}")
	for i := range value {
		whole(t, d, id, value[:i])
		whole(t, d, id, value[:i]+value[i+1:])
		whole(t, d, id, value[:i+1]+value[i:])
		for _, c := range []string{"\\", "\"", "\x00", "\x7f", "\xff", "x", "é", ","} {
			whole(t, d, id, value[:i]+c+value[i+1:])
		}
	}
}

func TestTheShortWayReadsWhatTheStrictOneReads(t *testing.T) {
	created := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	t.Run("a claim", func(t *testing.T) {
		c := &Claim{Meta: Meta{Created: created}, Name: "n/1", Owner: "ws-012345678"}
		raw, err := json.Marshal(c)
		if err != nil || !plainClaim(new(Claim), Item{Key: Key{ClaimTable, "n/1"}, Value: raw}) {
			t.Errorf("%s, %v: not read the short way", raw, err)
		}
		everyDamage(t, claims, "n/1", c)
		everyDamage(t, claims, "n/1", &Claim{Owner: "zoë <\"\\\u2028>", Meta: Meta{Tags: map[string]string{"a": "b"}}})
	})
	t.Run("an interface", func(t *testing.T) {
		i := &Interface{Meta: Meta{Created: created}, ID: "eni-1", SubnetID: "subnet-1", Address: "10.0.0.4", WorkspaceID: "ws-1"}
		raw, err := json.Marshal(i)
		if err != nil || !plainInterface(new(Interface), Item{Key: Key{InterfaceTable, "subnet-1/10.0.0.4"}, Value: raw}) {
			t.Errorf("%s, %v: not read the short way", raw, err)
		}
		everyDamage(t, Interfaces, "subnet-1/10.0.0.4", i)
		everyDamage(t, Interfaces, "another", i)
		everyDamage(t, Interfaces, "/", &Interface{ID: "eni-1", DirectoryID: "d-1", WorkspaceID: "ws-1"})
	})
}
