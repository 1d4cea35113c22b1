package saml

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/beevik/etree"

	"carrel/internal/awserr"
)

const (
	// skew is how far the provider's clock may be away from ours.
	skew = time.Minute
	// redeem is how long after its issue AWS takes an assertion.
	redeem = 5 * time.Minute
	// bearer is the one confirmation method of AWS: whoever has the assertion is its subject.
	bearer  = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
	success = "urn:oasis:names:tc:SAML:2.0:status:Success"
	formats = "urn:oasis:names:tc:SAML:2.0:nameid-format:"
)

// MaxResponse is the longest response in base64 (SAMLAssertionType).
const MaxResponse = 100000

// Verify reads a response of the provider, as base64, and gives the assertion in it. Errors are those of AssumeRoleWithSAML:
// InvalidIdentityToken, ExpiredTokenException, and IDPRejectedClaim when the provider itself says no.
func (m *Metadata) Verify(response string, x *Expect) (*Assertion, *awserr.Error) {
	if len(response) > MaxResponse {
		return nil, invalid("Invalid base64 SAMLResponse")
	}
	document, err := base64.StdEncoding.DecodeString(response)
	if err != nil {
		return nil, invalid("Invalid base64 SAMLResponse").Because(err)
	}
	root, err := reader{}.read(document)
	if err != nil {
		return nil, malformed(err)
	}
	if !is(root, nsProtocol, "Response") {
		return nil, malformed(errors.New("the root is not a Response"))
	}
	assertion := only(root, nsAssertion, "Assertion")
	sealed := only(root, nsAssertion, "EncryptedAssertion")
	if (assertion == nil) == (sealed == nil) {
		return nil, malformed(errors.New("not one Assertion in the Response"))
	}
	if err := checkStructure(root, root, assertion, sealed); err != nil {
		return nil, malformed(err)
	}
	if fault := checkStatus(root); fault != nil {
		return nil, fault
	}
	if sealed == nil && x.Encrypted {
		return nil, invalid("The assertion must be encrypted.")
	}
	verified, fault := m.signedAssertion(root, x)
	if fault != nil {
		return nil, fault
	}
	return m.readAssertion(verified, root, x)
}

func malformed(why error) *awserr.Error {
	return invalid("Your request included an invalid SAML response.").Because(why)
}

// checkStructure holds a document to its one shape: in top there are no Response, Assertion and EncryptedAssertion but those given, at most one
// signature for each of the first two as their child, and all IDs are different. What is of another shape is a wrapping attack, or
// nothing we need to read.
func checkStructure(top, response, assertion, sealed *etree.Element) error {
	var err error
	ids := map[string]bool{}
	walk(top, func(e *etree.Element) {
		// By their names alone: what only looks like one in another namespace is refused as well.
		switch strings.ToLower(e.Tag) {
		case "response":
			if e != response {
				err = errors.New("a second Response")
			}
		case "assertion":
			if e != assertion {
				err = errors.New("a second Assertion")
			}
		case "encryptedassertion":
			if e != sealed {
				err = errors.New("a second EncryptedAssertion")
			}
		case "encryptedid", "encryptedattribute":
			err = errors.New("something encrypted within an assertion")
		case "signature":
			if parent := e.Parent(); parent != response && parent != assertion || signatureOf(parent) != e {
				err = errors.New("a signature in an unusual place")
			}
		}
		for _, a := range e.Attr {
			if key := strings.ToLower(a.Key); a.Space != "xmlns" && (key == "id" || key == "assertionid" || key == "responseid") {
				if ids[a.Value] {
					err = fmt.Errorf("the ID %.40q twice", a.Value)
				}
				ids[a.Value] = true
			}
		}
	})
	if err != nil {
		return err
	}
	return errors.Join(checkOrder(response), checkOrder(assertion))
}

// checkOrder wants a signature where the schema has it: first, or after the Issuer.
func checkOrder(e *etree.Element) error {
	if e == nil {
		return nil
	}
	place := slices.IndexFunc(e.ChildElements(), func(c *etree.Element) bool { return is(c, nsSignature, "Signature") })
	if place > 1 || place == 1 && !is(e.ChildElements()[0], nsAssertion, "Issuer") {
		return errors.New("a signature that does not follow the Issuer")
	}
	return nil
}

// checkStatus asks whether the provider says yes. It may stand outside of what is signed: a no is believed, a yes is worth nothing alone.
func checkStatus(root *etree.Element) *awserr.Error {
	code := only(only(root, nsProtocol, "Status"), nsProtocol, "StatusCode")
	if code == nil {
		return malformed(errors.New("no status"))
	}
	if value, _ := attribute(code, "Value"); value != success {
		return rejected("The identity provider did not authenticate the user.").Because(fmt.Errorf("status %.100q", value))
	}
	return nil
}

