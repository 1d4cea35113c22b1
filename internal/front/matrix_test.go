package front_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/state"
)

// words is a status and a code.
type words struct {
	status int
	code   string
}

// refusal is how each protocol says one refusal, written down here once more and not taken from the code under test.
type refusal struct{ json, query, ec2, rest words }

func (r refusal) in(p shape.Protocol) words {
	return map[shape.Protocol]words{shape.AWSJSON: r.json, shape.AWSQuery: r.query, shape.EC2Query: r.ec2, shape.RESTJSON: r.rest}[p]
}

var (
	missing = refusal{words{400, "MissingAuthenticationTokenException"}, words{403, "MissingAuthenticationToken"}, words{403, "MissingAuthenticationToken"}, words{403, "MissingAuthenticationTokenException"}}
	unknown = refusal{words{400, "UnrecognizedClientException"}, words{403, "InvalidClientTokenId"}, words{401, "AuthFailure"}, words{403, "UnrecognizedClientException"}}
	wrong   = refusal{words{400, "InvalidSignatureException"}, words{403, "SignatureDoesNotMatch"}, words{403, "SignatureDoesNotMatch"}, words{403, "InvalidSignatureException"}}
	denied  = refusal{words{400, "AccessDeniedException"}, words{403, "AccessDenied"}, words{403, "UnauthorizedOperation"}, words{403, "AccessDeniedException"}}
	nosuch  = refusal{words{400, "UnknownOperationException"}, words{400, "InvalidAction"}, words{400, "InvalidAction"}, words{404, "UnknownOperationException"}}
)

// column is one way in which a request is not to be served. prepare signs c, or does not.
type column struct {
	name    string
	prepare func(t *testing.T, h *house, op *shape.Operation, c *call)
	// want is the refusal, zero where the column is not about op.
	want func(op *shape.Operation) words
	// arrange, where set, makes who asks.
	arrange func(t *testing.T, h *house)
}

func as(r refusal) func(*shape.Operation) words {
	return func(op *shape.Operation) words { return r.in(op.Service.Protocol) }
}

// unsignedColumn is the name of the column without any signature.
const unsignedColumn = "SIG-1 no signature"

// columns is the authentication part of the matrix operation x caller x decision.
func columns() []column {
	return []column{
		{unsignedColumn, func(*testing.T, *house, *shape.Operation, *call) {}, func(op *shape.Operation) words {
			// Nothing tells EC2's form from another service's before the scope does, nor a REST body from a JSON one.
			if op.Service.Protocol == shape.EC2Query {
				return missing.query
			}
			return missing.in(op.Service.Protocol)
		}, nil},
		{"SIG-12 a key nobody has", func(t *testing.T, h *house, op *shape.Operation, c *call) {
			s := signer(h.root, op)
			s.AccessKeyID = "AKIAIOSFODNN7EXAMPLE"
			c.sign(t, s, time.Now())
		}, as(unknown), nil},
		{"SIG-12 another's secret", func(t *testing.T, h *house, op *shape.Operation, c *call) {
			s := signer(h.root, op)
			s.Secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
			c.sign(t, s, time.Now())
		}, as(wrong), nil},
		{"SIG-3 another region", func(t *testing.T, h *house, op *shape.Operation, c *call) {
			s := signer(h.root, op)
			s.Region = "ap-south-2"
			c.sign(t, s, time.Now())
		}, as(wrong), nil},
		{"SIG-10 another service of ours", func(t *testing.T, h *house, op *shape.Operation, c *call) {
			s := signer(h.root, op)
			s.Service = otherService(op)
			c.sign(t, s, time.Now())
		}, func(op *shape.Operation) words {
			if otherService(op) == "sts" {
				return nosuch.query
			}
			return nosuch.json
		}, nil},
		{"SIG-10 a service that is not ours", func(t *testing.T, h *house, op *shape.Operation, c *call) {
			s := signer(h.root, op)
			s.Service = "s3"
			c.sign(t, s, time.Now())
		}, func(op *shape.Operation) words {
			// Nobody's form is known then but the one the request seems to have.
			if op.Service.Protocol == shape.EC2Query {
				return wrong.query
			}
			return wrong.in(op.Service.Protocol)
		}, nil},
		{"SIG-3 the clock a quarter of an hour back", func(t *testing.T, h *house, op *shape.Operation, c *call) {
			c.sign(t, signer(h.root, op), time.Now().Add(-15*time.Minute))
		}, as(wrong), nil},
		{"SIG-5 the body changed after signing", func(t *testing.T, h *house, op *shape.Operation, c *call) {
			c.sign(t, signer(h.root, op), time.Now())
			c.body = append(slices.Clone(c.body), ' ')
		}, as(wrong), nil},
		{"SIG-4 content-type or target added after signing", func(t *testing.T, h *house, op *shape.Operation, c *call) {
			name := "Content-Type"
			if op.Service.Protocol == shape.AWSJSON {
				name = "X-Amz-Target"
			}
			value := c.header.Get(name)
			c.header.Del(name)
			c.sign(t, signer(h.root, op), time.Now())
			c.header.Set(name, value)
		}, as(wrong), nil},
		{"SIG-9 a key that was switched off", func(t *testing.T, h *house, op *shape.Operation, c *call) {
			c.sign(t, signer(h.off, op), time.Now())
		}, as(unknown), nil},
		{"an IAM user without policies", func(t *testing.T, h *house, op *shape.Operation, c *call) {
			c.sign(t, signer(h.nobody, op), time.Now())
		}, as(denied), nil},
	}
}

