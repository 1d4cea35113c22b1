package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"carrel/internal/sigv4"
)

// world is a running server with what a client of it knows.
type world struct {
	*server
	state             string
	api, portal       string // HOST:PORT
	metrics           string // URL
	keyID, secret     string
	region            string
	http              *http.Client
	directory, bundle string
}

// quick are the time limits of servers that slow clients are tried on.
const quick = "requests: {headerTimeout: 1s, bodyTimeout: 2s, deadline: 5s, idleTimeout: 20s}\n"

// boot starts a server on state with the configuration given (YAML), and stops it when the test ends.
func boot(t testing.TB, state, config string, args ...string) *world {
	t.Helper()
	w, err := tryBoot(t, state, config, args...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func tryBoot(t testing.TB, state, config string, args ...string) (*world, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "carrel.yaml")
	if !strings.Contains(config, "metrics:") {
		config += "metrics: {address: '127.0.0.1:0'}\n"
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"--state", state, "--simulate", "--api-addr", "127.0.0.1:0", "--portal-addr", "127.0.0.1:0", "--config", file}, args...)
	s, err := start(binary(t), os.Environ(), args...)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.done
	})
	w := &world{server: s, state: state}
	w.learn(t)
	return w, nil
}

// learn reads what a client needs from the state directory and `carrel status`.
func (w *world) learn(t testing.TB) {
	t.Helper()
	var status struct{ API, Portal, Metrics, Region string }
	if err := json.Unmarshal([]byte(w.carrel(t, "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	w.api, w.portal, w.metrics, w.region = strings.TrimPrefix(status.API, "https://"), strings.TrimPrefix(status.Portal, "https://"), status.Metrics, status.Region
	keys, err := os.ReadFile(filepath.Join(w.state, "aws", "credentials"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`aws_access_key_id = (\S+)\naws_secret_access_key = (\S+)`).FindSubmatch(keys)
	if m == nil {
		t.Fatalf("no key in aws/credentials")
	}
	w.keyID, w.secret = string(m[1]), string(m[2])
	w.http = client(t, w.state)
	w.http.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
}

// stop sends SIGTERM; the process must be gone within 10 s, with status 0.
func (w *world) stop(t testing.TB) {
	t.Helper()
	begin := time.Now()
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.done:
	case <-time.After(10 * time.Second):
		t.Fatalf("not stopped 10 s after SIGTERM\n%s", w.out)
	}
	if w.err != nil {
		t.Fatalf("SIGTERM: ended with %v\n%s", w.err, w.out)
	}
	t.Logf("stopped %v after SIGTERM", time.Since(begin).Round(time.Millisecond))
}

// kill is kill -9.
func (w *world) kill() {
	_ = w.cmd.Process.Kill()
	<-w.done
}

func (w *world) alive() bool {
	select {
	case <-w.done:
		return false
	default:
		return true
	}
}

// carrel runs a subcommand on the world's state directory; it must succeed.
func (w *world) carrel(t testing.TB, args ...string) string {
	t.Helper()
	out, err := runCarrel(t, append(args, "--state", w.state)...)
	if err != nil {
		t.Fatalf("carrel %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func runCarrel(t testing.TB, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return string(out) + errs.String(), err
	}
	return string(out), nil
}

// call is one request, to be signed or already spoilt.
type call struct {
	method, path, query string
	// host is what is signed and sent as Host.
	host   string
	header http.Header
	body   []byte
	signer sigv4.Signer
}

var targets = map[string]string{"workspaces": "WorkspacesService", "ds": "DirectoryService_20150416"}

// jsonCall is a signed call of an awsJson operation.
func (w *world) jsonCall(service, operation, body string) *call {
	c := w.unsigned(service, body)
	c.header.Set("Content-Type", "application/x-amz-json-1.1")
	c.header.Set("X-Amz-Target", targets[service]+"."+operation)
	return c
}

// formCall is a call of an awsQuery or ec2Query operation.
func (w *world) formCall(service string, values url.Values) *call {
	c := w.unsigned(service, values.Encode())
	c.header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return c
}

func (w *world) unsigned(service, body string) *call {
	return &call{method: http.MethodPost, path: "/", host: w.api, header: http.Header{}, body: []byte(body),
		signer: sigv4.Signer{AccessKeyID: w.keyID, Secret: sigv4.Secret(w.secret), Region: w.region, Service: service}}
}

// sign signs c as it now is.
func (c *call) sign(t testing.TB) *call {
	t.Helper()
	req := sigv4.Request{Method: c.method, Path: c.path, RawQuery: c.query, Host: c.host, Header: c.header, Body: c.body}
	if err := c.signer.Sign(&req, time.Now()); err != nil {
		t.Fatal(err)
	}
	return c
}

// presign signs c as it now is, in its query, for a minute.
func (c *call) presign(t testing.TB) *call {
	t.Helper()
	req := sigv4.Request{Method: c.method, Path: c.path, RawQuery: c.query, Host: c.host, Header: c.header, Body: c.body}
	if err := c.signer.Presign(&req, time.Now(), time.Minute); err != nil {
		t.Fatal(err)
	}
	c.query = req.RawQuery
	return c
}

// text is c as HTTP/1.1 bytes. extra lines come last among the headers.
func (c *call) text(extra ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", c.method, c.target(), c.host)
	for name, values := range c.header {
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	for _, line := range extra {
		b.WriteString(line + "\r\n")
	}
	return b.String() + "\r\n" + string(c.body)
}

func (c *call) target() string {
	if c.query == "" {
		return c.path
	}
	return c.path + "?" + c.query
}

func (c *call) length() string { return "Content-Length: " + strconv.Itoa(len(c.body)) }

// answer is what came back.
type answer struct {
	status int
	code   string
	body   string
	header http.Header
}

func (a answer) String() string { return fmt.Sprintf("%d %s %s", a.status, a.code, cut(a.body, 300)) }

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}

// do sends c by a proper client.
func (w *world) do(ctx context.Context, c *call) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, "https://"+w.api+c.target(), bytes.NewReader(c.body))
	if err != nil {
		return answer{}, err
	}
	req.Host = c.host
	maps.Copy(req.Header, c.header)
	r, err := w.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(r)
}

func readAnswer(r *http.Response) (answer, error) {
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 64<<20))
	return answer{r.StatusCode, codeOf(b), string(b), r.Header}, err
}

