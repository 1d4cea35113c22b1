package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// refusedWith is an expected refusal; status 0 means that the connection is closed without an answer.
type refusedWith struct {
	status int
	code   string
}

// TestHostileInput lets strangers and a holder of a key do their worst to one server, which then must be as it was: alive, small, and
// without a trace of its root secret in any answer, log or record (SIG-13).
func TestHostileInput(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	w := boot(t, state, quick+"log: {level: debug}\n")
	w.furnish(t)
	goroutines := w.gauge(t, "go_goroutines")
	answers := &lockedBuffer{}
	look := func(a answer) answer {
		fmt.Fprintf(answers, "%s %v\n", a.body, a.header)
		return a
	}
	t.Run("bodies", func(t *testing.T) { hostileBodies(t, w, look) })
	t.Run("heads", func(t *testing.T) { hostileHeads(t, w, look) })
	t.Run("framing", func(t *testing.T) { hostileFraming(t, w, look) })
	t.Run("tls", func(t *testing.T) { hostileTLS(t, w) })
	t.Run("http2", func(t *testing.T) { hostileHTTP2(t, w) })
	t.Run("slow", func(t *testing.T) { hostileSlow(t, w) })

	if !w.alive() {
		t.Fatalf("the server has ended\n%s", w.out)
	}
	w.must(t, w.jsonCall("workspaces", "DescribeWorkspaces", "{}"))
	w.http.CloseIdleConnections()
	until(t, 30*time.Second, "goroutines go back", func() (bool, string) {
		now := w.gauge(t, "go_goroutines")
		return now < goroutines+40, fmt.Sprintf("%v, %v in the beginning", now, goroutines)
	})
	if rss := w.gauge(t, "process_resident_memory_bytes"); rss > 1<<30 {
		t.Errorf("%.0f MiB resident", rss/(1<<20))
	}
	w.stop(t)
	for _, s := range []struct{ where, text string }{{"answers", answers.String()}, {"log", w.out.String()}, {"audit files", filesUnder(t, filepath.Join(state, "audit"))}} {
		if s.text == "" || strings.Contains(s.text, w.secret) {
			t.Errorf("SIG-13 the %s hold the root's secret, or nothing at all (%d bytes)", s.where, len(s.text))
		}
	}
	if strings.Contains(w.out.String(), "panic") {
		t.Errorf("a panic: %s", regexp.MustCompile(`(?m)^.*panic.*$`).FindString(w.out.String()))
	}
	if out := w.carrel(t, "audit", "verify"); !strings.Contains(out, "are chained") {
		t.Errorf("audit verify: %s", out)
	}
}

