package saml

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/beevik/etree"
)

// Namespaces.
const (
	nsAssertion = "urn:oasis:names:tc:SAML:2.0:assertion"
	nsProtocol  = "urn:oasis:names:tc:SAML:2.0:protocol"
	nsMetadata  = "urn:oasis:names:tc:SAML:2.0:metadata"
	nsSignature = "http://www.w3.org/2000/09/xmldsig#"
	nsXML       = "http://www.w3.org/XML/1998/namespace"
)

// Limits of a response's document. Metadata may be as large as IAM takes it.
const (
	maxDepth    = 64
	maxElements = 1000
)

// plainName is a name without colons and of letters that no two parsers disagree on. encoding/xml lets others through, and writes
// some of them back as something else (CVE-2020-29509, -29510, -29511).
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9._-]*$`)

// encodingUTF8 is an XML declaration that names no encoding, or UTF-8.
var encodingUTF8 = regexp.MustCompile(`^version=["']1\.0["'](\s+encoding=["'](?i:utf-8)["'])?(\s+standalone=["'](yes|no)["'])?\s*$`)

// reader reads XML. There is one for everything here, etree on encoding/xml, so that no second parser can read it otherwise.
type reader struct {
	// comments are allowed and left out. In a response they split texts in two for whoever reads only the first part, and nothing needs them.
	comments bool
	elements int
}

// read gives the root of a document that has no DTD, no processing instructions, no second root, no attribute twice, and no name or
// prefix that is read differently elsewhere.
func (r reader) read(text []byte) (*etree.Element, error) {
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return nil, errors.New("not UTF-8")
	}
	doc := etree.NewDocument()
	doc.ReadSettings = etree.ReadSettings{PreserveDuplicateAttrs: true, MaxDepth: maxDepth}
	if err := doc.ReadFromBytes(text); err != nil {
		return nil, err
	}
	var root *etree.Element
	for i, token := range doc.Child {
		switch t := token.(type) {
		case *etree.Element:
			if root != nil {
				return nil, errors.New("two roots")
			}
			root = t
		case *etree.ProcInst:
			if i != 0 || t.Target != "xml" || !encodingUTF8.MatchString(t.Inst) {
				return nil, errors.New("a processing instruction, or an encoding that is not UTF-8")
			}
		case *etree.CharData:
			if strings.TrimSpace(t.Data) != "" {
				return nil, errors.New("text beside the root")
			}
		case *etree.Comment:
			if !r.comments {
				return nil, errors.New("a comment")
			}
		default: // A Directive: a DTD, with whatever entities it defines.
			return nil, errors.New("a document type definition")
		}
	}
	if root == nil {
		return nil, errors.New("no root")
	}
	return root, r.check(root)
}

// check walks through the element. What it takes out, it takes out of every reading to come.
func (r *reader) check(e *etree.Element) error {
	if r.elements++; r.elements > maxElements && !r.comments {
		return errors.New("too many elements")
	}
	if err := checkNames(e); err != nil {
		return err
	}
	for i := len(e.Child) - 1; i >= 0; i-- {
		switch t := e.Child[i].(type) {
		case *etree.Element:
			if err := r.check(t); err != nil {
				return err
			}
		case *etree.CharData:
		case *etree.Comment:
			if !r.comments {
				return errors.New("a comment")
			}
			e.RemoveChildAt(i)
		default:
			return errors.New("a processing instruction or a directive")
		}
	}
	return nil
}

func checkNames(e *etree.Element) error {
	if !plainName.MatchString(e.Tag) || e.Space != "" && (!plainName.MatchString(e.Space) || e.NamespaceURI() == "") || e.Space == "xmlns" {
		return fmt.Errorf("the element name %.40q", e.FullTag())
	}
	seen := make(map[string]bool, len(e.Attr))
	for _, a := range e.Attr {
		name := a.FullKey()
		if !plainName.MatchString(a.Key) || a.Space != "" && !plainName.MatchString(a.Space) {
			return fmt.Errorf("the attribute name %.40q", name)
		}
		if a.Space != "" && a.Space != "xmlns" && a.Space != "xml" && a.NamespaceURI() == "" {
			return fmt.Errorf("the undeclared prefix of %.40q", name)
		}
		if seen[name] {
			return fmt.Errorf("the attribute %.40q twice", name)
		}
		seen[name] = true
		if (a.Space == "xmlns" || name == "xmlns") && (a.Key == "xml" || a.Space == "xmlns" && (a.Key == "xmlns" || a.Value == "") || a.Value == nsXML) {
			return fmt.Errorf("the namespace declaration %.40q", name)
		}
	}
	return nil
}

// is tells an element by its namespace and name.
func is(e *etree.Element, namespace, name string) bool {
	return e != nil && e.Tag == name && e.NamespaceURI() == namespace
}

// children are the child elements of that name.
func children(e *etree.Element, namespace, name string) []*etree.Element {
	var found []*etree.Element
	for _, c := range e.ChildElements() {
		if is(c, namespace, name) {
			found = append(found, c)
		}
	}
	return found
}

// only is the one child of that name; nil when there is none or a second.
func only(e *etree.Element, namespace, name string) *etree.Element {
	if e == nil {
		return nil
	}
	if found := children(e, namespace, name); len(found) == 1 {
		return found[0]
	}
	return nil
}

// text is what an element without child elements holds. All of it: etree's own Text ends at the first thing that is no text. And as it is:
// "ada" and "ada " may be two people.
func text(e *etree.Element) (string, bool) {
	if e == nil {
		return "", false
	}
	var b strings.Builder
	for _, c := range e.Child {
		data, ok := c.(*etree.CharData)
		if !ok {
			return "", false
		}
		b.WriteString(data.Data)
	}
	return b.String(), true
}

// name is a text that is the name of something known: the white space around it is the writer's.
func name(e *etree.Element) (string, bool) {
	s, plain := text(e)
	return strings.TrimSpace(s), plain
}

// attribute is the value of an attribute without a prefix.
func attribute(e *etree.Element, name string) (string, bool) {
	for _, a := range e.Attr {
		if a.Space == "" && a.Key == name {
			return a.Value, true
		}
	}
	return "", false
}

// walk calls fn for e and everything under it.
func walk(e *etree.Element, fn func(*etree.Element)) {
	fn(e)
	for _, c := range e.ChildElements() {
		walk(c, fn)
	}
}
