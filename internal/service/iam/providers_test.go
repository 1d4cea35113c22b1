package iam

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/service"
	"carrel/internal/state"
)

var signingCertificate = sync.OnceValue(func() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(der)
})

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// metadataOf is a metadata document: attributes of the root, and the key descriptors of its identity provider.
func metadataOf(root, keys string) string {
	return `<?xml version="1.0"?><md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" ` + root + `><md:IDPSSODescriptor>` + keys + `</md:IDPSSODescriptor></md:EntityDescriptor>`
}

func signing(use, certificate string) string {
	return `<md:KeyDescriptor` + use + `><ds:KeyInfo><ds:X509Data><ds:X509Certificate>` + certificate + `</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>`
}

func goodMetadata() string {
	return metadataOf(`entityID="https://idp.example.org/"`, signing(` use="signing"`, signingCertificate()))
}

func TestMetadataIsRead(t *testing.T) {
	const entity = `entityID="https://idp.example.org/"`
	wrapped := regexp.MustCompile(`(.{64})`).ReplaceAllString(signingCertificate(), "$1\n\t")
	for _, c := range []struct {
		name, document string
		until          string
		err            string // "": it is taken
	}{
		{"a certificate for signing", goodMetadata(), "", ""},
		{"a certificate for everything, in lines", metadataOf(entity, signing("", wrapped)), "", ""},
		{"two certificates", metadataOf(entity, signing(` use="signing"`, signingCertificate())+signing(` use="encryption"`, "not looked at")), "", ""},
		{"until when it is valid", metadataOf(entity+` validUntil="2030-01-02T03:04:05+01:00"`, signing("", signingCertificate())), "2030-01-02T02:04:05Z", ""},
		{"until when it is valid, without a zone", metadataOf(entity+` validUntil="2030-01-02T03:04:05"`, signing("", signingCertificate())), "2030-01-02T03:04:05Z", ""},
		{"until something", metadataOf(entity+` validUntil="soon"`, signing("", signingCertificate())), "", "validUntil"},
		{"a certificate for encryption alone", metadataOf(entity, signing(` use="encryption"`, signingCertificate())), "", "no certificate that signs"},
		{"no certificate", metadataOf(entity, ""), "", "no certificate that signs"},
		{"a certificate that is none", metadataOf(entity, signing("", "AAAA")), "", "X509Certificate"},
		{"a certificate that is not base64", metadataOf(entity, signing("", "!")), "", "X509Certificate"},
		{"no entity", metadataOf("", signing("", signingCertificate())), "", "no entityID"},
		{"an entity's name that is too long", metadataOf(`entityID="`+strings.Repeat("e", 1025)+`"`, signing("", signingCertificate())), "", "no entityID"},
		{"no identity provider", `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="x"/>`, "", "no IDPSSODescriptor"},
		{"a service provider", strings.ReplaceAll(goodMetadata(), "IDPSSO", "SPSSO"), "", "no IDPSSODescriptor"},
		{"FED-1 another namespace", strings.ReplaceAll(goodMetadata(), "SAML:2.0", "SAML:1.0"), "", "not one EntityDescriptor"},
		{"FED-1 a certificate that stands elsewhere", metadataOf(entity, `<md:Extensions>`+signing("", signingCertificate())+`</md:Extensions>`), "", "no certificate that signs"},
		{"FED-1 a document type", `<!DOCTYPE x [<!ENTITY e "boom">]>` + goodMetadata(), "", "document type"},
		{"FED-1 an entity", metadataOf(entity, "&e;"), "", "entity"},
		{"two roots", goodMetadata() + goodMetadata(), "", "not one EntityDescriptor"},
		{"something that is cut", goodMetadata()[:200], "", "EOF"},
		{"something else", "<html/>", "", "not one EntityDescriptor"},
		{"no XML", "hello", "", "no entityID"},
		{"nothing", "", "", "no entityID"},
		{"too deep", metadataOf(entity, strings.Repeat("<a>", 100)), "", "too deep"},
		{"a namespace's attribute is another one", metadataOf(`md:`+entity, signing("", signingCertificate())), "", "no entityID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &state.SAMLProvider{}
			err := setMetadata(p, c.document, time.Unix(0, 0))
			if c.err != "" {
				if err == nil || p.Metadata != "" {
					t.Errorf("taken, although %s: %v", c.err, err)
				}
				return
			}
			if err != nil || p.Metadata != c.document {
				t.Fatal(err)
			}
			if until := p.ValidUntil; c.until == "" && until.Year() < 2069 || c.until != "" && until.UTC().Format(time.RFC3339) != c.until {
				t.Error(until)
			}
		})
	}
}

