package shape

import "testing"

func TestPatternsMeanWhatJavaReads(t *testing.T) {
	const (
		password = `(?=^.{8,64}$)((?=.*\d)(?=.*[A-Z])(?=.*[a-z])|(?=.*\d)(?=.*[^A-Za-z0-9\s])(?=.*[a-z])|(?=.*[^A-Za-z0-9\s])(?=.*[A-Z])(?=.*[a-z])|(?=.*\d)(?=.*[A-Z])(?=.*[^A-Za-z0-9\s]))^.*`
		userName = `^(?!.*\\|.*"|.*\/|.*\[|.*\]|.*:|.*;|.*\||.*=|.*,|.*\+|.*\*|.*\?|.*<|.*>|.*@).*$`
		alias    = `^(?!D-|d-)([\da-zA-Z]+)([-]*[\da-zA-Z])*`
		account  = `^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$`
		group    = `^(\p{LD}|\p{Punct}| )+$`
		policy   = `[\u0009\u000A\u000D\u0020-\u00FF]+`
		arn      = `^[a-z]{0,1023}$`
	)
	for _, c := range []struct {
		name, pattern, value string
		want                 bool
	}{
		{"a password of three classes passes", password, "Passw0rd", true},
		{"a password of upper, digit and special passes", password, "PASSW0RD!", true},
		{"a password of two classes fails", password, "password1", false},
		{"a short password fails", password, "Pas0!", false},
		{"a password over 64 characters fails", password, "Passw0rd" + repeat("x", 57), false},
		{"a password with a newline fails", password, "Passw0rd\n1", false},
		{"a user name passes", userName, "ada.lovelace", true},
		{"an empty user name passes as in Java", userName, "", true},
		{"a user name with a slash fails", userName, "ada/x", false},
		{"a user name with an at sign fails", userName, "ada@x", false},
		{"an alias passes", alias, "corp-one", true},
		{"an alias like a directory id fails", alias, "d-corp", false},
		{"an alias of one d passes", alias, "d", true},
		{"an alias ending in a dash fails", alias, "corp-", false},
		{"an account alias passes", account, "my-account", true},
		{"an account alias with two dashes in a row fails", account, "my--account", false},
		{"an account alias ending in a dash fails", account, "my-account-", false},
		{"letters of any script, punctuation and spaces pass", group, "Büro Süd, 2.OG!", true},
		{"a control character fails", group, "a\tb", false},
		{"tab, newline and Latin-1 pass", policy, "{\t\"é\": 1}\r\n", true},
		{"a NUL fails", policy, "a\x00", false},
		{"a character over Latin-1 fails", policy, "€", false},
		{"1023 repetitions pass although RE2 counts to 1000", arn, repeat("a", 1023), true},
		{"1024 repetitions fail", arn, repeat("a", 1024), false},
		{"an unanchored pattern matches the whole value", `wsi-[0-9a-z]{9,63}$`, "x wsi-123456789", false},
		{"alternatives with anchors inside match the whole value", `^(d-[0-9a-f]{8,63}$)|(wsd-[0-9a-z]{8,63}$)`, "wsd-12345678", true},
		{"the dot stops at Java's line terminators", `.*`, "a\u2028b", false},
		{"the dot stops at a carriage return", `.+`, "a\rb", false},
		{"the dot is a character and not a byte", `^.{1,2}$`, "ää", true},
		{"white space holds the vertical tab", `[\s]`, "\v", true},
		{"no white space refuses the vertical tab", `\S+`, "a\v", false},
		{"a dash between classes stands for itself", `[\w+=/:,.@-]+`, "a-b", true},
		{"a trailing newline is not forgiven", `^[a-z]+$`, "abc\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := CompilePattern(c.pattern)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Match(c.value); got != c.want {
				t.Errorf("%q on %q: got %v", c.pattern, c.value, got)
			}
		})
	}
}

func TestUntranslatablePatternsAreRefused(t *testing.T) {
	for _, p := range []string{
		`(?=a)b`, `a*+`, `(?<n>a)`, `[a[b]]`, `[a&&b]`, `\bword`, `\1`, `\p{IsGreek}`, `a{5,3000}`, `\u12`, `[]a]`, `(a`, `a)`, `\`, `a{`, `[\S]`, `\Qa\E`,
	} {
		t.Run(p, func(t *testing.T) {
			if _, err := CompilePattern(p); err == nil {
				t.Error("it compiled")
			}
		})
	}
}

func repeat(s string, n int) string {
	out := make([]byte, 0, n)
	for range n {
		out = append(out, s...)
	}
	return string(out)
}
