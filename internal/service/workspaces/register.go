package workspaces

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/awserr"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

// stageActive is the DirectoryStage (ds) of a directory that can be registered.
const stageActive = "Active"

// NewRegistration is the registration of a directory as it begins, REGISTERING in these subnets, with AWS's defaults: users may
// restart their WorkSpaces and nothing else, all clients but Linux and Web may connect.
func NewRegistration(subnets []ident.SubnetID, now time.Time) *state.Registration {
	allow, deny := string(api.AccessPropertyValueAllow), string(api.AccessPropertyValueDeny)
	on, off := string(api.ReconnectEnumEnabled), string(api.ReconnectEnumDisabled)
	return &state.Registration{
		State:     string(api.WorkspaceDirectoryStateRegistering),
		Since:     now,
		SubnetIDs: subnets,
		Tenancy:   string(api.TenancyShared),
		SelfService: map[string]string{"RestartWorkspace": on, "IncreaseVolumeSize": off, "ChangeComputeType": off,
			"SwitchRunningMode": off, "RebuildWorkspace": off},
		Access: map[string]string{"DeviceTypeWindows": allow, "DeviceTypeOsx": allow, "DeviceTypeAndroid": allow, "DeviceTypeIos": allow,
			"DeviceTypeChromeOs": allow, "DeviceTypeZeroClient": allow, "DeviceTypeLinux": deny, "DeviceTypeWeb": deny},
	}
}

