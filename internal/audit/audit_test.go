package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/clock"
	"carrel/internal/evidence"
)

// house is a directory with an evidence log and an audit directory.
type house struct {
	t    testing.TB
	root string
	key  evidence.PrivateKey
}

func newHouse(t testing.TB) *house {
	t.Helper()
	key, err := evidence.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &house{t: t, root: t.TempDir(), key: key}
}

func (h *house) dir() string { return filepath.Join(h.root, "audit") }

// session is a running writer.
type session struct {
	h        *house
	w        *Writer
	evidence *evidence.Log
	cancel   context.CancelFunc
	ended    chan error
}

func (h *house) open(cfg Config) (*session, error) {
	h.t.Helper()
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	log, err := evidence.Open(filepath.Join(h.root, "evidence"), h.key, cfg.Clock)
	if err != nil {
		return nil, err
	}
	cfg.Dir, cfg.Evidence = h.dir(), log
	w, err := Open(cfg)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return &session{h: h, w: w, evidence: log, ended: make(chan error, 1)}, nil
}

func (s *session) run() *session {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() { s.ended <- s.w.Run(ctx) }()
	return s
}

func (s *session) stop() error {
	s.cancel()
	return errors.Join(<-s.ended, s.evidence.Close())
}

func (h *house) start(cfg Config) *session {
	h.t.Helper()
	s, err := h.open(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	return s.run()
}

func (h *house) verify(live bool) (Report, error) {
	h.t.Helper()
	log, err := os.Open(filepath.Join(h.root, "evidence"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	return Verify(Source{Dir: h.dir(), Evidence: log, Live: live}, h.key.Public())
}

func (h *house) ids() []string {
	h.t.Helper()
	var ids []string
	for e, err := range Read(h.dir(), Filter{}) {
		if err != nil {
			h.t.Fatal(err)
		}
		if e.Record.EventName != GapEvent {
			ids = append(ids, e.Record.EventID)
		}
	}
	return ids
}

// lost is how many records the log says that it has not.
func (h *house) lost() (n int) {
	h.t.Helper()
	for e, err := range Read(h.dir(), Filter{EventName: GapEvent}) {
		var total int
		if err == nil {
			_, err = fmt.Sscan(e.Record.ErrorMessage, &total)
		}
		if err != nil {
			h.t.Fatal(err)
		}
		n += total
	}
	return n
}

func record(id string) *Record {
	return &Record{
		UserIdentity: UserIdentity{Type: "IAMUser", PrincipalID: "AIDAEXAMPLE", ARN: "arn:aws:iam::123456789012:user/ada",
			AccountID: "123456789012", AccessKeyID: "AKIDEXAMPLE", UserName: "ada"},
		EventTime: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), EventSource: "workspaces.amazonaws.com", EventName: "CreateWorkspaces",
		AWSRegion: "eu-central-1", SourceIPAddress: "192.0.2.1", UserAgent: "aws-cli/2.0",
		RequestParameters: Document{raw: []byte(`{"workspaces":[{"directoryId":"d-1234567890"}]}`)},
		ResponseElements:  Document{raw: []byte(`{"pendingRequests":[]}`)},
		RequestID:         "r-" + id, EventID: id, RecipientAccountID: "123456789012",
		TLS: &TLSDetails{Version: "TLSv1.3", CipherSuite: "TLS_AES_128_GCM_SHA256", ClientProvidedHostHeader: "localhost:8443"},
	}
}

func (s *session) write(ids ...string) {
	s.h.t.Helper()
	for _, id := range ids {
		if err := s.w.Write(context.Background(), record(id), true); err != nil {
			s.h.t.Fatal(err)
		}
	}
}

func TestRecordsAreShapedLikeCloudTrails(t *testing.T) {
	r := record("e1")
	r.UserIdentity.SessionContext = &SessionContext{SessionIssuer: SessionIssuer{Type: "Role", UserName: "r"}, CreationDate: r.EventTime, MFA: true}
	t.Run("a change carries all its members", func(t *testing.T) {
		got := string(r.AppendJSON(nil))
		want := `{"eventVersion":"1.11","userIdentity":{"type":"IAMUser","principalId":"AIDAEXAMPLE","arn":"arn:aws:iam::123456789012:user/ada",` +
			`"accountId":"123456789012","accessKeyId":"AKIDEXAMPLE","userName":"ada","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"",` +
			`"arn":"","accountId":"","userName":"r"},"attributes":{"creationDate":"2026-11-23T10:00:00Z","mfaAuthenticated":"true"}}},` +
			`"eventTime":"2026-11-23T10:00:00Z","eventSource":"workspaces.amazonaws.com","eventName":"CreateWorkspaces","awsRegion":"eu-central-1",` +
			`"sourceIPAddress":"192.0.2.1","userAgent":"aws-cli/2.0","requestParameters":{"workspaces":[{"directoryId":"d-1234567890"}]},` +
			`"responseElements":{"pendingRequests":[]},"requestID":"r-e1","eventID":"e1","readOnly":false,"eventType":"AwsApiCall","managementEvent":true,` +
			`"recipientAccountId":"123456789012","eventCategory":"Management","tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256",` +
			`"clientProvidedHostHeader":"localhost:8443"}}`
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	t.Run("it reads back as it was written", func(t *testing.T) {
		var again Record
		if err := json.Unmarshal(r.AppendJSON(nil), &again); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.AppendJSON(nil), r.AppendJSON(nil)) {
			t.Errorf("got %s", again.AppendJSON(nil))
		}
	})
	t.Run("a call that reads has null response elements, one that failed its error", func(t *testing.T) {
		r := record("e2")
		r.ResponseElements = Document{}
		r.ReadOnly, r.ErrorCode, r.ErrorMessage, r.VPCEndpointID = true, "AccessDenied", "no", "vpce-1"
		got := string(r.AppendJSON(nil))
		for _, want := range []string{`"responseElements":null`, `"errorCode":"AccessDenied","errorMessage":"no"`, `"readOnly":true`, `"vpcEndpointId":"vpce-1"`} {
			if !strings.Contains(got, want) {
				t.Errorf("%s has no %s", got, want)
			}
		}
	})
}

func TestNoTextOfAClientGetsOutOfItsString(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"a line feed with a forged record is escaped", "x\n{\"chain\":", `"x\n{\"chain\":"`},
		{"carriage return, tab and other controls are escaped", "\r\t\x00\x1b[2J\x7f", `"\r\t\u0000\u001b[2J\u007f"`},
		{"line separators and C1 controls are escaped", "\u2028\u2029\u0085", `"\u2028\u2029\u0085"`},
		{"bidirectional overrides are escaped", "\u202egpj", `"\u202egpj"`},
		{"bytes that are not UTF-8 are replaced", "a\xff\xc0b", `"a\ufffd\ufffdb"`},
		{"letters of any script stay", "Größe 漢字 🙂", `"Größe 漢字 🙂"`},
		{"an unprintable character beyond the basic plane is a surrogate pair", "\U000e0001", `"\udb40\udc01"`},
		{"a backslash at the end does not escape the quote", `\`, `"\\"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(text(nil, tt.in)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("every client-chosen member is one line of valid JSON and cut", func(t *testing.T) {
		evil := strings.Repeat("é\n\"\xff\u202e", 2000)
		r := record("e1")
		r.UserAgent, r.ErrorMessage, r.ErrorCode, r.TLS.ClientProvidedHostHeader, r.UserIdentity.AccessKeyID = evil, evil, evil, evil, evil
		got := r.AppendJSON(nil)
		if !json.Valid(got) || bytes.ContainsAny(got, "\n\r") || len(got) > 40<<10 {
			t.Errorf("%d bytes: %s", len(got), got)
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add("a\xff\u2028\"")
	f.Fuzz(func(t *testing.T, s string) {
		got := text(nil, s)
		var back string
		if err := json.Unmarshal(got, &back); err != nil || bytes.ContainsAny(got, "\n\r\x1b") {
			t.Fatalf("text(%q) = %s: %v", s, got, err)
		}
		if back != strings.ToValidUTF8(s, "\ufffd") && strings.ToValidUTF8(s, "") == s {
			t.Fatalf("text(%q) reads back as %q", s, back)
		}
	})
}

func FuzzParseLine(f *testing.F) {
	line, _ := appendLine(nil, 1, evidence.Hash{}, record("e").AppendJSON(nil))
	f.Add(bytes.TrimSuffix(line, []byte("\n")))
	f.Add([]byte(`{"chain":{"sequence":1,"previous":"`))
	f.Fuzz(func(t *testing.T, line []byte) {
		l, rec, err := parseLine(line)
		if err != nil {
			return
		}
		again, want := appendLine(nil, l.sequence, l.previous, rec)
		if want.hash == l.hash && !bytes.Equal(bytes.TrimSuffix(again, []byte("\n")), line) {
			t.Errorf("a line has a second spelling: %s", again)
		}
	})
}

func TestConcurrentWritersShareTheChain(t *testing.T) {
	h := newHouse(t)
	s := h.start(Config{FileBytes: 20 << 10, QueueBytes: 4 << 10})
	var want []string
	var mu sync.Mutex
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 25 {
				id := fmt.Sprintf("%d-%d", g, i)
				if err := s.w.Write(context.Background(), record(id), i%2 == 0); err != nil {
					t.Error(err)
				}
				mu.Lock()
				want = append(want, id)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if _, err := h.verify(true); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	report, err := h.verify(false)
	if err != nil || report.Records != 400 || report.Unsigned != 0 || report.Files < 5 || report.Digests < report.Files {
		t.Errorf("Verify = %+v, %v", report, err)
	}
	got := h.ids()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d records read back, want the %d written, each once", len(got), len(want))
	}
	t.Run("a write after the end is refused", func(t *testing.T) {
		if err := s.w.Write(context.Background(), record("late"), true); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Write = %v", err)
		}
	})
	t.Run("a record without an id, a name or a time is refused", func(t *testing.T) {
		for _, r := range []*Record{{}, {EventID: "x"}, {EventID: "x", EventName: "y", EventSource: "z"}} {
			if err := s.w.Write(context.Background(), r, true); err == nil || errors.Is(err, fs.ErrClosed) {
				t.Errorf("Write = %v", err)
			}
		}
	})
}

func TestTimeRotatesSignsAndSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight UTC, 2000-01-01
		h := newHouse(t)
		s, err := h.open(Config{DigestEvery: time.Hour, SyncEvery: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		fsyncs := &counting{}
		s.w.tail.disk = fsyncs.wrap(s.w.tail.disk)
		s.run()
		if err := s.w.Write(t.Context(), record("a"), false); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := h.ids(); len(got) != 1 {
			t.Errorf("a record nobody waits for is not written at once: %v", got)
		}
		before := fsyncs.n.Load()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := fsyncs.n.Load() - before; got != 1 {
			t.Errorf("%d fsyncs after SyncEvery, want 1", got)
		}
		if report, err := h.verify(true); err != nil || report.Unsigned != 1 {
			t.Errorf("before the digest: %+v, %v", report, err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if report, err := h.verify(true); err != nil || report.Unsigned != 0 || report.Digests != 1 {
			t.Errorf("after DigestEvery: %+v, %v", report, err)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if report, err := h.verify(true); err != nil || report.Digests != 1 {
			t.Errorf("without new records there is nothing to sign: %+v, %v", report, err)
		}
		time.Sleep(24 * time.Hour)
		s.write("b")
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		all, err := segments(h.dir())
		if err != nil || len(all) != 2 || all[0].path != "2000/01/01/00000000000000000001.jsonl" || all[1].path != "2000/01/02/00000000000000000002.jsonl" {
			t.Errorf("files %v, %v", all, err)
		}
		if _, err := h.verify(false); err != nil {
			t.Error(err)
		}
	})
}

// counting counts fsyncs.
type counting struct {
	disk
	n atomic.Int64
}

type countingFile struct {
	file
	c *counting
}

func (c *counting) wrap(d disk) disk { c.disk = d; return c }

func (c *counting) open(path string) (file, error) {
	f, err := c.disk.open(path)
	return countingFile{f, c}, err
}

func (f countingFile) Sync() error { f.c.n.Add(1); return f.file.Sync() }

func TestBackPressureWaitsAndGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		s, err := h.open(Config{QueueBytes: 2 << 10})
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ { // nobody runs yet: the queue fills
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := s.w.Write(ctx, record(fmt.Sprint(i)), false)
			cancel()
			if err != nil {
				if !errors.Is(err, context.DeadlineExceeded) || i < 2 || i > 4 {
					t.Errorf("Write %d = %v", i, err)
				}
				break
			}
		}
		blocked := make(chan error)
		go func() { blocked <- s.w.Write(t.Context(), record("blocked"), false) }()
		synctest.Wait()
		s.run()
		if err := <-blocked; err != nil {
			t.Error(err)
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if got := h.ids(); got[len(got)-1] != "blocked" {
			t.Errorf("records %v", got)
		}
	})
}

// faulty is a disk whose n-th operation fails, writes after half of their bytes. It knows how much of each file is synced.
type faulty struct {
	disk
	mu     sync.Mutex
	ops    int
	at     func(op int) bool
	synced map[string]int64
}

var errDisk = errors.New("no space left on device")

func (d *faulty) fails() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops++
	return d.at(d.ops)
}

func (d *faulty) open(path string) (file, error) {
	if d.fails() {
		return nil, errDisk
	}
	f, err := d.disk.open(path)
	return &faultyFile{file: f, d: d, path: path, size: -1}, err
}

func (d *faulty) remove(path string) error {
	if d.fails() {
		return errDisk
	}
	return d.disk.remove(path)
}

type faultyFile struct {
	file
	d    *faulty
	path string
	size int64
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	if f.d.fails() {
		n, _ := f.file.WriteAt(p[:len(p)/2], off)
		return n, errDisk
	}
	f.size = off + int64(len(p))
	return f.file.WriteAt(p, off)
}

func (f *faultyFile) Truncate(size int64) error {
	if f.d.fails() {
		return errDisk
	}
	f.size = size
	return f.file.Truncate(size)
}

func (f *faultyFile) Sync() error {
	if f.d.fails() {
		return errDisk
	}
	if f.size >= 0 {
		f.d.synced[f.path] = f.size
	}
	return f.file.Sync()
}

// workload writes records one by one, every third without waiting, and tells which were acknowledged as durable, which accepted.
func workload(s *session) (durable, accepted []string) {
	for i := range 24 {
		id := fmt.Sprint(i)
		wait := i%3 != 2
		switch err := s.w.Write(context.Background(), record(id), wait); {
		case err == nil && wait:
			durable = append(durable, id)
		case err == nil:
			accepted = append(accepted, id)
		}
	}
	return durable, accepted
}

func TestADiskThatFailsAtAnyOperation(t *testing.T) {
	count := &faulty{at: func(int) bool { return false }, synced: map[string]int64{}}
	h := newHouse(t)
	s, err := h.open(Config{FileBytes: 5 << 10})
	if err != nil {
		t.Fatal(err)
	}
	count.disk, s.w.tail.disk = s.w.tail.disk, count
	s.run()
	workload(s)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	kinds := []struct {
		name string
		at   func(n int) func(op int) bool
	}{
		{"once", func(n int) func(int) bool { return func(op int) bool { return op == n } }},
		{"for five operations", func(n int) func(int) bool { return func(op int) bool { return op >= n && op < n+5 } }},
		{"for ever", func(n int) func(int) bool { return func(op int) bool { return op >= n } }},
	}
	if count.ops < 40 {
		t.Fatalf("the workload makes only %d operations", count.ops)
	}
	for _, kind := range kinds {
		for n := 1; n <= count.ops; n++ {
			t.Run(fmt.Sprintf("R15: failing %s from operation %d loses nothing acknowledged and keeps the chain", kind.name, n), func(t *testing.T) {
				failAt(t, kind.at(n))
			})
		}
	}
}

func failAt(t *testing.T, at func(int) bool) {
	h := newHouse(t)
	s, err := h.open(Config{FileBytes: 5 << 10, SyncEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	d := &faulty{disk: s.w.tail.disk, at: at, synced: map[string]int64{}}
	s.w.tail.disk = d
	s.run()
	durable, accepted := workload(s)
	stopped := s.stop()
	for path, size := range d.synced { // the power fails: what was not synced is torn
		full := filepath.Join(h.dir(), filepath.FromSlash(path))
		info, err := os.Stat(full)
		if err != nil {
			continue
		}
		if err := os.Truncate(full, size+(info.Size()-size)/2); info.Size() > size && err != nil {
			t.Fatal(err)
		}
	}
	again, err := h.open(Config{})
	if err != nil {
		t.Fatalf("Open after the crash: %v", err)
	}
	again.run().write("after")
	if err := again.stop(); err != nil {
		t.Fatal(err)
	}
	if report, err := h.verify(false); err != nil {
		t.Fatalf("Verify = %+v, %v", report, err)
	}
	times := map[string]int{}
	for _, id := range h.ids() {
		times[id]++
	}
	for _, id := range durable {
		if times[id] != 1 {
			t.Errorf("acknowledged record %s is there %d times", id, times[id])
		}
	}
	for _, id := range accepted {
		if stopped == nil && times[id] != 1 || times[id] > 1 {
			t.Errorf("accepted record %s is there %d times, the writer ended with %v", id, times[id], stopped)
		}
	}
	if told, refused := h.lost(), 24-len(durable)-len(accepted); stopped == nil && told != refused || told > refused {
		t.Errorf("%d records were refused, the log tells of %d", refused, told)
	}
	if stopped == nil && len(times) != len(durable)+len(accepted)+1 {
		t.Errorf("%d records, want %d: a refused one is there", len(times), len(durable)+len(accepted)+1)
	}
}

func TestVerifyLocatesTamperedRecords(t *testing.T) {
	h := newHouse(t)
	for n := range 2 { // two runs: digests after record 6 and 12; files of about three records
		s := h.start(Config{FileBytes: 2800})
		for i := range 6 {
			s.write(fmt.Sprintf("e%02d", n*6+i+1))
		}
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
	}
	all, err := segments(h.dir())
	if err != nil || len(all) != 4 || all[1].first != 4 {
		t.Fatalf("files %v, %v", all, err)
	}
	original := map[string][]byte{}
	for _, s := range all {
		data, err := os.ReadFile(filepath.Join(h.dir(), s.path))
		if err != nil {
			t.Fatal(err)
		}
		original[s.path] = data
	}
	lines := func(files map[string][]byte, i int) [][]byte {
		l := bytes.SplitAfter(files[all[i].path], []byte("\n"))
		return l[:len(l)-1]
	}
	const moved = 100 // files that are where none was
	set := func(files map[string][]byte, i int, l [][]byte) { files[all[i].path] = bytes.Join(l, nil) }
	tests := []struct {
		name   string
		tamper func(files map[string][]byte)
		want   Problem
		file   int
		line   int
	}{
		{"an edited byte", func(f map[string][]byte) {
			f[all[1].path] = bytes.Replace(f[all[1].path], []byte(`"eventID":"e05"`), []byte(`"eventID":"e55"`), 1)
		}, WrongHash, 1, 2},
		{"a deleted line", func(f map[string][]byte) { set(f, 0, slices.Delete(lines(f, 0), 1, 2)) }, SequenceGap, 0, 2},
		{"a repeated line", func(f map[string][]byte) { l := lines(f, 0); set(f, 0, [][]byte{l[0], l[1], l[1], l[2]}) }, SequenceGap, 0, 3},
		{"swapped lines", func(f map[string][]byte) { l := lines(f, 2); l[1], l[2] = l[2], l[1]; set(f, 2, l) }, SequenceGap, 2, 2},
		{"a deleted last line of a middle file", func(f map[string][]byte) { l := lines(f, 1); set(f, 1, l[:len(l)-1]) }, MissingFile, 2, 1},
		{"a deleted last line of all", func(f map[string][]byte) { l := lines(f, 3); set(f, 3, l[:len(l)-1]) }, Truncated, 3, 3},
		{"a missing first file", func(f map[string][]byte) { delete(f, all[0].path) }, MissingFile, 1, 1},
		{"a missing middle file", func(f map[string][]byte) { delete(f, all[2].path) }, MissingFile, 3, 1},
		{"a missing last file", func(f map[string][]byte) { delete(f, all[3].path) }, Truncated, 2, 4},
		{"no file at all", func(f map[string][]byte) { clear(f) }, Truncated, -1, 0},
		{"swapped files", func(f map[string][]byte) {
			f[all[1].path], f[all[2].path] = f[all[2].path], f[all[1].path]
		}, Misplaced, 1, 1},
		{"a torn last line", func(f map[string][]byte) { f[all[3].path] = f[all[3].path][:len(f[all[3].path])-9] }, Torn, 3, 3},
		{"a foreign line", func(f map[string][]byte) { l := lines(f, 0); l[1] = []byte("hello\n"); set(f, 0, l) }, Malformed, 0, 2},
		{"white space in a link", func(f map[string][]byte) {
			f[all[0].path] = bytes.Replace(f[all[0].path], []byte(`"sequence":2,`), []byte(`"sequence": 2,`), 1)
		}, Malformed, 0, 2},
		{"an edited record with its hash made anew", func(f map[string][]byte) {
			l := lines(f, 1)
			old, rec, _ := parseLine(bytes.TrimSuffix(l[1], []byte("\n")))
			l[1], _ = appendLine(nil, old.sequence, old.previous, bytes.Replace(rec, []byte("ada"), []byte("eve"), 1))
			set(f, 1, l)
		}, WrongPrevious, 1, 3},
		{"an emptied middle file", func(f map[string][]byte) { f[all[1].path] = nil }, MissingFile, 2, 1},
		{"a middle file of zeros", func(f map[string][]byte) { f[all[1].path] = make([]byte, len(f[all[1].path])) }, Torn, 1, 1},
		{"a file moved to an earlier day", func(f map[string][]byte) {
			f["2001/01/01/"+filepath.Base(all[1].path)] = f[all[1].path]
			delete(f, all[1].path)
		}, Misplaced, moved + 1, 1},
		{"a last file moved to a later day", func(f map[string][]byte) {
			f["2999/01/01/"+filepath.Base(all[3].path)] = f[all[3].path]
			delete(f, all[3].path)
		}, Misplaced, moved + 2, 3},
		{"a file that is there a second time", func(f map[string][]byte) {
			f["2999/01/01/"+filepath.Base(all[3].path)] = f[all[3].path]
		}, MissingFile, moved + 2, 1},
		{"two records that have changed places and numbers", func(f map[string][]byte) {
			l := lines(f, 2)
			_, a, _ := parseLine(bytes.TrimSuffix(l[0], []byte("\n")))
			_, b, _ := parseLine(bytes.TrimSuffix(l[1], []byte("\n")))
			l[0], l[1] = bytes.Replace(l[0], a, b, 1), bytes.Replace(l[1], b, a, 1)
			set(f, 2, l)
		}, WrongHash, 2, 1},
		{"a chain made anew without one record", func(f map[string][]byte) {
			set(f, 3, slices.Delete(lines(f, 3), 1, 2))
			l := lines(f, 3)
			first, _, _ := parseLine(bytes.TrimSuffix(l[0], []byte("\n")))
			_, rec, _ := parseLine(bytes.TrimSuffix(l[1], []byte("\n")))
			l[1], _ = appendLine(nil, first.sequence+1, first.hash, rec)
			set(f, 3, l)
		}, Truncated, 3, 3},
		{"a chain made anew with two records the other way round", func(f map[string][]byte) {
			l := lines(f, 3)
			first, _, _ := parseLine(bytes.TrimSuffix(l[0], []byte("\n")))
			_, a, _ := parseLine(bytes.TrimSuffix(l[1], []byte("\n")))
			_, b, _ := parseLine(bytes.TrimSuffix(l[2], []byte("\n")))
			var made link
			l[1], made = appendLine(nil, first.sequence+1, first.hash, b)
			l[2], _ = appendLine(nil, first.sequence+2, made.hash, a)
			set(f, 3, l)
		}, WrongDigest, 3, 1},
		{"the whole chain made anew from a record on", func(f map[string][]byte) {
			var previous evidence.Hash
			for i := range all {
				l := lines(f, i)
				for j := range l {
					old, rec, _ := parseLine(bytes.TrimSuffix(l[j], []byte("\n")))
					if old.sequence >= 10 {
						rec = bytes.Replace(rec, []byte("ada"), []byte("eve"), 1)
					}
					var made link
					l[j], made = appendLine(nil, old.sequence, previous, rec)
					previous = made.hash
				}
				set(f, i, l)
			}
		}, WrongDigest, 3, 1},
	}
	for _, tt := range tests {
		t.Run("R15: "+tt.name+" is located", func(t *testing.T) {
			files := map[string][]byte{}
			for path, data := range original {
				files[path] = bytes.Clone(data)
			}
			tt.tamper(files)
			dir := t.TempDir()
			for path, data := range files {
				full := filepath.Join(dir, path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.WriteFile(full, data, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			log, err := os.Open(filepath.Join(h.root, "evidence"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = log.Close() }()
			_, err = Verify(Source{Dir: dir, Evidence: log}, h.key.Public())
			var fault *Fault
			if !errors.As(err, &fault) {
				t.Fatalf("Verify = %v, want a fault", err)
			}
			file := ""
			switch {
			case tt.file > moved:
				file = map[int]string{moved + 1: "2001/01/01/" + filepath.Base(all[1].path), moved + 2: "2999/01/01/" + filepath.Base(all[3].path)}[tt.file]
			case tt.file >= 0:
				file = all[tt.file].path
			}
			if fault.Problem != tt.want || fault.File != file || fault.Line != tt.line {
				t.Errorf("fault %v, want %s in %s line %d", fault, tt.want, file, tt.line)
			}
		})
	}
	t.Run("an edited digest is located in the evidence log", func(t *testing.T) {
		data, err := os.ReadFile(filepath.Join(h.root, "evidence"))
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Replace(data, []byte(`"sequence":12`), []byte(`"sequence":11`), 1)
		_, err = Verify(Source{Dir: h.dir(), Evidence: bytes.NewReader(bad)}, h.key.Public())
		var fault *evidence.Fault
		if !errors.As(err, &fault) || fault.Problem != evidence.WrongHash {
			t.Errorf("Verify = %v", err)
		}
	})
	t.Run("digests cut off the evidence log are noticed by its head", func(t *testing.T) {
		data, err := os.ReadFile(filepath.Join(h.root, "evidence"))
		if err != nil {
			t.Fatal(err)
		}
		report, err := evidence.Verify(bytes.NewReader(data), h.key.Public(), evidence.Options{})
		if err != nil {
			t.Fatal(err)
		}
		cut := data[:bytes.LastIndexByte(data[:len(data)-1], '\n')+1]
		_, err = Verify(Source{Dir: h.dir(), Evidence: bytes.NewReader(cut), Head: &report.Head}, h.key.Public())
		var fault *evidence.Fault
		if !errors.As(err, &fault) || fault.Problem != evidence.Truncated {
			t.Errorf("Verify = %v", err)
		}
	})
	t.Run("the untouched files are good", func(t *testing.T) {
		report, err := h.verify(false)
		if err != nil || report.Records != 12 || report.Files != 4 || report.Unsigned != 0 {
			t.Errorf("Verify = %+v, %v", report, err)
		}
	})
}

func TestOpenRefusesWhatItMustNotContinue(t *testing.T) {
	tests := []struct {
		name   string
		change func(data []byte) []byte
	}{
		{"removed records that a digest knows", func(d []byte) []byte { return d[:bytes.IndexByte(d, '\n')+1] }},
		{"an emptied file that a digest knows", func([]byte) []byte { return nil }},
		{"an edited last record", func(d []byte) []byte { return bytes.Replace(d, []byte(`"eventID":"c"`), []byte(`"eventID":"x"`), 1) }},
		{"a foreign last line", func(d []byte) []byte { return append(bytes.Clone(d), "hello\n"...) }},
		{"a foreign tail", func(d []byte) []byte { return append(bytes.Clone(d), "hello"...) }},
	}
	for _, tt := range tests {
		t.Run(tt.name+" is refused and not changed", func(t *testing.T) {
			h := newHouse(t)
			s := h.start(Config{})
			s.write("a", "b", "c")
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			all, _ := segments(h.dir())
			path := filepath.Join(h.dir(), all[0].path)
			data, _ := os.ReadFile(path)
			bad := tt.change(data)
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if s, err := h.open(Config{}); err == nil {
				_ = s.evidence.Close()
				t.Error("Open accepts it")
			}
			if got, _ := os.ReadFile(path); !bytes.Equal(got, bad) {
				t.Error("the file changed")
			}
		})
	}
	for _, torn := range []string{"{", `{"chain":{"sequence":4,"prev`, "\x00\x00\x00"} {
		t.Run(fmt.Sprintf("a torn tail %q is cut off and told", torn), func(t *testing.T) {
			h := newHouse(t)
			s := h.start(Config{})
			s.write("a")
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			all, _ := segments(h.dir())
			path := filepath.Join(h.dir(), all[0].path)
			data, _ := os.ReadFile(path)
			if err := os.WriteFile(path, append(data, torn...), 0o600); err != nil {
				t.Fatal(err)
			}
			s = h.start(Config{})
			if s.w.Torn() != int64(len(torn)) {
				t.Errorf("Torn() = %d", s.w.Torn())
			}
			s.write("b")
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			if report, err := h.verify(false); err != nil || report.Records != 2 {
				t.Errorf("Verify = %+v, %v", report, err)
			}
		})
	}
}

func TestReadFilters(t *testing.T) {
	h := newHouse(t)
	s := h.start(Config{FileBytes: 2 << 10})
	for i := range 10 {
		r := record(fmt.Sprint(i))
		r.EventTime = r.EventTime.Add(time.Duration(i) * time.Minute)
		if i%2 == 0 {
			r.EventName, r.ReadOnly = "DescribeWorkspaces", true
		}
		if i == 7 {
			r.UserIdentity.UserName, r.UserIdentity.AccessKeyID, r.EventSource = "grace", "AKIDGRACE", "iam.amazonaws.com"
		}
		if err := s.w.Write(t.Context(), r, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	yes := true
	start := record("").EventTime
	tests := []struct {
		name   string
		filter Filter
		want   string
	}{
		{"everything in the order written", Filter{}, "0123456789"},
		{"everything newest first", Filter{NewestFirst: true}, "9876543210"},
		{"by name", Filter{EventName: "CreateWorkspaces"}, "13579"},
		{"by read-only", Filter{ReadOnly: &yes}, "02468"},
		{"by user", Filter{UserName: "grace"}, "7"},
		{"by key", Filter{AccessKeyID: "AKIDGRACE"}, "7"},
		{"by source", Filter{EventSource: "iam.amazonaws.com"}, "7"},
		{"by id", Filter{EventID: "4"}, "4"},
		{"by time", Filter{Since: start.Add(3 * time.Minute), Until: start.Add(5 * time.Minute)}, "345"},
		{"a page later", Filter{After: 4}, "456789"},
		{"a page later newest first", Filter{After: 4, NewestFirst: true}, "210"},
		{"nothing", Filter{EventName: "x"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			for e, err := range Read(h.dir(), tt.filter) {
				if err != nil {
					t.Fatal(err)
				}
				got += e.Record.EventID
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("a reader may stop early", func(t *testing.T) {
		for e := range Read(h.dir(), Filter{}) {
			if e.Sequence == 2 {
				break
			}
		}
	})
}

type innerInput struct {
	Password *string
	Size     *int32
}

type testInput struct {
	DirectoryId *string
	Names       []string
	Tags        map[string]string
	Inner       *innerInput
	Items       []innerInput
	When        *time.Time
	Data        []byte
	Rate        *float64
	On          *bool
	Secret      []string
}

func testOperation() *shape.Operation {
	str := &shape.Shape{Name: "String", Kind: shape.String}
	inner := &shape.Shape{Name: "Inner", Kind: shape.Structure, Fields: []shape.Field{
		{Name: "Password", Of: &shape.Shape{Name: "Password", Kind: shape.String, Sensitive: true}},
		{Name: "Size", Of: &shape.Shape{Name: "Integer", Kind: shape.Integer}},
	}}
	return &shape.Operation{Name: "Test", Input: &shape.Shape{Name: "TestRequest", Kind: shape.Structure, Fields: []shape.Field{
		{Name: "DirectoryId", Of: str}, {Name: "Names", Of: &shape.Shape{Kind: shape.List, Elem: str}},
		{Name: "Tags", Of: &shape.Shape{Kind: shape.Map, Key: str, Elem: str}}, {Name: "Inner", Of: inner},
		{Name: "Items", Of: &shape.Shape{Kind: shape.List, Elem: inner}}, {Name: "When", Of: &shape.Shape{Kind: shape.Timestamp}},
		{Name: "Data", Of: &shape.Shape{Kind: shape.Blob}}, {Name: "Rate", Of: &shape.Shape{Kind: shape.Double}},
		{Name: "On", Of: &shape.Shape{Kind: shape.Boolean}},
		{Name: "Secret", Of: &shape.Shape{Kind: shape.List, Sensitive: true, Elem: str}},
	}}}
}

func fullInput() *testInput {
	return &testInput{
		DirectoryId: shape.Ptr("d-1"), Names: []string{"a", "b\n"}, Tags: map[string]string{"z": "1", "A\"": "2"},
		Inner: &innerInput{Password: shape.Ptr("hunter2"), Size: shape.Ptr(int32(-3))},
		Items: []innerInput{{}, {Password: shape.Ptr("hunter2")}}, When: shape.Ptr(record("").EventTime), Data: []byte("hi"),
		Rate: shape.Ptr(1.5), On: shape.Ptr(true), Secret: []string{"hunter2"},
	}
}

func TestParameters(t *testing.T) {
	op := testOperation()
	t.Run("members are in the model's order with a small first letter, sensitive ones hidden", func(t *testing.T) {
		got := Parameters(op, fullInput()).String()
		want := `{"directoryId":"d-1","names":["a","b\n"],"tags":{"A\"":"2","z":"1"},"inner":{"password":"HIDDEN_DUE_TO_SECURITY_REASONS","size":-3},` +
			`"items":[{},{"password":"HIDDEN_DUE_TO_SECURITY_REASONS"}],"when":"2026-11-23T10:00:00Z","data":"aGk=","rate":1.5,"on":true,` +
			`"secret":"HIDDEN_DUE_TO_SECURITY_REASONS"}`
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	t.Run("no input is null", func(t *testing.T) {
		var none *testInput
		for _, in := range []any{nil, none, &testInput{}} {
			if got := Parameters(op, in).String(); got != "null" {
				t.Errorf("Parameters(%T) = %s", in, got)
			}
		}
		if got := Parameters(nil, fullInput()).String(); got != "null" {
			t.Errorf("without an operation: %s", got)
		}
		if got := Elements(op, fullInput()).String(); got != "null" {
			t.Errorf("without an output: %s", got)
		}
	})
	t.Run("a value that does not fit its descriptor is hidden", func(t *testing.T) {
		type other struct{ A, B *string }
		if got := Parameters(op, &other{A: shape.Ptr("hunter2")}).String(); strings.Contains(got, "hunter2") {
			t.Errorf("got %s", got)
		}
		bad := &shape.Operation{Input: &shape.Shape{Kind: shape.Structure, Fields: []shape.Field{{Name: "A", Of: &shape.Shape{Kind: shape.Integer}}, {Name: "B"}}}}
		if got := Parameters(bad, &other{A: shape.Ptr("hunter2"), B: shape.Ptr("hunter2")}).String(); strings.Contains(got, "hunter2") {
			t.Errorf("got %s", got)
		}
	})
	t.Run("long strings, lists and documents are cut, stay valid and say so", func(t *testing.T) {
		for name, in := range map[string]*testInput{
			"string": {DirectoryId: shape.Ptr(strings.Repeat("x", 5000))}, "list": {Names: make([]string, 300)},
			"blob": {Data: make([]byte, 5000)},
			"all":  {Names: slices.Repeat([]string{strings.Repeat("\x00", 4000)}, 200), On: shape.Ptr(true), Secret: []string{"hunter2"}},
		} {
			got := Parameters(op, in).String()
			if !json.Valid([]byte(got)) || !strings.HasSuffix(got, `,"truncated":true}`) || len(got) > maxDocument+32<<10 || strings.Contains(got, "hunter2") {
				t.Errorf("%s: %d bytes, %.200s", name, len(got), got)
			}
		}
	})
}

func BenchmarkRecordJSON(b *testing.B) {
	r := record("e")
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = r.AppendJSON(buf[:0])
	}
}

func BenchmarkChainLine(b *testing.B) {
	rec := record("e").AppendJSON(nil)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = appendLine(buf[:0], 1, evidence.Hash{}, rec)
	}
}

func TestParametersInUsedMemory(t *testing.T) {
	op := testOperation()
	memory := []byte("what stood here before")
	for _, in := range []*testInput{fullInput(), {}, {DirectoryId: shape.Ptr("d-2")}, {DirectoryId: shape.Ptr(strings.Repeat("x", 3000))}, {}, {Rate: shape.Ptr(0.5)}, fullInput()} {
		if got, want := ParametersIn(&memory, op, in).String(), Parameters(op, in).String(); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	if got := ParametersIn(&memory, nil, fullInput()).String(); got != "null" {
		t.Error(got)
	}
}

func BenchmarkParameters(b *testing.B) {
	op, in := testOperation(), fullInput()
	var memory []byte
	b.ReportAllocs()
	for b.Loop() {
		ParametersIn(&memory, op, in)
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, durable := range []bool{false, true} {
		b.Run(fmt.Sprintf("durable=%t", durable), func(b *testing.B) {
			s, err := newHouse(b).open(Config{})
			if err != nil {
				b.Fatal(err)
			}
			fsyncs := &counting{}
			s.w.tail.disk = fsyncs.wrap(s.w.tail.disk)
			s.run()
			r := record("e")
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.w.Write(context.Background(), r, durable); err != nil {
						b.Error(err)
					}
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/float64(max(1, fsyncs.n.Load())), "records/fsync")
			if err := s.stop(); err != nil {
				b.Error(err)
			}
		})
	}
}

func TestTheRemainsOfALongRecordDoNotStandBehindAShortOne(t *testing.T) {
	h := newHouse(t)
	s, err := h.open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	// Operations: open, truncate, sync; then the long record's write and the truncation after it fail.
	d := &faulty{disk: s.w.tail.disk, at: func(op int) bool { return op == 4 || op == 5 }, synced: map[string]int64{}}
	s.w.tail.disk = d
	s.run()
	long := record("long")
	long.RequestParameters = Document{raw: []byte(`"` + strings.Repeat("x", 9000) + `"`)}
	if err := s.w.Write(t.Context(), long, true); !errors.Is(err, errDisk) {
		t.Fatalf("Write = %v", err)
	}
	if err := s.w.Health(); !errors.Is(err, errDisk) {
		t.Errorf("Health = %v", err)
	}
	s.write("short")
	if err := s.w.Health(); err != nil {
		t.Errorf("Health after a good write = %v", err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if report, err := h.verify(false); err != nil || report.Records != 2 || h.lost() != 1 {
		t.Errorf("R15: Verify = %+v, %v", report, err)
	}
}

// A record that nobody waits for is the kernel's when Write returns, and no fsync was made for it.
func TestARecordNobodyWaitsForIsWrittenWhenTheCallIsAnswered(t *testing.T) {
	h := newHouse(t)
	s := h.start(Config{SyncEvery: time.Hour})
	s.write("first") // it makes the file
	for i := range 100 {
		id := fmt.Sprintf("read-%d", i)
		if err := s.w.Write(t.Context(), record(id), false); err != nil {
			t.Fatal(err)
		}
		if ids := h.ids(); ids[len(ids)-1] != id {
			t.Fatalf("the last record is %s, want %s", ids[len(ids)-1], id)
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.verify(false); err != nil {
		t.Error(err)
	}
}
