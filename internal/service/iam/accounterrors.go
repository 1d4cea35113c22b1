package iam

import (
	"fmt"

	"carrel/internal/awserr"
)

func noSuchEntity(format string, args ...any) error {
	return awserr.Model("NoSuchEntity", format, args...).WithStatus(404)
}

func alreadyExists(format string, args ...any) error {
	return awserr.Model("EntityAlreadyExists", format, args...).WithStatus(409)
}

func passwordViolation(format string, args ...any) error {
	return awserr.Model("PasswordPolicyViolation", format, args...).WithStatus(400)
}

func noSuchLogin(user string) error {
	return noSuchEntity("Login Profile for User %s cannot be found.", user)
}

func noSuchDevice(serial string) error {
	return noSuchEntity("VirtualMFADevice with serial number %s does not exist.", serial)
}

func notTheUsersDevice() error { return noSuchEntity("MFA Device invalid for user.") }

func invalidCode() error {
	return awserr.Model("InvalidAuthenticationCode", "Authentication code for device is not valid.").WithStatus(403)
}

// unnamed is the refusal of a request that names no user and was not signed by one.
func unnamed() error {
	return awserr.New(awserr.Validation, "Must specify userName when calling with non-User credentials")
}

func invalidValue(format string, args ...any) error {
	return awserr.New(awserr.Validation, format, args...)
}

// errNobodys is a device whose user does not exist; transactions do not let it happen.
func errNobodys(serial string) error {
	return fmt.Errorf("iam: MFA device %s belongs to no user", serial)
}
