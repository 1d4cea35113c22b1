package iam

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/ident"
	"carrel/internal/state"
)

func (w *world) getRole(name string) *iam.Role {
	w.t.Helper()
	return answer(w.GetRole(w.ctx, call, &iam.GetRoleInput{RoleName: &name}))(w).Role
}

func TestRoles(t *testing.T) {
	w := open(t)
	made := answer(w.CreateRole(w.ctx, call, &iam.CreateRoleInput{
		RoleName: shape.Ptr("Admin"), Path: shape.Ptr("/ops/"), Description: shape.Ptr("may do it"), MaxSessionDuration: shape.Ptr(int32(43200)),
		PermissionsBoundary: shape.Ptr(administers), Tags: tags("team=a"), AssumeRolePolicyDocument: shape.Ptr("{\n \"Version\": \"2012-10-17\",\n \"Statement\": {\"Action\": [\"sts:AssumeRole\"], \"Effect\": \"Allow\", \"Principal\": {\"Service\": [\"ec2.amazonaws.com\"]}}}"),
	}))(w).Role
	if _, err := ident.ParseRoleID(*made.RoleId); err != nil || *made.Arn != "arn:aws:iam::123456789012:role/ops/Admin" || *made.Path != "/ops/" || made.CreateDate.IsZero() ||
		show(made.Tags) != "team=a" || *made.PermissionsBoundary.PermissionsBoundaryArn != administers || *made.PermissionsBoundary.PermissionsBoundaryType != "Policy" ||
		made.MaxSessionDuration != nil || readable(t, made.AssumeRolePolicyDocument) != trustEC2 {
		t.Errorf("%+v", made)
	}
	plain := w.role("plain")
	t.Run("a role is read with all it has", func(t *testing.T) {
		got := w.getRole("Admin")
		if *got.RoleId != *made.RoleId || *got.MaxSessionDuration != 43200 || *got.Description != "may do it" || show(got.Tags) != "team=a" ||
			*got.PermissionsBoundary.PermissionsBoundaryArn != administers || readable(t, got.AssumeRolePolicyDocument) != trustEC2 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("what is not given is AWS's default", func(t *testing.T) {
		got := w.getRole("plain")
		if *got.Path != "/" || *got.MaxSessionDuration != 3600 || got.Description != nil || got.Tags != nil || got.PermissionsBoundary != nil {
			t.Errorf("%+v", got)
		}
	})
	t.Run("when it was used last is told only if that is known", func(t *testing.T) {
		if use := w.getRole("plain").RoleLastUsed; use == nil || use.LastUsedDate != nil || use.Region != nil {
			t.Errorf("%+v", use)
		}
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		w.RoleLastUsed = func(id ident.RoleID) (LastUse, bool) {
			return LastUse{At: at, Region: "us-east-1"}, string(id) == *plain.RoleId
		}
		defer func() { w.RoleLastUsed = nil }()
		if use := w.getRole("plain").RoleLastUsed; !use.LastUsedDate.Equal(at) || *use.Region != "us-east-1" {
			t.Errorf("%+v", use)
		}
		if use := w.getRole("Admin").RoleLastUsed; use.LastUsedDate != nil {
			t.Errorf("%+v", use)
		}
	})
	t.Run("roles are listed by name and path, on pages, without tags and boundaries", func(t *testing.T) {
		in := &iam.ListRolesInput{MaxItems: shape.Ptr(int32(1))}
		var list []string
		for {
			out := answer(w.ListRoles(w.ctx, call, in))(w)
			for _, r := range out.Roles {
				list = append(list, fmt.Sprint(*r.RoleName, " ", *r.MaxSessionDuration))
				if r.Tags != nil || r.PermissionsBoundary != nil || r.RoleLastUsed != nil {
					t.Errorf("%+v", r)
				}
			}
			if in.Marker = out.Marker; in.Marker == nil {
				break
			}
		}
		if got := strings.Join(list, ", "); got != "Admin 43200, plain 3600" {
			t.Error(got)
		}
		if out := answer(w.ListRoles(w.ctx, call, &iam.ListRolesInput{PathPrefix: shape.Ptr("/ops/")}))(w); len(out.Roles) != 1 || *out.Roles[0].Description != "may do it" {
			t.Errorf("%+v", out.Roles)
		}
		if out := answer(w.ListRoles(w.ctx, call, &iam.ListRolesInput{PathPrefix: shape.Ptr("/none/")}))(w); out.Roles == nil || len(out.Roles) != 0 {
			t.Errorf("%+v", out.Roles)
		}
	})
	t.Run("a role is updated; what is not given stays", func(t *testing.T) {
		for _, c := range []struct {
			in          iam.UpdateRoleInput
			description string
			seconds     int32
		}{
			{iam.UpdateRoleInput{}, "may do it", 43200},
			{iam.UpdateRoleInput{MaxSessionDuration: shape.Ptr(int32(7200))}, "may do it", 7200},
			{iam.UpdateRoleInput{Description: shape.Ptr("other")}, "other", 7200},
		} {
			c.in.RoleName = shape.Ptr("Admin")
			answer(w.UpdateRole(w.ctx, call, &c.in))(w)
			if got := w.getRole("Admin"); *got.Description != c.description || *got.MaxSessionDuration != c.seconds {
				t.Errorf("%s %d", *got.Description, *got.MaxSessionDuration)
			}
		}
		out := answer(w.UpdateRoleDescription(w.ctx, call, &iam.UpdateRoleDescriptionInput{RoleName: shape.Ptr("Admin"), Description: shape.Ptr("third")}))(w)
		if *out.Role.Description != "third" || *w.getRole("Admin").Description != "third" {
			t.Errorf("%+v", out.Role)
		}
		answer(w.UpdateRole(w.ctx, call, &iam.UpdateRoleInput{RoleName: shape.Ptr("Admin"), Description: shape.Ptr("")}))(w)
		if got := w.getRole("Admin"); got.Description != nil {
			t.Errorf("%+v", got)
		}
	})
	t.Run("a deleted role is gone, and its name is free for another one", func(t *testing.T) {
		answer(w.DeleteRole(w.ctx, call, &iam.DeleteRoleInput{RoleName: shape.Ptr("plain")}))(w)
		if again := w.role("PLAIN"); *again.RoleId == *plain.RoleId {
			t.Error("it has the old one's id")
		}
	})
}

func TestRoleOperationsRefuse(t *testing.T) {
	create := func(w *world, in iam.CreateRoleInput) error {
		if in.RoleName == nil {
			in.RoleName = shape.Ptr("new")
		}
		if in.AssumeRolePolicyDocument == nil {
			in.AssumeRolePolicyDocument = shape.Ptr(trustEC2)
		}
		_, err := w.CreateRole(w.ctx, call, &in)
		return err
	}
	trust := func(w *world, role, document string) error {
		_, err := w.UpdateAssumeRolePolicy(w.ctx, call, &iam.UpdateAssumeRolePolicyInput{RoleName: &role, PolicyDocument: &document})
		return err
	}
	remove := func(name string) func(*world) error {
		return func(w *world) error {
			_, err := w.DeleteRole(w.ctx, call, &iam.DeleteRoleInput{RoleName: &name})
			return err
		}
	}
	long := `{"Version":"2012-10-17","Statement":[{"Sid":"` + strings.Repeat("a", 2048) + `","Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	for _, c := range []struct {
		name       string
		do         func(*world) error
		code, text string
	}{
		{"a name that is taken in another case", func(w *world) error { return create(w, iam.CreateRoleInput{RoleName: shape.Ptr("ADMIN")}) }, "EntityAlreadyExists", "Role with name ADMIN already exists."},
		{"a document that is no JSON", func(w *world) error {
			return create(w, iam.CreateRoleInput{AssumeRolePolicyDocument: shape.Ptr("{\n x")})
		}, "MalformedPolicyDocument", "This policy contains invalid Json (line 2, column 2: "},
		{"a document with another action", func(w *world) error {
			return create(w, iam.CreateRoleInput{AssumeRolePolicyDocument: shape.Ptr(strings.Replace(trustEC2, "sts:AssumeRole", "s3:Get", 1))})
		}, "MalformedPolicyDocument", "AssumeRole policy may only specify STS AssumeRole actions."},
		{"a document over the quota", func(w *world) error { return create(w, iam.CreateRoleInput{AssumeRolePolicyDocument: &long}) }, "LimitExceeded", "Cannot exceed quota for ACLSizePerRole: 2048"},
		{"a boundary that does not exist", func(w *world) error {
			return create(w, iam.CreateRoleInput{PermissionsBoundary: shape.Ptr(nobodysARN)})
		}, "NoSuchEntity", "Scope ARN: " + nobodysARN + " does not exist or is not attachable."},
		{"a boundary that is no policy", func(w *world) error {
			return create(w, iam.CreateRoleInput{PermissionsBoundary: shape.Ptr("arn:aws:iam::123456789012:user/ada")})
		}, "InvalidInput", "ARN arn:aws:iam::123456789012:user/ada is not valid."},
		{"tag keys that differ in case only", func(w *world) error { return create(w, iam.CreateRoleInput{Tags: tags("a=1", "A=2")}) }, "InvalidInput", "Duplicate tag keys found. Please note that Tag keys are case insensitive."},
		{"reading nobody", func(w *world) error {
			_, err := w.GetRole(w.ctx, call, &iam.GetRoleInput{RoleName: nobody})
			return err
		}, "NoSuchEntity", "The role with name nobody cannot be found."},
		{"reading by another case", func(w *world) error {
			_, err := w.GetRole(w.ctx, call, &iam.GetRoleInput{RoleName: shape.Ptr("Admin")})
			return err
		}, "NoSuchEntity", "The role with name Admin cannot be found."},
		{"updating nobody", func(w *world) error {
			_, err := w.UpdateRole(w.ctx, call, &iam.UpdateRoleInput{RoleName: nobody})
			return err
		}, "NoSuchEntity", "The role with name nobody cannot be found."},
		{"describing nobody", func(w *world) error {
			_, err := w.UpdateRoleDescription(w.ctx, call, &iam.UpdateRoleDescriptionInput{RoleName: nobody, Description: nobody})
			return err
		}, "NoSuchEntity", "The role with name nobody cannot be found."},
		{"trust for nobody", func(w *world) error { return trust(w, "nobody", trustEC2) }, "NoSuchEntity", "The role with name nobody cannot be found."},
		{"trust that is malformed", func(w *world) error {
			return trust(w, "admin", `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}]}`)
		}, "MalformedPolicyDocument", "Has prohibited field Resource (line 1, column "},
		{"trust over the quota", func(w *world) error { return trust(w, "admin", long) }, "LimitExceeded", "ACLSizePerRole: 2048"},
		{"deleting nobody", remove("nobody"), "NoSuchEntity", "The role with name nobody cannot be found."},
		{"deleting a role with attached policies", remove("attached"), "DeleteConflict", "Cannot delete entity, must detach all policies first."},
		{"deleting a role with inline policies", remove("inline"), "DeleteConflict", "Cannot delete entity, must delete policies first."},
		{"deleting a role in an instance profile", remove("instance"), "DeleteConflict", "Cannot delete entity, must remove roles from instance profile first."},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := open(t)
			for _, name := range []string{"admin", "attached", "inline", "instance"} {
				w.role(name)
			}
			w.done(w.attachTo("role", "attached", administers))
			w.done(w.putPolicy("role", "inline", "p", allowAll))
			w.profile("p")
			answer(w.AddRoleToInstanceProfile(w.ctx, call, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: shape.Ptr("p"), RoleName: shape.Ptr("instance")}))(w)
			check(t, w.untouched(func() error { return c.do(w) }), c.code, c.text)
		})
	}
	t.Run("a marker that is none", func(t *testing.T) {
		_, err := open(t).ListRoles(t.Context(), call, &iam.ListRolesInput{Marker: shape.Ptr("!")})
		refuses(t, err, awserr.Validation, "Invalid Marker.")
	})
}

// trusting is a trust policy for AWS principals.
func trusting(names ...string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["` + strings.Join(names, `","`) + `"]},"Action":"sts:AssumeRole"}]}`
}

