// Package sigv4 holds Carrel's reading and making of signatures against AWS's own SDK for Go. It is a module of its own, so that the
// SDK stays out of the program's dependencies.
package sigv4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"carrel/internal/sigv4"
)

const (
	keyID  = "AKIAIOSFODNN7EXAMPLE"
	secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// count is how many random requests are tried: 20,000, or what CARREL_SIGV4_REQUESTS says.
func count(t testing.TB) int {
	t.Helper()
	said := os.Getenv("CARREL_SIGV4_REQUESTS")
	if said == "" {
		return 20_000
	}
	n, err := strconv.Atoi(said)
	if err != nil || n < 1 {
		t.Fatalf("CARREL_SIGV4_REQUESTS is %q, not a number from 1", said)
	}
	return n
}

// dice makes random requests. Two things are left out, in which the SDK departs from AWS's text: it sorts the query by names before
// they are escaped, so names here are made of what is not escaped; and it does not fold tabs in headers.
type dice struct{ *rand.Rand }

func (d dice) some(alphabet []string, most int) string {
	var b strings.Builder
	for range d.IntN(most + 1) {
		b.WriteString(alphabet[d.IntN(len(alphabet))])
	}
	return b.String()
}

var (
	pathPieces  = []string{"/", "//", "/./", "/../", "a", "B", "%20", "%2F", "%2f", "%00", "+", "-._~", "=", ":", "@", ",", "%E1%88%B4", "$", "(", "~"}
	nameRunes   = []string{"a", "Z", "0", "-", ".", "_", "~"}
	valueRunes  = []string{"a", "Z", "0", " ", "+", "&", "=", "%", "/", "~", "-", "\u1234", "\u00e9", "\x00", ";", "'", "!", "*", "(", ":"}
	headerRunes = []string{"a", "B", " ", "  ", ",", `"`, "=", ";", "%20", "~"}
	headers     = []string{"Content-Type", "X-Amz-Target", "X-Custom", "User-Agent", "Accept", "X-Amz-Meta-1", "X-Amzn-Trace-Id"}
)

func (d dice) request(t testing.TB, base string) *http.Request {
	t.Helper()
	query := url.Values{}
	for range d.IntN(4) {
		query.Set(d.some(nameRunes, 4)+"k", d.some(valueRunes, 6))
	}
	body := d.some(valueRunes, 30)
	req, err := http.NewRequestWithContext(context.Background(), []string{"GET", "POST", "PUT"}[d.IntN(3)], base+"/"+d.some(pathPieces, 6)+"?"+query.Encode(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for range d.IntN(4) {
		req.Header.Set(headers[d.IntN(len(headers))], "v"+strings.TrimRight(d.some(headerRunes, 6), " "))
	}
	return req
}

// signed signs req with the SDK, in query form when presign is set, and gives the body's bytes back.
func signed(t testing.TB, d dice, req *http.Request, at time.Time, presign bool) []byte {
	t.Helper()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	who := aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}
	if d.IntN(3) == 0 {
		who.SessionToken = "token" + d.some([]string{"a", "/", "+", "="}, 6)
	}
	if !presign {
		if err := v4.NewSigner().SignHTTP(req.Context(), who, req, hash, "workspaces", "eu-central-1", at); err != nil {
			t.Fatal(err)
		}
		return body
	}
	query := req.URL.Query()
	query.Set("X-Amz-Expires", strconv.Itoa(1+d.IntN(604800)))
	req.URL.RawQuery = query.Encode()
	link, headers, err := v4.NewSigner().PresignHTTP(req.Context(), who, req, hash, "workspaces", "eu-central-1", at)
	if err != nil {
		t.Fatal(err)
	}
	if req.URL, err = url.Parse(link); err != nil {
		t.Fatal(err)
	}
	// The signer moved headers into the query; what is left to send is in headers. Those that it never signs are sent as well.
	kept := http.Header{}
	for _, name := range []string{"User-Agent", "X-Amzn-Trace-Id"} {
		if v := req.Header.Values(name); len(v) > 0 {
			kept[name] = v
		}
	}
	for name, values := range headers {
		if !strings.EqualFold(name, "Host") {
			kept[http.CanonicalHeaderKey(name)] = values
		}
	}
	req.Header = kept
	return body
}

// verify is what a server of Carrel's does with the request.
func verify(v *sigv4.Verifier, req *sigv4.Request, at time.Time) (sigv4.Signature, error) {
	sig, err := v.Parse(req)
	if err != nil {
		return sig, err
	}
	return sig, v.Verify(req, &sig, &sigv4.Expect{Now: at, Regions: []string{"eu-central-1"}, Services: []string{"workspaces"}}, secret)
}

// TestAgainstTheSDK is figure R1 for aws-sdk-go-v2: what it signs is accepted, in both forms, and Carrel's signer makes the same
// signature; with one bit of the body changed it is refused. The SDK does not normalise paths, as S3 does not, so neither is it done here.
func TestAgainstTheSDK(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	d := dice{rand.New(rand.NewPCG(seed, 0))}
	v := &sigv4.Verifier{AllowQuery: true, KeepPath: true}
	for range count(t) {
		req := d.request(t, "https://host.example.com:8443")
		presign := d.IntN(2) == 0
		body := signed(t, d, req, now, presign)
		got := &sigv4.Request{Method: req.Method, Path: req.URL.EscapedPath(), RawQuery: req.URL.RawQuery, Host: req.URL.Host, Header: req.Header, Body: body}
		if n := req.ContentLength; n > 0 {
			got.Header.Set("Content-Length", strconv.FormatInt(n, 10))
		}
		sig, err := verify(v, got, now)
		if err != nil || sig.Query != presign {
			t.Fatalf("the SDK's signature is refused: %v\n%+v", err, got)
		}
		again := *got
		again.Header = http.Header{}
		for _, name := range strings.Split(sig.SignedHeaders, ";") {
			if name != "host" && name != "x-amz-date" {
				again.Header[http.CanonicalHeaderKey(name)] = got.Header[http.CanonicalHeaderKey(name)]
			}
		}
		s := &sigv4.Signer{AccessKeyID: keyID, Secret: secret, SessionToken: sig.SessionToken, Region: "eu-central-1", Service: "workspaces", KeepPath: true}
		want, made := got.Header.Get("Authorization"), ""
		if presign {
			again.RawQuery = sigv4.WithoutSignature(got.RawQuery)
			err = s.Presign(&again, now, sig.Expires)
			want = "X-Amz-Signature=" + sig.Signature
			_, made, _ = strings.Cut(again.RawQuery, "&X-Amz-Signature=")
			made = "X-Amz-Signature=" + made
		} else {
			err = s.Sign(&again, now)
			made = again.Header.Get("Authorization")
		}
		if err != nil || made != want {
			t.Fatalf("Signer makes %s, %v\nthe SDK %s\n%+v", made, err, want, got)
		}
		other := *got
		other.Body = append([]byte{1}, body...)
		if _, err := verify(v, &other, now); err == nil {
			t.Fatalf("accepted with another body\n%+v", other)
		}
	}
}

// TestTheSDKOverTheWire sends what the SDK signs through net/http, by HTTP/1.1 and HTTP/2: what is verified is what arrives.
func TestTheSDKOverTheWire(t *testing.T) {
	v := &sigv4.Verifier{AllowQuery: true, KeepPath: true}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			path, query, _ := strings.Cut(r.RequestURI, "?")
			_, err = verify(v, &sigv4.Request{Method: r.Method, Path: path, RawQuery: query, Host: r.Host, Header: r.Header, Body: body}, time.Now())
		}
		if err != nil {
			http.Error(w, fmt.Sprintf("%v\n%s %s %v", err, r.Method, r.RequestURI, r.Header), http.StatusForbidden)
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	old := server.Client().Transport.(*http.Transport).Clone()
	old.ForceAttemptHTTP2 = false
	old.TLSClientConfig.NextProtos = []string{"http/1.1"}
	defer old.CloseIdleConnections()
	d := dice{rand.New(rand.NewPCG(1, 2))}
	for proto, client := range map[string]*http.Client{"HTTP/2.0": server.Client(), "HTTP/1.1": {Transport: old}} {
		t.Run(proto, func(t *testing.T) {
			for range 500 {
				req := d.request(t, server.URL)
				signed(t, d, req, time.Now(), d.IntN(2) == 0)
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || resp.Proto != proto {
					t.Fatalf("%s %d %s %v", resp.Proto, resp.StatusCode, text, err)
				}
			}
		})
	}
}
