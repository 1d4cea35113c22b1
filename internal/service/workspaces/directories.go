package workspaces

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/arn"
	"carrel/internal/awserr"
	"carrel/internal/service"
	"carrel/internal/state"
)

// registered reads a directory whose registration is settled, for changing it. In a Tx the read is checked at the commit.
func registered(r state.Reader, id string) (*state.Directory, *awserr.Error) {
	d, ok := state.Get(r, state.Directories, id)
	switch {
	case !ok:
		return nil, errNoDirectory(id)
	case d.Registration == nil:
		return nil, errNotRegistered(id)
	case d.Registration.State != string(api.WorkspaceDirectoryStateRegistered):
		return nil, errRegistrationState(id, d.Registration.State)
	}
	return d, nil
}

// DescribeWorkspaceDirectories lists the directories that are registered, or on the way to or from it, in pages of Limit in the order of
// their ids: all, or those that every given filter chooses. Directories that are not registered and ids that do not exist are
// left out.
func (s *Service) DescribeWorkspaceDirectories(_ context.Context, _ service.Call, in *api.DescribeWorkspaceDirectoriesInput) (*api.DescribeWorkspaceDirectoriesOutput, error) {
	q := query{"DescribeWorkspaceDirectories", strings.Join(in.DirectoryIds, ","), strings.Join(in.WorkspaceDirectoryNames, ",")}
	for _, f := range in.Filters {
		q = append(q, fmt.Sprintf("%s=%q", shape.Val(f.Name), f.Values))
	}
	after, err := s.pages.open(q, in.NextToken)
	if err != nil {
		return nil, err
	}
	snap := s.DB.Snapshot()
	seq := state.All(snap, state.Directories)
	if in.DirectoryIds != nil {
		seq = found(snap, state.Directories, in.DirectoryIds)
	}
	// All registered directories are of one kind, so that a filter takes all of them or none; none has a name of its own.
	none := in.WorkspaceDirectoryNames != nil || !kindMatches(in.Filters)
	keep := func(d *state.Directory) bool { return d.Registration != nil && !none }
	recs, next := filter(seq, state.Directories, keep, cut{after, pageSize(in.Limit)})
	out := &api.DescribeWorkspaceDirectoriesOutput{Directories: make([]api.WorkspaceDirectory, len(recs)), NextToken: s.pages.seal(q, next)}
	for i, d := range recs {
		out.Directories[i] = s.directory(d)
	}
	return out, nil
}

// kindMatches tells whether every filter has the kind that all of Carrel's registered directories are of.
func kindMatches(filters []api.DescribeWorkspaceDirectoriesFilter) bool {
	for _, f := range filters {
		kind := string(api.WorkspaceTypePersonal)
		if shape.Val(f.Name) == api.DescribeWorkspaceDirectoriesFilterNameUserIdentityType {
			kind = string(api.UserIdentityTypeAwsDirectoryService)
		}
		if !slices.Contains(f.Values, kind) {
			return false
		}
	}
	return true
}

