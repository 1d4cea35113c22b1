package cloudtrail

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"carrel/internal/api/cloudtrail"
	"carrel/internal/api/shape"
	"carrel/internal/audit"
	"carrel/internal/awserr"
	"carrel/internal/service"
)

const (
	// history is how far back LookupEvents looks: 90 days (CloudTrail User Guide, "Working with CloudTrail event history").
	history = 90 * 24 * time.Hour
	// maxPage is the largest page and the default.
	maxPage = 50
)

// LookupEvents gives the events of the last 90 days, the newest first. A page may have fewer events than asked for, or none, and yet a NextToken: then
// the search for what is rare goes on with the next call.
func (s *Service) LookupEvents(ctx context.Context, _ service.Call, in *cloudtrail.LookupEventsInput) (*cloudtrail.LookupEventsOutput, error) {
	q, err := s.query(in)
	if err != nil {
		return nil, err
	}
	bound := boundTo(s.AccountID, in)
	if q.Before, err = s.open(bound, in.NextToken); err != nil {
		return nil, err
	}
	if in.EventCategory != nil {
		// The model knows no category but insight, and there are no Insights here: no trail has them enabled.
		return &cloudtrail.LookupEventsOutput{Events: []cloudtrail.Event{}}, nil
	}
	page, err := s.Records.Lookup(ctx, q)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil, awserr.New(awserr.Unavailable, "The request has ended.").Because(err)
	case err != nil:
		return nil, err
	}
	out := &cloudtrail.LookupEventsOutput{Events: make([]cloudtrail.Event, len(page.Events))}
	for i := range page.Events {
		out.Events[i] = s.event(&page.Events[i])
	}
	// Records stand in the order in which calls ended, events in that in which they began.
	slices.SortStableFunc(out.Events, func(a, b cloudtrail.Event) int { return b.EventTime.Compare(*a.EventTime) })
	if page.Next != (audit.Position{}) {
		out.NextToken = s.seal(bound, page.Next)
	}
	return out, nil
}

// query is what the input asks for, without its token. Attributes of an event are compared as they are, with regard to case.
func (s *Service) query(in *cloudtrail.LookupEventsInput) (audit.Query, error) {
	q := audit.Query{Limit: maxPage}
	if in.MaxResults != nil {
		q.Limit = min(max(int(*in.MaxResults), 1), maxPage)
	}
	oldest := s.Clock.Now().Add(-history)
	q.Filter.Since, q.Filter.Until = oldest, shape.Val(in.EndTime)
	if in.StartTime != nil && in.StartTime.After(oldest) {
		q.Filter.Since = *in.StartTime
	}
	if in.StartTime != nil && in.EndTime != nil && in.StartTime.After(*in.EndTime) {
		return q, invalidTimeRange()
	}
	if len(in.LookupAttributes) > 1 {
		return q, invalidAttributes("Only one lookup attribute can be given.")
	}
	for _, a := range in.LookupAttributes {
		if err := attribute(&q, shape.Val(a.AttributeKey), shape.Val(a.AttributeValue)); err != nil {
			return q, err
		}
	}
	return q, nil
}

// attribute has q ask for the events with one attribute.
func attribute(q *audit.Query, key cloudtrail.LookupAttributeKey, value string) error {
	switch key {
	case cloudtrail.LookupAttributeKeyEventId:
		q.Filter.EventID = value
	case cloudtrail.LookupAttributeKeyEventName:
		q.Filter.EventName = value
	case cloudtrail.LookupAttributeKeyEventSource:
		q.Filter.EventSource = value
	case cloudtrail.LookupAttributeKeyAccessKeyId:
		q.Filter.AccessKeyID = value
	case cloudtrail.LookupAttributeKeyReadOnly:
		if value != "true" && value != "false" {
			return invalidAttributes("The value of the lookup attribute ReadOnly must be true or false.")
		}
		q.Filter.ReadOnly = shape.Ptr(value == "true")
	case cloudtrail.LookupAttributeKeyUsername:
		if value != rootName {
			q.Words = []string{value}
		}
		q.Keep = func(e *audit.Event) bool { return username(&e.Record.UserIdentity) == value }
	case cloudtrail.LookupAttributeKeyResourceName:
		q.Words = []string{value}
		q.Keep = func(e *audit.Event) bool {
			return slices.ContainsFunc(resources(&e.Record), func(r resource) bool { return r.name == value })
		}
	case cloudtrail.LookupAttributeKeyResourceType:
		q.Keep = func(e *audit.Event) bool {
			return slices.ContainsFunc(resources(&e.Record), func(r resource) bool { return r.kind == value })
		}
	default:
		return invalidAttributes("The lookup attribute %s is not known.", string(key))
	}
	return nil
}

func (s *Service) event(e *audit.Event) cloudtrail.Event {
	r := &e.Record
	out := cloudtrail.Event{
		EventId: shape.Ptr(r.EventID), EventName: shape.Ptr(r.EventName), EventSource: shape.Ptr(r.EventSource), EventTime: shape.Ptr(r.EventTime),
		ReadOnly: shape.Ptr(strconv.FormatBool(r.ReadOnly)), AccessKeyId: shape.Given(r.UserIdentity.AccessKeyID), Username: shape.Given(username(&r.UserIdentity)),
		CloudTrailEvent: shape.Ptr(shown(e)), Resources: []cloudtrail.Resource{},
	}
	for _, res := range resources(r) {
		out.Resources = append(out.Resources, cloudtrail.Resource{ResourceType: shape.Ptr(res.kind), ResourceName: shape.Ptr(res.name)})
	}
	return out
}

// shown is an event's JSON as callers see it. Of the decision they see the id alone: how policies were weighed, whosever they are, is told on the
// machine itself (carrel explain), not to whoever may read the history.
func shown(e *audit.Event) string {
	text := e.Record.Decision.String()
	if text == "null" {
		return string(e.Raw)
	}
	var decision struct {
		ID string `json:"id"`
	}
	r := e.Record
	r.Decision = audit.Document{}
	if err := json.Unmarshal([]byte(text), &decision); err == nil && decision.ID != "" {
		if id, err := json.Marshal(decision); err == nil {
			r.Decision, _ = audit.DecisionDocument(id) // the zero Document when it is refused
		}
	}
	return string(r.AppendJSON(nil))
}

// rootName is the Username of the account's root.
const rootName = "root"

// username is an event's Username: of the root "root", of a session its name.
func username(u *audit.UserIdentity) string {
	switch u.Type {
	case "Root":
		return rootName
	case "AssumedRole", "FederatedUser":
		_, name, _ := strings.Cut(u.PrincipalID, ":")
		return name
	}
	return u.UserName
}
