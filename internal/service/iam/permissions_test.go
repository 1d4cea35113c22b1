package iam

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/service"
	"carrel/internal/state"
)

const (
	allowAll    = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	trustEC2    = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	nobodysARN  = "arn:aws:iam::123456789012:policy/nobodys"
	administers = "arn:aws:iam::aws:policy/AdministratorAccess"
	linkedARN   = "arn:aws:iam::aws:policy/aws-service-role/CloudTrailServiceRolePolicy"
)

var nobody = shape.Ptr("nobody")

// call is nobody's in particular: who may is not this package's question.
var call service.Call

// done fails the test when something that must work did not.
func (w *world) done(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// answer gives what an operation answered; it must have answered.
func answer[T any](out *T, err error) func(w *world) *T {
	return func(w *world) *T {
		w.t.Helper()
		w.done(err)
		return out
	}
}

func (w *world) group(name string) *iam.Group {
	w.t.Helper()
	return answer(w.CreateGroup(w.ctx, call, &iam.CreateGroupInput{GroupName: &name}))(w).Group
}

func (w *world) role(name string) *iam.Role {
	w.t.Helper()
	return answer(w.CreateRole(w.ctx, call, &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: shape.Ptr(trustEC2)}))(w).Role
}

// policy makes a managed policy and gives its ARN.
func (w *world) policy(name string) string {
	w.t.Helper()
	return *answer(w.CreatePolicy(w.ctx, call, &iam.CreatePolicyInput{PolicyName: &name, PolicyDocument: shape.Ptr(allowAll)}))(w).Policy.Arn
}

func (w *world) profile(name string) *iam.InstanceProfile {
	w.t.Helper()
	return answer(w.CreateInstanceProfile(w.ctx, call, &iam.CreateInstanceProfileInput{InstanceProfileName: &name}))(w).InstanceProfile
}

// join puts a user into a group.
func (w *world) join(user, group string) error {
	_, err := w.AddUserToGroup(w.ctx, call, &iam.AddUserToGroupInput{UserName: &user, GroupName: &group})
	return err
}

// attachTo attaches to a bearer of a kind.
func (w *world) attachTo(kind, name, arn string) (err error) {
	switch kind {
	case "user":
		_, err = w.AttachUserPolicy(w.ctx, call, &iam.AttachUserPolicyInput{UserName: &name, PolicyArn: &arn})
	case "group":
		_, err = w.AttachGroupPolicy(w.ctx, call, &iam.AttachGroupPolicyInput{GroupName: &name, PolicyArn: &arn})
	default:
		_, err = w.AttachRolePolicy(w.ctx, call, &iam.AttachRolePolicyInput{RoleName: &name, PolicyArn: &arn})
	}
	return err
}

func (w *world) detachFrom(kind, name, arn string) (err error) {
	switch kind {
	case "user":
		_, err = w.DetachUserPolicy(w.ctx, call, &iam.DetachUserPolicyInput{UserName: &name, PolicyArn: &arn})
	case "group":
		_, err = w.DetachGroupPolicy(w.ctx, call, &iam.DetachGroupPolicyInput{GroupName: &name, PolicyArn: &arn})
	default:
		_, err = w.DetachRolePolicy(w.ctx, call, &iam.DetachRolePolicyInput{RoleName: &name, PolicyArn: &arn})
	}
	return err
}

