package front_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/audit"
)

// isForm tells the protocols whose parameters may stand in the query string.
func isForm(op *shape.Operation) bool {
	return op.Service.Protocol == shape.AWSQuery || op.Service.Protocol == shape.EC2Query
}

// presignedCall is the smallest request of op, to be presigned: what a link is, a GET, where the protocol knows one.
func presignedCall(t testing.TB, op *shape.Operation) *call {
	t.Helper()
	c := smallestCall(t, op)
	c.presigned = true
	if isForm(op) {
		c.method, c.query, c.body = http.MethodGet, string(c.body), nil
		c.header.Del("Content-Type")
	}
	return c
}

// TestEveryOperationServesThePresigned is the control of the next test: each operation, presigned, reaches its handler with the
// same input as by an Authorization header, and the forms' operations also by POST with a body.
func TestEveryOperationServesThePresigned(t *testing.T) {
	h := newHouse(t)
	served := func(op *shape.Operation, c *call) *audit.Record {
		before := h.db.Snapshot().Revision()
		c.sign(t, signer(h.root, op), time.Now())
		if got := h.send(t, c.request()); got.status != http.StatusOK || h.db.Snapshot().Revision() == before {
			t.Errorf("%s %s by %s: %d %s\n%s\nsent ?%s %s", op.Service.Name, op.Name, c.method, got.status, got.code, got.text, c.query, c.body)
		}
		return h.audit.last(t)
	}
	for _, op := range operations() {
		if op.Name == "AssumeRole" {
			continue // As in the control of the matrix.
		}
		want := served(op, smallestCall(t, op)).RequestParameters.String()
		calls := []*call{presignedCall(t, op)}
		if isForm(op) {
			post := smallestCall(t, op)
			post.presigned = true
			calls = append(calls, post)
		}
		for _, c := range calls {
			if got := served(op, c).RequestParameters.String(); got != want {
				t.Errorf("%s %s by %s: decoded as %s, want %s", op.Service.Name, op.Name, c.method, got, want)
			}
		}
	}
	secretFree(t, h)
}

// TestEveryOperationRefusesThePresignedOfWhoMayNot puts every way of the matrix in which authentication refuses through the query form. One path that looks for the
// signature in the header and another that takes the credential from the query was CVE-2026-40344 of MinIO.
func TestEveryOperationRefusesThePresignedOfWhoMayNot(t *testing.T) {
	h := newHouse(t)
	smallest := map[*shape.Operation]*call{}
	for _, op := range operations() {
		smallest[op] = smallestCall(t, op)
	}
	for _, col := range columns() {
		t.Run(col.name+", presigned", func(t *testing.T) {
			if col.arrange != nil {
				col.arrange(t, h)
			}
			before := h.db.Snapshot().Revision()
			for _, op := range operations() {
				if slices.Contains(allowedToAll, op.Service.Name+" "+op.Name) && col.want(op) == denied.in(op.Service.Protocol) {
					continue
				}
				if col.name == unsignedColumn && slices.Contains(unsignedToo, op.Service.Name+" "+op.Name) {
					continue
				}
				c := *smallest[op]
				c.header, c.presigned = c.header.Clone(), true
				col.prepare(t, h, op, &c)
				want := col.want(op)
				if got := h.send(t, c.request()); got.status != want.status || got.code != want.code {
					t.Errorf("%s %s: %d %s, want %d %s\n%s", op.Service.Name, op.Name, got.status, got.code, want.status, want.code, got.text)
				}
				if after := h.db.Snapshot().Revision(); after != before {
					t.Fatalf("%s %s: the state went from revision %d to %d", op.Service.Name, op.Name, before, after)
				}
			}
		})
	}
	secretFree(t, h)
}

