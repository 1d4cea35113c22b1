package iam

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/managed"
	"carrel/internal/policy"
	"carrel/internal/state"
)

// written is a document with what documents may have beside their sense: white space, other orders, characters that URLs escape.
const written = "{\r\n\t\"Statement\" : { \"Resource\":[\"arn:aws:s3:::a b+c/%2F~é?*\"], \"Action\": \"s3:Get*\",\n \"Effect\": \"Allow\" },\n \"Version\":\"2012-10-17\"  }\n"

func (w *world) version(arn, id string) (*iam.PolicyVersion, error) {
	out, err := w.GetPolicyVersion(w.ctx, call, &iam.GetPolicyVersionInput{PolicyArn: &arn, VersionId: &id})
	if err != nil {
		return nil, err
	}
	return out.PolicyVersion, nil
}

func (w *world) addVersion(arn, document string, main bool) (*iam.PolicyVersion, error) {
	out, err := w.CreatePolicyVersion(w.ctx, call, &iam.CreatePolicyVersionInput{PolicyArn: &arn, PolicyDocument: &document, SetAsDefault: &main})
	if err != nil {
		return nil, err
	}
	return out.PolicyVersion, nil
}

func (w *world) getPolicy(arn string) *iam.Policy {
	w.t.Helper()
	return answer(w.GetPolicy(w.ctx, call, &iam.GetPolicyInput{PolicyArn: &arn}))(w).Policy
}

// versions are a policy's, on pages of two; the default one has a star.
func (w *world) versions(arn string) string {
	in := &iam.ListPolicyVersionsInput{PolicyArn: &arn, MaxItems: shape.Ptr(int32(2))}
	var list []string
	for {
		out := answer(w.ListPolicyVersions(w.ctx, call, in))(w)
		for _, v := range out.Versions {
			star := map[bool]string{true: "*"}[*v.IsDefaultVersion]
			if list = append(list, *v.VersionId+star); v.Document != nil {
				w.t.Error("a list shows documents")
			}
		}
		if in.Marker = out.Marker; in.Marker == nil {
			return strings.Join(list, " ")
		}
	}
}

func TestManagedPolicies(t *testing.T) {
	w := open(t)
	made := answer(w.CreatePolicy(w.ctx, call, &iam.CreatePolicyInput{PolicyName: shape.Ptr("Read"), Path: shape.Ptr("/ops/"), Description: shape.Ptr("reads"), PolicyDocument: shape.Ptr(written), Tags: tags("a=1", "A=2")}))(w).Policy
	const arn = "arn:aws:iam::123456789012:policy/ops/Read"
	if *made.Arn != arn || !strings.HasPrefix(*made.PolicyId, "ANPA") || *made.Path != "/ops/" || *made.DefaultVersionId != "v1" || *made.AttachmentCount != 0 || *made.PermissionsBoundaryUsageCount != 0 ||
		!*made.IsAttachable || show(made.Tags) != "A=2 a=1" || !made.CreateDate.Equal(*made.UpdateDate) {
		t.Errorf("%+v", made)
	}
	t.Run("a document comes back byte for byte", func(t *testing.T) {
		v, err := w.version(arn, "v1")
		w.done(err)
		if got := readable(t, v.Document); got != written || !*v.IsDefaultVersion {
			t.Errorf("%q", got)
		}
	})
	t.Run("a policy is read with all it has", func(t *testing.T) {
		got := w.getPolicy(arn)
		if *got.PolicyId != *made.PolicyId || *got.Description != "reads" || show(got.Tags) != "A=2 a=1" {
			t.Errorf("%+v", got)
		}
		if got := w.getPolicy(w.policy("plain")); got.Tags == nil || got.Description != nil || *got.Path != "/" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("versions are numbered for ever, and five stay", func(t *testing.T) {
		for i := 2; i <= 5; i++ {
			v, err := w.addVersion(arn, allowAll, i == 3)
			w.done(err)
			if *v.VersionId != fmt.Sprint("v", i) || *v.IsDefaultVersion != (i == 3) || v.Document != nil {
				t.Errorf("%+v", v)
			}
		}
		_, err := w.addVersion(arn, allowAll, true)
		check(t, err, "LimitExceeded", "A managed policy can have up to 5 versions. Before you create a new version, you must delete an existing version.")
		if got := w.versions(arn); got != "v5 v4 v3* v2 v1" {
			t.Error(got)
		}
		answer(w.SetDefaultPolicyVersion(w.ctx, call, &iam.SetDefaultPolicyVersionInput{PolicyArn: shape.Ptr(arn), VersionId: shape.Ptr("v1")}))(w)
		answer(w.DeletePolicyVersion(w.ctx, call, &iam.DeletePolicyVersionInput{PolicyArn: shape.Ptr(arn), VersionId: shape.Ptr("v5")}))(w)
		v, err := w.addVersion(arn, allowAll, false)
		w.done(err)
		if got := w.versions(arn); *v.VersionId != "v6" || got != "v6 v4 v3 v2 v1*" {
			t.Error(*v.VersionId, got)
		}
		if got := w.getPolicy(arn); *got.DefaultVersionId != "v1" || got.UpdateDate.Before(*got.CreateDate) {
			t.Errorf("%+v", got)
		}
		p, _ := w.account().Customer(w.DB.Snapshot(), arn)
		if p.Text() != written {
			t.Error("the default version's text is another")
		}
	})
	t.Run("a policy that is alone is deleted, and its name is free", func(t *testing.T) {
		for _, v := range []string{"v6", "v4", "v3", "v2"} {
			answer(w.DeletePolicyVersion(w.ctx, call, &iam.DeletePolicyVersionInput{PolicyArn: shape.Ptr(arn), VersionId: &v}))(w)
		}
		answer(w.DeletePolicy(w.ctx, call, &iam.DeletePolicyInput{PolicyArn: shape.Ptr(arn)}))(w)
		if w.policy("READ") == arn {
			t.Error("the same ARN")
		}
	})
}

func TestPoliciesOfAWS(t *testing.T) {
	w := open(t)
	t.Run("are read as others are", func(t *testing.T) {
		for _, p := range managed.All() {
			got := w.getPolicy(p.ARN("aws"))
			v, err := w.version(p.ARN("aws"), p.Version)
			w.done(err)
			if *got.PolicyId != p.ID || *got.DefaultVersionId != p.Version || *got.Description != p.Description || got.Tags == nil || readable(t, v.Document) != p.Document || w.versions(p.ARN("aws")) != p.Version+"*" {
				t.Errorf("%+v", got)
			}
			for _, kind := range []policy.Kind{policy.Identity, policy.Boundary} { // AWS's own may be over the quota of sizes
				if _, err := policy.Parse(kind, p.Document); err != nil {
					t.Errorf("%s: %v", p.Name, err)
				}
			}
		}
		if tags := answer(w.ListPolicyTags(w.ctx, call, &iam.ListPolicyTagsInput{PolicyArn: shape.Ptr(administers)}))(w); tags.Tags == nil || len(tags.Tags) != 0 {
			t.Errorf("%+v", tags)
		}
	})
	t.Run("stand in the order of their ARNs, each once", func(t *testing.T) {
		var arns []string
		for _, p := range managed.All() {
			arns = append(arns, p.ARN("aws"))
		}
		if !slices.IsSorted(arns) || len(slices.Compact(slices.Clone(arns))) != len(arns) {
			t.Error(arns)
		}
	})
	arn, v1 := shape.Ptr(administers), shape.Ptr("v1")
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"deleted", func() error {
			_, err := w.DeletePolicy(w.ctx, call, &iam.DeletePolicyInput{PolicyArn: arn})
			return err
		}},
		{"given versions", func() error { _, err := w.addVersion(administers, allowAll, true); return err }},
		{"given another default", func() error {
			_, err := w.SetDefaultPolicyVersion(w.ctx, call, &iam.SetDefaultPolicyVersionInput{PolicyArn: arn, VersionId: v1})
			return err
		}},
		{"robbed of versions", func() error {
			_, err := w.DeletePolicyVersion(w.ctx, call, &iam.DeletePolicyVersionInput{PolicyArn: arn, VersionId: v1})
			return err
		}},
		{"tagged", func() error {
			_, err := w.TagPolicy(w.ctx, call, &iam.TagPolicyInput{PolicyArn: arn, Tags: tags("a=1")})
			return err
		}},
		{"untagged", func() error {
			_, err := w.UntagPolicy(w.ctx, call, &iam.UntagPolicyInput{PolicyArn: arn, TagKeys: []string{"a"}})
			return err
		}},
	} {
		t.Run("are never "+c.name, func(t *testing.T) {
			refuses(t, w.untouched(c.do), awserr.AccessDenied, "Policy is outside your own account.")
		})
	}
}

