package authz_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/state"
)

const iamARN = "arn:aws:iam::123456789012:"

// refused checks that no identity-based policy allows something on a resource.
func (w *world) refused(p identity.Principal, op *shape.Operation, input any, resource string) {
	w.t.Helper()
	action := op.Service.SigningName + ":" + op.Name
	w.denied(p, op, input, action+" on resource: "+resource+" because no identity-based policy allows the "+action+" action")
}

func TestIAMWithoutANameIsAboutTheCaller(t *testing.T) {
	w := newWorld(t)
	own := allow("iam:*", iamARN+"user/${aws:username}")
	ada, bob := w.user("ada", own), w.user("bob", own)
	w.user("eve", "")
	t.Run("a missing name is the caller's own user", func(t *testing.T) {
		for _, op := range []*shape.Operation{iam.GetUser.Operation, iam.CreateAccessKey.Operation, iam.ListAccessKeys.Operation, iam.UpdateAccessKey.Operation,
			iam.DeleteAccessKey.Operation, iam.ListMFADevices.Operation, iam.ChangePassword.Operation, iam.CreateLoginProfile.Operation, iam.DeactivateMFADevice.Operation} {
			w.allowed(ada, op, nil)
			w.allowed(bob, op, nil)
			w.refused(w.user("eve", allow("iam:*", iamARN+"user/ada")), op, nil, iamARN+"user/eve")
		}
	})
	t.Run("a name is somebody's", func(t *testing.T) {
		w.allowed(ada, iam.CreateAccessKey.Operation, &iam.CreateAccessKeyInput{UserName: shape.Ptr("ada")})
		w.refused(ada, iam.CreateAccessKey.Operation, &iam.CreateAccessKeyInput{UserName: shape.Ptr("bob")}, iamARN+"user/bob")
	})
	t.Run("the caller's path is part of it", func(t *testing.T) {
		w.changeUser("bob", func(u *state.User) { u.Path = "/ops/" })
		again := identitytest.Principal(t, w.db, identitytest.AddKey(t, w.db, ident.UserID(bob.UserID())))
		w.refused(again, iam.GetUser.Operation, nil, iamARN+"user/ops/bob")
	})
	t.Run("the root's is the root", func(t *testing.T) {
		w.update(func(tx *state.Tx) {
			state.Put(tx, state.Accounts, &state.Account{Guardrails: map[string]string{"base": allow("*", "*"), "keys": document("Deny", "iam:CreateAccessKey", iamARN+"root")}})
		})
		w.denied(identitytest.Root(t, w.db), iam.CreateAccessKey.Operation, nil, "iam:CreateAccessKey on resource: "+iamARN+"root with an explicit deny in a service control policy")
		w.allowed(identitytest.Root(t, w.db), iam.CreateAccessKey.Operation, &iam.CreateAccessKeyInput{UserName: shape.Ptr("ada")})
	})
}

