package ec2

import (
	"context"
	"slices"
	"strings"

	"carrel/internal/api/ec2"
	"carrel/internal/api/shape"
	"carrel/internal/service"
)

var regionFilters = filters[ec2.Region]{of: map[string]func(*ec2.Region) []string{
	"endpoint":      text(func(r *ec2.Region) *string { return r.Endpoint }),
	"opt-in-status": text(func(r *ec2.Region) *string { return r.OptInStatus }),
	"region-name":   text(func(r *ec2.Region) *string { return r.RegionName }),
}}

// DescribeRegions describes the one region that the installation is, also when all are asked for.
func (s *Service) DescribeRegions(_ context.Context, _ service.Call, in *ec2.DescribeRegionsInput) (*ec2.DescribeRegionsOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	match, err := regionFilters.match(in.Filters)
	if err != nil {
		return nil, err
	}
	if unknown := except(in.RegionNames, []string{s.Region}); len(unknown) > 0 {
		return nil, invalidValue("Invalid region names: [%s]", strings.Join(unknown, ", "))
	}
	out := &ec2.DescribeRegionsOutput{Regions: []ec2.Region{}}
	region := ec2.Region{RegionName: shape.Ptr(s.Region), Endpoint: shape.Ptr("ec2." + s.Region + "." + s.suffix()), OptInStatus: shape.Ptr("opt-in-not-required")}
	if match(&region) {
		out.Regions = append(out.Regions, region)
	}
	return out, nil
}

// suffix is the DNS suffix of the partition's endpoints.
func (s *Service) suffix() string {
	if s.Partition == "aws-cn" {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

var zoneFilters = filters[ec2.AvailabilityZone]{of: map[string]func(*ec2.AvailabilityZone) []string{
	"group-long-name":  text(func(z *ec2.AvailabilityZone) *string { return z.GroupLongName }),
	"group-name":       text(func(z *ec2.AvailabilityZone) *string { return z.GroupName }),
	"message":          none[ec2.AvailabilityZone],
	"opt-in-status":    func(z *ec2.AvailabilityZone) []string { return []string{string(*z.OptInStatus)} },
	"parent-zone-id":   none[ec2.AvailabilityZone],
	"parent-zone-name": none[ec2.AvailabilityZone],
	"region-name":      text(func(z *ec2.AvailabilityZone) *string { return z.RegionName }),
	"state":            func(z *ec2.AvailabilityZone) []string { return []string{string(*z.State)} },
	"zone-id":          text(func(z *ec2.AvailabilityZone) *string { return z.ZoneId }),
	"zone-name":        text(func(z *ec2.AvailabilityZone) *string { return z.ZoneName }),
	"zone-type":        text(func(z *ec2.AvailabilityZone) *string { return z.ZoneType }),
}}

// DescribeAvailabilityZones describes the region's zones.
func (s *Service) DescribeAvailabilityZones(_ context.Context, _ service.Call, in *ec2.DescribeAvailabilityZonesInput) (*ec2.DescribeAvailabilityZonesOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	match, err := zoneFilters.match(in.Filters)
	if err != nil {
		return nil, err
	}
	var names, ids []string
	for _, z := range s.Zones {
		names, ids = append(names, z.Name), append(ids, z.ID)
	}
	if unknown := except(in.ZoneNames, names); len(unknown) > 0 {
		return nil, invalidValue("Invalid availability zone: [%s]", strings.Join(unknown, ", "))
	}
	if unknown := except(in.ZoneIds, ids); len(unknown) > 0 {
		return nil, invalidValue("Invalid availability zone-id: [%s]", strings.Join(unknown, ", "))
	}
	out := &ec2.DescribeAvailabilityZonesOutput{AvailabilityZones: []ec2.AvailabilityZone{}}
	for i, z := range s.Zones {
		zone := ec2.AvailabilityZone{
			ZoneName: shape.Ptr(z.Name), ZoneId: shape.Ptr(z.ID), RegionName: shape.Ptr(s.Region), ZoneType: shape.Ptr("availability-zone"),
			State: shape.Ptr(ec2.AvailabilityZoneStateAvailable), OptInStatus: shape.Ptr(ec2.AvailabilityZoneOptInStatusOptInNotRequired),
			GroupName: shape.Ptr(s.Region + "-zg-1"), GroupLongName: shape.Ptr(s.Region + " 1"), NetworkBorderGroup: shape.Ptr(s.Region),
			Messages: []ec2.AvailabilityZoneMessage{},
		}
		asked := len(in.ZoneNames)+len(in.ZoneIds) == 0 || slices.Contains(in.ZoneNames, names[i]) || slices.Contains(in.ZoneIds, ids[i])
		if asked && match(&zone) {
			out.AvailabilityZones = append(out.AvailabilityZones, zone)
		}
	}
	return out, nil
}

// except gives the names that are not known.
func except(names, known []string) (unknown []string) {
	for _, name := range names {
		if !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}
