package workspaces

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

func (w *world) register(in api.RegisterWorkspaceDirectoryInput) (*api.RegisterWorkspaceDirectoryOutput, error) {
	return w.RegisterWorkspaceDirectory(context.Background(), service.Call{}, &in)
}

func (w *world) directories(in api.DescribeWorkspaceDirectoriesInput) *api.DescribeWorkspaceDirectoriesOutput {
	w.t.Helper()
	return must(w.DescribeWorkspaceDirectories(context.Background(), service.Call{}, &in))(w.t)
}

func TestARegisteredDirectoryHasTheDefaultsThatTerraformExpects(t *testing.T) {
	w := furnish(t)
	out := must(w.register(api.RegisterWorkspaceDirectoryInput{DirectoryId: shape.Ptr(string(other)), EnableSelfService: shape.Ptr(false), Tags: []api.Tag{tag("a", "b")}}))(t)
	if *out.DirectoryId != string(other) || *out.State != "REGISTERING" {
		t.Errorf("answer %+v", out)
	}
	alter(w, state.Directories, string(other), func(d *state.Directory) { // the reconciler
		d.Registration.State, d.Registration.Code, d.Registration.MembersGroupID = "REGISTERED", "WSiad+XYZ98K", "sg-0a1b2c3d4e5f60719"
	})
	list := w.directories(api.DescribeWorkspaceDirectoriesInput{DirectoryIds: []string{string(other)}}).Directories
	if len(list) != 1 {
		t.Fatalf("%d directories", len(list))
	}
	d := list[0]
	for name, got := range map[string][2]string{
		"state":          {string(*d.State), "REGISTERED"},
		"type":           {string(*d.DirectoryType), "SIMPLE_AD"},
		"alias":          {*d.Alias, string(other)},
		"name":           {*d.DirectoryName, "corp.example.com"},
		"code":           {*d.RegistrationCode, "WSiad+XYZ98K"},
		"administrator":  {*d.CustomerUserName, "Administrator"},
		"role":           {*d.IamRoleId, "arn:aws:iam::123456789012:role/workspaces_DefaultRole"},
		"security group": {*d.WorkspaceSecurityGroupId, "sg-0a1b2c3d4e5f60719"},
		"DNS":            {strings.Join(d.DnsIpAddresses, " "), "10.0.1.10 10.0.2.10"},
		"subnets":        {strings.Join(d.SubnetIds, " "), string(subnetA) + " " + string(subnetB)},
		"tenancy":        {string(*d.Tenancy), "SHARED"},
		"SAML":           {string(*d.SamlProperties.Status) + " " + *d.SamlProperties.RelayStateParameterName, "DISABLED RelayState"},
		"certificates":   {string(*d.CertificateBasedAuthProperties.Status), "DISABLED"},
		"kind":           {string(*d.WorkspaceType) + " " + string(*d.UserIdentityType), "PERSONAL AWS_DIRECTORY_SERVICE"},
		"restart":        {string(*d.SelfservicePermissions.RestartWorkspace), "ENABLED"},
		"rebuild":        {string(*d.SelfservicePermissions.RebuildWorkspace), "DISABLED"},
		"compute":        {string(*d.SelfservicePermissions.ChangeComputeType), "DISABLED"},
		"volume":         {string(*d.SelfservicePermissions.IncreaseVolumeSize), "DISABLED"},
		"mode":           {string(*d.SelfservicePermissions.SwitchRunningMode), "DISABLED"},
		"Windows":        {string(*d.WorkspaceAccessProperties.DeviceTypeWindows), "ALLOW"},
		"macOS":          {string(*d.WorkspaceAccessProperties.DeviceTypeOsx), "ALLOW"},
		"Android":        {string(*d.WorkspaceAccessProperties.DeviceTypeAndroid), "ALLOW"},
		"iOS":            {string(*d.WorkspaceAccessProperties.DeviceTypeIos), "ALLOW"},
		"ChromeOS":       {string(*d.WorkspaceAccessProperties.DeviceTypeChromeOs), "ALLOW"},
		"zero client":    {string(*d.WorkspaceAccessProperties.DeviceTypeZeroClient), "ALLOW"},
		"Linux":          {string(*d.WorkspaceAccessProperties.DeviceTypeLinux), "DENY"},
		"Web":            {string(*d.WorkspaceAccessProperties.DeviceTypeWeb), "DENY"},
		"creation": {fmt.Sprint(*d.WorkspaceCreationProperties.EnableInternetAccess, *d.WorkspaceCreationProperties.EnableMaintenanceMode,
			*d.WorkspaceCreationProperties.UserEnabledAsLocalAdministrator), "false true true"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %q, want %q", name, got[0], got[1])
		}
	}
	if tags := get(w, state.Directories, string(other)).Registration.Tags; tags["a"] != "b" {
		t.Errorf("tags %v", tags)
	}
}

