package saml

import (
	"crypto/sha1" // The value is AWS's; nothing is secured by it.
	"encoding/base64"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"carrel/internal/awserr"
)

// awsAttributes begins the names of the attributes that AWS reads.
const awsAttributes = "https://aws.amazon.com/SAML/Attributes/"

// Limits of session tags (STS API reference).
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

var (
	sessionName = regexp.MustCompile(`^[a-zA-Z_0-9+=,.@-]{2,64}$`)
	tagText     = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

// Grant is what an assertion asks of AWS in the session's name.
type Grant struct {
	SessionName    string
	SourceIdentity string
	// Duration is how long the session may last by the provider's word; zero: it does not say.
	Duration time.Duration
	// Tags are the session tags, Transitive the keys of those that go on to the next role.
	Tags       map[string]string
	Transitive []string
}

// Allows tells that the assertion names the pair of a role and a provider, in either order.
func (a *Assertion) Allows(role, provider string) bool {
	for _, pair := range a.Attributes[awsAttributes+"Role"] {
		first, second, _ := strings.Cut(pair, ",")
		first, second = strings.TrimSpace(first), strings.TrimSpace(second)
		if first == role && second == provider || first == provider && second == role {
			return true
		}
	}
	return false
}

// Grant reads the attributes of AWS. Errors are InvalidIdentityToken.
func (a *Assertion) Grant() (*Grant, *awserr.Error) {
	g := new(Grant)
	name, given, ok := a.one("RoleSessionName")
	if !given {
		return nil, invalid("RoleSessionName is required in AuthnResponse")
	}
	if !ok || !sessionName.MatchString(name) {
		return nil, invalid("RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}")
	}
	g.SessionName = name
	if g.SourceIdentity, given, ok = a.one("SourceIdentity"); given && (!ok || !sessionName.MatchString(g.SourceIdentity) || hasAWSPrefix(g.SourceIdentity)) {
		return nil, invalid(`Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with "aws:"`)
	}
	if text, given, ok := a.one("SessionDuration"); given {
		seconds, err := strconv.Atoi(text)
		if !ok || err != nil || seconds < 900 || seconds > 43200 {
			return nil, invalid("SessionDuration in AuthnResponse must be an integer between 900 and 43200")
		}
		g.Duration = time.Duration(seconds) * time.Second
	}
	return g, g.readTags(a)
}

// one is the value of an attribute that may have but one.
func (a *Assertion) one(name string) (value string, given, ok bool) {
	values := a.Attributes[awsAttributes+name]
	if len(values) == 0 {
		return "", false, false
	}
	return values[0], true, len(values) == 1
}

func (g *Grant) readTags(a *Assertion) *awserr.Error {
	folded := map[string]bool{}
	for name, values := range a.Attributes {
		key, tag := strings.CutPrefix(name, awsAttributes+"PrincipalTag:")
		if !tag {
			continue
		}
		if len(values) != 1 || !validTag(key, values[0]) {
			return invalid("The session tag %.128q in AuthnResponse is not valid", key)
		}
		// Keys are compared without case in conditions: two that differ in it alone would be one tag with two values.
		if folded[strings.ToLower(key)] {
			return invalid("Duplicate tag keys found in AuthnResponse. Please note that Tag keys are case insensitive.")
		}
		folded[strings.ToLower(key)] = true
		if g.Tags == nil {
			g.Tags = map[string]string{}
		}
		g.Tags[key] = values[0]
	}
	if len(g.Tags) > maxTags {
		return invalid("AuthnResponse has more than %d session tags", maxTags)
	}
	for _, key := range a.Attributes[awsAttributes+"TransitiveTagKeys"] {
		if _, known := g.Tags[key]; !known {
			return invalid("The specified transitive tag key must be included in the requested tags.")
		}
		g.Transitive = append(g.Transitive, key)
	}
	return nil
}

func validTag(key, value string) bool {
	return key != "" && utf8.RuneCountInString(key) <= maxTagKey && utf8.RuneCountInString(value) <= maxTagValue &&
		tagText.MatchString(key) && tagText.MatchString(value) && !hasAWSPrefix(key)
}

func hasAWSPrefix(s string) bool { return strings.HasPrefix(strings.ToLower(s), "aws:") }

// NameQualifier is what tells apart the users of different providers: a hash of the issuer, the account and the provider's name
// (STS API reference, AssumeRoleWithSAML).
func NameQualifier(issuer, account, provider string) string {
	sum := sha1.Sum([]byte(issuer + account + "/" + provider))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Claims are the condition keys that the assertion makes with the provider of that name (IAM User Guide, "Available keys for SAML-based AWS
// STS federation").
func (a *Assertion) Claims(account, provider string) map[string][]string {
	claims := map[string][]string{
		"saml:aud": {a.Recipient}, "saml:iss": {a.Issuer}, "saml:sub": {a.Subject},
		"saml:doc": {account + "/" + provider}, "saml:namequalifier": {NameQualifier(a.Issuer, account, provider)},
	}
	if a.SubjectType != "" {
		claims["saml:sub_type"] = []string{a.SubjectType}
	}
	for _, m := range mapped {
		for _, name := range m.names {
			if values := a.Attributes[name]; len(values) > 0 && claims[m.key] == nil {
				if !m.list && len(values) > 1 {
					continue // Whichever was taken, the other would be hidden.
				}
				claims[m.key] = values
			}
		}
	}
	return claims
}

// mapped are the attributes that become condition keys. Those that are lists may have several values.
var mapped = []struct {
	key   string
	list  bool
	names []string
}{
	{"saml:edupersonaffiliation", true, []string{"urn:oid:1.3.6.1.4.1.5923.1.1.1.1"}},
	{"saml:edupersonnickname", true, []string{"urn:oid:1.3.6.1.4.1.5923.1.1.1.2"}},
	{"saml:edupersonorgdn", false, []string{"urn:oid:1.3.6.1.4.1.5923.1.1.1.3"}},
	{"saml:edupersonorgunitdn", true, []string{"urn:oid:1.3.6.1.4.1.5923.1.1.1.4"}},
	{"saml:edupersonprimaryaffiliation", false, []string{"urn:oid:1.3.6.1.4.1.5923.1.1.1.5"}},
	{"saml:edupersonprincipalname", false, []string{"urn:oid:1.3.6.1.4.1.5923.1.1.1.6"}},
	{"saml:edupersonentitlement", true, []string{"urn:oid:1.3.6.1.4.1.5923.1.1.1.7"}},
	{"saml:edupersonprimaryorgunitdn", false, []string{"urn:oid:1.3.6.1.4.1.5923.1.1.1.8"}},
	{"saml:edupersonscopedaffiliation", true, []string{"urn:oid:1.3.6.1.4.1.5923.1.1.1.9"}},
	{"saml:edupersontargetedid", true, []string{"urn:oid:1.3.6.1.4.1.5923.1.1.1.10"}},
	{"saml:edupersonassurance", true, []string{"urn:oid:1.3.6.1.4.1.5923.1.1.1.11"}},
	{"saml:eduorghomepageuri", true, []string{"urn:oid:1.3.6.1.4.1.5923.1.2.1.2"}},
	{"saml:eduorgidentityauthnpolicyuri", true, []string{"urn:oid:1.3.6.1.4.1.5923.1.2.1.3"}},
	{"saml:eduorglegalname", true, []string{"urn:oid:1.3.6.1.4.1.5923.1.2.1.4"}},
	{"saml:eduorgsuperioruri", true, []string{"urn:oid:1.3.6.1.4.1.5923.1.2.1.5"}},
	{"saml:eduorgwhitepagesuri", true, []string{"urn:oid:1.3.6.1.4.1.5923.1.2.1.6"}},
	{"saml:cn", true, []string{"urn:oid:2.5.4.3"}},
	{"saml:commonName", false, []string{"urn:oid:2.5.4.3", "http://schemas.xmlsoap.org/claims/CommonName"}},
	{"saml:name", false, []string{"urn:oid:2.5.4.41", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name"}},
	{"saml:givenName", false, []string{"urn:oid:2.5.4.42", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname"}},
	{"saml:surname", false, []string{"urn:oid:2.5.4.4", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname"}},
	{"saml:mail", false, []string{"urn:oid:0.9.2342.19200300.100.1.3", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress"}},
	{"saml:uid", false, []string{"urn:oid:0.9.2342.19200300.100.1.1"}},
	{"saml:x500UniqueIdentifier", false, []string{"urn:oid:2.5.4.45"}},
	{"saml:organizationStatus", false, []string{"urn:oid:0.9.2342.19200300.100.1.45"}},
	{"saml:primaryGroupSID", false, []string{"http://schemas.microsoft.com/ws/2008/06/identity/claims/primarygroupsid"}},
}
