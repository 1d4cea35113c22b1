package policy

import (
	"testing"
	"time"
)

func TestNumbers(t *testing.T) {
	// Rising, with those that are equal in one line.
	order := [][]string{{"-1e400"}, {"-123456789012345678"}, {"-123456789012345677"}, {"-100", "-1e2"}, {"-1.5", "-1.50", "-15e-1", "-0.15E1"}, {"-1"}, {"-0.01"}, {"-1e-400"}, {"0", "-0", "+0", "0.000", "0e9", "00", "-0.0e-5"}, {"1e-400"}, {"0.009"}, {"0.01", "1E-2", "1e-02"}, {"0.99"},
		{"1", "+1", "1.0", "01", "10e-1", "100e-2", "0.1e1", "0000000000000000000000001"}, {"1.00000000000000001"}, {"1.5"}, {"2"}, {"9.99"}, {"10", "1e1", "1.0e+1"}, {"11"}, {"99"}, {"100"}, {"123456789012345677"}, {"123456789012345678"}, {"9e17"}, {"1e18"}, {"1e400"}}
	for i, a := range order {
		for j, b := range order {
			for _, x := range a {
				for _, y := range b {
					n, ok1 := parseNumber(x)
					m, ok2 := parseNumber(y)
					if got, want := n.compare(m), sign(int64(i-j)); !ok1 || !ok2 || got != want {
						t.Errorf("%s (%+v) against %s (%+v): %d, not %d", x, n, y, m, got, want)
					}
				}
			}
		}
	}
	for _, bad := range []string{"", "-", "+", ".", "1.", ".5", "-.5", "e5", "1e", "1e+", "1e-", "1ee5", "1e5.0", "1.2.3", "0x10", "NaN", "Inf", "-inf", "1_000", "1,5", " 1", "1 ", "--1", "+-1", "1e12345", "1e+-5", "1234567890123456789", "0.1234567890123456789", "٣", "1f", "1d5", "1e٣"} {
		if n, ok := parseNumber(bad); ok {
			t.Errorf("%q is read as %+v", bad, n)
		}
	}
}

func TestInstants(t *testing.T) {
	for text, want := range map[string]string{
		"0": "1970-01-01T00:00:00Z", "1795687200": "2026-11-26T10:00:00Z", "2026": "1970-01-01T00:33:46Z", "2026-11": "2026-11-01T00:00:00Z", "2026-11-26": "2026-11-26T00:00:00Z", "2026-11-26T10:00Z": "2026-11-26T10:00:00Z",
		"2026-11-26T10:00:01Z": "2026-11-26T10:00:01Z", "2026-11-26t10:00:01z": "2026-11-26T10:00:01Z", "2026-11-26T10:00:01.5Z": "2026-11-26T10:00:01.5Z", "2026-11-26T10:00:01.123456789Z": "2026-11-26T10:00:01.123456789Z", "2026-11-26T10:00:01.000000001+00:00": "2026-11-26T10:00:01.000000001Z",
		"2026-11-26T10:00:00+01:30": "2026-11-26T08:30:00Z", "2026-11-26T10:00-05:00": "2026-11-26T15:00:00Z", "2026-11-26T10:00": "2026-11-26T10:00:00Z", "2026-11-26T23:59:59-23:59": "2026-11-27T23:58:59Z", "0000-01-01": "0000-01-01T00:00:00Z", "0000-02-29T00:00Z": "0000-02-29T00:00:00Z", "0000-03-01": "0000-03-01T00:00:00Z",
		"9999-12-31T23:59:59Z": "9999-12-31T23:59:59Z", "2024-02-29": "2024-02-29T00:00:00Z", "2000-02-29": "2000-02-29T00:00:00Z", "1969-12-31T23:59:59Z": "1969-12-31T23:59:59Z", "2025-06-30": "2025-06-30T00:00:00Z", "2026-01-31T00:00:59Z": "2026-01-31T00:00:59Z",
	} {
		when, err := time.Parse(time.RFC3339Nano, want)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := parseInstant(text); !ok || got.seconds != when.Unix() || got.nanos != when.Nanosecond() {
			t.Errorf("%s: %+v %v, not %d", text, got, ok, when.Unix())
		}
	}
	for year := 0; year < 10000; year += 7 {
		day := time.Date(year, 2, 27, 0, 0, 0, 0, time.UTC)
		for range 40 {
			if got, ok := parseInstant(day.Format("2006-01-02")); !ok || got.seconds != day.Unix() {
				t.Fatalf("%v: %v %v", day, got, ok)
			}
			day = day.Add(8 * 24 * time.Hour)
		}
	}
	for _, bad := range []string{"", "now", "-1", "1.5", "1e9", "+5", "1234567890123456789", "2026-1", "2026-11-2", "2026-11-26T", "2026-11T10:00Z", "2026T10:00Z", "2026-00", "2026-13", "2026-11-00", "2026-11-31", "2025-02-29", "1900-02-29", "2026/11/26", "2026-11/26", "2026x11", "2026-11-26T24:00Z", "2026-11-26T10:60Z",
		"2026-11-26T10:00:60Z", "2026-11-26T1:00Z", "2026-11-26T10Z", "2026-11-26T10:0Z", "2026-11-26T10x00Z", "2026-11-26T10:00x01Z", "2026-11-26T10:00:1Z", "2026-11-26T10:00:01.Z", "2026-11-26T10:00:01.1234567890Z", "2026-11-26T10:00:01,5Z", "2026-11-26T10:00:01.5xZ", "2026-11-26T10:00:00+1:00",
		"2026-11-26T10:00:00+24:00", "2026-11-26T10:00:00+01:60", "2026-11-26T10:00:00+01.00", "2026-11-26T10:00:00+01", "2026-11-26T10:00:00+0x:00", "2026-11-26T10:00:00+00:0x", "2026-11-26T10:00:00ZZ", "2026-11-26 10:00:00Z", "20261126T100000Z", "99999-01-01", "x026-11", "2026-x1", "2026-11-x6", "2026-11-26Tx0:00", "2026-11-26T10:x0", "T10:00Z", "2026-11-26T+01:00", "2026-11-26T:00:00"} {
		if got, ok := parseInstant(bad); ok {
			t.Errorf("%q is read as %+v", bad, got)
		}
	}
	a, _ := parseInstant("2026-11-26T10:00:00.1Z")
	b, _ := parseInstant("2026-11-26T10:00:00.2Z")
	c, _ := parseInstant("2026-11-26T10:00:01Z")
	if a.compare(b) != -1 || b.compare(a) != 1 || a.compare(a) != 0 || b.compare(c) != -1 || c.compare(a) != 1 {
		t.Error("fractions of a second are lost")
	}
}