// must is do for calls that succeed.
func (w *world) must(t testing.TB, c *call) answer {
	t.Helper()
	a, err := w.do(t.Context(), c.sign(t))
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("%s: %v %v", c.body, a, err)
	}
	return a
}

// codeOf finds the error code in any of the protocols' error documents.
func codeOf(body []byte) string {
	var j struct {
		Type string `json:"__type"`
	}
	if json.Unmarshal(body, &j) == nil {
		return j.Type
	}
	d := xml.NewDecoder(bytes.NewReader(body))
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

// dialTLS opens a connection to the API door; protocols are offered by ALPN.
func (w *world) dialTLS(t testing.TB, protocols ...string) *tls.Conn {
	t.Helper()
	conf := w.http.Transport.(*http.Transport).TLSClientConfig.Clone()
	conf.NextProtos = protocols
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: conf}
	c, err := d.DialContext(t.Context(), "tcp", w.api)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*tls.Conn)
}

// raw sends bytes on a connection of their own and reads one answer. An answer without bytes has status 0: the connection was closed.
func (w *world) raw(t testing.TB, text string) answer {
	t.Helper()
	c := w.dialTLS(t, "http/1.1")
	defer c.Close()
	return exchange(t, c, bufio.NewReader(c), text)
}

func exchange(t testing.TB, c net.Conn, r *bufio.Reader, text string) answer {
	t.Helper()
	// A server that has heard enough answers and closes: what can no longer be written is no failure.
	_, _ = io.WriteString(c, text)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatalf("no answer and no end of the connection within its deadline to %.200q", text)
		}
		return answer{}
	}
	a, err := readAnswer(resp)
	if err != nil && a.status == http.StatusOK {
		t.Fatalf("the answer broke off: %v", err)
	}
	return a
}

// gauge reads one number from the metrics listener.
func (w *world) gauge(t testing.TB, name string) float64 {
	t.Helper()
	status, text, err := get(t.Context(), http.DefaultClient, w.metrics)
	if err != nil || status != http.StatusOK {
		t.Fatalf("metrics: %d %v", status, err)
	}
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no metric %s", name)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// until waits for cond by asking it again and again; it fails the test after limit.
func until(t testing.TB, limit time.Duration, what string, cond func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		ok, seen := cond()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so after %v: %s", what, limit, seen)
		}
		// Nothing tells when; asking more often than this would be load.
		time.Sleep(20 * time.Millisecond)
	}
}

// furnish finds the simulated directory and a bundle.
func (w *world) furnish(t testing.TB) {
	t.Helper()
	var d struct {
		Directories []struct{ DirectoryId string }
	}
	w.decode(t, w.must(t, w.jsonCall("workspaces", "DescribeWorkspaceDirectories", "{}")), &d)
	var b struct{ Bundles []struct{ BundleId string } }
	w.decode(t, w.must(t, w.jsonCall("workspaces", "DescribeWorkspaceBundles", `{"Owner":"AMAZON"}`)), &b)
	if len(d.Directories) != 1 || len(b.Bundles) == 0 {
		t.Fatalf("%d directories, %d bundles", len(d.Directories), len(b.Bundles))
	}
	w.directory, w.bundle = d.Directories[0].DirectoryId, b.Bundles[0].BundleId
}

func (w *world) decode(t testing.TB, a answer, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		t.Fatalf("%v: %v", a, err)
	}
}
