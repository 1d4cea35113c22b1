package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// ledger is what a client has been told, over all crashes: what it may rely on.
type ledger struct {
	mu sync.Mutex
	n  int
	// desktops by WorkSpace id: the user, or the name of one without user.
	desktops map[string]string
	// tags by WorkSpace id.
	tags map[string]map[string]string
	// ending were asked to end and that was acknowledged; unsure were asked and nobody knows.
	ending, unsure map[string]bool
	// seen were AVAILABLE once, so that there is memory to scrub.
	seen          map[string]bool
	groups, users map[string]bool
	// maybe are names of groups and users whose creation was not answered.
	maybeGroups, maybeUsers map[string]bool
}

func newLedger() *ledger {
	return &ledger{desktops: map[string]string{}, tags: map[string]map[string]string{}, ending: map[string]bool{}, unsure: map[string]bool{}, seen: map[string]bool{},
		groups: map[string]bool{}, users: map[string]bool{}, maybeGroups: map[string]bool{}, maybeUsers: map[string]bool{}}
}

func (l *ledger) name(prefix string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	return fmt.Sprintf("%s-%d", prefix, l.n)
}

func (l *ledger) note(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
}

// pick is any desktop that nobody has asked to end.
func (l *ledger) pick(r *rand.Rand) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(l.desktops)) {
		if !l.ending[id] && !l.unsure[id] {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return "", false
	}
	return ids[r.IntN(len(ids))], true
}

const people = 60

// TestKillLosesNothingAcknowledged kills the real process with -9 at random moments under load and starts it again: whatever it had
// acknowledged is there, nothing is half made, every desktop comes up or goes with exactly one certificate, and no machine is left.
//
// CARREL_CRASH_ROUNDS (8) says how often, CARREL_CRASH_SEED how the moments fall; the seed in use is printed.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	rounds, seed := 8, uint64(time.Now().UnixNano())
	if v, err := strconv.Atoi(os.Getenv("CARREL_CRASH_ROUNDS")); err == nil {
		rounds = v
	}
	if v, err := strconv.ParseUint(os.Getenv("CARREL_CRASH_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("CARREL_CRASH_SEED=%d CARREL_CRASH_ROUNDS=%d", seed, rounds)
	random := rand.New(rand.NewPCG(seed, 1))
	state := filepath.Join(t.TempDir(), "state")
	conf := "limits: {ipGroups: 10000}\n"
	w := boot(t, state, conf)
	w.furnish(t)
	var names []string
	for i := range people {
		names = append(names, fmt.Sprintf("person%d", i))
	}
	w.carrel(t, append([]string{"simulate", "user"}, names...)...)
	l := newLedger()
	for range rounds {
		load(t, w, l, random.Uint64(), time.Duration(100+random.IntN(900))*time.Millisecond, w.kill)
		next := boot(t, state, conf)
		next.directory, next.bundle = w.directory, w.bundle
		w = next
		l.check(t, w)
	}
	// The last stop is an orderly one, under the same load.
	load(t, w, l, random.Uint64(), 500*time.Millisecond, func() { w.stop(t) })
	next := boot(t, state, conf)
	next.directory, next.bundle = w.directory, w.bundle
	w = next
	l.check(t, w)
	l.nothingHalfMade(t, w)
	l.endAll(t, w)
	w.stop(t)
	l.nothingLeft(t, w)
	t.Logf("%d desktops, %d IP groups, %d users acknowledged; %d and %d creations were never answered", len(l.desktops), len(l.groups), len(l.users), len(l.maybeGroups), len(l.maybeUsers))
	if len(l.desktops) == 0 || len(l.groups) == 0 || len(l.users) == 0 || len(l.ending) == 0 {
		t.Error("the load did nothing")
	}
}

// load writes from many sides, and ends the server after a while.
func load(t *testing.T, w *world, l *ledger, seed uint64, after time.Duration, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	writers := []func(context.Context, *testing.T, *world, *rand.Rand) bool{l.createDesktops, l.createDesktops, l.createForPerson, l.createGroup, l.createUser, l.tag, l.terminate}
	for i, write := range writers {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for write(ctx, t, w, r) {
			}
		})
	}
	timer := time.NewTimer(after)
	<-timer.C
	end()
	cancel()
	wg.Wait()
}

