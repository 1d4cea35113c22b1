package oidc_test

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/awserr"
	"carrel/internal/clock"
	"carrel/internal/federation/oidc"
	"carrel/internal/federation/oidc/oidctest"
)

const (
	notJWT  = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
	noKey   = "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements"
	wrong   = "The web identity token that was passed could not be validated. Get a new identity token from the identity provider and then retry the request."
	unheard = "The identity provider could not be reached. Try again later."
	printed = "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint"
)

// bench is a provider, what IAM knows of it, and a verifier on a clock that can be moved.
type bench struct {
	*oidctest.IdP
	provider *oidc.Provider
	verifier *oidc.Verifier
	clock    *clock.Movable
}

func newBench(t testing.TB) *bench {
	p := oidctest.New(t)
	c := new(clock.Movable)
	return &bench{p, &oidc.Provider{URL: p.URL, ClientIDs: []string{"desk", "sts.amazonaws.com"}}, &oidc.Verifier{Fetcher: oidc.Fetcher{Dial: p.Dial, Roots: p.Roots(), Now: c.Now}, Clock: c}, c}
}

func (b *bench) accepted(t *testing.T, token string) *oidc.Identity {
	t.Helper()
	id, err := b.verifier.Verify(t.Context(), b.provider, token)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (b *bench) refused(t *testing.T, token, code, text string) *awserr.Error {
	t.Helper()
	id, err := b.verifier.Verify(t.Context(), b.provider, token)
	if id != nil || err == nil {
		t.Fatalf("accepted: %+v", id)
	}
	if err.Code != code || err.Message != text || err.Status != 400 || err.Kind != awserr.Modelled {
		t.Errorf("refused with %d %v, want %s: %s", err.Status, err, code, text)
	}
	return err
}

func TestTokensOfAProviderAreTaken(t *testing.T) {
	b := newBench(t)
	for alg, key := range map[string]string{"RS256": "rsa", "RS384": "rsa", "RS512": "rsa", "PS256": "rsa", "PS384": "rsa", "PS512": "rsa", "ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed25519"} {
		t.Run(alg, func(t *testing.T) {
			id := b.accepted(t, b.Signed(t, map[string]any{"alg": alg, "kid": key}, b.Says(b.clock.Now())))
			if id.Issuer != "https://"+b.URL || id.Subject != "ada-of-desk" || !slices.Equal(id.Audiences, []string{"desk"}) || id.Expires.IsZero() {
				t.Errorf("%+v", id)
			}
		})
	}
	t.Run("the keys were fetched once for all of them", func(t *testing.T) {
		if n := b.Asked(oidctest.Keys); n != 1 {
			t.Errorf("%d times", n)
		}
	})
	t.Run("a token without kid, when a key fits", func(t *testing.T) {
		b.accepted(t, oidctest.Sign(t, map[string]any{"alg": "ES256"}, b.Says(b.clock.Now()), oidctest.With("ES256", b.Key("p256"))))
	})
	t.Run("claims", func(t *testing.T) {
		says := b.Says(b.clock.Now())
		says["amr"] = []string{"pwd", "otp"}
		want := map[string][]string{b.URL + ":aud": {"desk"}, b.URL + ":sub": {"ada-of-desk"}, b.URL + ":amr": {"pwd", "otp"}}
		if got := b.accepted(t, b.Token(t, says)).Claims(); !maps.EqualFunc(got, want, slices.Equal) {
			t.Error(got)
		}
	})
}

func TestFED1WhatIsNoTokenOfTheProvider(t *testing.T) {
	b := newBench(t)
	now := b.clock.Now()
	good := b.Token(t, b.Says(now))
	parts := strings.Split(good, ".")
	header := func(change map[string]any) map[string]any {
		h := map[string]any{"alg": "RS256", "kid": "rsa"}
		maps.Copy(h, change)
		return h
	}
	public := b.Key("rsa").Public().(*rsa.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	raw := func(claims string) string { return b.Token(t, claims) }
	base := fmt.Sprintf(`"iss":"https://%s","sub":"ada-of-desk","aud":"desk","iat":%d,"exp":%d`, b.URL, now.Unix(), now.Unix()+600)
	mallory := oidctest.New(t)
	mallory.URL = b.URL
	for _, c := range []struct{ name, token, text string }{
		{"alg none", oidctest.Sign(t, header(map[string]any{"alg": "none"}), b.Says(now), oidctest.With("none", nil)), notJWT},
		{"alg None", oidctest.Sign(t, header(map[string]any{"alg": "None"}), b.Says(now), oidctest.With("None", nil)), notJWT},
		{"no alg", oidctest.Sign(t, map[string]any{"kid": "rsa"}, b.Says(now), oidctest.With("RS256", b.Key("rsa"))), notJWT},
		{"key confusion: HS256 with the public key as DER", oidctest.HMAC(t, header(map[string]any{"alg": "HS256"}), b.Says(now), der), notJWT},
		{"key confusion: HS256 with the public key as PEM", oidctest.HMAC(t, header(map[string]any{"alg": "HS256"}), b.Says(now), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), notJWT},
		{"key confusion: HS256 with the key set's secret", oidctest.HMAC(t, header(map[string]any{"alg": "HS256", "kid": "secret"}), b.Says(now), []byte{0, 0, 0}), notJWT},
		{"key confusion: ES256 by an RSA key", b.Signed(t, header(map[string]any{"alg": "ES256"}), b.Says(now)), wrong},
		{"key confusion: RS256 by a key on a curve", b.Signed(t, header(map[string]any{"kid": "p256"}), b.Says(now)), wrong},
		{"key confusion: ES256 on P-384", oidctest.Sign(t, header(map[string]any{"alg": "ES256", "kid": "p384"}), b.Says(now), oidctest.With("ES256", b.Key("p384"))), wrong},
		{"key confusion: PS256 told, RS256 done", oidctest.Sign(t, header(map[string]any{"alg": "PS256"}), b.Says(now), oidctest.With("RS256", b.Key("rsa"))), wrong},
		{"RS1", b.Signed(t, header(map[string]any{"alg": "RS1"}), b.Says(now)), notJWT},
		{"a key for encryption", b.Signed(t, header(map[string]any{"kid": "enc"}), b.Says(now)), noKey},
		{"the token's own key in jwk", mallory.Signed(t, header(map[string]any{"kid": "p256", "alg": "ES256", "jwk": oidctest.JWK("p256", mallory.Key("p256").Public())}), b.Says(now)), wrong},
		{"the token's own key at jku", mallory.Signed(t, header(map[string]any{"kid": "p256", "alg": "ES256", "jku": "https://mallory.example.org/keys"}), b.Says(now)), wrong},
		{"the token's own key in x5c", mallory.Signed(t, header(map[string]any{"kid": "p256", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(mallory.CA.Raw)}}), b.Says(now)), wrong},
		{"crit", b.Signed(t, header(map[string]any{"crit": []string{"exp"}}), b.Says(now)), notJWT},
		{"b64", b.Signed(t, header(map[string]any{"b64": false}), b.Says(now)), notJWT},
		{"zip", b.Signed(t, header(map[string]any{"zip": "DEF"}), b.Says(now)), notJWT},
		{"kid that is a number", b.Signed(t, header(map[string]any{"kid": 1}), b.Says(now)), notJWT},
		{"kid that leads elsewhere", b.Signed(t, header(map[string]any{"kid": "../../dev/null"}), b.Says(now)), noKey},
		{"signature cut off", parts[0] + "." + parts[1] + ".", wrong},
		{"signature of another token", parts[0] + "." + strings.Split(raw(`{`+base+`,"x":1}`), ".")[1] + "." + parts[2], wrong},
		{"two parts", parts[0] + "." + parts[1], notJWT},
		{"four parts", good + ".x", notJWT},
		{"five parts: an encrypted token", good + ".x.y", notJWT},
		{"padding", good + "=", notJWT},
		{"a line break", parts[0] + "\n." + parts[1] + "." + parts[2], notJWT},
		{"bits that no byte has", parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])-1] + flip(parts[2]), notJWT},
		{"too long", good + strings.Repeat("A", oidc.MaxToken), notJWT},
		{"claims that are a list", raw(`[1]`), notJWT},
		{"claims that are no JSON", raw(`{`), notJWT},
		{"something behind the claims", raw(`{` + base + `}{}`), notJWT},
		{"deep nesting", raw(`{` + base + `,"x":` + strings.Repeat("[", 17) + strings.Repeat("]", 17) + `}`), notJWT},
		{"duplicate member: sub twice", raw(`{` + base + `,"sub":"admin"}`), notJWT},
		{"duplicate member within another", raw(`{` + base + `,"x":{"y":1,"y":2}}`), notJWT},
		{"duplicate member in the header", oidctest.Sign(t, `{"alg":"RS256","alg":"RS256","kid":"rsa"}`, b.Says(now), oidctest.With("RS256", b.Key("rsa"))), notJWT},
		{"not UTF-8", raw(`{` + base + ",\"x\":\"\xff\"}"), notJWT},
		{"Sub for sub", raw(strings.Replace(`{`+base+`}`, `"sub"`, `"Sub"`, 1)), "Missing a required claim: sub"},
		{"issuer mix-up: another provider's name, rightly signed", raw(strings.Replace(`{`+base+`}`, b.URL, "other.example.org", 1)), "The token was not issued by the specified provider"},
		{"issuer mix-up: ours with a slash", raw(strings.Replace(`{`+base+`}`, b.URL, b.URL+"/", 1)), "The token was not issued by the specified provider"},
		{"issuer mix-up: http", raw(strings.Replace(`{`+base+`}`, "https://", "http://", 1)), "The token was not issued by the specified provider"},
		{"no iss", raw(strings.Replace(`{`+base+`}`, `"iss"`, `"x"`, 1)), "Missing a required claim: iss"},
		{"no sub", raw(strings.Replace(`{`+base+`}`, `"sub"`, `"x"`, 1)), "Missing a required claim: sub"},
		{"an empty sub", raw(strings.Replace(`{`+base+`}`, `ada-of-desk`, ``, 1)), "Missing a required claim: sub"},
		{"no exp", raw(strings.Replace(`{`+base+`}`, `"exp"`, `"x"`, 1)), "Missing a required claim: exp"},
		{"no iat", raw(strings.Replace(`{`+base+`}`, `"iat"`, `"x"`, 1)), "Missing a required claim: iat"},
		{"exp as text", raw(strings.Replace(`{`+base+`}`, `"exp":`, `"exp":"1","x":`, 1)), notJWT},
		{"exp beyond all time", raw(strings.Replace(`{`+base+`}`, `"exp":`, `"exp":1e400,"x":`, 1)), notJWT},
		{"exp below zero", raw(strings.Replace(`{`+base+`}`, `"exp":`, `"exp":-1,"x":`, 1)), notJWT},
		{"no aud", raw(strings.Replace(`{`+base+`}`, `"aud"`, `"x"`, 1)), "Missing a required claim: aud"},
		{"aud null", raw(strings.Replace(`{`+base+`}`, `"desk"`, `null`, 1)), "Missing a required claim: aud"},
		{"aud of somebody else", raw(strings.Replace(`{`+base+`}`, `"desk"`, `"desk2"`, 1)), "Incorrect token audience"},
		{"aud with an object", raw(strings.Replace(`{`+base+`}`, `"desk"`, `["desk",{}]`, 1)), "Missing a required claim: aud"},
		{"aud of ours and somebody else's, no azp", raw(strings.Replace(`{`+base+`}`, `"desk"`, `["desk","other"]`, 1)), "Incorrect token audience"},
		{"azp of somebody else", raw(`{` + base + `,"azp":"other"}`), "Incorrect token audience"},
		{"azp that is no text", raw(`{` + base + `,"azp":["desk"]}`), "Incorrect token audience"},
		{"amr that is a number", raw(`{` + base + `,"amr":1}`), notJWT},
	} {
		t.Run("FED-1 OIDC "+c.name, func(t *testing.T) { b.refused(t, c.token, "InvalidIdentityToken", c.text) })
	}
	t.Run("aud of ours and somebody else's, azp ours", func(t *testing.T) {
		if id := b.accepted(t, raw(strings.Replace(`{`+base+`,"azp":"sts.amazonaws.com"}`, `"desk"`, `["other","desk"]`, 1))); !slices.Equal(id.Audiences, []string{"sts.amazonaws.com"}) {
			t.Error(id.Audiences)
		}
	})
	t.Run("FED-1 OIDC nonce: the client's own affair, no hindrance", func(t *testing.T) { b.accepted(t, raw(`{`+base+`,"nonce":"n-0S6"}`)) })
}