func filesUnder(t testing.TB, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func hostileBodies(t *testing.T, w *world, look func(answer) answer) {
	terminate := func(n int) string {
		return `{"TerminateWorkspaceRequests":[` + strings.TrimSuffix(strings.Repeat(`{"WorkspaceId":"ws-0a1b2c3d4"},`, n), ",") + `]}`
	}
	serialization := refusedWith{400, "SerializationException"}
	big := func(n int) string { return `{"NextToken":"` + strings.Repeat("a", n-len(`{"NextToken":""}`)) + `"}` }
	for _, c := range []struct {
		name, op, body string
		want           refusedWith
	}{
		{"a body that is not JSON", "DescribeWorkspaces", "hello", serialization},
		{"an empty body", "DescribeWorkspaces", "", serialization},
		{"a list in place of the structure", "DescribeWorkspaces", "[]", serialization},
		{"XML", "DescribeWorkspaces", "<a/>", serialization},
		{"SIG-10 a structure that does not end", "DescribeWorkspaces", `{"WorkspaceIds":["ws-0a1b2c3d4"]`, serialization},
		{"SIG-10 trailing data", "DescribeWorkspaces", `{} {}`, serialization},
		{"SIG-10 a byte order mark", "DescribeWorkspaces", "\ufeff{}", serialization},
		{"SIG-10 bad UTF-8", "DescribeWorkspaces", "{\"NextToken\":\"\xff\"}", serialization},
		{"SIG-10 UTF-16", "DescribeWorkspaces", "\xff\xfe{\x00}\x00", serialization},
		{"SIG-10 a member twice", "TerminateWorkspaces", `{"TerminateWorkspaceRequests":[{"WorkspaceId":"ws-0a1b2c3d4","WorkspaceId":"ws-0a1b2c3d5"}]}`, serialization},
		{"SIG-10 a member in another case", "DescribeWorkspaces", `{"workspaceIds":["ws-0a1b2c3d4"]}`, serialization},
		{"SIG-10 a member in two cases", "DescribeWorkspaces", `{"WorkspaceIds":["ws-0a1b2c3d4"],"workspaceids":["ws-0a1b2c3d5"]}`, serialization},
		{"SIG-10 a member escaped and not", "DescribeWorkspaces", `{"WorkspaceIds":["ws-0a1b2c3d4"],"\u0057orkspaceIds":["ws-0a1b2c3d5"]}`, serialization},
		{"SIG-10 depth 10,000", "DescribeWorkspaces", `{"x":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`, serialization},
		{"SIG-10 depth 10,000 and no end", "DescribeWorkspaces", strings.Repeat(`{"x":`, 10000), serialization},
		{"SIG-10 the number 1e400", "DescribeWorkspaces", `{"Limit":1e400}`, serialization},
		{"a number for a string", "DescribeWorkspaces", `{"DirectoryId":7}`, serialization},
		{"a string for a number", "DescribeWorkspaces", `{"Limit":"7"}`, serialization},
		{"a structure for a list", "DescribeWorkspaces", `{"WorkspaceIds":{}}`, serialization},
		{"null in a list", "DescribeWorkspaces", `{"WorkspaceIds":[null]}`, serialization},
		{"SIG-10 26 entries", "TerminateWorkspaces", terminate(26), refusedWith{400, "ValidationException"}},
		{"SIG-10 25 entries", "TerminateWorkspaces", terminate(25), refusedWith{200, ""}},
		{"an empty list where one is needed", "TerminateWorkspaces", terminate(0), refusedWith{400, "ValidationException"}},
		{"a million elements", "DescribeWorkspaces", `{"x":[` + strings.Repeat("1,", 500_000) + `1]}`, serialization},
		{"SIG-10 1 MiB", "DescribeIpGroups", big(1 << 20), refusedWith{400, "ValidationException"}},
		{"SIG-10 1 MiB and a byte", "DescribeIpGroups", big(1<<20 + 1), refusedWith{413, "RequestEntityTooLargeException"}},
		{"10 MiB with a Content-Length", "DescribeIpGroups", big(10 << 20), refusedWith{413, "RequestEntityTooLargeException"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			call := w.jsonCall("workspaces", c.op, c.body).sign(t)
			if len(c.body) > 1<<20 {
				// A client that speaks on after the answer may see the connection break before it reads it; this one waits.
				call.body = nil
				expect(t, look(w.raw(t, call.text(fmt.Sprintf("Content-Length: %d", len(c.body))))), c.want)
				return
			}
			a, err := w.do(t.Context(), call)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, look(a), c.want)
		})
	}
	t.Run("10 MiB chunked", func(t *testing.T) {
		call := w.jsonCall("workspaces", "DescribeIpGroups", "{}").sign(t)
		call.body = nil
		c := w.dialTLS(t, "http/1.1")
		r := bufio.NewReader(c)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = io.WriteString(c, call.text("Transfer-Encoding: chunked"))
			chunk := "10000\r\n" + strings.Repeat(" ", 1<<16) + "\r\n"
			for range 160 {
				if _, err := io.WriteString(c, chunk); err != nil {
					return
				}
			}
		}()
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := readAnswer(resp)
		c.Close()
		<-sent
		expect(t, look(a), refusedWith{413, "RequestEntityTooLargeException"})
	})
	t.Run("SIG-5 a gzip body", func(t *testing.T) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, "{}")
		z.Close()
		call := w.jsonCall("workspaces", "DescribeWorkspaces", b.String())
		call.header.Set("Content-Encoding", "gzip")
		a, err := w.do(t.Context(), call.sign(t))
		if err != nil {
			t.Fatal(err)
		}
		expect(t, look(a), refusedWith{415, "SerializationException"})
	})
	for _, c := range []struct {
		name, service string
		values        url.Values
		want          refusedWith
	}{
		{"an unknown action", "iam", url.Values{"Action": {"DropTables"}, "Version": {"2010-05-08"}}, refusedWith{400, "InvalidAction"}},
		{"SIG-10 an action twice", "iam", url.Values{"Action": {"ListUsers", "CreateUser"}}, refusedWith{400, "MalformedQueryString"}},
		{"an action of another service", "sts", url.Values{"Action": {"ListUsers"}}, refusedWith{400, "InvalidAction"}},
		{"another version", "sts", url.Values{"Action": {"GetCallerIdentity"}, "Version": {"1999-01-01"}}, refusedWith{400, "InvalidAction"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := w.do(t.Context(), w.formCall(c.service, c.values).sign(t))
			if err != nil {
				t.Fatal(err)
			}
			expect(t, look(a), c.want)
		})
	}
}