func TestPoliciesAreListed(t *testing.T) {
	w := open(t)
	ops := *answer(w.CreatePolicy(w.ctx, call, &iam.CreatePolicyInput{PolicyName: shape.Ptr("Ops"), Path: shape.Ptr("/team/"), PolicyDocument: shape.Ptr(allowAll), Description: shape.Ptr("d"), Tags: tags("a=1")}))(w).Policy.Arn
	bound := w.policy("bound")
	w.policy("administratoraccess") // the name of one of AWS's
	w.user("ada")
	w.group("g")
	w.role("r")
	for _, kind := range kinds {
		w.done(w.attachTo(kind, map[string]string{"user": "ada", "group": "g", "role": "r"}[kind], ops))
	}
	answer(w.PutUserPermissionsBoundary(w.ctx, call, &iam.PutUserPermissionsBoundaryInput{UserName: shape.Ptr("ada"), PermissionsBoundary: &bound}))(w)
	answer(w.PutRolePermissionsBoundary(w.ctx, call, &iam.PutRolePermissionsBoundaryInput{RoleName: shape.Ptr("r"), PermissionsBoundary: &bound}))(w)
	w.done(w.attachTo("user", "ada", administers))
	var awss []string
	for _, p := range managed.All() {
		awss = append(awss, p.Name)
	}
	slices.SortFunc(awss, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	list := func(in iam.ListPoliciesInput, max int32) string {
		in.MaxItems = &max
		var list []string
		for {
			out := answer(w.ListPolicies(w.ctx, call, &in))(w)
			for _, p := range out.Policies {
				list = append(list, *p.PolicyName)
				if p.Description != nil || p.Tags != nil {
					t.Errorf("%+v", p)
				}
				attached, bounds := 0, 0
				switch *p.PolicyName {
				case "Ops":
					attached = 3
				case "bound":
					bounds = 2
				case "AdministratorAccess":
					attached = 1
				}
				if int(*p.AttachmentCount) != attached || int(*p.PermissionsBoundaryUsageCount) != bounds {
					t.Errorf("%s: %d %d", *p.PolicyName, *p.AttachmentCount, *p.PermissionsBoundaryUsageCount)
				}
			}
			if in.Marker = out.Marker; in.Marker == nil {
				return strings.Join(list, " ")
			}
		}
	}
	local, aws, all := shape.Ptr(iam.PolicyScopeTypeLocal), shape.Ptr(iam.PolicyScopeTypeAws), shape.Ptr(iam.PolicyScopeTypeAll)
	for _, c := range []struct {
		name string
		in   iam.ListPoliciesInput
		want string
	}{
		{"the customer's", iam.ListPoliciesInput{Scope: local}, "administratoraccess bound Ops"},
		{"AWS's", iam.ListPoliciesInput{Scope: aws}, strings.Join(awss, " ")},
		{"attached ones", iam.ListPoliciesInput{OnlyAttached: shape.Ptr(true)}, "AdministratorAccess Ops"},
		{"attached ones of the customer's", iam.ListPoliciesInput{Scope: local, OnlyAttached: shape.Ptr(true)}, "Ops"},
		{"those used for permissions", iam.ListPoliciesInput{Scope: all, PolicyUsageFilter: shape.Ptr(iam.PolicyUsageTypePermissionsPolicy)}, "AdministratorAccess Ops"},
		{"those used as boundaries", iam.ListPoliciesInput{Scope: all, OnlyAttached: shape.Ptr(true), PolicyUsageFilter: shape.Ptr(iam.PolicyUsageTypePermissionsBoundary)}, "bound"},
		{"those under a path", iam.ListPoliciesInput{PathPrefix: shape.Ptr("/team/")}, "Ops"},
		{"those under a path that none has", iam.ListPoliciesInput{PathPrefix: shape.Ptr("/none/")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, max := range []int32{1, 1000} {
				if got := list(c.in, max); got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
			}
		})
	}
	t.Run("all of them by default", func(t *testing.T) {
		if got := len(strings.Fields(list(iam.ListPoliciesInput{}, 2))); got != len(awss)+3 {
			t.Error(got)
		}
	})
	t.Run("with a marker that must be readable", func(t *testing.T) {
		_, err := w.ListPolicies(w.ctx, call, &iam.ListPoliciesInput{Marker: shape.Ptr("!")})
		refuses(t, err, awserr.Validation, "Invalid Marker.")
		_, err = w.ListPolicyVersions(w.ctx, call, &iam.ListPolicyVersionsInput{PolicyArn: &ops, Marker: shape.Ptr("!")})
		refuses(t, err, awserr.Validation, "Invalid Marker.")
		_, err = w.ListEntitiesForPolicy(w.ctx, call, &iam.ListEntitiesForPolicyInput{PolicyArn: &ops, Marker: shape.Ptr("!")})
		refuses(t, err, awserr.Validation, "Invalid Marker.")
	})
}

func TestPolicyOperationsRefuse(t *testing.T) {
	arn, none, v1, v9 := shape.Ptr("arn:aws:iam::123456789012:policy/p"), shape.Ptr(nobodysARN), shape.Ptr("v1"), shape.Ptr("v9")
	big := strings.Replace(allowAll, `"*","Resource"`, `"`+strings.Repeat("a", 6200)+`:*","Resource"`, 1)
	create := func(in iam.CreatePolicyInput) func(*world) error {
		return func(w *world) error { _, err := w.CreatePolicy(w.ctx, call, &in); return err }
	}
	remove := func(arn *string) func(*world) error {
		return func(w *world) error {
			_, err := w.DeletePolicy(w.ctx, call, &iam.DeletePolicyInput{PolicyArn: arn})
			return err
		}
	}
	setDefault := func(arn, v *string) func(*world) error {
		return func(w *world) error {
			_, err := w.SetDefaultPolicyVersion(w.ctx, call, &iam.SetDefaultPolicyVersionInput{PolicyArn: arn, VersionId: v})
			return err
		}
	}
	removeVersion := func(arn, v *string) func(*world) error {
		return func(w *world) error {
			_, err := w.DeletePolicyVersion(w.ctx, call, &iam.DeletePolicyVersionInput{PolicyArn: arn, VersionId: v})
			return err
		}
	}
	for _, c := range []struct {
		name       string
		do         func(*world) error
		code, text string
	}{
		{"a name that is taken in another case and path", create(iam.CreatePolicyInput{PolicyName: shape.Ptr("P"), Path: shape.Ptr("/x/"), PolicyDocument: shape.Ptr(allowAll)}), "EntityAlreadyExists", "A policy called P already exists. Duplicate names are not allowed."},
		{"IAM-2 a document that is no JSON", create(iam.CreatePolicyInput{PolicyName: nobody, PolicyDocument: shape.Ptr("{\n x")}), "MalformedPolicyDocument", "Syntax errors in policy. (line 2, column 2: "},
		{"IAM-2 a document with a principal", create(iam.CreatePolicyInput{PolicyName: nobody, PolicyDocument: shape.Ptr(strings.Replace(allowAll, `"Action"`, `"Principal":"*","Action"`, 1))}), "MalformedPolicyDocument", "Policy document should not specify a principal. (line 1, column "},
		{"IAM-2 a document over the quota", create(iam.CreatePolicyInput{PolicyName: nobody, PolicyDocument: &big}), "LimitExceeded", "Cannot exceed quota for PolicySize: 6144"},
		{"tag keys that are the same", create(iam.CreatePolicyInput{PolicyName: nobody, PolicyDocument: shape.Ptr(allowAll), Tags: tags("a=1", "a=2")}), "InvalidInput", "Duplicate tag keys found."},
		{"reading none", func(w *world) error {
			_, err := w.GetPolicy(w.ctx, call, &iam.GetPolicyInput{PolicyArn: none})
			return err
		}, "NoSuchEntity", "Policy " + nobodysARN + " was not found."},
		{"reading by another case", func(w *world) error {
			_, err := w.GetPolicy(w.ctx, call, &iam.GetPolicyInput{PolicyArn: shape.Ptr("arn:aws:iam::123456789012:policy/P")})
			return err
		}, "NoSuchEntity", "policy/P was not found."},
		{"reading what is no policy", func(w *world) error {
			_, err := w.GetPolicy(w.ctx, call, &iam.GetPolicyInput{PolicyArn: shape.Ptr("arn:aws:iam::123456789012:role/p")})
			return err
		}, "InvalidInput", "ARN arn:aws:iam::123456789012:role/p is not valid."},
		{"a version for none", func(w *world) error { _, err := w.addVersion(nobodysARN, allowAll, true); return err }, "NoSuchEntity", "Policy " + nobodysARN + " does not exist or is not attachable."},
		{"a version for what is no policy", func(w *world) error {
			_, err := w.addVersion("arn:aws:iam::123456789012:role/p", allowAll, true)
			return err
		}, "InvalidInput", "is not valid."},
		{"IAM-2 a version that is malformed", func(w *world) error { _, err := w.addVersion(*arn, "[]", true); return err }, "MalformedPolicyDocument", "Syntax errors in policy."},
		{"IAM-2 a version over the quota", func(w *world) error { _, err := w.addVersion(*arn, big, true); return err }, "LimitExceeded", "PolicySize: 6144"},
		{"reading a version of none", func(w *world) error { _, err := w.version(nobodysARN, "v1"); return err }, "NoSuchEntity", "Policy " + nobodysARN + " version v1 does not exist or is not attachable."},
		{"reading a version that is not there", func(w *world) error { _, err := w.version(*arn, "v9"); return err }, "NoSuchEntity", "Policy " + *arn + " version v9 does not exist or is not attachable."},
		{"the versions of none", func(w *world) error {
			_, err := w.ListPolicyVersions(w.ctx, call, &iam.ListPolicyVersionsInput{PolicyArn: none})
			return err
		}, "NoSuchEntity", "was not found."},
		{"the default of none", setDefault(none, v1), "NoSuchEntity", "version v1 does not exist"},
		{"a default that is not there", setDefault(arn, v9), "NoSuchEntity", "version v9 does not exist"},
		{"deleting a version of none", removeVersion(none, v1), "NoSuchEntity", "version v1 does not exist"},
		{"deleting a version that is not there", removeVersion(arn, v9), "NoSuchEntity", "version v9 does not exist"},
		{"deleting the default version", removeVersion(arn, v1), "DeleteConflict", "Cannot delete the default version of a policy."},
		{"deleting none", remove(none), "NoSuchEntity", "Policy " + nobodysARN + " was not found."},
		{"deleting one with versions", remove(arn), "DeleteConflict", "This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy."},
		{"deleting one that a user has", remove(shape.Ptr("arn:aws:iam::123456789012:policy/user")), "DeleteConflict", "Cannot delete a policy attached to entities."},
		{"deleting one that a group has", remove(shape.Ptr("arn:aws:iam::123456789012:policy/group")), "DeleteConflict", "Cannot delete a policy attached to entities."},
		{"deleting one that a role has", remove(shape.Ptr("arn:aws:iam::123456789012:policy/role")), "DeleteConflict", "Cannot delete a policy attached to entities."},
		{"deleting one that bounds", remove(shape.Ptr("arn:aws:iam::123456789012:policy/bound")), "DeleteConflict", "Cannot delete a policy attached to entities."},
		{"the entities of none", func(w *world) error {
			_, err := w.ListEntitiesForPolicy(w.ctx, call, &iam.ListEntitiesForPolicyInput{PolicyArn: none})
			return err
		}, "NoSuchEntity", "Policy " + nobodysARN + " does not exist or is not attachable."},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := open(t)
			_, err := w.addVersion(w.policy("p"), allowAll, false)
			w.done(err)
			for _, kind := range kinds {
				w.bearerOf(kind, "x")
				w.done(w.attachTo(kind, "x", w.policy(kind)))
			}
			answer(w.PutUserPermissionsBoundary(w.ctx, call, &iam.PutUserPermissionsBoundaryInput{UserName: shape.Ptr("x"), PermissionsBoundary: shape.Ptr(w.policy("bound"))}))(w)
			check(t, w.untouched(func() error { return c.do(w) }), c.code, c.text)
		})
	}
	t.Run("what is no ARN at all", func(t *testing.T) {
		w := open(t)
		bad := "longpolicynamebutnoarn"
		_, err := w.GetPolicy(w.ctx, call, &iam.GetPolicyInput{PolicyArn: &bad})
		refuses(t, err, awserr.Validation, "ARN longpolicynamebutnoarn is not valid.")
		_, err = w.DeletePolicy(w.ctx, call, &iam.DeletePolicyInput{PolicyArn: &bad})
		refuses(t, err, awserr.Validation, "ARN longpolicynamebutnoarn is not valid.")
	})
}