// ask sends a call of awsJson; ok is false when nobody answered, or a server that stops said so.
func ask(ctx context.Context, t *testing.T, w *world, c *call, into any) bool {
	a, err := w.do(ctx, c.sign(t))
	if err != nil || a.status == http.StatusServiceUnavailable {
		return false
	}
	if a.status != http.StatusOK {
		if a.status >= 500 {
			return false // not acknowledged; whether that was right shows in the check
		}
		t.Errorf("%s: %v", c.body, a)
		return false
	}
	if into != nil {
		if err := json.Unmarshal([]byte(a.body), into); err != nil {
			t.Errorf("%v: %v", a, err)
		}
	}
	return true
}

type created struct {
	PendingRequests []struct{ WorkspaceId, UserName, WorkspaceName string }
	FailedRequests  []struct{ ErrorCode, ErrorMessage string }
}

func (l *ledger) createDesktops(ctx context.Context, t *testing.T, w *world, _ *rand.Rand) bool {
	// As many desktops as a minute can bring up: the writers of smaller things give the load.
	pause := time.NewTimer(40 * time.Millisecond)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return false
	}
	var requests []string
	for range 3 {
		requests = append(requests, fmt.Sprintf(`{"DirectoryId":%q,"BundleId":%q,"UserName":"[UNDEFINED]","WorkspaceName":%q}`, w.directory, w.bundle, l.name("desk")))
	}
	var out created
	if !ask(ctx, t, w, w.jsonCall("workspaces", "CreateWorkspaces", `{"Workspaces":[`+strings.Join(requests, ",")+`]}`), &out) {
		return false
	}
	if len(out.PendingRequests) != 3 {
		t.Errorf("create: %+v", out)
	}
	l.note(func() {
		for _, p := range out.PendingRequests {
			l.desktops[p.WorkspaceId] = p.WorkspaceName
		}
	})
	return true
}

func (l *ledger) createForPerson(ctx context.Context, t *testing.T, w *world, r *rand.Rand) bool {
	pause := time.NewTimer(20 * time.Millisecond)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return false
	}
	var out created
	body := fmt.Sprintf(`{"Workspaces":[{"DirectoryId":%q,"BundleId":%q,"UserName":"person%d"}]}`, w.directory, w.bundle, r.IntN(people))
	if !ask(ctx, t, w, w.jsonCall("workspaces", "CreateWorkspaces", body), &out) {
		return false
	}
	for _, f := range out.FailedRequests {
		if f.ErrorCode != "ResourceExists.WorkSpace" {
			t.Errorf("create: %+v", f)
		}
	}
	l.note(func() {
		for _, p := range out.PendingRequests {
			l.desktops[p.WorkspaceId] = p.UserName
		}
	})
	return true
}

func (l *ledger) createGroup(ctx context.Context, t *testing.T, w *world, _ *rand.Rand) bool {
	name := l.name("group")
	l.note(func() { l.maybeGroups[name] = true })
	if !ask(ctx, t, w, w.jsonCall("workspaces", "CreateIpGroup", fmt.Sprintf(`{"GroupName":%q,"UserRules":[{"ipRule":"10.0.0.0/8"}]}`, name)), nil) {
		return false
	}
	l.note(func() { delete(l.maybeGroups, name); l.groups[name] = true })
	return true
}

func (l *ledger) createUser(ctx context.Context, t *testing.T, w *world, _ *rand.Rand) bool {
	name := l.name("user")
	l.note(func() { l.maybeUsers[name] = true })
	a, err := w.do(ctx, w.formCall("iam", url.Values{"Action": {"CreateUser"}, "Version": {"2010-05-08"}, "UserName": {name}}).sign(t))
	if err != nil || a.status >= 500 {
		return false
	}
	if a.status != http.StatusOK {
		t.Error(a)
		return false
	}
	l.note(func() { delete(l.maybeUsers, name); l.users[name] = true })
	return true
}