// TestPresignedLinksThatWereTamperedWith is SIG-7 at the door, for one operation of each form protocol.
func TestPresignedLinksThatWereTamperedWith(t *testing.T) {
	h := newHouse(t)
	incomplete := refusal{query: words{400, "IncompleteSignature"}, ec2: words{400, "IncompleteSignature"}}
	expires := func(value string) func(*call) {
		return func(c *call) { c.query = strings.Replace(c.query, "X-Amz-Expires=60", "X-Amz-Expires="+value, 1) }
	}
	for _, c := range []struct {
		name   string
		age    time.Duration
		change func(*call)
		want   refusal
	}{
		{"SIG-7 expired", 62 * time.Second, func(*call) {}, wrong},
		{"SIG-7 not yet valid", -303 * time.Second, func(*call) {}, wrong},
		{"SIG-7 Expires 0", 0, expires("0"), incomplete},
		{"SIG-7 Expires -1", 0, expires("-1"), incomplete},
		{"SIG-7 Expires 604801", 0, expires("604801"), incomplete},
		{"SIG-7 Expires 1e20", 0, expires("1e20"), incomplete},
		{"SIG-7 Expires 100000000000000000000", 0, expires("100000000000000000000"), incomplete},
		{"SIG-7 Expires empty", 0, expires(""), incomplete},
		{"SIG-7 Expires absent", 0, func(c *call) { c.query = strings.Replace(c.query, "&X-Amz-Expires=60", "", 1) }, incomplete},
		{"SIG-7 Expires twice", 0, func(c *call) { c.query += "&X-Amz-Expires=60" }, incomplete},
		{"SIG-7 Expires twice, once escaped", 0, func(c *call) { c.query += "&X%2DAmz-Expires=604800" }, incomplete},
		{"SIG-7 Expires in a second case (CVE-2022-2385)", 0, func(c *call) { c.query += "&x-amz-expires=604800" }, incomplete},
		{"SIG-7 Expires in another case alone", 0, func(c *call) { c.query = strings.Replace(c.query, "X-Amz-Expires", "X-Amz-expires", 1) }, incomplete},
		{"SIG-7 Expires made longer", 0, expires("604800"), wrong},
		{"SIG-7 Action in a second case", 0, func(c *call) { c.query += "&action=DeleteUser" }, incomplete},
		{"SIG-7 Action exchanged", 0, func(c *call) { c.query = strings.Replace(c.query, "Action=", "Action=X", 1) }, wrong},
		{"SIG-7 a parameter added", 0, func(c *call) { c.query += "&UserName=mallory" }, wrong},
		{"SIG-7 moved to POST", 0, func(c *call) { c.method = http.MethodPost }, wrong},
		{"SIG-7 moved to POST, all of it into the body", 0, func(c *call) {
			c.method, c.body, c.query = http.MethodPost, []byte(c.query), ""
			c.header.Set("Content-Type", "application/x-www-form-urlencoded")
		}, missing},
		{"SIG-7 moved to POST, its parameters into the body", 0, func(c *call) {
			own, signature, _ := strings.Cut(c.query, "&X-Amz-Algorithm")
			c.method, c.body, c.query = http.MethodPost, []byte(own), "X-Amz-Algorithm"+signature
			c.header.Set("Content-Type", "application/x-www-form-urlencoded")
		}, wrong},
		{"SIG-7 a body added", 0, func(c *call) { c.body = []byte("UserName=mallory") }, wrong},
		{"SIG-7 a session token added", 0, func(c *call) { c.query += "&X-Amz-Security-Token=FwoGZXIvYXdzEXAMPLETOKEN" }, unknown},
		{"SIG-7 a session token added in a header", 0, func(c *call) { c.header.Set("X-Amz-Security-Token", "FwoGZXIvYXdzEXAMPLETOKEN") }, wrong},
		// The service is not known yet then, and a target speaks of a JSON one.
		{"SIG-7 a target added in a header", 0, func(c *call) { c.header.Set("X-Amz-Target", "WorkspacesService.TerminateWorkspaces") }, refusal{query: wrong.json, ec2: wrong.json}},
		{"SIG-7 the signature alone taken away", 0, func(c *call) { c.query, _, _ = strings.Cut(c.query, "&X-Amz-Signature=") }, incomplete},
		{"SIG-1 an Authorization header beside it", 0, func(c *call) {
			c.header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=a/20261123/b/c/aws4_request, SignedHeaders=host, Signature=0")
		}, incomplete},
		{"SIG-5 a hash in the query that is not the body's", 0, func(c *call) { c.query += "&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD" }, wrong},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, op := range []*shape.Operation{operation(t, "sts", "GetCallerIdentity"), operation(t, "iam", "ListUsers"), operation(t, "ec2", "DescribeVpcs")} {
				before := h.db.Snapshot().Revision()
				call := presignedCall(t, op)
				call.sign(t, signer(h.root, op), time.Now().Add(-c.age))
				_, signature, _ := strings.Cut(call.query, "&X-Amz-Signature=")
				c.change(call)
				got, want := h.send(t, call.request()), c.want.in(op.Service.Protocol)
				if got.status != want.status || got.code != want.code || h.db.Snapshot().Revision() != before {
					t.Errorf("%s: %d %s\nwant %d %s", op.Name, got.status, got.text, want.status, want.code)
				}
				if len(signature) != 64 || strings.Contains(got.text, signature) {
					t.Errorf("SIG-13 the answer repeats the signature: %s", got.text)
				}
				if rec := h.audit.last(t); rec.ErrorCode != want.code {
					t.Errorf("%s: recorded as %q", op.Name, rec.ErrorCode)
				}
			}
		})
	}
	if text := h.log.String(); strings.Contains(text, "FwoGZXIvYXdzEXAMPLETOKEN") || strings.Contains(text, "X-Amz-Signature=") {
		t.Error("SIG-13 the log holds a presigned query")
	}
	secretFree(t, h)
}

// TestTheSignatureIsNoParameter: what a presigned request's operation sees is its own parameters, and a parameter that is called
// like the signature's is nobody's member.
func TestTheSignatureIsNoParameter(t *testing.T) {
	h := newHouse(t)
	op := operation(t, "iam", "CreateUser")
	c := &call{method: http.MethodGet, path: "/", query: url.Values{"Action": {"CreateUser"}, "UserName": {"ada+lovelace@example.com"}}.Encode(), header: http.Header{}, presigned: true}
	c.sign(t, signer(h.root, op), time.Now())
	if got := h.send(t, c.request()); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.text)
	}
	rec := string(h.audit.last(t).AppendJSON(nil))
	if !strings.Contains(rec, `"ada+lovelace@example.com"`) || strings.Contains(rec, "X-Amz") || strings.Contains(rec, "x-amz") {
		t.Errorf("recorded as %s", rec)
	}
	t.Run("SIG-10 a target in the query of a JSON service is none", func(t *testing.T) {
		op := operation(t, "workspaces", "DescribeIpGroups")
		c := presignedCall(t, op)
		c.query = "X-Amz-Target=WorkspacesService.TerminateWorkspaces"
		c.sign(t, signer(h.root, op), time.Now())
		if got := h.send(t, c.request()); got.code != "UnknownOperationException" {
			t.Errorf("%d %s", got.status, got.text)
		}
	})
	t.Run("SIG-7 a JSON service's signature covers the body itself", func(t *testing.T) {
		op := operation(t, "workspaces", "DeleteIpGroup")
		c := presignedCall(t, op)
		c.sign(t, signer(h.root, op), time.Now())
		c.body = []byte(strings.Replace(string(c.body), "wsipg-0", "wsipg-1", 1))
		if got := h.send(t, c.request()); got.code != "InvalidSignatureException" {
			t.Errorf("%d %s", got.status, got.text)
		}
	})
}
