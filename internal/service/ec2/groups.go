package ec2

import (
	"context"
	"slices"
	"strconv"

	"carrel/internal/api/ec2"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/awserr"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

// defaultGroup is the name of the group that every VPC has.
const defaultGroup = "default"

var groupKind = kind[state.SecurityGroup]{
	table: state.SecurityGroups,
	parse: func(s string) error { _, err := ident.ParseSecurityGroupID(s); return err },
	one:   "The security group", many: "The security groups", prefix: "sg-", parameter: "groupIds",
	notFound: "InvalidGroup.NotFound", malformed: "InvalidGroupId.Malformed",
}

var groupFilters = filters[ec2.SecurityGroup]{
	tags: func(g *ec2.SecurityGroup) []ec2.Tag { return g.Tags },
	of:   groupFilterTable(),
}

func groupFilterTable() map[string]func(*ec2.SecurityGroup) []string {
	of := map[string]func(*ec2.SecurityGroup) []string{
		"description": text(func(g *ec2.SecurityGroup) *string { return g.Description }),
		"group-id":    text(func(g *ec2.SecurityGroup) *string { return g.GroupId }),
		"group-name":  text(func(g *ec2.SecurityGroup) *string { return g.GroupName }),
		"owner-id":    text(func(g *ec2.SecurityGroup) *string { return g.OwnerId }),
		"vpc-id":      text(func(g *ec2.SecurityGroup) *string { return g.VpcId }),
	}
	permissions := map[string]func(ec2.IpPermission) []string{
		"cidr": func(p ec2.IpPermission) (v []string) {
			for _, r := range p.IpRanges {
				v = append(v, shape.Val(r.CidrIp))
			}
			return v
		},
		"ipv6-cidr": func(p ec2.IpPermission) (v []string) {
			for _, r := range p.Ipv6Ranges {
				v = append(v, shape.Val(r.CidrIpv6))
			}
			return v
		},
		"prefix-list-id": func(p ec2.IpPermission) (v []string) {
			for _, r := range p.PrefixListIds {
				v = append(v, shape.Val(r.PrefixListId))
			}
			return v
		},
		"from-port":  func(p ec2.IpPermission) []string { return port(p.FromPort) },
		"to-port":    func(p ec2.IpPermission) []string { return port(p.ToPort) },
		"protocol":   func(p ec2.IpPermission) []string { return []string{shape.Val(p.IpProtocol)} },
		"group-id":   pairs(func(u ec2.UserIdGroupPair) *string { return u.GroupId }),
		"group-name": pairs(func(u ec2.UserIdGroupPair) *string { return u.GroupName }),
		"user-id":    pairs(func(u ec2.UserIdGroupPair) *string { return u.UserId }),
	}
	for name, values := range permissions {
		each := func(list []ec2.IpPermission) (v []string) {
			for _, p := range list {
				v = append(v, values(p)...)
			}
			return v
		}
		of["ip-permission."+name] = func(g *ec2.SecurityGroup) []string { return each(g.IpPermissions) }
		of["egress.ip-permission."+name] = func(g *ec2.SecurityGroup) []string { return each(g.IpPermissionsEgress) }
	}
	return of
}

func port(p *int32) []string {
	if p == nil {
		return nil
	}
	return []string{strconv.Itoa(int(*p))}
}

func pairs(get func(ec2.UserIdGroupPair) *string) func(ec2.IpPermission) []string {
	return func(p ec2.IpPermission) (v []string) {
		for _, pair := range p.UserIdGroupPairs {
			if s := get(pair); s != nil {
				v = append(v, *s)
			}
		}
		return v
	}
}

// DescribeSecurityGroups describes the account's security groups. Names find groups of the default VPC only (EC2 API reference).
func (s *Service) DescribeSecurityGroups(_ context.Context, _ service.Call, in *ec2.DescribeSecurityGroupsInput) (*ec2.DescribeSecurityGroupsOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	if in.MaxResults != nil && len(in.GroupNames) > 0 {
		return nil, invalidCombination("groupNames", "maxResults")
	}
	snap := s.DB.Snapshot()
	ids, err := groupsNamed(snap, in.GroupNames)
	if err != nil {
		return nil, err
	}
	q := query{append(ids, in.GroupIds...), in.Filters, in.MaxResults, in.NextToken}
	groups, next, err := find(snap, groupKind, q, view[state.SecurityGroup, ec2.SecurityGroup]{groupFilters, s.group})
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeSecurityGroupsOutput{SecurityGroups: groups, NextToken: next}, nil
}

// groupsNamed gives the ids of the default VPC's groups with these names.
func groupsNamed(r state.Reader, names []string) (ids []string, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	home := ident.VPCID("")
	for v := range state.All(r, state.VPCs) {
		if v.Default {
			home = v.ID
		}
	}
	found := map[string]string{}
	for g := range state.All(r, state.SecurityGroups) {
		if home != "" && g.VPCID == home && slices.Contains(names, g.Name) {
			found[g.Name] = string(g.ID)
		}
	}
	for _, name := range names {
		id, ok := found[name]
		if !ok {
			return nil, awserr.Model("InvalidGroup.NotFound", "The security group '%s' does not exist in default VPC '%s'", name, home).WithStatus(400)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// group describes a group with AWS's rules for new groups: everything may go out, and what is in the default group may come in from
// its own members.
func (s *Service) group(g *state.SecurityGroup) ec2.SecurityGroup {
	id := shape.Ptr(string(g.ID))
	in := []ec2.IpPermission{}
	if g.Name == defaultGroup {
		in = append(in, ec2.IpPermission{IpProtocol: shape.Ptr("-1"),
			UserIdGroupPairs: []ec2.UserIdGroupPair{{GroupId: id, UserId: shape.Ptr(s.AccountID)}}})
	}
	return ec2.SecurityGroup{
		GroupId: id, GroupName: shape.Ptr(g.Name), Description: shape.Ptr(g.Description), VpcId: shape.Ptr(string(g.VPCID)),
		OwnerId:          shape.Ptr(s.AccountID),
		SecurityGroupArn: shape.Ptr(arn.ARN{Partition: s.Partition, Service: "ec2", Region: s.Region, Account: s.AccountID, Resource: "security-group/" + *id}.String()),
		IpPermissions:    in,
		IpPermissionsEgress: []ec2.IpPermission{{IpProtocol: shape.Ptr("-1"),
			IpRanges: []ec2.IpRange{{CidrIp: shape.Ptr("0.0.0.0/0")}}}},
		Tags: tagSet(g.Tags),
	}
}