// signedAssertion gives the assertion as the provider has signed it, by itself, within the response, or both. A signature that is there must
// be right, also where another one would do.
func (m *Metadata) signedAssertion(root *etree.Element, x *Expect) (*etree.Element, *awserr.Error) {
	response, outer := root, signatureOf(root) != nil
	if outer {
		var err error
		if response, err = m.verify(root); err != nil {
			return nil, badSignature(err)
		}
		if !is(response, nsProtocol, "Response") {
			return nil, badSignature(errors.New("what is signed is not a Response"))
		}
		if err := checkStructure(response, response, only(response, nsAssertion, "Assertion"), only(response, nsAssertion, "EncryptedAssertion")); err != nil {
			return nil, badSignature(err)
		}
	}
	assertion := only(response, nsAssertion, "Assertion")
	if sealed := only(response, nsAssertion, "EncryptedAssertion"); assertion == nil && sealed != nil {
		var err error
		if assertion, err = unseal(sealed, x.Keys); err != nil {
			return nil, invalid("The assertion could not be decrypted.").Because(err)
		}
	}
	if assertion == nil {
		return nil, badSignature(errors.New("the signed response has no assertion"))
	}
	if signatureOf(assertion) == nil {
		if !outer {
			return nil, badSignature(errors.New("neither the response nor the assertion is signed"))
		}
		return assertion, nil
	}
	verified, err := m.verify(assertion)
	if err != nil {
		return nil, badSignature(err)
	}
	if !is(verified, nsAssertion, "Assertion") {
		return nil, badSignature(errors.New("what is signed is not an Assertion"))
	}
	return verified, nil
}

// readAssertion reads what was signed. Of the response around it, which may not be, only that counts which can do no more than refuse.
func (m *Metadata) readAssertion(e, response *etree.Element, x *Expect) (*Assertion, *awserr.Error) {
	a := new(Assertion)
	a.ID, _ = attribute(e, "ID")
	if version, _ := attribute(e, "Version"); version != "2.0" || a.ID == "" {
		return nil, malformed(errors.New("not an assertion of SAML 2.0"))
	}
	issuer, plain := name(only(e, nsAssertion, "Issuer"))
	if !plain || issuer != m.EntityID {
		return nil, invalid("Issuer not present in specified provider")
	}
	a.Issuer = issuer
	if outer := children(response, nsAssertion, "Issuer"); len(outer) > 0 {
		if n, _ := name(outer[0]); len(outer) > 1 || n != issuer {
			return nil, invalid("Issuer not present in specified provider")
		}
	}
	if !m.ValidUntil.IsZero() && !x.Now.Before(m.ValidUntil) {
		return nil, invalid("Provider metadata has expired")
	}
	if err := a.readIssue(e, x.Now); err != nil {
		return nil, err
	}
	if err := a.readConditions(e, x); err != nil {
		return nil, err
	}
	if err := a.readSubject(e, response, x); err != nil {
		return nil, err
	}
	if err := a.readStatements(e, x.Now); err != nil {
		return nil, err
	}
	return a, nil
}

// readIssue checks the age: AWS takes an assertion within five minutes of its issue.
func (a *Assertion) readIssue(e *etree.Element, now time.Time) *awserr.Error {
	written, _ := attribute(e, "IssueInstant")
	issued, err := parseTime(written)
	if err != nil || issued.After(now.Add(skew)) {
		return invalid("Response was issued in the future").Because(err)
	}
	if a.Until = issued.Add(redeem + skew); !now.Before(a.Until) {
		return expired("Token must be redeemed within 5 minutes of issuance")
	}
	return nil
}

// readConditions checks the times and the audience (core 2.5). A condition that is not known here is not met.
func (a *Assertion) readConditions(e *etree.Element, x *Expect) *awserr.Error {
	conditions := only(e, nsAssertion, "Conditions")
	if conditions == nil {
		return invalid("Response does not contain the required audience.")
	}
	if err := checkTimes(conditions, x.Now); err != nil {
		return err
	}
	restricted := false
	for _, c := range conditions.ChildElements() {
		switch {
		case is(c, nsAssertion, "AudienceRestriction"):
			restricted = true
			if !slices.ContainsFunc(children(c, nsAssertion, "Audience"), func(audience *etree.Element) bool {
				n, plain := name(audience)
				return plain && slices.Contains(x.Audiences, n)
			}) {
				return invalid("Response does not contain the required audience.")
			}
		case is(c, nsAssertion, "OneTimeUse"), is(c, nsAssertion, "ProxyRestriction"):
			// An assertion is taken once anyway, and none is made from it.
		default:
			return malformed(fmt.Errorf("the condition %.40q", c.Tag))
		}
	}
	if !restricted {
		return invalid("Response does not contain the required audience.")
	}
	return nil
}

