package policy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// dice makes choices: from the bytes of a fuzzer while there are any, else at random.
type dice struct {
	bytes  []byte
	random *rand.Rand
}

func newDice(seed uint64, bytes []byte) *dice {
	return &dice{bytes: bytes, random: rand.New(rand.NewPCG(seed, 1))}
}

func (d *dice) intn(n int) int {
	if len(d.bytes) > 0 {
		b := d.bytes[0]
		d.bytes = d.bytes[1:]
		return int(b) % n
	}
	return d.random.IntN(n)
}

func (d *dice) one(n int) bool { return d.intn(n) == 0 }

func (d *dice) of(list ...string) string { return list[d.intn(len(list))] }

// some gives one to three values, or one alone as documents write it.
func (d *dice) some(one func() any) any {
	n := 1 + d.intn(3)
	if n == 1 && d.one(2) {
		return one()
	}
	list := make([]any, n)
	for i := range list {
		list[i] = one()
	}
	return list
}

func (d *dice) text(letters string) string {
	all := []rune(letters)
	var b strings.Builder
	for range d.intn(7) {
		b.WriteRune(all[d.intn(len(all))])
	}
	return b.String()
}

const (
	ada   = "arn:aws:iam::123456789012:user/ada"
	desk  = "arn:aws:iam::123456789012:role/desk"
	shift = "arn:aws:sts::123456789012:assumed-role/desk/late"
	guest = "arn:aws:sts::123456789012:federated-user/guest"
	root  = "arn:aws:iam::123456789012:root"
)

// callers is one of each type.
var callers = []Principal{
	{},
	{Type: Root, Account: "123456789012", ARN: root, ID: "123456789012"},
	{Type: User, Account: "123456789012", ARN: ada, ID: "AIDAEXAMPLEEXAMPLE01"},
	{Type: User, Account: "999999999999", ARN: "arn:aws:iam::999999999999:user/eve", ID: "AIDAEXAMPLEEXAMPLE02"},
	{Type: RoleSession, Account: "123456789012", ARN: shift, Issuer: desk, IssuerID: "AROAEXAMPLEEXAMPLE01"},
	{Type: FederatedUser, Account: "123456789012", ARN: guest, Issuer: ada, IssuerID: "AIDAEXAMPLEEXAMPLE01"},
	{Type: FederatedUser, Account: "123456789012", ARN: guest, Issuer: root},
	{Type: Service, Name: "workspaces.amazonaws.com"},
	{Type: Federated, Name: "accounts.google.com"},
}

func (d *dice) principalElement() any {
	if d.one(4) {
		return "*"
	}
	m := map[string]any{}
	if d.one(3) {
		m["Service"] = d.some(func() any { return d.of("workspaces.amazonaws.com", "ec2.amazonaws.com") })
	}
	if d.one(3) {
		m["Federated"] = d.some(func() any { return d.of("accounts.google.com", "arn:aws:iam::123456789012:saml-provider/okta") })
	}
	if len(m) == 0 || d.one(2) {
		m["AWS"] = d.some(func() any {
			return d.of("123456789012", root, ada, desk, shift, guest, "AIDAEXAMPLEEXAMPLE01", "AROAEXAMPLEEXAMPLE01", "999999999999", "arn:aws:iam::999999999999:user/eve", "*")
		})
	}
	return m
}

var (
	resourceParts = []string{"workspace/ws-1", "workspace/ws-12", "workspace/ada", "directory/d-1", "workspace/*", "x:y:z", "workspace/é", "workspace/${aws:username}"}
	resourceWilds = []string{"*", "workspace/*", "workspace/ws-?", "workspace/ws-1*", "*/ada", "workspace/${aws:username}", "work*/${aws:username}*", "workspace/${aws:PrincipalTag/team, 'ada'}", "*${aws:userid}?",
		"x:*", "workspace/?", "?*?/?*?", "workspace/${*}", "${aws:TagKeys}", "workspace/ws-${aws:username}*1", "*space*ws*", "workspace/${$}{aws:username}"}
)

func (d *dice) resourcePattern(vars bool) any {
	if d.one(8) {
		return "*"
	}
	if d.one(10) {
		return d.of("arn:aws:workspaces:*", "arn:aws:workspaces:eu-*", "arn:*:ds:eu-central-1:*")
	}
	part := d.of(append(resourceParts[:len(resourceParts)-1], resourceWilds...)...)
	return strings.Join([]string{"arn", d.of("aws", "aws", "*", "aws-cn"), d.of("workspaces", "workspaces", "ds"), d.of("eu-central-1", "eu-central-1", "*", "eu-*", "us-east-?", ""), d.of("123456789012", "123456789012", "*", "1234567891011", "12345678901?"), part}, ":")
}

