package workspaces

import (
	"context"
	"encoding/base64"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

// describeAll is one call.
func (w *world) describe(in api.DescribeWorkspacesInput) (*api.DescribeWorkspacesOutput, error) {
	return w.DescribeWorkspaces(context.Background(), service.Call{}, &in)
}

func idsOf(list []api.Workspace) []string {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = *list[i].WorkspaceId
	}
	return ids
}

// fill stores n WorkSpaces: every third is ada's (of her own directory number), the odd ones are of bundle mine.
func fill(w *world, n int) {
	w.t.Helper()
	recs := make([]*state.Workspace, n)
	for i := range recs {
		spec := state.WorkspaceSpec{DirectoryID: corp, UserName: fmt.Sprint("User", i), BundleID: standard, RunningMode: "ALWAYS_ON", RootGiB: 80, UserGiB: 50,
			Compute: "STANDARD", Protocols: []string{"WSP"}, Power: state.PowerRunning}
		if i%2 == 1 {
			spec.BundleID = mine
		}
		if i%10 == 9 {
			spec.DirectoryID, spec.UserName, spec.Name = other, undefinedUser, fmt.Sprint("kiosk-", i%20)
		}
		recs[i] = &state.Workspace{ID: ident.WorkspaceID(fmt.Sprintf("ws-%09d", i)), Spec: spec, Status: state.WorkspaceStatus{State: "AVAILABLE", IPAddress: "10.0.1.7"}}
	}
	for len(recs) > 0 {
		m := min(len(recs), 1000)
		put(w, state.Workspaces, recs[:m]...)
		recs = recs[m:]
	}
}

