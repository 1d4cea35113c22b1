package iam

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/policy"
	"carrel/internal/service"
	"carrel/internal/state"
)

const (
	describe = "workspaces:DescribeWorkspaces"
	stop     = "workspaces:StopWorkspaces"
	deskOne  = "arn:aws:workspaces:us-east-1:123456789012:workspace/ws-1"
	deskTwo  = "arn:aws:workspaces:us-east-1:123456789012:workspace/ws-2"
)

func allow(action, resource string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"` + action + `","Resource":"` + resource + `"}]}`
}

func deny(action string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"` + action + `","Resource":"*"}]}`
}

// short is a result in a line: the decision, the statements that made it, and what is missing.
func short(decision iam.PolicyEvaluationDecisionType, matched []iam.Statement, missing []string) string {
	var ids []string
	for _, s := range matched {
		ids = append(ids, *s.SourcePolicyId)
	}
	return fmt.Sprint(decision, ids, missing)
}

func (w *world) simulate(in iam.SimulateCustomPolicyInput) []iam.EvaluationResult {
	w.t.Helper()
	if in.ActionNames == nil {
		in.ActionNames = []string{describe}
	}
	out, err := w.SimulateCustomPolicy(w.ctx, service.Call{}, &in)
	if err != nil {
		w.t.Fatal(err)
	}
	return out.EvaluationResults
}

func (w *world) guardrail(name, text string) {
	w.t.Helper()
	w.put(func(tx *state.Tx) {
		a := state.Clone(accountOf(tx))
		if a.Guardrails == nil {
			a.Guardrails = map[string]string{}
		}
		a.Guardrails[name] = text
		state.Put(tx, state.Accounts, a)
	})
}

func TestACustomPolicyIsSimulated(t *testing.T) {
	w, _ := openAt(t)
	tagged := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"workspaces:*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team}"}}}}`
	entry := func(key, kind string, values ...string) iam.ContextEntry {
		return iam.ContextEntry{ContextKeyName: &key, ContextKeyType: shape.Ptr(iam.ContextKeyTypeEnum(kind)), ContextKeyValues: values}
	}
	for _, c := range []struct {
		name string
		in   iam.SimulateCustomPolicyInput
		want string
	}{
		{"what is allowed", iam.SimulateCustomPolicyInput{PolicyInputList: []string{allow("workspaces:Describe*", "*")}}, "allowed[PolicyInputList.1] []"},
		{"what is not", iam.SimulateCustomPolicyInput{PolicyInputList: []string{allow("workspaces:Stop*", "*")}}, "implicitDeny[] []"},
		{"of allowing and denying statements the denials are told", iam.SimulateCustomPolicyInput{PolicyInputList: []string{allow("*", "*"), deny("workspaces:*"), deny("*")}}, "explicitDeny[PolicyInputList.2 PolicyInputList.3] []"},
		{"a boundary that allows is not what allowed", iam.SimulateCustomPolicyInput{PolicyInputList: []string{allow("*", "*")}, PermissionsBoundaryPolicyInputList: []string{allow("*", "*")}}, "allowed[PolicyInputList.1] []"},
		{"a boundary that does not allow", iam.SimulateCustomPolicyInput{PolicyInputList: []string{allow("*", "*")}, PermissionsBoundaryPolicyInputList: []string{allow("ec2:*", "*")}}, "implicitDeny[] []"},
		{"a boundary that denies", iam.SimulateCustomPolicyInput{PolicyInputList: []string{allow("*", "*")}, PermissionsBoundaryPolicyInputList: []string{deny("*")}}, "explicitDeny[PermissionsBoundaryPolicyInputList.1] []"},
		{"a resource that no resource stands for", iam.SimulateCustomPolicyInput{PolicyInputList: []string{allow("*", deskOne)}}, "implicitDeny[] []"},
		{"context that is missing", iam.SimulateCustomPolicyInput{PolicyInputList: []string{tagged}}, "implicitDeny[] [aws:PrincipalTag/team aws:ResourceTag/team]"},
		{"context of an action that is not asked for is not missing", iam.SimulateCustomPolicyInput{PolicyInputList: []string{tagged}, ActionNames: []string{"ec2:DescribeVpcs"}}, "implicitDeny[] []"},
		{"context that is given", iam.SimulateCustomPolicyInput{PolicyInputList: []string{tagged}, ContextEntries: []iam.ContextEntry{entry("AWS:resourcetag/TEAM", "string", "a"), entry("aws:PrincipalTag/team", "string", "a")}}, "allowed[PolicyInputList.1] []"},
		{"context that is another", iam.SimulateCustomPolicyInput{PolicyInputList: []string{tagged}, ContextEntries: []iam.ContextEntry{entry("aws:ResourceTag/team", "string", "a"), entry("aws:PrincipalTag/team", "string", "b")}}, "implicitDeny[] []"},
		{"context without a value is missing", iam.SimulateCustomPolicyInput{PolicyInputList: []string{tagged}, ContextEntries: []iam.ContextEntry{entry("aws:ResourceTag/team", "stringList"), entry("aws:PrincipalTag/team", "string", "b")}}, "implicitDeny[] [aws:ResourceTag/team]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.simulate(c.in)
			if got := short(*r[0].EvalDecision, r[0].MatchedStatements, r[0].MissingContextValues); got != c.want || *r[0].EvalResourceName != "*" || r[0].ResourceSpecificResults != nil {
				t.Errorf("%s, want %s: %+v", got, c.want, r[0])
			}
			if bounded := c.in.PermissionsBoundaryPolicyInputList != nil; bounded != (r[0].PermissionsBoundaryDecisionDetail != nil) {
				t.Errorf("boundary: %+v", r[0].PermissionsBoundaryDecisionDetail)
			} else if bounded && *r[0].PermissionsBoundaryDecisionDetail.AllowedByPermissionsBoundary != strings.Contains(c.in.PermissionsBoundaryPolicyInputList[0], `"Allow","Action":"*"`) {
				t.Error("the boundary is said to decide otherwise")
			}
			if r[0].OrganizationsDecisionDetail != nil || r[0].EvalDecisionDetails != nil {
				t.Errorf("%+v", r[0])
			}
		})
	}
}

func TestResourcesAreSimulatedOneByOne(t *testing.T) {
	w, _ := openAt(t)
	policies := []string{allow(stop, deskOne), `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"` + deskTwo + `","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"false"}}}]}`}
	t.Run("one", func(t *testing.T) {
		r := w.simulate(iam.SimulateCustomPolicyInput{PolicyInputList: policies, ActionNames: []string{stop}, ResourceArns: []string{deskOne}})[0]
		one := r.ResourceSpecificResults
		if len(one) != 1 || *r.EvalResourceName != deskOne || *one[0].EvalResourceName != deskOne || *one[0].EvalResourceDecision != "allowed" || *r.EvalDecision != "allowed" ||
			len(r.MatchedStatements) != 1 || len(one[0].MatchedStatements) != 1 || one[0].EvalDecisionDetails == nil || len(one[0].EvalDecisionDetails) != 0 || r.EvalDecisionDetails == nil {
			t.Errorf("%+v", r)
		}
	})
	t.Run("several: the worst is the whole one's", func(t *testing.T) {
		r := w.simulate(iam.SimulateCustomPolicyInput{PolicyInputList: policies, ActionNames: []string{stop}, ResourceArns: []string{deskOne, deskTwo}})[0]
		if len(r.ResourceSpecificResults) != 2 || *r.EvalResourceName != "*" || *r.EvalDecision != "implicitDeny" || len(r.MatchedStatements)+len(r.MissingContextValues) != 0 {
			t.Errorf("%+v", r)
		}
		two := r.ResourceSpecificResults[1]
		if got := short(*two.EvalResourceDecision, two.MatchedStatements, two.MissingContextValues); got != "implicitDeny[] [aws:MultiFactorAuthPresent]" || *two.EvalResourceName != deskTwo {
			t.Errorf("%s: %+v", got, two)
		}
		r = w.simulate(iam.SimulateCustomPolicyInput{PolicyInputList: policies, ActionNames: []string{stop}, ResourceArns: []string{deskTwo, "*", deskOne},
			ContextEntries: []iam.ContextEntry{{ContextKeyName: shape.Ptr("aws:MultiFactorAuthPresent"), ContextKeyType: shape.Ptr(iam.ContextKeyTypeEnumBoolean), ContextKeyValues: []string{"false"}}}})[0]
		if *r.EvalDecision != "explicitDeny" || *r.ResourceSpecificResults[0].EvalResourceDecision != "explicitDeny" || *r.ResourceSpecificResults[1].EvalResourceDecision != "implicitDeny" || *r.ResourceSpecificResults[2].EvalResourceDecision != "allowed" {
			t.Errorf("%+v", r)
		}
	})
}