// directory converts a registered directory. What no record holds yet is what a directory has when nobody has modified it.
func (s *Service) directory(d *state.Directory) api.WorkspaceDirectory {
	r := d.Registration
	alias := d.Spec.Alias
	if alias == "" {
		alias = string(d.ID) // as Directory Service has it
	}
	role := arn.ARN{Partition: s.Partition, Service: "iam", Account: s.Account, Resource: "role/workspaces_DefaultRole"}
	kind, administrator := kindOf(d.Spec.Type)
	subnets := make([]string, len(r.SubnetIDs))
	for i, id := range r.SubnetIDs {
		subnets[i] = string(id)
	}
	groups := make([]string, len(r.IPGroupIDs))
	for i, id := range r.IPGroupIDs {
		groups[i] = string(id)
	}
	return api.WorkspaceDirectory{
		DirectoryId:                    (*string)(&d.ID),
		Alias:                          &alias,
		DirectoryName:                  &d.Spec.Name,
		RegistrationCode:               some(&r.Code),
		SubnetIds:                      subnets,
		DnsIpAddresses:                 slices.Clone(d.Status.DNSAddresses),
		CustomerUserName:               some(&administrator),
		IamRoleId:                      shape.Ptr(role.String()),
		DirectoryType:                  &kind,
		WorkspaceSecurityGroupId:       some((*string)(&r.MembersGroupID)),
		State:                          (*api.WorkspaceDirectoryState)(&r.State),
		IpGroupIds:                     groups,
		Tenancy:                        (*api.Tenancy)(&r.Tenancy),
		UserIdentityType:               shape.Ptr(api.UserIdentityTypeAwsDirectoryService),
		WorkspaceType:                  shape.Ptr(api.WorkspaceTypePersonal),
		EndpointEncryptionMode:         shape.Ptr(api.EndpointEncryptionModeStandardTls),
		ErrorMessage:                   registrationError(r),
		SelfservicePermissions:         selfService(r.SelfService),
		WorkspaceAccessProperties:      access(r.Access),
		WorkspaceCreationProperties:    creationDefaults(),
		SamlProperties:                 &api.SamlProperties{Status: shape.Ptr(api.SamlStatusEnumDisabled), RelayStateParameterName: shape.Ptr("RelayState")},
		CertificateBasedAuthProperties: &api.CertificateBasedAuthProperties{Status: shape.Ptr(api.CertificateBasedAuthStatusEnumDisabled)},
	}
}

// registrationError is what clients see of a failed registration. The reconciler's own words stay in the log: they may name hosts
// and paths.
func registrationError(r *state.Registration) *string {
	if r.State != string(api.WorkspaceDirectoryStateError) {
		return nil
	}
	return shape.Ptr(textRegistrationFailed)
}

// kindOf gives the DirectoryType for ds's type, and its administrator. The enumeration has no value for Managed Microsoft AD;
// SIMPLE_AD, a directory that AWS runs, is the nearest.
func kindOf(dsType string) (kind api.WorkspaceDirectoryType, administrator string) {
	switch dsType {
	case "ADConnector":
		return api.WorkspaceDirectoryTypeAdConnector, ""
	case "MicrosoftAD":
		return api.WorkspaceDirectoryTypeSimpleAd, "Admin"
	}
	return api.WorkspaceDirectoryTypeSimpleAd, "Administrator"
}

func creationDefaults() *api.DefaultWorkspaceCreationProperties {
	return &api.DefaultWorkspaceCreationProperties{
		EnableInternetAccess:            shape.Ptr(false),
		EnableMaintenanceMode:           shape.Ptr(true),
		UserEnabledAsLocalAdministrator: shape.Ptr(true),
	}
}

func selfService(m map[string]string) *api.SelfservicePermissions {
	get := func(member string) *api.ReconnectEnum {
		if v, ok := m[member]; ok {
			return (*api.ReconnectEnum)(&v)
		}
		return nil
	}
	return &api.SelfservicePermissions{
		RestartWorkspace:   get("RestartWorkspace"),
		IncreaseVolumeSize: get("IncreaseVolumeSize"),
		ChangeComputeType:  get("ChangeComputeType"),
		SwitchRunningMode:  get("SwitchRunningMode"),
		RebuildWorkspace:   get("RebuildWorkspace"),
	}
}

func access(m map[string]string) *api.WorkspaceAccessProperties {
	get := func(member string) *api.AccessPropertyValue {
		if v, ok := m[member]; ok {
			return (*api.AccessPropertyValue)(&v)
		}
		return nil
	}
	return &api.WorkspaceAccessProperties{
		DeviceTypeWindows:              get("DeviceTypeWindows"),
		DeviceTypeOsx:                  get("DeviceTypeOsx"),
		DeviceTypeWeb:                  get("DeviceTypeWeb"),
		DeviceTypeIos:                  get("DeviceTypeIos"),
		DeviceTypeAndroid:              get("DeviceTypeAndroid"),
		DeviceTypeChromeOs:             get("DeviceTypeChromeOs"),
		DeviceTypeZeroClient:           get("DeviceTypeZeroClient"),
		DeviceTypeLinux:                get("DeviceTypeLinux"),
		DeviceTypeWorkSpacesThinClient: get("DeviceTypeWorkSpacesThinClient"),
	}
}
