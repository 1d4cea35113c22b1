package front_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/authz"
	"carrel/internal/awserr"
	"carrel/internal/service"
)

// TestUnsignedOperations calls the operations that nobody signs, and looks for other ways in.
func TestUnsignedOperations(t *testing.T) {
	h := newHouse(t)
	var unsigned []string
	for _, op := range operations() {
		if op.Unsigned {
			unsigned = append(unsigned, op.Service.Name+" "+op.Name)
		}
	}
	t.Run("there are two of them", func(t *testing.T) {
		if !slices.Equal(unsigned, unsignedToo) {
			t.Errorf("the models have %q", unsigned)
		}
	})
	for _, name := range []string{"AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"} {
		op := operation(t, "sts", name)
		served := func(t *testing.T, c *call, caller string) {
			t.Helper()
			before := h.db.Snapshot().Revision()
			got := h.send(t, c.request())
			if got.status != http.StatusOK || h.db.Snapshot().Revision() == before || !strings.Contains(got.text, "<"+name+"Response") {
				t.Errorf("%d %s", got.status, got.text)
			}
			rec := h.audit.last(t)
			if rec.EventName != name || rec.EventSource != "sts.amazonaws.com" || rec.ErrorCode != "" || (rec.UserIdentity.Type == "Root") != (caller == "Root") || rec.UserIdentity.ARN != "" != (caller == "Root") {
				t.Errorf("recorded as %s", rec.AppendJSON(nil))
			}
		}
		refused := func(t *testing.T, c *call, want words) {
			t.Helper()
			before := h.db.Snapshot().Revision()
			got := h.send(t, c.request())
			if got.status != want.status || got.code != want.code || h.db.Snapshot().Revision() != before {
				t.Errorf("%d %s, want %d %s", got.status, got.code, want.status, want.code)
			}
		}
		t.Run(name+" needs no signature", func(t *testing.T) { served(t, smallestCall(t, op), "") })
		t.Run(name+" needs none in a query string", func(t *testing.T) {
			c := smallestCall(t, op)
			c.method, c.query, c.body = http.MethodGet, string(c.body), nil
			c.header.Del("Content-Type")
			served(t, c, "")
		})
		t.Run(name+" has no principal then", func(t *testing.T) {
			old := h.Handlers[op]
			defer func() { h.Handlers[op] = old }()
			h.Handlers[op] = func(ctx context.Context, call service.Call, _ any) (any, error) {
				if !call.Principal.IsZero() {
					t.Error("somebody")
				}
				l := authz.LaterOf(ctx)
				if l == nil || l.Decision != nil || l.Circumstances.Source != call.Source || l.Circumstances.Now.IsZero() {
					t.Errorf("to be decided under %+v", l)
				}
				return nil, awserr.Model("IDPRejectedClaim", "no").WithStatus(403)
			}
			refused(t, smallestCall(t, op), words{403, "IDPRejectedClaim"})
			if rec := h.audit.last(t); rec.ErrorCode != "IDPRejectedClaim" || rec.EventName != name {
				t.Errorf("recorded as %s", rec.AppendJSON(nil))
			}
		})
		t.Run(name+" may be signed", func(t *testing.T) {
			c := smallestCall(t, op)
			c.sign(t, signer(h.root, op), time.Now())
			served(t, c, "Root")
		})
		t.Run("SIG-1 "+name+": a signature that is there is verified", func(t *testing.T) {
			for _, header := range []string{"AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=x", "Basic YTpi", "Bearer abc"} {
				c := smallestCall(t, op)
				c.header.Set("Authorization", header)
				refused(t, c, words{400, "IncompleteSignature"})
			}
			c := smallestCall(t, op)
			c.sign(t, signer(h.off, op), time.Now())
			refused(t, c, unknown.query)
		})
		t.Run("SIG-1 "+name+": part of a signature in the query string is not none", func(t *testing.T) {
			for _, query := range []string{"X-Amz-Signature=00", "x-amz-credential=a", "a=b&X-AMZ-Algorithm=AWS4-HMAC-SHA256"} {
				c := smallestCall(t, op)
				c.query = query
				if got := h.send(t, c.request()); got.status/100 != 4 || h.audit.last(t).ErrorCode == "" {
					t.Errorf("%s: %d %s", query, got.status, got.text)
				}
			}
		})
		for _, c := range []struct {
			name   string
			change func(*call)
		}{
			{"of another version", func(c *call) {
				c.body = []byte(strings.Replace(string(c.body), "2011-06-15", "2010-05-08", 1))
			}},
			{"in other letters", func(c *call) { c.body = []byte(strings.Replace(string(c.body), "AssumeRole", "assumeRole", 1)) }},
			{"twice", func(c *call) { c.body = append(c.body, "&Action="+name...) }},
			{"and another in the query string", func(c *call) { c.query = "Action=GetSessionToken" }},
			{"with a target", func(c *call) { c.header.Set("X-Amz-Target", "WorkspacesService.DescribeWorkspaces") }},
			{"at another path", func(c *call) { c.path = "/x" }},
			{"in JSON", func(c *call) { c.header.Set("Content-Type", "application/x-amz-json-1.1") }},
		} {
			t.Run("SIG-10 "+name+" "+c.name+" is not served unsigned", func(t *testing.T) {
				call := smallestCall(t, op)
				c.change(call)
				before := h.db.Snapshot().Revision()
				if got := h.send(t, call.request()); got.status/100 != 4 || !strings.HasPrefix(got.code, "MissingAuthenticationToken") || h.db.Snapshot().Revision() != before {
					t.Errorf("%d %s", got.status, got.text)
				}
			})
		}
	}
	t.Run("FED-1 RelayState leads nowhere", func(t *testing.T) {
		c := smallestCall(t, operation(t, "sts", "AssumeRoleWithSAML"))
		c.body = append(c.body, "&RelayState=https%3A%2F%2Fevil.example.org"...)
		if got := h.send(t, c.request()); got.status/100 == 3 || got.header.Get("Location") != "" || strings.Contains(got.text, "evil.example.org") {
			t.Errorf("%d %v %s", got.status, got.header, got.text)
		}
	})
	t.Run("the constraints of the model hold for them, too", func(t *testing.T) {
		c := smallestCall(t, operation(t, "sts", "AssumeRoleWithSAML"))
		c.body = []byte("Action=AssumeRoleWithSAML&Version=2011-06-15")
		if got := h.send(t, c.request()); got.status != 400 || got.code != "ValidationError" {
			t.Errorf("%d %s", got.status, got.text)
		}
	})
}
