package policy

import (
	"flag"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// compare holds the package to the literal evaluator for one document and one request.
func compare(kind Kind, doc map[string]any, p *Policy, w *world, r *Request) (Decision, string) {
	want, wantIDs, wantGrant := literalDecide(kind, doc, w)
	buffer := make([]int32, 8)
	got := p.Evaluate(r, buffer)
	var ids []int
	for _, id := range buffer[:got.Matched] {
		ids = append(ids, int(id))
	}
	if got.Decision != want || got.Grant != wantGrant || !reflect.DeepEqual(ids, wantIDs) {
		return want, fmt.Sprintf("got %v %v grant %d, the reference says %v %v grant %d\n%s\n%s", got.Decision, ids, got.Grant, want, wantIDs, wantGrant, encode(doc), w)
	}
	return want, ""
}

// explained holds Explain to Evaluate.
func explained(p *Policy, w *world) string {
	r := w.request()
	buffer := make([]int32, 8)
	ids := buffer[:p.Evaluate(r, buffer).Matched]
	for id, why := range p.Explain(r) {
		matched := slices.Contains(ids, int32(id))
		if why.ID != id || why.Matched != matched || (why.Element == "") != matched || strings.HasSuffix(why.String(), " matches") != matched {
			return fmt.Sprintf("Explain says %q of statement %d, Evaluate %v\n%s", why, id, ids, w)
		}
	}
	return ""
}

var (
	morePairs = flag.Int("pairs", 1_000_000, "pairs of policy and request that are compared (figure R3 asks for 1e9 before a release)")
	firstSeed = flag.Uint64("seed", 0, "where their random numbers begin")
)

// pairs is how many pairs of policy and request the differential test tries.
func pairs() int {
	if testing.Short() {
		return 40_000
	}
	return *morePairs
}

func TestRandomPoliciesAreDecidedAsTheReferenceSays(t *testing.T) {
	workers := runtime.GOMAXPROCS(0)
	var wg sync.WaitGroup
	decided := make([][3]int, workers)
	for worker := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			d := newDice(*firstSeed+uint64(worker), nil)
			for range pairs() / groupPolicies / groupRequests / workers {
				if wrong := d.group(&decided[worker]); wrong != "" {
					t.Error(wrong)
					return
				}
			}
		}()
	}
	wg.Wait()
	var sum [3]int
	for _, d := range decided {
		for i := range sum {
			sum[i] += d[i]
		}
	}
	t.Logf("%d implicit denies, %d explicit denies, %d allows", sum[0], sum[1], sum[2])
	for i, n := range sum {
		if total := sum[0] + sum[1] + sum[2]; !t.Failed() && n < total/20 {
			t.Errorf("only %d of %d pairs are decided %v: the generator has lost its aim", n, total, Decision(i))
		}
	}
}

// A group is so many policies, each asked with so many requests.
const groupPolicies, groupRequests = 20, 25

// group compares every policy of a group with every request, and counts the decisions.
func (d *dice) group(decided *[3]int) string {
	kind := d.kind()
	var worlds [groupRequests]*world
	var requests [groupRequests]*Request
	for i := range worlds {
		worlds[i] = d.world(kind == Trust)
		requests[i] = worlds[i].request()
	}
	for range groupPolicies {
		doc := d.document(kind)
		parsed, err := Parse(kind, encode(doc))
		if err != nil {
			return err.Error() + "\n" + encode(doc)
		}
		p := Compile(parsed)
		for i, w := range worlds {
			decision, wrong := compare(kind, doc, p, w, requests[i])
			if wrong != "" {
				return wrong
			}
			decided[decision]++
		}
		if wrong := explained(p, worlds[d.intn(groupRequests)]); wrong != "" {
			return wrong
		}
	}
	return ""
}

// TestMergedPoliciesAreDecidedLikeEachAlone compiles many documents into one policy, so that the index has something to do.
func TestMergedPoliciesAreDecidedLikeEachAlone(t *testing.T) {
	d := newDice(7, nil)
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	for range rounds {
		var docs []*Document
		var apart []*Policy
		for range 1 + d.intn(120) {
			doc, err := Parse(Identity, encode(d.document(Identity)))
			if err != nil {
				t.Fatal(err)
			}
			docs = append(docs, doc)
			apart = append(apart, Compile(doc))
		}
		merged := Compile(docs...)
		buffer := make([]int32, 600)
		for range 50 {
			r := d.world(false).request()
			got := merged.Evaluate(r, buffer)
			want := Result{}
			ids := []string{}
			for n, p := range apart {
				b := make([]int32, 8)
				res := p.Evaluate(r, b)
				want.Matched += res.Matched
				for _, id := range b[:res.Matched] {
					ids = append(ids, fmt.Sprint(n, ":", id))
				}
				if res.Decision == ExplicitDeny || want.Decision != ExplicitDeny && res.Decision == Allowed {
					want.Decision = res.Decision
				}
			}
			names := []string{}
			for _, id := range buffer[:got.Matched] {
				_, document, place := merged.Statement(int(id))
				names = append(names, fmt.Sprint(document, ":", place))
			}
			if got != want || strings.Join(ids, " ") != strings.Join(names, " ") {
				t.Fatalf("merged %+v %v, apart %+v %v", got, names, want, ids)
			}
		}
	}
}
