package qmp

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// guest is a qemu-guest-agent that behaves: its parser starts anew at 0xFF, it knows files and programs.
type guest struct {
	t       testing.TB
	conn    net.Conn
	wg      sync.WaitGroup
	files   map[string][]byte
	open    map[int64]*openFile
	polls   int
	clock   int64
	hostile func(q request) (lines string, handled bool)
}

type openFile struct {
	path string
	at   int
}

func startGuest(t testing.TB) (*guest, *Agent) {
	ours, theirs := net.Pipe()
	g := &guest{t: t, conn: theirs, files: map[string][]byte{}, open: map[int64]*openFile{}}
	g.wg.Go(g.run)
	a := NewAgent(ours, 5*time.Second)
	t.Cleanup(func() { a.Close(); theirs.Close(); g.wg.Wait() })
	return g, a
}

func (g *guest) run() {
	r := bufio.NewReader(g.conn)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		line = line[bytes.LastIndexByte(line, 0xff)+1:]
		var q request
		if json.Unmarshal(line, &q) != nil {
			io.WriteString(g.conn, `{"error": {"class": "GenericError", "desc": "Invalid JSON syntax"}}`+"\n")
			continue
		}
		if g.hostile != nil {
			if lines, handled := g.hostile(q); handled {
				io.WriteString(g.conn, lines)
				continue
			}
		}
		answer, err := g.do(q)
		if err != nil {
			b, _ := json.Marshal(err.Error())
			fmt.Fprintf(g.conn, `{"error": {"class": "GenericError", "desc": %s}}`+"\n", b)
			continue
		}
		b, _ := json.Marshal(map[string]any{"return": answer})
		if q.Execute == "guest-sync-delimited" {
			b = append([]byte{0xff}, b...)
		}
		g.conn.Write(append(b, '\n'))
	}
}

func (g *guest) do(q request) (any, error) {
	var a struct {
		ID     uint64   `json:"id"`
		Time   int64    `json:"time"`
		Path   string   `json:"path"`
		Mode   string   `json:"mode"`
		Arg    []string `json:"arg"`
		Input  []byte   `json:"input-data"`
		Handle int64    `json:"handle"`
		Data   []byte   `json:"buf-b64"`
		Count  int      `json:"count"`
	}
	_ = json.Unmarshal(q.Arguments, &a)
	f := g.open[a.Handle]
	if strings.HasPrefix(q.Execute, "guest-file-") && q.Execute != "guest-file-open" && f == nil {
		return nil, errors.New("no such handle")
	}
	switch q.Execute {
	case "guest-sync-delimited":
		return a.ID, nil
	case "guest-ping", "guest-file-flush":
		return struct{}{}, nil
	case "guest-set-time":
		g.clock = a.Time
		return struct{}{}, nil
	case "guest-fsfreeze-freeze", "guest-fsfreeze-thaw":
		return 2, nil
	case "guest-exec":
		g.files["/run/said"] = []byte(strings.Join(append([]string{a.Path}, a.Arg...), "|") + "<" + string(a.Input))
		return map[string]int{"pid": 77}, nil
	case "guest-exec-status":
		if g.polls++; g.polls < 4 {
			return map[string]any{"exited": false}, nil
		}
		return map[string]any{"exited": true, "exitcode": 3, "out-data": base64.StdEncoding.EncodeToString(g.files["/run/said"]), "err-truncated": true}, nil
	case "guest-file-open":
		if _, there := g.files[a.Path]; a.Mode == "r" && !there {
			return nil, errors.New("no such file")
		}
		if a.Mode == "w" {
			g.files[a.Path] = nil
		}
		h := int64(len(g.open) + 1000)
		g.open[h] = &openFile{path: a.Path}
		return h, nil
	case "guest-file-write":
		n := min(len(a.Data), 30000) // Takes less than it is given, as it may.
		g.files[f.path] = append(g.files[f.path], a.Data[:n]...)
		return map[string]any{"count": n, "eof": false}, nil
	case "guest-file-read":
		rest := g.files[f.path][f.at:]
		n := min(len(rest), a.Count)
		f.at += n
		return map[string]any{"count": n, "buf-b64": rest[:n], "eof": n == len(rest)}, nil
	case "guest-file-close":
		delete(g.open, a.Handle)
		return struct{}{}, nil
	}
	return nil, errors.New("the command " + q.Execute + " has not been found")
}

func TestTheAgentRunsAProgramAndWaitsForItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a := startGuest(t)
		out, err := a.Run(t.Context(), Command{Path: "/usr/bin/x", Args: []string{"a b", `c"d`, "e\nf"}, Input: []byte("secret")})
		if err != nil || out.Code != 3 || string(out.Stdout) != "/usr/bin/x|a b|c\"d|e\nf<secret" || !out.Truncated {
			t.Errorf("%+v, %v", out, err)
		}
	})
}

func TestTheAgentWritesAndReadsFiles(t *testing.T) {
	g, a := startGuest(t)
	data := bytes.Repeat([]byte("0123456789\xff\n"), 10000)
	if err := a.WriteFile(t.Context(), "/etc/x", data); err != nil {
		t.Fatal(err)
	}
	if got, err := a.ReadFile(t.Context(), "/etc/x", len(data)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d of %d bytes, %v", len(got), len(data), err)
	}
	if _, err := a.ReadFile(t.Context(), "/etc/x", len(data)-1); !errors.Is(err, ErrProtocol) {
		t.Errorf("a file over the bound: %v", err)
	}
	var e *Error
	if _, err := a.ReadFile(t.Context(), "/none", 10); !errors.As(err, &e) {
		t.Errorf("a missing file: %v", err)
	}
	if err := a.WriteFile(t.Context(), "/empty", nil); err != nil {
		t.Error(err)
	}
	if err := a.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if len(g.open) != 0 {
		t.Errorf("%d files are left open", len(g.open))
	}
}

