package cloudtrail

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"carrel/internal/api/cloudtrail"
	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/api/workspaces"
	"carrel/internal/audit"
	"carrel/internal/awserr"
	"carrel/internal/clock"
	"carrel/internal/evidence"
	"carrel/internal/service"
)

const account = "123456789012"

// house is the service over an audit log of its own.
type house struct {
	*Service
	w *audit.Writer
	// now is when the records were made.
	now time.Time
}

// still is a clock that stands.
type still struct{ now time.Time }

func (s *still) Now() time.Time { return s.now }
func (s *still) After(d time.Duration) (<-chan time.Time, func()) {
	return clock.System{}.After(d)
}

func newHouse(t *testing.T) *house {
	t.Helper()
	dir := t.TempDir()
	key, err := evidence.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	log, err := evidence.Open(filepath.Join(dir, "evidence"), key, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := audit.Open(audit.Config{Dir: filepath.Join(dir, "audit"), Evidence: log, Clock: clock.System{}, FileBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, log.Close()); err != nil {
			t.Error(err)
		}
	})
	now := time.Now().UTC().Truncate(time.Second)
	s := New(Deps{Records: w.Reader(), Clock: &still{now}, Rand: rand.Reader, TokenKey: [32]byte{1}, AccountID: account, Region: "us-east-1", Partition: "aws"})
	return &house{s, w, now}
}

func (h *house) write(t *testing.T, id string, change func(*audit.Record)) {
	t.Helper()
	r := &audit.Record{
		UserIdentity: audit.UserIdentity{Type: "IAMUser", PrincipalID: "AIDA1", ARN: "arn:aws:iam::123456789012:user/ada", AccountID: account, AccessKeyID: "AKIAADA", UserName: "ada"},
		EventTime:    h.now, EventSource: "workspaces.amazonaws.com", EventName: "DescribeWorkspaces", AWSRegion: "us-east-1", SourceIPAddress: "192.0.2.1",
		RequestID: "r-" + id, EventID: id, ReadOnly: true, RecipientAccountID: account,
	}
	if change != nil {
		change(r)
	}
	if err := h.w.Write(t.Context(), r, false); err != nil {
		t.Fatal(err)
	}
}

// fill writes a history of ten events, the second half of them one minute apart and the first two outside of it.
func (h *house) fill(t *testing.T) {
	t.Helper()
	h.write(t, "old", func(r *audit.Record) { r.EventTime = h.now.Add(-history - time.Minute) })
	h.write(t, "root", func(r *audit.Record) {
		r.EventTime = h.now.Add(-10 * time.Minute)
		r.UserIdentity = audit.UserIdentity{Type: "Root", PrincipalID: account, AccountID: account, AccessKeyID: "AKIAROOT"}
	})
	h.write(t, "create", func(r *audit.Record) {
		r.EventTime, r.EventName, r.ReadOnly = h.now.Add(-5*time.Minute), "CreateWorkspaces", false
		r.RequestParameters = audit.Parameters(workspaces.CreateWorkspaces.Operation, &workspaces.CreateWorkspacesInput{
			Workspaces: []workspaces.WorkspaceRequest{{DirectoryId: shape.Ptr("d-90670ca44e"), UserName: shape.Ptr("grace"), BundleId: shape.Ptr("wsb-value0012")}}})
		r.ResponseElements = audit.Elements(workspaces.CreateWorkspaces.Operation, &workspaces.CreateWorkspacesOutput{
			PendingRequests: []workspaces.Workspace{{WorkspaceId: shape.Ptr("ws-f9abcdefg"), DirectoryId: shape.Ptr("d-90670ca44e")}}})
	})
	h.write(t, "role", func(r *audit.Record) {
		r.EventTime = h.now.Add(-4 * time.Minute)
		r.UserIdentity = audit.UserIdentity{Type: "AssumedRole", PrincipalID: "AROA1:ada", AccountID: account, AccessKeyID: "ASIAROLE"}
	})
	h.write(t, "user", func(r *audit.Record) {
		r.EventTime, r.EventSource, r.EventName, r.ReadOnly = h.now.Add(-3*time.Minute), "iam.amazonaws.com", "CreateUser", false
		r.RequestParameters = audit.Parameters(iam.CreateUser.Operation, &iam.CreateUserInput{UserName: shape.Ptr("gr\"ace")})
	})
	h.write(t, "denied", func(r *audit.Record) {
		r.EventTime, r.ErrorCode, r.ErrorMessage = h.now.Add(-2*time.Minute), "AccessDeniedException", "no"
		r.Decision = decision(t, `{"id":"dec-1","matched":["secret statement"]}`)
	})
	h.write(t, "unknown", func(r *audit.Record) {
		r.EventTime, r.UserIdentity = h.now.Add(-time.Minute), audit.UserIdentity{Type: "Unknown"}
	})
}

