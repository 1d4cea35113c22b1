package iam

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"carrel/internal/state"
)

// A password is kept as "pbkdf2-sha256$600000$SALT$KEY", both in base64. A login profile has one salt for all its passwords, so that looking for a
// new one among 24 earlier ones costs one derivation and not 24: each takes a fifth of a second, which many callers could make into an outage.
const (
	passwordMethod = "pbkdf2-sha256"
	passwordRounds = 600_000
	saltBytes      = 16
	keyBytes       = 32
	// passwordsKept is how many earlier passwords a policy can ask to be remembered at most (passwordReusePreventionType).
	passwordsKept = 24
)

// newSalt begins the hashes of a login profile.
func (s *Service) newSalt() (string, error) {
	salt := make([]byte, saltBytes)
	if _, err := io.ReadFull(s.Rand, salt); err != nil {
		return "", fmt.Errorf("iam: draw a salt: %w", err)
	}
	rounds := s.PasswordRounds
	if rounds == 0 {
		rounds = passwordRounds
	}
	return passwordMethod + "$" + strconv.Itoa(rounds) + "$" + base64.RawStdEncoding.EncodeToString(salt), nil
}

// saltOf is how a kept password begins, all but its key.
func saltOf(hash state.Secret) string {
	text := hash.Reveal()
	return text[:max(0, strings.LastIndexByte(text, '$'))]
}

// hash is a password as it is kept. One is derived at a time: they shall not take all processors.
func (s *Service) hash(ctx context.Context, salt, password string) (state.Secret, error) {
	part := strings.Split(salt, "$")
	if len(part) != 3 || part[0] != passwordMethod {
		return "", fmt.Errorf("iam: a password is kept in a way that is not known")
	}
	rounds, err := strconv.Atoi(part[1])
	if err != nil || rounds < 1 {
		return "", fmt.Errorf("iam: a password is kept with %q rounds", part[1])
	}
	raw, err := base64.RawStdEncoding.DecodeString(part[2])
	if err != nil {
		return "", fmt.Errorf("iam: a password is kept with a salt that cannot be read")
	}
	s.hashing.Lock()
	defer s.hashing.Unlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	key, err := pbkdf2.Key(sha256.New, password, raw, rounds, keyBytes)
	if err != nil {
		return "", fmt.Errorf("iam: derive a password's key: %w", err)
	}
	return state.Secret(salt + "$" + base64.RawStdEncoding.EncodeToString(key)), nil
}

func sameHash(a, b state.Secret) bool {
	return subtle.ConstantTimeCompare([]byte(a.Reveal()), []byte(b.Reveal())) == 1
}

// verify tells whether password is the login profile's.
func (s *Service) verify(ctx context.Context, login *state.Login, password string) (bool, error) {
	shown, err := s.hash(ctx, saltOf(login.Hash), password)
	return err == nil && sameHash(shown, login.Hash), err
}

// remembered tells whether hash is among the last n passwords of login, the present one included.
func remembered(login *state.Login, hash state.Secret, n int) bool {
	found := n > 0 && sameHash(login.Hash, hash)
	for i, old := range login.History {
		if i < n-1 && sameHash(old, hash) {
			found = true
		}
	}
	return found
}

// symbols are the characters that a policy calls so (IAM User Guide, "Set an account password policy for IAM users").
const symbols = "!@#$%^&*()_+-=[]{}|'"

// passwordFaults says what is missing in a password, in AWS's words.
func passwordFaults(p *state.PasswordPolicy, password string) []string {
	var faults []string
	for _, rule := range []struct {
		asked bool
		of    string
		name  string
	}{
		{p.Upper, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "uppercase letter"}, {p.Lower, "abcdefghijklmnopqrstuvwxyz", "lowercase letter"},
		{p.Numbers, "0123456789", "number"}, {p.Symbols, symbols, "symbol"},
	} {
		if rule.asked && !strings.ContainsAny(password, rule.of) {
			faults = append(faults, "Password should have at least one "+rule.name)
		}
	}
	return faults
}

// checkPassword holds a password to the account's policy, or to AWS's where none is set: 8 characters, three of the four kinds, and not the
// account's own name.
func (s *Service) checkPassword(r state.Reader, password string) error {
	account := accountOf(r)
	p := account.Passwords
	if p != nil {
		faults := passwordFaults(p, password)
		if utf8.RuneCountInString(password) < p.MinLength {
			faults = append([]string{fmt.Sprintf("Password should have a minimum length of %d", p.MinLength)}, faults...)
		}
		if len(faults) > 0 {
			return passwordViolation("%s", strings.Join(faults, ", "))
		}
		return nil
	}
	const length, kinds = 8, 3
	if utf8.RuneCountInString(password) < length {
		return passwordViolation("Password should have a minimum length of %d", length)
	}
	faults := passwordFaults(&state.PasswordPolicy{Upper: true, Lower: true, Numbers: true, Symbols: true}, password)
	if missing := kinds - (4 - len(faults)); missing > 0 {
		return passwordViolation("Password should meet %d more of the following requirements: %s", missing, strings.Join(faults, ", "))
	}
	if strings.EqualFold(password, account.Alias) || password == s.AccountID {
		return passwordViolation("Password should not be the name of the account")
	}
	return nil
}