func TestDescribeWorkspacesFilters(t *testing.T) {
	w := furnish(t)
	fill(w, 40)
	s := func(v string) *string { return &v }
	for _, c := range []struct {
		name string
		in   api.DescribeWorkspacesInput
		want []string
	}{
		{"by id", api.DescribeWorkspacesInput{WorkspaceIds: []string{"ws-000000007"}}, []string{"ws-000000007"}},
		{"by ids, in order and each once", api.DescribeWorkspacesInput{WorkspaceIds: []string{"ws-000000007", "ws-000000003", "ws-000000007"}}, []string{"ws-000000003", "ws-000000007"}},
		{"an unknown id is left out", api.DescribeWorkspacesInput{WorkspaceIds: []string{"ws-999999999", "ws-000000003"}}, []string{"ws-000000003"}},
		{"only unknown ids", api.DescribeWorkspacesInput{WorkspaceIds: []string{"ws-999999999"}}, []string{}},
		{"by directory", api.DescribeWorkspacesInput{DirectoryId: s(string(other))}, []string{"ws-000000009", "ws-000000019", "ws-000000029", "ws-000000039"}},
		{"by an unknown directory", api.DescribeWorkspacesInput{DirectoryId: s("d-0123456789")}, []string{}},
		{"by user, whatever the case", api.DescribeWorkspacesInput{DirectoryId: s(string(corp)), UserName: s("uSER12")}, []string{"ws-000000012"}},
		{"by a user of another directory", api.DescribeWorkspacesInput{DirectoryId: s(string(other)), UserName: s("User12")}, []string{}},
		{"by name", api.DescribeWorkspacesInput{DirectoryId: s(string(other)), WorkspaceName: s("kiosk-19")}, []string{"ws-000000019", "ws-000000039"}},
		{"by name in another directory", api.DescribeWorkspacesInput{DirectoryId: s(string(corp)), WorkspaceName: s("kiosk-19")}, []string{}},
		{"by name and the reserved user", api.DescribeWorkspacesInput{DirectoryId: s(string(other)), WorkspaceName: s("kiosk-9"), UserName: s(undefinedUser)}, []string{"ws-000000009", "ws-000000029"}},
		{"by name and a user, which have nothing in common", api.DescribeWorkspacesInput{DirectoryId: s(string(other)), WorkspaceName: s("kiosk-9"), UserName: s("ada")}, []string{}},
		{"by bundle", api.DescribeWorkspacesInput{BundleId: s(string(graphics))}, []string{}},
		{"the first page of a bundle", api.DescribeWorkspacesInput{BundleId: s(string(mine)), Limit: number(2)}, []string{"ws-000000001", "ws-000000003"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := must(w.describe(c.in))(t)
			if got := idsOf(out.Workspaces); strings.Join(got, " ") != strings.Join(c.want, " ") {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if out.Workspaces == nil {
				t.Error("an empty list is absent")
			}
		})
	}
}

func TestAWorkspaceThatCannotBeTerminatedSaysWhichStepFails(t *testing.T) {
	w := furnish(t)
	id := w.workspace("ws-000000001", "TERMINATING", autoStop)
	alter(w, state.Workspaces, string(id), func(rec *state.Workspace) {
		rec.Status.Backoff, rec.Status.ErrorCode, rec.Status.ErrorMessage = state.Backoff{}, "", ""
	})
	one := func() api.Workspace {
		return must(w.describe(api.DescribeWorkspacesInput{WorkspaceIds: []string{string(id)}}))(t).Workspaces[0]
	}
	if got := one(); got.ErrorCode != nil || got.ErrorMessage != nil {
		t.Errorf("%q, %q before anything has failed", shape.Val(got.ErrorCode), shape.Val(got.ErrorMessage))
	}
	alter(w, state.Workspaces, string(id), func(rec *state.Workspace) {
		rec.Status.Backoff = state.Backoff{Step: "terminate/scrub", Attempts: 3, Error: "scrub on host-7: /dev/shm/ws"}
	})
	got := one()
	if shape.Val(got.ErrorCode) != "TerminationDelayed" || !strings.Contains(shape.Val(got.ErrorMessage), "terminate/scrub has failed 3 times") ||
		strings.Contains(shape.Val(got.ErrorMessage), "host-7") {
		t.Errorf("%q, %q", shape.Val(got.ErrorCode), shape.Val(got.ErrorMessage))
	}
	alter(w, state.Workspaces, string(id), func(rec *state.Workspace) { rec.Status.State = "AVAILABLE" })
	if got := one(); got.ErrorCode != nil {
		t.Errorf("an AVAILABLE WorkSpace shows %q", *got.ErrorCode)
	}
}

func TestDescribeWorkspacesRefusesFiltersThatExcludeEachOther(t *testing.T) {
	w := furnish(t)
	ids, text := []string{"ws-000000001"}, shape.Ptr("d-90670a1b2c")
	for name, in := range map[string]api.DescribeWorkspacesInput{
		"ids and directory":      {WorkspaceIds: ids, DirectoryId: text},
		"ids and bundle":         {WorkspaceIds: ids, BundleId: text},
		"directory and bundle":   {DirectoryId: text, BundleId: text},
		"all three":              {WorkspaceIds: ids, DirectoryId: text, BundleId: text},
		"user without directory": {UserName: text},
		"name without directory": {WorkspaceName: text},
		"ids and user":           {WorkspaceIds: ids, UserName: text},
		"bundle and user":        {BundleId: text, UserName: text},
		"ids and name":           {WorkspaceIds: ids, WorkspaceName: text},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.describe(in)
			refused(t, err, "InvalidParameterValuesException")
		})
	}
}

func TestDescribeWorkspacesWalksEveryPageOnce(t *testing.T) {
	w := furnish(t)
	fill(w, 103)
	for _, c := range []struct {
		name  string
		in    api.DescribeWorkspacesInput
		total int
		pages int
	}{
		{"all", api.DescribeWorkspacesInput{}, 103, 5},
		{"all, two at a time", api.DescribeWorkspacesInput{Limit: number(2)}, 103, 52},
		{"a directory", api.DescribeWorkspacesInput{DirectoryId: shape.Ptr(string(corp))}, 93, 4},
		{"a bundle", api.DescribeWorkspacesInput{BundleId: shape.Ptr(string(mine)), Limit: number(17)}, 51, 3},
		{"named ids", api.DescribeWorkspacesInput{WorkspaceIds: []string{"ws-000000005", "ws-000000001", "ws-000000003"}, Limit: number(2)}, 3, 2},
		{"a name", api.DescribeWorkspacesInput{DirectoryId: shape.Ptr(string(other)), WorkspaceName: shape.Ptr("kiosk-9"), Limit: number(2)}, 5, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			last, seen, pages := "", 0, 0
			for {
				out := must(w.describe(c.in))(t)
				pages++
				for _, id := range idsOf(out.Workspaces) {
					if id <= last {
						t.Fatalf("%s comes after %s", id, last)
					}
					last, seen = id, seen+1
				}
				if out.NextToken == nil {
					break
				}
				c.in.NextToken = out.NextToken
			}
			if seen != c.total || pages != c.pages {
				t.Errorf("%d WorkSpaces on %d pages, want %d on %d", seen, pages, c.total, c.pages)
			}
		})
	}
}