// checkTimes checks NotBefore and NotOnOrAfter where they are given.
func checkTimes(e *etree.Element, now time.Time) *awserr.Error {
	if written, ok := attribute(e, "NotBefore"); ok {
		if from, err := parseTime(written); err != nil || now.Add(skew).Before(from) {
			return invalid("Response is not yet valid").Because(err)
		}
	}
	if written, ok := attribute(e, "NotOnOrAfter"); ok {
		to, err := parseTime(written)
		if err != nil {
			return malformed(err)
		}
		if !now.Before(to.Add(skew)) {
			return expired("Response has expired")
		}
	}
	return nil
}

// readSubject reads who it is about and checks that whoever brings it may: a bearer confirmation for one of our addresses, in time
// (profiles 4.1.4.2).
func (a *Assertion) readSubject(e, response *etree.Element, x *Expect) *awserr.Error {
	subject := only(e, nsAssertion, "Subject")
	id := only(subject, nsAssertion, "NameID")
	var plain bool
	if a.Subject, plain = text(id); !plain || strings.TrimSpace(a.Subject) == "" {
		return invalid("Response does not contain a subject.")
	}
	a.SubjectType, _ = attribute(id, "Format")
	a.SubjectType = strings.TrimPrefix(a.SubjectType, formats)
	var last *awserr.Error
	for _, c := range children(subject, nsAssertion, "SubjectConfirmation") {
		if method, _ := attribute(c, "Method"); method != bearer {
			continue
		}
		if last = a.confirm(only(c, nsAssertion, "SubjectConfirmationData"), response, x); last == nil {
			return nil
		}
	}
	if last != nil {
		return last
	}
	return invalid("Response does not contain a bearer subject confirmation.")
}

func (a *Assertion) confirm(data, response *etree.Element, x *Expect) *awserr.Error {
	if data == nil {
		return invalid("Response does not contain a bearer subject confirmation.")
	}
	recipient, _ := attribute(data, "Recipient")
	if !slices.Contains(x.Recipients, recipient) {
		return invalid("Response does not contain the required recipient.")
	}
	if destination, ok := attribute(response, "Destination"); ok && destination != "" && !slices.Contains(x.Recipients, destination) {
		return invalid("Response does not contain the required recipient.")
	}
	// STS has asked the provider for nothing: what the assertion answers is known to the client alone. But both must speak of the same.
	if asked, ok := attribute(response, "InResponseTo"); ok {
		if answers, _ := attribute(data, "InResponseTo"); answers != asked {
			return malformed(errors.New("InResponseTo differs"))
		}
	}
	if _, ok := attribute(data, "NotOnOrAfter"); !ok {
		return malformed(errors.New("the confirmation does not end"))
	}
	if err := checkTimes(data, x.Now); err != nil {
		return err
	}
	a.Recipient = recipient
	return nil
}

// readStatements reads when the session with the provider ends, and the attributes.
func (a *Assertion) readStatements(e *etree.Element, now time.Time) *awserr.Error {
	authn := children(e, nsAssertion, "AuthnStatement")
	if len(authn) == 0 {
		return malformed(errors.New("no AuthnStatement"))
	}
	for _, s := range authn {
		written, ok := attribute(s, "SessionNotOnOrAfter")
		if !ok {
			continue
		}
		end, err := parseTime(written)
		if err != nil {
			return malformed(err)
		}
		if !now.Before(end) {
			return expired("Response has expired")
		}
		if a.SessionEnd.IsZero() || end.Before(a.SessionEnd) {
			a.SessionEnd = end
		}
	}
	a.Attributes = map[string][]string{}
	for _, s := range children(e, nsAssertion, "AttributeStatement") {
		for _, attr := range children(s, nsAssertion, "Attribute") {
			n, _ := attribute(attr, "Name")
			for _, v := range children(attr, nsAssertion, "AttributeValue") {
				// eduPersonTargetedID holds a NameID.
				if inner := only(v, nsAssertion, "NameID"); inner != nil && len(v.ChildElements()) == 1 {
					v = inner
				}
				value, plain := text(v)
				if !plain {
					return malformed(fmt.Errorf("the value of %.80q is not text", n))
				}
				a.Attributes[n] = append(a.Attributes[n], value)
			}
		}
	}
	return nil
}
