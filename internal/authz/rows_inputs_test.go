package authz_test

import (
	"reflect"
	"testing"

	"carrel/internal/app"
	"carrel/internal/authz"
)

// fill gives every text, list and structure of an input a value: text is what texts are.
func fill(v reflect.Value, text string, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text, depth)
	case reflect.String:
		v.SetString(text)
	case reflect.Slice:
		if depth > 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), text, depth-1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if depth > 0 && v.Type().Field(i).IsExported() {
				fill(v.Field(i), text, depth-1)
			}
		}
	}
}

// TestWhateverARequestNamesItIsAskedFor holds for all operations: nothing that a request says takes a row's checks away, and nothing in it makes
// another resource of one.
func TestWhateverARequestNamesItIsAskedFor(t *testing.T) {
	w := newWorld(t)
	none, all := w.user("none", ""), w.user("all", allow("*", "*"))
	for _, api := range app.APIs() {
		for _, op := range api.Operations {
			for _, text := range []string{"x", "", "*", "/", "-", ":", "arn:aws:iam::123456789012:user/none", "arn:", "vpc-1", "\x00", "${aws:username}"} {
				in := op.NewInput()
				fill(reflect.ValueOf(in).Elem(), text, 6)
				d := w.ask(none, op, in)
				if d.Allowed && len(d.Checks) == 0 && d.Reason == "" || d.Allowed && len(d.Checks) > 0 {
					t.Errorf("%s %s with %q is allowed without a policy", api.Name, op.Name, text)
				}
				d.Release()
				d = w.ask(all, op, in)
				if d.Allowed && len(d.Checks) == 0 && d.Reason == "" || !d.Allowed && !assumes(d) {
					t.Errorf("%s %s with %q: %v %s", api.Name, op.Name, text, d.Allowed, d.Reason)
				}
				d.Release()
			}
		}
	}
}

// assumes tells of the roles that trust nobody.
func assumes(d *authz.Decision) bool { return d.Checks[len(d.Checks)-1].Action == "sts:AssumeRole" }