// otherService is a service of ours that op is not of, and that speaks another protocol where it can.
func otherService(op *shape.Operation) string {
	if op.Service.Protocol == shape.AWSJSON {
		return "sts"
	}
	return "workspaces"
}

// allowedToAll are operations that every principal may call.
var allowedToAll = []string{"sts GetCallerIdentity", "sts GetSessionToken", "sts AssumeRoleWithSAML", "sts AssumeRoleWithWebIdentity"}

// unsignedToo are the operations that nobody needs to sign, written down here once more: TestUnsignedOperations calls them so.
var unsignedToo = []string{"sts AssumeRoleWithSAML", "sts AssumeRoleWithWebIdentity"}

// TestEveryOperationRefusesWhoMayNot (R2) sends every operation of every model in every way that must be refused: AWS's code, a record of
// it, and not one revision more in the state. Operations that the model has unsigned are an exception only without any signature.
func TestEveryOperationRefusesWhoMayNot(t *testing.T) {
	h := newHouse(t)
	ways := append(append(columns(), policyColumns()...), sessionColumns()...)
	if len(ways) < 50 {
		t.Errorf("R2: only %d ways to be refused", len(ways))
	}
	for _, col := range ways {
		t.Run(col.name, func(t *testing.T) {
			if col.arrange != nil {
				col.arrange(t, h)
			}
			before, records := h.db.Snapshot().Revision(), h.audit.len()
			for _, op := range operations() {
				name := op.Service.Name + " " + op.Name
				want := col.want(op)
				if want == (words{}) {
					continue
				}
				if want == denied.in(op.Service.Protocol) && slices.Contains(allowedToAll, name) {
					continue
				}
				if col.name == unsignedColumn && slices.Contains(unsignedToo, name) {
					continue
				}
				c := smallestCall(t, op)
				col.prepare(t, h, op, c)
				got := h.send(t, c.request())
				if got.status != want.status || got.code != want.code {
					t.Errorf("%s: %d %s, want %d %s\n%s\nsent %s", name, got.status, got.code, want.status, want.code, got.text, c.body)
				}
				if strings.Contains(got.text, h.root.Secret.Reveal()) || strings.Contains(got.text, h.nobody.Secret.Reveal()) || h.tells(got.text) {
					t.Errorf("SIG-13 %s: the answer holds a secret", name)
				}
				records++
				if rec := h.audit.last(t); h.audit.len() != records || rec.ErrorCode != got.code {
					t.Errorf("%s: recorded as %q (%d records, want %d), answered %s", name, rec.ErrorCode, h.audit.len(), records, got.code)
					records = h.audit.len()
				}
				if after := h.db.Snapshot().Revision(); after != before {
					t.Fatalf("%s: the state went from revision %d to %d", name, before, after)
				}
			}
		})
	}
	secretFree(t, h)
}

// TestEveryOperationServesTheRoot is the matrix's control: the same smallest request with a good signature reaches the handler.
func TestEveryOperationServesTheRoot(t *testing.T) {
	h := newHouse(t)
	for _, op := range operations() {
		if op.Name == "AssumeRole" {
			continue // The root does not assume roles, and there is no role here that would let it.
		}
		before := h.db.Snapshot().Revision()
		c := smallestCall(t, op)
		c.sign(t, signer(h.root, op), time.Now())
		got := h.send(t, c.request())
		if got.status != http.StatusOK || h.db.Snapshot().Revision() == before {
			t.Errorf("%s %s: %d %s\n%s\nsent %s", op.Service.Name, op.Name, got.status, got.code, got.text, c.body)
		}
		rec := h.audit.last(t)
		if rec.EventName != op.Name || rec.UserIdentity.Type != "Root" || rec.ReadOnly != op.ReadOnly || h.audit.durable[h.audit.len()-1] == op.ReadOnly {
			t.Errorf("%s %s: recorded as %s", op.Service.Name, op.Name, rec.AppendJSON(nil))
		}
	}
	t.Logf("%d operations", len(operations()))
	secretFree(t, h)
}

// secretFree looks for every secret of the house in its log and records (SIG-13).
func secretFree(t *testing.T, h *house) {
	t.Helper()
	said := []byte(h.log.String())
	for _, rec := range h.audit.records {
		said = rec.AppendJSON(said)
	}
	text := string(said)
	for _, key := range []*state.AccessKey{h.root, h.nobody, h.off} {
		if strings.Contains(text, key.Secret.Reveal()) {
			t.Errorf("SIG-13 the secret of %s stands in the log or the audit records", key.ID)
		}
	}
	if h.tells(text) {
		t.Error("SIG-13 the secret or the token of temporary credentials stands in the log or the audit records")
	}
}
