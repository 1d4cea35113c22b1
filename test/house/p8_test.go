package house

import (
	"bytes"
	"context"
	endian "encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"carrel/internal/display"
	"carrel/internal/sigv4"
)

// samples is how often a figure is measured: 5 times, or as CARREL_PAIRS says.
func samples(b *testing.B) int {
	b.Helper()
	text := os.Getenv("CARREL_PAIRS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("CARREL_PAIRS is %q", text)
	}
	return n
}

// api speaks to the API door as an SDK does, in one signed request: the AWS CLI needs a second to start, which is not what is measured here.
func (h *house) api(operation string, in any) map[string]any {
	h.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		h.t.Fatal(err)
	}
	keys, err := os.ReadFile(filepath.Join(h.state, "aws", "credentials"))
	if err != nil {
		h.t.Fatal(err)
	}
	conf, err := os.ReadFile(filepath.Join(h.state, "aws", "config"))
	if err != nil {
		h.t.Fatal(err)
	}
	of := func(text []byte, name string) string {
		m := regexp.MustCompile(`(?m)^` + name + ` = (\S+)$`).FindSubmatch(text)
		if m == nil {
			h.t.Fatalf("no %s", name)
		}
		return string(m[1])
	}
	r, err := http.NewRequestWithContext(h.t.Context(), "POST", "https://"+h.door+"/", bytes.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "WorkspacesService."+operation)
	signer := sigv4.Signer{AccessKeyID: of(keys, "aws_access_key_id"), Secret: sigv4.Secret(of(keys, "aws_secret_access_key")), Region: of(conf, "region"), Service: "workspaces"}
	if err := signer.Sign(&sigv4.Request{Method: r.Method, Path: "/", Host: r.URL.Host, Header: r.Header, Body: body}, time.Now()); err != nil {
		h.t.Fatal(err)
	}
	resp, err := h.client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != http.StatusOK {
		h.t.Fatalf("%s: %d, %v, %v", operation, resp.StatusCode, out, err)
	}
	return out
}

// stateOf is a desktop's state.
func (h *house) stateOf(id string) string {
	h.t.Helper()
	out := h.api("DescribeWorkspaces", map[string]any{"WorkspaceIds": []string{id}})
	all, _ := out["Workspaces"].([]any)
	if len(all) == 0 {
		return "gone"
	}
	state, _ := all[0].(map[string]any)["State"].(string)
	if state == "ERROR" {
		h.t.Fatalf("%v", all)
	}
	return state
}

func (h *house) wait(id, want string) {
	h.t.Helper()
	for end := time.Now().Add(patience); h.stateOf(id) != want; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("%s is not %s within %s", id, want, patience)
		}
	}
}

// encrypted makes a desktop with both volumes encrypted, and gives how long it took until it was AVAILABLE.
func (h *house) encrypted(dir, person string) (id string, took time.Duration) {
	h.t.Helper()
	began := time.Now()
	out := h.api("CreateWorkspaces", map[string]any{"Workspaces": []any{map[string]any{"DirectoryId": dir, "UserName": person, "BundleId": "wsb-value0012",
		"RootVolumeEncryptionEnabled": true, "UserVolumeEncryptionEnabled": true, "VolumeEncryptionKey": "alias/aws/workspaces",
		"WorkspaceProperties": map[string]any{"RunningMode": "AUTO_STOP", "RunningModeAutoStopTimeoutInMinutes": 60}}}})
	pending, _ := out["PendingRequests"].([]any)
	if len(pending) != 1 {
		h.t.Fatalf("%v", out)
	}
	id, _ = pending[0].(map[string]any)["WorkspaceId"].(string)
	h.wait(id, "AVAILABLE")
	return id, time.Since(began)
}

