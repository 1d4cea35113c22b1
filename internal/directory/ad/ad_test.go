package ad

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"carrel/internal/directory"
)

func pw(s string) directory.Password { return directory.NewPassword(s) }

func wantReason(t *testing.T, err error, want directory.Reason) {
	t.Helper()
	var refused *directory.LoginError
	if !errors.As(err, &refused) || refused.Reason != want {
		t.Errorf("%v, want a login refused: %s", err, want)
	}
}

func TestTheRightPasswordGivesTheUserAsTheDirectorySpellsThem(t *testing.T) {
	f := start(t, "corp.example.com")
	for _, netBIOS := range []string{"CORP", ""} {
		s := f.settings()
		s.NetBIOS = netBIOS
		f.set(func() { f.accounts[7].upn = "" })
		u, err := client(t, s).Authenticate(t.Context(), corp, "aDA", pw(password))
		if err != nil {
			t.Fatal(err)
		}
		want := directory.User{Name: "Ada", SID: "S-1-5-21-1-2-3-1025", DisplayName: "The Ada", Email: "Ada@example.com", Enabled: true}
		if u != want {
			t.Errorf("%+v", u)
		}
	}
}

func TestARefusedLoginSaysWhy(t *testing.T) {
	f := start(t, "corp.example.com")
	c := client(t, f.settings())
	for _, tc := range []struct {
		name, password string
		want           directory.Reason
	}{
		{"ada", "wrong", directory.ReasonWrong},
		{"nobody", password, directory.ReasonWrong},
		{"dis", password, directory.ReasonDisabled},
		{"dis", "wrong", directory.ReasonWrong},
		{"locked", password, directory.ReasonLocked},
		{"locked", "wrong", directory.ReasonLocked},
		{"must", password, directory.ReasonMustChange},
		{"must", "wrong", directory.ReasonWrong},
		{"expired", password, directory.ReasonExpired},
		{"expired", "wrong", directory.ReasonWrong},
		{"hours", password, directory.ReasonHours},
		{"ended", password, directory.ReasonAccount},
	} {
		t.Run(tc.name+" with "+tc.password, func(t *testing.T) {
			_, err := c.Authenticate(t.Context(), corp, tc.name, pw(tc.password))
			wantReason(t, err, tc.want)
		})
	}
	if _, err := c.Authenticate(t.Context(), "d-0000000000", "ada", pw(password)); !errors.Is(err, directory.ErrNoDirectory) {
		t.Errorf("another directory: %v", err)
	}
}

// ENU-1: the directory is asked the same whether there is such a user or not.
func TestENU1AnUnknownUserAndAWrongPasswordCostTheDirectoryTheSame(t *testing.T) {
	f := start(t, "corp.example.com")
	c := client(t, f.settings())
	var errs []string
	var counts [][3]int32
	for _, name := range []string{"ada", "nobody"} {
		before := [3]int32{f.connections.Load(), f.binds.Load(), f.searches.Load()}
		_, err := c.Authenticate(t.Context(), corp, name, pw("wrong"))
		errs = append(errs, err.Error())
		counts = append(counts, [3]int32{f.connections.Load() - before[0], f.binds.Load() - before[1], f.searches.Load() - before[2]})
	}
	if counts[0] != counts[1] || counts[0][1] != 1 || errs[0] != errs[1] {
		t.Errorf("%v, %v", counts, errs)
	}
}

