package policy

import (
	"net/netip"
	"strings"
)

// number is a decimal number, exactly: sign * digits * 10^exp, digits without trailing zeros. Binary floating point would call different
// numbers equal.
type number struct {
	digits   int64
	exp, len int // len is how many digits there are.
}

// maxDigits is how many digits a number can have and still be compared exactly in 64 bits.
const maxDigits = 18

// parseNumber reads 12, -1.5 or 1e3. NaN, infinities, hexadecimal and empty text are no numbers (IAM-3).
func parseNumber(s string) (number, bool) {
	var n number
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	seen, point := false, false
	i := 0
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' && !point {
			point = true
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		seen = true
		if !n.push(int64(c-'0'), point) {
			return n, false
		}
	}
	if !seen || strings.HasSuffix(s[:i], ".") || strings.HasPrefix(s, ".") {
		return n, false
	}
	exp, ok := exponent(s[i:])
	if n.digits == 0 {
		return number{}, ok
	}
	n.exp += exp
	for ; n.digits%10 == 0; n.digits /= 10 {
		n.exp++
		n.len--
	}
	if negative {
		n.digits = -n.digits
	}
	return n, ok
}

// push adds a digit; false when there are too many.
func (n *number) push(digit int64, fraction bool) bool {
	if fraction {
		n.exp--
	}
	if n.len > 0 || digit > 0 { // Leading zeros are no digits.
		n.len++
	}
	n.digits = n.digits*10 + digit
	return n.len <= maxDigits
}

// exponent reads what follows the digits: nothing, or e and up to four digits.
func exponent(s string) (int, bool) {
	if s == "" {
		return 0, true
	}
	sign := 1
	if s[0] != 'e' && s[0] != 'E' {
		return 0, false
	}
	s = s[1:]
	if strings.HasPrefix(s, "-") {
		sign = -1
	}
	if sign < 0 || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	v, ok := digits(s, 1, 4)
	return sign * v, ok
}

// compare is -1, 0 or 1.
func (n number) compare(m number) int {
	if a, b := sign(n.digits), sign(m.digits); a != b || a == 0 {
		return sign(int64(a - b))
	}
	s := sign(n.digits)
	if a, b := n.len+n.exp, m.len+m.exp; a != b { // The larger first digit decides.
		return s * sign(int64(a-b))
	}
	a, b := n.digits, m.digits
	for i := n.len; i < m.len; i++ {
		a *= 10
	}
	for i := m.len; i < n.len; i++ {
		b *= 10
	}
	return sign(a - b)
}

func sign(v int64) int {
	switch {
	case v < 0:
		return -1
	case v > 0:
		return 1
	}
	return 0
}

// digits reads a whole string of at least least and at most most digits.
func digits(s string, least, most int) (int, bool) {
	if len(s) < least || len(s) > most {
		return 0, false
	}
	v := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		v = v*10 + int(s[i]-'0')
	}
	return v, true
}

// instant is a point in time: seconds since 1970 and nanoseconds.
type instant struct {
	seconds int64
	nanos   int
}

func (t instant) compare(u instant) int {
	if c := sign(t.seconds - u.seconds); c != 0 {
		return c
	}
	return sign(int64(t.nanos - u.nanos))
}

// parseInstant reads seconds since 1970, or the forms of ISO 8601 that the W3C note has: 2026, 2026-11, 2026-11-26, 2026-11-26T10:00Z,
// with seconds, fractions of them, and an offset. A year alone is taken for seconds, as AWS does; without a zone the time is UTC.
func parseInstant(s string) (instant, bool) {
	if v, ok := digits(s, 1, 18); ok {
		return instant{seconds: int64(v)}, true
	}
	date, clock, hasClock := cutByte(s, 'T', 't')
	days, ok := parseDate(date, hasClock)
	if !ok || !hasClock {
		return instant{seconds: days * 86400}, ok
	}
	t, ok := parseClock(clock)
	t.seconds += days * 86400
	return t, ok
}