// frame connects to a desktop's screen as the portal's page does, as soon as it may, and returns when the first picture has come.
func (h *house) frame(id string) {
	h.t.Helper()
	var ticket any
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		status, out := h.call("POST", "/api/desktops/"+id+"/connect", struct{}{})
		if status == http.StatusOK {
			ticket = out["ticket"]
			break
		}
		if time.Now().After(end) {
			h.t.Fatalf("connect: %d %v", status, out)
		}
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss://"+h.portal+"/api/screen", &websocket.DialOptions{HTTPClient: h.client, Subprotocols: []string{display.Protocol},
		HTTPHeader: http.Header{"Origin": {"https://" + h.portal}}})
	if err != nil {
		h.t.Fatal(err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(64 << 20)
	if err := ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"ticket":%q}`, ticket)); err != nil {
		h.t.Fatal(err)
	}
	if err := picture(&stream{ctx: ctx, ws: ws}); err != nil {
		h.t.Fatal(err)
	}
}

// stream is the binary messages of a WebSocket.
type stream struct {
	ctx  context.Context
	ws   *websocket.Conn
	rest []byte
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		kind, data, err := s.ws.Read(s.ctx)
		if err != nil {
			return 0, err
		}
		if kind == websocket.MessageBinary {
			s.rest = data
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *stream) Write(p []byte) (int, error) {
	return len(p), s.ws.Write(s.ctx, websocket.MessageBinary, p)
}

// picture speaks RFB (RFC 6143) without authentication until the first rectangle of the screen has come.
func picture(s io.ReadWriter) error {
	b := make([]byte, 1<<10)
	for _, step := range []struct {
		read int
		say  string
	}{{12, "RFB 003.008\n"}, {2, "\x01"}, {4, "\x01"}} {
		if _, err := io.ReadFull(s, b[:step.read]); err != nil {
			return err
		}
		if _, err := s.Write([]byte(step.say)); err != nil {
			return err
		}
	}
	if _, err := io.ReadFull(s, b[:24]); err != nil {
		return err
	}
	size, name, pixel := b[:4:4], endian.BigEndian.Uint32(b[20:]), int64(b[4]/8)
	whole := append([]byte{3, 0, 0, 0, 0, 0}, size...)
	if name > 1<<9 {
		return fmt.Errorf("a name of %d bytes", name)
	}
	if _, err := io.ReadFull(s, b[24:24+name]); err != nil {
		return err
	}
	// Raw pictures only, and all of the screen.
	if _, err := s.Write(append([]byte{2, 0, 0, 1, 0, 0, 0, 0}, whole...)); err != nil {
		return err
	}
	if _, err := io.ReadFull(s, b[24:24+16]); err != nil {
		return err
	}
	rectangle := b[24 : 24+16]
	width, height := int(endian.BigEndian.Uint16(rectangle[8:])), int(endian.BigEndian.Uint16(rectangle[10:]))
	if rectangle[0] != 0 || endian.BigEndian.Uint16(rectangle[2:]) == 0 || width*height == 0 || endian.BigEndian.Uint32(rectangle[12:]) != 0 {
		return fmt.Errorf("no picture: % x", rectangle)
	}
	_, err := io.CopyN(io.Discard, s, int64(width*height)*pixel)
	return err
}

func p8Figure(name string, goal float64, samples []time.Duration) {
	var all []float64
	for _, s := range samples {
		all = append(all, s.Seconds())
	}
	fmt.Print("figure: ")
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	_ = out.Encode(map[string]any{"figure": "p8", "name": name, "unit": "s", "samples": all, "goal": goal, "better": "<="})
}

// P8: how long a person waits for a new desktop, and for one that was stopped.
func BenchmarkP8(b *testing.B) {
	h := open(b)
	people := []string{"first"}
	for i := range samples(b) {
		people = append(people, fmt.Sprintf("person%d", i))
	}
	dir, code := h.directory(people...)
	var available, frames []time.Duration
	for b.Loop() {
		_, cold := h.encrypted(dir, people[0])
		b.Logf("the first desktop: %s, from its disk", cold)
		h.eventually("a template is made", func() bool { return strings.Contains(h.logged(), "memory template made") })
		for _, person := range people[1:] {
			id, took := h.encrypted(dir, person)
			available = append(available, took)
			if status, out := h.call("POST", "/api/session", map[string]string{"code": code, "userName": person, "password": "Analytical-1"}); status != http.StatusOK {
				b.Fatalf("login: %d %v", status, out)
			}
			h.frame(id)
			h.api("StopWorkspaces", map[string]any{"StopWorkspaceRequests": []any{map[string]any{"WorkspaceId": id}}})
			h.wait(id, "STOPPED")
			began := time.Now()
			if status, out := h.call("POST", "/api/desktops/"+id+"/start", struct{}{}); status != http.StatusAccepted {
				b.Fatalf("start: %d %v", status, out)
			}
			h.frame(id)
			frames = append(frames, time.Since(began))
			b.Logf("%s: AVAILABLE after %s, first picture %s after the request to resume it", person, took, frames[len(frames)-1])
			h.api("TerminateWorkspaces", map[string]any{"TerminateWorkspaceRequests": []any{map[string]any{"WorkspaceId": id}}})
			h.wait(id, "gone")
		}
	}
	p8Figure("create to AVAILABLE", 20, available)
	p8Figure("resume request to first frame", 2, frames)
}