func expect(t *testing.T, a answer, want refusedWith) {
	t.Helper()
	if a.status != want.status || a.code != want.code {
		t.Fatalf("got %v, want %d %s", a, want.status, want.code)
	}
}

func hostileHeads(t *testing.T, w *world, look func(answer) answer) {
	describe := func() *call { return w.jsonCall("workspaces", "DescribeWorkspaces", "{}") }
	wrong, unknown := refusedWith{400, "InvalidSignatureException"}, refusedWith{400, "UnknownOperationException"}
	for _, c := range []struct {
		name string
		text func(t *testing.T) string
		want refusedWith
	}{
		{"SIG-1 unsigned", func(*testing.T) string { c := describe(); return c.text(c.length()) }, refusedWith{400, "MissingAuthenticationTokenException"}},
		{"SIG-1 two Authorization headers", func(t *testing.T) string {
			c := describe().sign(t)
			return c.text(c.length(), "Authorization: "+c.header.Get("Authorization"))
		}, refusedWith{400, "IncompleteSignatureException"}},
		{"SIG-1 two Host headers", func(t *testing.T) string { c := describe().sign(t); return c.text(c.length(), "Host: "+c.host) }, refusedWith{400, ""}},
		{"SIG-1 no Host header", func(t *testing.T) string {
			c := describe().sign(t)
			return strings.Replace(c.text(c.length()), "Host: "+c.host+"\r\n", "", 1)
		}, refusedWith{400, ""}},
		{"SIG-1 two X-Amz-Target headers", func(t *testing.T) string {
			c := describe().sign(t)
			return c.text(c.length(), "X-Amz-Target: WorkspacesService.TerminateWorkspaces")
		}, refusedWith{400, "IncompleteSignatureException"}},
		{"SIG-1 two X-Amz-Date headers", func(t *testing.T) string {
			c := describe().sign(t)
			return c.text(c.length(), "X-Amz-Date: "+c.header.Get("X-Amz-Date"))
		}, refusedWith{400, "IncompleteSignatureException"}},
		{"SIG-10 a target of another service", func(t *testing.T) string {
			c := describe()
			c.header.Set("X-Amz-Target", "DirectoryService_20150416.DescribeDirectories")
			c.sign(t)
			return c.text(c.length())
		}, unknown},
		{"SIG-10 a target in another case", func(t *testing.T) string {
			c := describe()
			c.header.Set("X-Amz-Target", "WorkspacesService.describeWorkspaces")
			c.sign(t)
			return c.text(c.length())
		}, unknown},
		{"SIG-10 an action in the query beside the target", func(t *testing.T) string {
			c := describe()
			c.query = "Action=TerminateWorkspaces"
			c.sign(t)
			return c.text(c.length())
		}, unknown},
		{"an operation that does not exist", func(t *testing.T) string {
			c := w.jsonCall("workspaces", "MineBitcoins", "{}").sign(t)
			return c.text(c.length())
		}, unknown},
		{"SIG-11 an absolute-form target with another Host", func(t *testing.T) string {
			c := describe().sign(t)
			return strings.Replace(c.text(c.length()), "POST / ", "POST https://evil.example.com/ ", 1)
		}, refusedWith{400, "SerializationException"}},
		{"SIG-11 a Host that was not signed", func(t *testing.T) string {
			c := describe().sign(t)
			c.host = "evil.example.com"
			return c.text(c.length())
		}, wrong},
		{"SIG-11 the signed Host with a trailing dot", func(t *testing.T) string {
			c := describe()
			c.host = "localhost"
			c.sign(t)
			c.host = "localhost."
			return c.text(c.length())
		}, wrong},
		{"SIG-11 the signed Host in another case", func(t *testing.T) string {
			c := describe()
			c.host = "localhost"
			c.sign(t)
			c.host = "LOCALHOST"
			return c.text(c.length())
		}, wrong},
		{"SIG-11 the signed Host with another port", func(t *testing.T) string {
			c := describe()
			c.host = "localhost:8443"
			c.sign(t)
			c.host = "localhost:443"
			return c.text(c.length())
		}, wrong},
		{"SIG-11 the IP address of the signed Host", func(t *testing.T) string {
			c := describe()
			c.host = "localhost"
			c.sign(t)
			c.host = "127.0.0.1"
			return c.text(c.length())
		}, wrong},
		{"SIG-11 an IPv6 address with port that was signed", func(t *testing.T) string {
			c := describe()
			c.host = "[::1]:8443"
			c.sign(t)
			return c.text(c.length())
		}, refusedWith{200, ""}},
		{"SIG-6 header names in another case are the same headers", func(t *testing.T) string {
			c := describe().sign(t)
			return strings.NewReplacer("X-Amz-Target:", "x-aMZ-tARGET:", "X-Amz-Date:", "x-amz-date:", "Authorization:", "AUTHORIZATION:").Replace(c.text(c.length()))
		}, refusedWith{200, ""}},
		{"SIG-1 a second target under a name in another case", func(t *testing.T) string {
			c := describe().sign(t)
			return c.text(c.length(), "x-amz-target: WorkspacesService.TerminateWorkspaces")
		}, refusedWith{400, "IncompleteSignatureException"}},
		{"SIG-4 an unsigned x-amz-* header added", func(t *testing.T) string {
			c := describe().sign(t)
			return c.text(c.length(), "X-Amz-Security-Token: FwoGZXIvYXdzEXAMPLETOKEN")
		}, wrong},
		{"SIG-4 other headers added change nothing", func(t *testing.T) string {
			c := describe().sign(t)
			return c.text(c.length(), "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Host: evil.example.com", "X-HTTP-Method-Override: DELETE", "X-Original-URL: /admin", "Cookie: a=b")
		}, refusedWith{200, ""}},
		{"SIG-5 the body exchanged after signing", func(t *testing.T) string {
			c := describe().sign(t)
			c.body = []byte(`{"WorkspaceIds":["ws-0a1b2c3d4"]}`)
			return c.text(c.length())
		}, wrong},
		{"SIG-6 a query added after signing", func(t *testing.T) string {
			c := describe().sign(t)
			c.query = "a=b"
			return c.text(c.length())
		}, wrong},
		{"SIG-6 the path with an escaped slash", func(t *testing.T) string {
			c := describe().sign(t)
			c.path = "/%2F"
			return c.text(c.length())
		}, wrong},
		{"SIG-6 the path with a second slash, which signs as one and is no operation's", func(t *testing.T) string {
			c := describe().sign(t)
			c.path = "//"
			return c.text(c.length())
		}, unknown},
		{"SIG-1 presigned, with an Authorization header beside it", func(t *testing.T) string {
			c := describe().presign(t)
			return c.text(c.length(), "Authorization: "+describe().sign(t).header.Get("Authorization"))
		}, refusedWith{400, "IncompleteSignatureException"}},
		{"SIG-7 presigned, with a parameter in a second case", func(t *testing.T) string {
			c := describe().presign(t)
			c.query += "&x-amz-credential=x"
			return c.text(c.length())
		}, refusedWith{400, "IncompleteSignatureException"}},
		{"SIG-7 presigned as it should be", func(t *testing.T) string { c := describe().presign(t); return c.text(c.length()) }, refusedWith{200, ""}},
		{"SIG-11 any Host that was signed as it is sent", func(t *testing.T) string {
			c := describe()
			c.host = "WorkSpaces.us-east-1.amazonaws.com."
			c.sign(t)
			return c.text(c.length())
		}, refusedWith{200, ""}},
		{"SIG-11 a header of 1 MiB", func(t *testing.T) string {
			c := describe().sign(t)
			return c.text(c.length(), "X-Big: "+strings.Repeat("a", 1<<20))
		}, refusedWith{431, ""}},
		{"SIG-11 100,000 headers", func(t *testing.T) string {
			c := describe().sign(t)
			return c.text(c.length(), strings.TrimSuffix(strings.Repeat("X-A: b\r\n", 100_000), "\r\n"))
		}, refusedWith{431, ""}},
		{"a method that is not served", func(t *testing.T) string {
			c := describe()
			c.method = "DELETE"
			c.sign(t)
			return c.text(c.length())
		}, refusedWith{405, "UnknownOperationException"}},
		{"CONNECT", func(*testing.T) string { return "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n" }, refusedWith{400, "SerializationException"}},
		{"not HTTP at all", func(*testing.T) string { return "\x00\x01\x02\x03\r\n\r\n" }, refusedWith{400, ""}},
		{"HTTP/0.9", func(*testing.T) string { return "GET /\r\n\r\n" }, refusedWith{400, ""}},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, look(w.raw(t, c.text(t))), c.want) })
	}
}