// RegisterWorkspaceDirectory registers an Active directory of Directory Service; the reconciler brings it to REGISTERED. Registering
// once more what is registered so already answers its state. ValidationException without DirectoryId; OperationNotSupportedException
// for pools, Entra ID and IAM Identity Center, and for subnets in one zone or an unsupported one; ResourceNotFoundException,
// InvalidResourceStateException, UnsupportedNetworkConfigurationException, ResourceLimitExceededException as the model says.
func (s *Service) RegisterWorkspaceDirectory(ctx context.Context, _ service.Call, in *api.RegisterWorkspaceDirectoryInput) (*api.RegisterWorkspaceDirectoryOutput, error) {
	if err := checkVariant(in); err != nil {
		return nil, err
	}
	tags, bad := s.readTags(in.Tags)
	if bad != nil {
		return nil, bad
	}
	var result string
	err := s.update(ctx, func(tx *state.Tx) error {
		d, ok := state.Get(tx, state.Directories, *in.DirectoryId)
		switch {
		case !ok:
			return errNoDirectory(*in.DirectoryId)
		case d.Registration != nil && d.Registration.State == string(api.WorkspaceDirectoryStateDeregistering):
			return errRegistrationState(string(d.ID), d.Registration.State)
		case d.Registration != nil && d.Registration.State != string(api.WorkspaceDirectoryStateError):
			result = d.Registration.State
			return sameRegistration(d, in)
		}
		r, err := s.register(tx, d, in)
		if err != nil {
			return err
		}
		r.Tags = tags
		if old := d.Registration; old != nil {
			// What a failed registration has got already is this one's to use or to take away.
			r.Code, r.MembersGroupID, r.IPGroupIDs = old.Code, old.MembersGroupID, slices.Clone(old.IPGroupIDs)
		}
		c := state.Clone(d)
		c.Registration = r
		state.Put(tx, state.Directories, c)
		result = r.State
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.RegisterWorkspaceDirectoryOutput{DirectoryId: in.DirectoryId, State: (*api.WorkspaceDirectoryState)(&result)}, nil
}

// checkVariant refuses what is not the registration of a directory of Directory Service for personal WorkSpaces.
func checkVariant(in *api.RegisterWorkspaceDirectoryInput) error {
	switch {
	case shape.Val(in.WorkspaceType) == api.WorkspaceTypePools:
		return errVariant("WorkspaceType POOLS")
	case in.UserIdentityType != nil && *in.UserIdentityType != api.UserIdentityTypeAwsDirectoryService:
		return errVariant("UserIdentityType " + string(*in.UserIdentityType))
	case in.MicrosoftEntraConfig != nil:
		return errVariant("MicrosoftEntraConfig")
	case in.IdcInstanceArn != nil:
		return errVariant("IdcInstanceArn")
	case in.ActiveDirectoryConfig != nil:
		return errVariant("ActiveDirectoryConfig")
	case shape.Val(in.DirectoryId) == "":
		return errNoDirectoryID()
	case in.WorkspaceDirectoryName != nil:
		return errNotForPersonal("WorkspaceDirectoryName")
	case in.WorkspaceDirectoryDescription != nil:
		return errNotForPersonal("WorkspaceDirectoryDescription")
	case shape.Val(in.Tenancy) == api.TenancyDedicated:
		return errDedicated()
	}
	return nil
}

// sameRegistration is nil when the directory is registered as the request says. Infrastructure tools ask again for what they have; what
// is asked differently must not seem done.
func sameRegistration(d *state.Directory, in *api.RegisterWorkspaceDirectoryInput) error {
	if len(in.SubnetIds) > 0 {
		have := make([]string, 0, len(d.Registration.SubnetIDs))
		for _, id := range d.Registration.SubnetIDs {
			have = append(have, string(id))
		}
		if !slices.Equal(slices.Sorted(slices.Values(have)), slices.Sorted(slices.Values(in.SubnetIds))) {
			return errRegisteredOtherwise(string(d.ID), "SubnetIds")
		}
	}
	return nil
}

// register checks that d can be registered and gives its registration.
func (s *Service) register(tx *state.Tx, d *state.Directory, in *api.RegisterWorkspaceDirectoryInput) (*state.Registration, error) {
	if d.Status.Stage != stageActive {
		return nil, errStage(string(d.ID), d.Status.Stage)
	}
	if max := s.Limits.Directories; max > 0 {
		n := 0
		for other := range state.All(tx, state.Directories) {
			if other.Registration != nil && other.ID != d.ID {
				n++
			}
		}
		if n+1 > max {
			return nil, errLimit("registered directories", max)
		}
		// Of two registrations at the limit the second one counts again.
		tx.Guard(state.DirectoryTable, "")
	}
	subnets, err := s.subnets(tx, d, in.SubnetIds)
	if err != nil {
		return nil, err
	}
	r := NewRegistration(subnets, tx.Now())
	if shape.Val(in.EnableSelfService) {
		for permission := range r.SelfService {
			r.SelfService[permission] = string(api.ReconnectEnumEnabled)
		}
	}
	return r, nil
}

// subnets checks the two subnets that WorkSpaces will be in: those asked for, or else the directory's own.
func (s *Service) subnets(tx *state.Tx, d *state.Directory, asked []string) ([]ident.SubnetID, error) {
	ids := make([]ident.SubnetID, 0, 2)
	for _, id := range asked {
		ids = append(ids, ident.SubnetID(id))
	}
	if len(asked) == 0 {
		ids = append(ids, d.Spec.SubnetIDs...)
	}
	if len(ids) != 2 || ids[0] == ids[1] {
		return nil, errSubnetCount()
	}
	zones := make([]string, 0, 2)
	for _, id := range ids {
		subnet, ok := state.Get(tx, state.Subnets, string(id))
		switch {
		case !ok:
			return nil, errNoSubnet(string(id))
		case subnet.VPCID != d.Spec.VPCID:
			return nil, errSubnetVPC(string(id), string(d.Spec.VPCID))
		case len(s.Zones) > 0 && !slices.Contains(s.Zones, subnet.Zone) && !slices.Contains(s.Zones, subnet.ZoneID):
			return nil, errZone(subnet.Zone)
		}
		zones = append(zones, subnet.Zone)
	}
	if zones[0] == zones[1] {
		return nil, errSubnetZones()
	}
	if err := s.checkManagement(tx, d.Spec.VPCID); err != nil {
		return nil, err
	}
	return ids, nil
}

// checkManagement refuses a VPC that overlaps every range of the management interfaces.
func (s *Service) checkManagement(tx *state.Tx, id ident.VPCID) *awserr.Error {
	vpc, ok := state.Get(tx, state.VPCs, string(id))
	if !ok || len(s.ManagementRanges) == 0 {
		return nil
	}
	cidr, err := netip.ParsePrefix(vpc.CIDR)
	if err != nil {
		return nil // ec2's business
	}
	for _, m := range s.ManagementRanges {
		if !m.Overlaps(cidr) {
			return nil
		}
	}
	return errManagementRange(vpc.CIDR)
}

// DefaultManagementRanges are the ranges of the management interfaces in an AWS Region (administration guide, "IP address and port
// requirements"); AWS needs one of them to be free in the VPC.
func DefaultManagementRanges(region string) []netip.Prefix {
	ranges := []netip.Prefix{netip.MustParsePrefix("198.19.0.0/16")}
	switch region {
	case "us-east-1", "us-west-2", "ap-southeast-2", "eu-west-1":
		ranges = append(ranges, netip.MustParsePrefix("172.31.0.0/16"), netip.MustParsePrefix("192.168.0.0/16"))
	case "ap-south-1":
		ranges = append(ranges, netip.MustParsePrefix("192.168.0.0/16"))
	}
	return ranges
}

// DeregisterWorkspaceDirectory takes a directory's registration away; the reconciler finishes it. InvalidResourceStateException unless
// REGISTERED (or in ERROR, which AWS's text leaves without a way out), OperationNotSupportedException while it has WorkSpaces.
func (s *Service) DeregisterWorkspaceDirectory(ctx context.Context, _ service.Call, in *api.DeregisterWorkspaceDirectoryInput) (*api.DeregisterWorkspaceDirectoryOutput, error) {
	id := shape.Val(in.DirectoryId)
	err := s.update(ctx, func(tx *state.Tx) error {
		d, ok := state.Get(tx, state.Directories, id)
		switch {
		case !ok:
			return errNoDirectory(id)
		case d.Registration == nil:
			return errNotRegistered(id)
		}
		settled := []string{string(api.WorkspaceDirectoryStateRegistered), string(api.WorkspaceDirectoryStateError)}
		if !slices.Contains(settled, d.Registration.State) {
			return errRegistrationState(id, d.Registration.State)
		}
		for range state.AllBy(tx, state.Workspaces, state.WorkspacesByDirectory, id) {
			return errDirectoryInUse(id)
		}
		// A WorkSpace made since the snapshot makes this transaction start again and see it; one that is being made has read the
		// directory, which this transaction writes.
		tx.Guard(state.WorkspaceTable, "")
		c := state.Clone(d)
		c.Registration.State, c.Registration.Since = string(api.WorkspaceDirectoryStateDeregistering), tx.Now()
		c.Registration.Backoff = state.Backoff{}
		state.Put(tx, state.Directories, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.DeregisterWorkspaceDirectoryOutput{}, nil
}
