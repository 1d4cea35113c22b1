package state

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestRandomRecordsComeBack holds what reaches into memory by offsets, packing and unpacking and reading JSON the short way, against reflect
// and encoding/json, on random records of every packed type.
func TestRandomRecordsComeBack(t *testing.T) {
	random(t, Workspaces)
	random(t, Interfaces)
	packed := 0
	for _, d := range definitions() {
		if strings.HasPrefix(fmt.Sprintf("%T", d.view()), "*state.packedView[") {
			packed++
		}
	}
	if packed != 2 {
		t.Errorf("%d tables are packed, but 2 are tested here", packed)
	}
}

func random[T any](t *testing.T, d *Definition[T]) {
	t.Helper()
	n := 20_000
	if testing.Short() {
		n = 2000
	}
	r := rand.New(rand.NewPCG(7, 11))
	// One view, so that words get large numbers, and one piece of memory that is used again.
	v, room := newPackedView(d), NewRoom[T](1)
	for range n {
		rec := new(T)
		someOf(r, reflect.ValueOf(rec).Elem())
		d.Meta(rec).Revision = Revision(r.Uint64())
		if d.setID != nil {
			d.setID(rec, "id"+fmt.Sprint(r.Uint32()))
		}
		row := v.pack(rec).row
		same(t, "random", rec, v.unpack(row))
		same(t, "random, in a room", rec, v.unpackTo(room.take(), row))
		room.Reset()
		raw, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		if !whole(t, d, string(raw)) {
			t.Errorf("%s: not read the short way", raw)
		}
		if t.Failed() {
			return
		}
	}
}

// someOf gives fields of v at random a value that is not zero.
func someOf(r *rand.Rand, v reflect.Value) {
	if r.IntN(3) == 0 {
		return
	}
	if v.Type() == timeType {
		at := time.Unix(r.Int64N(1<<33), 0)
		switch r.IntN(3) {
		case 0:
			at = at.Add(time.Duration(r.Int64N(1e9)))
		case 1:
			at = at.AddDate(int(r.Int64N(4000))-1900, 0, 0)
		}
		v.Set(reflect.ValueOf(at.UTC()))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(someText(r))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(r.Int64() >> r.IntN(64) * (r.Int64N(3) - 1))
	case reflect.Slice:
		n := r.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			v.Index(i).SetString(someText(r))
		}
	case reflect.Map:
		m := map[string]string{}
		for range r.IntN(4) {
			m[someText(r)] = someText(r)
		}
		v.Set(reflect.ValueOf(m))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" {
				someOf(r, v.Field(i))
			}
		}
	default:
		panic(v.Type().String())
	}
}

func someText(r *rand.Rand) string {
	const letters = "abcXYZ019-_ .:/=+@"
	n := r.IntN(20)
	if r.IntN(20) == 0 {
		n = 100 + r.IntN(400) // its length takes two bytes
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

func TestACodecIsForItsTypeAlone(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it has given a way into another type")
		}
	}()
	reachOf(Workspaces.packed, &Interface{})
}

func TestACodecRefusesMoreLeavesThanItsMask(t *testing.T) {
	type eight struct{ A, B, C, D, E, F, G, H bool }
	type full struct{ A, B, C, D, E, F, G, H eight }
	if c := newCodec(reflect.TypeFor[full]()); len(c.leaves) != 64 || c.maskBytes() != 8 {
		t.Errorf("%d leaves, %d bytes, want 64 and 8", len(c.leaves), c.maskBytes())
	}
	defer func() {
		if why := fmt.Sprint(recover()); !strings.Contains(why, "more fields than a mask") {
			t.Errorf("65 leaves: %s", why)
		}
	}()
	newCodec(reflect.TypeFor[struct {
		All  full
		More bool
	}]())
}

// A list of one word is cut out of the words of all: what is appended to it must not become anybody else's.
func TestAListOfOneWordCanBeAppendedTo(t *testing.T) {
	v := newPackedView(Workspaces)
	rows := []packedRow{}
	for _, name := range []string{"WSP", "PCOIP"} {
		rows = append(rows, v.pack(&Workspace{Spec: WorkspaceSpec{Protocols: []string{name}, Compute: "after " + name}}).row)
	}
	list := v.unpack(rows[0]).Spec.Protocols
	if longer := append(list, "mine"); len(longer) != 2 || cap(list) != 1 {
		t.Errorf("%q, capacity %d", longer, cap(list))
	}
	for i, want := range []string{"WSP", "PCOIP"} {
		if w := v.unpack(rows[i]); len(w.Spec.Protocols) != 1 || w.Spec.Protocols[0] != want || w.Spec.Compute != "after "+want {
			t.Errorf("record %d: %q, %q", i, w.Spec.Protocols, w.Spec.Compute)
		}
	}
}
