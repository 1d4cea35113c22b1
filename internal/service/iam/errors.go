package iam

import (
	"fmt"

	"carrel/internal/awserr"
	"carrel/internal/ident"
)

// The exceptions of the iam model, with AWS's codes, statuses and texts.

func noSuchUser(name string) error {
	return awserr.Model("NoSuchEntity", "The user with name %s cannot be found.", name).WithStatus(404)
}

func noSuchKey(id string) error {
	return awserr.Model("NoSuchEntity", "The Access Key with id %s cannot be found.", id).WithStatus(404)
}

func noSuchBoundary(arn string) error {
	return awserr.Model("NoSuchEntity", "Scope ARN: %s does not exist or is not attachable.", arn).WithStatus(404)
}

func userExists(name string) error {
	return awserr.Model("EntityAlreadyExists", "User with name %s already exists.", name).WithStatus(409)
}

func overQuota(what string, quota int) error {
	return awserr.Model("LimitExceeded", "Cannot exceed quota for %s: %d", what, quota).WithStatus(409)
}

func deleteConflict(format string, args ...any) error {
	return awserr.Model("DeleteConflict", format, args...).WithStatus(409)
}

func invalidInput(format string, args ...any) error {
	return awserr.Model("InvalidInput", format, args...).WithStatus(400)
}

func invalidMarker() error {
	return awserr.New(awserr.Validation, "Invalid Marker.")
}

// errOrphan is a key whose user does not exist; transactions do not let it happen.
func errOrphan(id ident.AccessKeyID) error {
	return fmt.Errorf("iam: access key %s belongs to no user", id)
}