// flip is another last letter of base64 for the same bytes.
func flip(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, s[len(s)-1])^1])
}

func TestFED1TimesOfTokens(t *testing.T) {
	b := newBench(t)
	says := b.Says(b.clock.Now())
	token := b.Token(t, says)
	b.accepted(t, token)
	t.Run("a token that begins later", func(t *testing.T) {
		for _, name := range []string{"nbf", "iat"} {
			late := maps.Clone(says)
			late[name] = b.clock.Now().Add(2 * time.Minute).Unix()
			if err := b.refusal(t, b.Token(t, late)); !strings.HasPrefix(err.Message, "Token is not yet valid") {
				t.Error(err)
			}
		}
	})
	t.Run("a token is over a minute after its end", func(t *testing.T) {
		b.clock.Advance(time.Hour + time.Minute + time.Second)
		err := b.refusal(t, token)
		if err.Code != "ExpiredTokenException" || err.Status != 400 || !strings.HasPrefix(err.Message, "Token expired: current date/time ") || !strings.Contains(err.Message, fmt.Sprintf("must be before the expiration date/time %d", says["exp"])) {
			t.Error(err)
		}
	})
}

func (b *bench) refusal(t *testing.T, token string) *awserr.Error {
	t.Helper()
	_, err := b.verifier.Verify(t.Context(), b.provider, token)
	if err == nil {
		t.Fatal("accepted")
	}
	return err
}