func hostileFraming(t *testing.T, w *world, look func(answer) answer) {
	describe := func(t *testing.T) *call { return w.jsonCall("workspaces", "DescribeWorkspaces", "{}").sign(t) }
	chunked := "2\r\n{}\r\n0\r\n\r\n"
	for _, c := range []struct {
		name string
		text func(*call) string
		want refusedWith
	}{
		{"SIG-11 two lengths", func(c *call) string { return c.text(c.length(), "Content-Length: 3") }, refusedWith{400, ""}},
		{"SIG-11 a length list", func(c *call) string { return c.text("Content-Length: 2, 3") }, refusedWith{400, ""}},
		{"SIG-11 a negative length", func(c *call) string { return c.text("Content-Length: -1") }, refusedWith{400, ""}},
		{"SIG-11 a transfer coding that nobody knows", func(c *call) string { return c.text("Transfer-Encoding: xchunked") }, refusedWith{501, ""}},
		{"SIG-11 two transfer codings", func(c *call) string { return c.text("Transfer-Encoding: chunked", "Transfer-Encoding: identity") }, refusedWith{501, ""}},
		{"SIG-11 a space before the colon", func(c *call) string { return c.text("Content-Length : 2") }, refusedWith{400, ""}},
		{"SIG-6 a folded header that nobody reads changes nothing", func(c *call) string { return c.text(c.length(), "X-A: b", " c") }, refusedWith{200, ""}},
		{"SIG-6 a target continued on a folded line", func(c *call) string {
			return strings.Replace(c.text(c.length()), "WorkspacesService.", "WorkspacesService.\r\n ", 1)
		}, refusedWith{400, "InvalidSignatureException"}},
		{"SIG-11 a bare CR in a header", func(c *call) string { return c.text(c.length(), "X-A: b\rX-B: c") }, refusedWith{400, ""}},
		{"SIG-11 a NUL in a header", func(c *call) string { return c.text(c.length(), "X-A: b\x00") }, refusedWith{400, ""}},
		{"SIG-5 a body cut off by the end of the connection", func(c *call) string { return c.text("Content-Length: 20") }, refusedWith{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.raw(t, c.text(describe(t)))
			if c.want.status == 0 && (a.status == 0 || a.status == http.StatusBadRequest || a.status == http.StatusRequestTimeout) {
				return
			}
			if a.status == 501 && c.want.status == 501 || a.status == c.want.status && c.want.code == "" {
				return
			}
			expect(t, look(a), c.want)
		})
	}
	t.Run("SIG-11 bare line feeds never make a second reading", func(t *testing.T) {
		c := describe(t)
		text := strings.ReplaceAll(c.text(c.length()), "\r\n", "\n")
		// One reading is enough for safety: answered as the same request, or not at all.
		if a := look(w.raw(t, text)); a.status != http.StatusOK && a.status != http.StatusBadRequest {
			t.Fatal(a)
		}
	})
	t.Run("SIG-11 Content-Length beside chunked ends the connection: what is smuggled behind it is nobody's request", func(t *testing.T) {
		first, second := describe(t), describe(t)
		first.body = nil
		c := w.dialTLS(t, "http/1.1")
		r := bufio.NewReader(c)
		a := look(exchange(t, c, r, first.text("Content-Length: 2", "Transfer-Encoding: chunked")+chunked+second.text(second.length())))
		if a.status != http.StatusOK && a.status != http.StatusBadRequest {
			t.Fatal(a)
		}
		if again := exchange(t, c, r, ""); again.status != 0 {
			t.Fatalf("a second answer came: %v", again)
		}
	})
	t.Run("SIG-5 a chunked body that is signed is served", func(t *testing.T) {
		c := describe(t)
		c.body = nil
		if a := look(w.raw(t, c.text("Transfer-Encoding: chunked")+chunked)); a.status != http.StatusOK {
			t.Fatal(a)
		}
	})
	t.Run("SIG-5 trailers are refused", func(t *testing.T) {
		c := describe(t)
		c.body = nil
		expect(t, look(w.raw(t, c.text("Transfer-Encoding: chunked", "Trailer: X-A")+"2\r\n{}\r\n0\r\nX-A: b\r\n\r\n")), refusedWith{400, "SerializationException"})
	})
	t.Run("SIG-11 pipelining after a refusal: each request stands for itself", func(t *testing.T) {
		bad, good := w.jsonCall("workspaces", "DescribeWorkspaces", "{}"), describe(t)
		c := w.dialTLS(t, "http/1.1")
		r := bufio.NewReader(c)
		expect(t, look(exchange(t, c, r, bad.text(bad.length())+good.text(good.length())+bad.text(bad.length()))), refusedWith{400, "MissingAuthenticationTokenException"})
		expect(t, look(exchange(t, c, r, "")), refusedWith{200, ""})
		expect(t, look(exchange(t, c, r, "")), refusedWith{400, "MissingAuthenticationTokenException"})
	})
	t.Run("SIG-11 a refused body is not read as the next request", func(t *testing.T) {
		bad, good := describe(t), describe(t)
		bad.body = []byte(good.text(good.length()))
		c := w.dialTLS(t, "http/1.1")
		r := bufio.NewReader(c)
		expect(t, look(exchange(t, c, r, bad.text("Content-Length: 9000000"))), refusedWith{413, "RequestEntityTooLargeException"})
		if a := exchange(t, c, r, ""); a.status != 0 {
			t.Fatalf("the body was answered: %v", a)
		}
	})
	t.Run("Expect: 100-continue is honoured", func(t *testing.T) {
		c := describe(t)
		c.body = nil
		conn := w.dialTLS(t, "http/1.1")
		r := bufio.NewReader(conn)
		_, _ = io.WriteString(conn, c.text("Content-Length: 2", "Expect: 100-continue"))
		line, err := r.ReadString('\n')
		if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%q %v", line, err)
		}
		_, _ = r.ReadString('\n')
		expect(t, look(exchange(t, conn, r, "{}")), refusedWith{200, ""})
	})
	t.Run("Expect: anything else is refused", func(t *testing.T) {
		c := describe(t)
		if a := look(w.raw(t, c.text(c.length(), "Expect: miracles"))); a.status != http.StatusExpectationFailed {
			t.Fatal(a)
		}
	})
}