func decision(t *testing.T, text string) audit.Document {
	t.Helper()
	d, err := audit.DecisionDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func by(key cloudtrail.LookupAttributeKey, value string) *cloudtrail.LookupEventsInput {
	return &cloudtrail.LookupEventsInput{LookupAttributes: []cloudtrail.LookupAttribute{{AttributeKey: &key, AttributeValue: &value}}}
}

// lookup gives the ids of a page and its token.
func (h *house) lookup(t *testing.T, in *cloudtrail.LookupEventsInput) (string, *string) {
	t.Helper()
	out, err := h.LookupEvents(t.Context(), service.Call{}, in)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, e := range out.Events {
		ids = append(ids, *e.EventId)
	}
	return strings.Join(ids, " "), out.NextToken
}

func TestEveryAttributeFindsItsEvents(t *testing.T) {
	h := newHouse(t)
	h.fill(t)
	at := func(minutes time.Duration) *time.Time { return shape.Ptr(h.now.Add(minutes * time.Minute)) }
	for _, c := range []struct {
		name string
		in   *cloudtrail.LookupEventsInput
		want string
	}{
		{"no attribute: all of 90 days, the newest first", &cloudtrail.LookupEventsInput{}, "unknown denied user role create root"},
		{"EventId", by("EventId", "user"), "user"},
		{"EventName", by("EventName", "CreateWorkspaces"), "create"},
		{"EventName with regard to case", by("EventName", "createworkspaces"), ""},
		{"EventSource", by("EventSource", "iam.amazonaws.com"), "user"},
		{"ReadOnly", by("ReadOnly", "false"), "user create"},
		{"not ReadOnly", by("ReadOnly", "true"), "unknown denied role root"},
		{"AccessKeyId", by("AccessKeyId", "ASIAROLE"), "role"},
		{"Username of a user and of a session of that name", by("Username", "ada"), "denied user role create"},
		{"Username of the root", by("Username", "root"), "root"},
		{"ResourceType", by("ResourceType", "AWS::WorkSpaces::Workspace"), "create"},
		{"ResourceName of the request", by("ResourceName", "wsb-value0012"), "create"},
		{"ResourceName of the answer", by("ResourceName", "ws-f9abcdefg"), "create"},
		{"ResourceName with a quote", by("ResourceName", `gr"ace`), "user"},
		{"a name is no resource's where it names a directory's user", by("ResourceName", "grace"), ""},
		{"StartTime, which is included", &cloudtrail.LookupEventsInput{StartTime: at(-3)}, "unknown denied user"},
		{"EndTime, which is included", &cloudtrail.LookupEventsInput{EndTime: at(-4)}, "role create root"},
		{"both", &cloudtrail.LookupEventsInput{StartTime: at(-4), EndTime: at(-3)}, "user role"},
		{"a StartTime before 90 days", &cloudtrail.LookupEventsInput{StartTime: at(-200 * 24 * 60)}, "unknown denied user role create root"},
		{"an EndTime before 90 days", &cloudtrail.LookupEventsInput{EndTime: at(-91 * 24 * 60)}, ""},
		{"insight events, which there are none of", &cloudtrail.LookupEventsInput{EventCategory: shape.Ptr(cloudtrail.EventCategoryInsight)}, ""},
		{"nothing that is there", by("EventId", "none"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, next := h.lookup(t, c.in); got != c.want || next != nil {
				t.Errorf("got %s, next %t, want %s", got, next != nil, c.want)
			}
			in := *c.in
			in.MaxResults = shape.Ptr(int32(1))
			var got []string
			for {
				page, next := h.lookup(t, &in)
				if page != "" {
					got = append(got, page)
				}
				if in.NextToken = next; next == nil {
					break
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("in pages of one: %v", got)
			}
		})
	}
}

func TestAnEventHasItsMembers(t *testing.T) {
	h := newHouse(t)
	h.fill(t)
	event := func(id string) cloudtrail.Event {
		out, err := h.LookupEvents(t.Context(), service.Call{}, by("EventId", id))
		if err != nil || len(out.Events) != 1 {
			t.Fatal(out, err)
		}
		return out.Events[0]
	}
	t.Run("a change", func(t *testing.T) {
		e := event("create")
		if *e.EventName != "CreateWorkspaces" || *e.EventSource != "workspaces.amazonaws.com" || *e.ReadOnly != "false" || *e.Username != "ada" || *e.AccessKeyId != "AKIAADA" ||
			!e.EventTime.Equal(h.now.Add(-5*time.Minute)) {
			t.Errorf("%+v", e)
		}
		var got []string
		for _, r := range e.Resources {
			got = append(got, *r.ResourceType+" "+*r.ResourceName)
		}
		want := []string{"AWS::WorkSpaces::WorkspaceBundle wsb-value0012", "AWS::DirectoryService::Directory d-90670ca44e", "AWS::WorkSpaces::Workspace ws-f9abcdefg"}
		if !slices.Equal(got, want) {
			t.Errorf("resources %q", got)
		}
		var r struct{ EventVersion, EventID string }
		if err := json.Unmarshal([]byte(*e.CloudTrailEvent), &r); err != nil || r.EventVersion != "1.11" || r.EventID != "create" {
			t.Errorf("CloudTrailEvent %s, %v", *e.CloudTrailEvent, err)
		}
	})
	t.Run("of nobody known", func(t *testing.T) {
		if e := event("unknown"); e.Username != nil || e.AccessKeyId != nil || len(e.Resources) != 0 {
			t.Errorf("%+v", e)
		}
	})
	t.Run("a decision is shown by its id alone", func(t *testing.T) {
		text := *event("denied").CloudTrailEvent
		if !strings.Contains(text, `"additionalEventData":{"decision":{"id":"dec-1"}}`) || strings.Contains(text, "secret statement") || !json.Valid([]byte(text)) {
			t.Errorf("CloudTrailEvent %s", text)
		}
	})
	t.Run("and not at all without one", func(t *testing.T) {
		h.write(t, "odd", func(r *audit.Record) { r.Decision = decision(t, `{"id":7,"matched":["secret statement"]}`) })
		if text := *event("odd").CloudTrailEvent; strings.Contains(text, "additionalEventData") {
			t.Errorf("CloudTrailEvent %s", text)
		}
	})
	t.Run("usernames", func(t *testing.T) {
		for _, c := range []struct {
			who  audit.UserIdentity
			want string
		}{
			{audit.UserIdentity{Type: "FederatedUser", PrincipalID: account + ":grace"}, "grace"},
			{audit.UserIdentity{Type: "SAMLUser", PrincipalID: "q:grace", UserName: "grace"}, "grace"},
			{audit.UserIdentity{Type: "AssumedRole", PrincipalID: "AROA1:a:b"}, "a:b"},
		} {
			if got := username(&c.who); got != c.want {
				t.Errorf("%s: %s", c.who.Type, got)
			}
		}
	})
}

func TestEventsAreInTheOrderInWhichTheyBegan(t *testing.T) {
	h := newHouse(t)
	h.write(t, "quick", nil)
	h.write(t, "slow", func(r *audit.Record) { r.EventTime = h.now.Add(-time.Minute) })
	h.write(t, "last", nil)
	if got, _ := h.lookup(t, &cloudtrail.LookupEventsInput{}); got != "last quick slow" {
		t.Errorf("got %s", got)
	}
}

func TestLookupRefusals(t *testing.T) {
	h := newHouse(t)
	for i := range 5 {
		h.write(t, fmt.Sprint(i), nil)
	}
	first := &cloudtrail.LookupEventsInput{MaxResults: shape.Ptr(int32(2))}
	_, token := h.lookup(t, first)
	if token == nil {
		t.Fatal("no token")
	}
	two := by("EventName", "a")
	two.LookupAttributes = append(two.LookupAttributes, two.LookupAttributes[0])
	with := func(in *cloudtrail.LookupEventsInput, token string) *cloudtrail.LookupEventsInput {
		in.NextToken = &token
		return in
	}
	flipped := []byte(*token)
	flipped[20] ^= 1
	for _, c := range []struct {
		name, code string
		in         *cloudtrail.LookupEventsInput
	}{
		{"two attributes", "InvalidLookupAttributesException", two},
		{"ReadOnly that is neither", "InvalidLookupAttributesException", by("ReadOnly", "TRUE")},
		{"an attribute that is not known", "InvalidLookupAttributesException", by("Colour", "red")},
		{"a time range that ends before it begins", "InvalidTimeRangeException", &cloudtrail.LookupEventsInput{StartTime: shape.Ptr(h.now), EndTime: shape.Ptr(h.now.Add(-time.Second))}},
		{"a token that was changed", "InvalidNextTokenException", with(&cloudtrail.LookupEventsInput{}, string(flipped))},
		{"a token that was made up", "InvalidNextTokenException", with(&cloudtrail.LookupEventsInput{}, "AAAA")},
		{"a token that is no base64", "InvalidNextTokenException", with(&cloudtrail.LookupEventsInput{}, "!")},
		{"an empty token", "InvalidNextTokenException", with(&cloudtrail.LookupEventsInput{}, "")},
		{"a token of another query", "InvalidNextTokenException", with(by("EventName", "DescribeWorkspaces"), *token)},
		{"a token of another time", "InvalidNextTokenException", with(&cloudtrail.LookupEventsInput{StartTime: shape.Ptr(h.now)}, *token)},
		{"a token of another category", "InvalidNextTokenException", with(&cloudtrail.LookupEventsInput{EventCategory: shape.Ptr(cloudtrail.EventCategoryInsight)}, *token)},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := h.LookupEvents(t.Context(), service.Call{}, c.in)
			var e *awserr.Error
			if !errors.As(err, &e) || e.Kind != awserr.Modelled || e.Code != c.code || e.Message == "" {
				t.Errorf("got %v, want %s", err, c.code)
			}
		})
	}
	for _, c := range []struct {
		name, code string
		in         *cloudtrail.LookupEventsInput
	}{
		{"MaxResults 0", "InvalidMaxResultsException", &cloudtrail.LookupEventsInput{MaxResults: shape.Ptr(int32(0))}},
		{"MaxResults 51", "InvalidMaxResultsException", &cloudtrail.LookupEventsInput{MaxResults: shape.Ptr(int32(51))}},
		{"a category that is not known", "InvalidEventCategoryException", &cloudtrail.LookupEventsInput{EventCategory: shape.Ptr(cloudtrail.EventCategory("data"))}},
		{"an attribute that is not known", "InvalidLookupAttributesException", by("Colour", "red")},
		{"a value of 2001 characters", "InvalidLookupAttributesException", by("EventName", strings.Repeat("x", 2001))},
		{"an empty value", "InvalidLookupAttributesException", by("EventName", "")},
	} {
		t.Run("by the model's constraints: "+c.name, func(t *testing.T) {
			if e := shape.CheckInput(cloudtrail.LookupEvents.Operation, c.in); e == nil || e.Kind != awserr.Modelled || e.Code != c.code {
				t.Errorf("got %v, want %s", e, c.code)
			}
		})
	}
	t.Run("a token that is a day old", func(t *testing.T) {
		in := *first
		in.NextToken = token
		c := h.Clock.(*still)
		c.now = c.now.Add(tokenLife)
		if got, _ := h.lookup(t, &in); got != "2 1" {
			t.Errorf("just before: %s", got)
		}
		c.now = c.now.Add(time.Second)
		if _, err := h.LookupEvents(t.Context(), service.Call{}, &in); awserr.From(err) == nil || awserr.From(err).Code != "InvalidNextTokenException" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a caller who has gone", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.LookupEvents(ctx, service.Call{}, &cloudtrail.LookupEventsInput{}); awserr.From(err) == nil || awserr.From(err).Kind != awserr.Unavailable {
			t.Errorf("got %v", err)
		}
	})
}

