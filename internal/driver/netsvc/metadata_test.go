package netsvc

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// call makes one request from an address; headers are "Name: value".
func call(h http.Handler, from, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://169.254.169.254"+path, nil)
	r.RemoteAddr = from + ":1000"
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Add(name, value)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestMetadataNeedsATokenThatThisDesktopWasGiven(t *testing.T) {
	now := time.Unix(1000, 0)
	s := server(t, func(c *Config) { c.Now = func() time.Time { return now } })
	other := desktop
	other.NIC.Address, other.NIC.InterfaceID, other.NIC.WorkspaceID = "10.0.1.11", "eni-0a1b2c3d4e5f60719", "ws-otherone1"
	s.services([]Port{desktop, other})
	h := s.metadata(desktop.NIC.VPC)
	const ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60"
	w := call(h, "10.0.1.10", "PUT", tokenPath, ttl)
	if w.Code != 200 || w.Header().Get(ttlHeader) != "60" {
		t.Fatalf("token: %d %v", w.Code, w.Header())
	}
	token := "X-aws-ec2-metadata-token: " + w.Body.String()
	if w := call(h, "10.0.1.10", "GET", "/latest/meta-data/instance-id", token); w.Code != 200 || w.Body.String() != "ws-f9abcdefg" {
		t.Errorf("with its token: %d %q", w.Code, w.Body)
	}
	flipped := token[:len(token)-5] + "AAAA="
	for name, c := range map[string]struct {
		from, method, path string
		headers            []string
		want               int
	}{
		"no token (version 1)":        {"10.0.1.10", "GET", "/latest/meta-data/", nil, 401},
		"another desktop's token":     {"10.0.1.11", "GET", "/latest/meta-data/", []string{token}, 401},
		"a changed token":             {"10.0.1.10", "GET", "/latest/meta-data/", []string{flipped}, 401},
		"two tokens":                  {"10.0.1.10", "GET", "/latest/meta-data/", []string{token, token}, 401},
		"an empty token":              {"10.0.1.10", "GET", "/latest/meta-data/", []string{"X-aws-ec2-metadata-token: "}, 401},
		"from a proxy":                {"10.0.1.10", "PUT", tokenPath, []string{ttl, "X-Forwarded-For: 10.0.1.12"}, 403},
		"by a proxy, with a token":    {"10.0.1.10", "GET", "/latest/meta-data/", []string{token, "X-Forwarded-For: "}, 403},
		"a name that points here":     {"10.0.1.10", "PUT", tokenPath, []string{ttl, "Host: evil.example.org"}, 400},
		"no time to live":             {"10.0.1.10", "PUT", tokenPath, nil, 400},
		"a time to live of 0":         {"10.0.1.10", "PUT", tokenPath, []string{"X-aws-ec2-metadata-token-ttl-seconds: 0"}, 400},
		"a time to live too long":     {"10.0.1.10", "PUT", tokenPath, []string{"X-aws-ec2-metadata-token-ttl-seconds: 21601"}, 400},
		"a time to live of -1":        {"10.0.1.10", "PUT", tokenPath, []string{"X-aws-ec2-metadata-token-ttl-seconds: -1"}, 400},
		"GET for the token":           {"10.0.1.10", "GET", tokenPath, []string{ttl}, 401},
		"POST":                        {"10.0.1.10", "POST", "/latest/meta-data/", []string{token}, 405},
		"nobody's address":            {"10.0.1.77", "PUT", tokenPath, []string{ttl}, 404},
		"the host's own":              {"169.254.169.254", "PUT", tokenPath, []string{ttl}, 404},
		"credentials":                 {"10.0.1.10", "GET", "/latest/meta-data/iam/security-credentials/", []string{token}, 404},
		"user data":                   {"10.0.1.10", "GET", "/latest/user-data", []string{token}, 404},
		"something else":              {"10.0.1.10", "GET", "/latest/../../etc/passwd", []string{token}, 404},
		"what an old version is like": {"10.0.1.10", "GET", "/2009-04-04/meta-data/", []string{token}, 404},
	} {
		if w := call(h, c.from, c.method, c.path, c.headers...); w.Code != c.want {
			t.Errorf("%s: %d, want %d", name, w.Code, c.want)
		}
	}
	now = now.Add(time.Minute)
	if w := call(h, "10.0.1.10", "GET", "/latest/meta-data/", token); w.Code != 401 {
		t.Errorf("after its end: %d", w.Code)
	}
}

func TestMetadataTellsADesktopWhereItIs(t *testing.T) {
	s := server(t, func(c *Config) {
		c.Describe = func(Port) Guest {
			return Guest{Hostname: "WSAMZN-1", Domain: "corp.example.com", Zone: "eu-central-1a", ZoneID: "euc1-az2"}
		}
	})
	for path, want := range map[string]string{
		"/":                                          "latest",
		"/latest":                                    "dynamic/\nmeta-data/",
		"/latest/meta-data/local-ipv4":               "10.0.1.10",
		"/latest/meta-data/mac":                      "02:00:00:00:00:0a",
		"/latest/meta-data/hostname":                 "WSAMZN-1.corp.example.com",
		"/latest/meta-data/services/domain":          "amazonaws.com",
		"/latest/meta-data/placement/":               "availability-zone\navailability-zone-id\nregion",
		"/latest/meta-data/placement/region":         "eu-central-1",
		"/latest/meta-data/network":                  "interfaces/",
		"/latest/meta-data/network/interfaces/macs/": "02:00:00:00:00:0a/",
		"/latest/meta-data/network/interfaces/macs/02:00:00:00:00:0a/subnet-ipv4-cidr-block": "10.0.1.0/24",
		"/latest/meta-data/network/interfaces/macs/02:00:00:00:00:0a/vpc-id":                 "vpc-0a1b2c3d4e5f60718",
	} {
		if got, ok := s.lookUp(desktop, path); !ok || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, ok, want)
		}
	}
	if doc, ok := s.lookUp(desktop, "/latest/dynamic/instance-identity/document"); !ok || !strings.Contains(doc, `"instanceId": "ws-f9abcdefg"`) {
		t.Errorf("document %s", doc)
	}
	for path, text := range s.tree(desktop) {
		if strings.Contains(path, "iam") || strings.Contains(text, "Secret") {
			t.Errorf("%s tells too much", path)
		}
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add("/latest/meta-data/", "x", "169.254.169.254")
	f.Add("/latest//", "AAAA", "")
	s, err := New(Config{Ports: func() ([]Port, <-chan struct{}) { return nil, nil }, Enter: nobody, Region: "eu-central-1"})
	if err != nil {
		f.Fatal(err)
	}
	s.services([]Port{desktop})
	f.Fuzz(func(t *testing.T, path, token, host string) {
		r := httptest.NewRequest("GET", "http://169.254.169.254/", nil)
		r.URL.Path, r.Host, r.Header[tokenHeader] = path, host, []string{token}
		w := httptest.NewRecorder()
		s.serveOne(w, r, desktop)
		if w.Code == 200 {
			t.Errorf("%q with token %q was answered", path, token)
		}
		s.lookUp(desktop, path)
	})
}