func hostileTLS(t *testing.T, w *world) {
	roots := w.http.Transport.(*http.Transport).TLSClientConfig.RootCAs
	for _, door := range []struct{ name, addr string }{{"API", w.api}, {"portal", w.portal}} {
		for _, c := range []struct {
			name string
			conf *tls.Config
		}{
			{"TLS 1.0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}},
			{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}},
			{"CBC suites", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256}}},
			{"suites without forward secrecy", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384}}},
			{"RC4 and 3DES", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA}}},
		} {
			t.Run(door.name+" refuses "+c.name, func(t *testing.T) {
				c.conf.RootCAs = roots
				conn, err := tls.Dial("tcp", door.addr, c.conf)
				if err == nil {
					conn.Close()
					t.Fatalf("connected with %x", conn.ConnectionState().CipherSuite)
				}
			})
		}
		t.Run(door.name+" takes TLS 1.2 with an AEAD suite", func(t *testing.T) {
			conn, err := tls.Dial("tcp", door.addr, &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS12})
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		})
	}
	plain := func(addr, text string) answer {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		return exchange(t, c, bufio.NewReader(c), text)
	}
	t.Run("plain HTTP to the API door is not served", func(t *testing.T) {
		c := w.jsonCall("workspaces", "DescribeWorkspaces", "{}").sign(t)
		if a := plain(w.api, c.text(c.length())); a.status != 0 && a.status != http.StatusBadRequest {
			t.Fatal(a)
		}
	})
	upgrade := "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
	t.Run("SIG-11 h2c upgrade at the API door is not taken", func(t *testing.T) {
		if a := plain(w.api, upgrade); a.status != 0 && a.status != http.StatusBadRequest {
			t.Fatal(a)
		}
		if a := w.raw(t, upgrade); a.status == http.StatusSwitchingProtocols {
			t.Fatal(a)
		}
	})
	t.Run("SIG-11 h2c at the portal door is not taken, by upgrade or by prior knowledge", func(t *testing.T) {
		if a := plain(w.portal, upgrade); a.status != http.StatusPermanentRedirect {
			t.Fatal(a)
		}
		if a := plain(w.portal, http2.ClientPreface); a.status/100 == 2 || a.status/100 == 1 {
			t.Fatal(a)
		}
	})
}