func (l *ledger) tag(ctx context.Context, t *testing.T, w *world, r *rand.Rand) bool {
	id, ok := l.pick(r)
	if !ok {
		return ctx.Err() == nil && w.alive()
	}
	key := fmt.Sprintf("key%d", r.IntN(20))
	value := l.name("value")
	l.mu.Lock()
	old, had := l.tags[id][key]
	l.mu.Unlock()
	a, err := w.do(ctx, w.jsonCall("workspaces", "CreateTags", fmt.Sprintf(`{"ResourceId":%q,"Tags":[{"Key":%q,"Value":%q}]}`, id, key, value)).sign(t))
	answered := err == nil && a.status < 500
	l.note(func() {
		if l.tags[id] == nil {
			l.tags[id] = map[string]string{}
		}
		switch {
		case answered && a.status == http.StatusOK:
			l.tags[id][key] = value
		case had:
			// Either of the two may be there now.
			l.tags[id][key] = old + "|" + value
		}
		if a.status/100 == 4 && !l.ending[id] && !l.unsure[id] {
			t.Errorf("tag %s: %v", id, a)
		}
	})
	return answered
}

func (l *ledger) terminate(ctx context.Context, t *testing.T, w *world, r *rand.Rand) bool {
	// Some desktops live to hold memory.
	pause := time.NewTimer(30 * time.Millisecond)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return false
	}
	id, ok := l.pick(r)
	if !ok {
		return ctx.Err() == nil && w.alive()
	}
	l.note(func() { l.unsure[id] = true })
	var out struct {
		FailedRequests []struct{ ErrorCode, ErrorMessage string }
	}
	if !ask(ctx, t, w, w.jsonCall("workspaces", "TerminateWorkspaces", fmt.Sprintf(`{"TerminateWorkspaceRequests":[{"WorkspaceId":%q}]}`, id)), &out) {
		return false
	}
	if len(out.FailedRequests) > 0 {
		t.Errorf("terminate %s: %+v", id, out.FailedRequests)
	}
	l.note(func() { delete(l.unsure, id); l.ending[id] = true })
	return true
}

type desktop struct{ WorkspaceId, UserName, WorkspaceName, State, ErrorMessage string }

// desktops lists all WorkSpaces, by paging.
func (w *world) desktops(t testing.TB) map[string]desktop {
	t.Helper()
	all := map[string]desktop{}
	token := ""
	for {
		body := `{}`
		if token != "" {
			body = fmt.Sprintf(`{"NextToken":%q}`, token)
		}
		var page struct {
			Workspaces []desktop
			NextToken  string
		}
		w.decode(t, w.must(t, w.jsonCall("workspaces", "DescribeWorkspaces", body)), &page)
		for _, d := range page.Workspaces {
			all[d.WorkspaceId] = d
		}
		if token = page.NextToken; token == "" {
			return all
		}
	}
}

func (w *world) groups(t testing.TB) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	token := ""
	for {
		body := `{}`
		if token != "" {
			body = fmt.Sprintf(`{"NextToken":%q}`, token)
		}
		var page struct {
			Result []struct {
				GroupName string `json:"groupName"`
			}
			NextToken string
		}
		w.decode(t, w.must(t, w.jsonCall("workspaces", "DescribeIpGroups", body)), &page)
		for _, g := range page.Result {
			all[g.GroupName] = true
		}
		if token = page.NextToken; token == "" {
			return all
		}
	}
}

func (w *world) users(t testing.TB) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	marker := ""
	for {
		values := url.Values{"Action": {"ListUsers"}, "Version": {"2010-05-08"}, "MaxItems": {"1000"}}
		if marker != "" {
			values.Set("Marker", marker)
		}
		var page struct {
			Names       []string `xml:"ListUsersResult>Users>member>UserName"`
			IsTruncated bool     `xml:"ListUsersResult>IsTruncated"`
			Marker      string   `xml:"ListUsersResult>Marker"`
		}
		a := w.must(t, w.formCall("iam", values))
		if err := xml.Unmarshal([]byte(a.body), &page); err != nil {
			t.Fatalf("%v: %v", a, err)
		}
		for _, n := range page.Names {
			all[n] = true
		}
		if marker = page.Marker; !page.IsTruncated {
			return all
		}
	}
}

// ended tells that a desktop is on its way out: TERMINATED is its last state before it is gone.
func ended(d desktop) bool { return d.State == "TERMINATING" || d.State == "TERMINATED" }