func TestEnableSelfServiceAllowsUsersEverything(t *testing.T) {
	w := furnish(t)
	must(w.register(api.RegisterWorkspaceDirectoryInput{DirectoryId: shape.Ptr(string(other)), EnableSelfService: shape.Ptr(true)}))(t)
	for permission, value := range get(w, state.Directories, string(other)).Registration.SelfService {
		if value != "ENABLED" {
			t.Errorf("%s is %s", permission, value)
		}
	}
}

func TestRegisterWorkspaceDirectoryRefusals(t *testing.T) {
	ptr := func(s string) *string { return &s }
	subnets := func(ids ...ident.SubnetID) api.RegisterWorkspaceDirectoryInput {
		in := api.RegisterWorkspaceDirectoryInput{DirectoryId: ptr(string(other))}
		for _, id := range ids {
			in.SubnetIds = append(in.SubnetIds, string(id))
		}
		return in
	}
	for _, c := range []struct {
		name  string
		in    api.RegisterWorkspaceDirectoryInput
		alter func(*state.Directory)
		code  string
	}{
		{"no directory id", api.RegisterWorkspaceDirectoryInput{}, nil, "Validation"},
		{"an unknown directory", api.RegisterWorkspaceDirectoryInput{DirectoryId: ptr("d-0123456789")}, nil, "ResourceNotFoundException"},
		{"a directory that is being made", subnets(), func(d *state.Directory) { d.Status.Stage = "Creating" }, "InvalidResourceStateException"},
		{"a directory that is being deregistered", subnets(), func(d *state.Directory) { d.Registration = &state.Registration{State: "DEREGISTERING"} }, "InvalidResourceStateException"},
		{"a pool", api.RegisterWorkspaceDirectoryInput{WorkspaceType: shape.Ptr(api.WorkspaceTypePools)}, nil, "OperationNotSupportedException"},
		{"customer-managed identities", api.RegisterWorkspaceDirectoryInput{UserIdentityType: shape.Ptr(api.UserIdentityTypeCustomerManaged)}, nil, "OperationNotSupportedException"},
		{"IAM Identity Center", api.RegisterWorkspaceDirectoryInput{UserIdentityType: shape.Ptr(api.UserIdentityTypeAwsIamIdentityCenter)}, nil, "OperationNotSupportedException"},
		{"an Identity Center instance", api.RegisterWorkspaceDirectoryInput{IdcInstanceArn: ptr("arn")}, nil, "OperationNotSupportedException"},
		{"Entra ID", api.RegisterWorkspaceDirectoryInput{MicrosoftEntraConfig: &api.MicrosoftEntraConfig{}}, nil, "OperationNotSupportedException"},
		{"an own Active Directory", api.RegisterWorkspaceDirectoryInput{ActiveDirectoryConfig: &api.ActiveDirectoryConfig{}}, nil, "OperationNotSupportedException"},
		{"a name", api.RegisterWorkspaceDirectoryInput{DirectoryId: ptr(string(other)), WorkspaceDirectoryName: ptr("n")}, nil, "InvalidParameterValuesException"},
		{"a description", api.RegisterWorkspaceDirectoryInput{DirectoryId: ptr(string(other)), WorkspaceDirectoryDescription: ptr("n")}, nil, "InvalidParameterValuesException"},
		{"dedicated tenancy", api.RegisterWorkspaceDirectoryInput{DirectoryId: ptr(string(other)), Tenancy: shape.Ptr(api.TenancyDedicated)}, nil, "InvalidParameterValuesException"},
		{"one subnet", subnets(subnetA), nil, "InvalidParameterValuesException"},
		{"one subnet twice", subnets(subnetA, subnetA), nil, "InvalidParameterValuesException"},
		{"an unknown subnet", subnets(subnetA, "subnet-00000000000000000"), nil, "ResourceNotFoundException"},
		{"a subnet of another VPC", subnets(subnetA, subnetX), nil, "UnsupportedNetworkConfigurationException"},
		{"two subnets in one zone", subnets(subnetA, subnetC), nil, "OperationNotSupportedException"},
		{"none, of a directory with one subnet", subnets(), func(d *state.Directory) { d.Spec.SubnetIDs = d.Spec.SubnetIDs[:1] }, "InvalidParameterValuesException"},
		{"a reserved tag", api.RegisterWorkspaceDirectoryInput{DirectoryId: ptr(string(other)), Tags: []api.Tag{tag("AWS:x", "")}}, nil, "InvalidParameterValuesException"},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			w := furnish(t)
			if c.alter != nil {
				alter(w, state.Directories, string(other), c.alter)
			}
			before := get(w, state.Directories, string(other)).Revision
			_, err := w.register(c.in)
			refused(t, err, c.code)
			if get(w, state.Directories, string(other)).Revision != before {
				t.Error("a refused registration was written")
			}
		})
	}
}

