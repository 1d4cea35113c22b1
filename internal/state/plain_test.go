package state

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// whole reads a value the short way, and strictly. What the short way accepts must be what the strict one reads, and must come back from
// its packed form. It tells whether the short way did.
func whole[T any](t *testing.T, d *Definition[T], value string) bool {
	t.Helper()
	short, strict := new(T), new(T)
	if !d.packed.plainly(value, reachOf(d.packed, short)) {
		return false
	}
	if err := strictly([]byte(value), strict); err != nil {
		t.Errorf("%q is read the short way; strictly: %v", value, err)
		return true
	}
	same(t, value, strict, short)
	there(t, d, strict)
	return true
}

// there packs a record and looks at what comes out.
func there[T any](t *testing.T, d *Definition[T], rec *T) {
	t.Helper()
	v := newPackedView(d)
	d.Meta(rec).Revision = 1 << 40
	same(t, "packed", rec, v.unpack(v.pack(rec).row))
}

func same[T any](t *testing.T, what string, want, got *T) {
	t.Helper()
	if !reflect.DeepEqual(want, got) {
		t.Errorf("%s\n-want +got\n%s", what, cmp.Diff(want, got))
	}
}

// everyDamage runs whole on the value, on each of its beginnings, and with each byte dropped, doubled and changed.
func everyDamage[T any](t *testing.T, d *Definition[T], rec *T) {
	t.Helper()
	raw, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	value := string(raw)
	if !whole(t, d, value) {
		t.Errorf("%s: not read the short way", value)
	}
	whole(t, d, " "+value+"\n")
	whole(t, d, value+"{}")
	for i := range value {
		whole(t, d, value[:i])
		whole(t, d, value[:i]+value[i+1:])
		whole(t, d, value[:i+1]+value[i:])
		for _, c := range []string{"\\", "\"", "\x00", "\x7f", "\xff", "x", "é", ",", "-", "0", "9"} {
			whole(t, d, value[:i]+c+value[i+1:])
		}
	}
}

// fullTime and fullText are what filled puts everywhere.
var fullTime = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

// filled gives every field of v that JSON has a value that is not zero, so that a field which a codec forgot is missed.
func filled(v reflect.Value) {
	if v.Type() == timeType {
		v.Set(reflect.ValueOf(fullTime))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("text of " + v.Type().Name())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(-1234567890123)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		filled(v.Index(0))
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"a": "b", "": "c"}))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" {
				filled(v.Field(i))
			}
		}
	default:
		panic(v.Type().String())
	}
}

func TestPackedRecordsComeBack(t *testing.T) {
	var w Workspace
	var i Interface
	filled(reflect.ValueOf(&w).Elem())
	filled(reflect.ValueOf(&i).Elem())
	there(t, Workspaces, &w)
	there(t, Interfaces, &i)
	there(t, Workspaces, &Workspace{})
	for name, at := range map[string]time.Time{
		"zero":               {},
		"long ago":           time.Date(-1, 1, 2, 3, 4, 5, 6, time.UTC),
		"in a zone":          time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)),
		"the end of seconds": time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		"before 1970":        time.Unix(-1, 999_999_999).UTC(),
		"the first second":   time.Unix(0, 0).UTC(),
		"the last of 32 bit": time.Unix(1<<32-1, 0).UTC(),
		"behind 32 bits":     time.Unix(1<<32, 0).UTC(),
		"a nanosecond":       time.Unix(0, 1).UTC(),
		"the last there is":  time.Unix(1<<32-1, 999_999_999).UTC(),
	} {
		t.Run("a time "+name, func(t *testing.T) {
			v := newPackedView(Workspaces)
			got := v.unpack(v.pack(&Workspace{Meta: Meta{Created: at}}).row).Created
			if !got.Equal(at) || got.Format(time.RFC3339Nano) != at.Format(time.RFC3339Nano) {
				t.Errorf("%v, want %v", got, at)
			}
		})
	}
	t.Run("what is empty and what is not there differ", func(t *testing.T) {
		there(t, Workspaces, &Workspace{Meta: Meta{Tags: map[string]string{}}, Spec: WorkspaceSpec{Protocols: []string{}}})
	})
}

func TestTheShortWayReadsWhatTheStrictOneReads(t *testing.T) {
	t.Run("a full WorkSpace", func(t *testing.T) {
		var w Workspace
		filled(reflect.ValueOf(&w).Elem())
		everyDamage(t, Workspaces, &w)
	})
	t.Run("a new WorkSpace", func(t *testing.T) { everyDamage(t, Workspaces, &Workspace{}) })
	t.Run("an interface", func(t *testing.T) {
		everyDamage(t, Interfaces, &Interface{Meta: Meta{Created: fullTime}, ID: "eni-1", SubnetID: "subnet-1", Address: "10.0.0.4", WorkspaceID: "ws-1"})
	})
	t.Run("texts that need more than the short way are left to the strict one", func(t *testing.T) {
		for _, text := range []string{"zoë", "a<b", `a"b`, `a\b`, "a\nb", "\u2028", "\xff"} {
			raw, err := json.Marshal(&Interface{ID: "eni-1", Address: text})
			if err != nil {
				t.Fatal(err)
			}
			if whole(t, Interfaces, string(raw)) {
				t.Errorf("%s was read the short way", raw)
			}
			rec, err := Interfaces.decode(Item{Key: Key{InterfaceTable, InterfaceKey("", "10.0.0.4")}, Value: raw})
			if err == nil {
				t.Errorf("%s was taken for 10.0.0.4: %+v", raw, rec)
			}
		}
	})
}

func TestACodecRefusesWhatItWouldLose(t *testing.T) {
	for _, v := range []any{
		struct{ P *int }{}, struct{ F float64 }{}, struct{ hidden int }{}, struct{ R json.RawMessage }{}, struct{ M map[string]int }{},
		struct {
			N int `json:"other"`
		}{},
	} {
		t.Run(reflect.TypeOf(v).String(), func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("a codec was made")
				}
			}()
			newCodec(reflect.TypeOf(v))
		})
	}
}

func FuzzPlain(f *testing.F) {
	var w Workspace
	var i Interface
	filled(reflect.ValueOf(&w).Elem())
	filled(reflect.ValueOf(&i).Elem())
	for _, rec := range []any{&w, &i, &Workspace{}, &Interface{}, &Workspace{ID: "ws-f9abcdefg", Spec: WorkspaceSpec{RootGiB: 80}}} {
		raw, err := json.Marshal(rec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(raw))
	}
	f.Fuzz(func(t *testing.T, value string) {
		whole(t, Workspaces, value)
		whole(t, Interfaces, value)
	})
}