func TestTrust(t *testing.T) {
	const ada, root = "arn:aws:iam::123456789012:user/ada", "arn:aws:iam::123456789012:root"
	setUp := func(t *testing.T) (w *world, adaID string) {
		w = open(t)
		adaID = string(w.user("ada").ID)
		w.role("reader")
		w.role("target")
		return w, adaID
	}
	set := func(w *world, document string) error {
		_, err := w.UpdateAssumeRolePolicy(w.ctx, call, &iam.UpdateAssumeRolePolicyInput{RoleName: shape.Ptr("target"), PolicyDocument: &document})
		return err
	}
	stored := func(w *world) string {
		role, err := findRole(w.DB.Snapshot(), "target")
		w.done(err)
		return role.Trust
	}
	shown := func(w *world) string { return readable(w.t, w.getRole("target").AssumeRolePolicyDocument) }

	t.Run("IAM-5 users and roles are stored by their ids and shown by their ARNs", func(t *testing.T) {
		w, adaID := setUp(t)
		document := trusting(ada, "arn:aws:iam::123456789012:role/reader", root, "210987654321", "*", "arn:aws:sts::123456789012:assumed-role/reader/s", "arn:aws:sts::123456789012:federated-user/bob")
		w.done(set(w, document))
		want := trusting(adaID, *w.getRole("reader").RoleId, root, "210987654321", "*", "arn:aws:sts::123456789012:assumed-role/reader/s", "arn:aws:sts::123456789012:federated-user/bob")
		if got := stored(w); got != want {
			t.Errorf("stored %s, want %s", got, want)
		}
		if got := shown(w); got != document {
			t.Errorf("shown %s", got)
		}
	})
	t.Run("IAM-5 a user made again under the old name is not trusted", func(t *testing.T) {
		w, adaID := setUp(t)
		w.done(set(w, trusting(ada, root)))
		answer(w.DeleteUser(w.ctx, call, &iam.DeleteUserInput{UserName: shape.Ptr("ada")}))(w)
		if again := string(w.user("ada").ID); again == adaID || strings.Contains(stored(w), again) {
			t.Errorf("%s is trusted by %s", again, stored(w))
		}
		if got := shown(w); got != trusting(adaID, root) {
			t.Errorf("shown %s: an id whose owner is gone is shown as it is", got)
		}
	})
	t.Run("IAM-5 the same for a role", func(t *testing.T) {
		w, _ := setUp(t)
		old := *w.getRole("reader").RoleId
		w.done(set(w, trusting("arn:aws:iam::123456789012:role/reader", root)))
		answer(w.DeleteRole(w.ctx, call, &iam.DeleteRoleInput{RoleName: shape.Ptr("reader")}))(w)
		w.role("reader")
		if got := shown(w); got != trusting(old, root) {
			t.Errorf("shown %s", got)
		}
	})
	t.Run("a renamed user is shown under the new name", func(t *testing.T) {
		w, _ := setUp(t)
		w.done(set(w, trusting(ada, root)))
		answer(w.UpdateUser(w.ctx, call, &iam.UpdateUserInput{UserName: shape.Ptr("ada"), NewUserName: shape.Ptr("lovelace"), NewPath: shape.Ptr("/x/")}))(w)
		if got := shown(w); got != trusting("arn:aws:iam::123456789012:user/x/lovelace", root) {
			t.Errorf("shown %s", got)
		}
	})
	t.Run("a unique id is taken while its owner is there", func(t *testing.T) {
		w, adaID := setUp(t)
		w.done(set(w, trusting(adaID, root)))
		if got := shown(w); got != trusting(ada, root) {
			t.Errorf("shown %s", got)
		}
	})
	t.Run("IAM-5 a provider that is named as a user does not make the user stored by name", func(t *testing.T) {
		w, adaID := setUp(t)
		document := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + ada + `","Federated":"` + ada + `"},"Action":"sts:AssumeRole"}]}`
		w.done(set(w, document))
		if got := stored(w); !strings.Contains(got, `"AWS":"`+adaID+`","Federated":"`+ada+`"`) {
			t.Errorf("stored %s", got)
		}
	})
	for _, c := range []struct{ name, principal string }{
		{"a user that does not exist", "arn:aws:iam::123456789012:user/nobody"},
		{"a role that does not exist", "arn:aws:iam::123456789012:role/nobody"},
		{"a user by another case", "arn:aws:iam::123456789012:user/Ada"},
		{"a user under another path", "arn:aws:iam::123456789012:user/ops/ada"},
		{"a user of another account", "arn:aws:iam::210987654321:user/ada"},
		{"a user of another partition", "arn:aws-cn:iam::123456789012:user/ada"},
		{"a user as a role", "arn:aws:iam::123456789012:role/ada"},
		{"the id of nobody", "AIDAAAAAAAAAAAAAAAAAA"},
		{"the id of no role", "AROAAAAAAAAAAAAAAAAAA"},
	} {
		t.Run("IAM-5 "+c.name+" is no principal", func(t *testing.T) {
			w, _ := setUp(t)
			document := trusting(c.principal)
			text := `Invalid principal in policy: "AWS":"` + c.principal + `" (line 1, column 38: there is no such user or role)`
			check(t, w.untouched(func() error { return set(w, document) }), "MalformedPolicyDocument", text)
			check(t, w.untouched(func() error {
				_, err := w.CreateRole(w.ctx, call, &iam.CreateRoleInput{RoleName: shape.Ptr("new"), AssumeRolePolicyDocument: &document})
				return err
			}), "MalformedPolicyDocument", text)
		})
	}
	t.Run("a stored policy that cannot be read is shown as it is", func(t *testing.T) {
		w, _ := setUp(t)
		w.put(func(tx *state.Tx) {
			role, _ := findRole(tx, "target")
			role = state.Clone(role)
			role.Trust = "broken"
			state.Put(tx, state.Roles, role)
		})
		if got := shown(w); got != "broken" {
			t.Error(got)
		}
	})
}