func cutByte(s string, a, b byte) (string, string, bool) {
	for i := range len(s) {
		if s[i] == a || s[i] == b {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// parseDate gives days since 1970. whole asks for a date with a day in it.
func parseDate(s string, whole bool) (int64, bool) {
	if len(s) != 10 && (whole || len(s) != 7) {
		return 0, false
	}
	year, ok1 := digits(s[:4], 4, 4)
	month, ok2 := digits(s[5:7], 2, 2)
	day, ok3 := 1, true
	if len(s) == 10 {
		day, ok3 = digits(s[8:], 2, 2)
		ok3 = ok3 && s[7] == '-'
	}
	if !ok1 || !ok2 || !ok3 || s[4] != '-' || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, false
	}
	return daysSince1970(year, month, day), true
}

func daysIn(year, month int) int {
	leap := year%4 == 0 && (year%100 != 0 || year%400 == 0)
	if month == 2 && leap {
		return 29
	}
	return [...]int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
}

// daysSince1970 counts from the first of March of the year 0, so that the leap day is a year's last (Hinnant).
func daysSince1970(year, month, day int) int64 {
	if month < 3 {
		year--
		month += 12
	}
	if year < 0 { // January and February of the year 0 belong to an era before it.
		return daysSince1970(year+400, month, day) - 146097
	}
	return int64(365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719468)
}

// parseClock reads 10:00, 10:00:00 and 10:00:00.5, followed by Z, +01:00 or nothing.
func parseClock(s string) (instant, bool) {
	s, offset, ok := cutZone(s)
	if !ok || len(s) < 5 || s[2] != ':' {
		return instant{}, false
	}
	hour, ok1 := digits(s[:2], 2, 2)
	minute, ok2 := digits(s[3:5], 2, 2)
	second, nanos, ok3 := parseSeconds(s[5:])
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 59 {
		return instant{}, false
	}
	return instant{seconds: int64(hour*3600 + minute*60 + second - offset), nanos: nanos}, true
}

// cutZone takes the zone off and gives its offset in seconds.
func cutZone(s string) (string, int, bool) {
	if strings.HasSuffix(s, "Z") || strings.HasSuffix(s, "z") {
		return s[:len(s)-1], 0, true
	}
	at := len(s) - len("+00:00")
	if at < 0 || s[at] != '+' && s[at] != '-' {
		return s, 0, true
	}
	hours, ok1 := digits(s[at+1:at+3], 2, 2)
	minutes, ok2 := digits(s[at+4:], 2, 2)
	offset := hours*3600 + minutes*60
	if s[at] == '-' {
		offset = -offset
	}
	return s[:at], offset, ok1 && ok2 && s[at+3] == ':' && hours <= 23 && minutes <= 59
}

func parseSeconds(s string) (seconds, nanos int, ok bool) {
	if s == "" {
		return 0, 0, true
	}
	whole, fraction, hasFraction := cutByte(s[1:], '.', '.')
	seconds, ok = digits(whole, 2, 2)
	if ok = ok && s[0] == ':'; !hasFraction {
		return seconds, 0, ok
	}
	nanos, fine := digits(fraction, 1, 9)
	for i := len(fraction); i < 9; i++ {
		nanos *= 10
	}
	return seconds, nanos, ok && fine
}

// parseRange reads a range of addresses in a policy; a bare address is a range of one. Host bits are masked. An IPv4 address written as
// IPv6 is IPv4; one with a zone belongs to one host's interfaces and is refused (IAM-3).
func parseRange(s string) (netip.Prefix, bool) {
	if addr, ok := parseAddr(s); ok {
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, false
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return p, false
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// parseAddr reads the address of a request.
func parseAddr(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s)
	return addr.Unmap(), err == nil && addr.Zone() == ""
}

// parseBool reads true and false in any case (IAM-3).
func parseBool(s string) (value, ok bool) {
	return strings.EqualFold(s, "true"), strings.EqualFold(s, "true") || strings.EqualFold(s, "false")
}
