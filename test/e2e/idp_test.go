package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"carrel/internal/federation/oidc/oidctest"
	"carrel/internal/federation/saml/samltest"
)

// provider is an OpenID Connect identity provider, and a proxy on the way to it: under its name it is nowhere else. And it is a SAML provider.
type provider struct {
	t     testing.TB
	idp   *oidctest.IdP
	proxy *httptest.Server
	saml  *samltest.IdP
}

func newProvider(t testing.TB) *provider {
	p := &provider{t: t, idp: oidctest.New(t), saml: samltest.New(t, "https://idp.example.org/metadata")}
	p.proxy = httptest.NewServer(http.HandlerFunc(p.connect))
	t.Cleanup(p.proxy.Close)
	return p
}

// connect answers CONNECT (RFC 9110 section 9.3.6) to the provider, and nothing else.
func (p *provider) connect(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect || r.Host != oidctest.Host+":443" {
		http.Error(w, "this proxy leads to "+oidctest.Host, http.StatusForbidden)
		return
	}
	there, err := p.idp.Dial(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	if _, err := io.WriteString(here, "HTTP/1.1 200 Connected\r\n\r\n"); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(there, buffered)
		_ = there.Close()
	}()
	_, _ = io.Copy(here, there)
}

// cmdIdP: idp sets ISSUER and THUMBPRINT, and the way to it for the servers that are started from now on.
func (p *provider) cmdIdP(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Setenv("ISSUER", p.idp.URL)
	ts.Setenv("THUMBPRINT", p.idp.Thumbprint())
	ts.Setenv("IDP_PROXY", p.proxy.URL)
}

// cmdToken: token FILE [CLAIM=VALUE]... writes a token of the provider about ada, with claims in JSON added to or put in place of the usual ones.
func (p *provider) cmdToken(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: token FILE [CLAIM=VALUE]...")
	}
	claims := p.idp.Says(time.Now())
	for _, arg := range args[1:] {
		name, text, _ := strings.Cut(arg, "=")
		var value any
		ts.Check(json.Unmarshal([]byte(text), &value))
		claims[name] = value
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(p.idp.Token(p.t, claims)), 0o600))
}

// cmdMetadata: metadata FILE writes the SAML provider's metadata.
func (p *provider) cmdMetadata(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: metadata FILE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(p.saml.Metadata()), 0o600))
}

// cmdAssertion: assertion FILE ROLE PROVIDER writes a fresh response of the SAML provider about ada, for a role and the account's provider.
func (p *provider) cmdAssertion(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: assertion FILE ROLE PROVIDER")
	}
	says := p.saml.Say(time.Now(), args[1], args[2])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(samltest.Encode(p.t, p.saml.Document(p.t, says, samltest.Assertion))), 0o600))
}