func TestServiceLinkedRoles(t *testing.T) {
	const name, of = "AWSServiceRoleForCloudTrail", "cloudtrail.amazonaws.com"
	create := func(w *world, service string) (*iam.Role, error) {
		out, err := w.CreateServiceLinkedRole(w.ctx, call, &iam.CreateServiceLinkedRoleInput{AWSServiceName: &service})
		if err != nil {
			return nil, err
		}
		return out.Role, nil
	}
	t.Run("are made with what belongs to them", func(t *testing.T) {
		for service, linked := range linkedRoles {
			w := open(t)
			made, err := create(w, service)
			w.done(err)
			if *made.RoleName != linked.name || *made.Path != "/aws-service-role/"+service+"/" || *made.Arn != "arn:aws:iam::123456789012:role/aws-service-role/"+service+"/"+linked.name ||
				readable(t, made.AssumeRolePolicyDocument) != strings.Replace(trustEC2, "ec2.amazonaws.com", service, 1) {
				t.Errorf("%+v", made)
			}
			pages, err := w.attachedPages("role", linked.name, nil, 10)
			if err != nil || pages[0] != linked.policy {
				t.Errorf("%v, %v", pages, err)
			}
			if _, err := w.GetPolicy(w.ctx, call, &iam.GetPolicyInput{PolicyArn: shape.Ptr("arn:aws:iam::aws:policy/aws-service-role/" + linked.policy)}); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("are deleted, and the deletion can be asked after for a day", func(t *testing.T) {
		w := open(t)
		made, err := create(w, of)
		w.done(err)
		task := answer(w.DeleteServiceLinkedRole(w.ctx, call, &iam.DeleteServiceLinkedRoleInput{RoleName: made.RoleName}))(w).DeletionTaskId
		if !strings.HasPrefix(*task, "task/aws-service-role/"+of+"/"+name+"/") {
			t.Error(*task)
		}
		if out := answer(w.GetServiceLinkedRoleDeletionStatus(w.ctx, call, &iam.GetServiceLinkedRoleDeletionStatusInput{DeletionTaskId: task}))(w); *out.Status != "SUCCEEDED" || out.Reason != nil {
			t.Errorf("%+v", out)
		}
		_, err = w.GetRole(w.ctx, call, &iam.GetRoleInput{RoleName: made.RoleName})
		check(t, err, "NoSuchEntity", name)
		w.put(func(tx *state.Tx) {
			d, _ := state.Get(tx, state.RoleDeletions, *task)
			d = state.Clone(d)
			d.Created = d.Created.Add(-25 * time.Hour)
			state.Put(tx, state.RoleDeletions, d)
		})
		made, err = create(w, of)
		w.done(err)
		answer(w.DeleteServiceLinkedRole(w.ctx, call, &iam.DeleteServiceLinkedRoleInput{RoleName: made.RoleName}))(w)
		_, err = w.GetServiceLinkedRoleDeletionStatus(w.ctx, call, &iam.GetServiceLinkedRoleDeletionStatusInput{DeletionTaskId: task})
		check(t, err, "NoSuchEntity", *task)
	})
	role := shape.Ptr(name)
	for _, c := range []struct {
		name       string
		do         func(*world) error
		code, text string
	}{
		{"a second one", func(w *world) error { _, err := create(w, of); return err }, "InvalidInput", "Service role name " + name + " has been taken in this account, please try a different suffix."},
		{"one of a service that has none", func(w *world) error { _, err := create(w, "workspaces.amazonaws.com"); return err }, "InvalidInput", "workspaces.amazonaws.com is not a service that roles can be linked to."},
		{"one with a suffix", func(w *world) error {
			_, err := w.CreateServiceLinkedRole(w.ctx, call, &iam.CreateServiceLinkedRoleInput{AWSServiceName: shape.Ptr("ds.amazonaws.com"), CustomSuffix: shape.Ptr("two")})
			return err
		}, "InvalidInput", "Custom suffix is not allowed for ds.amazonaws.com"},
		{"deleting none", func(w *world) error {
			_, err := w.DeleteServiceLinkedRole(w.ctx, call, &iam.DeleteServiceLinkedRoleInput{RoleName: nobody})
			return err
		}, "NoSuchEntity", "The role with name nobody cannot be found."},
		{"deleting another role as one", func(w *world) error {
			_, err := w.DeleteServiceLinkedRole(w.ctx, call, &iam.DeleteServiceLinkedRoleInput{RoleName: shape.Ptr("plain")})
			return err
		}, "NoSuchEntity", "The role with name plain cannot be found."},
		{"the end of a deletion that nobody asked for", func(w *world) error {
			_, err := w.GetServiceLinkedRoleDeletionStatus(w.ctx, call, &iam.GetServiceLinkedRoleDeletionStatusInput{DeletionTaskId: shape.Ptr("task/aws-service-role/x/y/z")})
			return err
		}, "NoSuchEntity", "Deletion task task/aws-service-role/x/y/z cannot be found."},
		{"the end of what is no deletion", func(w *world) error {
			_, err := w.GetServiceLinkedRoleDeletionStatus(w.ctx, call, &iam.GetServiceLinkedRoleDeletionStatusInput{DeletionTaskId: shape.Ptr("x")})
			return err
		}, "InvalidInput", "Deletion task id x is not valid."},
		{"deleting it as any role", func(w *world) error {
			_, err := w.DeleteRole(w.ctx, call, &iam.DeleteRoleInput{RoleName: role})
			return err
		}, "UnmodifiableEntity", "Cannot perform the operation on the protected role '" + name + "' - this role is only modifiable by AWS"},
		{"longer sessions", func(w *world) error {
			_, err := w.UpdateRole(w.ctx, call, &iam.UpdateRoleInput{RoleName: role, MaxSessionDuration: shape.Ptr(int32(7200))})
			return err
		}, "UnmodifiableEntity", "protected role"},
		{"other trust", func(w *world) error {
			_, err := w.UpdateAssumeRolePolicy(w.ctx, call, &iam.UpdateAssumeRolePolicyInput{RoleName: role, PolicyDocument: shape.Ptr(trustEC2)})
			return err
		}, "UnmodifiableEntity", "protected role"},
		{"a policy more", func(w *world) error { return w.attachTo("role", name, administers) }, "UnmodifiableEntity", "protected role"},
		{"its policy less", func(w *world) error { return w.detachFrom("role", name, linkedARN) }, "UnmodifiableEntity", "protected role"},
		{"an inline policy", func(w *world) error { return w.putPolicy("role", name, "p", allowAll) }, "UnmodifiableEntity", "protected role"},
		{"an inline policy less", func(w *world) error { return w.deletePolicyOf("role", name, "p") }, "UnmodifiableEntity", "protected role"},
		{"a boundary", func(w *world) error {
			_, err := w.PutRolePermissionsBoundary(w.ctx, call, &iam.PutRolePermissionsBoundaryInput{RoleName: role, PermissionsBoundary: shape.Ptr(administers)})
			return err
		}, "UnmodifiableEntity", "protected role"},
		{"no boundary", func(w *world) error {
			_, err := w.DeleteRolePermissionsBoundary(w.ctx, call, &iam.DeleteRolePermissionsBoundaryInput{RoleName: role})
			return err
		}, "UnmodifiableEntity", "protected role"},
		{"an instance profile", func(w *world) error {
			_, err := w.AddRoleToInstanceProfile(w.ctx, call, &iam.AddRoleToInstanceProfileInput{RoleName: role, InstanceProfileName: shape.Ptr("p")})
			return err
		}, "UnmodifiableEntity", "protected role"},
		{"no instance profile", func(w *world) error {
			_, err := w.RemoveRoleFromInstanceProfile(w.ctx, call, &iam.RemoveRoleFromInstanceProfileInput{RoleName: role, InstanceProfileName: shape.Ptr("p")})
			return err
		}, "UnmodifiableEntity", "protected role"},
	} {
		t.Run("refuse "+c.name, func(t *testing.T) {
			w := open(t)
			_, err := create(w, of)
			w.done(err)
			w.role("plain")
			w.profile("p")
			check(t, w.untouched(func() error { return c.do(w) }), c.code, c.text)
		})
	}
	t.Run("take another description and tags", func(t *testing.T) {
		w := open(t)
		answer(w.CreateServiceLinkedRole(w.ctx, call, &iam.CreateServiceLinkedRoleInput{AWSServiceName: shape.Ptr(of), Description: shape.Ptr("mine")}))(w)
		if got := w.getRole(name); *got.Description != "mine" {
			t.Errorf("%+v", got)
		}
		answer(w.UpdateRole(w.ctx, call, &iam.UpdateRoleInput{RoleName: role, Description: shape.Ptr("a")}))(w)
		answer(w.UpdateRoleDescription(w.ctx, call, &iam.UpdateRoleDescriptionInput{RoleName: role, Description: shape.Ptr("b")}))(w)
		answer(w.TagRole(w.ctx, call, &iam.TagRoleInput{RoleName: role, Tags: tags("a=1")}))(w)
		if got := w.getRole(name); *got.Description != "b" || show(got.Tags) != "a=1" {
			t.Errorf("%+v", got)
		}
	})
}

func TestInstanceProfiles(t *testing.T) {
	w := open(t)
	made := answer(w.CreateInstanceProfile(w.ctx, call, &iam.CreateInstanceProfileInput{InstanceProfileName: shape.Ptr("Web"), Path: shape.Ptr("/x/"), Tags: tags("a=1", "A=2")}))(w).InstanceProfile
	if *made.Arn != "arn:aws:iam::123456789012:instance-profile/x/Web" || !strings.HasPrefix(*made.InstanceProfileId, "AIPA") || made.Roles == nil || len(made.Roles) != 0 || show(made.Tags) != "A=2 a=1" {
		t.Errorf("%+v", made)
	}
	w.profile("bare")
	w.role("server")
	web, server := shape.Ptr("Web"), shape.Ptr("server")
	get := func(name string) *iam.InstanceProfile {
		return answer(w.GetInstanceProfile(w.ctx, call, &iam.GetInstanceProfileInput{InstanceProfileName: &name}))(w).InstanceProfile
	}
	answer(w.AddRoleToInstanceProfile(w.ctx, call, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: web, RoleName: server}))(w)
	if got := get("Web"); len(got.Roles) != 1 || *got.Roles[0].RoleName != "server" || got.Roles[0].MaxSessionDuration != nil || show(got.Tags) != "A=2 a=1" {
		t.Errorf("%+v", got)
	}
	if got := get("bare"); *got.Path != "/" || got.Tags == nil || got.Roles == nil {
		t.Errorf("%+v", got)
	}
	list := func(prefix *string) string {
		in := &iam.ListInstanceProfilesInput{PathPrefix: prefix, MaxItems: shape.Ptr(int32(1))}
		var list []string
		for {
			out := answer(w.ListInstanceProfiles(w.ctx, call, in))(w)
			for _, p := range out.InstanceProfiles {
				list = append(list, *p.InstanceProfileName)
			}
			if in.Marker = out.Marker; in.Marker == nil {
				return strings.Join(list, " ")
			}
		}
	}
	if all, some := list(nil), list(shape.Ptr("/x/")); all != "bare Web" || some != "Web" {
		t.Error(all, some)
	}
	of := func(role string) int {
		out := answer(w.ListInstanceProfilesForRole(w.ctx, call, &iam.ListInstanceProfilesForRoleInput{RoleName: &role}))(w)
		if out.InstanceProfiles == nil {
			t.Error("no list")
		}
		return len(out.InstanceProfiles)
	}
	w.role("other")
	if of("server") != 1 || of("other") != 0 {
		t.Error(of("server"), of("other"))
	}
	refuse := func(name string, do func() error, code, text string) {
		t.Run("refuse "+name, func(t *testing.T) { check(t, w.untouched(do), code, text) })
	}
	refuse("a name that is taken in another case", func() error {
		_, err := w.CreateInstanceProfile(w.ctx, call, &iam.CreateInstanceProfileInput{InstanceProfileName: shape.Ptr("WEB")})
		return err
	}, "EntityAlreadyExists", "Instance Profile WEB already exists.")
	refuse("a reserved tag key", func() error {
		_, err := w.CreateInstanceProfile(w.ctx, call, &iam.CreateInstanceProfileInput{InstanceProfileName: nobody, Tags: tags("aws:a=1")})
		return err
	}, "InvalidInput", "reserved")
	refuse("reading none", func() error {
		_, err := w.GetInstanceProfile(w.ctx, call, &iam.GetInstanceProfileInput{InstanceProfileName: nobody})
		return err
	}, "NoSuchEntity", "Instance Profile nobody cannot be found.")
	refuse("those of no role", func() error {
		_, err := w.ListInstanceProfilesForRole(w.ctx, call, &iam.ListInstanceProfilesForRoleInput{RoleName: nobody})
		return err
	}, "NoSuchEntity", "The role with name nobody cannot be found.")
	refuse("a second role", func() error {
		_, err := w.AddRoleToInstanceProfile(w.ctx, call, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: web, RoleName: shape.Ptr("other")})
		return err
	}, "LimitExceeded", "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
	refuse("a role for none", func() error {
		_, err := w.AddRoleToInstanceProfile(w.ctx, call, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: nobody, RoleName: server})
		return err
	}, "NoSuchEntity", "Instance Profile nobody cannot be found.")
	refuse("no role", func() error {
		_, err := w.AddRoleToInstanceProfile(w.ctx, call, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: shape.Ptr("bare"), RoleName: nobody})
		return err
	}, "NoSuchEntity", "The role with name nobody cannot be found.")
	refuse("removing from none", func() error {
		_, err := w.RemoveRoleFromInstanceProfile(w.ctx, call, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: nobody, RoleName: server})
		return err
	}, "NoSuchEntity", "Instance Profile nobody cannot be found.")
	refuse("removing no role", func() error {
		_, err := w.RemoveRoleFromInstanceProfile(w.ctx, call, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: web, RoleName: nobody})
		return err
	}, "NoSuchEntity", "The role with name nobody cannot be found.")
	refuse("removing a role that is not in it", func() error {
		_, err := w.RemoveRoleFromInstanceProfile(w.ctx, call, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: web, RoleName: shape.Ptr("other")})
		return err
	}, "NoSuchEntity", "Role other in Instance Profile Web cannot be found.")
	refuse("deleting none", func() error {
		_, err := w.DeleteInstanceProfile(w.ctx, call, &iam.DeleteInstanceProfileInput{InstanceProfileName: nobody})
		return err
	}, "NoSuchEntity", "Instance Profile nobody cannot be found.")
	refuse("deleting one with a role", func() error {
		_, err := w.DeleteInstanceProfile(w.ctx, call, &iam.DeleteInstanceProfileInput{InstanceProfileName: web})
		return err
	}, "DeleteConflict", "Cannot delete entity, must remove roles from instance profile first.")
	t.Run("refuse a marker that is none", func(t *testing.T) {
		_, err := w.ListInstanceProfiles(w.ctx, call, &iam.ListInstanceProfilesInput{Marker: shape.Ptr("!")})
		refuses(t, err, awserr.Validation, "Invalid Marker.")
		_, err = w.ListInstanceProfilesForRole(w.ctx, call, &iam.ListInstanceProfilesForRoleInput{RoleName: server, Marker: shape.Ptr("!")})
		refuses(t, err, awserr.Validation, "Invalid Marker.")
	})
	answer(w.RemoveRoleFromInstanceProfile(w.ctx, call, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: web, RoleName: server}))(w)
	answer(w.DeleteInstanceProfile(w.ctx, call, &iam.DeleteInstanceProfileInput{InstanceProfileName: web}))(w)
	w.profile("WEB")
	answer(w.DeleteRole(w.ctx, call, &iam.DeleteRoleInput{RoleName: server}))(w)
}
