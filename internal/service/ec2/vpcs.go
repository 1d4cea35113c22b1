package ec2

import (
	"context"
	"strings"

	"carrel/internal/api/ec2"
	"carrel/internal/api/shape"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

var vpcKind = kind[state.VPC]{
	table: state.VPCs,
	parse: func(s string) error { _, err := ident.ParseVPCID(s); return err },
	one:   "The vpc ID", many: "The vpc IDs", prefix: "vpc-", parameter: "vpcIds",
	notFound: "InvalidVpcID.NotFound", malformed: "InvalidVpcID.Malformed",
}

var vpcFilters = filters[ec2.Vpc]{
	tags: func(v *ec2.Vpc) []ec2.Tag { return v.Tags },
	of: map[string]func(*ec2.Vpc) []string{
		"cidr":                              vpcCIDR,
		"cidr-block":                        vpcCIDR,
		"cidrBlock":                         vpcCIDR,
		"cidr-block-association.cidr-block": vpcCIDR,
		"cidr-block-association.association-id": text(func(v *ec2.Vpc) *string {
			return v.CidrBlockAssociationSet[0].AssociationId
		}),
		"cidr-block-association.state":                func(*ec2.Vpc) []string { return []string{"associated"} },
		"dhcp-options-id":                             text(func(v *ec2.Vpc) *string { return v.DhcpOptionsId }),
		"ipv6-cidr-block-association.cidr-block":      none[ec2.Vpc],
		"ipv6-cidr-block-association.ipv6-cidr-block": none[ec2.Vpc],
		"ipv6-cidr-block-association.ipv6-pool":       none[ec2.Vpc],
		"ipv6-cidr-block-association.association-id":  none[ec2.Vpc],
		"ipv6-cidr-block-association.state":           none[ec2.Vpc],
		"is-default":                                  truth(func(v *ec2.Vpc) *bool { return v.IsDefault }),
		"isDefault":                                   truth(func(v *ec2.Vpc) *bool { return v.IsDefault }),
		"owner-id":                                    text(func(v *ec2.Vpc) *string { return v.OwnerId }),
		"state":                                       func(v *ec2.Vpc) []string { return []string{string(*v.State)} },
		"vpc-id":                                      text(func(v *ec2.Vpc) *string { return v.VpcId }),
	},
}

func vpcCIDR(v *ec2.Vpc) []string { return []string{*v.CidrBlock} }

// DescribeVpcs describes the account's VPCs.
func (s *Service) DescribeVpcs(_ context.Context, _ service.Call, in *ec2.DescribeVpcsInput) (*ec2.DescribeVpcsOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	vpcs, next, err := find(s.DB.Snapshot(), vpcKind, query{in.VpcIds, in.Filters, in.MaxResults, in.NextToken}, view[state.VPC, ec2.Vpc]{vpcFilters, s.vpc})
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeVpcsOutput{Vpcs: vpcs, NextToken: next}, nil
}

func (s *Service) vpc(v *state.VPC) ec2.Vpc {
	return ec2.Vpc{
		VpcId: shape.Ptr(string(v.ID)), OwnerId: shape.Ptr(s.AccountID), CidrBlock: shape.Ptr(v.CIDR), IsDefault: shape.Ptr(v.Default),
		State: shape.Ptr(ec2.VpcStateAvailable), InstanceTenancy: shape.Ptr(ec2.TenancyDefault),
		// "default" is what AWS shows for a VPC without DHCP options of its own.
		DhcpOptionsId: shape.Ptr("default"),
		CidrBlockAssociationSet: []ec2.VpcCidrBlockAssociation{{
			// A VPC has one block here, so the association's id follows from the VPC's.
			AssociationId:  shape.Ptr("vpc-cidr-assoc-" + strings.TrimPrefix(string(v.ID), "vpc-")),
			CidrBlock:      shape.Ptr(v.CIDR),
			CidrBlockState: &ec2.VpcCidrBlockState{State: shape.Ptr(ec2.VpcCidrBlockStateCodeAssociated)},
		}},
		Tags: tagSet(v.Tags),
	}
}