func (d *dice) actionPattern(trust bool) any {
	if trust {
		return d.of("sts:AssumeRole", "sts:AssumeRole*", "STS:*", "sts:assumerole", "sts:TagSession")
	}
	return d.of("*", "workspaces:*", "workspaces:RebootWorkspaces", "Workspaces:REBOOTworkspaces", "workspaces:Re*", "workspaces:?eboot*", "workspaces:*Workspaces", "workspaces:DescribeTags", "ds:*", "*:*", "ds:Re*", "workspaces:Describe???s")
}

// contextKeys are what the generator asks for and sets.
var contextKeys = []string{"aws:username", "aws:userid", "aws:PrincipalTag/team", "aws:SourceIp", "aws:SecureTransport", "aws:CurrentTime", "aws:EpochTime", "aws:TagKeys", "aws:PrincipalArn", "sts:ExternalId", "ec2:Blob"}

func (d *dice) key() string {
	k := contextKeys[d.intn(len(contextKeys))]
	switch d.intn(6) {
	case 0:
		return strings.ToLower(k)
	case 1:
		return strings.ToUpper(k)
	}
	return k
}

// operatorNames are all operators, sorted, so that dice fall alike each time.
var operatorNames = func() []string {
	var all []string
	for name := range operators {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}()

func (d *dice) operator() string {
	op := operatorNames[d.intn(len(operatorNames))]
	if op == "Null" {
		return op
	}
	if d.one(3) {
		op += "IfExists"
	}
	return d.of("", "", "ForAllValues:", "ForAnyValue:") + op
}

// valueFor makes a value that the operator takes.
func (d *dice) valueFor(op string, vars bool) any {
	switch {
	case !vars && strings.Contains(op, "Arn"):
		return d.of(ada, "arn:aws:iam::*:user/*", "arn:aws:iam::123456789012:user/${aws:username}")
	case !vars && strings.Contains(op, "Bool"):
		return d.of("true", "FALSE")
	case strings.Contains(op, "Numeric"):
		return d.of("0", "1", "-1", "1.5", "10", "1e1", "007", "100", "1E-2", "0.01", "123456789012345678", "123456789012345677", "-0.0", "+5")
	case strings.Contains(op, "Date"):
		return d.of("1795687200", "2026-11-26T10:00:00Z", "2026-11-26T11:00:00+01:00", "2026-11-26", "2026-11", "2026-11-26T10:00Z", "2024-02-29", "0000-01-01", "2026-11-26T10:00:00", "0")
	case strings.HasSuffix(op, "Bool") || strings.HasSuffix(op, "BoolIfExists"):
		if d.one(4) {
			return d.one(2)
		}
		return d.of("true", "false", "True", "${aws:SecureTransport}", "${sts:ExternalId, 'true'}")
	case op == "Null":
		return d.of("true", "false", "True")
	case strings.Contains(op, "Binary"):
		return d.of("QQ==", "QUI=", "", "/+8=")
	case strings.Contains(op, "IpAddress"):
		return d.of("10.0.0.0/8", "10.1.2.3", "10.1.2.3/8", "0.0.0.0/0", "::/0", "2001:db8::/32", "2001:db8::1", "192.0.2.0/24")
	case strings.Contains(op, "Arn"):
		return d.of(ada, desk, "arn:aws:iam::*:user/*", "arn:aws:iam::123456789012:*", "*:*:*:*:*:*", "arn:aws:iam::${aws:userid}:user/${aws:username}", "${aws:PrincipalArn}", "arn:aws:i?m::1*:r*/desk", "arn:aws:iam::123456789012:user/${aws:username, 'ada'}", "${aws:username, 'a:b:c:d:e:f'}")
	}
	switch d.intn(4) {
	case 0:
		return d.text("abAé*?")
	case 1:
		return d.of("${aws:username}", "${aws:username}*", "*${aws:PrincipalTag/team}?", "a${aws:username, 'a'}b", "${*}", "${?}a", "${$}", "$", "${aws:TagKeys, 'a'}", "*${AWS:USERID}*")
	}
	return d.of("ada", "ADA", "bob", "*", "a?a", "a*", "team-1", "", "é", "ÉA", "eu-central-1")
}

// requestValue makes a value a request may have for any key: mostly of the kind policies ask for, now and then nonsense.
func (d *dice) requestValue(key string) string {
	switch {
	case d.one(8):
		return d.of("", "*", "?", "NaN", "0x10", "1e400", "${aws:username}", "a:b:c:d:e:f", "2026-13-01", "10.0.0.256", "é", "tRUE")
	case strings.EqualFold(key, "aws:SourceIp"):
		return d.of("10.1.2.3", "192.0.2.7", "2001:db8::1", "::ffff:10.1.2.3", "198.51.100.1", "fe80::1%eth0")
	case strings.EqualFold(key, "aws:SecureTransport"):
		return d.of("true", "false")
	case strings.EqualFold(key, "aws:CurrentTime"):
		return d.of("2026-11-26T10:00:00Z", "2026-11-26T09:59:59Z", "2024-02-29T00:00:00Z", "2027-01-01T00:00:00Z", "2026-11-26")
	case strings.EqualFold(key, "aws:EpochTime"):
		return d.of("1795687200", "0", "1", "10", "100", "123456789012345678", "1.50", "-1")
	case strings.EqualFold(key, "aws:PrincipalArn"):
		return d.of(ada, desk, shift)
	case strings.EqualFold(key, "ec2:Blob"):
		return d.of("QQ==", "QUI=", "/+8=", "!")
	}
	if d.one(3) {
		return d.text("abAé*")
	}
	return d.of("ada", "ADA", "bob", "team-1", "aba", "a", "123456789012")
}

func (d *dice) conditionBlock(vars bool) map[string]any {
	block := map[string]any{}
	for range d.intn(3) {
		op := d.operator()
		keys := map[string]any{}
		for range 1 + d.intn(2) {
			key := d.key()
			if !hasFolded(keys, key) {
				keys[key] = d.some(func() any { return d.valueFor(op, vars) })
			}
		}
		block[op] = keys
	}
	return block
}

func hasFolded[V any](m map[string]V, key string) bool {
	for k := range m {
		if strings.EqualFold(k, key) {
			return true
		}
	}
	return false
}

func (d *dice) statement(kind Kind, vars bool) map[string]any {
	st := map[string]any{"Effect": d.of("Allow", "Allow", "Deny")}
	twin := func(name string) string {
		if d.one(5) {
			return "Not" + name
		}
		return name
	}
	if kind.namesPrincipals() {
		st[twin("Principal")] = d.principalElement()
	}
	st[twin("Action")] = d.some(func() any { return d.actionPattern(kind == Trust) })
	if kind != Trust {
		st[twin("Resource")] = d.some(func() any { return d.resourcePattern(vars) })
	}
	if block := d.conditionBlock(vars); len(block) > 0 {
		st["Condition"] = block
	}
	return st
}

// document makes a document of up to four statements.
func (d *dice) document(kind Kind) map[string]any {
	doc := map[string]any{}
	version := d.intn(5)
	if version > 0 {
		doc["Version"] = Version2012
	} else if d.one(2) {
		doc["Version"] = Version2008
	}
	list := make([]any, 1+d.intn(4))
	for i := range list {
		list[i] = d.statement(kind, version > 0)
	}
	doc["Statement"] = list
	return doc
}

func (d *dice) kind() Kind {
	return [...]Kind{Identity, Identity, Identity, Trust, Resource, Endpoint}[d.intn(6)]
}

func (d *dice) world(trust bool) *world {
	w := &world{principal: callers[d.intn(len(callers))], context: map[string][]string{}}
	w.action = d.of("workspaces:RebootWorkspaces", "workspaces:DescribeTags", "ds:RebootDirectory", "Workspaces:rebootWORKSPACES", "ds:DescribeTrusts")
	if trust {
		w.action = d.of("sts:AssumeRole", "sts:TagSession", "sts:AssumeRoleWithSAML")
	}
	w.resource = "*"
	if !d.one(8) {
		w.resource = strings.Join([]string{"arn", d.of("aws", "aws", "aws-cn"), d.of("workspaces", "workspaces", "ds"), d.of("eu-central-1", "eu-central-1", "us-east-1", ""), d.of("123456789012", "123456789012", "999999999999"), d.of(resourceParts...)}, ":")
	}
	for _, k := range contextKeys {
		if d.one(3) {
			continue
		}
		n := 1
		if k == "aws:TagKeys" || d.one(8) {
			n = d.intn(4)
		}
		values := []string{}
		for range n {
			values = append(values, d.requestValue(k))
		}
		w.context[k] = values
	}
	return w
}

// request is the world as the package is told it.
func (w *world) request() *Request {
	r := &Request{Action: NewAction(w.action), Principal: w.principal}
	r.SetResource(w.resource)
	for k, v := range w.context {
		r.SetAll(NewKey(k), v)
	}
	return r
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// must parses and compiles a document of the generator or of a table.
func must(t testing.TB, kind Kind, text string) *Policy {
	t.Helper()
	d, err := Parse(kind, text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return Compile(d)
}

func (w *world) String() string {
	return fmt.Sprintf("action %s resource %s principal %+v context %q", w.action, w.resource, w.principal, w.context)
}
