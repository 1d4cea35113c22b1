package authz

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"carrel/internal/api/shape"
	"carrel/internal/identity"
	"carrel/internal/policy"
)

// row says what an operation is checked against (reference 5.6 and the Service Authorization Reference). The zero row is an operation that
// knows no resource: its action is checked on "*".
//
// Paths are Go names of the generated input with dots between them ("TerminateWorkspaceRequests.WorkspaceId"); lists on the way are gone through.
type row struct {
	// items is the path of a list whose entries are checked each by itself, with tags of its own; the other paths begin there.
	items string
	// on are the resources that the operation's own action is checked on, all of them.
	on []on
	// also are further actions that the operation needs.
	also []also
	// tags is the path of the request's tags (a list of Key and Value, or a map), tagKeys that of tag keys alone.
	tags, tagKeys string
	// keys are the service's own condition keys, by their names, with the paths of their values.
	keys map[string]string
	// factor are the paths of the serial number and the code of a second factor. A request that has both is decided as one of somebody who has just shown
	// it: the handler refuses a wrong code.
	factor []string
	// open says why the operation needs no permission.
	open string
}

// on is a resource type and where the request names which. Without a path, or when the request names none, it is any of the type.
type on struct {
	kind *kind
	path string
	// under is where the request has the IAM path that goes before the name ("/" when it has none); without a path the IAM path is all there is.
	under string
	// optional resources are asked for only when the request names one. When it names none of an operation's, all being optional, that is "*".
	optional bool
}

// also is a further action on a resource. With when, only for requests that have something at that path, or where the caller's session hands on
// the same.
type also struct {
	action  string
	on      on
	when    string
	handsOn func(*identity.Session) bool
}

// table is a service's rows by the names of its operations.
type table map[string]row

// tables are all rows, by the names of the services.
var tables = map[string]table{
	"workspaces": workspacesRows,
	"sts":        stsRows,
	"iam":        iamRows,
	"ec2":        ec2Rows,
	"ds":         dsRows,
	"ds-data":    dsDataRows,
	"cloudtrail": cloudtrailRows,
}

// compiled is a row ready for use.
type compiled struct {
	items         path
	pairs         []pair
	tags, tagKeys path
	keys          []keyAt
	factor        []path
	open          string
}

type pair struct {
	action policy.Action // empty: the operation's own
	kind   *kind         // nil: "*"
	path   path
	under  path
	when   path
	// handsOn makes the pair one to ask for though there is nothing at when.
	handsOn func(*identity.Session) bool
	// unless are paths where nothing may be.
	unless []path
}

type keyAt struct {
	key  policy.Key
	path path
}

// rows are the compiled rows and actions of all operations, made once: a row whose path its input does not have panics in the first test that
// starts.
var rows, actions = func() (map[*shape.Operation]*compiled, map[*shape.Operation]policy.Action) {
	rows, actions := map[*shape.Operation]*compiled{}, map[*shape.Operation]policy.Action{}
	for _, s := range services {
		known := 0
		for _, op := range s.Operations {
			actions[op] = policy.NewAction(s.SigningName + ":" + op.Name)
			if r, ok := tables[s.Name][op.Name]; ok {
				known++
				rows[op] = r.compile(op)
			}
		}
		if known != len(tables[s.Name]) {
			panic("authz: the table of " + s.Name + " has rows of operations that there are not")
		}
	}
	return rows, actions
}()

func rowOf(op *shape.Operation) *compiled        { return rows[op] }
func actionOf(op *shape.Operation) policy.Action { return actions[op] }

func (r *row) compile(op *shape.Operation) *compiled {
	at := reflect.TypeOf(op.NewInput()).Elem()
	where := op.Service.Name + " " + op.Name
	c := &compiled{open: r.open}
	if r.items != "" {
		c.items, at = walk(where, at, r.items)
	}
	to := func(p string) path {
		if p == "" {
			return nil
		}
		steps, _ := walk(where, at, p)
		return steps
	}
	without := pair{}
	for _, o := range r.on {
		p := pair{kind: o.kind, path: to(o.path), under: to(o.under)}
		if o.optional {
			p.when, without.unless = p.path, append(without.unless, p.path)
		}
		c.pairs = append(c.pairs, p)
	}
	if len(without.unless) == len(r.on) {
		c.pairs = append(c.pairs, without)
	}
	for _, o := range r.also {
		c.pairs = append(c.pairs, pair{action: policy.NewAction(o.action), kind: o.on.kind, path: to(o.on.path), when: to(o.when), handsOn: o.handsOn})
	}
	for _, p := range r.factor {
		c.factor = append(c.factor, to(p))
	}
	c.tags, c.tagKeys = to(r.tags), to(r.tagKeys)
	for name, p := range r.keys {
		c.keys = append(c.keys, keyAt{policy.NewKey(name), to(p)})
	}
	return c
}