// DIR-1: an empty bind password is an anonymous login that succeeds.
func TestDIR1AnEmptyPasswordNeverReachesTheDirectory(t *testing.T) {
	f := start(t, "corp.example.com")
	s := f.settings()
	c := client(t, s)
	for _, p := range []string{"", "\x00", password + "\x00", strings.Repeat("x", maxPassword+1)} {
		_, err := c.Authenticate(t.Context(), corp, "ada", pw(p))
		wantReason(t, err, directory.ReasonWrong)
		wantReason(t, c.ChangePassword(t.Context(), corp, "ada", pw(p), pw("Another-Horse-8")), directory.ReasonWrong)
		if err := c.ChangePassword(t.Context(), corp, "ada", pw(password), pw(p)); !errors.Is(err, directory.ErrWeakPassword) {
			t.Errorf("change to it: %v", err)
		}
	}
	s.Service = &ServiceAccount{Name: `CORP\connector`}
	if _, err := client(t, s).Lookup(t.Context(), corp, "ada"); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("lookup with a service account without a password: %v", err)
	}
	if n := f.binds.Load(); n != 0 {
		t.Errorf("%d binds reached the directory", n)
	}
}

// hostileNames are DIR-1's.
var hostileNames = []string{"", "*", "ad*", "ada)(objectClass=*", "*)(uid=*))(|(uid=*", `\2a`, "ada\x00", "ada\n", "a\u202eda", "a\u200bda", "ada ", " ada",
	"ada.", "ada@corp.example.com", `CORP\ada`, "CN=Ada,CN=Users,DC=corp", "ada;", "ada,", "ada+", `"ada"`, "ad\u00a0a", "\xff", "\ufffd", "aaaaaaaaaaaaaaaaaaaaa", "<SID=S-1-5-18>"}

func TestDIR1NamesThatMeanSomethingToADirectoryAreNoUsers(t *testing.T) {
	f := start(t, "corp.example.com")
	s := f.settings()
	s.Service = &ServiceAccount{Name: `CORP\connector`, Password: pw(password)}
	c := client(t, s)
	for _, name := range hostileNames {
		if CheckName(name) == nil {
			t.Errorf("%q passes for a name", name)
		}
		_, err := c.Authenticate(t.Context(), corp, name, pw(password))
		wantReason(t, err, directory.ReasonWrong)
		wantReason(t, c.ChangePassword(t.Context(), corp, name, pw(password), pw("Another-Horse-8")), directory.ReasonWrong)
		if _, err := c.Lookup(t.Context(), corp, name); !errors.Is(err, directory.ErrNoUser) {
			t.Errorf("lookup of %q: %v", name, err)
		}
	}
	if n := f.connections.Load(); n != 0 {
		t.Errorf("%d connections were made for them", n)
	}
	// What a name may have and a filter gives a meaning to is escaped.
	for _, name := range []string{"a(b)c", "ada)(cn=a", "o'brien", "José", "ada & co", "a#b", "machine$"} {
		if CheckName(strings.ReplaceAll(name, "=", "")) != nil {
			t.Errorf("%q is refused", name)
		}
		if _, err := c.Lookup(t.Context(), corp, strings.ReplaceAll(name, "=", "")); !errors.Is(err, directory.ErrNoUser) {
			t.Errorf("lookup of %q: %v", name, err)
		}
	}
}

// DIR-1: a user who has set ada's user principal name logs in as nobody but themselves.
func TestDIR1ABindThatTheDirectoryResolvesToAnotherUserIsRefused(t *testing.T) {
	f := start(t, "corp.example.com")
	for _, netBIOS := range []string{"CORP", ""} {
		s := f.settings()
		s.NetBIOS = netBIOS
		_, err := client(t, s).Authenticate(t.Context(), corp, "ada", pw("Mallory-Pass-1"))
		wantReason(t, err, directory.ReasonWrong)
	}
	if f.searches.Load() == 0 {
		t.Error("the bind as mallory was not even accepted: the test shows nothing")
	}
	f.set(func() { f.lookalike = true })
	_, err := client(t, f.settings()).Authenticate(t.Context(), corp, "mallory", pw("Mallory-Pass-1"))
	if err == nil {
		t.Error("two entries for one name were accepted")
	}
	f.set(func() { f.lookalike, f.noToken = false, true })
	if _, err := client(t, f.settings()).Authenticate(t.Context(), corp, "ada", pw(password)); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("a directory that does not say who has logged in: %v", err)
	}
}

