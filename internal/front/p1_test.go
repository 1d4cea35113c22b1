package front_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"carrel/internal/api/workspaces"
	"carrel/internal/front"
	"carrel/internal/identity/identitytest"
	"carrel/internal/service"
)

// BenchmarkP1 is what authorization adds to a signed describe of a page of 25: a user's twenty statements, evaluated, and the decision in the
// record, beside the same chain without that step: as a client waits for it on
// a connection that is kept, one request after the other, and the door alone. The record goes to a real log both times.
func BenchmarkP1(b *testing.B) {
	const rounds, each = 5, 3000
	h := newHouse(b)
	h.Audit = openTrail(b)

	out := describedPage()
	op := workspaces.DescribeWorkspaces.Operation
	h.Handlers[op] = func(context.Context, service.Call, any) (any, error) { return out, nil }

	bare := smallestCall(b, op)
	bare.sign(b, signer(identitytest.AddKey(b, h.db, addMeasured(b, h.db)), op), time.Now())
	server := httptest.NewTLSServer(h.Door)
	defer server.Close()
	client := server.Client()
	// within is the door alone, in processor time; over is what a client waits, over TLS.
	within := func() {
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, bare.request()); w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
	over := func() {
		r := bare.request()
		r.URL.Scheme, r.URL.Host, r.RequestURI = "https", server.Listener.Addr().String(), ""
		resp, err := client.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			b.Fatalf("%s %s %v", resp.Status, text, err)
		}
		_ = resp.Body.Close()
	}
	processor := func() time.Duration { return processTime(b) }
	began := time.Now()
	clock := func() time.Duration { return time.Since(began) }
	round := func(one func(), time func() time.Duration) float64 {
		before := time()
		for range each {
			one()
		}
		return float64((time() - before).Nanoseconds()) / each / 1000
	}
	round(over, clock)
	var with, without, ratio, inside, insideWithout []float64
	for range rounds {
		var off, offInside float64
		front.WithoutAuthorization(func() { off, offInside = round(over, clock), round(within, processor) })
		on := round(over, clock)
		inside, insideWithout = append(inside, round(within, processor)), append(insideWithout, offInside)
		with, without, ratio = append(with, on), append(without, off), append(ratio, on/off)
	}
	for _, f := range []map[string]any{
		{"name": "a describe over TLS, us", "server": "authorized", "samples": with},
		{"name": "a describe over TLS, us", "server": "no policy asked", "samples": without},
		{"name": "the door's processor time alone, us", "server": "authorized", "samples": inside},
		{"name": "the door's processor time alone, us", "server": "no policy asked", "samples": insideWithout},
		{"name": "a signed describe, authorized / no policy asked", "unit": "x", "samples": ratio, "goal": 1.15, "better": "<="},
	} {
		f["figure"] = "p1b"
		text, err := json.Marshal(f)
		if err != nil {
			b.Fatal(err)
		}
		fmt.Printf("figure: %s\n", text)
	}
}

// processTime is the processor time that this process has used.
func processTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