// path leads to values in an input: the numbers of the fields on the way.
type path []int

// walk reads a path against a type, and gives the type of what is there.
func walk(where string, at reflect.Type, text string) (path, reflect.Type) {
	var p path
	for name := range strings.SplitSeq(text, ".") {
		for at.Kind() == reflect.Pointer || at.Kind() == reflect.Slice {
			at = at.Elem()
		}
		f, ok := reflect.StructField{}, false
		if at.Kind() == reflect.Struct {
			f, ok = at.FieldByName(name)
		}
		if !ok {
			panic(fmt.Sprintf("authz: the row of %s has the path %s, and there is no %s", where, text, name))
		}
		p, at = append(p, f.Index[0]), f.Type
	}
	for at.Kind() == reflect.Pointer || at.Kind() == reflect.Slice {
		at = at.Elem()
	}
	return p, at
}

// input is an operation's input, or an item of it.
type input struct{ v reflect.Value }

// each visits what is checked by itself: the items, or the input as a whole. An empty list of items is checked as one that names nothing.
func (c *compiled) each(in any, visit func(input) bool) {
	whole := input{reflect.ValueOf(in).Elem()}
	if c.items == nil {
		visit(whole)
		return
	}
	n := 0
	whole.values(c.items, func(v reflect.Value) bool { n++; return visit(input{v}) })
	if n == 0 {
		visit(input{})
	}
}

// values visits what stands at a path. It is false when visit was.
func (in input) values(p path, visit func(reflect.Value) bool) bool {
	if !in.v.IsValid() {
		return true
	}
	return descend(in.v, p, visit)
}

func descend(v reflect.Value, p path, visit func(reflect.Value) bool) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return v.IsNil() || descend(v.Elem(), p, visit)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return len(p) > 0 || visit(v)
		}
		for i := range v.Len() {
			if !descend(v.Index(i), p, visit) {
				return false
			}
		}
		return true
	}
	if len(p) == 0 {
		return visit(v)
	}
	return descend(v.Field(p[0]), p[1:], visit)
}

// texts visits the values at a path as condition keys have them: texts, numbers and truth values.
func (in input) texts(p path, visit func(string) bool) bool {
	return in.values(p, func(v reflect.Value) bool {
		switch v.Kind() {
		case reflect.String:
			return visit(v.String())
		case reflect.Bool, reflect.Int32, reflect.Int64:
			return visit(fmt.Sprint(v.Interface()))
		}
		return true
	})
}

// has tells whether something stands at a path.
func (in input) has(p path) bool {
	return !in.values(p, func(reflect.Value) bool { return false })
}

// shows tells whether a second factor is shown with the request itself.
func (c *compiled) shows(in any) bool {
	if c == nil || c.factor == nil {
		return false
	}
	whole := input{reflect.ValueOf(in).Elem()}
	return !slices.ContainsFunc(c.factor, func(p path) bool { return !whole.has(p) })
}

// asked tells whether the pair is to be asked for.
func (p *pair) asked(in input, caller *identity.Session) bool {
	if p.when != nil && !in.has(p.when) && (p.handsOn == nil || caller == nil || !p.handsOn(caller)) {
		return false
	}
	return !slices.ContainsFunc(p.unless, in.has)
}

// ids visits the ids that the item has for a pair. It is false when there is none.
func (p *pair) ids(in input, visit func(string) bool) bool {
	under := ""
	if p.under != nil {
		in.texts(p.under, func(path string) bool { under = path; return false })
		if under == "" {
			under = "/"
		}
	}
	found := false
	if p.path != nil {
		in.texts(p.path, func(id string) bool { found = true; return visit(under + id) })
	}
	switch {
	case found || p.under == nil:
		return found
	case p.path != nil:
		under += "*"
	}
	visit(under)
	return true
}

// setKeys sets the keys that the request itself brings: its tags, and the service's own.
func (c *compiled) setKeys(d *Decision, in input) {
	r := &d.request
	if c.tags != nil {
		in.values(c.tags, func(v reflect.Value) bool {
			k, value := tag(v)
			r.Set(policy.NewKey("aws:RequestTag/"+k), value)
			r.Set(keyTagKeys, k)
			return true
		})
	}
	if c.tagKeys != nil {
		in.texts(c.tagKeys, func(k string) bool { r.Set(keyTagKeys, k); return true })
	}
	for i := range c.keys {
		in.texts(c.keys[i].path, func(value string) bool { r.Set(c.keys[i].key, value); return true })
	}
}

// tag reads a tag of any service's.
func tag(v reflect.Value) (key, value string) {
	text := func(name string) string {
		f := v.FieldByName(name)
		for f.Kind() == reflect.Pointer {
			if f.IsNil() {
				return ""
			}
			f = f.Elem()
		}
		return f.String()
	}
	return text("Key"), text("Value")
}