// The AWS CLI takes a value that begins with a hyphen for an option.
func TestANextTokenNeverBeginsWithAHyphen(t *testing.T) {
	w := furnish(t)
	fill(w, 60)
	for range 1000 {
		if token := *must(w.describe(api.DescribeWorkspacesInput{Limit: number(5)}))(t).NextToken; token[0] == '-' {
			t.Fatalf("%s", token)
		}
	}
}

func TestANextTokenIsGoodForItsOwnQueryOnly(t *testing.T) {
	w := furnish(t)
	fill(w, 60)
	query := api.DescribeWorkspacesInput{DirectoryId: shape.Ptr(string(corp)), Limit: number(5)}
	token := *must(w.describe(query))(t).NextToken
	bits, _ := base64.RawStdEncoding.DecodeString(token)
	flipped := func(i int) string {
		b := append([]byte(nil), bits...)
		b[i] ^= 1
		return base64.RawStdEncoding.EncodeToString(b)
	}
	for name, in := range map[string]api.DescribeWorkspacesInput{
		"all WorkSpaces":         {NextToken: &token},
		"another directory":      {NextToken: &token, DirectoryId: shape.Ptr(string(other))},
		"a user of it":           {NextToken: &token, DirectoryId: query.DirectoryId, UserName: shape.Ptr("user1")},
		"ids":                    {NextToken: &token, WorkspaceIds: []string{"ws-000000001"}},
		"its first bit changed":  {NextToken: shape.Ptr(flipped(0)), DirectoryId: query.DirectoryId},
		"its middle bit changed": {NextToken: shape.Ptr(flipped(len(bits) / 2)), DirectoryId: query.DirectoryId},
		"its last bit changed":   {NextToken: shape.Ptr(flipped(len(bits) - 1)), DirectoryId: query.DirectoryId},
		"its end cut off":        {NextToken: shape.Ptr(token[:len(token)-4]), DirectoryId: query.DirectoryId},
		"nearly all cut off":     {NextToken: shape.Ptr(token[:4]), DirectoryId: query.DirectoryId},
		"no token at all":        {NextToken: shape.Ptr("1"), DirectoryId: query.DirectoryId},
		"an empty token":         {NextToken: shape.Ptr(""), DirectoryId: query.DirectoryId},
		"a token in clear text":  {NextToken: shape.Ptr("ws-000000005"), DirectoryId: query.DirectoryId},
	} {
		t.Run("with "+name+" it is refused by name", func(t *testing.T) {
			_, err := w.describe(in)
			refused(t, err, "InvalidParameterValuesException")
			if !strings.Contains(err.Error(), "NextToken") {
				t.Errorf("the message does not name NextToken: %v", err)
			}
		})
	}
	t.Run("another operation refuses it", func(t *testing.T) {
		_, err := w.DescribeWorkspacesConnectionStatus(context.Background(), service.Call{}, &api.DescribeWorkspacesConnectionStatusInput{NextToken: &token})
		refused(t, err, "InvalidParameterValuesException")
	})
	t.Run("another service's key refuses it", func(t *testing.T) {
		deps := w.Deps
		deps.TokenKey = [32]byte{1}
		in := query
		in.NextToken = &token
		_, err := New(deps).DescribeWorkspaces(context.Background(), service.Call{}, &in)
		refused(t, err, "InvalidParameterValuesException")
	})
	t.Run("another page size goes on where it stopped, with the same key after a restart too", func(t *testing.T) {
		in := query
		in.NextToken, in.Limit = &token, number(1)
		out := must(New(w.Deps).DescribeWorkspaces(context.Background(), service.Call{}, &in))(t)
		if got := idsOf(out.Workspaces); len(got) != 1 || got[0] != "ws-000000005" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("it lives for a day", func(t *testing.T) {
		in := query
		in.NextToken = &token
		w.clock.Advance(23*time.Hour + 59*time.Minute)
		must(w.describe(in))(t)
		w.clock.Advance(2 * time.Minute)
		_, err := w.describe(in)
		refused(t, err, "InvalidParameterValuesException")
	})
}

func FuzzNextToken(f *testing.F) {
	w := furnish(f)
	good := *w.pages.seal(query{"op", "filter"}, "ws-000000001")
	f.Add(good)
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		after, err := w.pages.open(query{"op", "filter"}, &token)
		if err == nil && (token != good || after != "ws-000000001") {
			t.Fatalf("a token that was not given out is taken: %q", token)
		}
		if err != nil && codeOf(err) != "InvalidParameterValuesException" {
			t.Fatal(err)
		}
	})
}