func TestAttachedPolicies(t *testing.T) {
	for _, kind := range kinds {
		t.Run("of a "+kind, func(t *testing.T) {
			w := open(t)
			w.bearerOf(kind, "x")
			var arns []string
			for i := range 9 {
				arns = append(arns, w.policy(fmt.Sprint("p", i)))
			}
			ops := *answer(w.CreatePolicy(w.ctx, call, &iam.CreatePolicyInput{PolicyName: shape.Ptr("AdministratorAccess"), Path: shape.Ptr("/ops/"), PolicyDocument: shape.Ptr(allowAll)}))(w).Policy.Arn
			w.done(w.attachTo(kind, "x", administers))
			w.done(w.attachTo(kind, "x", ops))
			w.done(w.attachTo(kind, "x", arns[0]))
			w.done(w.attachTo(kind, "x", arns[0])) // is attached already
			pages := func(prefix *string, max int32) string {
				t.Helper()
				pages, err := w.attachedPages(kind, "x", prefix, max)
				w.done(err)
				return strings.Join(pages, "|")
			}
			if got := pages(nil, 1); got != "AdministratorAccess|AdministratorAccess|p0" {
				t.Error(got)
			}
			if got := pages(shape.Ptr("/ops/"), 1000); got != "AdministratorAccess" {
				t.Error(got)
			}
			w.done(w.detachFrom(kind, "x", ops))
			if got := pages(shape.Ptr("/ops/"), 1000); got != "" {
				t.Error(got)
			}
			refuse := func(name string, do func() error, code, text string) {
				t.Run("refuses "+name, func(t *testing.T) { check(t, w.untouched(do), code, text) })
			}
			is := "The " + kind + " with name nobody cannot be found."
			refuse("one for nobody", func() error { return w.attachTo(kind, "nobody", administers) }, "NoSuchEntity", is)
			refuse("one that does not exist", func() error { return w.attachTo(kind, "x", nobodysARN) }, "NoSuchEntity", "Policy "+nobodysARN+" does not exist or is not attachable.")
			refuse("what is no policy", func() error { return w.attachTo(kind, "x", "arn:aws:iam::123456789012:role/x") }, "InvalidInput", "ARN arn:aws:iam::123456789012:role/x is not valid.")
			refuse("one of a service-linked role", func() error { return w.attachTo(kind, "x", linkedARN) }, "PolicyNotAttachable", "Cannot attach a Service Role Policy to a Customer Role.")
			refuse("detaching from nobody", func() error { return w.detachFrom(kind, "nobody", administers) }, "NoSuchEntity", is)
			refuse("detaching what is not attached", func() error { return w.detachFrom(kind, "x", ops) }, "NoSuchEntity", "Policy "+ops+" was not found.")
			refuse("detaching what does not exist", func() error { return w.detachFrom(kind, "x", nobodysARN) }, "NoSuchEntity", "Policy "+nobodysARN+" was not found.")
			refuse("detaching what is no policy", func() error { return w.detachFrom(kind, "x", "arn:aws:iam::123456789012:role/x") }, "InvalidInput", "is not valid.")
			refuse("listing those of nobody", func() error { _, err := w.attachedPages(kind, "nobody", nil, 1); return err }, "NoSuchEntity", is)
			t.Run("refuses what is no ARN", func(t *testing.T) {
				refuses(t, w.attachTo(kind, "x", "longpolicynamebutnoarn"), awserr.Validation, "ARN longpolicynamebutnoarn is not valid.")
			})
			t.Run("refuses an eleventh one", func(t *testing.T) {
				for _, arn := range arns {
					w.done(w.attachTo(kind, "x", arn))
				}
				quota := map[string]string{"user": "PoliciesPerUser", "group": "PoliciesPerGroup", "role": "PoliciesPerRole"}[kind]
				check(t, w.untouched(func() error { return w.attachTo(kind, "x", ops) }), "LimitExceeded", "Cannot exceed quota for "+quota+": 10")
				w.done(w.attachTo(kind, "x", arns[8])) // is attached already
			})
			t.Run("refuses a marker that is none", func(t *testing.T) {
				find := map[string]bearers{"user": userBearer, "group": groupBearer, "role": roleBearer}[kind]
				_, _, err := w.attachedTo(find, attachedPage{name: shape.Ptr("x"), marker: shape.Ptr("!")})
				refuses(t, err, awserr.Validation, "Invalid Marker.")
				_, _, err = w.listInline(find, shape.Ptr("x"), shape.Ptr("!"), nil)
				refuses(t, err, awserr.Validation, "Invalid Marker.")
			})
		})
	}
}

