package state

import (
	"fmt"
	"reflect"
	"time"
	"unsafe"
)

// This is the only file here that reaches into records by itself instead of through reflect: a page of 25 WorkSpaces is some 600 fields, and
// reflect takes several times longer to find one than it takes to fill it.
//
// What makes it sound: a memory begins at a record whose type reachOf has compared with the codec's; offsets are reflect's own, of fields
// whose types kindOf has matched with the accessor of their kind (a named string or a slice of named strings has the layout of string and
// []string); every pointer is made by unsafe.Add of one, so the collector always sees it, and checkptr can follow. Nothing stored or sent
// decides where anything is read or written. Tests hold every codec against encoding/json and reflect.

// memory is a record, or a struct in one.
type memory struct{ at unsafe.Pointer }

// reachOf panics when c is another type's codec.
func reachOf[T any](c *codec, rec *T) memory {
	if c.typ != reflect.TypeFor[T]() {
		panic(fmt.Sprintf("state: a codec of %s for a %T", c.typ, rec))
	}
	return memory{unsafe.Pointer(rec)}
}

func (m memory) text(f *field) *string    { return (*string)(unsafe.Add(m.at, f.offset)) }
func (m memory) bool(f *field) *bool      { return (*bool)(unsafe.Add(m.at, f.offset)) }
func (m memory) int(f *field) *int        { return (*int)(unsafe.Add(m.at, f.offset)) }
func (m memory) time(f *field) *time.Time { return (*time.Time)(unsafe.Add(m.at, f.offset)) }
func (m memory) texts(f *field) *[]string { return (*[]string)(unsafe.Add(m.at, f.offset)) }
func (m memory) pairs(f *field) *map[string]string {
	return (*map[string]string)(unsafe.Add(m.at, f.offset))
}
func (m memory) inside(f *field) memory { return memory{unsafe.Add(m.at, f.offset)} }