// h2 is a client that writes frames as it likes.
type h2 struct {
	*http2.Framer
	conn    net.Conn
	encoder *hpack.Encoder
	block   bytes.Buffer
}

func (w *world) h2(t testing.TB) *h2 {
	t.Helper()
	conn := w.dialTLS(t, "h2")
	if p := conn.ConnectionState().NegotiatedProtocol; p != "h2" {
		t.Fatalf("negotiated %q", p)
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	c := &h2{Framer: http2.NewFramer(conn, conn), conn: conn}
	c.encoder = hpack.NewEncoder(&c.block)
	if err := c.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c
}

// head is a header block of a request, with more fields at its end.
func (c *h2) head(authority string, more ...hpack.HeaderField) []byte {
	c.block.Reset()
	for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: authority}, {Name: ":path", Value: "/"}}, more...) {
		_ = c.encoder.WriteField(f)
	}
	return bytes.Clone(c.block.Bytes())
}

// drain reads until the server ends the connection or the deadline comes; it gives the GOAWAY's code.
func (c *h2) drain() (http2.ErrCode, bool) {
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return 0, false
		}
		if g, ok := f.(*http2.GoAwayFrame); ok && g.ErrCode != http2.ErrCodeNo {
			return g.ErrCode, true
		}
	}
}

