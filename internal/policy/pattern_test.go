package policy

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// TestWildcards: reference 5.3, IAM-1.
func TestWildcards(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "a", true}, {"a", "A", false}, {"*", "", true}, {"*", "a:b/c", true}, {"?", "", false}, {"?", "a", true}, {"?", "ab", false}, {"?", "é", true}, {"?", "😀", true}, {"??", "é", false},
		{"a*", "a", true}, {"a*", "ba", false}, {"*a", "ba", true}, {"*a", "ab", false}, {"a*b", "ab", true}, {"a*b", "aXb", true}, {"a*b", "aXbX", false}, {"ab*ba", "aba", false}, {"a*a", "a", false}, {"*a*", "bab", true}, {"*a*", "bb", false},
		{"**", "", true}, {"a**b", "ab", true}, {"*?", "", false}, {"*?", "é", true}, {"?*", "é", true}, {"*?*", "é", true}, {"*?*?", "é", false}, {"*?*?", "éa", true}, {"?*?", "é", false}, {"*??*", "é", false}, {"*?a*", "éa", true}, {"*a?*", "aé", true}, {"*a?b*c", "xaébyc", true},
		{"*a?c*", "abcac", true}, {"*a?c*", "aabc", true}, {"*ab?*", "aab", false}, {"*ab?*", "aabc", true}, {"a?c", "abc", true}, {"a?c", "ac", false}, {"a?c", "abbc", false}, {"a?", "a", false}, {"*a?c", "xxabc", true}, {"*a?c", "xxabd", false}, {"*a?c", "c", false}, {"*aa?", "aé", false},
		{"a.c", "abc", false}, {"[a]", "a", false}, {"a+", "aa", false}, {`\*`, "*", false}, {`\*`, `\x`, true}, {"a|b", "a", false}, {"^a$", "a", false}, {"(a)", "a", false}, {"%2a", "*", false}, {"a\x00*", "a", false},
		{"*é?", "éa", true}, {"*\u00e9*", "e\u0301", false}, {"?", "e\u0301", false},
	} {
		p, reason := parsePattern(c.pattern, true, false)
		if got := p.match(c.text, nil); reason != "" || got != c.want {
			t.Errorf("%q on %q: %v %s", c.pattern, c.text, got, reason)
		}
		if got := like(wild(c.pattern), c.text); got != c.want {
			t.Errorf("the literal evaluator on %q, %q: %v", c.pattern, c.text, got)
		}
	}
}

// TestLongWildcardsAreMatchedLikeByATable runs question marks over stretches of more than a machine word.
func TestLongWildcardsAreMatchedLikeByATable(t *testing.T) {
	d := newDice(11, nil)
	rounds := 4000
	if testing.Short() {
		rounds = 1500
	}
	matches := 0
	for range rounds {
		letters := []rune(d.of("ab", "aé", "a", "abé"))
		var text strings.Builder
		for range d.intn(300) {
			text.WriteRune(letters[d.intn(len(letters))])
		}
		// A pattern made of the text, so that it matches often.
		var pattern strings.Builder
		for i, c := range []rune(text.String()) {
			switch n := d.intn(200); {
			case n < 60:
				pattern.WriteByte('?')
			case n < 62, i == 0 && n < 150:
				pattern.WriteByte('*')
			case n == 199:
				pattern.WriteRune('b')
			default:
				pattern.WriteRune(c)
			}
		}
		if d.one(2) {
			pattern.WriteByte('*')
		}
		p, _ := parsePattern(pattern.String(), true, false)
		got, want := p.match(text.String(), nil), like(wild(pattern.String()), text.String())
		if got != want {
			t.Fatalf("%q on %q: %v", pattern.String(), text.String(), got)
		}
		if got {
			matches++
		}
	}
	if matches < rounds/10 || matches > rounds*9/10 {
		t.Errorf("%d of %d match: the test has lost its aim", matches, rounds)
	}
}

// TestHostileWildcardsTakeTheTimeOfTheirLetters: IAM-1, *a*a*a*b and 10,000 stars. Twice the text must not take much more than twice the time;
// an exponential or cubic matcher would not end, a quadratic one takes four times.
func TestHostileWildcardsTakeTheTimeOfTheirLetters(t *testing.T) {
	for _, p := range []string{strings.Repeat("*a", 5000) + "*b", strings.Repeat("*", 10000) + "b", strings.Repeat("*a?", 3000) + "*b", "*" + strings.Repeat("?", 63) + "b*", "*" + strings.Repeat("a?", 500) + "b*", "*" + strings.Repeat("a", 1000) + "b*", "a*" + strings.Repeat("a*", 1000) + "?b"} {
		pat, _ := parsePattern(p, true, false)
		took := func(text string) time.Duration {
			begin := time.Now()
			if pat.match(text, nil) {
				t.Fatalf("%.20s matches", p)
			}
			return time.Since(begin)
		}
		// The best of many: other work of the machine must not be taken for the matcher's.
		short, long := strings.Repeat("a", 20_000), strings.Repeat("a", 80_000)
		few, many := time.Hour, time.Hour
		for try := 0; try < 5 || try < 200 && many > 10*few; try++ {
			few, many = min(few, took(short)), min(many, took(long))
		}
		if many > 10*few {
			t.Errorf("%.20s: %v for 20,000 letters, %v for 80,000", p, few, many)
		}
	}
}