func TestDIR1ALookAlikeOfANameIsNotTheUser(t *testing.T) {
	f := start(t, "corp.example.com")
	f.set(func() { f.lookalike = true })
	s := f.settings()
	s.Service = &ServiceAccount{Name: `CORP\connector`, Password: pw(password)}
	for _, name := range []string{"ａｄａ", "àda", "ad\u0430"} {
		if _, err := client(t, s).Lookup(t.Context(), corp, name); !errors.Is(err, directory.ErrNoUser) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestADirectoryThatMisbehavesIsUnavailableAndNotWrong(t *testing.T) {
	write := func(b string) func(io.Writer, int64) bool {
		return func(w io.Writer, _ int64) bool {
			_, _ = io.WriteString(w, b)
			return true
		}
	}
	for name, misbehave := range map[string]func(*fake){
		"it closes at once":            func(f *fake) { f.onConnect = func(net.Conn) bool { return true } },
		"it speaks without encryption": func(f *fake) { f.onConnect = plaintext },
		"it closes at the bind": func(f *fake) {
			f.onBind = func(w io.Writer, _ int64) bool { return w.(io.Closer).Close() == nil }
		},
		"it closes in the middle of its answer": func(f *fake) {
			f.onBind = func(w io.Writer, _ int64) bool {
				_, _ = io.WriteString(w, "\x30\x50\x02\x01\x01\x61")
				return w.(io.Closer).Close() == nil
			}
		},
		"it answers garbage": func(f *fake) { f.onBind = write(strings.Repeat("\xa5\x00\xff{", 4096)) },
		"it answers an empty message and closes": func(f *fake) {
			f.onBind = func(w io.Writer, _ int64) bool {
				_, _ = io.WriteString(w, "\x30\x00\x00\x00")
				return w.(io.Closer).Close() == nil
			}
		},
		"it claims to send 2 GB":                 func(f *fake) { f.onBind = write("\x30\x84\x7f\xff\xff\xf0\x04\x84\x7f\xff\xff\xe0") },
		"it claims 2 GB inside a small message":  func(f *fake) { f.onBind = write("\x30\x0c\x02\x01\x01\x61\x84\x7f\xff\xff\xe0\x00") },
		"it sends 10 MB":                         func(f *fake) { f.onBind = write("\x30\x84\x00\xa0\x00\x00" + strings.Repeat("x", 10<<20)) },
		"it nests without end":                   func(f *fake) { f.onBind = write(strings.Repeat("\x30\x80", 100000)) },
		"it sends answers without end":           func(f *fake) { f.onBind = func(w io.Writer, _ int64) bool { endless(w); return true } },
		"it refers to another server":            func(f *fake) { f.onBind = result(ldap.LDAPResultReferral, "", "ldaps://127.0.0.1:1/") },
		"it wants encryption that it has":        func(f *fake) { f.onBind = result(ldap.LDAPResultStrongAuthRequired, "00002028: TLS") },
		"it is busy":                             func(f *fake) { f.onBind = result(ldap.LDAPResultBusy, "busy") },
		"it fails inside":                        func(f *fake) { f.onBind = result(ldap.LDAPResultOther, "") },
		"it says nothing of the user's password": func(f *fake) { f.onBind = result(ldap.LDAPResultUnwillingToPerform, "") },
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, "corp.example.com")
			f.set(func() { misbehave(f) })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := client(t, f.settings()).Authenticate(t.Context(), corp, "ada", pw(password))
			runtime.ReadMemStats(&after)
			var refused *directory.LoginError
			if !errors.Is(err, directory.ErrUnavailable) || errors.As(err, &refused) {
				t.Errorf("%v", err)
			}
			if strings.Contains(fmt.Sprint(err), password) {
				t.Errorf("the password is in the error: %v", err)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 256<<20 {
				t.Errorf("it made us take %d MiB", grown>>20)
			}
		})
	}
}