func TestEntitiesOfAPolicy(t *testing.T) {
	w := open(t)
	arn := w.policy("p")
	for _, kind := range kinds {
		w.bearerOf(kind, kind+"1")
		w.done(w.attachTo(kind, kind+"1", arn))
	}
	answer(w.CreateUser(w.ctx, call, &iam.CreateUserInput{UserName: shape.Ptr("User2"), Path: shape.Ptr("/x/"), PermissionsBoundary: &arn}))(w)
	answer(w.CreateRole(w.ctx, call, &iam.CreateRoleInput{RoleName: shape.Ptr("role2"), Path: shape.Ptr("/x/"), PermissionsBoundary: &arn, AssumeRolePolicyDocument: shape.Ptr(trustEC2)}))(w)
	answer(w.PutUserPermissionsBoundary(w.ctx, call, &iam.PutUserPermissionsBoundaryInput{UserName: shape.Ptr("user1"), PermissionsBoundary: &arn}))(w)
	group, role, user, local := shape.Ptr(iam.EntityTypeGroup), shape.Ptr(iam.EntityTypeRole), shape.Ptr(iam.EntityTypeUser), shape.Ptr(iam.EntityTypeLocalManagedPolicy)
	for _, c := range []struct {
		name string
		in   iam.ListEntitiesForPolicyInput
		want string
	}{
		{"all of them, each once", iam.ListEntitiesForPolicyInput{}, "group1 role1 role2 user1 User2"},
		{"groups", iam.ListEntitiesForPolicyInput{EntityFilter: group}, "group1"},
		{"roles", iam.ListEntitiesForPolicyInput{EntityFilter: role}, "role1 role2"},
		{"users", iam.ListEntitiesForPolicyInput{EntityFilter: user}, "user1 User2"},
		{"policies, which are none", iam.ListEntitiesForPolicyInput{EntityFilter: local}, ""},
		{"those it is attached to", iam.ListEntitiesForPolicyInput{PolicyUsageFilter: shape.Ptr(iam.PolicyUsageTypePermissionsPolicy)}, "group1 role1 user1"},
		{"those it bounds", iam.ListEntitiesForPolicyInput{PolicyUsageFilter: shape.Ptr(iam.PolicyUsageTypePermissionsBoundary)}, "role2 user1 User2"},
		{"those under a path", iam.ListEntitiesForPolicyInput{PathPrefix: shape.Ptr("/x/")}, "role2 User2"},
	} {
		for _, max := range []int32{1, 2, 1000} {
			t.Run(fmt.Sprint(c.name, ", ", max, " a page"), func(t *testing.T) {
				in := c.in
				in.PolicyArn, in.MaxItems = &arn, &max
				var list []string
				for {
					out := answer(w.ListEntitiesForPolicy(w.ctx, call, &in))(w)
					if out.PolicyGroups == nil || out.PolicyRoles == nil || out.PolicyUsers == nil {
						t.Fatalf("%+v", out)
					}
					for _, e := range out.PolicyGroups {
						list = append(list, *e.GroupName)
					}
					for _, e := range out.PolicyRoles {
						list = append(list, *e.RoleName)
					}
					for _, e := range out.PolicyUsers {
						list = append(list, *e.UserName)
					}
					if in.Marker = out.Marker; in.Marker == nil {
						break
					}
				}
				if got := strings.Join(list, " "); got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
			})
		}
	}
}