// check holds what is there against what was acknowledged.
func (l *ledger) check(t *testing.T, w *world) {
	t.Helper()
	have := w.desktops(t)
	for id, name := range l.desktops {
		d, there := have[id]
		switch {
		case l.ending[id]:
			if there && !ended(d) {
				t.Errorf("%s was terminated and is %s", id, d.State)
			}
		case l.unsure[id]:
		case !there:
			t.Errorf("%s was acknowledged and is gone", id)
		case d.UserName != name && d.WorkspaceName != name:
			t.Errorf("%s is %+v, was made for %s", id, d, name)
		}
	}
	// A desktop whose creation was not answered may be there; from now on it counts.
	for id, d := range have {
		if l.desktops[id] == "" {
			l.desktops[id] = d.UserName
			if d.WorkspaceName != "" {
				l.desktops[id] = d.WorkspaceName
			}
		}
		if d.State == "AVAILABLE" {
			l.seen[id] = true
		}
		if l.unsure[id] {
			delete(l.unsure, id)
			l.ending[id] = ended(d)
			if !l.ending[id] {
				delete(l.ending, id)
			}
		}
	}
	for id := range l.unsure {
		delete(l.unsure, id)
		l.ending[id] = true
	}
	missing := func(what string, want, have map[string]bool) {
		for name := range want {
			if !have[name] {
				t.Errorf("%s %s was acknowledged and is gone", what, name)
			}
		}
	}
	missing("IP group", l.groups, w.groups(t))
	missing("user", l.users, w.users(t))
	for _, id := range slices.Sorted(maps.Keys(l.tags)) {
		if _, there := have[id]; !there || l.ending[id] {
			continue
		}
		var out struct{ TagList []struct{ Key, Value string } }
		w.decode(t, w.must(t, w.jsonCall("workspaces", "DescribeTags", fmt.Sprintf(`{"ResourceId":%q}`, id))), &out)
		now := map[string]string{}
		for _, tag := range out.TagList {
			now[tag.Key] = tag.Value
		}
		for key, values := range l.tags[id] {
			if !slices.Contains(strings.Split(values, "|"), now[key]) {
				t.Errorf("tag %s of %s is %q, acknowledged was %q", key, id, now[key], values)
			}
			l.tags[id][key] = now[key]
		}
	}
}