func result(code int64, text string, referrals ...string) func(io.Writer, int64) bool {
	return func(w io.Writer, id int64) bool {
		reply(w, id, ldap.ApplicationBindResponse, code, text, referrals...)
		return true
	}
}

// plaintext answers a TLS hello as a server on port 389 would.
func plaintext(c net.Conn) bool {
	reply(c, 1, ldap.ApplicationBindResponse, 0, "welcome")
	return true
}

func TestAServerThatIsNotTheDirectorysIsNotBelieved(t *testing.T) {
	f := start(t, "other.example.com")
	if _, err := client(t, f.settings()).Authenticate(t.Context(), corp, "ada", pw(password)); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("certificate of another name: %v", err)
	}
	s := f.settings()
	s.Servers[0].Name = "other.example.com"
	if _, err := client(t, s).Authenticate(t.Context(), corp, "ada", pw(password)); err != nil {
		t.Errorf("certificate of the name that was given: %v", err)
	}
	_, s.RootCAs = certificate(t, "other.example.com")
	if _, err := client(t, s).Authenticate(t.Context(), corp, "ada", pw(password)); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("certificate of another authority: %v", err)
	}
	s = f.settings()
	s.RootCAs = nil
	if _, err := client(t, s).Authenticate(t.Context(), corp, "ada", pw(password)); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("no authority: %v", err)
	}
	f.set(func() { f.config.MaxVersion = 0x0302 })
	s = f.settings()
	s.Servers[0].Name = "other.example.com"
	if _, err := client(t, s).Authenticate(t.Context(), corp, "ada", pw(password)); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("TLS 1.1: %v", err)
	}
	if n := f.binds.Load(); n != 1 {
		t.Errorf("%d binds, want the one that was right", n)
	}
}

func TestAServerThatHangsIsGivenUp(t *testing.T) {
	t.Run("in its handshake, when its time is over", func(t *testing.T) {
		f := start(t, "corp.example.com")
		f.set(func() { f.onConnect = func(c net.Conn) bool { _, _ = io.Copy(io.Discard, c); return true } })
		s := f.settings()
		s.ConnectTimeout = 10 * time.Millisecond
		if _, err := client(t, s).Authenticate(t.Context(), corp, "ada", pw(password)); !errors.Is(err, directory.ErrUnavailable) {
			t.Error(err)
		}
	})
	t.Run("at the bind, when its time is over", func(t *testing.T) {
		f := start(t, "corp.example.com")
		f.set(func() { f.onBind = func(io.Writer, int64) bool { return true } })
		s := f.settings()
		s.Timeout = 500 * time.Millisecond
		if _, err := client(t, s).Authenticate(t.Context(), corp, "ada", pw(password)); !errors.Is(err, directory.ErrUnavailable) {
			t.Error(err)
		}
	})
	t.Run("at the bind, when the caller gives up", func(t *testing.T) {
		f := start(t, "corp.example.com")
		ctx, cancel := context.WithCancel(t.Context())
		f.set(func() { f.onBind = func(io.Writer, int64) bool { cancel(); return true } })
		if _, err := client(t, f.settings()).Authenticate(ctx, corp, "ada", pw(password)); !errors.Is(err, directory.ErrUnavailable) {
			t.Error(err)
		}
	})
}

