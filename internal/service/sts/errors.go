package sts

import (
	"errors"
	"fmt"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/awserr"
	"carrel/internal/identity"
	"carrel/internal/policy"
)

// The refusals of sts, with AWS's codes and texts.

// notAuthorized is authz's own denial, so that a role that has just been deleted is not told from one that was never there.
func notAuthorized(p identity.Principal, role string) error {
	return awserr.New(awserr.AccessDenied, "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", p.ARN(), role)
}

func rootAssumes() error {
	return awserr.New(awserr.AccessDenied, "Roles may not be assumed by root accounts.")
}

func withSession(operation string) error {
	return awserr.New(awserr.AccessDenied, "Cannot call %s with session credentials", operation)
}

func overMaxSession() error {
	return awserr.New(awserr.Validation, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
}

func overChain() error {
	return awserr.New(awserr.Validation, "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
}

func sourceIdentitySet() error {
	return awserr.New(awserr.Validation, "The source identity is already set for this assume role session")
}

func invalidValue(text string) error {
	return awserr.Model("InvalidParameterValue", "%s", text).WithStatus(400)
}

func duplicateTag() error {
	return invalidValue("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
}

func reservedTag() error {
	return invalidValue("Tag keys that start with 'aws:' are reserved for system use.")
}

func transitiveTaken() error {
	return invalidValue("One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
}

func transitiveMissing() error {
	return invalidValue("The specified transitive tag key must be included in the requested tags.")
}

func tooMany(member string, most int) error {
	return awserr.New(awserr.Validation, "1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", member, most)
}

// noSuchPolicy's text is ours: AWS's is not documented.
func noSuchPolicy(name string) error {
	return awserr.New(awserr.Validation, "The managed policy %s does not exist or is not attachable.", name)
}

func malformed(err error) error {
	var m *policy.MalformedError
	if errors.As(err, &m) {
		return m.AWS()
	}
	return awserr.Fault(fmt.Errorf("sts: reading a session policy: %w", err))
}

func tagsTooLarge(percent int) error {
	return awserr.Model("PackedPolicyTooLarge", "Packed size of session tags consumes %d%% of allotted space.", percent).WithStatus(400)
}

func tokenTooLarge() error {
	return awserr.Model("PackedPolicyTooLarge", "Serialized token too large for session").WithStatus(400)
}

func halfFactor() error {
	return awserr.New(awserr.AccessDenied, "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.")
}

func wrongCode() error {
	return awserr.New(awserr.AccessDenied, "MultiFactorAuthentication failed with invalid MFA one time pass code. ")
}

func noSuchDevice() error {
	return awserr.New(awserr.AccessDenied, "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.")
}

// checkContexts refuses contexts that somebody vouches for: AWS takes them of IAM Identity Center alone, which is not here, and so nobody has made one. The
// texts are ours.
func (s *Service) checkContexts(list []sts.ProvidedContext) error {
	for _, c := range list {
		if name := shape.Val(c.ProviderArn); name != "arn:"+s.Partition+":iam::aws:contextProvider/IdentityCenter" {
			return awserr.New(awserr.Validation, "The context provider %s is not valid.", name)
		}
	}
	return awserr.New(awserr.Validation, "The provided context assertion is not valid.")
}