// goodClient asks over and over while attack runs: every answer must be there within a few seconds.
func goodClient(t *testing.T, w *world, attack func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var served int
	var worst time.Duration
	var failed error
	wg.Go(func() {
		for ctx.Err() == nil {
			begin := time.Now()
			c := w.jsonCall("workspaces", "DescribeWorkspaces", "{}").sign(t)
			a, err := w.do(context.WithoutCancel(ctx), c)
			if err != nil || a.status != http.StatusOK {
				failed = fmt.Errorf("%v %w", a, err)
				return
			}
			served++
			worst = max(worst, time.Since(begin))
		}
	})
	attack()
	// One more after it.
	until(t, 10*time.Second, "the good client is served", func() (bool, string) {
		a, err := w.do(t.Context(), w.jsonCall("workspaces", "DescribeWorkspaces", "{}").sign(t))
		return err == nil && a.status == http.StatusOK, fmt.Sprint(a, err)
	})
	cancel()
	wg.Wait()
	if failed != nil || served == 0 || worst > 5*time.Second {
		t.Errorf("the good client got %d answers, the slowest after %v: %v", served, worst, failed)
	}
	t.Logf("the good client got %d answers, the slowest after %v; %.0f MiB, %v goroutines", served, worst.Round(time.Millisecond), w.gauge(t, "process_resident_memory_bytes")/(1<<20), w.gauge(t, "go_goroutines"))
}

func hostileHTTP2(t *testing.T, w *world) {
	t.Run("SIG-11 rapid reset", func(t *testing.T) {
		goodClient(t, w, func() {
			var wg sync.WaitGroup
			for range 4 {
				c := w.h2(t)
				wg.Go(func() { c.drain() })
				wg.Go(func() {
					defer c.conn.Close()
					head := c.head(w.api)
					for id := uint32(1); id < 2*10_000; id += 2 {
						if c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndHeaders: true, EndStream: true}) != nil || c.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
							return
						}
					}
				})
			}
			wg.Wait()
		})
	})
	t.Run("SIG-11 CONTINUATION flood", func(t *testing.T) {
		goodClient(t, w, func() {
			c := w.h2(t)
			ended := make(chan struct{})
			go func() { defer close(ended); c.drain() }()
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.head(w.api), EndStream: true})
			c.block.Reset()
			_ = c.encoder.WriteField(hpack.HeaderField{Name: "x-a", Value: strings.Repeat("b", 8000), Sensitive: true})
			piece := bytes.Clone(c.block.Bytes())
			written, refused := 0, false
			for range 20_000 {
				if c.WriteContinuation(1, false, piece) != nil {
					refused = true
					break
				}
				written += len(piece)
			}
			<-ended
			if !refused && written > 100<<20 {
				t.Errorf("the server took %d MiB of header", written>>20)
			}
		})
	})
	t.Run("SIG-11 settings and ping floods", func(t *testing.T) {
		goodClient(t, w, func() {
			c := w.h2(t)
			// Nobody reads the acknowledgements: the server must not keep them all.
			for range 200_000 {
				if c.WritePing(false, [8]byte{}) != nil || c.WriteSettings() != nil {
					break
				}
			}
			c.conn.Close()
		})
	})
	for _, c := range []struct {
		name string
		more []hpack.HeaderField
	}{
		{"SIG-11 :authority and another Host", []hpack.HeaderField{{Name: "host", Value: "evil.example.com"}}},
		{"SIG-11 a header name in upper case", []hpack.HeaderField{{Name: "X-A", Value: "b"}}},
		{"SIG-11 Transfer-Encoding in HTTP/2", []hpack.HeaderField{{Name: "transfer-encoding", Value: "chunked"}}},
		{"SIG-11 a pseudo header twice", []hpack.HeaderField{{Name: ":path", Value: "/x"}}},
		{"SIG-11 a line feed in a value", []hpack.HeaderField{{Name: "x-a", Value: "b\r\nx-c: d"}}},
		{"SIG-11 a header list of 1 MiB", []hpack.HeaderField{{Name: "x-a", Value: strings.Repeat("b", 1<<20)}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := w.h2(t)
			defer conn.conn.Close()
			block := conn.head(w.api, c.more...)
			for first := true; first || len(block) > 0; first = false {
				n := min(len(block), 16000)
				if first {
					_ = conn.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:n], EndHeaders: n == len(block), EndStream: true})
				} else if conn.WriteContinuation(1, n == len(block), block[:n]) != nil {
					break
				}
				block = block[n:]
			}
			decoder := hpack.NewDecoder(4096, nil)
			for {
				f, err := conn.ReadFrame()
				if err != nil {
					return // the connection was ended
				}
				switch f := f.(type) {
				case *http2.RSTStreamFrame, *http2.GoAwayFrame:
					return
				case *http2.HeadersFrame:
					fields, _ := decoder.DecodeFull(f.HeaderBlockFragment())
					if fields[0].Value[0] != '4' {
						t.Fatalf("answered %v", fields)
					}
					return
				}
			}
		})
	}
}