// attachedPages are the names that the list of attached policies gives, page by page.
func (w *world) attachedPages(kind, name string, prefix *string, max int32) (pages []string, err error) {
	var marker *string
	for {
		var list []iam.AttachedPolicy
		var truncated *bool
		switch kind {
		case "user":
			var out *iam.ListAttachedUserPoliciesOutput
			if out, err = w.ListAttachedUserPolicies(w.ctx, call, &iam.ListAttachedUserPoliciesInput{UserName: &name, PathPrefix: prefix, Marker: marker, MaxItems: &max}); err == nil {
				list, marker, truncated = out.AttachedPolicies, out.Marker, out.IsTruncated
			}
		case "group":
			var out *iam.ListAttachedGroupPoliciesOutput
			if out, err = w.ListAttachedGroupPolicies(w.ctx, call, &iam.ListAttachedGroupPoliciesInput{GroupName: &name, PathPrefix: prefix, Marker: marker, MaxItems: &max}); err == nil {
				list, marker, truncated = out.AttachedPolicies, out.Marker, out.IsTruncated
			}
		default:
			var out *iam.ListAttachedRolePoliciesOutput
			if out, err = w.ListAttachedRolePolicies(w.ctx, call, &iam.ListAttachedRolePoliciesInput{RoleName: &name, PathPrefix: prefix, Marker: marker, MaxItems: &max}); err == nil {
				list, marker, truncated = out.AttachedPolicies, out.Marker, out.IsTruncated
			}
		}
		if err != nil {
			return nil, err
		}
		if list == nil || *truncated != (marker != nil) {
			w.t.Errorf("a page %v, truncated %t", list, *truncated)
		}
		var names []string
		for _, p := range list {
			if !strings.HasSuffix(*p.PolicyArn, "/"+*p.PolicyName) {
				w.t.Errorf("%s is called %s", *p.PolicyArn, *p.PolicyName)
			}
			names = append(names, *p.PolicyName)
		}
		pages = append(pages, strings.Join(names, " "))
		if marker == nil {
			return pages, nil
		}
	}
}

// putPolicy stores an inline policy of a bearer of a kind.
func (w *world) putPolicy(kind, bearer, name, document string) (err error) {
	switch kind {
	case "user":
		_, err = w.PutUserPolicy(w.ctx, call, &iam.PutUserPolicyInput{UserName: &bearer, PolicyName: &name, PolicyDocument: &document})
	case "group":
		_, err = w.PutGroupPolicy(w.ctx, call, &iam.PutGroupPolicyInput{GroupName: &bearer, PolicyName: &name, PolicyDocument: &document})
	default:
		_, err = w.PutRolePolicy(w.ctx, call, &iam.PutRolePolicyInput{RoleName: &bearer, PolicyName: &name, PolicyDocument: &document})
	}
	return err
}

// inlineOf gives an inline policy decoded.
func (w *world) inlineOf(kind, bearer, name string) (string, error) {
	var document, who, what *string
	var err error
	switch kind {
	case "user":
		var out *iam.GetUserPolicyOutput
		if out, err = w.GetUserPolicy(w.ctx, call, &iam.GetUserPolicyInput{UserName: &bearer, PolicyName: &name}); err == nil {
			document, who, what = out.PolicyDocument, out.UserName, out.PolicyName
		}
	case "group":
		var out *iam.GetGroupPolicyOutput
		if out, err = w.GetGroupPolicy(w.ctx, call, &iam.GetGroupPolicyInput{GroupName: &bearer, PolicyName: &name}); err == nil {
			document, who, what = out.PolicyDocument, out.GroupName, out.PolicyName
		}
	default:
		var out *iam.GetRolePolicyOutput
		if out, err = w.GetRolePolicy(w.ctx, call, &iam.GetRolePolicyInput{RoleName: &bearer, PolicyName: &name}); err == nil {
			document, who, what = out.PolicyDocument, out.RoleName, out.PolicyName
		}
	}
	if err != nil {
		return "", err
	}
	if *who != bearer || *what != name {
		w.t.Errorf("%s of %s, asked for %s of %s", *what, *who, name, bearer)
	}
	return readable(w.t, document), nil
}

func (w *world) deletePolicyOf(kind, bearer, name string) (err error) {
	switch kind {
	case "user":
		_, err = w.DeleteUserPolicy(w.ctx, call, &iam.DeleteUserPolicyInput{UserName: &bearer, PolicyName: &name})
	case "group":
		_, err = w.DeleteGroupPolicy(w.ctx, call, &iam.DeleteGroupPolicyInput{GroupName: &bearer, PolicyName: &name})
	default:
		_, err = w.DeleteRolePolicy(w.ctx, call, &iam.DeleteRolePolicyInput{RoleName: &bearer, PolicyName: &name})
	}
	return err
}