func TestConnectionStatus(t *testing.T) {
	w := furnish(t)
	checked := w.clock.Now().UTC().Round(0)
	for i, c := range []struct{ state, reported string }{{"AVAILABLE", ""}, {"AVAILABLE", "CONNECTED"}, {"AVAILABLE", "DISCONNECTED"}, {"STOPPED", "CONNECTED"}, {"PENDING", "CONNECTED"}} {
		id := w.workspace(fmt.Sprintf("ws-%09d", i), c.state, autoStop)
		if c.reported != "" {
			alter(w, state.Workspaces, string(id), func(ws *state.Workspace) {
				ws.Status.Connection, ws.Status.CheckedAt, ws.Status.LastUserSeen = c.reported, checked, checked
			})
		}
	}
	out := must(w.DescribeWorkspacesConnectionStatus(context.Background(), service.Call{}, &api.DescribeWorkspacesConnectionStatusInput{}))(t)
	want := []api.ConnectionState{"UNKNOWN", "CONNECTED", "DISCONNECTED", "UNKNOWN", "UNKNOWN"}
	if len(out.WorkspacesConnectionStatus) != len(want) {
		t.Fatalf("%d statuses", len(out.WorkspacesConnectionStatus))
	}
	for i, s := range out.WorkspacesConnectionStatus {
		if *s.ConnectionState != want[i] {
			t.Errorf("%s is %s, want %s", *s.WorkspaceId, *s.ConnectionState, want[i])
		}
	}
	if first, second := out.WorkspacesConnectionStatus[0], out.WorkspacesConnectionStatus[1]; first.ConnectionStateCheckTimestamp != nil ||
		!second.ConnectionStateCheckTimestamp.Equal(checked) || !second.LastKnownUserConnectionTimestamp.Equal(checked) {
		t.Errorf("times: %+v %+v", first, second)
	}
	named := must(w.DescribeWorkspacesConnectionStatus(context.Background(), service.Call{}, &api.DescribeWorkspacesConnectionStatusInput{WorkspaceIds: []string{"ws-000000002", "ws-999999999"}}))(t)
	if len(named.WorkspacesConnectionStatus) != 1 || *named.WorkspacesConnectionStatus[0].WorkspaceId != "ws-000000002" {
		t.Errorf("named: %+v", named)
	}
	fill(w, 60)
	paged := must(w.DescribeWorkspacesConnectionStatus(context.Background(), service.Call{}, &api.DescribeWorkspacesConnectionStatusInput{}))(t)
	if len(paged.WorkspacesConnectionStatus) != 25 || paged.NextToken == nil {
		t.Errorf("%d on a page, token %v", len(paged.WorkspacesConnectionStatus), paged.NextToken)
	}
}

