package awsproto

import (
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// The timestampFormat values of the AWS service models.
const (
	unixTimestamp = "unixTimestamp"
	iso8601       = "iso8601"
	rfc822        = "rfc822"
)

// Seconds of the years 1 to 9999: outside them RFC 3339 has no text for a time, so we take none in.
const (
	minUnix = -62135596800
	maxUnix = 253402300799
)

// setTime reads s in the format of the model, or in fallback where the model is silent.
func setTime(p *plan, v reflect.Value, s, fallback string) *docError {
	var t time.Time
	var err error
	switch or(p.shape.TimeFormat, fallback) {
	case unixTimestamp:
		var ok bool
		if t, ok = parseEpoch(s); !ok {
			return malformed("Invalid timestamp")
		}
	case rfc822:
		t, err = http.ParseTime(s)
	default:
		t, err = time.Parse(time.RFC3339, s)
	}
	if err != nil || t.Unix() < minUnix || t.Unix() > maxUnix {
		return malformed("Invalid timestamp")
	}
	v.Set(reflect.ValueOf(t.UTC()))
	return nil
}

// parseEpoch reads seconds since 1970 with an optional fraction, exactly to the nanosecond; with an exponent, as a double.
func parseEpoch(s string) (time.Time, bool) {
	if !isNumber(s) {
		return time.Time{}, false
	}
	if strings.ContainsAny(s, "eE") {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || f < minUnix || f > maxUnix {
			return time.Time{}, false
		}
		return time.UnixMilli(int64(f * 1000)), true
	}
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || sec < minUnix || sec > maxUnix {
		return time.Time{}, false
	}
	if len(frac) > 9 {
		frac = frac[:9]
	}
	nsec, err := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
	if err != nil || nsec < 0 {
		return time.Time{}, false
	}
	if strings.HasPrefix(s, "-") {
		nsec = -nsec
	}
	return time.Unix(sec, nsec), true
}

// appendTime writes t in one of the formats. iso8601 has whole seconds, isoMillis (ec2's) three digits more, unixTimestamp
// milliseconds where there are any.
func appendTime(b []byte, t time.Time, format string) []byte {
	switch format {
	case unixTimestamp:
		return appendEpoch(b, t.UnixMilli())
	case rfc822:
		return t.UTC().AppendFormat(b, http.TimeFormat)
	case isoMillis:
		return t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	}
	return t.UTC().AppendFormat(b, "2006-01-02T15:04:05Z")
}

// isoMillis is no model's word: it is how EC2 spells iso8601.
const isoMillis = "iso8601ms"

func appendEpoch(b []byte, ms int64) []byte {
	if ms < 0 {
		b = append(b, '-')
		ms = -ms
	}
	b = strconv.AppendInt(b, ms/1000, 10)
	if ms %= 1000; ms != 0 {
		b = append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	}
	return b
}