// inlineNames are the names of inline policies, all on pages of one.
func (w *world) inlineNames(kind, bearer string) (all []string, err error) {
	var marker *string
	for {
		var names []string
		one := shape.Ptr(int32(1))
		switch kind {
		case "user":
			var out *iam.ListUserPoliciesOutput
			if out, err = w.ListUserPolicies(w.ctx, call, &iam.ListUserPoliciesInput{UserName: &bearer, Marker: marker, MaxItems: one}); err == nil {
				names, marker = out.PolicyNames, out.Marker
			}
		case "group":
			var out *iam.ListGroupPoliciesOutput
			if out, err = w.ListGroupPolicies(w.ctx, call, &iam.ListGroupPoliciesInput{GroupName: &bearer, Marker: marker, MaxItems: one}); err == nil {
				names, marker = out.PolicyNames, out.Marker
			}
		default:
			var out *iam.ListRolePoliciesOutput
			if out, err = w.ListRolePolicies(w.ctx, call, &iam.ListRolePoliciesInput{RoleName: &bearer, Marker: marker, MaxItems: one}); err == nil {
				names, marker = out.PolicyNames, out.Marker
			}
		}
		if err != nil {
			return nil, err
		}
		if names == nil {
			w.t.Error("the list of names is missing")
		}
		if all = append(all, names...); marker == nil {
			return all, nil
		}
	}
}

// bearerOf makes a user, group or role.
func (w *world) bearerOf(kind, name string) {
	w.t.Helper()
	switch kind {
	case "user":
		w.user(name)
	case "group":
		w.group(name)
	default:
		w.role(name)
	}
}

var kinds = []string{"user", "group", "role"}

