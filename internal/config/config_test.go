package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheZeroValueWorks(t *testing.T) {
	if err := new(Config).Validate(); err != nil {
		t.Fatal(err)
	}
	c, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	c.Complete()
	for got, want := range map[string]string{
		c.API.Address: "127.0.0.1:8443", c.Portal.Address: "127.0.0.1:8444",
		c.TLS.MinVersion: "1.2", c.Metrics.Address: "127.0.0.1:9464", c.Audit.Dir: filepath.Join(c.State.Dir, "audit"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if c.Requests.MaxBodyBytes != 1<<20 || c.Region+c.AccountID+c.Partition != "" || c.Simulate {
		t.Errorf("%+v", c)
	}
}

func TestAFileIsDecodedStrictly(t *testing.T) {
	cases := []struct{ name, text, want string }{
		{"an unknown key", "region: us-east-1\nregoin: x\n", "regoin"},
		{"an unknown key further down", "metrics: {allowremote: true}\n", "allowremote"},
		{"a key in another case", "Region: x\n", "Region"},
		{"a repeated key", "region: us-east-1\nregion: eu-west-1\n", "already"},
		{"a repeated key further down", "api:\n  address: 127.0.0.1:1\n  address: 127.0.0.1:2\n", "already"},
		{"a second document", "region: us-east-1\n---\nregion: eu-west-1\n", "more than one"},
		{"a second document that is no YAML", "region: us-east-1\n---\n{\n", "more than one"},
		{"a list for a struct", "api: [1]\n", "line 1"},
		{"a word for a number", "limits: {workspaces: many}\n", "line 1"},
		{"a word for a truth value", "simulate: perhaps\n", "line 1"},
		{"a time without unit", "requests: {deadline: 30}\n", "line 1"},
		{"no YAML", "{", "yaml"},
		{"a scalar", "hello", "line 1"},
		{"a file that is too large", "#" + strings.Repeat("x", maxFile), "larger"},
	}
	for _, c := range cases {
		t.Run(c.name+" is refused", func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "carrel.yaml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want the path and %q", err, c.want)
			}
		})
	}
	t.Run("a file that does not exist is refused", func(t *testing.T) {
		if _, err := Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	for name, text := range map[string]string{"an empty file": "", "a file of comments": "# hello\n", "an empty document": "---\n"} {
		t.Run(name+" gives the defaults", func(t *testing.T) {
			c, err := Parse([]byte(text))
			if err != nil || !reflect.DeepEqual(c, &Config{}) {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
}

func TestValuesAreRead(t *testing.T) {
	c, err := Parse([]byte("accountID: 012345678901\ntls: {minVersion: 1.3}\nrequests: {deadline: 1m30s}\napi: {names: [a.example.com, 10.0.0.1]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{AccountID: "012345678901", TLS: TLS{"1.3"}, Requests: Requests{Deadline: 90 * time.Second}, API: API{Names: []string{"a.example.com", "10.0.0.1"}}}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	if c.TLSFloor() != 0x0304 || new(Config).TLSFloor() != 0x0303 {
		t.Error("the TLS floor is wrong")
	}
}

func TestValidateNamesTheField(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	https := []string{"https://etcd:2379"}
	cases := []struct {
		name   string
		change func(*Config)
		paths  string
	}{
		{"an address without port", func(c *Config) { c.API.Address = "localhost" }, "api.address"},
		{"a port that is too large", func(c *Config) { c.Portal.Address = "127.0.0.1:65536" }, "portal.address"},
		{"a named port", func(c *Config) { c.Portal.Address = "127.0.0.1:https" }, "portal.address"},
		{"a host that is no host", func(c *Config) { c.API.Address = "a b:1" }, "api.address"},
		{"two doors at one address", func(c *Config) { c.Portal.Address = "127.0.0.1:8443" }, "portal.address"},
		{"metrics at a door's address", func(c *Config) { c.Metrics.Address = "127.0.0.1:8444" }, "metrics.address"},
		{"two free ports", func(c *Config) { c.API.Address, c.Portal.Address = "127.0.0.1:0", "127.0.0.1:0" }, ""},
		{"every address of the machine", func(c *Config) { c.API.Address, c.Portal.Address = ":8443", "[::]:8444" }, ""},
		{"good names", func(c *Config) { c.API.Names = []string{"a.example.com", "*.example.com", "::1", "10.0.0.1"} }, ""},
		{"a bad name", func(c *Config) { c.API.Names = []string{"ok", "a_b", "https://x", ""} }, "api.names[1] api.names[2] api.names[3]"},
		{"an old TLS version", func(c *Config) { c.TLS.MinVersion = "1.1" }, "tls.minVersion"},
		{"a region with capitals", func(c *Config) { c.Region = "US-East-1" }, "region"},
		{"a region with a path", func(c *Config) { c.Region = "us/../x" }, "region"},
		{"an account of 11 digits", func(c *Config) { c.AccountID = "12345678901" }, "accountID"},
		{"a foreign partition", func(c *Config) { c.Partition = "gcp" }, "partition"},
		{"a negative time", func(c *Config) { c.Simulation.Create = -1 }, "simulation.create"},
		{"a remote etcd without TLS", func(c *Config) { c.Etcd.Endpoints = []string{"http://127.0.0.1:2379", "http://10.0.0.1:2379"} }, "etcd.endpoints[1]"},
		{"an etcd endpoint without scheme", func(c *Config) { c.Etcd.Endpoints = []string{"etcd:2379"} }, "etcd.endpoints[0]"},
		{"a certificate without key", func(c *Config) { c.Etcd = Etcd{Endpoints: https, CertFile: file} }, "etcd.certFile"},
		{"a file that is missing", func(c *Config) { c.Etcd = Etcd{Endpoints: https, CAFile: file + "x"} }, "etcd.caFile"},
		{"etcd files without endpoints", func(c *Config) { c.Etcd = Etcd{CAFile: file} }, "etcd.caFile"},
		{"a whole external etcd", func(c *Config) { c.Etcd = Etcd{Endpoints: https, CAFile: file, CertFile: file, KeyFile: file} }, ""},
		{"metrics for everybody", func(c *Config) { c.Metrics.Address = "0.0.0.0:9464" }, "metrics.address"},
		{"metrics on every address by an empty host", func(c *Config) { c.Metrics.Address = ":9464" }, "metrics.address"},
		{"metrics at a name that may resolve to anything", func(c *Config) { c.Metrics.Address = "localhost.example.com:9464" }, "metrics.address"},
		{"metrics for everybody on purpose", func(c *Config) { c.Metrics = Metrics{Address: ":9464", AllowRemote: true} }, ""},
		{"metrics on IPv6 loopback", func(c *Config) { c.Metrics.Address = "[::1]:9464" }, ""},
		{"no metrics", func(c *Config) { c.Metrics.Address = MetricsOff }, ""},
		{"an unknown level and format", func(c *Config) { c.Log = Log{"loud", "xml"} }, "log.level log.format"},
		{"negative limits", func(c *Config) {
			c.Limits = Limits{Workspaces: -1, IPGroups: -1, Directories: -1, Users: -1, Groups: -1, Roles: -1, Policies: -1}
		},
			"limits.workspaces limits.ipGroups limits.directories limits.users limits.groups limits.roles limits.policies"},
		{"tiny bodies and files", func(c *Config) { c.Requests.MaxBodyBytes, c.Audit.MaxFileBytes = 1, 1 }, "audit.maxFileBytes requests.maxBodyBytes"},
		{"an audit log that may drop records", func(c *Config) { c.Audit.OnFailure = "drop" }, "audit.onFailure"},
		{"endless time", func(c *Config) { c.Requests.HeaderTimeout, c.Requests.IdleTimeout = 2*time.Hour, 1 }, "requests.headerTimeout requests.idleTimeout"},
		{"AWS's throttling", func(c *Config) { c.Requests.Throttle = ThrottleAWS }, ""},
		{"a throttling that is none", func(c *Config) { c.Requests.Throttle = "on" }, "requests.throttle"},
		{"people asked about without a pause, and forgiven for ever", func(c *Config) { c.Portal.Recheck, c.Portal.DirectoryGrace = 1, 24*time.Hour }, "portal.recheck portal.directoryGrace"},
		{"all of it", func(c *Config) {
			c.API.Address, c.Region, c.AccountID, c.Log.Level, c.Requests.Deadline = "x", "X", "1", "x", 1
		}, "api.address region accountID log.level requests.deadline"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var config Config
			c.change(&config)
			err := config.Validate()
			var problems Problems
			if err != nil && !errors.As(err, &problems) {
				t.Fatalf("%T %v", err, err)
			}
			var paths []string
			for _, p := range problems {
				paths = append(paths, p.Path)
				if p.Text == "" || !strings.Contains(err.Error(), p.Path+": "+p.Text) {
					t.Errorf("%+v is not in %q", p, err)
				}
			}
			if got := strings.Join(paths, " "); got != c.paths {
				t.Errorf("problems at %q, want %q: %v", got, c.paths, err)
			}
		})
	}
	t.Run("a password in a URL is not repeated", func(t *testing.T) {
		c := Config{Etcd: Etcd{Endpoints: []string{"https://root:hunter2@etcd:2379"}}}
		if err := c.Validate(); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Error(err)
		}
	})
}

func TestDefaultsFollowTheFlagsLaidOverAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "carrel.yaml")
	if err := os.WriteFile(path, []byte("state: {dir: /srv/one}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c.State.Dir, c.Limits.AWSLike = "/srv/two", true
	c.Complete()
	if c.Audit.Dir != "/srv/two/audit" || c.Limits.Workspaces != 1 {
		t.Errorf("%+v %+v", c.Audit, c.Limits)
	}
}

func TestAWSLikeLimitsAreDefaultsOnly(t *testing.T) {
	c := Config{Limits: Limits{AWSLike: true, IPGroups: 7}}
	c.Complete()
	if diff := cmp.Diff(Limits{AWSLike: true, Workspaces: 1, IPGroups: 7, Directories: 50, Users: 5000, Groups: 300, Roles: 1000, Policies: 1500}, c.Limits); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultStateDir(t *testing.T) {
	for _, c := range []struct {
		name string
		uid  int
		env  map[string]string
		want string
	}{
		{"root", 0, map[string]string{"XDG_STATE_HOME": "/x"}, "/var/lib/carrel"},
		{"a user", 1000, map[string]string{"HOME": "/home/ada"}, "/home/ada/.local/state/carrel"},
		{"a user with a state directory", 1000, map[string]string{"HOME": "/home/ada", "XDG_STATE_HOME": "/s"}, "/s/carrel"},
		{"a relative state directory is ignored", 1000, map[string]string{"HOME": "/home/ada", "XDG_STATE_HOME": "s"}, "/home/ada/.local/state/carrel"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := DefaultStateDir(c.uid, func(k string) string { return c.env[k] }); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("region: us-east-1\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := Parse(data); err == nil {
			_ = c.Validate()
		}
	})
}