func (w *world) saml(name string) string {
	w.t.Helper()
	out, err := w.CreateSAMLProvider(w.ctx, service.Call{}, &iam.CreateSAMLProviderInput{Name: &name, SAMLMetadataDocument: shape.Ptr(goodMetadata())})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.SAMLProviderArn
}

func keyPEM(kind string, der []byte) *string {
	return shape.Ptr(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

func TestASAMLProviderIsMadeChangedAndDeleted(t *testing.T) {
	w, clk := openAt(t)
	call := service.Call{}
	made, err := w.CreateSAMLProvider(w.ctx, call, &iam.CreateSAMLProviderInput{Name: shape.Ptr("Okta"), SAMLMetadataDocument: shape.Ptr(goodMetadata()), Tags: tags("b=2", "a=1")})
	if err != nil || *made.SAMLProviderArn != "arn:aws:iam::123456789012:saml-provider/Okta" || show(made.Tags) != "a=1 b=2" {
		t.Fatalf("%+v, %v", made, err)
	}
	name := made.SAMLProviderArn
	get := func() *iam.GetSAMLProviderOutput {
		t.Helper()
		out, err := w.GetSAMLProvider(w.ctx, call, &iam.GetSAMLProviderInput{SAMLProviderArn: name})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	out := get()
	if *out.SAMLMetadataDocument != goodMetadata() || !out.CreateDate.Equal(clk.now) || !out.ValidUntil.Equal(clk.now.AddDate(100, 0, 0)) || show(out.Tags) != "a=1 b=2" ||
		!regexp.MustCompile(`^[A-Z0-9]{22,64}$`).MatchString(*out.SAMLProviderUUID) || out.AssertionEncryptionMode != nil || out.PrivateKeyList != nil {
		t.Errorf("%+v", out)
	}
	w.saml("Before")
	list, err := w.ListSAMLProviders(w.ctx, call, &iam.ListSAMLProvidersInput{})
	if err != nil || len(list.SAMLProviderList) != 2 || *list.SAMLProviderList[1].Arn != *name || !list.SAMLProviderList[1].ValidUntil.Equal(*out.ValidUntil) || !list.SAMLProviderList[1].CreateDate.Equal(clk.now) {
		t.Errorf("%+v, %v", list, err)
	}
	update := func(in iam.UpdateSAMLProviderInput) error {
		in.SAMLProviderArn = name
		got, err := w.UpdateSAMLProvider(w.ctx, call, &in)
		if err == nil && *got.SAMLProviderArn != *name {
			t.Errorf("%+v", got)
		}
		return err
	}
	t.Run("its document is changed", func(t *testing.T) {
		next := metadataOf(`entityID="https://other.example.org/" validUntil="2031-01-01T00:00:00Z"`, signing("", signingCertificate()))
		if err := update(iam.UpdateSAMLProviderInput{SAMLMetadataDocument: &next}); err != nil {
			t.Fatal(err)
		}
		if out := get(); *out.SAMLMetadataDocument != next || out.ValidUntil.Year() != 2031 {
			t.Errorf("%+v", out)
		}
	})
	required, allowed := iam.AssertionEncryptionModeTypeRequired, iam.AssertionEncryptionModeTypeAllowed
	pkcs1 := keyPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey()))
	der, err := x509.MarshalPKCS8PrivateKey(rsaKey())
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := keyPEM("PRIVATE KEY", der)
	t.Run("it gets keys, two at most, which nobody sees again", func(t *testing.T) {
		if err := update(iam.UpdateSAMLProviderInput{AddPrivateKey: pkcs1, AssertionEncryptionMode: &required}); err != nil {
			t.Fatal(err)
		}
		clk.now = clk.now.Add(time.Hour)
		if err := update(iam.UpdateSAMLProviderInput{AddPrivateKey: pkcs8}); err != nil {
			t.Fatal(err)
		}
		refused(t, update(iam.UpdateSAMLProviderInput{AddPrivateKey: pkcs8}), "LimitExceeded", "Private key limit of 2 is reached.")
		out := get()
		if *out.AssertionEncryptionMode != required || len(out.PrivateKeyList) != 2 || *out.PrivateKeyList[0].KeyId == *out.PrivateKeyList[1].KeyId || !out.PrivateKeyList[1].Timestamp.Equal(clk.now) {
			t.Fatalf("%+v", out)
		}
		rec, _ := state.Get(w.DB.Snapshot(), state.SAMLProviders, "Okta")
		if text := fmt.Sprintf("%+v", rec); strings.Contains(text, "PRIVATE KEY") {
			t.Error("a key is printed")
		}
	})
	t.Run("the last key stays while encryption is required", func(t *testing.T) {
		keys := get().PrivateKeyList
		if err := update(iam.UpdateSAMLProviderInput{RemovePrivateKey: keys[0].KeyId}); err != nil {
			t.Fatal(err)
		}
		refused(t, update(iam.UpdateSAMLProviderInput{RemovePrivateKey: keys[0].KeyId}), "InvalidInput", "the Key ID does not match a private key")
		refused(t, update(iam.UpdateSAMLProviderInput{RemovePrivateKey: keys[1].KeyId}), "InvalidInput", "Failed to remove private key.")
		if err := update(iam.UpdateSAMLProviderInput{RemovePrivateKey: keys[1].KeyId, AssertionEncryptionMode: &allowed}); err != nil {
			t.Error(err)
		}
		if out := get(); out.PrivateKeyList != nil || *out.AssertionEncryptionMode != allowed {
			t.Errorf("%+v", out)
		}
	})
	t.Run("it has tags", func(t *testing.T) {
		if _, err := w.TagSAMLProvider(w.ctx, call, &iam.TagSAMLProviderInput{SAMLProviderArn: name, Tags: tags("B=3")}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.UntagSAMLProvider(w.ctx, call, &iam.UntagSAMLProviderInput{SAMLProviderArn: name, TagKeys: []string{"a", "A"}}); err != nil {
			t.Fatal(err)
		}
		out, err := w.ListSAMLProviderTags(w.ctx, call, &iam.ListSAMLProviderTagsInput{SAMLProviderArn: name})
		if err != nil || show(out.Tags) != "B=3 b=2" {
			t.Errorf("%+v, %v", out, err)
		}
	})
	if _, err := w.DeleteSAMLProvider(w.ctx, call, &iam.DeleteSAMLProviderInput{SAMLProviderArn: name}); err != nil {
		t.Fatal(err)
	}
	t.Run("its name is free again", func(t *testing.T) { w.saml("OKTA") })
}

func TestSAMLProviderOperationsRefuse(t *testing.T) {
	w, _ := openAt(t)
	call := service.Call{}
	name := w.saml("Okta")
	no := shape.Ptr("arn:aws:iam::123456789012:saml-provider/No")
	required := iam.AssertionEncryptionModeTypeRequired
	create := func(in iam.CreateSAMLProviderInput) error {
		if in.SAMLMetadataDocument == nil {
			in.SAMLMetadataDocument = shape.Ptr(goodMetadata())
		}
		_, err := w.CreateSAMLProvider(w.ctx, call, &in)
		return err
	}
	update := func(in iam.UpdateSAMLProviderInput) error {
		if in.SAMLProviderArn == nil {
			in.SAMLProviderArn = &name
		}
		_, err := w.UpdateSAMLProvider(w.ctx, call, &in)
		return err
	}
	get := func(arn string) error {
		_, err := w.GetSAMLProvider(w.ctx, call, &iam.GetSAMLProviderInput{SAMLProviderArn: &arn})
		return err
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	rsaPEM := keyPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey()))
	_, deleting := w.DeleteSAMLProvider(w.ctx, call, &iam.DeleteSAMLProviderInput{SAMLProviderArn: no})
	_, tagging := w.TagSAMLProvider(w.ctx, call, &iam.TagSAMLProviderInput{SAMLProviderArn: no, Tags: tags("a=1")})
	_, untagging := w.UntagSAMLProvider(w.ctx, call, &iam.UntagSAMLProviderInput{SAMLProviderArn: no, TagKeys: []string{"a"}})
	_, listing := w.ListSAMLProviderTags(w.ctx, call, &iam.ListSAMLProviderTagsInput{SAMLProviderArn: no})
	_, badMarker := w.ListSAMLProviderTags(w.ctx, call, &iam.ListSAMLProviderTagsInput{SAMLProviderArn: &name, Marker: shape.Ptr("!")})
	_, badTag := w.TagSAMLProvider(w.ctx, call, &iam.TagSAMLProviderInput{SAMLProviderArn: &name, Tags: tags("aws:a=1")})
	const missing = "Manifest not found for arn arn:aws:iam::123456789012:saml-provider/No"
	for _, c := range []struct {
		name       string
		err        error
		code, text string
	}{
		{"a name that is taken", create(iam.CreateSAMLProviderInput{Name: shape.Ptr("Okta")}), "EntityAlreadyExists", "Provider with name Okta already exists."},
		{"a name that is taken in another case", create(iam.CreateSAMLProviderInput{Name: shape.Ptr("okta")}), "EntityAlreadyExists", "okta"},
		{"a name with a slash", create(iam.CreateSAMLProviderInput{Name: shape.Ptr("a/b")}), "InvalidInput", "must be 1 to 128 characters"},
		{"a name with a line feed", create(iam.CreateSAMLProviderInput{Name: shape.Ptr("a\n")}), "InvalidInput", "must be 1 to 128 characters"},
		{"metadata that is none", create(iam.CreateSAMLProviderInput{Name: shape.Ptr("x"), SAMLMetadataDocument: shape.Ptr("<secret/>")}), "InvalidInput", "Could not parse metadata"},
		{"encryption that is required without a key", create(iam.CreateSAMLProviderInput{Name: shape.Ptr("x"), AssertionEncryptionMode: &required}), "InvalidInput", "because no private key is provided"},
		{"a key that is none", create(iam.CreateSAMLProviderInput{Name: shape.Ptr("x"), AddPrivateKey: shape.Ptr("hello")}), "InvalidInput", "Invalid private key: Key format is not recognized."},
		{"a key that is not RSA", create(iam.CreateSAMLProviderInput{Name: shape.Ptr("x"), AddPrivateKey: keyPEM("PRIVATE KEY", der)}), "InvalidInput", "Invalid private key"},
		{"two keys in one", create(iam.CreateSAMLProviderInput{Name: shape.Ptr("x"), AddPrivateKey: shape.Ptr(*rsaPEM + *rsaPEM)}), "InvalidInput", "Invalid private key"},
		{"two tags of one key", create(iam.CreateSAMLProviderInput{Name: shape.Ptr("x"), Tags: tags("a=1", "a=1")}), "InvalidInput", "Duplicate tag keys"},
		{"reading what is not there", get(*no), "NoSuchEntity", missing},
		{"reading by another case, which ARNs in policies would not match", get(strings.ToLower(name)), "NoSuchEntity", "Manifest not found"},
		{"reading another account's", get("arn:aws:iam::210987654321:saml-provider/Okta"), "NoSuchEntity", "Manifest not found"},
		{"reading by the ARN of something else", get("arn:aws:iam::123456789012:user/Okta"), "InvalidInput", "is not valid"},
		{"reading by no ARN", get("Okta is the one I want"), "InvalidInput", "is not valid"},
		{"changing nothing", update(iam.UpdateSAMLProviderInput{}), "InvalidInput", "No updates are defined"},
		{"changing what is not there", update(iam.UpdateSAMLProviderInput{SAMLProviderArn: no, AssertionEncryptionMode: &required}), "NoSuchEntity", missing},
		{"changing to metadata that is none", update(iam.UpdateSAMLProviderInput{SAMLMetadataDocument: shape.Ptr("<a/>")}), "InvalidInput", "Could not parse metadata"},
		{"requiring encryption without a key", update(iam.UpdateSAMLProviderInput{AssertionEncryptionMode: &required}), "InvalidInput", "because no private key is provided"},
		{"adding a key that is none", update(iam.UpdateSAMLProviderInput{AddPrivateKey: shape.Ptr("x")}), "InvalidInput", "Invalid private key"},
		{"adding and removing a key", update(iam.UpdateSAMLProviderInput{AddPrivateKey: rsaPEM, RemovePrivateKey: shape.Ptr("K")}), "InvalidInput", "Unable to add and remove private keys in the same request"},
		{"removing a key that is not there", update(iam.UpdateSAMLProviderInput{RemovePrivateKey: shape.Ptr("K")}), "InvalidInput", "does not match a private key"},
		{"deleting what is not there", deleting, "NoSuchEntity", missing},
		{"tagging what is not there", tagging, "NoSuchEntity", missing},
		{"untagging what is not there", untagging, "NoSuchEntity", missing},
		{"listing the tags of what is not there", listing, "NoSuchEntity", missing},
		{"a marker that is none", badMarker, "ValidationError", "Invalid Marker."},
		{"a reserved tag", badTag, "InvalidInput", "reserved"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, c.err, c.code, c.text) })
	}
	t.Run("more than a hundred", func(t *testing.T) {
		for i := range samlProviders - 1 {
			w.saml(fmt.Sprint("p", i))
		}
		refused(t, create(iam.CreateSAMLProviderInput{Name: shape.Ptr("more")}), "LimitExceeded", "Cannot exceed quota for SAMLProvidersPerAccount: 100")
	})
}