func TestResources(t *testing.T) {
	role := "arn:aws:iam::123456789012:role/ops/admin"
	for _, c := range []struct {
		name string
		rec  audit.Record
		want string
	}{
		{"what a role's session is made of", audit.Record{EventSource: "sts.amazonaws.com",
			RequestParameters: audit.Parameters(sts.AssumeRole.Operation, &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: shape.Ptr("ada"),
				PolicyArns: []sts.PolicyDescriptorType{{Arn: shape.Ptr("arn:aws:iam::aws:policy/ReadOnlyAccess")}}}),
			ResponseElements: audit.Elements(sts.AssumeRole.Operation, &sts.AssumeRoleOutput{
				AssumedRoleUser: &sts.AssumedRoleUser{Arn: shape.Ptr("arn:aws:sts::123456789012:assumed-role/admin/ada"), AssumedRoleId: shape.Ptr("AROAJQABLZS4A3QDU576Q:ada")},
				Credentials:     &sts.Credentials{AccessKeyId: shape.Ptr("ASIAIOSFODNN7EXAMPLE"), SessionToken: shape.Ptr("secret")}})},
			"AWS::IAM::Policy arn:aws:iam::aws:policy/ReadOnlyAccess|AWS::IAM::Role " + role + "|AWS::STS::AssumedRole arn:aws:sts::123456789012:assumed-role/admin/ada|" +
				"AWS::STS::AssumedRole AROAJQABLZS4A3QDU576Q:ada|AWS::IAM::AccessKey ASIAIOSFODNN7EXAMPLE"},
		{"a user's policy", audit.Record{EventSource: "iam.amazonaws.com", RequestParameters: audit.Parameters(iam.PutUserPolicy.Operation,
			&iam.PutUserPolicyInput{UserName: shape.Ptr("ada"), PolicyName: shape.Ptr("p"), PolicyDocument: shape.Ptr(`{"Resource":"arn:aws:iam::1:user/x"}`)})},
			"AWS::IAM::Policy p|AWS::IAM::User ada"},
		{"each once, and nothing from other members", audit.Record{EventSource: "workspaces.amazonaws.com", RequestParameters: audit.Parameters(workspaces.CreateTags.Operation,
			&workspaces.CreateTagsInput{ResourceId: shape.Ptr("ws-f9abcdefg"), Tags: []workspaces.Tag{{Key: shape.Ptr("ws-1"), Value: shape.Ptr("d-1")}}})},
			"AWS::WorkSpaces::Workspace ws-f9abcdefg"},
		{"lists", audit.Record{EventSource: "workspaces.amazonaws.com", RequestParameters: audit.Parameters(workspaces.DescribeWorkspaces.Operation,
			&workspaces.DescribeWorkspacesInput{WorkspaceIds: []string{"ws-1", "ws-2", "ws-1", "x", "q-1", "ws-"}})}, "AWS::WorkSpaces::Workspace ws-1|AWS::WorkSpaces::Workspace ws-2"},
		{"none", audit.Record{EventSource: "sts.amazonaws.com"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, r := range resources(&c.rec) {
				got = append(got, r.kind+" "+r.name)
			}
			if strings.Join(got, "|") != c.want {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), c.want)
			}
		})
	}
	t.Run("no more than 200", func(t *testing.T) {
		var ids []string
		for i := range 250 {
			ids = append(ids, fmt.Sprintf("ws-%d", i))
		}
		rec := audit.Record{RequestParameters: audit.Parameters(workspaces.DescribeWorkspaces.Operation, &workspaces.DescribeWorkspacesInput{WorkspaceIds: ids})}
		if n := len(resources(&rec)); n != maxResources {
			t.Errorf("%d", n)
		}
	})
}

