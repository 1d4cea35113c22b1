package front_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/api/workspaces"
	"carrel/internal/audit"
	"carrel/internal/clock"
	"carrel/internal/evidence"
	"carrel/internal/front"
	"carrel/internal/ident"
	"carrel/internal/identity/identitytest"
	"carrel/internal/metrics"
	"carrel/internal/service"
	"carrel/internal/state"
)

// BenchmarkDoor is what the door itself costs, beside the operation: describes that answer one page made beforehand, or nothing, signed by the root
// and by a user with twenty statements, on a connection in memory and without TLS, with the records in a real log; and a handler that does nothing.
func BenchmarkDoor(b *testing.B) {
	h := newHouse(b)
	h.Log = slog.New(slog.DiscardHandler)
	h.Audit = openTrail(b)
	h.Observer = metrics.New("test")
	op := workspaces.DescribeWorkspaces.Operation
	user := identitytest.AddKey(b, h.db, addMeasured(b, h.db))
	page := describedPage()
	empty := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	for _, c := range []struct {
		name    string
		key     *state.AccessKey
		out     *workspaces.DescribeWorkspacesOutput
		handler http.Handler
	}{
		{"empty handler", h.root, nil, empty},
		{"root", h.root, &workspaces.DescribeWorkspacesOutput{}, h.Door},
		{"user", user, &workspaces.DescribeWorkspacesOutput{}, h.Door},
		{"user, a page", user, page, h.Door},
	} {
		b.Run(c.name, func(b *testing.B) {
			h.Handlers[op] = func(context.Context, service.Call, any) (any, error) { return c.out, nil }
			bare := smallestCall(b, op)
			bare.sign(b, signer(c.key, op), time.Now())
			var text strings.Builder
			if err := bare.request().Write(&text); err != nil {
				b.Fatal(err)
			}
			limits := front.Limits{Header: 10 * time.Second, Body: time.Minute, Deadline: time.Minute, Idle: 2 * time.Minute}
			srv := front.NewServer(c.handler, limits, slog.New(slog.DiscardHandler))
			conn := &repeated{request: []byte(text.String()), left: b.N, done: make(chan struct{})}
			conn.answered.L = &conn.mu
			b.ReportAllocs()
			before := processTime(b)
			b.ResetTimer()
			ctx, stop := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			go func() { ended <- front.ServePlain(ctx, &single{conn: conn, closed: make(chan struct{})}, srv) }()
			<-conn.done
			b.StopTimer()
			b.ReportMetric(float64((processTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
			stop()
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
			if conn.refused != "" {
				b.Fatal(conn.refused)
			}
		})
	}
}

// openTrail is an audit log that is written until the test ends.
func openTrail(b testing.TB) *audit.Writer {
	b.Helper()
	key, err := evidence.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	log, err := evidence.Open(filepath.Join(b.TempDir(), "evidence"), key, clock.System{})
	if err != nil {
		b.Fatal(err)
	}
	trail, err := audit.Open(audit.Config{Dir: filepath.Join(b.TempDir(), "audit"), Evidence: log, Clock: clock.System{}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- trail.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	return trail
}

// single is a listener that has one connection.
type single struct {
	conn   *repeated
	given  bool // Accept's alone
	once   sync.Once
	closed chan struct{}
}

func (s *single) Accept() (net.Conn, error) {
	if !s.given {
		s.given = true
		return s.conn, nil
	}
	<-s.closed
	return nil, net.ErrClosed
}

func (s *single) Close() error   { s.once.Do(func() { close(s.closed) }); return nil }
func (s *single) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

// repeated is a connection on which a client sends the same request, once the answer before it has come.
type repeated struct {
	request []byte
	done    chan struct{}
	once    sync.Once

	mu       sync.Mutex
	answered sync.Cond
	left     int
	// asked: a request is out without an answer. expired: reads have a deadline that has passed.
	asked, expired bool
	// refused is the first answer that was no success.
	refused string
}

type timeout struct{}

func (timeout) Error() string   { return "timeout" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

func (c *repeated) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Where net/http waits with one byte for a client that is gone, this one is not, and asks again only afterwards.
	for (c.asked || len(p) == 1) && !c.expired {
		c.answered.Wait()
	}
	switch {
	case c.expired:
		return 0, timeout{}
	case c.left == 0:
		c.once.Do(func() { close(c.done) })
		return 0, io.EOF
	}
	c.left--
	c.asked = true
	return copy(p, c.request), nil
}

func (c *repeated) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked = false; c.refused == "" && !strings.HasPrefix(string(p[:min(len(p), 12)]), "HTTP/1.1 200") {
		c.refused = fmt.Sprintf("%.300q", p)
	}
	c.answered.Broadcast()
	return len(p), nil
}

func (c *repeated) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expired = !t.IsZero() && t.Before(time.Now()); c.expired {
		c.answered.Broadcast()
	}
	return nil
}

func (c *repeated) Close() error                     { c.once.Do(func() { close(c.done) }); return nil }
func (c *repeated) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *repeated) SetWriteDeadline(time.Time) error { return nil }
func (c *repeated) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }
func (c *repeated) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}
}

// describedPage is a page of 25.
func describedPage() *workspaces.DescribeWorkspacesOutput {
	out := &workspaces.DescribeWorkspacesOutput{NextToken: shape.Ptr("more")}
	for i := range 25 {
		out.Workspaces = append(out.Workspaces, workspaces.Workspace{WorkspaceId: shape.Ptr(fmt.Sprintf("ws-%09d", i)), DirectoryId: shape.Ptr("d-90670ca44e"),
			UserName: shape.Ptr("ada"), IpAddress: shape.Ptr("10.0.0.7"), BundleId: shape.Ptr("wsb-bh8rsxt14"), SubnetId: shape.Ptr("subnet-0a1b2c3d4e5f60718"), ComputerName: shape.Ptr("IP-0A000007")})
	}
	return out
}

// addMeasured makes a user of twenty statements of whom the last one allows.
func addMeasured(b testing.TB, db *state.DB) ident.UserID {
	b.Helper()
	var statements []string
	for i := range 19 {
		statements = append(statements, fmt.Sprintf(`{"Effect":"Allow","Action":["workspaces:Describe*","workspaces:Start*"],"Resource":"arn:aws:workspaces:*:*:workspace/ws-%02d*","Condition":{"StringEquals":{"aws:ResourceTag/Team":"team-%d"}}}`, i, i))
	}
	statements = append(statements, `{"Effect":"Allow","Action":"workspaces:Describe*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":["192.0.2.0/24","127.0.0.0/8","::1/128"]}}}`)
	id := identitytest.AddUser(b, db, "measured")
	if _, err := db.Update(b.Context(), func(tx *state.Tx) error {
		old, _ := state.Get(tx, state.Users, string(id))
		u := state.Clone(old)
		u.Inline = map[string]string{"Own": `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`}
		state.Put(tx, state.Users, u)
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	return id
}