func TestAnIssuerIsAURL(t *testing.T) {
	for _, good := range []string{"https://idp.example.org", "https://idp.example.org/", "https://idp.example.org/realms/desk", "https://localhost:8443/a~b@c", "https://127.0.0.1:1", "https://A-b.example/x:y"} {
		if got, err := issuer(good); err != nil || "https://"+got != good {
			t.Errorf("%s: %s, %v", good, got, err)
		}
	}
	const bad, notHTTPS = "Invalid Open ID Connect Provider URL.", "The URL must begin with https://."
	for _, c := range []struct{ url, code, text string }{
		{"example.org", "ValidationError", "Invalid Open ID Connect Provider URL"}, {"https://", "ValidationError", "Invalid Open ID Connect Provider URL"},
		{"", "ValidationError", ""}, {"https://a b", "ValidationError", ""}, {"https://[::1", "ValidationError", ""},
		{"http://example.org", "InvalidInput", notHTTPS}, {"HTTPS://example.org", "InvalidInput", notHTTPS}, {"ftp://example.org", "InvalidInput", notHTTPS},
		{"https://user:pass@example.org", "InvalidInput", bad}, {"https://example.org?x=1", "InvalidInput", bad}, {"https://example.org/?", "InvalidInput", bad},
		{"https://example.org#f", "InvalidInput", bad}, {"https://example.org/#", "InvalidInput", bad}, {"https://exa_mple.org", "InvalidInput", bad},
		{"https://example.org.", "InvalidInput", bad}, {"https://example..org", "InvalidInput", bad}, {"https://-a.org", "InvalidInput", bad},
		{"https://example.org:", "InvalidInput", bad}, {"https://example.org:0", "InvalidInput", bad}, {"https://example.org:0443", "InvalidInput", bad},
		{"https://example.org:443", "InvalidInput", bad}, {"https://example.org:65536", "InvalidInput", bad}, {"https://[::1]/", "InvalidInput", bad},
		{"https://example.org/a/../b", "InvalidInput", bad}, {"https://example.org/a/..", "InvalidInput", bad}, {"https://example.org/./b", "InvalidInput", bad},
		{"https://example.org//b", "InvalidInput", bad}, {"https://example.org/a%2fb", "InvalidInput", bad}, {"https://example.org/*", "InvalidInput", bad},
		{"https://example.org/ö", "InvalidInput", bad}, {"https://ex\u0430mple.org", "InvalidInput", bad}, {"https://" + strings.Repeat("a.", 130) + "org", "InvalidInput", bad},
	} {
		t.Run(c.url, func(t *testing.T) {
			_, err := issuer(c.url)
			refused(t, err, c.code, c.text)
		})
	}
}