func TestTheNextServerIsAskedWhenOneDoesNotAnswer(t *testing.T) {
	f := start(t, "corp.example.com")
	s := f.settings()
	s.Servers = []Server{{Address: "127.0.0.1:1"}, s.Servers[0]}
	var dialled []string
	s.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		if address == "127.0.0.1:1" {
			return nil, errors.New("no route to host")
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	c := client(t, s)
	for range 2 {
		if _, err := c.Authenticate(t.Context(), corp, "ada", pw(password)); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"127.0.0.1:1", f.address(), f.address()}; strings.Join(dialled, " ") != strings.Join(want, " ") {
		t.Errorf("asked %v, want %v", dialled, want)
	}
	// A refusal is an answer: nobody else is asked, or each guess would be counted once for each server.
	dialled = nil
	_, err := c.Authenticate(t.Context(), corp, "ada", pw("wrong"))
	if wantReason(t, err, directory.ReasonWrong); len(dialled) != 1 {
		t.Errorf("asked %v", dialled)
	}
}

func TestUsersAreLookedUpByTheServiceAccount(t *testing.T) {
	f := start(t, "corp.example.com")
	s := f.settings()
	if _, err := client(t, s).Lookup(t.Context(), corp, "ada"); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("without a service account: %v", err)
	}
	s.Service = &ServiceAccount{Name: `CORP\connector`, Password: pw(password)}
	c := client(t, s)
	u, err := c.Lookup(t.Context(), corp, "ADA")
	if err != nil || u.Name != "Ada" || u.SID != "S-1-5-21-1-2-3-1025" || !u.Enabled {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := c.Lookup(t.Context(), corp, "dis"); err != nil || u.Enabled {
		t.Errorf("disabled: %+v, %v", u, err)
	}
	if _, err := c.Lookup(t.Context(), corp, "nobody"); !errors.Is(err, directory.ErrNoUser) {
		t.Errorf("unknown: %v", err)
	}
	s.Service.Password = pw("wrong")
	if _, err := client(t, s).Lookup(t.Context(), corp, "ada"); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("a refused service account says something about the user: %v", err)
	}
}

func TestAPasswordIsChangedByWhoKnowsTheOldOne(t *testing.T) {
	f := start(t, "corp.example.com")
	s := f.settings()
	own := client(t, s)
	if err := own.ChangePassword(t.Context(), corp, "ada", pw(password), pw("Another-Horse-8")); err != nil {
		t.Error(err)
	}
	wantReason(t, own.ChangePassword(t.Context(), corp, "must", pw(password), pw("Another-Horse-8")), directory.ReasonMustChange)
	s.Service = &ServiceAccount{Name: `CORP\connector`, Password: pw(password)}
	c := client(t, s)
	for _, name := range []string{"must", "expired"} {
		if err := c.ChangePassword(t.Context(), corp, name, pw(password), pw("Another-Horse-8")); err != nil {
			t.Error(err)
		}
	}
	wantReason(t, c.ChangePassword(t.Context(), corp, "must", pw("wrong"), pw("Another-Horse-8")), directory.ReasonWrong)
	wantReason(t, c.ChangePassword(t.Context(), corp, "nobody", pw(password), pw("Another-Horse-8")), directory.ReasonWrong)
	err := c.ChangePassword(t.Context(), corp, "must", pw(password), pw("short"))
	if !errors.Is(err, directory.ErrWeakPassword) || !strings.Contains(err.Error(), "longer than 7") || strings.Contains(err.Error(), "0000052D") {
		t.Errorf("weak: %v", err)
	}
	if got := strings.Join(f.changed, " "); got != "Ada must expired" {
		t.Errorf("changed: %s", got)
	}
}

func TestASecurityIdentifierIsWrittenAsWindowsWritesIt(t *testing.T) {
	for want, b := range map[string][]byte{
		"S-1-5-18":                        {1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0},
		"S-1-5-21-1-4294967295-3-500":     {1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255, 3, 0, 0, 0, 244, 1, 0, 0},
		"S-1-0x010000000000-7":            {1, 1, 1, 0, 0, 0, 0, 0, 7, 0, 0, 0},
		"S-1-5":                           {1, 0, 0, 0, 0, 0, 0, 5},
		"":                                {1, 2, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0},
		"revision 2 is unknown":           {2, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0},
		"sixteen parts are one too many!": append([]byte{1, 16, 0, 0, 0, 0, 0, 5}, make([]byte, 64)...),
	} {
		got, err := FormatSID(b)
		if valid := strings.HasPrefix(want, "S-"); valid != (err == nil) || valid && got != want {
			t.Errorf("%v: %q, %v, want %q", b, got, err, want)
		}
	}
}

