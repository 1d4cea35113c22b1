package front

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"carrel/internal/audit"
	"carrel/internal/awsproto"
	"carrel/internal/clock"
	"carrel/internal/ident"
)

// The allowance of records that one network of strangers has: who cannot say who they are must not be able to fill the disk with it. So many are
// written at once, one more each strangerEvery, and what is not written is counted and told in one record, at most strangerTold later.
const (
	strangerBurst = 10
	strangerEvery = 30 * time.Second
	strangerTold  = time.Minute
	// maxStrangers is how many networks have an allowance of their own; all others share one.
	maxStrangers = 1024
)

// Strangers bounds the records of requests that nobody known has made, by where they come from: at the API door those that are not validly signed, at
// the people's those of whom no directory has vouched for. Requests of a known principal are all
// recorded, denied ones included. CloudTrail records authenticated requests only (IAM User Guide, "Logging IAM and AWS STS API requests"): there a
// stranger's request belongs to no account. Here there is one account, whose owner wants to know that somebody knocks, and how often.
type Strangers struct {
	clock clock.Clock

	mu sync.Mutex
	// from are the networks with an allowance of their own; the rest's is under the zero prefix.
	from map[netip.Prefix]*stranger
	// ended: the last summary is written. What the doors still finish is recorded one by one.
	ended bool
}

// stranger is one network's account.
type stranger struct {
	allowance int
	refilled  time.Time
	// count is how many requests were not recorded since the last summary, by error code; first and last are when.
	count       map[string]int
	first, last time.Time
}

// NewStrangers is an account of strangers.
func NewStrangers(c clock.Clock) *Strangers {
	return &Strangers{clock: c, from: map[netip.Prefix]*stranger{}}
}

// network is what is counted as one: an IPv4 address, or the IPv6 network that one customer usually has.
func network(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// Admit says whether a failure with that code, one of Carrel's own words, is to be recorded now; when not it is counted.
func (s *Strangers) Admit(from netip.Addr, code string) bool { return s.admit(from, code, false) }

// Count counts a failure of which so many come that none is recorded; true: nothing is counted any more, and it is to be recorded.
func (s *Strangers) Count(from netip.Addr, code string) bool { return s.admit(from, code, true) }

func (s *Strangers) admit(from netip.Addr, code string, always bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return true
	}
	now := s.clock.Now()
	n := s.account(network(from), now)
	if more := int(now.Sub(n.refilled) / strangerEvery); more > 0 {
		n.allowance, n.refilled = min(n.allowance+more, strangerBurst), n.refilled.Add(time.Duration(more)*strangerEvery)
	}
	if n.allowance > 0 && !always {
		n.allowance--
		return true
	}
	if len(n.count) == 0 {
		n.count, n.first = map[string]int{}, now
	}
	n.count[code]++
	n.last = now
	return false
}

// account finds a network's account. The caller holds mu.
func (s *Strangers) account(p netip.Prefix, now time.Time) *stranger {
	if n := s.from[p]; n != nil {
		return n
	}
	if len(s.from) >= maxStrangers {
		s.tidy(now)
	}
	if len(s.from) >= maxStrangers {
		p = netip.Prefix{}
	}
	if s.from[p] == nil {
		s.from[p] = &stranger{allowance: strangerBurst, refilled: now}
	}
	return s.from[p]
}

// tidy forgets the networks whose allowance is whole again and of which nothing is left to tell. The caller holds mu.
func (s *Strangers) tidy(now time.Time) {
	maps.DeleteFunc(s.from, func(_ netip.Prefix, n *stranger) bool {
		return len(n.count) == 0 && n.allowance+int(now.Sub(n.refilled)/strangerEvery) >= strangerBurst
	})
}

// untold is what a summary is made of.
type untold struct {
	from        netip.Prefix
	count       map[string]int
	first, last time.Time
}

// take gives what was not recorded and is due to be told, all of it when it is the end.
func (s *Strangers) take(end bool) (out []untold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = end
	now := s.clock.Now()
	for p, n := range s.from {
		if len(n.count) > 0 && (end || now.Sub(n.first) >= strangerTold) {
			out = append(out, untold{p, n.count, n.first, n.last})
			n.count = nil
		}
	}
	s.tidy(now)
	slices.SortFunc(out, func(a, b untold) int { return a.first.Compare(b.first) })
	return out
}

// text says what was not recorded one by one. Codes are Carrel's own words, never the client's.
func (u untold) text() string {
	total := 0
	var codes []string
	for _, c := range slices.Sorted(maps.Keys(u.count)) {
		total += u.count[c]
		codes = append(codes, fmt.Sprintf("%d %s", u.count[c], c))
	}
	return fmt.Sprintf("%d requests without valid credentials from %s, between %s and %s, were counted instead of recorded: %s",
		total, u.where(), u.first.UTC().Format(time.RFC3339), u.last.UTC().Format(time.RFC3339), strings.Join(codes, ", "))
}

func (u untold) where() string {
	switch {
	case !u.from.IsValid():
		return "many networks"
	case u.from.IsSingleIP():
		return u.from.Addr().String()
	}
	return u.from.String()
}

// SummaryEvent is the EventName of a record that stands for several.
const SummaryEvent = "UnauthenticatedRequests"

// Run writes the summaries of d's strangers until ctx ends, and what is left then.
func (s *Strangers) Run(ctx context.Context, d *Door) error {
	for end := false; !end; {
		fired, stop := s.clock.After(strangerTold / 2)
		select {
		case <-fired:
		case <-ctx.Done():
			stop()
			end = true
		}
		for _, u := range s.take(end) {
			d.tell(context.WithoutCancel(ctx), u)
		}
	}
	return nil
}

// tell writes one summary.
func (d *Door) tell(ctx context.Context, u untold) {
	ctx, cancel := context.WithTimeout(ctx, d.Deadline)
	defer cancel()
	rec := &audit.Record{
		UserIdentity: audit.UserIdentity{Type: "Unknown"}, EventTime: d.Clock.Now(), EventSource: "unknown", EventName: SummaryEvent, AWSRegion: d.Region,
		SourceIPAddress: u.where(), RequestID: ident.UUID(d.Rand), EventID: ident.UUID(d.Rand), RecipientAccountID: d.AccountID, ReadOnly: true,
		ErrorCode: "Summary", ErrorMessage: u.text(),
	}
	if err := d.Audit.Write(ctx, rec, false); err != nil {
		d.Log.Error("audit summary not written", "summary", rec.ErrorMessage, "error", err)
	}
}

// recorded says whether an exchange gets a record of its own.
func (d *Door) recorded(x *exchange) bool {
	return d.Strangers == nil || x.err == nil || !x.principal.IsZero() || d.Strangers.Admit(x.peer, awsproto.Code(protocolOf(x), x.err))
}
