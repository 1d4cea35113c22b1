// Package oidctest is an OpenID Connect identity provider for tests: a TLS server with discovery and keys, and tokens signed with them.
//
// It refuses to be imported outside tests.
package oidctest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Host is the name that providers are reached by: IdP.Dial leads there.
const Host = "idp.example.org"

// IdP is a provider. Its fields may be changed between calls.
type IdP struct {
	// URL is the issuer without "https://".
	URL string
	// CA signs the server's certificate and is sent along with it.
	CA *x509.Certificate

	mu sync.Mutex
	// Keys are published and sign, by their ids.
	keys map[string]crypto.Signer
	// answers replace what is at a path.
	answers map[string]http.HandlerFunc
	asked   map[string]int
	address string
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// New starts a provider with an RSA key "rsa", keys on the curves "p256", "p384" and "p521", and one for "ed25519".
func New(t testing.TB) *IdP {
	t.Helper()
	p := &IdP{URL: Host + "/realms/desk", keys: map[string]crypto.Signer{"rsa": rsaKey()}, answers: map[string]http.HandlerFunc{}, asked: map[string]int{}}
	for name, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		p.keys[name] = key
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.keys["ed25519"] = key
	server := httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{p.certificate(t)}}
	server.StartTLS()
	t.Cleanup(server.Close)
	p.address = server.Listener.Addr().String()
	return p
}

// certificate makes the CA and a certificate of it for Host.
func (p *IdP) certificate(t testing.TB) tls.Certificate {
	t.Helper()
	now := time.Now()
	issue := func(template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
		template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.AddDate(10, 0, 0)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	ca, leaf := p.keys["p256"], p.keys["p384"]
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	p.CA = issue(template, template, ca.Public(), ca)
	cert := issue(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: Host}, DNSNames: []string{Host}}, p.CA, leaf.Public(), ca)
	return tls.Certificate{Certificate: [][]byte{cert.Raw, p.CA.Raw}, PrivateKey: leaf}
}

// Dial reaches the provider at whatever address.
func (p *IdP) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, p.address)
}

// Roots trust the provider's CA.
func (p *IdP) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.CA)
	return pool
}

// Thumbprint is the CA's, as AWS has it.
func (p *IdP) Thumbprint() string {
	sum := sha1.Sum(p.CA.Raw)
	return hex.EncodeToString(sum[:])
}

// Discovery and Keys are the paths of the provider's documents.
const (
	Discovery = "/realms/desk/.well-known/openid-configuration"
	Keys      = "/realms/desk/keys"
)

// Answer replaces the answer at a path; nil: the usual one again.
func (p *IdP) Answer(path string, h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[path] = h
}

// Asked tells how often a path was asked for.
func (p *IdP) Asked(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[path]
}

// Rotate gives a key another id.
func (p *IdP) Rotate(from, to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys[to] = p.keys[from]
	delete(p.keys, from)
}

// Key is the key of an id.
func (p *IdP) Key(id string) crypto.Signer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[id]
}

func (p *IdP) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[r.URL.Path]++
	if h := p.answers[r.URL.Path]; h != nil {
		h(w, r)
		return
	}
	var v any
	switch r.URL.Path {
	case Discovery:
		v = map[string]any{"issuer": "https://" + p.URL, "jwks_uri": "https://" + Host + Keys}
	case Keys:
		v = map[string]any{"keys": p.published()}
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (p *IdP) published() []map[string]string {
	list := []map[string]string{{"kty": "oct", "kid": "secret", "k": "AAAA"}, {"kty": "RSA", "use": "enc", "kid": "enc", "n": "AQAB", "e": "AQAB"}}
	for _, id := range slices.Sorted(maps.Keys(p.keys)) {
		list = append(list, JWK(id, p.keys[id].Public()))
	}
	return list
}

// JWK is a public key as key sets have it.
func JWK(id string, public crypto.PublicKey) map[string]string {
	e := base64.RawURLEncoding.EncodeToString
	switch key := public.(type) {
	case *rsa.PublicKey:
		return map[string]string{"kty": "RSA", "use": "sig", "kid": id, "n": e(key.N.Bytes()), "e": e(big.NewInt(int64(key.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, _ := key.Bytes()
		half := (len(point) - 1) / 2
		return map[string]string{"kty": "EC", "kid": id, "crv": key.Curve.Params().Name, "x": e(point[1 : 1+half]), "y": e(point[1+half:])}
	case ed25519.PublicKey:
		return map[string]string{"kty": "OKP", "kid": id, "crv": "Ed25519", "x": e(key)}
	}
	return nil
}

// Claims are what a token says.
type Claims map[string]any

// Says is what the provider says of ada to the client desk.
func (p *IdP) Says(now time.Time) Claims {
	return Claims{"iss": "https://" + p.URL, "sub": "ada-of-desk", "aud": "desk", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
}

// Token is a token signed with RS256 by the key "rsa".
func (p *IdP) Token(t testing.TB, claims any) string {
	t.Helper()
	return p.Signed(t, map[string]any{"alg": "RS256", "kid": "rsa", "typ": "JWT"}, claims)
}

// Signed is a token with that header, signed with the key of its kid by its alg, as far as they fit. claims may be JSON in a string.
func (p *IdP) Signed(t testing.TB, header map[string]any, claims any) string {
	t.Helper()
	id, _ := header["kid"].(string)
	alg, _ := header["alg"].(string)
	return Sign(t, header, claims, With(alg, p.Key(id)))
}

// Way is how a token is signed, whatever its header says.
type Way struct {
	alg string
	key crypto.Signer
}

// With signs with key by the algorithm alg; without a key the signature is empty.
func With(alg string, key crypto.Signer) Way { return Way{alg, key} }

// Sign is a token with that header and those claims.
func Sign(t testing.TB, header, claims any, way Way) string {
	t.Helper()
	encode := func(v any) string {
		text, raw := v.(string)
		if !raw {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(text))
	}
	message := encode(header) + "." + encode(claims)
	if way.key == nil {
		return message + "."
	}
	return message + "." + base64.RawURLEncoding.EncodeToString(signature(t, []byte(message), way.alg, way.key))
}

func signature(t testing.TB, message []byte, alg string, key crypto.Signer) []byte {
	t.Helper()
	if k, ok := key.(ed25519.PrivateKey); ok {
		return ed25519.Sign(k, message)
	}
	hash := map[string]crypto.Hash{"384": crypto.SHA384, "512": crypto.SHA512}[strings.TrimLeft(alg, "RPESH")]
	if hash == 0 {
		hash = crypto.SHA256
	}
	h := hash.New()
	h.Write(message)
	var sig []byte
	var err error
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if strings.HasPrefix(alg, "PS") {
			sig, err = rsa.SignPSS(rand.Reader, k, hash, h.Sum(nil), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, err = rsa.SignPKCS1v15(rand.Reader, k, hash, h.Sum(nil))
		}
	case *ecdsa.PrivateKey:
		r, s, failed := ecdsa.Sign(rand.Reader, k, h.Sum(nil))
		size := (k.Curve.Params().BitSize + 7) / 8
		sig, err = make([]byte, 2*size), failed
		r.FillBytes(sig[:size])
		s.FillBytes(sig[size:])
	}
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// HMAC signs a token with HS256 and any bytes as its secret, as one does who takes a public key for one.
func HMAC(t testing.TB, header map[string]any, claims any, secret []byte) string {
	t.Helper()
	message := strings.TrimSuffix(Sign(t, header, claims, With("", nil)), ".")
	h := hmac.New(crypto.SHA256.New, secret)
	h.Write([]byte(message))
	return message + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