// readable is a document as a client reads it (RFC 3986).
func readable(t *testing.T, document *string) string {
	t.Helper()
	if strings.ContainsAny(*document, "+{} \"") {
		t.Errorf("%s is not encoded", *document)
	}
	text, err := url.PathUnescape(*document)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// refuses checks an error whose kind every service has.
func refuses(t *testing.T, err error, kind awserr.Kind, text string) {
	t.Helper()
	var e *awserr.Error
	if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(e.Message, text) {
		t.Errorf("%v, want %v %q", err, kind, text)
	}
}

// untouched runs do and checks that the records are the same afterwards: a refusal changes nothing.
func (w *world) untouched(do func() error) error {
	w.t.Helper()
	before := w.records()
	err := do()
	if after := w.records(); after != before {
		w.t.Errorf("the refusal changed records:\n%s\n%s", before, after)
	}
	return err
}

func (w *world) records() string {
	snap := w.DB.Snapshot()
	all, err := json.Marshal([]any{slices.Collect(state.All(snap, state.Users)), slices.Collect(state.All(snap, state.Groups)), slices.Collect(state.All(snap, state.Roles)),
		slices.Collect(state.All(snap, state.Policies)), slices.Collect(state.All(snap, state.InstanceProfiles))})
	w.done(err)
	return string(all)
}

func TestGroups(t *testing.T) {
	w := open(t)
	made := answer(w.CreateGroup(w.ctx, call, &iam.CreateGroupInput{GroupName: shape.Ptr("Ops"), Path: shape.Ptr("/staff/")}))(w).Group
	if *made.GroupName != "Ops" || *made.Path != "/staff/" || *made.Arn != "arn:aws:iam::123456789012:group/staff/Ops" || made.CreateDate.IsZero() || !strings.HasPrefix(*made.GroupId, "AGPA") {
		t.Errorf("%+v", made)
	}
	for _, name := range []string{"dev", "Admins"} {
		w.group(name)
	}
	for _, name := range []string{"bob", "ada", "Carl"} {
		w.user(name)
		w.done(w.join(name, "Ops"))
	}
	w.done(w.join("ada", "Ops")) // is in it already
	t.Run("a group shows its members by name, on pages", func(t *testing.T) {
		in := &iam.GetGroupInput{GroupName: shape.Ptr("Ops"), MaxItems: shape.Ptr(int32(2))}
		first := answer(w.GetGroup(w.ctx, call, in))(w)
		in.Marker = first.Marker
		second := answer(w.GetGroup(w.ctx, call, in))(w)
		if names(first.Users) != "ada bob" || !*first.IsTruncated || names(second.Users) != "Carl" || *second.IsTruncated || *second.Group.GroupId != *made.GroupId {
			t.Errorf("%v %v", names(first.Users), names(second.Users))
		}
	})
	t.Run("an empty group has an empty list of members", func(t *testing.T) {
		if out := answer(w.GetGroup(w.ctx, call, &iam.GetGroupInput{GroupName: shape.Ptr("dev")}))(w); out.Users == nil || len(out.Users) != 0 || *out.Group.Path != "/" {
			t.Errorf("%+v", out)
		}
	})
	t.Run("groups are listed by name and path, on pages", func(t *testing.T) {
		for _, c := range []struct {
			prefix *string
			want   string
		}{{nil, "Admins dev|Ops"}, {shape.Ptr("/sta"), "Ops"}, {shape.Ptr("/none/"), ""}} {
			in := &iam.ListGroupsInput{PathPrefix: c.prefix, MaxItems: shape.Ptr(int32(2))}
			var pages []string
			for {
				out := answer(w.ListGroups(w.ctx, call, in))(w)
				var list []string
				for _, g := range out.Groups {
					list = append(list, *g.GroupName)
				}
				pages = append(pages, strings.Join(list, " "))
				if in.Marker = out.Marker; in.Marker == nil {
					break
				}
			}
			if got := strings.Join(pages, "|"); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		}
	})
	groupsOf := func(user string) string {
		in := &iam.ListGroupsForUserInput{UserName: &user, MaxItems: shape.Ptr(int32(1))}
		var list []string
		for {
			out := answer(w.ListGroupsForUser(w.ctx, call, in))(w)
			for _, g := range out.Groups {
				list = append(list, *g.GroupName)
			}
			if in.Marker = out.Marker; in.Marker == nil {
				return strings.Join(list, " ")
			}
		}
	}
	t.Run("a user's groups are listed by name", func(t *testing.T) {
		w.done(w.join("ada", "dev"))
		if got := groupsOf("ada"); got != "dev Ops" {
			t.Error(got)
		}
	})
	t.Run("a renamed group keeps id and members, and gives its name up", func(t *testing.T) {
		rename := func(from, to string) {
			answer(w.UpdateGroup(w.ctx, call, &iam.UpdateGroupInput{GroupName: &from, NewGroupName: &to, NewPath: shape.Ptr("/new/")}))(w)
		}
		rename("Ops", "OPS")
		rename("OPS", "operators")
		answer(w.UpdateGroup(w.ctx, call, &iam.UpdateGroupInput{GroupName: shape.Ptr("operators")}))(w) // nothing to change
		out := answer(w.GetGroup(w.ctx, call, &iam.GetGroupInput{GroupName: shape.Ptr("operators")}))(w)
		if *out.Group.GroupId != *made.GroupId || *out.Group.Arn != "arn:aws:iam::123456789012:group/new/operators" || len(out.Users) != 3 {
			t.Errorf("%+v", out)
		}
		w.group("ops")
	})
	t.Run("who leaves a group is out of it, and leaving twice is no error", func(t *testing.T) {
		for range 2 {
			answer(w.RemoveUserFromGroup(w.ctx, call, &iam.RemoveUserFromGroupInput{UserName: shape.Ptr("ada"), GroupName: shape.Ptr("operators")}))(w)
		}
		if got := groupsOf("ada"); got != "dev" {
			t.Error(got)
		}
	})
	t.Run("an empty group is deleted, and its name is free", func(t *testing.T) {
		answer(w.DeleteGroup(w.ctx, call, &iam.DeleteGroupInput{GroupName: shape.Ptr("Admins")}))(w)
		w.group("ADMINS")
	})
}

func TestGroupOperationsRefuse(t *testing.T) {
	ops, ada := shape.Ptr("ops"), shape.Ptr("ada")
	for _, c := range []struct {
		name       string
		do         func(*world) error
		code, text string
	}{
		{"a name that is taken in another case", func(w *world) error {
			_, err := w.CreateGroup(w.ctx, call, &iam.CreateGroupInput{GroupName: shape.Ptr("OPS")})
			return err
		}, "EntityAlreadyExists", "Group with name OPS already exists."},
		{"reading nobody", func(w *world) error {
			_, err := w.GetGroup(w.ctx, call, &iam.GetGroupInput{GroupName: nobody})
			return err
		}, "NoSuchEntity", "The group with name nobody cannot be found."},
		{"reading by another case", func(w *world) error {
			_, err := w.GetGroup(w.ctx, call, &iam.GetGroupInput{GroupName: shape.Ptr("Ops")})
			return err
		}, "NoSuchEntity", "The group with name Ops cannot be found."},
		{"updating nobody", func(w *world) error {
			_, err := w.UpdateGroup(w.ctx, call, &iam.UpdateGroupInput{GroupName: nobody, NewPath: shape.Ptr("/x/")})
			return err
		}, "NoSuchEntity", "The group with name nobody cannot be found."},
		{"renaming to a name that is taken", func(w *world) error {
			_, err := w.UpdateGroup(w.ctx, call, &iam.UpdateGroupInput{GroupName: ops, NewGroupName: shape.Ptr("DEV")})
			return err
		}, "EntityAlreadyExists", "Group with name DEV already exists."},
		{"deleting nobody", func(w *world) error {
			_, err := w.DeleteGroup(w.ctx, call, &iam.DeleteGroupInput{GroupName: nobody})
			return err
		}, "NoSuchEntity", "nobody"},
		{"deleting a group with members", func(w *world) error {
			_, err := w.DeleteGroup(w.ctx, call, &iam.DeleteGroupInput{GroupName: ops})
			return err
		}, "DeleteConflict", "Cannot delete entity, must remove users from group first."},
		{"deleting a group with attached policies", func(w *world) error {
			_, err := w.DeleteGroup(w.ctx, call, &iam.DeleteGroupInput{GroupName: shape.Ptr("attached")})
			return err
		}, "DeleteConflict", "Cannot delete entity, must detach all policies first."},
		{"deleting a group with inline policies", func(w *world) error {
			_, err := w.DeleteGroup(w.ctx, call, &iam.DeleteGroupInput{GroupName: shape.Ptr("inline")})
			return err
		}, "DeleteConflict", "Cannot delete entity, must delete policies first."},
		{"nobody as a member", func(w *world) error { return w.join("nobody", "ops") }, "NoSuchEntity", "The user with name nobody cannot be found."},
		{"a member of nothing", func(w *world) error { return w.join("ada", "nobody") }, "NoSuchEntity", "The group with name nobody cannot be found."},
		{"removing nobody", func(w *world) error {
			_, err := w.RemoveUserFromGroup(w.ctx, call, &iam.RemoveUserFromGroupInput{UserName: nobody, GroupName: nobody})
			return err
		}, "NoSuchEntity", "The user with name nobody cannot be found."},
		{"removing from nothing", func(w *world) error {
			_, err := w.RemoveUserFromGroup(w.ctx, call, &iam.RemoveUserFromGroupInput{UserName: ada, GroupName: nobody})
			return err
		}, "NoSuchEntity", "The group with name nobody cannot be found."},
		{"the groups of nobody", func(w *world) error {
			_, err := w.ListGroupsForUser(w.ctx, call, &iam.ListGroupsForUserInput{UserName: nobody})
			return err
		}, "NoSuchEntity", "The user with name nobody cannot be found."},
		{"deleting a user who is in a group", func(w *world) error {
			_, err := w.DeleteUser(w.ctx, call, &iam.DeleteUserInput{UserName: ada})
			return err
		}, "DeleteConflict", "Cannot delete entity, must remove users from group first."},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := open(t)
			for _, g := range []string{"ops", "dev", "attached", "inline"} {
				w.group(g)
			}
			w.user("ada")
			w.done(w.join("ada", "ops"))
			w.done(w.attachTo("group", "attached", administers))
			w.done(w.putPolicy("group", "inline", "p", allowAll))
			check(t, w.untouched(func() error { return c.do(w) }), c.code, c.text)
		})
	}
	t.Run("an eleventh group", func(t *testing.T) {
		w := open(t)
		w.user("ada")
		for i := range 11 {
			w.group(fmt.Sprint("g", i))
		}
		for i := range 10 {
			w.done(w.join("ada", fmt.Sprint("g", i)))
		}
		check(t, w.untouched(func() error { return w.join("ada", "g10") }), "LimitExceeded", "Cannot exceed quota for GroupsPerUser: 10")
		w.done(w.join("ada", "g3")) // is in it already
	})
	t.Run("markers that are none", func(t *testing.T) {
		w := open(t)
		w.group("ops")
		w.user("ada")
		bad := shape.Ptr("!")
		_, err := w.ListGroups(w.ctx, call, &iam.ListGroupsInput{Marker: bad})
		refuses(t, err, awserr.Validation, "Invalid Marker.")
		_, err = w.GetGroup(w.ctx, call, &iam.GetGroupInput{GroupName: ops, Marker: bad})
		refuses(t, err, awserr.Validation, "Invalid Marker.")
		_, err = w.ListGroupsForUser(w.ctx, call, &iam.ListGroupsForUserInput{UserName: ada, Marker: bad})
		refuses(t, err, awserr.Validation, "Invalid Marker.")
	})
}

