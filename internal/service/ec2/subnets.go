package ec2

import (
	"context"
	"net/netip"
	"strconv"

	"carrel/internal/api/ec2"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

// reservedAddresses of a subnet are never given out: network, router, DNS, one for the future, broadcast (VPC user guide,
// "Subnet CIDR blocks"), and one for Carrel's services inside the VPC.
const reservedAddresses = 6

var subnetKind = kind[state.Subnet]{
	table: state.Subnets,
	parse: func(s string) error { _, err := ident.ParseSubnetID(s); return err },
	one:   "The subnet ID", many: "The subnet IDs", prefix: "subnet-", parameter: "subnetIds",
	notFound: "InvalidSubnetID.NotFound", malformed: "InvalidSubnetID.Malformed",
}

var subnetFilters = filters[ec2.Subnet]{
	tags: func(s *ec2.Subnet) []ec2.Tag { return s.Tags },
	of: map[string]func(*ec2.Subnet) []string{
		"availability-zone":    subnetZone,
		"availabilityZone":     subnetZone,
		"availability-zone-id": subnetZoneID,
		"availabilityZoneId":   subnetZoneID,
		"available-ip-address-count": func(s *ec2.Subnet) []string {
			return []string{strconv.Itoa(int(*s.AvailableIpAddressCount))}
		},
		"cidr":                       subnetCIDR,
		"cidr-block":                 subnetCIDR,
		"cidrBlock":                  subnetCIDR,
		"customer-owned-ipv4-pool":   none[ec2.Subnet],
		"default-for-az":             truth(func(s *ec2.Subnet) *bool { return s.DefaultForAz }),
		"defaultForAz":               truth(func(s *ec2.Subnet) *bool { return s.DefaultForAz }),
		"enable-dns64":               truth(func(s *ec2.Subnet) *bool { return s.EnableDns64 }),
		"enable-lni-at-device-index": none[ec2.Subnet],
		"ipv6-native":                truth(func(s *ec2.Subnet) *bool { return s.Ipv6Native }),
		"map-customer-owned-ip-on-launch": truth(func(s *ec2.Subnet) *bool {
			return s.MapCustomerOwnedIpOnLaunch
		}),
		"map-public-ip-on-launch": truth(func(s *ec2.Subnet) *bool { return s.MapPublicIpOnLaunch }),
		"outpost-arn":             none[ec2.Subnet],
		"owner-id":                text(func(s *ec2.Subnet) *string { return s.OwnerId }),
		"private-dns-name-options-on-launch.hostname-type": func(s *ec2.Subnet) []string {
			return []string{string(*s.PrivateDnsNameOptionsOnLaunch.HostnameType)}
		},
		"private-dns-name-options-on-launch.enable-resource-name-dns-a-record": truth(func(s *ec2.Subnet) *bool {
			return s.PrivateDnsNameOptionsOnLaunch.EnableResourceNameDnsARecord
		}),
		"private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record": truth(func(s *ec2.Subnet) *bool {
			return s.PrivateDnsNameOptionsOnLaunch.EnableResourceNameDnsAAAARecord
		}),
		"ipv6-cidr-block-association.ipv6-cidr-block": none[ec2.Subnet],
		"ipv6-cidr-block-association.association-id":  none[ec2.Subnet],
		"ipv6-cidr-block-association.state":           none[ec2.Subnet],
		"state":                                       func(s *ec2.Subnet) []string { return []string{string(*s.State)} },
		"subnet-arn":                                  text(func(s *ec2.Subnet) *string { return s.SubnetArn }),
		"subnet-id":                                   text(func(s *ec2.Subnet) *string { return s.SubnetId }),
		"vpc-id":                                      text(func(s *ec2.Subnet) *string { return s.VpcId }),
	},
}

func subnetZone(s *ec2.Subnet) []string   { return []string{*s.AvailabilityZone} }
func subnetZoneID(s *ec2.Subnet) []string { return []string{*s.AvailabilityZoneId} }
func subnetCIDR(s *ec2.Subnet) []string   { return []string{*s.CidrBlock} }

// DescribeSubnets describes the account's subnets.
func (s *Service) DescribeSubnets(_ context.Context, _ service.Call, in *ec2.DescribeSubnetsInput) (*ec2.DescribeSubnetsOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	snap := s.DB.Snapshot()
	subnets, next, err := find(snap, subnetKind, query{in.SubnetIds, in.Filters, in.MaxResults, in.NextToken}, view[state.Subnet, ec2.Subnet]{
		filters: subnetFilters,
		answer:  func(rec *state.Subnet) ec2.Subnet { return s.subnet(snap, rec) },
	})
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeSubnetsOutput{Subnets: subnets, NextToken: next}, nil
}

func (s *Service) subnet(r state.Reader, rec *state.Subnet) ec2.Subnet {
	id := string(rec.ID)
	no := func() *bool { return shape.Ptr(false) }
	return ec2.Subnet{
		SubnetId: shape.Ptr(id), VpcId: shape.Ptr(string(rec.VPCID)), OwnerId: shape.Ptr(s.AccountID), CidrBlock: shape.Ptr(rec.CIDR),
		SubnetArn:        shape.Ptr(arn.ARN{Partition: s.Partition, Service: "ec2", Region: s.Region, Account: s.AccountID, Resource: "subnet/" + id}.String()),
		AvailabilityZone: shape.Ptr(rec.Zone), AvailabilityZoneId: shape.Ptr(rec.ZoneID), DefaultForAz: shape.Ptr(rec.Default),
		AvailableIpAddressCount: shape.Ptr(available(rec.CIDR, state.CountBy(r, state.Interfaces, state.InterfacesBySubnet, id))),
		State:                   shape.Ptr(ec2.SubnetStateAvailable),
		// Carrel gives out no public addresses and no IPv6 yet.
		MapPublicIpOnLaunch: no(), MapCustomerOwnedIpOnLaunch: no(), AssignIpv6AddressOnCreation: no(), Ipv6Native: no(), EnableDns64: no(),
		PrivateDnsNameOptionsOnLaunch: &ec2.PrivateDnsNameOptionsOnLaunch{
			HostnameType: shape.Ptr(ec2.HostnameTypeIpName), EnableResourceNameDnsARecord: no(), EnableResourceNameDnsAAAARecord: no(),
		},
		Tags: tagSet(rec.Tags),
	}
}

// available is how many addresses of a subnet can still be given out.
func available(cidr string, taken int) int32 {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil || !prefix.Addr().Is4() {
		return 0
	}
	return int32(max(0, 1<<(32-prefix.Bits())-reservedAddresses-taken))
}
