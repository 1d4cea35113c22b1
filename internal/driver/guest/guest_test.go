package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func good() Document {
	return Document{
		Version: Version, Hostname: "WSAMZN-1A2B3C4D", MachineID: "0123456789abcdef0123456789abcdef",
		User: User{Name: "ada", FullName: "Ada Lovelace", UID: UserID}, Home: Home{Serial: HomeSerial},
		Locale: "de_DE.UTF-8", Keyboard: Keyboard{Layout: "de", Variant: "nodeadkeys"}, TimeZone: "Europe/Berlin",
		Network: Network{MAC: "02:00:00:00:00:01"},
	}
}

func TestAGoodDocumentIsAccepted(t *testing.T) {
	d := good()
	if err := d.Fresh(nil, time.Unix(1_800_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	if err := (&Document{Version: Version, Hostname: "a", User: User{Name: "a", UID: UserID}}).Validate(); err != nil {
		t.Errorf("the least: %v", err)
	}
}

func TestADocumentTheGuestCouldNotUseIsRefusedWithTheFieldsName(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Document)
		says  string
	}{
		"of another version":                  {func(d *Document) { d.Version = 2 }, "version"},
		"a host name with a command in it":    {func(d *Document) { d.Hostname = "a;reboot" }, "hostname"},
		"a host name that ends in a dash":     {func(d *Document) { d.Hostname = "a-" }, "hostname"},
		"a machine id in capitals":            {func(d *Document) { d.MachineID = strings.Repeat("A", 32) }, "machine id"},
		"a machine id of zeros":               {func(d *Document) { d.MachineID = strings.Repeat("0", 32) }, "machine id"},
		"a boot id that is none":              {func(d *Document) { d.BootID = "x" }, "boot id"},
		"a short seed":                        {func(d *Document) { d.Seed = make([]byte, 31) }, "seed"},
		"root":                                {func(d *Document) { d.User.Name = "root" }, "user name"},
		"a user name with a slash":            {func(d *Document) { d.User.Name = "../etc" }, "user name"},
		"a full name that adds a field":       {func(d *Document) { d.User.FullName = "Ada:0:0" }, "full name"},
		"uid 0":                               {func(d *Document) { d.User.UID = 0 }, "uid"},
		"a serial number that is a path":      {func(d *Document) { d.Home.Serial = "../x" }, "serial"},
		"a locale that is a path":             {func(d *Document) { d.Locale = "../../x" }, "locale"},
		"a layout with an option in it":       {func(d *Document) { d.Keyboard.Layout = "de\" x" }, "layout"},
		"a time zone that leads out":          {func(d *Document) { d.TimeZone = "../../etc/shadow" }, "time zone"},
		"a MAC in capitals":                   {func(d *Document) { d.Network.MAC = "02:00:00:00:00:AA" }, "MAC"},
		"an SSH key of a type that is a path": {func(d *Document) { d.SSHHostKeys = []SSHHostKey{{Type: "../x"}} }, "SSH"},
	} {
		t.Run(name, func(t *testing.T) {
			d := good()
			c.spoil(&d)
			if err := d.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one about %q", err, c.says)
			}
			if _, err := Renew(context.Background(), runner{}, d); err == nil {
				t.Error("renewed")
			}
		})
	}
}

