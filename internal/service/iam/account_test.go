package iam

import (
	"encoding/csv"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

const trustAccount = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole"}]}`

// must fails the test for an error, and gives the output.
func must[O any](t *testing.T) func(*O, error) *O {
	return func(out *O, err error) *O {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// furnished is an account with one of everything that its details tell of.
func furnished(t *testing.T) (*world, *standing) {
	t.Helper()
	w, clk := openAt(t)
	call := service.Call{}
	do := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	doc, admin := shape.Ptr(allow("*", "*")), shape.Ptr("arn:aws:iam::aws:policy/AmazonWorkSpacesAdmin")
	local := must[iam.CreatePolicyOutput](t)(w.CreatePolicy(w.ctx, call, &iam.CreatePolicyInput{PolicyName: shape.Ptr("Desks"), Path: shape.Ptr("/p/"), PolicyDocument: doc, Description: shape.Ptr("desks")})).Policy.Arn
	clk.now = clk.now.Add(time.Second)
	do(w.CreatePolicyVersion(w.ctx, call, &iam.CreatePolicyVersionInput{PolicyArn: local, PolicyDocument: shape.Ptr(allow("ec2:*", "*")), SetAsDefault: shape.Ptr(true)}))
	do(w.CreateUser(w.ctx, call, &iam.CreateUserInput{UserName: shape.Ptr("Ada"), Path: shape.Ptr("/ops/"), Tags: tags("a=1")}))
	do(w.CreateUser(w.ctx, call, &iam.CreateUserInput{UserName: shape.Ptr("bob")}))
	do(w.CreateGroup(w.ctx, call, &iam.CreateGroupInput{GroupName: shape.Ptr("team")}))
	do(w.AddUserToGroup(w.ctx, call, &iam.AddUserToGroupInput{GroupName: shape.Ptr("team"), UserName: shape.Ptr("Ada")}))
	do(w.CreateRole(w.ctx, call, &iam.CreateRoleInput{RoleName: shape.Ptr("desk"), AssumeRolePolicyDocument: shape.Ptr(trustAccount), Tags: tags("r=1"), PermissionsBoundary: admin}))
	do(w.CreateInstanceProfile(w.ctx, call, &iam.CreateInstanceProfileInput{InstanceProfileName: shape.Ptr("profile")}))
	do(w.AddRoleToInstanceProfile(w.ctx, call, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: shape.Ptr("profile"), RoleName: shape.Ptr("desk")}))
	do(w.PutUserPolicy(w.ctx, call, &iam.PutUserPolicyInput{UserName: shape.Ptr("Ada"), PolicyName: shape.Ptr("Own"), PolicyDocument: doc}))
	do(w.PutGroupPolicy(w.ctx, call, &iam.PutGroupPolicyInput{GroupName: shape.Ptr("team"), PolicyName: shape.Ptr("Ours"), PolicyDocument: doc}))
	do(w.PutRolePolicy(w.ctx, call, &iam.PutRolePolicyInput{RoleName: shape.Ptr("desk"), PolicyName: shape.Ptr("Its"), PolicyDocument: doc}))
	do(w.AttachUserPolicy(w.ctx, call, &iam.AttachUserPolicyInput{UserName: shape.Ptr("Ada"), PolicyArn: local}))
	do(w.PutUserPermissionsBoundary(w.ctx, call, &iam.PutUserPermissionsBoundaryInput{UserName: shape.Ptr("Ada"), PermissionsBoundary: local}))
	do(w.AttachGroupPolicy(w.ctx, call, &iam.AttachGroupPolicyInput{GroupName: shape.Ptr("team"), PolicyArn: local}))
	do(w.AttachRolePolicy(w.ctx, call, &iam.AttachRolePolicyInput{RoleName: shape.Ptr("desk"), PolicyArn: shape.Ptr("arn:aws:iam::aws:policy/IAMReadOnlyAccess")}))
	return w, clk
}

func decoded(t *testing.T, document *string) string {
	t.Helper()
	text, err := url.PathUnescape(*document)
	if err != nil || strings.ContainsAny(*document, ` "{+`) {
		t.Fatalf("%s, %v", *document, err)
	}
	return text
}

func TestTheAccountsDetailsAreComplete(t *testing.T) {
	w, _ := furnished(t)
	out := must[iam.GetAccountAuthorizationDetailsOutput](t)(w.GetAccountAuthorizationDetails(w.ctx, service.Call{}, &iam.GetAccountAuthorizationDetailsInput{}))
	if len(out.UserDetailList) != 2 || len(out.GroupDetailList) != 1 || len(out.RoleDetailList) != 1 || len(out.Policies) != 3 || *out.IsTruncated {
		t.Fatalf("%+v", out)
	}
	u := out.UserDetailList[0]
	if *u.Arn != "arn:aws:iam::123456789012:user/ops/Ada" || fmt.Sprint(u.GroupList) != "[team]" || show(u.Tags) != "a=1" || len(u.AttachedManagedPolicies) != 1 || *u.AttachedManagedPolicies[0].PolicyName != "Desks" ||
		*u.PermissionsBoundary.PermissionsBoundaryArn != "arn:aws:iam::123456789012:policy/p/Desks" || len(u.UserPolicyList) != 1 || *u.UserPolicyList[0].PolicyName != "Own" || decoded(t, u.UserPolicyList[0].PolicyDocument) != allow("*", "*") {
		t.Errorf("%+v", u)
	}
	if b := out.UserDetailList[1]; *b.UserName != "bob" || b.GroupList == nil || len(b.GroupList)+len(b.AttachedManagedPolicies)+len(b.UserPolicyList) != 0 || b.PermissionsBoundary != nil {
		t.Errorf("%+v", b)
	}
	g := out.GroupDetailList[0]
	if *g.Arn != "arn:aws:iam::123456789012:group/team" || *g.GroupPolicyList[0].PolicyName != "Ours" || *g.AttachedManagedPolicies[0].PolicyArn != "arn:aws:iam::123456789012:policy/p/Desks" {
		t.Errorf("%+v", g)
	}
	r := out.RoleDetailList[0]
	if *r.Arn != "arn:aws:iam::123456789012:role/desk" || !strings.Contains(decoded(t, r.AssumeRolePolicyDocument), "sts:AssumeRole") || *r.RolePolicyList[0].PolicyName != "Its" || *r.AttachedManagedPolicies[0].PolicyName != "IAMReadOnlyAccess" ||
		show(r.Tags) != "r=1" || len(r.InstanceProfileList) != 1 || *r.InstanceProfileList[0].InstanceProfileName != "profile" || *r.PermissionsBoundary.PermissionsBoundaryArn != "arn:aws:iam::aws:policy/AmazonWorkSpacesAdmin" || r.RoleLastUsed.LastUsedDate != nil {
		t.Errorf("%+v", r)
	}
	p := out.Policies[0]
	if *p.Arn != "arn:aws:iam::123456789012:policy/p/Desks" || *p.AttachmentCount != 2 || *p.PermissionsBoundaryUsageCount != 1 || *p.DefaultVersionId != "v2" || *p.Description != "desks" || len(p.PolicyVersionList) != 2 ||
		*p.PolicyVersionList[0].VersionId != "v2" || !*p.PolicyVersionList[0].IsDefaultVersion || decoded(t, p.PolicyVersionList[1].Document) != allow("*", "*") {
		t.Errorf("%+v", p)
	}
	if *out.Policies[1].PolicyName != "AmazonWorkSpacesAdmin" || *out.Policies[1].PermissionsBoundaryUsageCount != 1 || *out.Policies[2].PolicyName != "IAMReadOnlyAccess" || *out.Policies[2].AttachmentCount != 1 {
		t.Errorf("AWS's in use: %+v", out.Policies[1:])
	}
	t.Run("when a role was used last is told", func(t *testing.T) {
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		w.RoleLastUsed = func(ident.RoleID) (LastUse, bool) { return LastUse{At: at, Region: "us-east-1"}, true }
		out := must[iam.GetAccountAuthorizationDetailsOutput](t)(w.GetAccountAuthorizationDetails(w.ctx, service.Call{}, &iam.GetAccountAuthorizationDetailsInput{Filter: []iam.EntityType{iam.EntityTypeRole}}))
		if used := out.RoleDetailList[0].RoleLastUsed; !used.LastUsedDate.Equal(at) || *used.Region != "us-east-1" {
			t.Errorf("%+v", used)
		}
	})
}

func TestTheAccountsDetailsAreFilteredAndPaged(t *testing.T) {
	w, _ := furnished(t)
	list := func(in *iam.GetAccountAuthorizationDetailsInput) (string, *string) {
		t.Helper()
		out := must[iam.GetAccountAuthorizationDetailsOutput](t)(w.GetAccountAuthorizationDetails(w.ctx, service.Call{}, in))
		var all []string
		for _, u := range out.UserDetailList {
			all = append(all, *u.UserName)
		}
		for _, g := range out.GroupDetailList {
			all = append(all, *g.GroupName)
		}
		for _, r := range out.RoleDetailList {
			all = append(all, *r.RoleName)
		}
		for _, p := range out.Policies {
			all = append(all, *p.PolicyName)
		}
		if out.UserDetailList == nil || out.GroupDetailList == nil || out.RoleDetailList == nil || out.Policies == nil {
			t.Error("a list is missing")
		}
		return strings.Join(all, " "), out.Marker
	}
	for want, filter := range map[string][]iam.EntityType{
		"Ada bob": {iam.EntityTypeUser}, "team": {iam.EntityTypeGroup}, "desk": {iam.EntityTypeRole}, "Desks": {iam.EntityTypeLocalManagedPolicy}, "AmazonWorkSpacesAdmin IAMReadOnlyAccess": {iam.EntityTypeAWSManagedPolicy},
		"team desk": {iam.EntityTypeRole, iam.EntityTypeGroup}, "Ada bob team desk Desks AmazonWorkSpacesAdmin IAMReadOnlyAccess": nil,
	} {
		if got, _ := list(&iam.GetAccountAuthorizationDetailsInput{Filter: filter}); got != want {
			t.Errorf("%v: %s", filter, got)
		}
	}
	in := &iam.GetAccountAuthorizationDetailsInput{MaxItems: shape.Ptr(int32(3))}
	var pages []string
	for range 4 {
		got, next := list(in)
		pages = append(pages, got)
		if in.Marker = next; next == nil {
			break
		}
	}
	if got := strings.Join(pages, " | "); got != "Ada bob team | desk Desks AmazonWorkSpacesAdmin | IAMReadOnlyAccess" {
		t.Error(got)
	}
	_, err := w.GetAccountAuthorizationDetails(w.ctx, service.Call{}, &iam.GetAccountAuthorizationDetailsInput{Marker: shape.Ptr("!")})
	refused(t, err, "ValidationError", "Invalid Marker.")
}

func TestTheCredentialReportIsAskedForFirst(t *testing.T) {
	w, clk := openAt(t)
	call := service.Call{}
	get := func() (*iam.GetCredentialReportOutput, error) {
		return w.GetCredentialReport(w.ctx, call, &iam.GetCredentialReportInput{})
	}
	generate := func() *iam.GenerateCredentialReportOutput {
		t.Helper()
		return must[iam.GenerateCredentialReportOutput](t)(w.GenerateCredentialReport(w.ctx, call, &iam.GenerateCredentialReportInput{}))
	}
	_, err := get()
	refused(t, err, "ReportNotPresent", "GenerateCredentialReport")
	if out := generate(); *out.State != iam.ReportStateTypeStarted || *out.Description != "No report exists. Starting a new report generation task" {
		t.Errorf("%+v", out)
	}
	if out := generate(); *out.State != iam.ReportStateTypeComplete || out.Description != nil {
		t.Errorf("%+v", out)
	}
	clk.now = clk.now.Add(reportValid - time.Second)
	if out, err := get(); err != nil || *out.ReportFormat != "text/csv" || !out.GeneratedTime.Equal(clk.now) {
		t.Errorf("%+v, %v", out, err)
	}
	clk.now = clk.now.Add(time.Second)
	_, err = get()
	refused(t, err, "ReportExpired", "GenerateCredentialReport")
	if out := generate(); *out.State != iam.ReportStateTypeStarted {
		t.Errorf("%+v", out)
	}
	if _, err := get(); err != nil {
		t.Error(err)
	}
}

func TestTheCredentialReportHasAWSsColumns(t *testing.T) {
	w, clk := openAt(t)
	call := service.Call{}
	ada := w.user("ada")
	w.user("Bob")
	clk.now = clk.now.Add(time.Hour)
	w.login(ada, goodPassword)
	key := w.key(ada)
	clk.now = clk.now.Add(time.Hour)
	second := w.key(ada)
	must[iam.UpdateAccessKeyOutput](t)(w.UpdateAccessKey(w.ctx, call, &iam.UpdateAccessKeyInput{UserName: &ada.Name, AccessKeyId: &second, Status: shape.Ptr(iam.StatusTypeInactive)}))
	serial, seed := w.device("phone")
	if err := w.enable(call, &ada.Name, serial, seed, clk.now); err != nil {
		t.Fatal(err)
	}
	w.passwordPolicy(&iam.UpdateAccountPasswordPolicyInput{MaxPasswordAge: shape.Ptr(int32(90))})
	w.LastUsed = func(id ident.AccessKeyID) (LastUse, bool) {
		return LastUse{At: clk.now, Region: "us-east-1", Service: "workspaces"}, string(id) == key
	}
	must[iam.GenerateCredentialReportOutput](t)(w.GenerateCredentialReport(w.ctx, call, &iam.GenerateCredentialReportInput{}))
	out := must[iam.GetCredentialReportOutput](t)(w.GetCredentialReport(w.ctx, call, &iam.GetCredentialReportInput{}))
	const want = `user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,password_next_rotation,mfa_active,access_key_1_active,access_key_1_last_rotated,access_key_1_last_used_date,access_key_1_last_used_region,access_key_1_last_used_service,access_key_2_active,access_key_2_last_rotated,access_key_2_last_used_date,access_key_2_last_used_region,access_key_2_last_used_service,cert_1_active,cert_1_last_rotated,cert_2_active,cert_2_last_rotated
<root_account>,arn:aws:iam::123456789012:root,2026-05-04T03:02:01+00:00,not_supported,no_information,not_supported,not_supported,false,true,2026-05-04T03:02:01+00:00,N/A,N/A,N/A,false,N/A,N/A,N/A,N/A,false,N/A,false,N/A
ada,arn:aws:iam::123456789012:user/ada,2026-05-04T03:02:01+00:00,true,no_information,2026-05-04T04:02:01+00:00,2026-08-02T04:02:01+00:00,true,true,2026-05-04T04:02:01+00:00,2026-05-04T05:02:01+00:00,us-east-1,workspaces,false,2026-05-04T05:02:01+00:00,N/A,N/A,N/A,false,N/A,false,N/A
Bob,arn:aws:iam::123456789012:user/Bob,2026-05-04T03:02:01+00:00,false,N/A,N/A,N/A,false,false,N/A,N/A,N/A,N/A,false,N/A,N/A,N/A,N/A,false,N/A,false,N/A
`
	if string(out.Content) != want {
		t.Errorf("%s", out.Content)
	}
	rows, err := csv.NewReader(strings.NewReader(string(out.Content))).ReadAll()
	if err != nil || len(rows) != 4 || len(rows[0]) != 22 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

func TestTheSummaryCounts(t *testing.T) {
	w, clk := furnished(t)
	call := service.Call{}
	root := w.by(nil)
	for i, owner := range []*string{shape.Ptr("Ada"), nil, shape.Ptr(account)} {
		serial, seed := w.device(fmt.Sprint("d", i))
		if owner != nil {
			if err := w.enable(root, owner, serial, seed, clk.now); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.saml("idp")
	must[iam.CreateOpenIDConnectProviderOutput](t)(w.CreateOpenIDConnectProvider(w.ctx, call, &iam.CreateOpenIDConnectProviderInput{Url: shape.Ptr("https://idp.example.org")}))
	summary := func() map[string]int32 {
		t.Helper()
		return must[iam.GetAccountSummaryOutput](t)(w.GetAccountSummary(w.ctx, call, &iam.GetAccountSummaryInput{})).SummaryMap
	}
	for key, want := range map[iam.SummaryKeyType]int32{
		"Users": 2, "Groups": 1, "Roles": 1, "Policies": 1, "PolicyVersionsInUse": 2, "InstanceProfiles": 1, "Providers": 2, "MFADevices": 3, "MFADevicesInUse": 2, "AccountMFAEnabled": 1,
		"AccountAccessKeysPresent": 1, "AccountPasswordPresent": 0, "ServerCertificates": 0, "GlobalEndpointTokenVersion": 1, "AccessKeysPerUserQuota": 2, "GroupsPerUserQuota": 10,
		"AttachedPoliciesPerUserQuota": 10, "VersionsPerPolicyQuota": 5, "UserPolicySizeQuota": 2048, "GroupPolicySizeQuota": 5120, "RolePolicySizeQuota": 10240, "PolicySizeQuota": 6144, "AssumeRolePolicySizeQuota": 2048,
	} {
		if got, there := summary()[string(key)]; !there || got != want {
			t.Errorf("%s is %d (%v), want %d", key, got, there, want)
		}
	}
	for _, key := range []string{"UsersQuota", "GroupsQuota", "RolesQuota", "PoliciesQuota", "InstanceProfilesQuota"} {
		if _, there := summary()[key]; there {
			t.Errorf("there is a %s", key)
		}
	}
	w.MaxUsers, w.MaxGroups, w.MaxRoles, w.MaxPolicies = 7, 8, 9, 10
	must[iam.SetSecurityTokenServicePreferencesOutput](t)(w.SetSecurityTokenServicePreferences(w.ctx, call, &iam.SetSecurityTokenServicePreferencesInput{GlobalEndpointTokenVersion: shape.Ptr(iam.GlobalEndpointTokenVersionV2Token)}))
	if got := summary(); got["UsersQuota"] != 7 || got["GroupsQuota"] != 8 || got["RolesQuota"] != 9 || got["PoliciesQuota"] != 10 || got["InstanceProfilesQuota"] != 9 || got["GlobalEndpointTokenVersion"] != 2 {
		t.Errorf("%v", got)
	}
	t.Run("a root without keys and devices", func(t *testing.T) {
		w.put(func(tx *state.Tx) {
			state.Delete(tx, state.AccessKeys, w.rootKey)
			state.Delete(tx, state.MFADevices, "arn:aws:iam::123456789012:mfa/d2")
		})
		if got := summary(); got["AccountAccessKeysPresent"] != 0 || got["AccountMFAEnabled"] != 0 {
			t.Errorf("%v", got)
		}
	})
}