// TestAddresses: IAM-3.
func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		want bool
		rng  string
		in   []string
		out  []string
	}{
		{true, "10.0.0.0/8", []string{"10.0.0.0", "10.255.255.255", "::ffff:10.1.1.1"}, []string{"11.0.0.0", "9.255.255.255", "::10.1.1.1", "10.1.1", "010.1.1.1", "10.1.1.1/32", " 10.1.1.1", "", "0xa.1.1.1", "10.1.1.1:80"}},
		{true, "10.1.2.3/8", []string{"10.200.0.1"}, []string{"11.1.2.3"}},
		{true, "10.1.2.3", []string{"10.1.2.3"}, []string{"10.1.2.4"}},
		{true, "0.0.0.0/0", []string{"1.2.3.4", "255.255.255.255"}, []string{"::1", "2001:db8::1"}},
		{true, "::/0", []string{"::1", "2001:db8::1"}, []string{"1.2.3.4", "::ffff:1.2.3.4"}},
		{true, "2001:db8::/32", []string{"2001:db8::1", "2001:0DB8:0:0:0:0:0:1"}, []string{"2001:db9::1", "2001:db8::1%eth0"}},
		{true, "2001:db8::1", []string{"2001:db8::1"}, []string{"2001:db8::2"}},
		{true, "::ffff:10.0.0.0/104", []string{"10.1.1.1", "::ffff:10.1.1.1"}, []string{"11.0.0.0"}},
		{true, "::ffff:10.0.0.1", []string{"10.0.0.1"}, []string{"10.0.0.2"}},
		{true, "::ffff:0.0.0.0/96", []string{"10.0.0.1"}, []string{"::1"}},
		{false, "::ffff:0.0.0.0/95", nil, nil}, {false, "10.0.0.0/33", nil, nil}, {false, "10.0.0.0/-1", nil, nil}, {false, "10.0.0.0/08", nil, nil}, {false, "10.0.0/8", nil, nil}, {false, "fe80::1%eth0", nil, nil}, {false, "fe80::1%eth0/64", nil, nil}, {false, "::ffff:10.0.0.1%eth0", nil, nil}, {false, "", nil, nil}, {false, "10.0.0.0/", nil, nil}, {false, "010.0.0.0/8", nil, nil}, {false, "10.*", nil, nil},
	} {
		p, ok := parseRange(c.rng)
		if ok != c.want {
			t.Errorf("%s: %v", c.rng, ok)
		}
		for i, list := range [][]string{c.in, c.out} {
			for _, text := range list {
				addr, ok := parseAddr(text)
				if got := ok && p.Contains(addr); got != (i == 0) {
					t.Errorf("%s in %s: %v", text, c.rng, got)
				}
			}
		}
	}
}

func TestBooleans(t *testing.T) {
	for text, want := range map[string][2]bool{"true": {true, true}, "TRUE": {true, true}, "false": {false, true}, "False": {false, true}, "": {}, "1": {}, "yes": {}, "truе": {}} {
		if v, ok := parseBool(text); v != want[0] || ok != want[1] {
			t.Errorf("%q: %v %v", text, v, ok)
		}
	}
}
