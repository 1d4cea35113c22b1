package authz

import (
	"carrel/internal/arn"
	"carrel/internal/identity"
	"carrel/internal/policy"
)

// assumedRole is a role by its ARN. Assuming it is asked of its trust policy too, which must allow it whatever the caller's own policies say; one that
// does not exist is denied in the same words as one that does not trust the caller.
var (
	assumedRole = &kind{service: "iam", prefix: "role/", global: true, missing: func(*env) target { return target{arn: "*", trust: trustsNobody} }, named: func(e *env, name string) target {
		t := target{arn: name, account: e.Account}
		if a, err := arn.Parse(name); err == nil {
			t.account = a.Account
		}
		role, ok := e.account().Role(e.snapshot, name)
		if !ok {
			t.trust = trustsNobody
			return t
		}
		t.trust, t.role, t.tags, t.also = e.trustOf(e.snapshot, role), role, role.Tags, "iam:ResourceTag/"
		return t
	}}
	federatedUser = &kind{service: "sts", prefix: "federated-user/", global: true}
)

// trustsNobody is the trust policy of a role that does not exist.
var trustsNobody = policy.Compile()

// stsRows are the rows of sts. Two operations are the keys to credentials that the caller has already, and no policy has a say in them
// ("Permissions for GetSessionToken", "GetCallerIdentity"); those for identity providers are asked by their tokens (see Federation).
//
// In a chain of roles the source identity goes on, and sts:SetSourceIdentity is "required in both the permissions policy of the principal who is assuming
// the role and in the role trust policy of the target role" (IAM User Guide, "Permissions required to set source identity"); transitive tags go on
// too and are passed by the same right as others, sts:TagSession. aws:RequestTag, aws:TagKeys and sts:SourceIdentity are of the request alone: what is
// handed on is in aws:PrincipalTag and aws:SourceIdentity.
var stsRows = table{
	"AssumeRole": {on: []on{assumedRole.at("RoleArn")}, tags: "Tags", also: []also{
		{action: "sts:TagSession", on: assumedRole.at("RoleArn"), when: "Tags", handsOn: func(s *identity.Session) bool { return len(s.Transitive) > 0 }},
		{action: "sts:SetSourceIdentity", on: assumedRole.at("RoleArn"), when: "SourceIdentity", handsOn: func(s *identity.Session) bool { return s.SourceIdentity != "" }},
	}, factor: []string{"SerialNumber", "TokenCode"}, keys: map[string]string{"sts:ExternalId": "ExternalId", "sts:RoleSessionName": "RoleSessionName", "sts:SourceIdentity": "SourceIdentity",
		"sts:TransitiveTagKeys": "TransitiveTagKeys", "sts:DurationSeconds": "DurationSeconds"}},
	"AssumeRoleWithSAML":         {open: "the assertion is the credential"},
	"AssumeRoleWithWebIdentity":  {open: "the token is the credential"},
	"AssumeRoot":                 {},
	"DecodeAuthorizationMessage": {},
	"GetAccessKeyInfo":           {},
	"GetCallerIdentity":          {open: "sts:GetCallerIdentity needs no permission"},
	"GetDelegatedAccessToken":    {},
	"GetFederationToken": {on: []on{federatedUser.at("Name")}, also: []also{{action: "sts:TagSession", on: federatedUser.at("Name"), when: "Tags"}}, tags: "Tags",
		keys: map[string]string{"sts:DurationSeconds": "DurationSeconds"}},
	"GetSessionToken":     {open: "sts:GetSessionToken needs no permission"},
	"GetWebIdentityToken": {tags: "Tags", keys: map[string]string{"sts:DurationSeconds": "DurationSeconds"}},
}