func TestGuardrailsAreSimulated(t *testing.T) {
	w, _ := openAt(t)
	w.guardrail("full", allow("*", "*"))
	r := w.simulate(iam.SimulateCustomPolicyInput{PolicyInputList: []string{allow("*", "*")}})[0]
	if *r.EvalDecision != "allowed" || !*r.OrganizationsDecisionDetail.AllowedByOrganizations {
		t.Errorf("%+v", r)
	}
	w.guardrail("desks", deny("workspaces:*"))
	r = w.simulate(iam.SimulateCustomPolicyInput{PolicyInputList: []string{allow("*", "*")}})[0]
	if *r.EvalDecision != "explicitDeny" || *r.OrganizationsDecisionDetail.AllowedByOrganizations || len(r.MatchedStatements) != 0 {
		t.Errorf("%+v", r)
	}
	w.guardrail("desks", allow("ec2:*", "*"))
	r = w.simulate(iam.SimulateCustomPolicyInput{PolicyInputList: []string{allow("*", "*")}})[0]
	if *r.EvalDecision != "implicitDeny" || *r.OrganizationsDecisionDetail.AllowedByOrganizations {
		t.Errorf("%+v", r)
	}
	t.Run("IAM-2 one that cannot be read any more denies", func(t *testing.T) {
		w.guardrail("desks", "{")
		r = w.simulate(iam.SimulateCustomPolicyInput{PolicyInputList: []string{allow("*", "*")}})[0]
		if *r.EvalDecision != "explicitDeny" || *r.OrganizationsDecisionDetail.AllowedByOrganizations {
			t.Errorf("%+v", r)
		}
	})
	t.Run("a service-linked role is not held to them", func(t *testing.T) {
		w.put(func(tx *state.Tx) {
			state.Put(tx, state.Roles, &state.Role{ID: "AROALINKED", Name: "linked", Path: "/aws-service-role/x/", Service: "workspaces.amazonaws.com", Permissions: state.Permissions{Inline: map[string]string{"own": allow("*", "*")}}})
		})
		out, err := w.SimulatePrincipalPolicy(w.ctx, service.Call{}, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: shape.Ptr("arn:aws:iam::123456789012:role/aws-service-role/x/linked"), ActionNames: []string{describe}})
		if err != nil || *out.EvaluationResults[0].EvalDecision != "allowed" || !*out.EvaluationResults[0].OrganizationsDecisionDetail.AllowedByOrganizations {
			t.Errorf("%+v, %v", out, err)
		}
	})
}