// TestVariables: reference 5.3, IAM-4.
func TestVariables(t *testing.T) {
	r := &Request{}
	for k, v := range map[string]string{"aws:username": "ada", "aws:PrincipalTag/star": "*", "aws:PrincipalTag/loop": "${aws:username}", "aws:PrincipalTag/mark": "?", "aws:TagKeys": "one", "aws:PrincipalTag/empty": ""} {
		r.Set(NewKey(k), v)
	}
	r.SetAll(NewKey("aws:PrincipalTag/two"), []string{"a", "b"})
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"${aws:username}", "ada", true}, {"${AWS:UserName}", "ada", true}, {"x${aws:username}y", "xaday", true}, {"${aws:username}${aws:username}", "adaada", true}, {"${aws:username}", "Ada", false}, {"*${aws:username}*", "my ada!", true},
		{"${aws:PrincipalTag/star}", "*", true}, {"${aws:PrincipalTag/star}", "anything", false}, {"${aws:PrincipalTag/mark}", "?", true}, {"${aws:PrincipalTag/mark}", "x", false}, {"${aws:PrincipalTag/loop}", "${aws:username}", true}, {"${aws:PrincipalTag/loop}", "ada", false},
		{"${*}", "*", true}, {"${*}", "x", false}, {"${?}", "?", true}, {"${?}", "x", false}, {"${$}{aws:username}", "${aws:username}", true}, {"a${*}*", "a*bc", true}, {"a${*}*", "abc", false}, {"$", "$", true}, {"$x", "$x", true}, {"x$", "x$", true}, {"${*}${aws:username}", "*ada", true},
		{"${aws:nobody, 'x'}", "x", true}, {"${aws:nobody,'x'}", "x", true}, {"${aws:nobody, ''}", "", true}, {"${aws:nobody, '*'}", "abc", false}, {"${aws:nobody, '*'}", "*", true}, {"${aws:username, 'x'}", "ada", true}, {"${aws:username, 'x'}", "x", false}, {"${aws:nobody, 'a, b'}", "a, b", true},
		{"${aws:TagKeys, 'x'}", "x", true}, {"${aws:TagKeys, 'x'}", "one", false}, {"${aws:PrincipalTag/two, 'x'}", "x", true}, {"${aws:PrincipalTag/empty}", "", true}, {"a${aws:PrincipalTag/empty}?", "ab", true},
	} {
		p, reason := parsePattern(c.pattern, true, true)
		if reason != "" || p.unresolved(r) != nil {
			t.Errorf("%s: %s %v", c.pattern, reason, p.unresolved(r))
		}
		if got := p.match(c.text, r); got != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.text, got)
		}
	}
	for pattern, want := range map[string]string{"${aws:nobody}": "aws:nobody", "${aws:TagKeys}": "aws:TagKeys", "${aws:PrincipalTag/two}": "aws:PrincipalTag/two", "${aws:username}${aws:Nobody}": "aws:Nobody"} {
		p, _ := parsePattern(pattern, true, true)
		if v := p.unresolved(r); v == nil || v.written != want {
			t.Errorf("%s: %v", pattern, v)
		}
	}
	for text, want := range map[string]bool{"${aws:username}": true, "ada": false, "${aws:xusername}": false} {
		p, _ := parsePattern("${aws:username}", true, false)
		if p.match(text, r) != want {
			t.Errorf("without variables, %s", text)
		}
	}
	if p, _ := parsePattern("${*}", true, false); !p.match("${anything}", r) {
		t.Error("without variables a star in braces is a wildcard in braces")
	}
	if p, _ := parsePattern("a*?", false, true); p.wild || !p.match("a*?", r) || p.match("abc", r) {
		t.Error("where there are no wildcards a star is a star")
	}
}

// TestSetsAreNoVariables: the keys that reference 5.4 calls multi-valued, whose sets may have one value.
func TestSetsAreNoVariables(t *testing.T) {
	keys := []string{"aws:TagKeys", "aws:CalledVia", "aws:PrincipalOrgPaths", "aws:PrincipalServiceNamesList", "aws:ResourceOrgPaths"}
	for _, k := range append(keys, "aws:PrincipalOrgID") {
		r := &Request{}
		r.Set(NewKey(k), "one")
		p, _ := parsePattern("${"+k+"}", true, true)
		if got, want := p.unresolved(r) == nil, k == "aws:PrincipalOrgID"; got != want {
			t.Errorf("%s: %v", k, got)
		}
	}
	if len(multiValued) != len(keys) {
		t.Errorf("%d keys hold sets", len(multiValued))
	}
}