func TestTheNumberOfARefusalIsFound(t *testing.T) {
	for text, want := range map[string]string{
		refused("52e"):                    "52e",
		refused("0000052E"):               "52e",
		"x, data 775":                     "775",
		"no number":                       "",
		"x, data , v":                     "",
		"x, data zz":                      "",
		"x, data 123456789abcdef0, vefaa": "12345678",
	} {
		if got := dataCode(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{"0000052D: weak": "52d", "52D: weak": "", "0000052D": "", "": "", "00000056: x": "56"} {
		if got := windowsCode(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	// 525 tells a stranger that there is no such user.
	for _, code := range []string{"525", "52e", "ffff", ""} {
		if got := refusal(refused(code)); got != directory.ReasonWrong {
			t.Errorf("%s: %s", code, got)
		}
	}
}

func FuzzSID(f *testing.F) {
	f.Add([]byte{1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := FormatSID(b)
		if (err == nil) != strings.HasPrefix(s, "S-1-") {
			t.Errorf("%x: %q, %v", b, s, err)
		}
	})
}

func FuzzRefusalText(f *testing.F) {
	f.Add(refused("773"))
	f.Add("0000052D: Constraint violation - x")
	f.Fuzz(func(t *testing.T, text string) {
		if refusal(text) == "" {
			t.Error("no reason")
		}
		err := &ldap.Error{ResultCode: ldap.LDAPResultConstraintViolation, Err: errors.New(text)}
		if s := Text(err); strings.ContainsAny(s, "\n\r\x00\x1b") || len(s) > maxText {
			t.Errorf("%q", s)
		}
		if PasswordError(err) == nil {
			t.Error("a refusal became a success")
		}
	})
}

func FuzzName(f *testing.F) {
	for _, name := range append(hostileNames, "ada", "José", "o'brien", "a(b)c") {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) != nil {
			return
		}
		if strings.ContainsAny(name, "\x00\\*/@,;\"\n") || strings.TrimSpace(name) != name || len(name) == 0 || len(name) > 4*maxName {
			t.Errorf("%q passes for a name", name)
		}
		if packet, err := ldap.CompileFilter("(sAMAccountName=" + ldap.EscapeFilter(name) + ")"); err != nil || packet.Tag != ldap.FilterEqualityMatch {
			t.Errorf("%q makes another filter: %v", name, err)
		}
	})
}

func TestAnEntrySaysWhatEndsALogin(t *testing.T) {
	read := func(attributes map[string][]string) directory.User {
		attributes["sAMAccountName"], attributes["userAccountControl"] = []string{"ada"}, []string{"512"}
		attributes["objectSid"] = []string{string((&account{rid: 1}).sid())}
		u, err := User(ldap.NewEntry("CN=Ada", attributes))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	u := read(map[string][]string{"pwdLastSet": {"133000000000000000"}, "accountExpires": {"132223104000000001"}})
	if !u.PasswordSet.Equal(time.Date(2022, 6, 18, 4, 26, 40, 0, time.UTC)) || u.MustChange || !u.Expires.Equal(time.Date(2020, 1, 1, 0, 0, 0, 100, time.UTC)) {
		t.Errorf("%+v", u)
	}
	if u := read(map[string][]string{"pwdLastSet": {"0"}, "accountExpires": {"9223372036854775807"}}); !u.PasswordSet.IsZero() || !u.MustChange || !u.Expires.IsZero() {
		t.Errorf("must change, never expires: %+v", u)
	}
	for _, none := range []string{"", "x", "-1"} {
		if u := read(map[string][]string{"pwdLastSet": {none}, "accountExpires": {"0"}}); !u.PasswordSet.IsZero() || u.MustChange || !u.Expires.IsZero() {
			t.Errorf("%q: %+v", none, u)
		}
	}
}