func TestAUserNameBecomesAUnixName(t *testing.T) {
	for in, want := range map[string]string{
		"ada": "ada", "Ada.Lovelace": "ada-lovelace", "ada@corp.example.com": "ada", "CORP\\ada": "corp-ada", "42": "u-42", "root": "u-root",
		"": "person", "...": "person", "Ünal": "nal", "a b": "a-b", "$(reboot)": "reboot", strings.Repeat("x", 64): strings.Repeat("x", 31),
	} {
		if got := UnixName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzUnixName(f *testing.F) {
	f.Add("ada")
	f.Fuzz(func(t *testing.T, s string) {
		d := good()
		d.User = User{Name: UnixName(s), FullName: FullName(s), UID: UserID}
		if err := d.Validate(); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}

// runner is a guest that answers what it was made to.
type runner struct {
	out  Outcome
	err  error
	seen *Command
}

func (r runner) Run(_ context.Context, c Command) (Outcome, error) {
	if r.seen != nil {
		*r.seen = Command{c.Path, c.Args, bytes.Clone(c.Input)}
	}
	return r.out, r.err
}

func TestRenewHandsTheDocumentOverOnStandardInput(t *testing.T) {
	var seen Command
	report, err := Renew(context.Background(), runner{out: Outcome{Stdout: []byte(`{"ok":true,"step":"done","hostname":"x","warnings":["w"]}`)}, seen: &seen}, good())
	if err != nil || report.Hostname != "x" || len(report.Warnings) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	var d Document
	if err := json.Unmarshal(seen.Input, &d); err != nil || d.User.Name != "ada" || seen.Path != renewPath {
		t.Errorf("%s %s: %v", seen.Path, seen.Input, err)
	}
}

func TestWhatTheGuestRefusesIsAnErrorWithItsWords(t *testing.T) {
	r := runner{out: Outcome{Code: 1, Stdout: []byte(`{"ok":false,"step":"home"}`), Stderr: []byte("no disk\x1b[31m with\nthat serial")}}
	_, err := Renew(context.Background(), r, good())
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), `"home"`) || !strings.Contains(err.Error(), "no disk[31m with that serial") {
		t.Errorf("%v", err)
	}
	_, err = Renew(context.Background(), runner{out: Outcome{Stdout: []byte("nonsense")}}, good())
	if !errors.Is(err, ErrRefused) {
		t.Errorf("nonsense: %v", err)
	}
	silent := errors.New("silent")
	if _, err = Renew(context.Background(), runner{err: silent}, good()); !errors.Is(err, silent) {
		t.Errorf("silent: %v", err)
	}
}

func TestVMM7EveryStartHasItsOwnBootIDAndSeed(t *testing.T) {
	a, b := good(), good()
	if err := errors.Join(a.Fresh(nil, time.Unix(1, 0)), b.Fresh(nil, time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	if a.BootID == b.BootID || bytes.Equal(a.Seed, b.Seed) || !uuid.MatchString(a.BootID) {
		t.Errorf("%s and %s", a.BootID, b.BootID)
	}
	if err := a.Fresh(strings.NewReader("short"), time.Unix(1, 0)); err == nil {
		t.Error("no randomness, and no error")
	}
}

func TestStateOfAGuest(t *testing.T) {
	s, err := Inspect(context.Background(), runner{out: Outcome{Stdout: []byte(`{"version":1,"x":true,"session":"up"}` + "\n")}})
	if err != nil || !s.X || s.Session != SessionUp {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"", "{}", `{"version":1,"session":"root"}`, `{"version":2,"session":"up"}`, strings.Repeat(" ", maxAnswer+1)} {
		if _, err := ParseState([]byte(bad)); err == nil {
			t.Errorf("%.20q accepted", bad)
		}
	}
}

func TestADigestIsOfWhatLasts(t *testing.T) {
	a, b := good(), good()
	if err := errors.Join(a.Fresh(nil, time.Unix(1, 0)), b.Fresh(nil, time.Unix(2, 0))); err != nil {
		t.Fatal(err)
	}
	if a.Digest() != b.Digest() || len(a.Digest()) != 64 || a.Time != 1 || a.Seed == nil {
		t.Errorf("%s and %s: two starts of one desktop; %+v", a.Digest(), b.Digest(), a)
	}
	b.TimeZone += "x"
	if a.Digest() == b.Digest() {
		t.Error("another time zone has the same digest")
	}
}

func TestAResumedGuestIsToldTheTimeAlone(t *testing.T) {
	var seen Command
	if err := SetTime(context.Background(), runner{seen: &seen}, time.Unix(1234, 5)); err != nil || seen.Path != datePath || !slices.Equal(seen.Args, []string{"-u", "-s", "@1234"}) || seen.Input != nil {
		t.Errorf("%+v, %v", seen, err)
	}
	if err := SetTime(context.Background(), runner{out: Outcome{Code: 1, Stderr: []byte("not permitted")}}, time.Now()); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "not permitted") {
		t.Errorf("%v", err)
	}
}

func TestARehearsalThatFailsSaysWhy(t *testing.T) {
	var seen Command
	if err := Rehearse(context.Background(), runner{seen: &seen}); err != nil || seen.Path != rehearsePath || seen.Input != nil {
		t.Errorf("%+v, %v", seen, err)
	}
	if err := Rehearse(context.Background(), runner{out: Outcome{Code: 1, Stderr: []byte("not in time")}}); !errors.Is(err, ErrNoSession) || !strings.Contains(err.Error(), "not in time") {
		t.Errorf("%v", err)
	}
	if err := Rehearse(context.Background(), runner{out: Outcome{Code: 2, Stderr: []byte("it does not end")}}); !errors.Is(err, ErrRefused) || errors.Is(err, ErrNoSession) {
		t.Errorf("%v", err)
	}
	silent := errors.New("silent")
	if err := Rehearse(context.Background(), runner{err: silent}); !errors.Is(err, silent) {
		t.Errorf("%v", err)
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(`{"ok":true,"step":"done","hostname":"x","machineId":"y","warnings":["a","b"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseReport(data)
		if err != nil {
			return
		}
		for _, s := range append([]string{r.Step, r.Hostname, r.MachineID, r.BootID}, r.Warnings...) {
			if len(s) > 300 || strings.ContainsAny(s, "\n\x00\x1b") || !utf8.ValidString(s) {
				t.Errorf("%q gets through", s)
			}
		}
	})
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"version":1,"x":true,"session":"up"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := ParseState(data); err == nil && s.Session != NoSession && s.Session != SessionStarting && s.Session != SessionUp {
			t.Errorf("session %q", s.Session)
		}
	})
}
