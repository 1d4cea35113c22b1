package front_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"carrel/internal/audit"
	"carrel/internal/awserr"
	"carrel/internal/service"
)

// describe is a signed call of the root that reads, change one that writes.
func (h *house) describe(t *testing.T) *call { return h.signed(t, "DescribeIpGroups") }
func (h *house) change(t *testing.T) *call   { return h.signed(t, "DeleteIpGroup") }

func (h *house) signed(t *testing.T, name string) *call {
	op := operation(t, "workspaces", name)
	c := smallestCall(t, op)
	c.sign(t, signer(h.root, op), time.Now())
	return c
}

func TestPanicOfAHandlerIsAFaultOfOurs(t *testing.T) {
	h := newHouse(t)
	h.Handlers[operation(t, "workspaces", "DescribeIpGroups")] = func(context.Context, service.Call, any) (any, error) { panic("secret detail") }
	a := h.send(t, h.describe(t).request())
	if a.status != 500 || a.code != "InternalFailure" || strings.Contains(a.text, "secret") {
		t.Errorf("%d %s", a.status, a.text)
	}
	if !strings.Contains(h.log.String(), "secret detail") || h.audit.last(t).ErrorCode != "InternalFailure" {
		t.Errorf("not told: %s", h.log)
	}
	if a := h.send(t, h.change(t).request()); a.status != 200 {
		t.Errorf("after it: %d %s", a.status, a.text)
	}
}

func TestErrorsOfHandlersReachClientsOnlyAsTheirWords(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct {
		name   string
		err    error
		status int
		code   string
	}{
		{"an exception of the model", awserr.ResourceNotFound("wsipg-0a1b2c3d4", "no such group").Because(errors.New("secret cause")), 400, "ResourceNotFoundException"},
		{"anything else", errors.New("secret cause"), 500, "InternalFailure"},
		{"a full disk", awserr.Full(errors.New("secret cause")), 503, "ServiceUnavailableException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.Handlers[operation(t, "workspaces", "DescribeIpGroups")] = func(context.Context, service.Call, any) (any, error) { return nil, c.err }
			a := h.send(t, h.describe(t).request())
			if a.status != c.status || a.code != c.code || strings.Contains(a.text, "secret") {
				t.Errorf("%d %s", a.status, a.text)
			}
			if a.header.Get("X-Amzn-Requestid") != h.audit.last(t).RequestID {
				t.Error("the record has another request id than the answer")
			}
		})
	}
}

func TestOperationWithoutHandlerIsSaidToBeOne(t *testing.T) {
	h := newHouse(t)
	delete(h.Handlers, operation(t, "workspaces", "DeleteIpGroup"))
	if a := h.send(t, h.change(t).request()); a.status/100 == 2 || !strings.Contains(a.text, "not implemented") {
		t.Errorf("%d %s", a.status, a.text)
	}
}

