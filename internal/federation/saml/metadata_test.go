package saml_test

import (
	"strings"
	"testing"
	"time"

	"carrel/internal/federation/saml"
	"carrel/internal/federation/saml/samltest"
)

func TestMetadata(t *testing.T) {
	p := samltest.New(t, entity)
	good := p.Metadata()
	t.Run("names the provider and its certificates", func(t *testing.T) {
		m := metadata(t, p)
		if m.EntityID != entity || len(m.Certificates) != 1 || !m.Certificates[0].Equal(p.Cert) || !m.ValidUntil.IsZero() {
			t.Errorf("%+v", m)
		}
	})
	t.Run("a certificate without a use signs, too", func(t *testing.T) {
		if m, err := saml.ParseMetadata(strings.Replace(good, ` use="signing"`, "", 1)); err != nil || len(m.Certificates) != 1 {
			t.Error(err)
		}
	})
	t.Run("until when it is valid", func(t *testing.T) {
		m, err := saml.ParseMetadata(strings.Replace(good, "entityID", `validUntil="2027-01-02T03:04:05.678+01:00" entityID`, 1))
		if err != nil || !m.ValidUntil.Equal(time.Date(2027, 1, 2, 2, 4, 5, 678e6, time.UTC)) {
			t.Error(m, err)
		}
	})
	for _, c := range []struct{ name, document string }{
		{"nothing", ""},
		{"not XML", "SAML"},
		{"FED-1 a DTD", `<!DOCTYPE x SYSTEM "file:///etc/passwd">` + good},
		{"another root", strings.ReplaceAll(good, "EntityDescriptor", "EntitiesDescriptor")},
		{"another namespace", strings.Replace(good, "SAML:2.0:metadata", "SAML:1.1:metadata", 1)},
		{"no entityID", strings.Replace(good, "entityID", "other", 1)},
		{"no identity provider", strings.ReplaceAll(good, "IDPSSODescriptor", "SPSSODescriptor")},
		{"a certificate that only encrypts", strings.Replace(good, `use="signing"`, `use="encryption"`, 1)},
		{"a certificate that is none", strings.Replace(good, "<ds:X509Certificate>", "<ds:X509Certificate>AAAA", 1)},
		{"a certificate that is not base64", strings.Replace(good, "<ds:X509Certificate>", "<ds:X509Certificate>*", 1)},
		{"an end that is no time", strings.Replace(good, "entityID", `validUntil="never" entityID`, 1)},
		{"a processing instruction", strings.Replace(good, "<md:IDPSSODescriptor", "<?x y?><md:IDPSSODescriptor", 1)},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			if m, err := saml.ParseMetadata(c.document); err == nil || m != nil {
				t.Error("accepted")
			}
		})
	}
}