func TestAUserWithSomethingIsNotDeleted(t *testing.T) {
	for _, c := range []struct {
		name string
		give func(w *world, id string)
		text string
	}{
		{"attached policies", func(w *world, _ string) { w.done(w.attachTo("user", "ada", administers)) }, "must detach all policies first."},
		{"inline policies", func(w *world, _ string) { w.done(w.putPolicy("user", "ada", "p", allowAll)) }, "must delete policies first."},
		{"a login profile", func(w *world, id string) {
			w.put(func(tx *state.Tx) {
				u, _ := state.Get(tx, state.Users, id)
				u = state.Clone(u)
				u.Login = &state.Login{Hash: "h"}
				state.Put(tx, state.Users, u)
			})
		}, "must delete login profile first."},
		{"an MFA device", func(w *world, id string) {
			w.put(func(tx *state.Tx) {
				state.Put(tx, state.MFADevices, &state.MFADevice{Serial: "arn:aws:iam::123456789012:mfa/ada", UserID: id})
			})
		}, "must delete MFA device first."},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := open(t)
			id := string(w.user("ada").ID)
			c.give(w, id)
			_, err := w.DeleteUser(w.ctx, call, &iam.DeleteUserInput{UserName: shape.Ptr("ada")})
			check(t, err, "DeleteConflict", "Cannot delete entity, "+c.text)
			if !state.Has(w.DB.Snapshot(), state.Users, id) {
				t.Error("and is gone")
			}
		})
	}
}

