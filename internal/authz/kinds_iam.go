package authz

import (
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/identity"
	"carrel/internal/policy"
	"carrel/internal/state"
)

// The condition keys of iam that say something of the resource.
var (
	keyBoundary        = policy.NewKey("iam:PermissionsBoundary")
	keyPassedToService = policy.NewKey("iam:PassedToService")
)

// entity is a type of iam whose records have a name and a path. A request has the name alone, and its ARN has the path too. Names are
// compared by case: another spelling is another ARN, and iam finds nothing under it.
type entity[T any] struct {
	// kind begins its ARNs: "user".
	kind   string
	table  *state.Definition[T]
	byName state.Index[T]
	place  func(*T) (path, name string)
	tagKey string
}

var (
	users  = entity[state.User]{"user", state.Users, state.UsersByName, func(u *state.User) (string, string) { return u.Path, u.Name }, "iam:ResourceTag/"}
	groups = entity[state.Group]{"group", state.Groups, state.GroupsByName, func(g *state.Group) (string, string) { return g.Path, g.Name }, ""}
	roles  = entity[state.Role]{"role", state.Roles, state.RolesByName, func(r *state.Role) (string, string) { return r.Path, r.Name }, "iam:ResourceTag/"}

	profiles = entity[state.InstanceProfile]{"instance-profile", state.InstanceProfiles, state.InstanceProfilesByName,
		func(p *state.InstanceProfile) (string, string) { return p.Path, p.Name }, ""}
)

// find is nil when there is nothing of that name.
func (x entity[T]) find(e *env, name string) *T {
	for rec := range state.AllBy(e.snapshot, x.table, x.byName, strings.ToLower(name)) {
		if _, have := x.place(rec); have == name {
			return rec
		}
	}
	return nil
}

// target is the record of that name; what does not exist has the path "/".
func (x entity[T]) target(e *env, name string) target {
	if rec := x.find(e, name); rec != nil {
		return x.of(e, rec)
	}
	return target{arn: arn.Of(e.Partition, e.Account, x.kind, "/"+name).String(), account: e.Account}
}

func (x entity[T]) of(e *env, rec *T) target {
	path, name := x.place(rec)
	return target{arn: arn.Of(e.Partition, e.Account, x.kind, path+name).String(), account: e.Account, tags: x.table.Meta(rec).Tags, also: x.tagKey}
}

func (x entity[T]) resource() *kind {
	return &kind{service: "iam", prefix: x.kind + "/", global: true, named: x.target}
}

// The resource types of iam by their names; a request for a user that names none is about the caller.
var (
	iamUser    = &kind{service: "iam", prefix: "user/", global: true, named: users.target, missing: self}
	iamGroup   = groups.resource()
	iamRole    = roles.resource()
	iamProfile = profiles.resource()
)

// The resource types of iam under a path: of what is to be made, and of lists.
var (
	userPath    = &kind{service: "iam", prefix: "user", global: true}
	groupPath   = &kind{service: "iam", prefix: "group", global: true}
	rolePath    = &kind{service: "iam", prefix: "role", global: true}
	profilePath = &kind{service: "iam", prefix: "instance-profile", global: true}
	policyPath  = &kind{service: "iam", prefix: "policy", global: true}
	devicePath  = &kind{service: "iam", prefix: "mfa", global: true}
)

// self is the caller's own user, or the root. Sessions of roles and federated users have none: theirs would be any.
func self(e *env) target {
	switch p := e.principal; p.Type() {
	case identity.Root:
		return target{arn: arn.Root(e.Partition, e.Account).String(), account: e.Account}
	case identity.IAMUser:
		if u, ok := state.Get(e.snapshot, state.Users, string(p.User())); ok {
			return users.of(e, u)
		}
	}
	return users.target(e, "*")
}

// Users and roles for the actions that iam:PermissionsBoundary is about: the boundary that the resource has.
var (
	boundedUser = &kind{service: "iam", prefix: "user/", global: true, named: func(e *env, name string) target {
		t := users.target(e, name)
		if u := users.find(e, name); u != nil {
			t.bound(u.Boundary)
		}
		return t
	}}
	boundedRole = &kind{service: "iam", prefix: "role/", global: true, named: func(e *env, name string) target {
		t := roles.target(e, name)
		if r := roles.find(e, name); r != nil {
			t.bound(r.Boundary)
		}
		return t
	}}
)

func (t *target) bound(boundary string) {
	if boundary != "" {
		t.keys = append(t.keys, keyed{keyBoundary, boundary})
	}
}

// What a user or group is to be called afterwards: it must be allowed as what it is, and as what it will be ("UpdateUser").
var (
	renamedUser = &kind{service: "iam", prefix: "user/", global: true, named: func(e *env, name string) target {
		in, _ := e.in.v.Interface().(iam.UpdateUserInput)
		return users.renamed(e, name, in.NewPath, in.NewUserName)
	}}
	renamedGroup = &kind{service: "iam", prefix: "group/", global: true, named: func(e *env, name string) target {
		in, _ := e.in.v.Interface().(iam.UpdateGroupInput)
		return groups.renamed(e, name, in.NewPath, in.NewGroupName)
	}}
)

