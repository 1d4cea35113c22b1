package ident

import (
	b32 "encoding/base32"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
)

// UserID names an IAM user (its unique id): "AIDAJQABLZS4A3QDU576Q".
type UserID string

// ParseUserID checks s.
func ParseUserID(s string) (UserID, error) {
	if !check(s, "AIDA", base32, size{17, 17}) {
		return "", fmt.Errorf("%q is not the id of an IAM user (its unique id) (like AIDAJQABLZS4A3QDU576Q)", s)
	}
	return UserID(s), nil
}

// NewUserID makes a random one from r.
func NewUserID(r io.Reader) UserID { return UserID("AIDA" + draw(r, base32, 17)) }

// AccessKeyID names a long-term access key: "AKIAIOSFODNN7EXAMPLE".
type AccessKeyID string

// ParseAccessKeyID checks s.
func ParseAccessKeyID(s string) (AccessKeyID, error) {
	if !check(s, "AKIA", base32, size{16, 16}) {
		return "", fmt.Errorf("%q is not the id of a long-term access key (like AKIAIOSFODNN7EXAMPLE)", s)
	}
	return AccessKeyID(s), nil
}

// NewAccessKeyID makes a random one from r.
func NewAccessKeyID(r io.Reader) AccessKeyID { return AccessKeyID("AKIA" + draw(r, base32, 16)) }

// GroupID names an IAM group (its unique id): "AGPAI23HZ27SI6FQMGNQ2".
type GroupID string

// ParseGroupID checks s.
func ParseGroupID(s string) (GroupID, error) {
	if !check(s, "AGPA", base32, size{17, 17}) {
		return "", fmt.Errorf("%q is not the id of an IAM group (its unique id) (like AGPAI23HZ27SI6FQMGNQ2)", s)
	}
	return GroupID(s), nil
}

// NewGroupID makes a random one from r.
func NewGroupID(r io.Reader) GroupID { return GroupID("AGPA" + draw(r, base32, 17)) }

// RoleID names an IAM role (its unique id): "AROADBQP57FF2AEXAMPLE".
type RoleID string

// ParseRoleID checks s.
func ParseRoleID(s string) (RoleID, error) {
	if !check(s, "AROA", base32, size{17, 17}) {
		return "", fmt.Errorf("%q is not the id of an IAM role (its unique id) (like AROADBQP57FF2AEXAMPLE)", s)
	}
	return RoleID(s), nil
}

// NewRoleID makes a random one from r.
func NewRoleID(r io.Reader) RoleID { return RoleID("AROA" + draw(r, base32, 17)) }

// PolicyID names a managed policy (its unique id): "ANPAGJ4EXAMPLE4EXAMPL".
type PolicyID string

// ParsePolicyID checks s.
func ParsePolicyID(s string) (PolicyID, error) {
	if !check(s, "ANPA", base32, size{17, 17}) {
		return "", fmt.Errorf("%q is not the id of a managed policy (its unique id) (like ANPAGJ4EXAMPLE4EXAMPL)", s)
	}
	return PolicyID(s), nil
}

// NewPolicyID makes a random one from r.
func NewPolicyID(r io.Reader) PolicyID { return PolicyID("ANPA" + draw(r, base32, 17)) }

// InstanceProfileID names an instance profile (its unique id): "AIPAD5ARO2C5EXAMPLE3G".
type InstanceProfileID string

// ParseInstanceProfileID checks s.
func ParseInstanceProfileID(s string) (InstanceProfileID, error) {
	if !check(s, "AIPA", base32, size{17, 17}) {
		return "", fmt.Errorf("%q is not the id of an instance profile (its unique id) (like AIPAD5ARO2C5EXAMPLE3G)", s)
	}
	return InstanceProfileID(s), nil
}

// NewInstanceProfileID makes a random one from r.
func NewInstanceProfileID(r io.Reader) InstanceProfileID {
	return InstanceProfileID("AIPA" + draw(r, base32, 17))
}

// SessionKeyID names a temporary access key: "ASIAIOSFODNN7EXAMPLE".
type SessionKeyID string

// ParseSessionKeyID checks s.
func ParseSessionKeyID(s string) (SessionKeyID, error) {
	if !check(s, "ASIA", base32, size{16, 16}) {
		return "", fmt.Errorf("%q is not the id of a temporary access key (like ASIAIOSFODNN7EXAMPLE)", s)
	}
	return SessionKeyID(s), nil
}

// NewSessionKeyID makes a random one from r.
func NewSessionKeyID(r io.Reader) SessionKeyID { return SessionKeyID("ASIA" + draw(r, base32, 16)) }

// The id of a key names its account, as AWS's have done since 2019: of its 80 bits the first is set and the next 40 are the account's number.
const accountShift, accountMask = 7, 1<<40 - 1

// NewSessionKeyOf makes one that names its account, of 12 digits. The rest is random from r: it tells keys apart, and no more depends on it.
func NewSessionKeyOf(r io.Reader, account string) SessionKeyID {
	number, err := strconv.ParseUint(account, 10, 40)
	if err != nil {
		panic(fmt.Sprintf("ident: %q is not an account", account))
	}
	random := NewSessionKeyID(r)
	raw, _ := words32.DecodeString(string(random[4:])) // what draw made
	var head [8]byte
	copy(head[2:], raw)
	low := binary.BigEndian.Uint64(head[:]) & (1<<accountShift - 1)
	binary.BigEndian.PutUint64(head[:], 1<<47|number<<accountShift|low)
	copy(raw, head[2:])
	return SessionKeyID("ASIA" + words32.EncodeToString(raw))
}

// Account is the account that the key names, false when it names none.
func (k SessionKeyID) Account() (string, bool) {
	if _, err := ParseSessionKeyID(string(k)); err != nil {
		return "", false
	}
	raw, err := words32.DecodeString(string(k[4:]))
	if err != nil {
		return "", false
	}
	var head [8]byte
	copy(head[2:], raw)
	bits := binary.BigEndian.Uint64(head[:])
	number := bits >> accountShift & accountMask
	if bits>>47 == 0 || number > 999_999_999_999 {
		return "", false
	}
	return fmt.Sprintf("%012d", number), true
}

var words32 = b32.StdEncoding.WithPadding(b32.NoPadding)