func TestInlinePolicies(t *testing.T) {
	quotas := map[string]int{"user": 2048, "group": 5120, "role": 10240}
	for _, kind := range kinds {
		t.Run("of a "+kind, func(t *testing.T) {
			w := open(t)
			w.bearerOf(kind, "x")
			for _, name := range []string{"b", "A", "a"} {
				w.done(w.putPolicy(kind, "x", name, allowAll))
			}
			w.done(w.putPolicy(kind, "x", "b", written))
			if got, err := w.inlineOf(kind, "x", "b"); err != nil || got != written {
				t.Errorf("%q, %v: not byte for byte", got, err)
			}
			if names, err := w.inlineNames(kind, "x"); err != nil || strings.Join(names, " ") != "A a b" {
				t.Errorf("%v, %v", names, err)
			}
			w.done(w.deletePolicyOf(kind, "x", "A"))
			if names, err := w.inlineNames(kind, "x"); err != nil || strings.Join(names, " ") != "a b" {
				t.Errorf("%v, %v", names, err)
			}
			refuse := func(name string, do func() error, code, text string) {
				t.Run("refuses "+name, func(t *testing.T) { check(t, w.untouched(do), code, text) })
			}
			is, none := "The "+kind+" with name nobody cannot be found.", "The "+kind+" policy with name p cannot be found."
			refuse("one for nobody", func() error { return w.putPolicy(kind, "nobody", "p", allowAll) }, "NoSuchEntity", is)
			refuse("IAM-2 one that is malformed", func() error { return w.putPolicy(kind, "x", "p", `{"Statement":[]}`) }, "MalformedPolicyDocument", "Syntax errors in policy. (line 1, column 14: ")
			refuse("IAM-2 one that puts all of them over the quota", func() error {
				w.t.Helper()
				room := quotas[kind] - policy.Size(allowAll) - policy.Size(written)
				fill := func(n int) string {
					return strings.Replace(allowAll, `"*","Resource"`, `"`+strings.Repeat("a", n-policy.Size(allowAll)-1)+`:*","Resource"`, 1) + strings.Repeat(" ", 99)
				}
				if err := w.putPolicy(kind, "x", "p", fill(room)); err != nil {
					t.Errorf("exactly full: %v", err)
				}
				w.done(w.deletePolicyOf(kind, "x", "p"))
				return w.putPolicy(kind, "x", "p", fill(room+1))
			}, "LimitExceeded", fmt.Sprintf("Maximum policy size of %d bytes exceeded for %s x", quotas[kind], kind))
			refuse("reading one of nobody", func() error { _, err := w.inlineOf(kind, "nobody", "p"); return err }, "NoSuchEntity", is)
			refuse("reading one that is not there", func() error { _, err := w.inlineOf(kind, "x", "p"); return err }, "NoSuchEntity", none)
			refuse("listing those of nobody", func() error { _, err := w.inlineNames(kind, "nobody"); return err }, "NoSuchEntity", is)
			refuse("deleting one of nobody", func() error { return w.deletePolicyOf(kind, "nobody", "p") }, "NoSuchEntity", is)
			refuse("deleting one that is not there", func() error { return w.deletePolicyOf(kind, "x", "p") }, "NoSuchEntity", none)
		})
	}
}

func TestBoundaries(t *testing.T) {
	w := open(t)
	ada, r := shape.Ptr("ada"), shape.Ptr("r")
	made := answer(w.CreateUser(w.ctx, call, &iam.CreateUserInput{UserName: ada, PermissionsBoundary: shape.Ptr(administers)}))(w).User
	w.role("r")
	if *made.PermissionsBoundary.PermissionsBoundaryArn != administers || *made.PermissionsBoundary.PermissionsBoundaryType != "Policy" {
		t.Errorf("%+v", made)
	}
	own := w.policy("own")
	putUser := func(name *string, arn string) error {
		_, err := w.PutUserPermissionsBoundary(w.ctx, call, &iam.PutUserPermissionsBoundaryInput{UserName: name, PermissionsBoundary: &arn})
		return err
	}
	putRole := func(name *string, arn string) error {
		_, err := w.PutRolePermissionsBoundary(w.ctx, call, &iam.PutRolePermissionsBoundaryInput{RoleName: name, PermissionsBoundary: &arn})
		return err
	}
	user := func() *iam.AttachedPermissionsBoundary {
		return answer(w.GetUser(w.ctx, call, &iam.GetUserInput{UserName: ada}))(w).User.PermissionsBoundary
	}
	w.done(putUser(ada, own))
	w.done(putRole(r, own))
	if *user().PermissionsBoundaryArn != own || *w.getRole("r").PermissionsBoundary.PermissionsBoundaryArn != own || *w.getPolicy(own).PermissionsBoundaryUsageCount != 2 {
		t.Errorf("%+v", user())
	}
	if list := answer(w.ListUsers(w.ctx, call, &iam.ListUsersInput{}))(w); list.Users[0].PermissionsBoundary != nil {
		t.Error("lists show boundaries")
	}
	const noPolicy = "arn:aws:iam::123456789012:not_a_policy/invalid"
	for _, c := range []struct {
		name       string
		do         func() error
		code, text string
	}{
		{"a user that does not exist", func() error { return putUser(nobody, own) }, "NoSuchEntity", "The user with name nobody cannot be found."},
		{"a role that does not exist", func() error { return putRole(nobody, own) }, "NoSuchEntity", "The role with name nobody cannot be found."},
		{"a policy that does not exist, for a user", func() error { return putUser(ada, nobodysARN) }, "NoSuchEntity", "Scope ARN: " + nobodysARN + " does not exist or is not attachable."},
		{"a policy that does not exist, for a role", func() error { return putRole(r, nobodysARN) }, "NoSuchEntity", "Scope ARN: " + nobodysARN + " does not exist or is not attachable."},
		{"what is no policy", func() error { return putUser(ada, noPolicy) }, "InvalidInput", "ARN " + noPolicy + " is not valid."},
		{"a policy of a service-linked role", func() error { return putRole(r, linkedARN) }, "PolicyNotAttachable", "Service Role Policy"},
		{"a new user with a policy that does not exist", func() error {
			_, err := w.CreateUser(w.ctx, call, &iam.CreateUserInput{UserName: nobody, PermissionsBoundary: shape.Ptr(nobodysARN)})
			return err
		}, "NoSuchEntity", "Scope ARN: " + nobodysARN},
		{"taking it from a user that does not exist", func() error {
			_, err := w.DeleteUserPermissionsBoundary(w.ctx, call, &iam.DeleteUserPermissionsBoundaryInput{UserName: nobody})
			return err
		}, "NoSuchEntity", "The user with name nobody cannot be found."},
		{"taking it from a role that does not exist", func() error {
			_, err := w.DeleteRolePermissionsBoundary(w.ctx, call, &iam.DeleteRolePermissionsBoundaryInput{RoleName: nobody})
			return err
		}, "NoSuchEntity", "The role with name nobody cannot be found."},
	} {
		t.Run("refuse "+c.name, func(t *testing.T) { check(t, w.untouched(c.do), c.code, c.text) })
	}
	for range 2 { // that there is none any more is no error
		answer(w.DeleteUserPermissionsBoundary(w.ctx, call, &iam.DeleteUserPermissionsBoundaryInput{UserName: ada}))(w)
		answer(w.DeleteRolePermissionsBoundary(w.ctx, call, &iam.DeleteRolePermissionsBoundaryInput{RoleName: r}))(w)
	}
	if user() != nil || w.getRole("r").PermissionsBoundary != nil {
		t.Error("there is one left")
	}
}

