package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	p2Desktops = 10_000
	p2Conns    = 32
	p2Round    = 2 * time.Second
	// walks is how often one sample walks all pages, and answers how often moto gives its one page: processor time is counted in
	// hundredths of a second, so one sample is told to 2 ms.
	walks   = 5
	answers = 5
)

const (
	rate    = "by id: req/s"
	cost    = "by id: server CPU us/request"
	allOf   = "all desktops: server CPU ms"
	walkGap = "all desktops: requests"
)

// p2 is DescribeWorkspaces at 10,000 desktops beside moto_server, which checks nothing, and the floor, which does nothing.
func (b *bench) p2(ctx context.Context) error {
	b.report.begin("p2", fmt.Sprintf("DescribeWorkspaces at %d desktops, %d connections, %d interleaved rounds (medians)", p2Desktops, p2Conns, b.pairs))
	floor, fe, err := b.startFloor(ctx)
	if err != nil {
		return err
	}
	defer discard(floor)
	dir, err := b.installation(ctx, p2Desktops)
	if err != nil {
		return err
	}
	carrel, ce, err := b.serve(ctx, dir)
	if err != nil {
		return err
	}
	defer discard(carrel)
	peers := []peer{{fe, anyAnswer(spread(byID, 2000, p2Desktops))}, {ce, spread(byID, 2000, p2Desktops)}}
	if b.moto == "" {
		b.say("moto_server: not installed")
	} else {
		moto, me, ids, err := b.startMoto(ctx, p2Desktops)
		if err != nil {
			return err
		}
		defer discard(moto)
		peers = append(peers, peer{me, motoCalls(ids)})
	}
	s := newSamples()
	for range b.pairs {
		for _, p := range peers {
			if err := p.sample(ctx, s); err != nil {
				return err
			}
		}
	}
	b.report.table("P2", s)
	b.say("by id: carrel / floor: %s of its req/s, %s times its server CPU", number(s.ratio(rate, "carrel", "floor")), number(s.ratio(cost, "carrel", "floor")))
	if b.moto != "" {
		b.report.atLeast("P2", "by id: req/s, carrel / moto", s.ratio(rate, "carrel", "moto"), 50)
		b.report.atMost("P2", "by id: server CPU a request, carrel / moto", s.ratio(cost, "carrel", "moto"), 0.02)
		b.report.atMost("P2", "all desktops: CPU of carrel's signed pages / of moto's one answer", s.ratio(allOf, "carrel", "moto"), 0.5)
	}
	return b.profiled(ctx, dir, ce)
}

// profiled keeps profiles of both loads that are measured, and of pages under full load.
func (b *bench) profiled(ctx context.Context, dir string, e *endpoint) error {
	if b.profiles == "" {
		return nil
	}
	for name, calls := range map[string][]call{"p2-by-id": spread(byID, 2000, p2Desktops), "p2-pages": spread(byPage, 2000, p2Desktops)} {
		list, err := e.shots(calls)
		if err != nil {
			return err
		}
		if err := b.profile(ctx, dir, name, func() error {
			_, err := closedLoop(ctx, e, list, p2Conns, 6*time.Second)
			return err
		}); err != nil {
			return err
		}
	}
	return b.profile(ctx, dir, "p2-walk", func() error {
		for start := time.Now(); time.Since(start) < 6*time.Second; {
			if _, err := walk(ctx, e, p2Desktops); err != nil {
				return err
			}
		}
		return nil
	})
}

// peer is a server and what it is asked for.
type peer struct {
	*endpoint
	calls []call
}

// sample adds one round to s: by id, and all desktops.
func (p peer) sample(ctx context.Context, s *samples) error {
	list, err := p.shots(p.calls)
	if err != nil {
		return err
	}
	r, err := closedLoop(ctx, p.endpoint, list, p2Conns, p2Round)
	if err != nil {
		return err
	}
	s.add(rate, p.name, r.perSecond())
	s.add(cost, p.name, r.cpuEach())
	switch p.name {
	case "carrel":
		return p.sampleRead(s, walks, func() (int, error) { return walk(ctx, p.endpoint, p2Desktops) })
	case "moto":
		return p.sampleRead(s, answers, func() (int, error) { return wholeAnswer(ctx, p.endpoint) })
	}
	return p.sampleRead(s, walks, func() (int, error) { return inTurn(ctx, p.endpoint, list) })
}

