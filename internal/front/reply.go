package front

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"strconv"
	"sync"

	"carrel/internal/api/shape"
	"carrel/internal/audit"
	"carrel/internal/awserr"
	"carrel/internal/awsproto"
	"carrel/internal/ident"
)

// Headers of every answer. Their values are shared and never changed.
var (
	transportSecurity = []string{"max-age=31536000"}
	noSniff           = []string{"nosniff"}
)

// reply records the call and answers it, in this order: a client never holds an answer to a change that has no record.
func (d *Door) reply(ctx context.Context, w http.ResponseWriter, x *exchange) {
	d.record(ctx, x)
	if x.decision != nil {
		x.decision.Release()
		x.decision = nil
	}
	var out awsproto.Response
	if x.err == nil {
		out, x.err = d.Codec.Encode(x.op, x.output, x.id)
	}
	x.giveBack()
	if x.err != nil {
		out = awsproto.EncodeError(x.service, protocolOf(x), x.err, x.id)
	}
	h := w.Header()
	for name, values := range out.Header {
		h[name] = values
	}
	h["Strict-Transport-Security"], h["X-Content-Type-Options"] = transportSecurity, noSniff
	if x.err != nil && x.wire.Body == nil && x.req.Body != nil || len(x.req.TransferEncoding) > 0 {
		// The body was not read: the connection cannot be used again. Nor after a chunked request: a Content-Length beside it, which
		// net/http takes away, would have been a second opinion on where the next request begins (RFC 9112 section 6.1, SIG-11).
		h.Set("Connection", "close")
	}
	// A length spares the client chunks, and the answer goes out in one piece.
	x.length[0] = strconv.Itoa(len(out.Body))
	h["Content-Length"] = x.length[:]
	w.WriteHeader(out.Status)
	writeWhole(w, x.req, out.Body)
	if x.req.ProtoMajor == 1 {
		// HTTP/2 may go on reading a body after Write, when its stream has ended early: then the next answer must not stand there.
		out.Release()
	}
	d.observe(x)
}

// record writes the CloudTrail record. A change waits until its record is on disk; a record that cannot be written turns the answer
// into a fault, because what is not recorded must not look done. Where the installation goes on without, the audit log itself tells of the gap.
func (d *Door) record(ctx context.Context, x *exchange) {
	if !d.recorded(x) {
		return
	}
	n := allNotes.Get().(*notes)
	rec := d.event(x, n)
	if err := d.Audit.Write(context.WithoutCancel(ctx), rec, d.awaited(x)); err != nil {
		d.Log.Error("audit record not written", "request", x.id, "operation", rec.EventName, "error", err)
		if x.err == nil && d.AuditFailure != audit.Continue {
			x.err = awserr.Fault(err)
		}
	}
	n.release()
}

// notes is what a record is made in; it is used again for another.
type notes struct {
	record               audit.Record
	tls                  audit.TLSDetails
	decision, parameters []byte
}

var allNotes = sync.Pool{New: func() any { return &notes{} }}

// release ends the record. A rare large one must not hold on to its memory for ever.
func (n *notes) release() {
	if n.record, n.tls = (audit.Record{}), (audit.TLSDetails{}); cap(n.decision)+cap(n.parameters) <= 64<<10 {
		allNotes.Put(n)
	}
}

// event makes the record of a call in n.
func (d *Door) event(x *exchange, n *notes) *audit.Record {
	rec := &n.record
	*rec = audit.Record{
		UserIdentity: userIdentity(x),
		EventTime:    x.started, EventSource: "unknown", EventName: "Unknown", AWSRegion: d.Region,
		SourceIPAddress: x.peer.String(), UserAgent: x.req.UserAgent(),
		RequestID: x.id, EventID: ident.UUID(d.Rand), RecipientAccountID: d.AccountID,
		TLS: n.tlsDetails(x.req), Decision: d.decision(&n.decision, x),
	}
	if x.service != nil {
		rec.EventSource = x.service.Name + ".amazonaws.com"
	}
	if x.op != nil {
		rec.EventName, rec.ReadOnly = x.op.Name, x.op.ReadOnly
		if x.input != nil {
			rec.RequestParameters = audit.ParametersIn(&n.parameters, x.op, x.input)
		}
		if x.output != nil && x.err == nil && answered(x.op) {
			rec.ResponseElements = audit.Elements(x.op, x.output)
		}
	}
	if x.err != nil {
		rec.ErrorCode, rec.ErrorMessage = awsproto.Code(protocolOf(x), x.err), x.err.Message
	}
	return rec
}

func (n *notes) tlsDetails(r *http.Request) *audit.TLSDetails {
	if r.TLS == nil {
		return nil
	}
	version := "TLSv1.2"
	if r.TLS.Version == tls.VersionTLS13 {
		version = "TLSv1.3"
	}
	suite, ok := suites[r.TLS.CipherSuite]
	if !ok {
		suite = tls.CipherSuiteName(r.TLS.CipherSuite)
	}
	n.tls = audit.TLSDetails{Version: version, CipherSuite: suite, ClientProvidedHostHeader: r.Host}
	return &n.tls
}

// suites are the names of the cipher suites; tls.CipherSuiteName makes the whole list anew for each name.
var suites = func() map[uint16]string {
	names := map[uint16]string{}
	for _, s := range tls.CipherSuites() {
		names[s.ID] = s.Name
	}
	return names
}()

// observe counts the request and logs what was our fault.
func (d *Door) observe(x *exchange) {
	service, operation, code := "", "", ""
	if x.service != nil {
		service = x.service.Name
	}
	if x.op != nil {
		operation = x.op.Name
	}
	took := d.Clock.Now().Sub(x.started)
	level := slog.LevelDebug
	if x.err != nil {
		code = awsproto.Code(protocolOf(x), x.err)
		switch x.err.Kind {
		case awserr.Internal:
			level = slog.LevelError
		case awserr.Unavailable:
			// The operator's to mend: a full disk, a store that does not answer.
			level = slog.LevelWarn
		}
	}
	d.Observer.Request(service, operation, code, took)
	if d.Log.Enabled(context.Background(), level) {
		attrs := []any{"request", x.id, "service", service, "operation", operation, "code", code, "took", took, "peer", x.peer}
		if x.err != nil {
			attrs = append(attrs, "error", x.err)
		}
		d.Log.Log(context.Background(), level, "api request", attrs...)
	}
}

// protocolOf is the format of the answer: the service's, or, when the request did not get so far as to name one that we know, the one
// the request itself seems to speak.
func protocolOf(x *exchange) shape.Protocol {
	if x.service != nil {
		return x.service.Protocol
	}
	return awsproto.Guess(&x.wire)
}
