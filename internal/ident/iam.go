package ident

import (
	"fmt"
	"io"
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