func TestTagsOfRolesAndPolicies(t *testing.T) {
	w := open(t)
	w.role("r")
	arn, r := shape.Ptr(w.policy("p")), shape.Ptr("r")
	steps := []struct {
		name         string
		add          []string
		minus        []string
		role, policy string
	}{
		{"are added", []string{"team=a"}, nil, "team=a", "team=a"},
		{"replace those with the same key", []string{"team=b"}, nil, "team=b", "team=b"},
		{"of roles replace those with the key in another case", []string{"Team=c"}, nil, "Team=c", "Team=c team=b"},
		{"of roles are removed without regard to case", nil, []string{"TEAM", "team", "unknown"}, "", "Team=c"},
	}
	for _, c := range steps {
		t.Run(c.name, func(t *testing.T) {
			if c.add != nil {
				answer(w.TagRole(w.ctx, call, &iam.TagRoleInput{RoleName: r, Tags: tags(c.add...)}))(w)
				answer(w.TagPolicy(w.ctx, call, &iam.TagPolicyInput{PolicyArn: arn, Tags: tags(c.add...)}))(w)
			} else {
				answer(w.UntagRole(w.ctx, call, &iam.UntagRoleInput{RoleName: r, TagKeys: c.minus}))(w)
				answer(w.UntagPolicy(w.ctx, call, &iam.UntagPolicyInput{PolicyArn: arn, TagKeys: c.minus}))(w)
			}
			role := answer(w.ListRoleTags(w.ctx, call, &iam.ListRoleTagsInput{RoleName: r}))(w)
			policy := answer(w.ListPolicyTags(w.ctx, call, &iam.ListPolicyTagsInput{PolicyArn: arn}))(w)
			if show(role.Tags) != c.role || show(policy.Tags) != c.policy || role.Tags == nil || *role.IsTruncated || *policy.IsTruncated {
				t.Errorf("%q %q", show(role.Tags), show(policy.Tags))
			}
		})
	}
	var fifty []string
	for i := range 50 {
		fifty = append(fifty, fmt.Sprintf("k%02d=v", i))
	}
	answer(w.TagRole(w.ctx, call, &iam.TagRoleInput{RoleName: r, Tags: tags(fifty...)}))(w)
	answer(w.UntagPolicy(w.ctx, call, &iam.UntagPolicyInput{PolicyArn: arn, TagKeys: []string{"Team"}}))(w)
	answer(w.TagPolicy(w.ctx, call, &iam.TagPolicyInput{PolicyArn: arn, Tags: tags(fifty...)}))(w)
	t.Run("are paged", func(t *testing.T) {
		seen := map[string]int{}
		in, other := &iam.ListRoleTagsInput{RoleName: r, MaxItems: shape.Ptr(int32(7))}, &iam.ListPolicyTagsInput{PolicyArn: arn, MaxItems: shape.Ptr(int32(7))}
		for {
			out, also := answer(w.ListRoleTags(w.ctx, call, in))(w), answer(w.ListPolicyTags(w.ctx, call, other))(w)
			for _, tag := range slices.Concat(out.Tags, also.Tags) {
				seen[*tag.Key]++
			}
			in.Marker, other.Marker = out.Marker, also.Marker
			if (in.Marker == nil) != (other.Marker == nil) {
				t.Fatal("not as many pages")
			}
			if in.Marker == nil {
				break
			}
		}
		for _, n := range seen {
			if n != 2 {
				t.Errorf("%v", seen)
			}
		}
		if len(seen) != 50 {
			t.Errorf("%d keys", len(seen))
		}
	})
	for _, c := range []struct {
		name       string
		do         func() error
		code, text string
	}{
		{"a 51st of a role", func() error {
			_, err := w.TagRole(w.ctx, call, &iam.TagRoleInput{RoleName: r, Tags: tags("x=1")})
			return err
		}, "LimitExceeded", "Cannot exceed quota for TagsPerRole: 50"},
		{"a 51st of a policy", func() error {
			_, err := w.TagPolicy(w.ctx, call, &iam.TagPolicyInput{PolicyArn: arn, Tags: tags("K00=1")})
			return err
		}, "LimitExceeded", "Cannot exceed quota for TagsPerPolicy: 50"},
		{"of nobody", func() error {
			_, err := w.TagRole(w.ctx, call, &iam.TagRoleInput{RoleName: nobody, Tags: tags("x=1")})
			return err
		}, "NoSuchEntity", "The role with name nobody cannot be found."},
		{"taken from nobody", func() error {
			_, err := w.UntagRole(w.ctx, call, &iam.UntagRoleInput{RoleName: nobody, TagKeys: []string{"x"}})
			return err
		}, "NoSuchEntity", "The role with name nobody cannot be found."},
		{"listed of nobody", func() error {
			_, err := w.ListRoleTags(w.ctx, call, &iam.ListRoleTagsInput{RoleName: nobody})
			return err
		}, "NoSuchEntity", "The role with name nobody cannot be found."},
		{"of no policy", func() error {
			_, err := w.TagPolicy(w.ctx, call, &iam.TagPolicyInput{PolicyArn: shape.Ptr(nobodysARN), Tags: tags("x=1")})
			return err
		}, "NoSuchEntity", "Policy " + nobodysARN + " was not found."},
		{"taken from no policy", func() error {
			_, err := w.UntagPolicy(w.ctx, call, &iam.UntagPolicyInput{PolicyArn: shape.Ptr(nobodysARN), TagKeys: []string{"x"}})
			return err
		}, "NoSuchEntity", "Policy " + nobodysARN + " was not found."},
		{"listed of no policy", func() error {
			_, err := w.ListPolicyTags(w.ctx, call, &iam.ListPolicyTagsInput{PolicyArn: shape.Ptr(nobodysARN)})
			return err
		}, "NoSuchEntity", "Policy " + nobodysARN + " was not found."},
		{"whose keys a role has twice", func() error {
			_, err := w.TagRole(w.ctx, call, &iam.TagRoleInput{RoleName: r, Tags: tags("a=1", "A=1")})
			return err
		}, "InvalidInput", "Tag keys are case insensitive."},
		{"whose keys a policy has twice", func() error {
			_, err := w.TagPolicy(w.ctx, call, &iam.TagPolicyInput{PolicyArn: arn, Tags: tags("a=1", "a=1")})
			return err
		}, "InvalidInput", "Duplicate tag keys found."},
		{"that are reserved", func() error {
			_, err := w.TagPolicy(w.ctx, call, &iam.TagPolicyInput{PolicyArn: arn, Tags: tags("aws:a=1")})
			return err
		}, "InvalidInput", "reserved"},
	} {
		t.Run("are refused "+c.name, func(t *testing.T) { check(t, w.untouched(c.do), c.code, c.text) })
	}
	t.Run("have markers that must be readable", func(t *testing.T) {
		_, err := w.ListRoleTags(w.ctx, call, &iam.ListRoleTagsInput{RoleName: r, Marker: shape.Ptr("!")})
		refuses(t, err, awserr.Validation, "Invalid Marker.")
		_, err = w.ListPolicyTags(w.ctx, call, &iam.ListPolicyTagsInput{PolicyArn: arn, Marker: shape.Ptr("!")})
		refuses(t, err, awserr.Validation, "Invalid Marker.")
	})
}