// FuzzResources: names come from clients. Whatever they are, a document is read to its end, and what is found stands in it.
func FuzzResources(f *testing.F) {
	f.Add("ws-1", `a":{"userName":"x`)
	f.Add("arn:aws:iam::1:user/x", "arn:::::")
	f.Add("\xe2", "\x80\x9a\x01")
	f.Fuzz(func(t *testing.T, a, b string) {
		// A name that is no text, or is longer than a record keeps, stands in the record as something else.
		kept := func(name string) bool { return utf8.ValidString(name) && len(name) < 1000 }
		rec := audit.Record{EventSource: "iam.amazonaws.com", RequestParameters: audit.Parameters(workspaces.DescribeWorkspaces.Operation, &workspaces.DescribeWorkspacesInput{
			WorkspaceIds: []string{a, b}, UserName: &b})}
		for _, r := range resources(&rec) {
			if r.name != a && r.name != b && kept(a) && kept(b) {
				t.Errorf("found %q in %q and %q", r.name, a, b)
			}
		}
	})
}

// The AWS CLI takes a value that begins with a hyphen for an option.
func TestANextTokenNeverBeginsWithAHyphen(t *testing.T) {
	s := New(Deps{Clock: clock.System{}, Rand: rand.Reader, TokenKey: [32]byte{1}, AccountID: account})
	for range 1000 {
		if token := *s.seal(nil, audit.Position{Sequence: 7}); token[0] == '-' {
			t.Fatalf("%s", token)
		}
	}
}

// FuzzNextToken: a token that opens without having been sealed would be a forged one.
func FuzzNextToken(f *testing.F) {
	s := New(Deps{Clock: clock.System{}, Rand: rand.Reader, TokenKey: [32]byte{1}, AccountID: account})
	f.Add("AAAA")
	f.Add(strings.Repeat("A", 80))
	f.Fuzz(func(t *testing.T, token string) {
		if at, err := s.open([]byte("x"), &token); err == nil {
			t.Errorf("%q opens as %v", token, at)
		}
	})
}