func TestAResourcesPolicyIsSimulated(t *testing.T) {
	w, _ := openAt(t)
	const ada, far = "arn:aws:iam::123456789012:user/ada", "arn:aws:s3:::far"
	names := func(principal, effect string) *string {
		return shape.Ptr(`{"Version":"2012-10-17","Statement":[{"Effect":"` + effect + `","Principal":` + principal + `,"Action":"*","Resource":"*"}]}`)
	}
	for _, c := range []struct {
		name, identity string
		resource       *string
		owner          *string
		want           string
		details        string
	}{
		{"the user is named and needs no more", deny("ec2:*"), names(`{"AWS":"`+ada+`"}`, "Allow"), nil, "allowed[ResourcePolicy] []", "map[]"},
		{"the account is named and its policies decide", deny("ec2:*"), names(`{"AWS":"123456789012"}`, "Allow"), nil, "implicitDeny[] []", "map[]"},
		{"both allow", allow("*", "*"), names(`{"AWS":"123456789012"}`, "Allow"), nil, "allowed[ResourcePolicy PolicyInputList.1] []", "map[]"},
		{"the resource denies", allow("*", "*"), names(`"*"`, "Deny"), nil, "explicitDeny[ResourcePolicy] []", "map[]"},
		{"another is named", allow("*", "*"), names(`{"AWS":"arn:aws:iam::123456789012:user/bob"}`, "Allow"), nil, "allowed[PolicyInputList.1] []", "map[]"},
		{"another account's resource that names the user", allow("*", "*"), names(`{"AWS":"`+ada+`"}`, "Allow"), shape.Ptr("arn:aws:iam::210987654321:root"), "allowed[ResourcePolicy PolicyInputList.1] []", "map[IAM Policy:allowed Resource Policy:allowed]"},
		{"another account's resource and no policy of the user's", deny("ec2:*"), names(`{"AWS":"`+ada+`"}`, "Allow"), shape.Ptr("arn:aws:iam::210987654321:root"), "implicitDeny[] []", "map[IAM Policy:implicitDeny Resource Policy:allowed]"},
		{"another account's resource that names nobody", allow("*", "*"), names(`{"AWS":"arn:aws:iam::123456789012:user/bob"}`, "Allow"), shape.Ptr("arn:aws:iam::210987654321:root"), "implicitDeny[] []", "map[IAM Policy:allowed Resource Policy:implicitDeny]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.simulate(iam.SimulateCustomPolicyInput{PolicyInputList: []string{c.identity}, ActionNames: []string{"s3:GetObject"}, ResourceArns: []string{far}, ResourcePolicy: c.resource, ResourceOwner: c.owner, CallerArn: shape.Ptr(ada)})[0]
			if got := short(*r.EvalDecision, r.MatchedStatements, r.MissingContextValues); got != c.want || fmt.Sprint(r.EvalDecisionDetails) != c.details {
				t.Errorf("%s %v, want %s %s", got, r.EvalDecisionDetails, c.want, c.details)
			}
		})
	}
	t.Run("the ARN of a resource says whose it is before its owner does", func(t *testing.T) {
		r := w.simulate(iam.SimulateCustomPolicyInput{PolicyInputList: []string{deny("ec2:*")}, ActionNames: []string{stop}, ResourceArns: []string{deskOne}, ResourcePolicy: names(`{"AWS":"`+ada+`"}`, "Allow"),
			ResourceOwner: shape.Ptr("arn:aws:iam::210987654321:root"), CallerArn: shape.Ptr(ada)})[0]
		if *r.EvalDecision != "allowed" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("IAM-5 a user is named by the unique id as well", func(t *testing.T) {
		u := w.user("ada")
		r := w.simulate(iam.SimulateCustomPolicyInput{PolicyInputList: []string{deny("ec2:*")}, ActionNames: []string{"s3:GetObject"}, ResourceArns: []string{far}, ResourcePolicy: names(`{"AWS":"`+string(u.ID)+`"}`, "Allow"), CallerArn: shape.Ptr(ada)})[0]
		if *r.EvalDecision != "allowed" {
			t.Errorf("%+v", r)
		}
	})
}

func TestAPrincipalsPoliciesAreSimulated(t *testing.T) {
	w, _ := openAt(t)
	call := service.Call{}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ada := w.user("ada")
	group, err := w.CreateGroup(w.ctx, call, &iam.CreateGroupInput{GroupName: shape.Ptr("ops"), Path: shape.Ptr("/team/")})
	do(err)
	_, err = w.AddUserToGroup(w.ctx, call, &iam.AddUserToGroupInput{GroupName: shape.Ptr("ops"), UserName: &ada.Name})
	do(err)
	_, err = w.PutUserPolicy(w.ctx, call, &iam.PutUserPolicyInput{UserName: &ada.Name, PolicyName: shape.Ptr("Own"), PolicyDocument: shape.Ptr(allow(describe, "*"))})
	do(err)
	_, err = w.PutGroupPolicy(w.ctx, call, &iam.PutGroupPolicyInput{GroupName: shape.Ptr("ops"), PolicyName: shape.Ptr("Stop"), PolicyDocument: shape.Ptr(allow(stop, "*"))})
	do(err)
	made, err := w.CreatePolicy(w.ctx, call, &iam.CreatePolicyInput{PolicyName: shape.Ptr("Desks"), Path: shape.Ptr("/p/"), PolicyDocument: shape.Ptr(allow("workspaces:Stop*", "*"))})
	do(err)
	_, err = w.AttachUserPolicy(w.ctx, call, &iam.AttachUserPolicyInput{UserName: &ada.Name, PolicyArn: made.Policy.Arn})
	do(err)
	_, err = w.AttachGroupPolicy(w.ctx, call, &iam.AttachGroupPolicyInput{GroupName: shape.Ptr("ops"), PolicyArn: shape.Ptr("arn:aws:iam::aws:policy/AmazonWorkSpacesAdmin")})
	do(err)
	role, err := w.CreateRole(w.ctx, call, &iam.CreateRoleInput{RoleName: shape.Ptr("desk"), AssumeRolePolicyDocument: shape.Ptr(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole"}]}`)})
	do(err)
	_, err = w.PutRolePolicy(w.ctx, call, &iam.PutRolePolicyInput{RoleName: shape.Ptr("desk"), PolicyName: shape.Ptr("All"), PolicyDocument: shape.Ptr(allow("*", "*"))})
	do(err)
	adaARN := "arn:aws:iam::123456789012:user/ada"
	simulate := func(in iam.SimulatePrincipalPolicyInput) (string, *iam.EvaluationResult) {
		t.Helper()
		out, err := w.SimulatePrincipalPolicy(w.ctx, call, &in)
		do(err)
		r := &out.EvaluationResults[0]
		var types []string
		for _, s := range r.MatchedStatements {
			types = append(types, string(*s.SourcePolicyType))
		}
		return short(*r.EvalDecision, r.MatchedStatements, r.MissingContextValues) + fmt.Sprint(types), r
	}
	for _, c := range []struct {
		name string
		in   iam.SimulatePrincipalPolicyInput
		want string
	}{
		{"a user's own and its groups'", iam.SimulatePrincipalPolicyInput{PolicySourceArn: &adaARN, ActionNames: []string{describe}}, "allowed[user_ada_Own AmazonWorkSpacesAdmin] [][user aws-managed]"},
		{"attached and the group's inline ones", iam.SimulatePrincipalPolicyInput{PolicySourceArn: &adaARN, ActionNames: []string{stop}}, "allowed[Desks group_ops_Stop AmazonWorkSpacesAdmin] [][user-managed group aws-managed]"},
		{"a group's", iam.SimulatePrincipalPolicyInput{PolicySourceArn: group.Group.Arn, ActionNames: []string{stop}}, "allowed[group_ops_Stop AmazonWorkSpacesAdmin] [][group aws-managed]"},
		{"a role's", iam.SimulatePrincipalPolicyInput{PolicySourceArn: role.Role.Arn, ActionNames: []string{"ec2:DescribeVpcs"}}, "allowed[role_desk_All] [][role]"},
		{"with a policy more", iam.SimulatePrincipalPolicyInput{PolicySourceArn: &adaARN, ActionNames: []string{describe}, PolicyInputList: []string{deny("*")}}, "explicitDeny[PolicyInputList.1] [][none]"},
		{"as a user with another's policies", iam.SimulatePrincipalPolicyInput{PolicySourceArn: role.Role.Arn, ActionNames: []string{describe}, CallerArn: shape.Ptr("arn:aws:iam::123456789012:user/bob"), ResourcePolicy: shape.Ptr(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":{"AWS":"arn:aws:iam::123456789012:user/bob"},"Action":"*","Resource":"*"}]}`)}, "explicitDeny[ResourcePolicy] [][resource]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, _ := simulate(c.in); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	t.Run("its boundary limits it, unless another one is given", func(t *testing.T) {
		_, err := w.PutUserPermissionsBoundary(w.ctx, call, &iam.PutUserPermissionsBoundaryInput{UserName: &ada.Name, PermissionsBoundary: shape.Ptr("arn:aws:iam::aws:policy/IAMReadOnlyAccess")})
		do(err)
		if got, r := simulate(iam.SimulatePrincipalPolicyInput{PolicySourceArn: &adaARN, ActionNames: []string{describe}}); !strings.HasPrefix(got, "implicitDeny[]") || *r.PermissionsBoundaryDecisionDetail.AllowedByPermissionsBoundary {
			t.Errorf("%s %+v", got, r)
		}
		if got, r := simulate(iam.SimulatePrincipalPolicyInput{PolicySourceArn: &adaARN, ActionNames: []string{describe}, PermissionsBoundaryPolicyInputList: []string{allow("*", "*")}}); !strings.HasPrefix(got, "allowed[") || !*r.PermissionsBoundaryDecisionDetail.AllowedByPermissionsBoundary {
			t.Errorf("%s %+v", got, r)
		}
	})
	t.Run("the context keys of its policies are told", func(t *testing.T) {
		_, err := w.PutGroupPolicy(w.ctx, call, &iam.PutGroupPolicyInput{GroupName: shape.Ptr("ops"), PolicyName: shape.Ptr("Self"), PolicyDocument: shape.Ptr(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::*:user/${aws:username}","Condition":{"Bool":{"aws:SecureTransport":"true"}}}]}`)})
		do(err)
		out, err := w.GetContextKeysForPrincipalPolicy(w.ctx, call, &iam.GetContextKeysForPrincipalPolicyInput{PolicySourceArn: &adaARN, PolicyInputList: []string{strings.Replace(allow("*", "*"), `"*"}`, `"*","Condition":{"Null":{"AWS:USERNAME":"false"}}}`, 1)}})
		if err != nil || strings.Join(out.ContextKeyNames, " ") != "aws:SecureTransport aws:username" {
			t.Errorf("%+v, %v", out, err)
		}
	})
	t.Run("which policies give access to a service", func(t *testing.T) {
		list := func(name string, services ...string) string {
			t.Helper()
			out, err := w.ListPoliciesGrantingServiceAccess(w.ctx, call, &iam.ListPoliciesGrantingServiceAccessInput{Arn: &name, ServiceNamespaces: services})
			do(err)
			var all []string
			for _, e := range out.PoliciesGrantingServiceAccess {
				line := *e.ServiceNamespace + ":"
				for _, p := range e.Policies {
					line += fmt.Sprintf(" %s/%s", *p.PolicyName, *p.PolicyType)
					if p.EntityType != nil {
						line += fmt.Sprintf("/%s/%s", *p.EntityType, *p.EntityName)
					} else {
						line += "/" + *p.PolicyArn
					}
				}
				all = append(all, line)
			}
			return strings.Join(all, "; ")
		}
		want := "workspaces: Own/INLINE/USER/ada Desks/MANAGED/arn:aws:iam::123456789012:policy/p/Desks Stop/INLINE/GROUP/ops AmazonWorkSpacesAdmin/MANAGED/arn:aws:iam::aws:policy/AmazonWorkSpacesAdmin; KMS: AmazonWorkSpacesAdmin/MANAGED/arn:aws:iam::aws:policy/AmazonWorkSpacesAdmin; ec2:"
		if got := list(adaARN, "workspaces", "KMS", "ec2"); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		if got := list(*role.Role.Arn, "ec2"); got != "ec2: All/INLINE/ROLE/desk" {
			t.Error(got)
		}
	})
}

func TestPoliciesGrantOrNot(t *testing.T) {
	statement := func(effect, element, actions string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"` + effect + `","` + element + `":` + actions + `,"Resource":"*"}]}`
	}
	for _, c := range []struct {
		text string
		want bool
	}{
		{statement("Allow", "Action", `"*"`), true}, {statement("Allow", "Action", `"EC2:Describe*"`), true}, {statement("Allow", "Action", `["s3:*","ec2:RunInstances"]`), true},
		{statement("Deny", "Action", `"*"`), false}, {statement("Allow", "Action", `"s3:*"`), false}, {statement("Allow", "Action", `"ec2messages:*"`), false},
		{statement("Allow", "NotAction", `"s3:*"`), true}, {statement("Allow", "NotAction", `"ec2:Run*"`), true}, {statement("Allow", "NotAction", `["s3:*","ec2:*"]`), false},
		{statement("Allow", "NotAction", `"*"`), false}, {"{", false},
	} {
		if got := grants(c.text, "ec2"); got != c.want {
			t.Errorf("%s: %v", c.text, got)
		}
	}
}

func TestStatementsAreWhereAWSCountsThem(t *testing.T) {
	// The first two are those of the AWS CLI's own examples and of a printed policy, as AWS has answered them.
	for _, c := range []struct {
		name, text string
		want       string
	}{
		{"a statement without a list", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"dynamodb:*","Resource":"*","Condition":{"DateGreaterThan":{"aws:CurrentTime":"2018-08-16T12:00:00Z"}}}}`, "1:38-1:167"},
		{"a list in lines", "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [\n    {\n      \"Effect\": \"Allow\",\n      \"Action\": \"*\",\n      \"Resource\": \"*\"\n    }\n  ]\n}", "3:17-8:6"},
		{"the second of a list", `{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}, {"Effect":"Allow","Action":"*","Resource":"*"}]}`, "1:64-1:112"},
		{"characters are counted", `{"Id":"ää","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`, "1:25-1:71"},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc, err := policy.Parse(policy.Identity, c.text)
			if err != nil {
				t.Fatal(err)
			}
			start, end := span(doc, len(doc.Statements)-1, c.text)
			if got := fmt.Sprintf("%d:%d-%d:%d", *start.Line, *start.Column, *end.Line, *end.Column); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestSimulationsComeInPages(t *testing.T) {
	w, _ := openAt(t)
	var actions []string
	for i := range 250 {
		actions = append(actions, fmt.Sprintf("workspaces:Action%d", i))
	}
	pages := func(in iam.SimulateCustomPolicyInput) (sizes []int, names []string) {
		in.PolicyInputList, in.ActionNames = []string{allow("*", "*")}, actions
		for {
			out, err := w.SimulateCustomPolicy(w.ctx, service.Call{}, &in)
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, len(out.EvaluationResults))
			for _, r := range out.EvaluationResults {
				names = append(names, *r.EvalActionName)
			}
			if *out.IsTruncated != (out.Marker != nil) {
				t.Fatal("a marker and no more, or more and no marker")
			}
			if in.Marker = out.Marker; in.Marker == nil {
				return sizes, names
			}
		}
	}
	sizes, names := pages(iam.SimulateCustomPolicyInput{})
	if fmt.Sprint(sizes) != "[100 100 50]" || !slices.Equal(names, actions) {
		t.Error(sizes)
	}
	if sizes, _ := pages(iam.SimulateCustomPolicyInput{MaxItems: shape.Ptr(int32(99))}); fmt.Sprint(sizes) != "[99 99 52]" {
		t.Error(sizes)
	}
	t.Run("with many resources they are smaller, so that no call is without end", func(t *testing.T) {
		many := make([]string, 500)
		for i := range many {
			many[i] = deskOne
		}
		sizes, names := pages(iam.SimulateCustomPolicyInput{ResourceArns: many})
		if len(sizes) != 13 || sizes[0] != 20 || !slices.Equal(names, actions) {
			t.Error(sizes)
		}
	})
}

func TestSimulationsRefuse(t *testing.T) {
	w, _ := openAt(t)
	w.user("ada")
	call := service.Call{}
	custom := func(change func(*iam.SimulateCustomPolicyInput)) error {
		in := iam.SimulateCustomPolicyInput{PolicyInputList: []string{allow("*", "*")}, ActionNames: []string{describe}}
		change(&in)
		_, err := w.SimulateCustomPolicy(w.ctx, call, &in)
		return err
	}
	context := func(name, kind string, values ...string) error {
		return custom(func(in *iam.SimulateCustomPolicyInput) {
			in.ContextEntries = []iam.ContextEntry{{ContextKeyName: &name, ContextKeyType: shape.Ptr(iam.ContextKeyTypeEnum(kind)), ContextKeyValues: values}}
		})
	}
	principal := func(name string) error {
		_, err := w.SimulatePrincipalPolicy(w.ctx, call, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: &name, ActionNames: []string{describe}})
		return err
	}
	resource := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}`
	_, keysOfNobody := w.GetContextKeysForPrincipalPolicy(w.ctx, call, &iam.GetContextKeysForPrincipalPolicyInput{PolicySourceArn: shape.Ptr("arn:aws:iam::123456789012:role/no")})
	_, keysOfNothing := w.GetContextKeysForCustomPolicy(w.ctx, call, &iam.GetContextKeysForCustomPolicyInput{PolicyInputList: []string{allow("*", "*"), "{"}})
	_, keysOfBad := w.GetContextKeysForPrincipalPolicy(w.ctx, call, &iam.GetContextKeysForPrincipalPolicyInput{PolicySourceArn: shape.Ptr("arn:aws:iam::123456789012:user/ada"), PolicyInputList: []string{"{"}})
	_, grantingNobody := w.ListPoliciesGrantingServiceAccess(w.ctx, call, &iam.ListPoliciesGrantingServiceAccessInput{Arn: shape.Ptr("arn:aws:iam::123456789012:group/no"), ServiceNamespaces: []string{"ec2"}})
	_, grantingMarker := w.ListPoliciesGrantingServiceAccess(w.ctx, call, &iam.ListPoliciesGrantingServiceAccessInput{Arn: shape.Ptr("arn:aws:iam::123456789012:user/ada"), ServiceNamespaces: []string{"ec2"}, Marker: shape.Ptr("!")})
	type in = *iam.SimulateCustomPolicyInput
	for _, c := range []struct {
		name       string
		err        error
		code, text string
	}{
		{"a policy that is none", custom(func(i in) { i.PolicyInputList = append(i.PolicyInputList, "{") }), "InvalidInput", "Invalid policy document PolicyInputList.2: "},
		{"a policy that names principals", custom(func(i in) { i.PolicyInputList = []string{resource} }), "InvalidInput", "PolicyInputList.1: "},
		{"a boundary that is none", custom(func(i in) { i.PermissionsBoundaryPolicyInputList = []string{"[]"} }), "InvalidInput", "PermissionsBoundaryPolicyInputList.1: "},
		{"two boundaries", custom(func(i in) { i.PermissionsBoundaryPolicyInputList = []string{allow("*", "*"), allow("*", "*")} }), "InvalidInput", "Only one permissions boundary"},
		{"an action without a service", custom(func(i in) { i.ActionNames = []string{"DescribeWorkspaces"} }), "InvalidInput", "ActionNames are not in a valid format: DescribeWorkspaces."},
		{"an action with a star", custom(func(i in) { i.ActionNames = []string{"workspaces:*"} }), "InvalidInput", "workspaces:*"},
		{"an action with two colons", custom(func(i in) { i.ActionNames = []string{"a:b:c"} }), "InvalidInput", "a:b:c"},
		{"a resource that is no ARN", custom(func(i in) { i.ResourceArns = []string{"*", "ws-1"} }), "InvalidInput", "ResourceNames are not in a valid ARN format: ws-1."},
		{"too many resources", custom(func(i in) { i.ResourceArns = make([]string, mostResources+1) }), "InvalidInput", "No more than 10000"},
		{"an owner that is an account's number", custom(func(i in) { i.ResourceOwner = shape.Ptr("123456789012") }), "InvalidInput", "'123456789012' is not a valid as a Resource Owner."},
		{"an owner that is a user", custom(func(i in) { i.ResourceOwner = shape.Ptr("arn:aws:iam::123456789012:user/ada") }), "InvalidInput", "Resource Owner"},
		{"a caller that is a role", custom(func(i in) { i.CallerArn = shape.Ptr("arn:aws:iam::123456789012:role/x") }), "InvalidInput", "is not the ARN of an IAM user"},
		{"a caller that is a session", custom(func(i in) { i.CallerArn = shape.Ptr("arn:aws:sts::123456789012:assumed-role/x/y") }), "InvalidInput", "is not the ARN of an IAM user"},
		{"a caller that is none", custom(func(i in) { i.CallerArn = shape.Ptr("ada") }), "InvalidInput", "is not the ARN of an IAM user"},
		{"a resource's policy without a caller", custom(func(i in) { i.ResourcePolicy = &resource }), "InvalidInput", "CallerArn must be the ARN of an IAM user"},
		{"a resource's policy that is none", custom(func(i in) {
			i.ResourcePolicy, i.CallerArn = shape.Ptr(allow("*", "*")), shape.Ptr("arn:aws:iam::123456789012:user/x")
		}), "InvalidInput", "Invalid policy document ResourcePolicy: "},
		{"a handling option that there is not", custom(func(i in) { i.ResourceHandlingOption = shape.Ptr("EC2") }), "InvalidInput", "'EC2' is not a valid Resource Handling Option."},
		{"a marker that is none", custom(func(i in) { i.Marker = shape.Ptr("!") }), "ValidationError", "Invalid Marker."},
		{"a context key twice", custom(func(i in) {
			e := iam.ContextEntry{ContextKeyName: shape.Ptr("aws:x"), ContextKeyType: shape.Ptr(iam.ContextKeyTypeEnumString)}
			f := e
			f.ContextKeyName = shape.Ptr("AWS:X")
			i.ContextEntries = []iam.ContextEntry{e, f}
		}), "InvalidInput", "AWS:X is given twice"},
		{"a context key without a type", custom(func(i in) { i.ContextEntries = []iam.ContextEntry{{ContextKeyName: shape.Ptr("aws:x")}} }), "InvalidInput", "has no type"},
		{"a context key without a name", custom(func(i in) { i.ContextEntries = []iam.ContextEntry{{}} }), "InvalidInput", "has no name"},
		{"two values where one is wanted", context("aws:x", "string", "a", "b"), "InvalidInput", "has 2 values"},
		{"a number that is none", context("aws:x", "numeric", "1,5"), "InvalidInput", "The value '1,5' of the context key aws:x is not of type numeric."},
		{"a boolean that is none", context("aws:x", "booleanList", "true", "yes"), "InvalidInput", "'yes'"},
		{"an address that is none", context("aws:x", "ip", "10.0.0.256"), "InvalidInput", "not of type ip"},
		{"a date that is none", context("aws:x", "date", "tomorrow"), "InvalidInput", "not of type date"},
		{"no date", context("aws:x", "date", ""), "InvalidInput", "not of type date"},
		{"binary that is none", context("aws:x", "binary", "!"), "InvalidInput", "not of type binary"},
		{"a type that there is not", context("aws:x", "float", "1"), "InvalidInput", "not of type float"},
		{"the policies of nobody", principal("arn:aws:iam::123456789012:user/no"), "NoSuchEntity", "The user with name no cannot be found."},
		{"the policies of no role", principal("arn:aws:iam::123456789012:role/no"), "NoSuchEntity", "The role with name no cannot be found."},
		{"the policies of no group", principal("arn:aws:iam::123456789012:group/no"), "NoSuchEntity", "The group with name no cannot be found."},
		{"the policies of another account's user", principal("arn:aws:iam::210987654321:user/ada"), "NoSuchEntity", "The user with name ada cannot be found."},
		{"the policies of a user at another path", principal("arn:aws:iam::123456789012:user/x/ada"), "NoSuchEntity", "The user with name ada cannot be found."},
		{"the policies of a session", principal("arn:aws:sts::123456789012:assumed-role/x/y"), "InvalidInput", "Invalid Entity Arn: arn:aws:sts::123456789012:assumed-role/x/y does not clearly define entity type and name."},
		{"the policies of the root", principal("arn:aws:iam::123456789012:root"), "InvalidInput", "Invalid Entity Arn"},
		{"the policies of no ARN", principal("somebody who is no ARN"), "InvalidInput", "Invalid Entity Arn"},
		{"the context keys of nobody", keysOfNobody, "NoSuchEntity", "The role with name no"},
		{"the context keys of no policy", keysOfNothing, "InvalidInput", "PolicyInputList.2"},
		{"the context keys of somebody and no policy", keysOfBad, "InvalidInput", "PolicyInputList.1"},
		{"what gives nobody access", grantingNobody, "NoSuchEntity", "The group with name no"},
		{"a marker of it that is none", grantingMarker, "ValidationError", "Invalid Marker."},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, c.err, c.code, c.text) })
	}
	t.Run("values of every type are taken", func(t *testing.T) {
		for kind, values := range map[string][]string{"string": {""}, "stringList": {"a", "b"}, "numeric": {"-1.5e3"}, "numericList": {"1", ".5", "2."}, "boolean": {"True"}, "booleanList": {"true", "false"},
			"ip": {"10.0.0.1"}, "ipList": {"::1", "10.0.0.0/8"}, "binary": {"AAEC"}, "binaryList": {}, "date": {"2026-05-04T03:02:01Z"}, "dateList": {"1777777777", "2026-05-04", "2026-05-04T03:02:01.5+01:00"}} {
			if err := context("aws:x", kind, values...); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
	})
	t.Run("the context keys of a policy of any kind are told", func(t *testing.T) {
		trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"x"}}}]}`
		out, err := w.GetContextKeysForCustomPolicy(w.ctx, call, &iam.GetContextKeysForCustomPolicyInput{PolicyInputList: []string{trust, strings.Replace(resource, `"Resource":"*"`, `"Resource":"*","Condition":{"Null":{"aws:SourceIp":"true"}}`, 1)}})
		if err != nil || strings.Join(out.ContextKeyNames, " ") != "aws:SourceIp sts:ExternalId" {
			t.Errorf("%+v, %v", out, err)
		}
		out, err = w.GetContextKeysForCustomPolicy(w.ctx, call, &iam.GetContextKeysForCustomPolicyInput{PolicyInputList: []string{allow("*", "*")}})
		if err != nil || out.ContextKeyNames == nil || len(out.ContextKeyNames) != 0 {
			t.Errorf("%+v, %v", out, err)
		}
	})
}

// randomPolicy is a document of a few statements on few actions, resources and keys, so that much matches.
func randomPolicy(r *rand.Rand, principals bool) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	var statements []string
	for range 1 + r.IntN(3) {
		members := []string{`"Effect":"` + pick("Allow", "Allow", "Deny") + `"`}
		if principals {
			members = append(members, `"Principal":`+pick(`"*"`, `{"AWS":"123456789012"}`, `{"AWS":"arn:aws:iam::123456789012:user/ada"}`, `{"AWS":"arn:aws:iam::123456789012:user/bob"}`))
		}
		members = append(members, `"`+pick("Action", "Action", "NotAction")+`":"`+pick("*", "s3:Get*", "s3:GetObject", "s3:Put*", "ec2:*")+`"`)
		members = append(members, `"`+pick("Resource", "Resource", "NotResource")+`":"`+pick("*", "arn:aws:s3:::a", "arn:aws:s3:::*", "arn:aws:s3:::${aws:username}")+`"`)
		if r.IntN(2) == 0 {
			members = append(members, `"Condition":{"`+pick("StringEquals", "StringNotEquals", "StringEqualsIfExists")+`":{"`+pick("aws:username", "aws:PrincipalTag/t")+`":"a"}}`)
		}
		statements = append(statements, "{"+strings.Join(members, ","+pick("", " ", "\n"))+"}")
	}
	return `{"Version":"2012-10-17",` + pick("", "\n") + `"Statement":[` + strings.Join(statements, pick(",", " ,\n ")) + "]}"
}

// TestSimulationsAgreeWithTheEngine holds simulations of random policies to Set.Decide, asked directly, and what they say of single statements to a
// policy that has that statement alone.
func TestSimulationsAgreeWithTheEngine(t *testing.T) {
	w, _ := openAt(t)
	r := rand.New(rand.NewPCG(4, 2))
	compile := func(kind policy.Kind, texts ...string) *policy.Policy {
		var docs []*policy.Document
		for _, text := range texts {
			doc, err := policy.Parse(kind, text)
			if err != nil {
				t.Fatal(err)
			}
			docs = append(docs, doc)
		}
		return policy.Compile(docs...)
	}
	seen := map[string]int{}
	for range 1500 {
		in := iam.SimulateCustomPolicyInput{ActionNames: []string{"s3:GetObject", "s3:PutObject", "ec2:RunInstances"}, ResourceArns: []string{"arn:aws:s3:::a", "arn:aws:s3:::b"}, CallerArn: shape.Ptr("arn:aws:iam::123456789012:user/ada")}
		set := policy.Set{}
		texts := map[string]string{}
		for i := range 1 + r.IntN(2) {
			in.PolicyInputList = append(in.PolicyInputList, randomPolicy(r, false))
			texts[fmt.Sprintf("PolicyInputList.%d", i+1)] = in.PolicyInputList[i]
		}
		set.Identity = compile(policy.Identity, in.PolicyInputList...)
		if r.IntN(2) == 0 {
			in.PermissionsBoundaryPolicyInputList = []string{randomPolicy(r, false)}
			set.Boundary, texts["PermissionsBoundaryPolicyInputList.1"] = compile(policy.Boundary, in.PermissionsBoundaryPolicyInputList...), in.PermissionsBoundaryPolicyInputList[0]
		}
		crossing := false
		if r.IntN(2) == 0 {
			in.ResourcePolicy = shape.Ptr(randomPolicy(r, true))
			set.Resource, set.ResourceAccount, texts["ResourcePolicy"] = compile(policy.Resource, *in.ResourcePolicy), "123456789012", *in.ResourcePolicy
			if crossing = r.IntN(2) == 0; crossing {
				in.ResourceOwner, set.ResourceAccount = shape.Ptr("arn:aws:iam::210987654321:root"), "210987654321"
			}
		}
		context := map[string]string{}
		for _, key := range []string{"aws:username", "aws:PrincipalTag/t"} {
			if r.IntN(2) == 0 {
				context[key] = []string{"a", "b"}[r.IntN(2)]
				in.ContextEntries = append(in.ContextEntries, iam.ContextEntry{ContextKeyName: &key, ContextKeyType: shape.Ptr(iam.ContextKeyTypeEnumString), ContextKeyValues: []string{context[key]}})
			}
		}
		for i, result := range w.simulate(in) {
			for j, got := range result.ResourceSpecificResults {
				req := policy.Request{Action: policy.NewAction(in.ActionNames[i]), Principal: policy.Principal{Type: policy.User, Account: "123456789012", ARN: *in.CallerArn}}
				req.SetResource(in.ResourceArns[j])
				for key, value := range context {
					req.Set(policy.NewKey(key), value)
				}
				want := set.Decide(&req, nil).Decision
				seen[want.String()]++
				if string(*got.EvalResourceDecision) != want.String() {
					t.Fatalf("%s, the engine says %s: %+v", *got.EvalResourceDecision, want, in)
				}
				if set.Boundary != nil && *got.PermissionsBoundaryDecisionDetail.AllowedByPermissionsBoundary != (set.Boundary.Evaluate(&req, nil).Decision == policy.Allowed) {
					t.Fatalf("the boundary: %+v", in)
				}
				if crossing != (len(got.EvalDecisionDetails) > 0) || crossing && string(got.EvalDecisionDetails["IAM Policy"]) != set.Identity.Evaluate(&req, nil).Decision.String() {
					t.Fatalf("the details: %+v", got)
				}
				if told, expected := statementsTold(t, got.MatchedStatements, texts), statementsThatMatch(t, &req, want, texts); !slices.Equal(told, expected) {
					t.Fatalf("told %q\nwant %q\n%+v", told, expected, in)
				}
				for _, key := range got.MissingContextValues {
					if _, given := context[key]; given {
						t.Fatalf("%s is given", key)
					}
				}
			}
		}
	}
	for _, decision := range []string{"allowed", "implicitDeny", "explicitDeny"} {
		if seen[decision] < 500 {
			t.Errorf("too few of %s: %v", decision, seen)
		}
	}
}

// statementsTold are the statements that a result names, cut out of their documents by their positions.
func statementsTold(t *testing.T, matched []iam.Statement, texts map[string]string) []string {
	t.Helper()
	var out []string
	for _, s := range matched {
		lines := strings.SplitAfter(texts[*s.SourcePolicyId], "\n")
		offset := func(p *iam.Position) int {
			n := int(*p.Column) - 1
			for _, line := range lines[:*p.Line-1] {
				n += len(line)
			}
			return n
		}
		cut := strings.TrimLeft(texts[*s.SourcePolicyId][offset(s.StartPosition):offset(s.EndPosition)], " ,\n")
		out = append(out, *s.SourcePolicyId+" "+cut)
	}
	slices.Sort(out)
	return out
}

// statementsThatMatch finds, one statement at a time, those that make the decision.
func statementsThatMatch(t *testing.T, req *policy.Request, decision policy.Decision, texts map[string]string) []string {
	t.Helper()
	var out []string
	for id, text := range texts {
		kind := policy.Identity
		switch {
		case id == "ResourcePolicy":
			kind = policy.Resource
		case strings.HasPrefix(id, "Permissions"):
			kind = policy.Boundary
		}
		var doc struct{ Statement []json.RawMessage }
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		for _, raw := range doc.Statement {
			one, err := policy.Parse(kind, `{"Version":"2012-10-17","Statement":[`+string(raw)+`]}`)
			if err != nil {
				t.Fatal(err)
			}
			says := policy.Compile(one).Evaluate(req, nil).Decision
			if says != policy.ImplicitDeny && says == decision && (says == policy.ExplicitDeny || kind != policy.Boundary) {
				out = append(out, id+" "+string(raw))
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestManagedPoliciesAreSimulatedByTheirNames(t *testing.T) {
	w, _ := openAt(t)
	w.user("ada")
	name := arn.User("aws", account, "/", "ada").String()
	if _, err := w.AttachUserPolicy(w.ctx, service.Call{}, &iam.AttachUserPolicyInput{UserName: shape.Ptr("ada"), PolicyArn: shape.Ptr("arn:aws:iam::aws:policy/AdministratorAccess")}); err != nil {
		t.Fatal(err)
	}
	out, err := w.SimulatePrincipalPolicy(w.ctx, service.Call{}, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: &name, ActionNames: []string{describe}})
	if err != nil {
		t.Fatal(err)
	}
	if s := out.EvaluationResults[0].MatchedStatements[0]; *s.SourcePolicyId != "AdministratorAccess" || *s.StartPosition.Line != 3 || *s.StartPosition.Column != 17 || *s.EndPosition.Line != 8 || *s.EndPosition.Column != 6 {
		t.Errorf("%+v", s) // AWS's own answer has these numbers
	}
}