func TestSessionTagsOfTokens(t *testing.T) {
	b := newBench(t)
	with := func(extra map[string]any) string {
		says := b.Says(b.clock.Now())
		maps.Copy(says, extra)
		return b.Token(t, says)
	}
	const tags, source = "https://aws.amazon.com/tags", "https://aws.amazon.com/source_identity"
	for name, extra := range map[string]map[string]any{
		"in one claim":       {source: "ada.l", tags: map[string]any{"principal_tags": map[string]any{"team": []string{"engines"}}, "transitive_tag_keys": []string{"team"}}},
		"in claims of names": {source: "ada.l", tags + "/principal_tags/team": "engines", tags + "/transitive_tag_keys": []string{"team"}},
	} {
		t.Run(name, func(t *testing.T) {
			id := b.accepted(t, with(extra))
			if id.SourceIdentity != "ada.l" || !maps.Equal(id.Tags, map[string]string{"team": "engines"}) || !slices.Equal(id.Transitive, []string{"team"}) {
				t.Errorf("%+v", id)
			}
		})
	}
	principal := func(v any) map[string]any { return map[string]any{tags: map[string]any{"principal_tags": v}} }
	many := map[string]any{}
	for i := range 51 {
		many[fmt.Sprint("t", i)] = "x"
	}
	for _, c := range []struct {
		name  string
		extra map[string]any
		text  string
	}{
		{"a source identity of AWS", map[string]any{source: "AWS:x"}, `Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with "aws:"`},
		{"a source identity that is a list", map[string]any{source: []string{"ada"}}, `Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with "aws:"`},
		{"tags that are a list", map[string]any{tags: []string{"x"}}, notJWT},
		{"principal tags that are a list", principal([]string{"x"}), notJWT},
		{"tags in both forms", map[string]any{tags: map[string]any{}, tags + "/principal_tags/x": "y"}, notJWT},
		{"transitive keys that are numbers", map[string]any{tags + "/transitive_tag_keys": []int{1}}, notJWT},
		{"a tag with two values", principal(map[string]any{"x": []string{"y", "z"}}), `The session tag "x" in the token is not valid`},
		{"a tag that is a number", principal(map[string]any{"x": 1}), `The session tag "x" in the token is not valid`},
		{"a tag of AWS", principal(map[string]any{"aws:x": "y"}), `The session tag "aws:x" in the token is not valid`},
		{"tags that differ in case", principal(map[string]any{"x": "y", "X": "y"}), "Duplicate tag keys found in the token. Please note that Tag keys are case insensitive."},
		{"51 tags", principal(many), "The token has more than 50 session tags"},
		{"a transitive key that is no tag", map[string]any{tags + "/transitive_tag_keys": "x"}, "The specified transitive tag key must be included in the requested tags."},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) { b.refused(t, with(c.extra), "InvalidIdentityToken", c.text) })
	}
}