// Each record is one allocation, for they are kept packed, and none where the memory of an answer is used again.
func TestDescribingAPageCostsFewAllocations(t *testing.T) {
	w := furnish(t)
	fill(w, 60)
	one := &api.DescribeWorkspacesInput{WorkspaceIds: []string{"ws-000000007"}}
	if n := testing.AllocsPerRun(200, func() { _, _ = w.DescribeWorkspaces(context.Background(), service.Call{}, one) }); n > 16 {
		t.Errorf("%v allocations for one WorkSpace", n)
	}
	page := &api.DescribeWorkspacesInput{}
	if n := testing.AllocsPerRun(200, func() { _, _ = w.DescribeWorkspaces(context.Background(), service.Call{}, page) }); n > 20+25 {
		t.Errorf("%v allocations for a page of 25", n)
	}
	var back func()
	lend := service.Call{Lend: func(fn func()) { back = fn }}
	if n := testing.AllocsPerRun(200, func() { _, _ = w.DescribeWorkspaces(context.Background(), lend, page); back() }); n > 20 {
		t.Errorf("%v allocations for a page of 25 in lent memory", n)
	}
}

func BenchmarkDescribeWorkspaces(b *testing.B) {
	for _, size := range []int{100, 100_000} {
		w := furnish(b)
		fill(w, size)
		for name, in := range map[string]*api.DescribeWorkspacesInput{
			"id":             {WorkspaceIds: []string{fmt.Sprintf("ws-%09d", size/2)}},
			"user":           {DirectoryId: shape.Ptr(string(corp)), UserName: shape.Ptr("user12")},
			"directory page": {DirectoryId: shape.Ptr(string(corp))},
		} {
			b.Run(fmt.Sprintf("%s of %d", name, size), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := w.DescribeWorkspaces(context.Background(), service.Call{}, in); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("%s of %d in lent memory", name, size), func(b *testing.B) {
				var back func()
				lend := service.Call{Lend: func(fn func()) { back = fn }}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := w.DescribeWorkspaces(context.Background(), lend, in); err != nil {
						b.Fatal(err)
					}
					back()
				}
			})
		}
	}
}

func TestAnAnswersMemoryIsUsedAgainOnlyWhenItIsGivenBack(t *testing.T) {
	w := furnish(t)
	fill(w, 60)
	// One with everything that most do not have: it must leave nothing behind.
	full := &state.Workspace{ID: "ws-000000000", Spec: state.WorkspaceSpec{DirectoryID: corp, UserName: "User0", BundleID: standard, RunningMode: "AUTO_STOP", AutoStopMinutes: 60,
		RootGiB: 80, UserGiB: 50, Compute: "STANDARD", Protocols: []string{"WSP", "PCOIP"}, OperatingSystem: "UBUNTU_22_04", EncryptUser: true, EncryptRoot: true, VolumeEncryptionKey: "key", Name: "name"},
		Status: state.WorkspaceStatus{State: "ERROR", IPAddress: "10.0.1.8", SubnetID: "subnet-1", ComputerName: "WSAMZN-1", ErrorCode: "Code", ErrorMessage: "message"}}
	put(w, state.Workspaces, full)
	s := func(v string) *string { return &v }
	queries := []api.DescribeWorkspacesInput{{DirectoryId: s(string(corp))}, {DirectoryId: s(string(other))}, {BundleId: s(string(mine))}, {WorkspaceIds: []string{"ws-000000000"}}, {Limit: number(7)},
		{WorkspaceIds: []string{"ws-000000003", "ws-000000001"}}, {DirectoryId: s(string(corp)), UserName: s("user4")}}
	var want []*api.DescribeWorkspacesOutput
	for _, q := range queries {
		want = append(want, must(w.describe(q))(t))
	}
	same := func(a, b *api.DescribeWorkspacesOutput) bool { return reflect.DeepEqual(a.Workspaces, b.Workspaces) }
	var back []func()
	lend := service.Call{Lend: func(fn func()) { back = append(back, fn) }}
	for range 3 {
		// All answers are held at the same time, so none may be in another's memory; then all of it is used again.
		var got []*api.DescribeWorkspacesOutput
		for _, q := range queries {
			got = append(got, must(w.DescribeWorkspaces(context.Background(), lend, &q))(t))
		}
		for i := range queries {
			if !same(got[i], want[i]) {
				t.Errorf("query %d with lent memory:\n%v\nwant\n%v", i, got[i], want[i])
			}
		}
		if len(back) != len(queries) {
			t.Fatalf("%d calls have lent %d sheets", len(queries), len(back))
		}
		for _, fn := range back {
			fn()
		}
		back = nil
		slices.Reverse(queries)
		slices.Reverse(want)
	}
}