// nothingHalfMade creates again what may exist: the answer must be the one that fits what is there.
func (l *ledger) nothingHalfMade(t *testing.T, w *world) {
	t.Helper()
	groups, users := w.groups(t), w.users(t)
	for name := range l.maybeGroups {
		a, err := w.do(t.Context(), w.jsonCall("workspaces", "CreateIpGroup", fmt.Sprintf(`{"GroupName":%q}`, name)).sign(t))
		if err != nil || groups[name] != (a.code == "ResourceAlreadyExistsException") || !groups[name] != (a.status == http.StatusOK) {
			t.Errorf("IP group %s, there before: %v: %v %v", name, groups[name], a, err)
		}
	}
	for name := range l.maybeUsers {
		a, err := w.do(t.Context(), w.formCall("iam", url.Values{"Action": {"CreateUser"}, "Version": {"2010-05-08"}, "UserName": {name}}).sign(t))
		if err != nil || users[name] != (a.code == "EntityAlreadyExists") || !users[name] != (a.status == http.StatusOK) {
			t.Errorf("user %s, there before: %v: %v %v", name, users[name], a, err)
		}
	}
	// Every desktop comes up, and every one that was to go is gone.
	until(t, time.Minute, "desktops come to rest", func() (bool, string) {
		have := w.desktops(t)
		for id, d := range have {
			if d.State != "AVAILABLE" {
				return false, fmt.Sprintf("of %d, %s is %s %s\n%s", len(have), id, d.State, d.ErrorMessage, tail(w.out.String(), 3000))
			}
			if l.ending[id] {
				t.Fatalf("%s was terminated and is AVAILABLE", id)
			}
			l.seen[id] = true
		}
		return true, ""
	})
	// One desktop a person: those who have none get one, the others are told that they have.
	has := map[string]bool{}
	for _, d := range w.desktops(t) {
		if d.WorkspaceName == "" && has[d.UserName] {
			t.Errorf("%s has two desktops", d.UserName)
		}
		has[d.UserName] = true
	}
	for i := range people {
		name := fmt.Sprintf("person%d", i)
		var out created
		w.decode(t, w.must(t, w.jsonCall("workspaces", "CreateWorkspaces", fmt.Sprintf(`{"Workspaces":[{"DirectoryId":%q,"BundleId":%q,"UserName":%q}]}`, w.directory, w.bundle, name))), &out)
		if has[name] != (len(out.FailedRequests) == 1 && out.FailedRequests[0].ErrorCode == "ResourceExists.WorkSpace") || !has[name] != (len(out.PendingRequests) == 1) {
			t.Errorf("%s, has a desktop: %v: %+v", name, has[name], out)
		}
		for _, p := range out.PendingRequests {
			l.desktops[p.WorkspaceId] = name
		}
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// endAll terminates all desktops and waits until they are gone.
func (l *ledger) endAll(t *testing.T, w *world) {
	t.Helper()
	until(t, time.Minute, "desktops come up", func() (bool, string) {
		for id, d := range w.desktops(t) {
			if d.State != "AVAILABLE" {
				return false, id + " is " + d.State
			}
			l.seen[id] = true
		}
		return true, ""
	})
	ids := slices.Sorted(maps.Keys(w.desktops(t)))
	for batch := range slices.Chunk(ids, 25) {
		body := `{"TerminateWorkspaceRequests":[{"WorkspaceId":"` + strings.Join(batch, `"},{"WorkspaceId":"`) + `"}]}`
		var out struct{ FailedRequests []any }
		w.decode(t, w.must(t, w.jsonCall("workspaces", "TerminateWorkspaces", body)), &out)
		if len(out.FailedRequests) > 0 {
			t.Errorf("terminate: %v", out.FailedRequests)
		}
	}
	until(t, time.Minute, "desktops go", func() (bool, string) {
		have := w.desktops(t)
		return len(have) == 0, fmt.Sprintf("%d are left: %.300v", len(have), have)
	})
}

// nothingLeft looks at what the stopped server has left behind.
func (l *ledger) nothingLeft(t *testing.T, w *world) {
	t.Helper()
	if out := w.carrel(t, "audit", "verify"); !strings.Contains(out, "are chained") {
		t.Errorf("audit verify: %s", out)
	}
	var certificates []struct {
		CertificateID       string `json:"certificateId"`
		WorkspaceID         string `json:"workspaceId"`
		BytesZeroed         int64  `json:"bytesZeroed"`
		BytesVerified       int64  `json:"bytesVerified"`
		VolumeKeysDestroyed []any  `json:"volumeKeysDestroyed"`
	}
	if err := json.Unmarshal([]byte(w.carrel(t, "scrub", "list", "--json")), &certificates); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, c := range certificates {
		count[c.WorkspaceID]++
		if l.desktops[c.WorkspaceID] == "" || len(c.VolumeKeysDestroyed) == 0 || c.BytesZeroed == 0 || c.BytesZeroed != c.BytesVerified {
			t.Errorf("certificate %+v", c)
		}
	}
	for id := range l.desktops {
		// One that was told to go before its machine first ran held no memory.
		if n := count[id]; n > 1 || n == 0 && l.seen[id] {
			t.Errorf("%s has %d certificates (was AVAILABLE: %v)", id, n, l.seen[id])
		}
	}
	for _, dir := range []string{"memory", "keys"} {
		left, err := os.ReadDir(filepath.Join(w.state, "sim", dir))
		if err != nil || len(left) > 0 {
			t.Errorf("%d files are left in sim/%s: %v", len(left), dir, err)
		}
	}
	journal, err := os.ReadFile(filepath.Join(w.state, "sim", "journal"))
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]string{}
	for line := range bytes.Lines(journal) {
		var e struct {
			Kind, ID string
			Value    json.RawMessage
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if objects[e.Kind+" "+e.ID] = string(e.Value); string(e.Value) == "null" || e.Kind == "domain" {
			delete(objects, e.Kind+" "+e.ID)
		}
	}
	if len(objects) > 0 {
		t.Errorf("the simulated host still has %d objects: %.500v", len(objects), objects)
	}
	t.Logf("%d certificates", len(certificates))
}