// Two at once: whatever the order, nothing points at what is not there, and no quota is passed.
func TestPermissionRaces(t *testing.T) {
	// whole fails when a record names another one that does not exist.
	whole := func(t *testing.T, w *world) {
		t.Helper()
		snap := w.DB.Snapshot()
		used := func(of string, arns ...string) {
			for _, arn := range arns {
				if _, ok := w.account().Managed(snap, arn); !ok && arn != "" {
					t.Errorf("%s has %s, which does not exist", of, arn)
				}
			}
		}
		for u := range state.All(snap, state.Users) {
			used(u.Name, append(slices.Clone(u.Attached), u.Boundary)...)
			for _, g := range u.Groups {
				if !state.Has(snap, state.Groups, string(g)) {
					t.Errorf("%s is in group %s, which does not exist", u.Name, g)
				}
			}
			if len(u.Groups) > groupsPerUser || len(u.Attached) > attachedPolicies {
				t.Errorf("%s is in %d groups and has %d policies", u.Name, len(u.Groups), len(u.Attached))
			}
		}
		for g := range state.All(snap, state.Groups) {
			used(g.Name, g.Attached...)
		}
		for r := range state.All(snap, state.Roles) {
			used(r.Name, append(slices.Clone(r.Attached), r.Boundary)...)
		}
		for p := range state.All(snap, state.InstanceProfiles) {
			if p.RoleID != "" && !state.Has(snap, state.Roles, string(p.RoleID)) {
				t.Errorf("%s holds role %s, which does not exist", p.Name, p.RoleID)
			}
		}
		for p := range state.All(snap, state.Policies) {
			if len(p.Versions) > versionsPerPolicy || p.Text() == "" {
				t.Errorf("%s has %d versions", p.Name, len(p.Versions))
			}
		}
	}
	x := shape.Ptr("x")
	for _, c := range []struct {
		name string
		do   func(w *world, i int) error
	}{
		{"role", func(w *world, i int) error {
			_, err := w.CreateRole(w.ctx, call, &iam.CreateRoleInput{RoleName: shape.Ptr([]string{"x", "X"}[i%2]), AssumeRolePolicyDocument: shape.Ptr(trustEC2)})
			return err
		}},
		{"group", func(w *world, i int) error {
			_, err := w.CreateGroup(w.ctx, call, &iam.CreateGroupInput{GroupName: shape.Ptr([]string{"x", "X"}[i%2])})
			return err
		}},
		{"policy", func(w *world, i int) error {
			_, err := w.CreatePolicy(w.ctx, call, &iam.CreatePolicyInput{PolicyName: shape.Ptr([]string{"x", "X"}[i%2]), Path: shape.Ptr(fmt.Sprint("/", i, "/")), PolicyDocument: shape.Ptr(allowAll)})
			return err
		}},
		{"instance profile", func(w *world, i int) error {
			_, err := w.CreateInstanceProfile(w.ctx, call, &iam.CreateInstanceProfileInput{InstanceProfileName: shape.Ptr([]string{"x", "X"}[i%2])})
			return err
		}},
	} {
		t.Run("one "+c.name+" gets a name, whatever its case", func(t *testing.T) {
			w := open(t)
			if won := race(t, w, func(i int) error { return c.do(w, i) }, "EntityAlreadyExists"); won != 1 {
				t.Errorf("%d won", won)
			}
		})
	}
	t.Run("one service-linked role is made", func(t *testing.T) {
		w := open(t)
		if won := race(t, w, func(int) error {
			_, err := w.CreateServiceLinkedRole(w.ctx, call, &iam.CreateServiceLinkedRoleInput{AWSServiceName: shape.Ptr("ds.amazonaws.com")})
			return err
		}, "InvalidInput"); won != 1 {
			t.Errorf("%d won", won)
		}
	})
	t.Run("of two groups renamed to one name one gets it", func(t *testing.T) {
		w := open(t)
		for i := range many {
			w.group(fmt.Sprint("g", i))
		}
		if won := race(t, w, func(i int) error {
			_, err := w.UpdateGroup(w.ctx, call, &iam.UpdateGroupInput{GroupName: shape.Ptr(fmt.Sprint("g", i)), NewGroupName: x})
			return err
		}, "EntityAlreadyExists"); won != 1 {
			t.Errorf("%d won", won)
		}
	})
	for _, kind := range kinds {
		t.Run("no policy is deleted that a "+kind+" is being given", func(t *testing.T) {
			for range 5 {
				w := open(t)
				w.bearerOf(kind, "x")
				arn := w.policy("p")
				race(t, w, func(i int) error {
					switch {
					case i%4 == 0:
						_, err := w.DeletePolicy(w.ctx, call, &iam.DeletePolicyInput{PolicyArn: &arn})
						return err
					case i%4 == 1 && kind == "user":
						_, err := w.PutUserPermissionsBoundary(w.ctx, call, &iam.PutUserPermissionsBoundaryInput{UserName: x, PermissionsBoundary: &arn})
						return err
					case i%4 == 1 && kind == "role":
						_, err := w.PutRolePermissionsBoundary(w.ctx, call, &iam.PutRolePermissionsBoundaryInput{RoleName: x, PermissionsBoundary: &arn})
						return err
					}
					return w.attachTo(kind, "x", arn)
				}, "NoSuchEntity", "DeleteConflict")
				whole(t, w)
			}
		})
		t.Run("no "+kind+" is deleted that is being given a policy", func(t *testing.T) {
			for range 5 {
				w := open(t)
				w.bearerOf(kind, "x")
				arn := w.policy("p")
				race(t, w, func(i int) error {
					if i%4 > 0 {
						return w.attachTo(kind, "x", arn)
					}
					var err error
					switch kind {
					case "user":
						_, err = w.DeleteUser(w.ctx, call, &iam.DeleteUserInput{UserName: x})
					case "group":
						_, err = w.DeleteGroup(w.ctx, call, &iam.DeleteGroupInput{GroupName: x})
					default:
						_, err = w.DeleteRole(w.ctx, call, &iam.DeleteRoleInput{RoleName: x})
					}
					return err
				}, "NoSuchEntity", "DeleteConflict")
				snap := w.DB.Snapshot()
				attached, _ := uses(snap, arn)
				if lives := state.Count(snap, state.Users)+state.Count(snap, state.Groups)+state.Count(snap, state.Roles) > 0; lives != (attached > 0) {
					t.Errorf("it lives: %t, attached %d times", lives, attached)
				}
			}
		})
		t.Run("a "+kind+" never has an eleventh policy", func(t *testing.T) {
			w := open(t)
			w.bearerOf(kind, "x")
			var arns []string
			for i := range many {
				arns = append(arns, w.policy(fmt.Sprint("p", i)))
			}
			if won := race(t, w, func(i int) error { return w.attachTo(kind, "x", arns[i]) }, "LimitExceeded"); won != attachedPolicies {
				t.Errorf("%d won", won)
			}
			whole(t, w)
		})
		t.Run("the inline policies of a "+kind+" stay within their quota", func(t *testing.T) {
			w := open(t)
			w.bearerOf(kind, "x")
			quota := map[string]policy.Quota{"user": policy.InlineUserQuota, "group": policy.InlineGroupQuota, "role": policy.InlineRoleQuota}[kind]
			document := strings.Replace(allowAll, `"*","Resource"`, `"`+strings.Repeat("a", quota.Max/5)+`:*","Resource"`, 1)
			if won := race(t, w, func(i int) error { return w.putPolicy(kind, "x", fmt.Sprint("p", i), document) }, "LimitExceeded"); won != quota.Max/policy.Size(document) {
				t.Errorf("%d won", won)
			}
		})
	}
	t.Run("a user is never in an eleventh group", func(t *testing.T) {
		w := open(t)
		w.user("x")
		for i := range many {
			w.group(fmt.Sprint("g", i))
		}
		if won := race(t, w, func(i int) error { return w.join("x", fmt.Sprint("g", i)) }, "LimitExceeded"); won != groupsPerUser {
			t.Errorf("%d won", won)
		}
	})
	t.Run("no group is deleted that somebody is being put into", func(t *testing.T) {
		for range 5 {
			w := open(t)
			w.group("x")
			for i := range many {
				w.user(fmt.Sprint("u", i))
			}
			race(t, w, func(i int) error {
				if i%4 == 0 {
					_, err := w.DeleteGroup(w.ctx, call, &iam.DeleteGroupInput{GroupName: x})
					return err
				}
				return w.join(fmt.Sprint("u", i), "x")
			}, "NoSuchEntity", "DeleteConflict")
			whole(t, w)
		}
	})
	t.Run("no role is deleted that is being put into an instance profile", func(t *testing.T) {
		for range 5 {
			w := open(t)
			w.role("x")
			for i := range many {
				w.profile(fmt.Sprint("p", i))
			}
			race(t, w, func(i int) error {
				if i%4 == 0 {
					_, err := w.DeleteRole(w.ctx, call, &iam.DeleteRoleInput{RoleName: x})
					return err
				}
				_, err := w.AddRoleToInstanceProfile(w.ctx, call, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: shape.Ptr(fmt.Sprint("p", i)), RoleName: x})
				return err
			}, "NoSuchEntity", "DeleteConflict")
			whole(t, w)
		}
	})
	t.Run("a policy never has a sixth version, and always its default one", func(t *testing.T) {
		w := open(t)
		arn := w.policy("p")
		won := race(t, w, func(i int) error { _, err := w.addVersion(arn, allowAll, i%2 == 0); return err }, "LimitExceeded")
		if won != versionsPerPolicy-1 {
			t.Errorf("%d won", won)
		}
		answer(w.SetDefaultPolicyVersion(w.ctx, call, &iam.SetDefaultPolicyVersionInput{PolicyArn: &arn, VersionId: shape.Ptr("v1")}))(w)
		race(t, w, func(i int) error {
			v := shape.Ptr(fmt.Sprint("v", 2+i/2%4))
			if i%2 == 0 {
				_, err := w.DeletePolicyVersion(w.ctx, call, &iam.DeletePolicyVersionInput{PolicyArn: &arn, VersionId: v})
				return err
			}
			_, err := w.SetDefaultPolicyVersion(w.ctx, call, &iam.SetDefaultPolicyVersionInput{PolicyArn: &arn, VersionId: v})
			return err
		}, "NoSuchEntity", "DeleteConflict")
		whole(t, w)
	})
	t.Run("IAM-5 nobody is trusted who is deleted at the same time", func(t *testing.T) {
		for range 5 {
			w := open(t)
			id := string(w.user("x").ID)
			w.role("target")
			trusted := make(chan struct{}, many)
			race(t, w, func(i int) error {
				if i%4 == 0 {
					_, err := w.DeleteUser(w.ctx, call, &iam.DeleteUserInput{UserName: x})
					return err
				}
				_, err := w.UpdateAssumeRolePolicy(w.ctx, call, &iam.UpdateAssumeRolePolicyInput{RoleName: shape.Ptr("target"), PolicyDocument: shape.Ptr(trusting("arn:aws:iam::123456789012:user/x"))})
				var e *awserr.Error
				if err == nil {
					trusted <- struct{}{}
				} else if errors.As(err, &e) && e.Code == "MalformedPolicyDocument" && !strings.Contains(e.Message, "there is no such user") {
					t.Errorf("%v", err)
				}
				return err
			}, "NoSuchEntity", "MalformedPolicyDocument")
			role, err := findRole(w.DB.Snapshot(), "target")
			w.done(err)
			if len(trusted) > 0 != strings.Contains(role.Trust, id) || strings.Contains(role.Trust, "user/x") {
				t.Errorf("%d won: %s", len(trusted), role.Trust)
			}
		}
	})
}