func TestKeysAreKeptAndFetchedAgain(t *testing.T) {
	b := newBench(t)
	says := func() any { return b.Says(b.clock.Now()) }
	b.accepted(t, b.Token(t, says()))
	t.Run("a key that is not known is asked for, not oftener than every half minute", func(t *testing.T) {
		b.Rotate("p256", "fresh")
		fresh := b.Signed(t, map[string]any{"alg": "ES256", "kid": "fresh"}, says())
		for range 5 {
			b.refused(t, fresh, "InvalidIdentityToken", noKey)
		}
		if n := b.Asked(oidctest.Keys); n != 1 {
			t.Errorf("asked %d times", n)
		}
		b.clock.Advance(31 * time.Second)
		b.accepted(t, fresh)
		if n := b.Asked(oidctest.Keys); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
	t.Run("keys that are too old are asked for: one that is gone signs nothing any more", func(t *testing.T) {
		old := b.Signed(t, map[string]any{"alg": "ES384", "kid": "p384"}, says())
		b.accepted(t, old)
		b.Rotate("p384", "other")
		b.clock.Advance(10*time.Minute + time.Second)
		b.refused(t, old, "InvalidIdentityToken", noKey)
	})
	t.Run("the provider's word on how long, within an hour", func(t *testing.T) {
		b.Answer(oidctest.Keys, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "public, max-age=31536000")
			_, _ = w.Write([]byte(`{"keys":[]}`))
		})
		b.clock.Advance(time.Hour)
		b.refused(t, b.Token(t, says()), "InvalidIdentityToken", noKey)
		b.Answer(oidctest.Keys, nil)
		before := b.Asked(oidctest.Keys)
		b.clock.Advance(time.Hour + time.Second)
		b.accepted(t, b.Token(t, says()))
		if b.Asked(oidctest.Keys) != before+1 {
			t.Error("not asked again")
		}
	})
	t.Run("many at once wait for one fetch", func(t *testing.T) {
		b.clock.Advance(2 * time.Hour)
		token, before := b.Token(t, says()), b.Asked(oidctest.Keys)
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				if _, err := b.verifier.Verify(t.Context(), b.provider, token); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := b.Asked(oidctest.Keys) - before; n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
	t.Run("whoever asked first may go away", func(t *testing.T) {
		b.clock.Advance(2 * time.Hour)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.verifier.Verify(gone, b.provider, b.Token(t, says())); err != nil {
			t.Error(err)
		}
	})
}

func TestProvidersThatDoNotAnswerRightly(t *testing.T) {
	answer := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	discovery := func(issuer, keys string) http.HandlerFunc {
		return answer(fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, issuer, keys))
	}
	self := "https://" + oidctest.Host + "/realms/desk"
	for _, c := range []struct {
		name, path string
		answer     http.HandlerFunc
		code, text string
	}{
		{"discovery of another issuer", oidctest.Discovery, discovery("https://other.example.org", self+"/keys"), "InvalidIdentityToken", noKey},
		{"discovery of the issuer with a slash", oidctest.Discovery, discovery(self+"/", self+"/keys"), "InvalidIdentityToken", noKey},
		{"keys at http", oidctest.Discovery, discovery(self, "http://"+oidctest.Host+"/realms/desk/keys"), "IDPCommunicationError", unheard},
		{"keys in a file", oidctest.Discovery, discovery(self, "file:///etc/passwd"), "IDPCommunicationError", unheard},
		{"keys nowhere", oidctest.Discovery, discovery(self, ""), "IDPCommunicationError", unheard},
		{"discovery elsewhere", oidctest.Discovery, redirect("https://" + oidctest.Host + "/other"), "IDPCommunicationError", unheard},
		{"discovery redirected to http", oidctest.Discovery, redirect("http://" + oidctest.Host + oidctest.Discovery), "IDPCommunicationError", unheard},
		{"keys redirected", oidctest.Keys, redirect("https://other.example.org/keys"), "IDPCommunicationError", unheard},
		{"discovery that is missing", oidctest.Discovery, http.NotFound, "IDPCommunicationError", unheard},
		{"discovery that is a page", oidctest.Discovery, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
		}, "IDPCommunicationError", unheard},
		{"discovery with issuer twice", oidctest.Discovery, answer(fmt.Sprintf(`{"issuer":"https://other","issuer":%q,"jwks_uri":%q}`, self, self+"/keys")), "InvalidIdentityToken", noKey},
		{"discovery without end", oidctest.Discovery, answer(strings.Repeat(" ", 300<<10)), "IDPCommunicationError", unheard},
		{"discovery that is no JSON", oidctest.Discovery, answer("hello"), "InvalidIdentityToken", noKey},
		{"keys that are no set", oidctest.Keys, answer(`{"keys":{}}`), "InvalidIdentityToken", noKey},
		{"keys that are numbers", oidctest.Keys, answer(`{"keys":[1]}`), "InvalidIdentityToken", noKey},
		{"too many keys", oidctest.Keys, answer(`{"keys":[` + strings.TrimSuffix(strings.Repeat(`{},`, 101), ",") + `]}`), "InvalidIdentityToken", noKey},
		{"a point that is not on its curve", oidctest.Keys, answer(`{"keys":[{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}]}`), "InvalidIdentityToken", noKey},
		{"a point of the wrong length", oidctest.Keys, answer(`{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}`), "InvalidIdentityToken", noKey},
		{"an exponent of one", oidctest.Keys, answer(`{"keys":[{"kty":"RSA","n":"` + strings.Repeat("_", 342) + `","e":"AQ"}]}`), "InvalidIdentityToken", noKey},
		{"a modulus that is no base64", oidctest.Keys, answer(`{"keys":[{"kty":"RSA","n":"*","e":"AQAB"}]}`), "InvalidIdentityToken", noKey},
		{"a key without a modulus", oidctest.Keys, answer(`{"keys":[{"kty":"RSA","e":"AQAB"}]}`), "InvalidIdentityToken", noKey},
		{"an Ed25519 key of the wrong length", oidctest.Keys, answer(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`), "InvalidIdentityToken", noKey},
		{"RSA of 1024 bits", oidctest.Keys, answer(`{"keys":[{"kty":"RSA","kid":"rsa","n":"` + strings.Repeat("_", 171) + `","e":"AQAB"}]}`), "InvalidIdentityToken", noKey},
		{"a key for signing elsewhere", oidctest.Keys, answer(`{"keys":[{"kty":"RSA","kid":"rsa","key_ops":["encrypt"],"n":"` + strings.Repeat("_", 342) + `","e":"AQAB"}]}`), "InvalidIdentityToken", noKey},
		{"the key for another algorithm", oidctest.Keys, answer(`{"keys":[{"kty":"RSA","kid":"rsa","alg":"PS256","n":"` + strings.Repeat("_", 342) + `","e":"AQAB"}]}`), "InvalidIdentityToken", noKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.Answer(c.path, c.answer)
			b.refused(t, b.Token(t, b.Says(b.clock.Now())), c.code, c.text)
		})
	}
	t.Run("one that does not answer is let alone for ten seconds, and then heard again", func(t *testing.T) {
		b := newBench(t)
		b.Answer(oidctest.Discovery, http.NotFound)
		token := b.Token(t, b.Says(b.clock.Now()))
		for range 5 {
			b.refused(t, token, "IDPCommunicationError", unheard)
		}
		if n := b.Asked(oidctest.Discovery); n != 1 {
			t.Errorf("asked %d times", n)
		}
		b.Answer(oidctest.Discovery, nil)
		b.clock.Advance(11 * time.Second)
		b.accepted(t, token)
	})
}

func TestThumbprintsVouchForServers(t *testing.T) {
	b := newBench(t)
	token := b.Token(t, b.Says(b.clock.Now()))
	strange := func(thumbprints ...string) *bench {
		other := *b
		other.verifier = &oidc.Verifier{Fetcher: oidc.Fetcher{Dial: b.Dial, Roots: x509.NewCertPool(), Now: b.clock.Now}, Clock: b.clock}
		other.provider = &oidc.Provider{URL: b.URL, ClientIDs: b.provider.ClientIDs, Thumbprints: thumbprints}
		return &other
	}
	t.Run("a server of a CA that nobody knows is refused", func(t *testing.T) {
		strange().refused(t, token, "InvalidIdentityToken", printed)
		strange(strings.Repeat("0", 40)).refused(t, token, "InvalidIdentityToken", printed)
	})
	t.Run("its CA's thumbprint vouches for it, in either case of letters", func(t *testing.T) {
		strange(b.Thumbprint()).accepted(t, token)
		strange("x", strings.ToUpper(b.Thumbprint())).accepted(t, token)
	})
	t.Run("a trusted root needs no thumbprint, and a wrong one does not harm", func(t *testing.T) {
		b.provider.Thumbprints = []string{strings.Repeat("0", 40)}
		b.accepted(t, token)
	})
	t.Run("a thumbprint does not make another name right", func(t *testing.T) {
		other := strange(b.Thumbprint())
		other.provider.URL = "other.example.org/realms/desk"
		says := b.Says(b.clock.Now())
		says["iss"] = "https://" + other.provider.URL
		other.refused(t, b.Token(t, says), "InvalidIdentityToken", printed)
	})
	t.Run("nor an old certificate valid", func(t *testing.T) {
		other := strange(b.Thumbprint())
		other.verifier.Now = func() time.Time { return time.Now().AddDate(11, 0, 0) }
		other.refused(t, token, "InvalidIdentityToken", printed)
	})
	t.Run("keys fetched under one thumbprint do not count under another", func(t *testing.T) {
		one := strange(b.Thumbprint())
		one.accepted(t, token)
		one.provider = &oidc.Provider{URL: b.URL, ClientIDs: b.provider.ClientIDs, Thumbprints: []string{strings.Repeat("0", 40)}}
		one.refused(t, token, "InvalidIdentityToken", printed)
	})
}

func TestTheIssuerIsReadToFindWhomToAsk(t *testing.T) {
	b := newBench(t)
	if got, err := oidc.Issuer(b.Token(t, b.Says(b.clock.Now()))); err != nil || got != "https://"+b.URL {
		t.Error(got, err)
	}
	if _, err := oidc.Issuer(b.Token(t, `{}`)); err == nil || err.Message != "Missing a required claim: iss" {
		t.Error(err)
	}
	if _, err := oidc.Issuer("x"); err == nil || err.Message != notJWT {
		t.Error(err)
	}
}

// FuzzToken changes tokens: what is accepted must say what was signed.
func FuzzToken(f *testing.F) {
	b := newBench(f)
	f.Add(b.Token(f, b.Says(b.clock.Now())))
	f.Add(b.Signed(f, map[string]any{"alg": "EdDSA", "kid": "ed25519"}, b.Says(b.clock.Now())))
	f.Add(oidctest.Sign(f, map[string]any{"alg": "none"}, b.Says(b.clock.Now()), oidctest.With("none", nil)))
	f.Fuzz(func(t *testing.T, text string) {
		id, err := b.verifier.Verify(t.Context(), b.provider, text)
		if (id == nil) == (err == nil) {
			t.Fatal("both or neither")
		}
		if id != nil && (id.Subject != "ada-of-desk" || !slices.Equal(id.Audiences, []string{"desk"})) {
			t.Fatalf("accepted: %+v", id)
		}
	})
}