// TestARNs: reference 5.3, segment by segment.
func TestARNs(t *testing.T) {
	const ws = "arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-1"
	for _, c := range []struct {
		pattern, arn string
		want         bool
	}{
		{"*", ws, true}, {"*", "*", true}, {ws, ws, true}, {ws, "*", false}, {ws, strings.ToUpper(ws), false}, {ws, ws + "2", false}, {ws, ws + "\x00", false}, {ws, strings.Replace(ws, "ws-1", "ws-\u0661", 1), false}, {ws, strings.Replace(ws, "workspace/", "workspace\u2215", 1), false},
		{"arn:aws:workspaces:*:*:workspace/*", ws, true}, {"arn:aws:workspaces:*:workspace/ws-1*", ws, false}, {"arn:aws:workspaces:eu*:*", ws, true}, {"arn:aws:workspaces:*", ws, true}, {"arn:aws:workspaces:us-*", ws, false}, {"arn:aws:workspaces:eu-central-1:12*", ws, true},
		{"arn:aws:workspaces:eu-central-1:*:directory/*", ws, false}, {"arn:*:workspaces:eu-central-1:123456789012:*", ws, true}, {"arn:aws:ds:eu-central-1:123456789012:*", ws, false}, {"arn:aws:workspaces:eu-central-1:12345678901?:workspace/ws-?", ws, true},
		{"arn:aws:s3:::b/*/c:d", "arn:aws:s3:::b/x:y/z/c:d", true}, {"arn:aws:s3:*:*:x", "arn:aws:s3:a:b:c:x", false}, {"arn:aws:s3:*:*:c?x", "arn:aws:s3:a:b:c:x", true}, {"arn:aws:ds:::x", "arn:aws:ds::x", false}, {"arn:aws:ds:::x", "urn:aws:ds:::x", false},
		{"arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-*", "arn:aws:workspaces:eu-central-1:123456789012:workspace/*", false},
		{"arn:aws:workspaces:eu-central-1:123456789012:workspace/*", "arn:aws:workspaces:eu-central-1:123456789012:workspace/*", true},
	} {
		r := &Request{Action: NewAction("a:b")}
		r.SetResource(c.arn)
		if got := must(t, Identity, with(`"Effect":"Allow","Action":"*","Resource":"`+c.pattern+`"`)).Evaluate(r, nil).Decision == Allowed; got != c.want {
			t.Errorf("%s on %s: %v", c.pattern, c.arn, got)
		}
		if got := must(t, Identity, with(`"Effect":"Allow","Action":"*","NotResource":"`+c.pattern+`"`)).Evaluate(r, nil).Decision == Allowed; got == c.want {
			t.Errorf("NotResource %s on %s: %v", c.pattern, c.arn, got)
		}
	}
	r := &Request{}
	r.SetResource("arn:aws:ds:a:b:c")
	r.SetResource("nonsense")
	if r.arn[5] != "" || r.isARN || r.Resource() != "nonsense" {
		t.Error("a request keeps the ARN it had before")
	}
}

// TestFolding: what strings.EqualFold calls equal has one spelling.
func TestFolding(t *testing.T) {
	for _, pair := range [][2]string{{"aws:UserName", "AWS:username"}, {"\u212a", "k"}, {"\u017f", "S"}, {"ÉÄ", "éä"}, {"Σς", "σΣ"}, {"\xff", "\ufffd"}, {"ǅ", "ǆ"}} {
		if fold(pair[0]) != fold(pair[1]) || NewKey(pair[0]) != NewKey(pair[1]) {
			t.Errorf("%q and %q fold to %q and %q", pair[0], pair[1], fold(pair[0]), fold(pair[1]))
		}
	}
	for _, pair := range [][2]string{{"a", "b"}, {"é", "e"}, {"ı", "i"}, {"[", "{"}, {"@", "`"}} {
		if fold(pair[0]) == fold(pair[1]) || NewKey(pair[0]) == NewKey(pair[1]) {
			t.Errorf("%q and %q fold alike", pair[0], pair[1])
		}
	}
	// Every letter with all that it folds to.
	for u := rune(0); u < 0x20000; u++ {
		if s := string(u); utf8.ValidRune(u) && !strings.EqualFold(s, fold(s)) {
			t.Fatalf("%q folds to %q", s, fold(s))
		}
	}
	if NewKey("aws:username").hash == NewKey("aws:userid").hash {
		t.Error("the hash of a key tells nothing")
	}
	if NewAction("iam:\u212a").folded == NewAction("iam:k").folded || NewAction("IAM:[Z").folded != "iam:[z" {
		t.Error("an action has letters of ASCII")
	}
}
