package front_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/app"
	"carrel/internal/clock"
	"carrel/internal/identity/identitytest"
	"carrel/internal/state"
	"carrel/internal/throttle"
)

// hand is a clock that moves by hand.
type hand struct {
	clock.System
	mu  sync.Mutex
	now time.Time
}

func (h *hand) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hand) forward(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// throttled is how each protocol says it, from the reference, 5.8.
var throttled = refusal{words{400, "ThrottlingException"}, words{400, "Throttling"}, words{503, "RequestLimitExceeded"}, words{429, "ThrottlingException"}}

// TestTooFastCallersAreThrottled spends AWS's burst of one operation of every service and one call more.
func TestTooFastCallersAreThrottled(t *testing.T) {
	h := newHouse(t)
	c := &hand{now: time.Now()}
	h.Throttle = throttle.New(c, throttle.AWSLike)
	for _, s := range app.APIs() {
		op := s.Operations[0]
		if s.Name == "sts" {
			// The root may not assume roles.
			op = operation(t, "sts", "GetCallerIdentity")
		}
		t.Run(s.Name, func(t *testing.T) {
			bare := smallestCall(t, op)
			send := func(key *state.AccessKey) answer {
				call := *bare
				call.header = call.header.Clone()
				call.sign(t, signer(key, op), time.Now())
				return h.send(t, call.request())
			}
			for range throttle.AWSLike(throttle.Call{Service: s.Name, Operation: op.Name, ReadOnly: op.ReadOnly}).Burst {
				if got := send(h.root); got.status != 200 {
					t.Fatalf("within the burst: %d %s", got.status, got.text)
				}
			}
			before := h.db.Snapshot().Revision()
			got, want := send(h.root), throttled.in(s.Protocol)
			if got.status != want.status || got.code != want.code || h.db.Snapshot().Revision() != before {
				t.Errorf("%d %s, want %v", got.status, got.text, want)
			}
			text := "Rate exceeded"
			if s.Name == "ec2" {
				text = "Request limit exceeded."
			}
			rec := h.audit.last(t)
			if rec.ErrorCode != want.code || rec.ErrorMessage != text || rec.EventName != op.Name || rec.UserIdentity.Type != "Root" || strings.Contains(string(rec.AppendJSON(nil)), `"requestParameters":{`) {
				t.Errorf("recorded as %s", rec.AppendJSON(nil))
			}
			if got, want := send(h.nobody), denied.in(s.Protocol); got.code != want.code && got.status != 200 {
				t.Errorf("another principal: %d %s, want %v", got.status, got.text, want)
			}
			c.forward(time.Second)
			if got := send(h.root); got.status != 200 {
				t.Errorf("a second later: %d %s", got.status, got.text)
			}
		})
	}
}

// TestThrottlingBoundsWhoMayDoNothing: the step stands before authorization, so a principal without permissions is bounded too, and
// after authentication, so strangers cannot spend what is another's.
func TestThrottlingBoundsWhoMayDoNothing(t *testing.T) {
	h := newHouse(t)
	h.Throttle = throttle.New(&hand{now: time.Now()}, func(throttle.Call) throttle.Rate { return throttle.Rate{PerSecond: 1, Burst: 2} })
	op := operation(t, "workspaces", "DescribeIpGroups")
	for i, want := range []string{"AccessDeniedException", "AccessDeniedException", "ThrottlingException"} {
		call := smallestCall(t, op)
		call.sign(t, signer(h.nobody, op), time.Now())
		if got := h.send(t, call.request()); got.code != want {
			t.Errorf("call %d: %s, want %s", i+1, got.code, want)
		}
	}
	for range 5 {
		call := smallestCall(t, op)
		s := signer(h.root, op)
		s.Secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
		call.sign(t, s, time.Now())
		if got := h.send(t, call.request()); got.code != "InvalidSignatureException" {
			t.Errorf("a wrong signature: %s", got.code)
		}
	}
	if got := h.send(t, h.describe(t).request()); got.status != 200 {
		t.Errorf("the root has paid for others' signatures: %d %s", got.status, got.text)
	}
	t.Run("two keys of one principal share a bucket", func(t *testing.T) {
		second := identitytest.AddKey(t, h.db, "")
		call := smallestCall(t, op)
		call.sign(t, signer(second, op), time.Now())
		if got := h.send(t, call.request()); got.status != 200 {
			t.Errorf("%d %s", got.status, got.text)
		}
		if got := h.send(t, h.describe(t).request()); got.code != "ThrottlingException" {
			t.Errorf("a second key made a second bucket: %d %s", got.status, got.text)
		}
	})
}

func TestWithoutTheSettingNobodyIsThrottled(t *testing.T) {
	h := newHouse(t)
	for range 50 {
		if got := h.send(t, h.describe(t).request()); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.text)
		}
	}
}