func TestTheAgentSetsTheClockAndFreezes(t *testing.T) {
	g, a := startGuest(t)
	now := time.Unix(1800000000, 123456789)
	if err := a.SetTime(t.Context(), now); err != nil || g.clock != now.UnixNano() {
		t.Errorf("%d, %v", g.clock, err)
	}
	if n, err := a.Freeze(t.Context()); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := a.Thaw(t.Context()); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestAnAgentThatWasSilentIsUsedAgainAndItsLateAnswerIsNobodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := startGuest(t)
		late := ""
		g.hostile = func(q request) (string, bool) {
			switch {
			case q.Execute == "guest-get-time" && late == "":
				late = `{"return": 42}` + "\n" + "\xff{\"return\": 17}\n{\"ret" // An old answer, an old synchronisation, half a line.
				return "", true
			case q.Execute == "guest-sync-delimited" && late != "" && late != "x":
				io.WriteString(g.conn, late)
				late = "x"
			}
			return "", false
		}
		if err := a.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := a.Execute(t.Context(), "guest-get-time", nil, nil); !errors.Is(err, ErrSilent) {
			t.Fatalf("%v", err)
		}
		var e *Error
		if err := a.Execute(t.Context(), "guest-unknown", nil, nil); !errors.As(err, &e) || !strings.Contains(e.Desc, "guest-unknown") {
			t.Errorf("got somebody else's answer: %v", err)
		}
	})
}

func TestAGuestThatIsOffIsSilentAndAHungUpPortIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		a := NewAgent(ours, time.Second)
		if err := a.Ping(t.Context()); !errors.Is(err, ErrSilent) {
			t.Errorf("off: %v", err)
		}
		theirs.Close()
		if err := a.Ping(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("hung up: %v", err)
		}
		a.Close()
	})
}

func TestAHostileGuestIsBounded(t *testing.T) {
	flood := strings.Repeat("x", maxLine+1<<16)
	for name, lines := range map[string]string{
		"a line without end":   flood,
		"nested too deep":      `{"return":` + strings.Repeat("[", 1000) + "\n",
		"not JSON":             "hello\n",
		"neither":              `{"QMP": {}}` + "\n",
		"the wrong type":       `{"return": {"exited": "maybe"}}` + "\n",
		"output of a megabyte": `{"return": {"exited": true, "out-data": "` + strings.Repeat("QUFB", maxLine/4) + `"}}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			g, a := startGuest(t)
			g.hostile = func(q request) (string, bool) { return lines, q.Execute == "guest-exec-status" }
			if _, err := a.Run(t.Context(), Command{Path: "/bin/true"}); !errors.Is(err, ErrProtocol) {
				t.Errorf("%v", err)
			}
			if err := a.Ping(t.Context()); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
	t.Run("a file that never ends", func(t *testing.T) {
		g, a := startGuest(t)
		g.files["/f"] = []byte("x")
		g.hostile = func(q request) (string, bool) {
			return `{"return": {"count": 1, "buf-b64": "", "eof": false}}` + "\n", q.Execute == "guest-file-read"
		}
		if _, err := a.ReadFile(t.Context(), "/f", 100); !errors.Is(err, ErrProtocol) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a file written backwards", func(t *testing.T) {
		g, a := startGuest(t)
		g.hostile = func(q request) (string, bool) {
			return `{"return": {"count": -5}}` + "\n", q.Execute == "guest-file-write"
		}
		if err := a.WriteFile(t.Context(), "/f", []byte("abc")); !errors.Is(err, ErrProtocol) {
			t.Errorf("%v", err)
		}
	})
}

// FuzzAgent lets a guest say anything, before and after the synchronisation.
func FuzzAgent(f *testing.F) {
	f.Add([]byte{}, []byte(`{"return": {}}`+"\n"))
	f.Add([]byte("\xff{\"return\": 1}\n"), []byte(`{"error": {"class": "GenericError", "desc": "x"}}`+"\n"))
	f.Add([]byte("\xff\xff{{{\n"), []byte("\xff\n"))
	f.Fuzz(func(t *testing.T, before, after []byte) {
		ours, theirs := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			defer theirs.Close()
			r := bufio.NewReader(theirs)
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			var q request
			var a struct{ ID uint64 }
			_ = json.Unmarshal(line[1:], &q)
			_ = json.Unmarshal(q.Arguments, &a)
			theirs.Write(before)
			fmt.Fprintf(theirs, "\n\xff{\"return\": %d}\n", a.ID)
			if _, err := r.ReadBytes('\n'); err != nil {
				return
			}
			theirs.Write(after)
		})
		agent := NewAgent(ours, 0)
		err := agent.Ping(t.Context())
		var refusal *Error
		if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrProtocol) && !errors.As(err, &refusal) {
			t.Errorf("an untyped error: %v", err)
		}
		agent.Close()
		wg.Wait()
	})
}