// TestQuotasOfTheAccount: groups, roles, instance profiles and policies, also when many ask at once.
func TestQuotasOfTheAccount(t *testing.T) {
	for _, c := range []struct {
		quota  string
		create func(w *world, name string) error
	}{
		{"GroupsPerAccount", func(w *world, name string) error {
			_, err := w.CreateGroup(w.ctx, service.Call{}, &iam.CreateGroupInput{GroupName: &name})
			return err
		}},
		{"RolesPerAccount", func(w *world, name string) error {
			_, err := w.CreateRole(w.ctx, service.Call{}, &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: shape.Ptr(trustEC2)})
			return err
		}},
		{"InstanceProfilesPerAccount", func(w *world, name string) error {
			_, err := w.CreateInstanceProfile(w.ctx, service.Call{}, &iam.CreateInstanceProfileInput{InstanceProfileName: &name})
			return err
		}},
		{"PoliciesPerAccount", func(w *world, name string) error {
			_, err := w.CreatePolicy(w.ctx, service.Call{}, &iam.CreatePolicyInput{PolicyName: &name, PolicyDocument: shape.Ptr(allowAll)})
			return err
		}},
	} {
		t.Run(c.quota, func(t *testing.T) {
			w := open(t)
			w.MaxGroups, w.MaxRoles, w.MaxPolicies = 3, 3, 3
			if won := race(t, w, func(i int) error { return c.create(w, fmt.Sprint("x", i)) }, "LimitExceeded"); won != 3 {
				t.Errorf("%d were made", won)
			}
			check(t, w.untouched(func() error { return c.create(w, "more") }), "LimitExceeded", "Cannot exceed quota for "+c.quota+": 3")
			w.MaxGroups, w.MaxRoles, w.MaxPolicies = 4, 4, 4
			if err := c.create(w, "more"); err != nil {
				t.Errorf("under the quota: %v", err)
			}
		})
	}
	t.Run("a service-linked role is made all the same", func(t *testing.T) {
		w := open(t)
		w.role("one")
		w.MaxRoles = 1
		if _, err := w.CreateServiceLinkedRole(w.ctx, service.Call{}, &iam.CreateServiceLinkedRoleInput{AWSServiceName: shape.Ptr("cloudtrail.amazonaws.com")}); err != nil {
			t.Error(err)
		}
	})
}
