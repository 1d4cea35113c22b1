package app

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carrel/internal/config"
)

func TestPrepareDir(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, dir string)
		// want is a part of the error, empty for none.
		want string
	}{
		{"one that does not exist is made for the owner alone", func(*testing.T, string) {}, ""},
		{"an empty one is taken", func(t *testing.T, d string) { mkdir(t, d, 0o700) }, ""},
		{"an empty one that others may read is closed to them", func(t *testing.T, d string) { mkdir(t, d, 0o755) }, ""},
		{"one of ours is taken", func(t *testing.T, d string) { mkdir(t, d, 0o700); mkdir(t, d+"/etcd", 0o700); write(t, d+"/notes.txt") }, ""},
		{"a file system of its own is taken", func(t *testing.T, d string) { mkdir(t, d, 0o700); mkdir(t, d+"/lost+found", 0o700) }, ""},
		{"one of ours that others may read is refused", func(t *testing.T, d string) { mkdir(t, d, 0o750); mkdir(t, d+"/etcd", 0o700) }, "chmod 700 "},
		{"somebody's files are refused", func(t *testing.T, d string) { mkdir(t, d, 0o700); write(t, d+"/thesis.tex") }, "thesis.tex"},
		{"a file is refused", func(t *testing.T, d string) { write(t, d) }, "not a directory"},
		{"a link to nowhere is refused", func(t *testing.T, d string) {
			if err := os.Symlink("/nonexistent/carrel", d); err != nil {
				t.Fatal(err)
			}
		}, "state directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			c.make(t, dir)
			err := prepareDir(dir)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%v %v", info.Mode(), err)
			}
		})
	}
}

func mkdir(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestServeSaysWhatIsWrongBeforeItMakesAnything(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		name, want string
		change     func(*config.Config)
	}{
		{"the API's port is taken", "--api-addr", func(c *config.Config) { c.API.Address = taken.Addr().String() }},
		{"the portal's port is taken", "--portal-addr", func(c *config.Config) { c.Portal.Address = taken.Addr().String() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := &config.Config{Simulate: true, State: config.State{Dir: filepath.Join(t.TempDir(), "state")}}
			conf.API.Address, conf.Portal.Address, conf.Metrics.Address = "127.0.0.1:0", "127.0.0.1:0", config.MetricsOff
			c.change(conf)
			conf.Complete()
			err := Serve(context.Background(), conf, Process{Stdout: io.Discard, Stderr: io.Discard})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v", err)
			}
			if left, _ := os.ReadDir(conf.State.Dir); len(left) > 0 {
				t.Errorf("it made %v", left)
			}
		})
	}
}
