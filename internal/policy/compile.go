package policy

// Policy is one or several documents, compiled: nothing in it changes, so any number of goroutines may evaluate it.
type Policy struct {
	statements []statement
	documents  []*Document
	index      index
}

// statement is one compiled statement. Its id is its place in Policy.statements.
type statement struct {
	effect       Effect
	principals   *principalSet // nil where the kind names none
	notPrincipal bool
	actions      []pattern
	notAction    bool
	resources    []arnPattern
	anyResource  bool // "*", or a trust policy's
	notResource  bool
	conditions   []condition

	document, place int // which document, and which statement in it
	source          *Statement
}

// Compile makes one policy of documents of the same kind: a statement of any of them counts. The ids of statements go on from document to
// document, in order.
func Compile(docs ...*Document) *Policy {
	p := &Policy{documents: docs}
	for i, d := range docs {
		for j := range d.Statements {
			s := compileStatement(d, &d.Statements[j])
			s.document, s.place = i, j
			p.statements = append(p.statements, s)
		}
	}
	p.index = buildIndex(p.statements)
	return p
}

// CompileStored is Compile for documents that were checked when they were stored. One that does not pass any more must not be left out,
// it may deny: all is denied instead, and the errors say why (IAM-2).
func CompileStored(kind Kind, texts ...string) (*Policy, []error) {
	docs := make([]*Document, len(texts))
	var errs []error
	for i, text := range texts {
		d, err := Parse(kind, text)
		if err != nil {
			errs = append(errs, err)
			d = unreadable(kind)
		}
		docs[i] = d
	}
	return Compile(docs...), errs
}

// unreadable stands for a document that cannot be read: it denies everything.
func unreadable(kind Kind) *Document {
	s := Statement{Sid: "UnreadablePolicy", Effect: Deny, Actions: []string{"*"}}
	if kind.namesPrincipals() {
		s.Principals = []PrincipalName{{Type: "*", Value: "*"}}
	}
	if kind != Trust {
		s.Resources = []string{"*"}
	}
	return &Document{Kind: kind, Version: Version2012, Statements: []Statement{s}}
}

func compileStatement(d *Document, src *Statement) statement {
	s := statement{effect: src.Effect, notPrincipal: src.NotPrincipal, notAction: src.NotAction, notResource: src.NotResource, source: src, anyResource: d.Kind == Trust}
	if d.Kind.namesPrincipals() {
		s.principals = compilePrincipals(src.Principals)
	}
	for _, a := range src.Actions {
		p, _ := parsePattern(foldAction(a), true, false)
		s.actions = append(s.actions, p)
	}
	for _, text := range src.Resources {
		p, _, _ := parseResource(text, d.variables())
		s.resources = append(s.resources, p)
		s.anyResource = s.anyResource || p.all
	}
	for i := range src.Conditions {
		s.conditions = append(s.conditions, compileCondition(&src.Conditions[i], d.variables()))
	}
	return s
}

func compileCondition(src *Condition, vars bool) condition {
	c := condition{name: src.Operator, key: NewKey(src.Key)}
	c.operatorName, _ = parseOperator(src.Operator)
	for _, v := range src.Values {
		c.add(v, vars)
	}
	return c
}

// Len is how many statements there are.
func (p *Policy) Len() int { return len(p.statements) }

// Document gives the document of a number. It is not to be changed.
func (p *Policy) Document(n int) *Document { return p.documents[n] }

// Statement gives the statement of an id as it was written, and where it is: the number of its document and its own in it, from 0.
func (p *Policy) Statement(id int) (s *Statement, document, place int) {
	q := &p.statements[id]
	return q.source, q.document, q.place
}