func TestIAMNamesStandForARNsWithTheirPaths(t *testing.T) {
	w := newWorld(t)
	w.changeUser("rob", func(u *state.User) { u.Path = "/team/red/" })
	w.update(func(tx *state.Tx) {
		state.Put(tx, state.Groups, &state.Group{ID: ident.NewGroupID(rand.Reader), Name: "readers", Path: "/team/red/"})
		state.Put(tx, state.Roles, &state.Role{ID: ident.NewRoleID(rand.Reader), Name: "worker", Path: "/team/red/"})
		state.Put(tx, state.InstanceProfiles, &state.InstanceProfile{ID: ident.NewInstanceProfileID(rand.Reader), Name: "box", Path: "/team/red/"})
	})
	red := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":["arn:aws:iam::*:user/team/red/*","arn:aws:iam::*:group/team/red/*",` +
		`"arn:aws:iam::*:role/team/red/*","arn:aws:iam::*:policy/team/red/*","arn:aws:iam::*:instance-profile/team/red/*","arn:aws:iam::*:mfa/team/red/*"]}]}`
	p := w.user("lead", red)
	name := func(s string) *iam.DeleteUserInput { return &iam.DeleteUserInput{UserName: shape.Ptr(s)} }
	t.Run("of what is there", func(t *testing.T) {
		w.allowed(p, iam.DeleteUser.Operation, name("rob"))
		w.allowed(p, iam.DeleteGroup.Operation, &iam.DeleteGroupInput{GroupName: shape.Ptr("readers")})
		w.allowed(p, iam.GetRole.Operation, &iam.GetRoleInput{RoleName: shape.Ptr("worker")})
		w.allowed(p, iam.GetInstanceProfile.Operation, &iam.GetInstanceProfileInput{InstanceProfileName: shape.Ptr("box")})
		w.refused(p, iam.DeleteUser.Operation, name("lead"), iamARN+"user/lead")
	})
	t.Run("another spelling and what is not there have no path", func(t *testing.T) {
		w.refused(p, iam.DeleteUser.Operation, name("ROB"), iamARN+"user/ROB")
		w.refused(p, iam.DeleteUser.Operation, name("nobody"), iamARN+"user/nobody")
		w.refused(p, iam.GetRole.Operation, &iam.GetRoleInput{RoleName: shape.Ptr("Worker")}, iamARN+"role/Worker")
	})
	t.Run("of what is to be made", func(t *testing.T) {
		under := shape.Ptr("/team/red/")
		w.allowed(p, iam.CreateUser.Operation, &iam.CreateUserInput{UserName: shape.Ptr("new"), Path: under})
		w.allowed(p, iam.CreateGroup.Operation, &iam.CreateGroupInput{GroupName: shape.Ptr("new"), Path: under})
		w.allowed(p, iam.CreateRole.Operation, &iam.CreateRoleInput{RoleName: shape.Ptr("new"), Path: under})
		w.allowed(p, iam.CreatePolicy.Operation, &iam.CreatePolicyInput{PolicyName: shape.Ptr("new"), Path: under})
		w.allowed(p, iam.CreateInstanceProfile.Operation, &iam.CreateInstanceProfileInput{InstanceProfileName: shape.Ptr("new"), Path: under})
		w.allowed(p, iam.CreateVirtualMFADevice.Operation, &iam.CreateVirtualMFADeviceInput{VirtualMFADeviceName: shape.Ptr("new"), Path: under})
		w.refused(p, iam.CreateUser.Operation, &iam.CreateUserInput{UserName: shape.Ptr("new")}, iamARN+"user/new")
		w.refused(p, iam.CreateUser.Operation, &iam.CreateUserInput{UserName: shape.Ptr("new"), Path: shape.Ptr("/team/blue/")}, iamARN+"user/team/blue/new")
		w.refused(p, iam.CreateUser.Operation, &iam.CreateUserInput{}, iamARN+"user/*")
		w.refused(p, iam.CreateSAMLProvider.Operation, &iam.CreateSAMLProviderInput{Name: shape.Ptr("idp")}, iamARN+"saml-provider/idp")
		w.refused(p, iam.CreateOpenIDConnectProvider.Operation, &iam.CreateOpenIDConnectProviderInput{Url: shape.Ptr("https://idp.example.org/a")}, iamARN+"oidc-provider/idp.example.org/a")
	})
	t.Run("who is renamed or moved needs both names", func(t *testing.T) {
		move := func(path, name string) *iam.UpdateUserInput {
			return &iam.UpdateUserInput{UserName: shape.Ptr("rob"), NewPath: shape.Given(path), NewUserName: shape.Given(name)}
		}
		w.allowed(p, iam.UpdateUser.Operation, move("", "bert"))
		w.allowed(p, iam.UpdateUser.Operation, move("/team/red/more/", ""))
		w.refused(p, iam.UpdateUser.Operation, move("/admins/", ""), iamARN+"user/admins/rob")
		w.refused(p, iam.UpdateUser.Operation, move("/", "boss"), iamARN+"user/boss")
		w.refused(p, iam.UpdateUser.Operation, &iam.UpdateUserInput{UserName: shape.Ptr("lead"), NewPath: shape.Ptr("/team/red/")}, iamARN+"user/lead")
		w.refused(p, iam.UpdateGroup.Operation, &iam.UpdateGroupInput{GroupName: shape.Ptr("readers"), NewPath: shape.Ptr("/admins/")}, iamARN+"group/admins/readers")
	})
	t.Run("lists are of a path", func(t *testing.T) {
		w.allowed(p, iam.ListUsers.Operation, &iam.ListUsersInput{PathPrefix: shape.Ptr("/team/red/")})
		w.refused(p, iam.ListUsers.Operation, nil, iamARN+"user/")
		w.allowed(w.user("viewer", allow("iam:List*", "arn:aws:iam::123456789012:role/*")), iam.ListRoles.Operation, nil)
	})
}

func TestIAMBoundariesCanBeAskedFor(t *testing.T) {
	w := newWorld(t)
	boundary := w.managed("Fence", allow("workspaces:*", "*"))
	w.user("free", "")
	w.user("fenced", "")
	w.changeUser("fenced", func(u *state.User) { u.Boundary = boundary })
	w.role("loose", "", state.Permissions{})
	tight := w.role("tight", "", state.Permissions{})
	w.update(func(tx *state.Tx) {
		r := state.Clone(tight)
		r.Boundary = boundary
		state.Put(tx, state.Roles, r)
	})
	p := w.user("delegate", allow("iam:*", "*", `{"StringEquals":{"iam:PermissionsBoundary":"`+boundary+`"}}`))
	t.Run("of what the request sets", func(t *testing.T) {
		in := &iam.CreateUserInput{UserName: shape.Ptr("new"), PermissionsBoundary: shape.Ptr(boundary)}
		w.allowed(p, iam.CreateUser.Operation, in)
		in.PermissionsBoundary = shape.Ptr("arn:aws:iam::aws:policy/AdministratorAccess")
		w.refused(p, iam.CreateUser.Operation, in, iamARN+"user/new")
		in.PermissionsBoundary = nil
		w.refused(p, iam.CreateUser.Operation, in, iamARN+"user/new")
		w.allowed(p, iam.PutUserPermissionsBoundary.Operation, &iam.PutUserPermissionsBoundaryInput{UserName: shape.Ptr("free"), PermissionsBoundary: shape.Ptr(boundary)})
		w.refused(p, iam.PutRolePermissionsBoundary.Operation, &iam.PutRolePermissionsBoundaryInput{RoleName: shape.Ptr("tight"), PermissionsBoundary: shape.Ptr("x")}, iamARN+"role/tight")
	})
	t.Run("of whom something is given to", func(t *testing.T) {
		attach := func(name string) *iam.AttachUserPolicyInput {
			return &iam.AttachUserPolicyInput{UserName: shape.Ptr(name), PolicyArn: shape.Ptr("arn:aws:iam::aws:policy/AdministratorAccess")}
		}
		w.allowed(p, iam.AttachUserPolicy.Operation, attach("fenced"))
		w.refused(p, iam.AttachUserPolicy.Operation, attach("free"), iamARN+"user/free")
		w.allowed(p, iam.PutRolePolicy.Operation, &iam.PutRolePolicyInput{RoleName: shape.Ptr("tight")})
		w.refused(p, iam.PutRolePolicy.Operation, &iam.PutRolePolicyInput{RoleName: shape.Ptr("loose")}, iamARN+"role/loose")
		w.refused(p, iam.PutRolePolicy.Operation, &iam.PutRolePolicyInput{RoleName: shape.Ptr("none")}, iamARN+"role/none")
		w.refused(p, iam.GetRolePolicy.Operation, &iam.GetRolePolicyInput{RoleName: shape.Ptr("tight")}, iamARN+"role/tight")
	})
	t.Run("iam:PolicyARN is what is attached", func(t *testing.T) {
		q := w.user("attacher", allow("iam:*", "*", `{"ArnLike":{"iam:PolicyARN":"arn:aws:iam::*:policy/Fen*"}}`))
		w.allowed(q, iam.AttachGroupPolicy.Operation, &iam.AttachGroupPolicyInput{GroupName: shape.Ptr("g"), PolicyArn: shape.Ptr(boundary)})
		w.refused(q, iam.AttachGroupPolicy.Operation, &iam.AttachGroupPolicyInput{GroupName: shape.Ptr("g"), PolicyArn: shape.Ptr("arn:aws:iam::aws:policy/AdministratorAccess")}, iamARN+"group/g")
	})
}

func TestIAMTagsOfResources(t *testing.T) {
	w := newWorld(t)
	red := state.Meta{Tags: map[string]string{"team": "red"}}
	w.changeUser("rob", func(u *state.User) { u.Tags = red.Tags })
	own := w.managed("Own", allow("*", "*"))
	w.update(func(tx *state.Tx) {
		for p := range state.All(tx, state.Policies) {
			c := state.Clone(p)
			c.Tags = red.Tags
			state.Put(tx, state.Policies, c)
		}
		state.Put(tx, state.Roles, &state.Role{Meta: red, ID: ident.NewRoleID(rand.Reader), Name: "worker", Path: "/"})
		state.Put(tx, state.MFADevices, &state.MFADevice{Meta: red, Serial: iamARN + "mfa/rob", Name: "rob", Path: "/"})
		state.Put(tx, state.SAMLProviders, &state.SAMLProvider{Meta: red, Name: "idp"})
		state.Put(tx, state.OIDCProviders, &state.OIDCProvider{Meta: red, URL: "idp.example.org/a"})
		state.Put(tx, state.InstanceProfiles, &state.InstanceProfile{Meta: red, ID: ident.NewInstanceProfileID(rand.Reader), Name: "box", Path: "/"})
	})
	general := w.user("a", allow("iam:*", "*", `{"StringEquals":{"aws:ResourceTag/team":"red"}}`))
	special := w.user("b", allow("iam:*", "*", `{"StringEquals":{"iam:ResourceTag/team":"red"}}`))
	for _, c := range []struct {
		op      *shape.Operation
		in      any
		special bool
	}{
		{iam.DeleteUser.Operation, &iam.DeleteUserInput{UserName: shape.Ptr("rob")}, true},
		{iam.DeleteRole.Operation, &iam.DeleteRoleInput{RoleName: shape.Ptr("worker")}, true},
		{iam.SimulatePrincipalPolicy.Operation, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: shape.Ptr(iamARN + "user/rob")}, true},
		{iam.DeletePolicy.Operation, &iam.DeletePolicyInput{PolicyArn: &own}, false},
		{iam.DeleteVirtualMFADevice.Operation, &iam.DeleteVirtualMFADeviceInput{SerialNumber: shape.Ptr(iamARN + "mfa/rob")}, false},
		{iam.DeleteSAMLProvider.Operation, &iam.DeleteSAMLProviderInput{SAMLProviderArn: shape.Ptr(iamARN + "saml-provider/idp")}, false},
		{iam.DeleteOpenIDConnectProvider.Operation, &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: shape.Ptr(iamARN + "oidc-provider/idp.example.org/a")}, false},
		{iam.DeleteInstanceProfile.Operation, &iam.DeleteInstanceProfileInput{InstanceProfileName: shape.Ptr("box")}, false},
	} {
		w.allowed(general, c.op, c.in)
		d := w.ask(special, c.op, c.in)
		if d.Allowed != c.special {
			t.Errorf("%s with iam:ResourceTag: %v", c.op.Name, d.Allowed)
		}
		d.Release()
	}
	// What is somebody else's, or is named in another way, has no tags.
	for _, name := range []string{"arn:aws:iam::aws:policy/Own", "arn:aws:iam::111122223333:policy/Own", "arn:aws-cn:iam::123456789012:policy/Own", "Own", strings.ToUpper(own)} {
		w.refused(general, iam.DeletePolicy.Operation, &iam.DeletePolicyInput{PolicyArn: &name}, name)
	}
	w.refused(general, iam.SimulatePrincipalPolicy.Operation, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: shape.Ptr(iamARN + "user/x/rob")}, iamARN+"user/x/rob")
	t.Run("IAM-6 the request's tags", func(t *testing.T) {
		p := w.user("c", allow("iam:*", "*", `{"StringEquals":{"aws:RequestTag/team":"red"},"ForAllValues:StringEquals":{"aws:TagKeys":["team"]}}`))
		in := &iam.TagUserInput{UserName: shape.Ptr("rob"), Tags: []iam.Tag{{Key: shape.Ptr("team"), Value: shape.Ptr("red")}}}
		w.allowed(p, iam.TagUser.Operation, in)
		in.Tags = append(in.Tags, iam.Tag{Key: shape.Ptr("cost"), Value: shape.Ptr("1")})
		w.refused(p, iam.TagUser.Operation, in, iamARN+"user/rob")
		q := w.user("d", allow("iam:Untag*", "*", `{"ForAllValues:StringEquals":{"aws:TagKeys":["cost"]}}`))
		w.refused(q, iam.UntagUser.Operation, &iam.UntagUserInput{UserName: shape.Ptr("rob"), TagKeys: []string{"cost", "team"}}, iamARN+"user/rob")
	})
}

func TestIAMRolesThatAreGivenAway(t *testing.T) {
	w := newWorld(t)
	w.role("worker", "", state.Permissions{})
	in := &iam.AddRoleToInstanceProfileInput{InstanceProfileName: shape.Ptr("box"), RoleName: shape.Ptr("worker")}
	const profile, role = iamARN + "instance-profile/box", iamARN + "role/worker"
	w.denied(w.user("a", allow("iam:AddRoleToInstanceProfile", "*")), iam.AddRoleToInstanceProfile.Operation, in,
		"iam:PassRole on resource: "+role+" because no identity-based policy allows the iam:PassRole action")
	w.allowed(w.user("b", both(allow("iam:AddRoleToInstanceProfile", profile), allow("iam:PassRole", role, `{"StringEquals":{"iam:PassedToService":"ec2.amazonaws.com"}}`))),
		iam.AddRoleToInstanceProfile.Operation, in)
	w.denied(w.user("c", both(allow("iam:AddRoleToInstanceProfile", profile), allow("iam:PassRole", role, `{"StringEquals":{"iam:PassedToService":"ds.amazonaws.com"}}`))),
		iam.AddRoleToInstanceProfile.Operation, in, "iam:PassRole on resource: "+role+" because no identity-based policy allows the iam:PassRole action")
	t.Run("roles of services", func(t *testing.T) {
		linked := &iam.CreateServiceLinkedRoleInput{AWSServiceName: shape.Ptr("ds.amazonaws.com")}
		w.allowed(w.user("d", allow("iam:CreateServiceLinkedRole", "arn:aws:iam::*:role/aws-service-role/ds.amazonaws.com/AWSServiceRoleForDirectoryService*",
			`{"StringLike":{"iam:AWSServiceName":"ds.amazonaws.com"}}`)), iam.CreateServiceLinkedRole.Operation, linked)
		p := w.user("e", allow("iam:*", "*", `{"StringEquals":{"iam:AWSServiceName":"cloudtrail.amazonaws.com"}}`))
		w.refused(p, iam.CreateServiceLinkedRole.Operation, linked, iamARN+"role/aws-service-role/ds.amazonaws.com/AWSServiceRoleForDirectoryService")
		w.refused(p, iam.CreateServiceLinkedRole.Operation, &iam.CreateServiceLinkedRoleInput{AWSServiceName: shape.Ptr("x.amazonaws.com")}, iamARN+"role/aws-service-role/x.amazonaws.com/*")
		w.refused(p, iam.GetServiceLinkedRoleDeletionStatus.Operation, &iam.GetServiceLinkedRoleDeletionStatusInput{DeletionTaskId: shape.Ptr("task/aws-service-role/ds.amazonaws.com/R/1-2")},
			iamARN+"role/aws-service-role/ds.amazonaws.com/R")
		w.refused(p, iam.GetServiceLinkedRoleDeletionStatus.Operation, &iam.GetServiceLinkedRoleDeletionStatusInput{DeletionTaskId: shape.Ptr("nonsense")}, iamARN+"role/*")
	})
	t.Run("an access key is its owner's", func(t *testing.T) {
		key := identitytest.AddKey(t, w.db, identitytest.AddUser(t, w.db, "rob"))
		root := identitytest.AddKey(t, w.db, "")
		p := w.user("f", allow("iam:*", iamARN+"user/rob"))
		used := func(id string) *iam.GetAccessKeyLastUsedInput {
			return &iam.GetAccessKeyLastUsedInput{AccessKeyId: &id}
		}
		w.allowed(p, iam.GetAccessKeyLastUsed.Operation, used(string(key.ID)))
		w.refused(p, iam.GetAccessKeyLastUsed.Operation, used(string(root.ID)), iamARN+"root")
		w.refused(p, iam.GetAccessKeyLastUsed.Operation, used("AKIAIOSFODNN7EXAMPLE"), iamARN+"user/*")
	})
}