func hostileSlow(t *testing.T, w *world) {
	t.Run("500 connections that say nothing, on each door", func(t *testing.T) {
		goodClient(t, w, func() {
			var all []net.Conn
			for i := range 1000 {
				addr := w.api
				if i%2 == 0 {
					addr = w.portal
				}
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, c)
			}
			status, _, err := get(t.Context(), w.http, "https://"+w.portal+"/readyz")
			if err != nil || status != http.StatusOK {
				t.Errorf("the portal is not served meanwhile: %d %v", status, err)
			}
			closedBy(t, all, 15*time.Second)
		})
	})
	t.Run("SIG-11 slow headers", func(t *testing.T) {
		goodClient(t, w, func() {
			var all []net.Conn
			for range 50 {
				c := w.dialTLS(t, "http/1.1")
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nX-A: ")
				all = append(all, c)
			}
			trickle(all)
			closedBy(t, all, 15*time.Second)
		})
	})
	t.Run("SIG-11 slow body", func(t *testing.T) {
		goodClient(t, w, func() {
			var all []net.Conn
			for range 50 {
				c := w.dialTLS(t, "http/1.1")
				call := w.jsonCall("workspaces", "DescribeWorkspaces", "{}").sign(t)
				call.body = []byte("{")
				_, _ = io.WriteString(c, call.text("Content-Length: 50000"))
				all = append(all, c)
			}
			trickle(all)
			closedBy(t, all, 15*time.Second)
		})
	})
	t.Run("STR-3 a client that asks much and reads nothing", func(t *testing.T) {
		goodClient(t, w, func() {
			var all []net.Conn
			for range 20 {
				c := w.dialTLS(t, "http/1.1")
				call := w.jsonCall("workspaces", "DescribeWorkspaceBundles", `{"Owner":"AMAZON"}`).sign(t)
				_ = c.SetWriteDeadline(time.Now().Add(3 * time.Second))
				for range 2000 {
					if _, err := io.WriteString(c, call.text(call.length())); err != nil {
						break
					}
				}
				all = append(all, c)
			}
			for _, c := range all {
				c.Close()
			}
		})
	})
}

// trickle sends a byte on each connection every now and then, for longer than the server's limits.
func trickle(all []net.Conn) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for range 12 {
		<-tick.C
		for _, c := range all {
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = c.Write([]byte("a"))
		}
	}
}

// closedBy waits until the server has ended every connection.
func closedBy(t *testing.T, all []net.Conn, limit time.Duration) {
	t.Helper()
	deadline, open := time.Now().Add(limit), 0
	for _, c := range all {
		_ = c.SetReadDeadline(deadline)
		if _, err := io.Copy(io.Discard, c); err != nil && os.IsTimeout(err) {
			open++
		}
		c.Close()
	}
	if open > 0 {
		t.Errorf("%d of %d connections are still open after %v", open, len(all), limit)
	}
}

// TestStopWithHalfOpenConnections: clients that say nothing, or stopped in the middle, do not hold up the stop.
func TestStopWithHalfOpenConnections(t *testing.T) {
	w := boot(t, filepath.Join(t.TempDir(), "state"), "")
	for _, addr := range []string{w.api, w.portal} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	half := w.dialTLS(t, "http/1.1")
	_, _ = io.WriteString(half, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
	w.must(t, w.jsonCall("workspaces", "DescribeWorkspaces", "{}"))
	w.stop(t)
	if err := w.cmd.Process.Signal(syscall.Signal(0)); err == nil {
		t.Error("the process is still there")
	}
}
