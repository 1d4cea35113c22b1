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

func noSuchGroup(name string) error {
	return awserr.Model("NoSuchEntity", "The group with name %s cannot be found.", name).WithStatus(404)
}

func noSuchRole(name string) error {
	return awserr.Model("NoSuchEntity", "The role with name %s cannot be found.", name).WithStatus(404)
}

func noSuchProfile(name string) error {
	return awserr.Model("NoSuchEntity", "Instance Profile %s cannot be found.", name).WithStatus(404)
}

func noSuchInline(kind, name string) error {
	return awserr.Model("NoSuchEntity", "The %s policy with name %s cannot be found.", kind, name).WithStatus(404)
}

func noSuchPolicy(arn string) error {
	return awserr.Model("NoSuchEntity", "Policy %s was not found.", arn).WithStatus(404)
}

func noUsablePolicy(arn string) error {
	return awserr.Model("NoSuchEntity", "Policy %s does not exist or is not attachable.", arn).WithStatus(404)
}

func noSuchVersion(arn, version string) error {
	return awserr.Model("NoSuchEntity", "Policy %s version %s does not exist or is not attachable.", arn, version).WithStatus(404)
}

func noSuchDeletion(task string) error {
	return awserr.Model("NoSuchEntity", "Deletion task %s cannot be found.", task).WithStatus(404)
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

func groupExists(name string) error {
	return awserr.Model("EntityAlreadyExists", "Group with name %s already exists.", name).WithStatus(409)
}

func roleExists(name string) error {
	return awserr.Model("EntityAlreadyExists", "Role with name %s already exists.", name).WithStatus(409)
}

func profileExists(name string) error {
	return awserr.Model("EntityAlreadyExists", "Instance Profile %s already exists.", name).WithStatus(409)
}

func policyExists(name string) error {
	return awserr.Model("EntityAlreadyExists", "A policy called %s already exists. Duplicate names are not allowed.", name).WithStatus(409)
}

func tooManyVersions() error {
	return awserr.Model("LimitExceeded", "A managed policy can have up to %d versions. Before you create a new version, you must delete an existing version.", versionsPerPolicy).WithStatus(409)
}

// notAttachable answers for AWS's policies of service-linked roles.
func notAttachable() error {
	return awserr.Model("PolicyNotAttachable", "Cannot attach a Service Role Policy to a Customer Role.").WithStatus(400)
}

func unmodifiable(role string) error {
	return awserr.Model("UnmodifiableEntity", "Cannot perform the operation on the protected role '%s' - this role is only modifiable by AWS", role).WithStatus(400)
}

// foreignPolicy answers changes of AWS's managed policies, whoever asks for them.
func foreignPolicy() error {
	return awserr.New(awserr.AccessDenied, "Policy is outside your own account.")
}

func notAnARN(name string) error {
	return awserr.New(awserr.Validation, "ARN %s is not valid.", name)
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
