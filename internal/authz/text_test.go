package authz

import (
	"encoding/json"
	"testing"
	"time"
)

func TestTextIsAsEncodingJSONWritesIt(t *testing.T) {
	for c := range 256 {
		for _, s := range []string{string([]byte{byte(c)}), "a" + string(rune(c)) + "b"} {
			want, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			if got := appendText(nil, s); string(got) != string(want) {
				t.Errorf("%q: %s, want %s", s, got, want)
			}
		}
	}
}

func TestASecondIsToldAsItIs(t *testing.T) {
	a := &Authorizer{}
	for _, at := range []time.Time{time.Unix(1e9, 0), time.Unix(1e9, 999_999_999), time.Unix(1e9+1, 0), time.Unix(1e9, 5), time.Unix(0, -1), time.Unix(0, 0), {}} {
		for _, at := range []time.Time{at, at.In(time.FixedZone("", 7200))} {
			got := a.secondOf(at)
			if want := at.UTC().Truncate(time.Second).Format(time.RFC3339); got.current != want || got.unix != at.Unix() {
				t.Errorf("%s: %+v", at, got)
			}
			var epoch int64
			if err := json.Unmarshal([]byte(got.epoch), &epoch); err != nil || epoch != at.Unix() {
				t.Errorf("%s: %+v", at, got)
			}
		}
	}
}
