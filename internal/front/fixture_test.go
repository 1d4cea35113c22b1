package front_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/app"
	"carrel/internal/audit"
	"carrel/internal/authz"
	"carrel/internal/awsproto"
	"carrel/internal/clock"
	"carrel/internal/front"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/service"
	"carrel/internal/sigv4"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

// house is an API door over a store in memory whose every operation has a handler that writes: a request that gets as far as a handler
// shows in the state's revision.
type house struct {
	*front.Door
	db     *state.DB
	audit  *ledger
	log    *lines
	root   *state.AccessKey
	nobody *state.AccessKey // of an IAM user without policies
	off    *state.AccessKey // the root's, inactive
	gone   *state.AccessKey // of a user who was deleted
	// held are all temporary credentials that were made, other are one session's that a test mixes another's with.
	held  []held
	other held
}

// ledger keeps audit records in memory, and can be told that its disk is full.
type ledger struct {
	mu      sync.Mutex
	records []*audit.Record
	durable []bool
	full    error
	sick    error
}

func (l *ledger) Health() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sick
}

func (l *ledger) Write(_ context.Context, rec *audit.Record, durable bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full != nil {
		return l.full
	}
	if err := rec.Check(); err != nil {
		return err
	}
	kept := *rec
	if rec.TLS != nil {
		details := *rec.TLS
		kept.TLS = &details
	}
	// What the documents stand in is used for other records from now on.
	for _, doc := range []*audit.Document{&kept.RequestParameters, &kept.ResponseElements, &kept.Decision} {
		if err := doc.UnmarshalJSON([]byte(doc.String())); err != nil {
			return err
		}
	}
	l.records, l.durable = append(l.records, &kept), append(l.durable, durable)
	return nil
}

// last is the newest record.
func (l *ledger) last(t testing.TB) *audit.Record {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.records) == 0 {
		t.Fatal("no audit record")
	}
	return l.records[len(l.records)-1]
}

func (l *ledger) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.records)
}

type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type uncounted struct{}

func (uncounted) Request(string, string, string, time.Duration) {}

func newHouse(t testing.TB) *house {
	t.Helper()
	db := statetest.NewDB(t)
	codec, err := awsproto.NewCodec(app.APIs()...)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{db: db, audit: &ledger{}, log: &lines{}, root: identitytest.AddKey(t, db, ""), nobody: identitytest.AddKey(t, db, identitytest.AddUser(t, db, "nobody"))}
	h.off = identitytest.AddKey(t, db, "")
	if _, err := db.Update(t.Context(), func(tx *state.Tx) error {
		h.off.Active = false
		state.Put(tx, state.AccessKeys, state.Clone(h.off))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	table := service.Table{}
	for _, op := range operations() {
		table[op] = func(ctx context.Context, _ service.Call, _ any) (any, error) {
			_, err := db.Update(ctx, func(tx *state.Tx) error {
				id := ident.NewIPGroupID(rand.Reader)
				state.Put(tx, state.IPGroups, &state.IPGroup{ID: id, Name: string(id)})
				return nil
			})
			return op.NewOutput(), err
		}
	}
	h.Door = &front.Door{
		Codec: codec, Handlers: table, Audit: h.audit, Observer: uncounted{}, Clock: clock.System{}, Rand: rand.Reader,
		Log:       slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Auth:      identity.New(identity.Config{DB: db, Clock: clock.System{}, Account: identitytest.Account, Region: identitytest.Region, Partition: identitytest.Partition}),
		Authz:     &authz.Authorizer{DB: db, Account: identitytest.Account, Region: identitytest.Region, Partition: identitytest.Partition},
		AccountID: identitytest.Account, Region: identitytest.Region, MaxBody: 1 << 20, Deadline: 30 * time.Second,
	}
	return h
}

// operations are all operations of all services, whatever they are.
func operations() []*shape.Operation {
	var all []*shape.Operation
	for _, s := range app.APIs() {
		all = append(all, s.Operations...)
	}
	return all
}

func operation(t testing.TB, service, name string) *shape.Operation {
	t.Helper()
	i := slices.IndexFunc(operations(), func(op *shape.Operation) bool { return op.Service.Name == service && op.Name == name })
	if i < 0 {
		t.Fatalf("no operation %s %s", service, name)
	}
	return operations()[i]
}

// call is a request before it is signed.
type call struct {
	method, path, query string
	header              http.Header
	body                []byte
	// presigned makes sign put the signature into the query, good for a minute.
	presigned bool
}

const host = "api.example.com:8443"

// signer signs as a client with key does.
func signer(key *state.AccessKey, op *shape.Operation) *sigv4.Signer {
	return &sigv4.Signer{AccessKeyID: string(key.ID), Secret: sigv4.Secret(key.Secret.Reveal()), Region: identitytest.Region, Service: op.Service.SigningName}
}

// sign puts a signature of the moment at into c.
func (c *call) sign(t testing.TB, s *sigv4.Signer, at time.Time) {
	t.Helper()
	req := sigv4.Request{Method: c.method, Path: c.path, RawQuery: c.query, Host: host, Header: c.header, Body: c.body}
	var err error
	if c.presigned {
		err = s.Presign(&req, at, time.Minute)
		c.query = req.RawQuery
	} else {
		err = s.Sign(&req, at)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// request is c as net/http would hand it over.
func (c *call) request() *http.Request {
	target := c.path
	if c.query != "" {
		target += "?" + c.query
	}
	r := httptest.NewRequest(c.method, target, strings.NewReader(string(c.body)))
	r.Host, r.RequestURI, r.Header = host, target, c.header
	return r
}

// answer is what came back: status, error code ("" for success), and the whole text.
type answer struct {
	status     int
	code, text string
	header     http.Header
}

func (h *house) send(t testing.TB, r *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return read(t, w.Result())
}

func read(t testing.TB, r *http.Response) answer {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{r.StatusCode, codeOf(body), string(body), r.Header}
}

// codeOf finds the error code in any of the protocols' error documents.
func codeOf(body []byte) string {
	var j struct {
		Type string `json:"__type"`
	}
	if json.Unmarshal(body, &j) == nil {
		return j.Type
	}
	d := xml.NewDecoder(strings.NewReader(string(body)))
	for {
		token, err := d.Token()
		if err != nil {
			return ""
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "Code" {
			var code string
			if d.DecodeElement(&code, &start) == nil {
				return code
			}
		}
	}
}

var errDisk = errors.New("no space left on device")
