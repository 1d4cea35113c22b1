package directory

import "io"

// GeneratePassword gives a first password: 80 bits as people can type them, with what password policies want to see ("Kmtr-7xqp-wzbd-hn4c").
func GeneratePassword(random io.Reader) (string, error) {
	const letters = "abcdefghjkmnpqrstuvwxyz23456789"
	raw := make([]byte, 64)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", err
	}
	var out []byte
	for _, b := range raw {
		if b >= 248 { // The largest multiple of 31: every letter is as likely.
			continue
		}
		if n := len(out); n == 4 || n == 9 || n == 14 {
			out = append(out, '-')
		}
		if out = append(out, letters[b%31]); len(out) == 19 {
			break
		}
	}
	if len(out) < 19 {
		return GeneratePassword(random)
	}
	out[0] = 'K'
	out[18] = '2' + raw[63]%8
	return string(out), nil
}