// sampleRead adds the processor time of reading all desktops, the mean of so many times, and how many requests that takes.
func (p peer) sampleRead(s *samples, times int, read func() (requests int, err error)) error {
	before, err := processTime(p.pid)
	if err != nil {
		return err
	}
	requests := 0
	for range times {
		n, err := read()
		if err != nil {
			return err
		}
		requests += n
	}
	after, err := processTime(p.pid)
	if err != nil {
		return err
	}
	s.add(allOf, p.name, float64((after-before).Milliseconds())/float64(times))
	s.add(walkGap, p.name, float64(requests)/float64(times))
	return nil
}

// inTurn sends as many empty requests, one after the other, as a walk has pages: what the walk's round trips alone cost.
func inTurn(ctx context.Context, e *endpoint, list []shot) (int, error) {
	const pages = p2Desktops / 25
	c := &conn{to: e}
	defer discard(c)
	for i := range pages {
		if _, err := c.do(ctx, list[i%len(list)]); err != nil {
			return 0, err
		}
	}
	return pages, nil
}

// walk reads all desktops in signed pages of 25, as any SDK's paginator does: it follows NextToken to its end and checks that every
// desktop came.
func walk(ctx context.Context, e *endpoint, desktops int) (requests int, err error) {
	c := &conn{to: e}
	defer discard(c)
	seen := map[string]struct{}{}
	for token := ""; ; {
		list, err := e.shots([]call{pageAfter(token)})
		if err != nil {
			return 0, err
		}
		text, err := c.do(ctx, list[0])
		if err != nil {
			return 0, err
		}
		requests++
		var p page
		if err := json.Unmarshal(text, &p); err != nil {
			return 0, err
		}
		for _, w := range p.Workspaces {
			seen[w.WorkspaceId] = struct{}{}
		}
		if token = p.NextToken; token == "" {
			break
		}
	}
	if len(seen) != desktops {
		return 0, fmt.Errorf("walking all pages found %d of %d desktops", len(seen), desktops)
	}
	return requests, nil
}

// wholeAnswer reads all desktops in the one answer that moto gives.
func wholeAnswer(ctx context.Context, e *endpoint) (int, error) {
	text, err := e.once(ctx, call{describe, `{}`, `"WorkspaceId"`})
	if err != nil {
		return 0, err
	}
	if n := strings.Count(string(text), `"WorkspaceId"`); n != p2Desktops {
		return 0, fmt.Errorf("moto answered %d of %d desktops", n, p2Desktops)
	}
	return 1, nil
}

func motoCalls(ids []string) []call {
	return spread(func(i int) call {
		return call{describe, `{"WorkspaceIds":["` + ids[i] + `"]}`, `"WorkspaceId": "` + ids[i] + `"`}
	}, 500, len(ids))
}

// anyAnswer expects nothing of the answers: the floor's are empty.
func anyAnswer(calls []call) []call {
	for i := range calls {
		calls[i].want = ""
	}
	return calls
}

// profile keeps a CPU profile of Carrel while load runs, which takes six seconds.
func (b *bench) profile(ctx context.Context, dir, name string, load func() error) error {
	metrics, err := b.metricsURL(ctx, dir)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		failed <- save(ctx, strings.TrimSuffix(metrics, "/metrics")+"/debug/pprof/profile?seconds=5", filepath.Join(b.profiles, name+".pprof"))
	}()
	err = load()
	if failure := <-failed; err == nil {
		err = failure
	}
	return err
}

func save(ctx context.Context, from, to string) error {
	text, err := get(ctx, from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644)
}

func get(ctx context.Context, from string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer discard(resp.Body)
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %d", from, resp.StatusCode)
	}
	return text, err
}