func FuzzIssuer(f *testing.F) {
	f.Add("https://idp.example.org/realms/desk")
	f.Add("https://idp.example.org:8443")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := issuer(text); err == nil && ("https://"+got != text || strings.ContainsAny(got, " \x00?#%*\\@\"<>") && !strings.Contains(got, "/") || strings.Contains(got, "..")) {
			t.Errorf("%q was taken", got)
		}
	})
}

func TestAnOIDCProviderIsMadeChangedAndDeleted(t *testing.T) {
	w, clk := openAt(t)
	call := service.Call{}
	print := strings.Repeat("AB", 20)
	made, err := w.CreateOpenIDConnectProvider(w.ctx, call, &iam.CreateOpenIDConnectProviderInput{Url: shape.Ptr("https://idp.example.org/realms/desk"), ClientIDList: []string{"one", "two", "one"}, ThumbprintList: []string{print}, Tags: tags("b=2", "a=1")})
	if err != nil || *made.OpenIDConnectProviderArn != "arn:aws:iam::123456789012:oidc-provider/idp.example.org/realms/desk" || show(made.Tags) != "a=1 b=2" {
		t.Fatalf("%+v, %v", made, err)
	}
	name := made.OpenIDConnectProviderArn
	get := func() *iam.GetOpenIDConnectProviderOutput {
		t.Helper()
		out, err := w.GetOpenIDConnectProvider(w.ctx, call, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: name})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := get(); *out.Url != "idp.example.org/realms/desk" || strings.Join(out.ClientIDList, " ") != "one two" || strings.Join(out.ThumbprintList, " ") != strings.ToLower(print) || !out.CreateDate.Equal(clk.now) || show(out.Tags) != "a=1 b=2" {
		t.Errorf("%+v", out)
	}
	t.Run("one with a slash more is another one", func(t *testing.T) {
		if _, err := w.CreateOpenIDConnectProvider(w.ctx, call, &iam.CreateOpenIDConnectProviderInput{Url: shape.Ptr("https://idp.example.org/realms/desk/")}); err != nil {
			t.Fatal(err)
		}
		list, err := w.ListOpenIDConnectProviders(w.ctx, call, &iam.ListOpenIDConnectProvidersInput{})
		if err != nil || len(list.OpenIDConnectProviderList) != 2 || *list.OpenIDConnectProviderList[0].Arn != *name {
			t.Errorf("%+v, %v", list, err)
		}
	})
	for range 2 { // what is there, and what is not, is no error
		if _, err := w.AddClientIDToOpenIDConnectProvider(w.ctx, call, &iam.AddClientIDToOpenIDConnectProviderInput{OpenIDConnectProviderArn: name, ClientID: shape.Ptr("three")}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.RemoveClientIDFromOpenIDConnectProvider(w.ctx, call, &iam.RemoveClientIDFromOpenIDConnectProviderInput{OpenIDConnectProviderArn: name, ClientID: shape.Ptr("one")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.UpdateOpenIDConnectProviderThumbprint(w.ctx, call, &iam.UpdateOpenIDConnectProviderThumbprintInput{OpenIDConnectProviderArn: name, ThumbprintList: []string{strings.Repeat("1", 40), strings.Repeat("2", 40)}}); err != nil {
		t.Fatal(err)
	}
	if out := get(); strings.Join(out.ClientIDList, " ") != "two three" || len(out.ThumbprintList) != 2 || out.ThumbprintList[0][0] != '1' {
		t.Errorf("%+v", out)
	}
	t.Run("it has tags", func(t *testing.T) {
		if _, err := w.TagOpenIDConnectProvider(w.ctx, call, &iam.TagOpenIDConnectProviderInput{OpenIDConnectProviderArn: name, Tags: tags("B=3")}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.UntagOpenIDConnectProvider(w.ctx, call, &iam.UntagOpenIDConnectProviderInput{OpenIDConnectProviderArn: name, TagKeys: []string{"a", "A"}}); err != nil {
			t.Fatal(err)
		}
		out, err := w.ListOpenIDConnectProviderTags(w.ctx, call, &iam.ListOpenIDConnectProviderTagsInput{OpenIDConnectProviderArn: name})
		if err != nil || show(out.Tags) != "B=3 b=2" {
			t.Errorf("%+v, %v", out, err)
		}
	})
	if _, err := w.DeleteOpenIDConnectProvider(w.ctx, call, &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: name}); err != nil {
		t.Fatal(err)
	}
	_, err = w.DeleteOpenIDConnectProvider(w.ctx, call, &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: name})
	refused(t, err, "NoSuchEntity", "OpenId connect Provider arn:aws:iam::123456789012:oidc-provider/idp.example.org/realms/desk cannot be found.")
}

func TestOIDCProviderOperationsRefuse(t *testing.T) {
	w, _ := openAt(t)
	call := service.Call{}
	create := func(in iam.CreateOpenIDConnectProviderInput) error {
		if in.Url == nil {
			in.Url = shape.Ptr("https://new.example.org")
		}
		_, err := w.CreateOpenIDConnectProvider(w.ctx, call, &in)
		return err
	}
	if err := create(iam.CreateOpenIDConnectProviderInput{Url: shape.Ptr("https://idp.example.org")}); err != nil {
		t.Fatal(err)
	}
	name, no := shape.Ptr("arn:aws:iam::123456789012:oidc-provider/idp.example.org"), shape.Ptr("arn:aws:iam::123456789012:oidc-provider/no.example.org")
	var many []string
	for i := range clientsPerProvider + 1 {
		many = append(many, fmt.Sprint("client-", i))
	}
	prints := func(n, length int) []string {
		var list []string
		for range n {
			list = append(list, strings.Repeat("a", length))
		}
		return list
	}
	get := func(arn string) error {
		_, err := w.GetOpenIDConnectProvider(w.ctx, call, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn})
		return err
	}
	thumb := func(arn *string, list []string) error {
		_, err := w.UpdateOpenIDConnectProviderThumbprint(w.ctx, call, &iam.UpdateOpenIDConnectProviderThumbprintInput{OpenIDConnectProviderArn: arn, ThumbprintList: list})
		return err
	}
	add := func(arn *string, id string) error {
		_, err := w.AddClientIDToOpenIDConnectProvider(w.ctx, call, &iam.AddClientIDToOpenIDConnectProviderInput{OpenIDConnectProviderArn: arn, ClientID: &id})
		return err
	}
	for _, id := range many[:clientsPerProvider] {
		if err := add(name, id); err != nil {
			t.Fatal(err)
		}
	}
	_, removing := w.RemoveClientIDFromOpenIDConnectProvider(w.ctx, call, &iam.RemoveClientIDFromOpenIDConnectProviderInput{OpenIDConnectProviderArn: no, ClientID: shape.Ptr("x")})
	_, tagging := w.TagOpenIDConnectProvider(w.ctx, call, &iam.TagOpenIDConnectProviderInput{OpenIDConnectProviderArn: no, Tags: tags("a=1")})
	_, untagging := w.UntagOpenIDConnectProvider(w.ctx, call, &iam.UntagOpenIDConnectProviderInput{OpenIDConnectProviderArn: no, TagKeys: []string{"a"}})
	_, listing := w.ListOpenIDConnectProviderTags(w.ctx, call, &iam.ListOpenIDConnectProviderTagsInput{OpenIDConnectProviderArn: no})
	_, badMarker := w.ListOpenIDConnectProviderTags(w.ctx, call, &iam.ListOpenIDConnectProviderTagsInput{OpenIDConnectProviderArn: name, Marker: shape.Ptr("!")})
	_, deleting := w.DeleteOpenIDConnectProvider(w.ctx, call, &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: shape.Ptr("arn:aws:iam::123456789012:role/idp.example.org")})
	const missing = "OpenIDConnect Provider not found for arn arn:aws:iam::123456789012:oidc-provider/no.example.org"
	for _, c := range []struct {
		name       string
		err        error
		code, text string
	}{
		{"a URL that is taken", create(iam.CreateOpenIDConnectProviderInput{Url: shape.Ptr("https://idp.example.org")}), "EntityAlreadyExists", "Provider with url https://idp.example.org already exists."},
		{"a URL that is none", create(iam.CreateOpenIDConnectProviderInput{Url: shape.Ptr("http://idp.example.org")}), "InvalidInput", "must begin with https://"},
		{"six thumbprints", create(iam.CreateOpenIDConnectProviderInput{ThumbprintList: prints(6, 40)}), "InvalidInput", "Thumbprint list must contain fewer than 5 entries."},
		{"a thumbprint that is short", create(iam.CreateOpenIDConnectProviderInput{ThumbprintList: prints(1, 39)}), "InvalidInput", "Thumbprint must be exactly 40 characters."},
		{"101 clients", create(iam.CreateOpenIDConnectProviderInput{ClientIDList: many}), "LimitExceeded", "Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: 100"},
		{"two tags of one key", create(iam.CreateOpenIDConnectProviderInput{Tags: tags("a=1", "a=1")}), "InvalidInput", "Duplicate tag keys"},
		{"reading what is not there", get(*no), "NoSuchEntity", missing},
		{"reading another account's", get("arn:aws:iam::210987654321:oidc-provider/idp.example.org"), "NoSuchEntity", "not found"},
		{"reading by the ARN of something else", get("arn:aws:iam::123456789012:user/idp.example.org"), "InvalidInput", "is not valid"},
		{"deleting by the ARN of something else", deleting, "InvalidInput", "is not valid"},
		{"thumbprints of what is not there", thumb(no, prints(1, 40)), "NoSuchEntity", missing},
		{"six thumbprints afterwards", thumb(name, prints(6, 40)), "InvalidInput", "fewer than 5"},
		{"a client of what is not there", add(no, "x"), "NoSuchEntity", missing},
		{"a client too many", add(name, "x"), "LimitExceeded", "ClientIdsPerOpenIdConnectProvider: 100"},
		{"removing from what is not there", removing, "NoSuchEntity", missing},
		{"tagging what is not there", tagging, "NoSuchEntity", missing},
		{"untagging what is not there", untagging, "NoSuchEntity", missing},
		{"listing the tags of what is not there", listing, "NoSuchEntity", missing},
		{"a marker that is none", badMarker, "ValidationError", "Invalid Marker."},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, c.err, c.code, c.text) })
	}
	t.Run("five thumbprints are taken", func(t *testing.T) {
		if err := thumb(name, prints(5, 40)); err != nil {
			t.Error(err)
		}
	})
	t.Run("more than a hundred", func(t *testing.T) {
		for i := range oidcProviders - 1 {
			if err := create(iam.CreateOpenIDConnectProviderInput{Url: shape.Ptr(fmt.Sprintf("https://p%d.example.org", i))}); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, create(iam.CreateOpenIDConnectProviderInput{}), "LimitExceeded", "Cannot exceed quota for OpenIdConnectProvidersPerAccount: 100")
	})
}
