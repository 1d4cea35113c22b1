package analysis

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"carrel/internal/audit"
)

// Errors of Find, by errors.Is.
var (
	ErrNotFound  = errors.New("no such request")
	ErrAmbiguous = errors.New("several requests begin like that")
)

// shortest is how many characters of an id are enough to look for it.
const shortest = 8

// Find looks an audit directory through, the newest first, for the record whose request id or event id is id, or begins like it.
func Find(dir, id string) (*audit.Event, error) {
	id = strings.ToLower(strings.TrimSpace(id))
	if len(id) < shortest {
		return nil, fmt.Errorf("%q is no request id: give it as the error has shown it (RequestId, x-amzn-requestid), or at least its first %d characters", id, shortest)
	}
	const whole = 36 // a UUID
	var found []audit.Event
	for e, err := range audit.Read(dir, audit.Filter{NewestFirst: true}) {
		switch {
		case err != nil:
			return nil, err
		case id == e.Record.RequestID || id == e.Record.EventID:
			return &e, nil
		case len(id) < whole && (strings.HasPrefix(e.Record.RequestID, id) || strings.HasPrefix(e.Record.EventID, id)) && len(found) < 5:
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w as %s in the audit log %s: look for it with: aws cloudtrail lookup-events, or give the state directory it was answered from with --state", ErrNotFound, id, dir)
	case 1:
		return &found[0], nil
	}
	var ids []string
	for _, e := range found {
		ids = append(ids, e.Record.RequestID+" ("+e.Record.EventName+" at "+e.Record.EventTime.Format(time.RFC3339)+")")
	}
	return nil, fmt.Errorf("%w as %s: %s: give more of the id", ErrAmbiguous, id, strings.Join(ids, ", "))
}

// slack is how much later than its call a record may be written.
const slack = 15 * time.Minute

// Since visits the records of calls from a time on, the newest first.
func Since(dir string, from time.Time, visit func(*audit.Event)) error {
	for e, err := range audit.Read(dir, audit.Filter{NewestFirst: true}) {
		if err != nil {
			return err
		}
		if e.Record.EventTime.Before(from.Add(-slack)) {
			return nil
		}
		if !e.Record.EventTime.Before(from) {
			visit(&e)
		}
	}
	return nil
}