func TestWithoutAuditLogNothingChanges(t *testing.T) {
	h := newHouse(t)
	h.audit.sick = errDisk
	before := h.db.Snapshot().Revision()
	if a := h.send(t, h.change(t).request()); a.status != 503 || a.code != "ServiceUnavailableException" || h.db.Snapshot().Revision() != before {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := h.send(t, h.describe(t).request()); a.status != 200 {
		t.Errorf("a read: %d %s", a.status, a.text)
	}
	h.audit.sick, h.audit.full = nil, errDisk
	if a := h.send(t, h.change(t).request()); a.status != 500 || strings.Contains(a.text, "space") {
		t.Errorf("a change without its record looks done: %d %s", a.status, a.text)
	}
}

func TestWhatHappensWithoutAuditLogIsAsConfigured(t *testing.T) {
	for _, c := range []struct {
		how              audit.Failure
		name             string
		sick, full       error
		change, describe int
	}{
		{audit.Stop, "a log that is known to fail", errDisk, nil, 503, 200},
		{audit.Stop, "a record that cannot be written", nil, errDisk, 500, 500},
		{audit.StopAll, "a log that is known to fail", errDisk, nil, 503, 503},
		{audit.StopAll, "a record that cannot be written", nil, errDisk, 500, 500},
		{audit.Continue, "a log that is known to fail", errDisk, nil, 200, 200},
		{audit.Continue, "a record that cannot be written", nil, errDisk, 200, 200},
	} {
		t.Run(string(c.how)+": "+c.name, func(t *testing.T) {
			h := newHouse(t)
			h.AuditFailure, h.audit.sick, h.audit.full = c.how, c.sick, c.full
			before := h.db.Snapshot().Revision()
			a := h.send(t, h.change(t).request())
			if a.status != c.change || strings.Contains(a.text, "space") {
				t.Errorf("a change: %d %s", a.status, a.text)
			}
			if refused := h.db.Snapshot().Revision() == before; refused != (c.change == 503) {
				t.Errorf("answered %d, changed nothing: %t", a.status, refused)
			}
			if a := h.send(t, h.describe(t).request()); a.status != c.describe || strings.Contains(a.text, "space") {
				t.Errorf("a read: %d %s", a.status, a.text)
			}
			if c.full != nil && strings.Count(h.log.String(), "audit record not written") != 2 {
				t.Errorf("R15: not told of each record:\n%s", h.log)
			}
		})
	}
	t.Run("stop-all: a call that only reads waits for its record, too", func(t *testing.T) {
		h := newHouse(t)
		for _, want := range []bool{false, true} {
			if want {
				h.AuditFailure = audit.StopAll
			}
			if a := h.send(t, h.describe(t).request()); a.status != 200 || h.audit.durable[h.audit.len()-1] != want {
				t.Errorf("%d %s: waited for: %t, want %t", a.status, a.text, !want, want)
			}
		}
	})
}

func TestReadRefusesWhatCanBeReadTwoWays(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		status int
		code   string
	}{
		{"SIG-11 an absolute-form target", func(r *http.Request) { r.RequestURI = "https://evil.example.com/" }, 400, "SerializationException"},
		{"SIG-11 an authority as target", func(r *http.Request) { r.RequestURI = "evil.example.com:443" }, 400, "SerializationException"},
		{"another method", func(r *http.Request) { r.Method = "PUT" }, 405, "UnknownOperationException"},
		{"SIG-5 a compressed body", func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, 415, "SerializationException"},
		{"SIG-5 trailers", func(r *http.Request) { r.Trailer = http.Header{"X-A": {"b"}} }, 400, "SerializationException"},
		{"SIG-10 a length over the limit", func(r *http.Request) { r.ContentLength = 1<<20 + 1 }, 413, "RequestEntityTooLargeException"},
		{"SIG-5 a body that breaks off", func(r *http.Request) { r.Body = broken{} }, 400, "SerializationException"},
		{"SIG-5 a body too slow", func(r *http.Request) { r.Body = broken{context.DeadlineExceeded} }, 408, "SerializationException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := h.db.Snapshot().Revision()
			r := h.change(t).request()
			c.change(r)
			if a := h.send(t, r); a.status != c.status || a.code != c.code || h.db.Snapshot().Revision() != before {
				t.Errorf("%d %s", a.status, a.text)
			}
		})
	}
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) {
	if b.err == nil {
		return 0, errors.New("connection reset")
	}
	return 0, b.err
}
func (broken) Close() error { return nil }

func TestConnectionEndsWhereItsNextRequestMightBeMistaken(t *testing.T) {
	h := newHouse(t)
	r := h.describe(t).request()
	r.TransferEncoding = []string{"chunked"}
	if a := h.send(t, r); a.status != 200 || a.header.Get("Connection") != "close" {
		t.Errorf("SIG-11 after a chunked request: %d %v", a.status, a.header)
	}
	r = h.describe(t).request()
	r.ContentLength = 5 << 20
	if a := h.send(t, r); a.header.Get("Connection") != "close" {
		t.Errorf("after a body that was not read: %v", a.header)
	}
	if a := h.send(t, h.describe(t).request()); a.header.Get("Connection") != "" || a.header.Get("Strict-Transport-Security") == "" || a.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v", a.header)
	}
}

func TestSourceAddressIsThePeersAndNoHeaders(t *testing.T) {
	h := newHouse(t)
	r := h.describe(t).request()
	r.RemoteAddr = "[::ffff:203.0.113.9]:4711"
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"} {
		r.Header.Set(name, "for=10.0.0.1")
	}
	if a := h.send(t, r); a.status != 200 || h.audit.last(t).SourceIPAddress != "203.0.113.9" {
		t.Errorf("IPG-3: %d, recorded from %s", a.status, h.audit.last(t).SourceIPAddress)
	}
}
