package ds

import (
	"cmp"

	"carrel/internal/api/ds"
	"carrel/internal/api/shape"
	"carrel/internal/state"
)

// describe writes a directory as AWS does for its type: an AD Connector has ConnectSettings, the others VpcSettings; only a
// Microsoft AD has an edition, regions and a number of controllers.
func describe(r state.Reader, d *state.Directory) ds.DirectoryDescription {
	spec, status := &d.Spec, &d.Status
	// A directory without an alias goes by its id.
	alias := cmp.Or(spec.Alias, string(d.ID))
	out := ds.DirectoryDescription{
		DirectoryId: shape.Ptr(string(d.ID)), Type: shape.Ptr(ds.DirectoryType(spec.Type)),
		Name: shape.Ptr(spec.Name), ShortName: shape.Given(spec.ShortName), Description: shape.Given(spec.Description),
		Alias: shape.Ptr(alias), AccessUrl: shape.Ptr(alias + ".awsapps.com"),
		Stage: shape.Ptr(ds.DirectoryStage(status.Stage)), StageReason: shape.Given(status.StageReason),
		LaunchTime: shape.Ptr(d.Created), StageLastUpdatedDateTime: shape.Ptr(status.StageSince),
		SsoEnabled: shape.Ptr(false), NetworkType: shape.Ptr(ds.NetworkTypeIPv4),
		DnsIpAddrs: status.DNSAddresses,
	}
	if spec.Size != "" {
		out.Size = shape.Ptr(ds.DirectorySize(spec.Size))
	}
	var subnets []string
	for _, id := range spec.SubnetIDs {
		subnets = append(subnets, string(id))
	}
	vpc, group := shape.Given(string(spec.VPCID)), shape.Given(string(status.SecurityGroupID))
	switch ds.DirectoryType(spec.Type) {
	case ds.DirectoryTypeADConnector:
		out.ConnectSettings = &ds.DirectoryConnectSettingsDescription{
			VpcId: vpc, SubnetIds: subnets, SecurityGroupId: group, AvailabilityZones: status.Zones, ConnectIps: status.DNSAddresses,
		}
	case ds.DirectoryTypeMicrosoftAD:
		out.Edition = shape.Ptr(ds.DirectoryEdition(cmp.Or(spec.Edition, string(ds.DirectoryEditionEnterprise))))
		out.OsVersion = shape.Ptr(ds.OSVersionServer2019)
		out.DesiredNumberOfDomainControllers = shape.Ptr(int32(2))
		out.RegionsInfo = &ds.RegionsInfo{}
		for here := range state.All(r, state.Installations) {
			out.RegionsInfo.PrimaryRegion = shape.Ptr(here.Region)
		}
		fallthrough
	default:
		out.VpcSettings = &ds.DirectoryVpcSettingsDescription{VpcId: vpc, SubnetIds: subnets, SecurityGroupId: group, AvailabilityZones: status.Zones}
	}
	return out
}