func TestRegisterWorkspaceDirectoryNeedsASupportedZone(t *testing.T) {
	in := api.RegisterWorkspaceDirectoryInput{DirectoryId: shape.Ptr(string(other))}
	w := furnish(t, func(d *Deps) { d.Zones = []string{"use1-az1", "use1-az4"} })
	_, err := w.register(in)
	refused(t, err, "OperationNotSupportedException")
	w = furnish(t, func(d *Deps) { d.Zones = []string{"use1-az1", "us-east-1b"} })
	must(w.register(in))(t)
}

func TestRegisterWorkspaceDirectoryNeedsAFreeManagementRange(t *testing.T) {
	in := api.RegisterWorkspaceDirectoryInput{DirectoryId: shape.Ptr(string(other))}
	w := furnish(t, func(d *Deps) { d.ManagementRanges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	_, err := w.register(in)
	refused(t, err, "UnsupportedNetworkConfigurationException")
	w = furnish(t, func(d *Deps) {
		d.ManagementRanges = append(DefaultManagementRanges("us-east-1"), netip.MustParsePrefix("10.0.0.0/8"))
	})
	must(w.register(in))(t)
}

func TestRegisteringAgain(t *testing.T) {
	w := furnish(t)
	before := get(w, state.Directories, string(corp)).Revision
	for name, subnets := range map[string][]string{"without subnets": nil, "with its subnets in another order": {string(subnetB), string(subnetA)}} {
		t.Run(name+" answers the state and changes nothing", func(t *testing.T) {
			out := must(w.register(api.RegisterWorkspaceDirectoryInput{DirectoryId: shape.Ptr(string(corp)), SubnetIds: subnets}))(t)
			if *out.State != "REGISTERED" || get(w, state.Directories, string(corp)).Revision != before {
				t.Errorf("state %s", *out.State)
			}
		})
	}
	t.Run("with other subnets is refused", func(t *testing.T) {
		_, err := w.register(api.RegisterWorkspaceDirectoryInput{DirectoryId: shape.Ptr(string(corp)), SubnetIds: []string{string(subnetB), string(subnetC)}})
		refused(t, err, "ResourceAlreadyExistsException")
	})
	t.Run("after an error begins anew", func(t *testing.T) {
		alter(w, state.Directories, string(corp), func(d *state.Directory) {
			d.Registration.State, d.Registration.Backoff.Error = "ERROR", "open /secret/path"
		})
		shown := w.directories(api.DescribeWorkspaceDirectoriesInput{}).Directories[0]
		if *shown.State != "ERROR" || shown.ErrorMessage == nil || strings.Contains(*shown.ErrorMessage, "secret") {
			t.Errorf("shown as %s, %v", *shown.State, shown.ErrorMessage)
		}
		out := must(w.register(api.RegisterWorkspaceDirectoryInput{DirectoryId: shape.Ptr(string(corp))}))(t)
		r := get(w, state.Directories, string(corp)).Registration
		if *out.State != "REGISTERING" || r.Code != "WSiad+ABC12D" || r.MembersGroupID == "" || r.Backoff != (state.Backoff{}) {
			t.Errorf("state %s, registration %+v", *out.State, r)
		}
	})
}

func TestTheQuotaOfRegisteredDirectoriesHolds(t *testing.T) {
	for round := range 20 {
		w := furnish(t, func(d *Deps) { d.Limits = DefaultLimits(); d.Limits.Directories = 3 })
		var made, over atomic.Int32
		fns := make([]func(context.Context), 6)
		for i := range fns {
			id := fmt.Sprintf("d-90670b%04x", i)
			put(w, state.Directories, activeDirectory(ident.DirectoryID(id), nil))
			fns[i] = func(ctx context.Context) {
				_, err := w.RegisterWorkspaceDirectory(ctx, service.Call{}, &api.RegisterWorkspaceDirectoryInput{DirectoryId: &id})
				switch codeOf(err) {
				case "":
					made.Add(1)
				case "ResourceLimitExceededException":
					over.Add(1)
				default:
					t.Error(err)
				}
			}
		}
		both(t, fns...)
		if made.Load() != 2 || over.Load() != 4 {
			t.Fatalf("round %d: %d registered, %d refused, want 2 and 4", round, made.Load(), over.Load())
		}
	}
}

func TestDeregisterWorkspaceDirectory(t *testing.T) {
	deregister := func(w *world, id ident.DirectoryID) error {
		_, err := w.DeregisterWorkspaceDirectory(context.Background(), service.Call{}, &api.DeregisterWorkspaceDirectoryInput{DirectoryId: shape.Ptr(string(id))})
		return err
	}
	t.Run("an empty directory goes", func(t *testing.T) {
		w := furnish(t)
		refused(t, deregister(w, corp), "")
		if got := w.directories(api.DescribeWorkspaceDirectoriesInput{}).Directories; len(got) != 1 || *got[0].State != "DEREGISTERING" {
			t.Errorf("directories %+v", got)
		}
		refused(t, deregister(w, corp), "InvalidResourceStateException")
	})
	t.Run("a directory with a WorkSpace stays", func(t *testing.T) {
		w := furnish(t)
		w.create(ask("ada"))
		refused(t, deregister(w, corp), "OperationNotSupportedException")
	})
	t.Run("a directory that is being registered stays", func(t *testing.T) {
		w := furnish(t)
		alter(w, state.Directories, string(corp), func(d *state.Directory) { d.Registration.State = "REGISTERING" })
		refused(t, deregister(w, corp), "InvalidResourceStateException")
	})
	t.Run("a directory whose registration failed can go", func(t *testing.T) {
		w := furnish(t)
		alter(w, state.Directories, string(corp), func(d *state.Directory) { d.Registration.State = "ERROR" })
		refused(t, deregister(w, corp), "")
	})
	t.Run("a directory that is not registered is not found", func(t *testing.T) {
		refused(t, deregister(furnish(t), other), "ResourceNotFoundException")
	})
	t.Run("an unknown directory is not found", func(t *testing.T) {
		refused(t, deregister(furnish(t), "d-0123456789"), "ResourceNotFoundException")
	})
}

func TestDescribeWorkspaceDirectoriesChooses(t *testing.T) {
	w := furnish(t)
	for i := range 30 {
		put(w, state.Directories, activeDirectory(ident.DirectoryID(fmt.Sprintf("d-1067%06x", i)), NewRegistration([]ident.SubnetID{subnetA, subnetB}, w.clock.Now())))
	}
	filter := func(name, value string) []api.DescribeWorkspaceDirectoriesFilter {
		return []api.DescribeWorkspaceDirectoriesFilter{{Name: shape.Ptr(api.DescribeWorkspaceDirectoriesFilterName(name)), Values: []string{value}}}
	}
	for _, c := range []struct {
		name string
		in   api.DescribeWorkspaceDirectoriesInput
		want int
		more bool
	}{
		{"the first 25 of all", api.DescribeWorkspaceDirectoriesInput{}, 25, true},
		{"three", api.DescribeWorkspaceDirectoriesInput{Limit: number(3)}, 3, true},
		{"the registered ones of the named", api.DescribeWorkspaceDirectoriesInput{DirectoryIds: []string{string(corp), string(other), "d-0123456789"}}, 1, false},
		{"personal ones", api.DescribeWorkspaceDirectoriesInput{Filters: filter("WORKSPACE_TYPE", "PERSONAL")}, 25, true},
		{"pools", api.DescribeWorkspaceDirectoriesInput{Filters: filter("WORKSPACE_TYPE", "POOLS")}, 0, false},
		{"those of Directory Service", api.DescribeWorkspaceDirectoriesInput{Filters: filter("USER_IDENTITY_TYPE", "AWS_DIRECTORY_SERVICE")}, 25, true},
		{"those of Identity Center", api.DescribeWorkspaceDirectoriesInput{Filters: filter("USER_IDENTITY_TYPE", "AWS_IAM_IDENTITY_CENTER")}, 0, false},
		{"those of a name", api.DescribeWorkspaceDirectoriesInput{WorkspaceDirectoryNames: []string{"corp"}}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := w.directories(c.in)
			if len(out.Directories) != c.want || (out.NextToken != nil) != c.more || out.Directories == nil {
				t.Errorf("%d directories, more %v", len(out.Directories), out.NextToken != nil)
			}
		})
	}
	first := w.directories(api.DescribeWorkspaceDirectoriesInput{})
	if rest := w.directories(api.DescribeWorkspaceDirectoriesInput{NextToken: first.NextToken}); len(rest.Directories) != 6 || rest.NextToken != nil {
		t.Errorf("%d on the second page", len(rest.Directories))
	}
}

func TestTheTypeOfADirectory(t *testing.T) {
	for dsType, want := range map[string][2]string{"SimpleAD": {"SIMPLE_AD", "Administrator"}, "MicrosoftAD": {"SIMPLE_AD", "Admin"}, "ADConnector": {"AD_CONNECTOR", ""}} {
		kind, administrator := kindOf(dsType)
		if string(kind) != want[0] || administrator != want[1] {
			t.Errorf("%s is shown as %s of %q", dsType, kind, administrator)
		}
	}
}