func (x entity[T]) renamed(e *env, name string, newPath, newName *string) target {
	t, path := x.target(e, name), "/"
	if rec := x.find(e, name); rec != nil {
		path, _ = x.place(rec)
	}
	if newPath != nil {
		path = *newPath
	}
	if newName != nil {
		name = *newName
	}
	t.arn = arn.Of(e.Partition, e.Account, x.kind, path+name).String()
	return t
}

// passedRole is a role that is given to a service, which may then act with it: EC2, whose instances have the profile.
var passedRole = &kind{service: "iam", prefix: "role/", global: true, named: func(e *env, name string) target {
	t := roles.target(e, name)
	t.keys = append(t.keys, keyed{keyPassedToService, "ec2.amazonaws.com"})
	return t
}}

// linkedRoles are the names of the service-linked roles of the services that have one, as policies write them; of others it is not known.
var linkedRoles = map[string]string{"ds.amazonaws.com": "AWSServiceRoleForDirectoryService", "cloudtrail.amazonaws.com": "AWSServiceRoleForCloudTrail"}

var (
	// linkedRole is the role that is to be linked to a service.
	linkedRole = &kind{service: "iam", prefix: "role/aws-service-role/", global: true, named: func(e *env, service string) target {
		name := linkedRoles[service]
		if name == "" {
			name = "*"
		}
		return target{arn: arn.Of(e.Partition, e.Account, "role", "/aws-service-role/"+service+"/"+name).String(), account: e.Account}
	}}
	// deletedRole is the role that a task deletes: "task/aws-service-role/ds.amazonaws.com/NAME/UUID".
	deletedRole = &kind{service: "iam", prefix: "role/", global: true, named: func(e *env, task string) target {
		name := "/*"
		if path, ok := strings.CutPrefix(task, "task/"); ok {
			name = "/" + path[:max(0, strings.LastIndexByte(path, '/'))]
		}
		return target{arn: arn.Of(e.Partition, e.Account, "role", name).String(), account: e.Account}
	}}
	// keyOwner is the user that an access key belongs to.
	keyOwner = &kind{service: "iam", prefix: "user/", global: true, named: func(e *env, id string) target {
		key, ok := state.Get(e.snapshot, state.AccessKeys, id)
		if ok && key.UserID == "" {
			return target{arn: arn.Root(e.Partition, e.Account).String(), account: e.Account}
		}
		if ok {
			if u, ok := state.Get(e.snapshot, state.Users, string(key.UserID)); ok {
				return users.of(e, u)
			}
		}
		return users.target(e, "*")
	}}
)

// The resource types of iam that requests name by their ARNs. What is not an ARN is asked for as it is, and only "*" matches it.
var (
	iamPolicy = byARN("policy/", func(e *env, name string) map[string]string {
		if p, ok := e.account().Customer(e.snapshot, name); ok {
			return p.Tags
		}
		return nil
	})
	iamDevice    = byARN("mfa/", tagsOf(state.MFADevices))
	samlProvider = byARN("saml-provider/", func(e *env, name string) map[string]string {
		return providerTags(e, state.SAMLProviders, "saml-provider/", name)
	})
	oidcProvider = byARN("oidc-provider/", func(e *env, name string) map[string]string {
		return providerTags(e, state.OIDCProviders, "oidc-provider/", name)
	})
	// newSAMLProvider and newOIDCProvider are those to be made, by name and by URL.
	newSAMLProvider = &kind{service: "iam", prefix: "saml-provider/", global: true}
	newOIDCProvider = &kind{service: "iam", prefix: "oidc-provider/", global: true, named: func(e *env, url string) target {
		return target{arn: arn.Of(e.Partition, e.Account, "oidc-provider/", strings.TrimPrefix(url, "https://")).String(), account: e.Account}
	}}
	// iamPrincipal is a user, group or role.
	iamPrincipal = &kind{service: "iam", global: true, named: func(e *env, name string) target {
		for _, x := range []interface {
			target(*env, string) target
		}{users, groups, roles} {
			if found := x.target(e, afterSlash(name)); found.arn == name {
				return found
			}
		}
		return target{arn: name, account: ownerOf(e, name)}
	}}
)

func byARN(prefix string, tags func(*env, string) map[string]string) *kind {
	return &kind{service: "iam", prefix: prefix, global: true, named: func(e *env, name string) target {
		return target{arn: name, account: ownerOf(e, name), tags: tags(e, name)}
	}}
}

// ownerOf is the account that an ARN says.
func ownerOf(e *env, name string) string {
	if a, err := arn.Parse(name); err == nil && a.Account != "" {
		return a.Account
	}
	return e.Account
}

// providerTags are the tags of a provider, whose id is the end of its ARN.
func providerTags[T any](e *env, d *state.Definition[T], kind, name string) map[string]string {
	id, ok := strings.CutPrefix(name, arn.Of(e.Partition, e.Account, kind, "").String())
	if !ok {
		return nil
	}
	return tagsOf(d)(e, id)
}

// field is a text of the input by its name, empty when there is none.
func (in input) field(name string) string {
	if !in.v.IsValid() {
		return ""
	}
	f := in.v.FieldByName(name)
	if !f.IsValid() {
		return ""
	}
	text, _ := f.Interface().(*string)
	return shape.Val(text)
}
