package ec2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"carrel/internal/api/ec2"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/ident"
	"carrel/internal/region"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

const (
	account = "123456789012"
	home    = "vpc-00000000000000001" // default, tagged
	lab     = "vpc-00000000000000002"
	subnetA = "subnet-00000000000000001"
	subnetB = "subnet-00000000000000002"
	subnetL = "subnet-00000000000000003" // in lab, a /28
	groupH  = "sg-00000000000000001"     // home's default group
	groupL  = "sg-00000000000000002"     // lab's default group
	groupM  = "sg-00000000000000003"     // another one of home
)

// open makes the service on two VPCs with three subnets and three groups.
func open(t *testing.T) *Service {
	t.Helper()
	s := &Service{DB: statetest.NewDB(t), AccountID: account, Region: "eu-west-1", Partition: "aws", Zones: region.Zones("eu-west-1")}
	put(t, s, func(tx *state.Tx) error {
		state.Put(tx, state.VPCs, &state.VPC{ID: home, CIDR: "172.31.0.0/16", Default: true, Meta: state.Meta{Tags: map[string]string{"Name": "home", "team": "a*b"}}})
		state.Put(tx, state.VPCs, &state.VPC{ID: lab, CIDR: "10.0.0.0/16"})
		for _, sub := range []state.Subnet{
			{ID: subnetA, VPCID: home, CIDR: "172.31.0.0/20", Zone: "eu-west-1a", ZoneID: "euw1-az1", Default: true},
			{ID: subnetB, VPCID: home, CIDR: "172.31.16.0/20", Zone: "eu-west-1b", ZoneID: "euw1-az2", Default: true},
			{ID: subnetL, VPCID: lab, CIDR: "10.0.0.0/28", Zone: "eu-west-1a", ZoneID: "euw1-az1"},
		} {
			state.Put(tx, state.Subnets, &sub)
		}
		for i := range 3 {
			state.Put(tx, state.Interfaces, &state.Interface{ID: ident.InterfaceID(fmt.Sprintf("eni-0000000000000000%d", i)), SubnetID: subnetL, Address: fmt.Sprintf("10.0.0.%d", 5+i)})
		}
		for _, g := range []state.SecurityGroup{
			{ID: groupH, VPCID: home, Name: "default", Description: "default VPC security group"},
			{ID: groupL, VPCID: lab, Name: "default", Description: "default VPC security group"},
			{ID: groupM, VPCID: home, Name: "members", Description: "Amazon WorkSpaces Security Group"},
		} {
			state.Put(tx, state.SecurityGroups, &g)
		}
		return nil
	})
	return s
}

func put(t *testing.T, s *Service, fn func(*state.Tx) error) {
	t.Helper()
	if _, err := s.DB.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// filter is "name=value,value".
func filter(given ...string) (list []ec2.Filter) {
	for _, f := range given {
		name, values, _ := strings.Cut(f, "=")
		list = append(list, ec2.Filter{Name: &name, Values: strings.Split(values, ",")})
	}
	return list
}

func check(t *testing.T, err error, code string, status int, text string) {
	t.Helper()
	var e *awserr.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want %s", err, code)
	}
	if e.Code != code || e.Status != status || !strings.Contains(e.Message, text) {
		t.Errorf("error %s %d %q, want %s %d %q", e.Code, e.Status, e.Message, code, status, text)
	}
}

// ids runs a describe operation and gives the ids answered.
func (s *Service) ids(op string, ids []string, filters []ec2.Filter) ([]string, error) {
	var got []string
	ctx := context.Background()
	switch op {
	case "vpcs":
		out, err := s.DescribeVpcs(ctx, service.Call{}, &ec2.DescribeVpcsInput{VpcIds: ids, Filters: filters})
		if err != nil {
			return nil, err
		}
		for _, v := range out.Vpcs {
			got = append(got, *v.VpcId)
		}
	case "subnets":
		out, err := s.DescribeSubnets(ctx, service.Call{}, &ec2.DescribeSubnetsInput{SubnetIds: ids, Filters: filters})
		if err != nil {
			return nil, err
		}
		for _, v := range out.Subnets {
			got = append(got, *v.SubnetId)
		}
	case "groups":
		out, err := s.DescribeSecurityGroups(ctx, service.Call{}, &ec2.DescribeSecurityGroupsInput{GroupIds: ids, Filters: filters})
		if err != nil {
			return nil, err
		}
		for _, v := range out.SecurityGroups {
			got = append(got, *v.GroupId)
		}
	case "zones":
		out, err := s.DescribeAvailabilityZones(ctx, service.Call{}, &ec2.DescribeAvailabilityZonesInput{ZoneNames: ids, Filters: filters})
		if err != nil {
			return nil, err
		}
		for _, v := range out.AvailabilityZones {
			got = append(got, *v.ZoneName)
		}
	case "regions":
		out, err := s.DescribeRegions(ctx, service.Call{}, &ec2.DescribeRegionsInput{RegionNames: ids, Filters: filters})
		if err != nil {
			return nil, err
		}
		for _, v := range out.Regions {
			got = append(got, *v.RegionName)
		}
	}
	return got, nil
}

func TestDescribeFinds(t *testing.T) {
	s := open(t)
	cases := []struct {
		name, op string
		ids      []string
		filters  []string
		want     string
	}{
		{"all VPCs in the order of their ids", "vpcs", nil, nil, home + " " + lab},
		{"VPCs by id, each once", "vpcs", []string{lab, home, lab}, nil, home + " " + lab},
		{"an id that its filter leaves out", "vpcs", []string{lab}, []string{"is-default=true"}, ""},
		{"the default VPC", "vpcs", nil, []string{"is-default=true"}, home},
		{"the default VPC by the old name", "vpcs", nil, []string{"isDefault=true"}, home},
		{"a VPC by its range", "vpcs", nil, []string{"cidr=10.0.0.0/16"}, lab},
		{"a VPC by the range of its association", "vpcs", nil, []string{"cidr-block-association.cidr-block=10.*"}, lab},
		{"a VPC by its association", "vpcs", nil, []string{"cidr-block-association.association-id=vpc-cidr-assoc-00000000000000002"}, lab},
		{"VPCs by state and owner", "vpcs", nil, []string{"state=available", "owner-id=" + account}, home + " " + lab},
		{"VPCs of another owner", "vpcs", nil, []string{"owner-id=210987654321"}, ""},
		{"VPCs by one of several values", "vpcs", nil, []string{"vpc-id=" + lab + "," + home}, home + " " + lab},
		{"VPCs by an IPv6 range, which none has", "vpcs", nil, []string{"ipv6-cidr-block-association.state=*"}, ""},
		{"VPCs by DHCP options", "vpcs", nil, []string{"dhcp-options-id=default"}, home + " " + lab},
		{"a tag's value", "vpcs", nil, []string{"tag:Name=home"}, home},
		{"a tag's value with regard to case", "vpcs", nil, []string{"tag:Name=Home"}, ""},
		{"a tag's key", "vpcs", nil, []string{"tag-key=tea?"}, home},
		{"an escaped wildcard", "vpcs", nil, []string{`tag:team=a\*b`}, home},
		{"an escaped wildcard that is not there", "vpcs", nil, []string{`tag:team=\*`}, ""},
		{"subnets of a VPC", "subnets", nil, []string{"vpc-id=" + home}, subnetA + " " + subnetB},
		{"subnets of a zone", "subnets", nil, []string{"availability-zone=eu-west-1a"}, subnetA + " " + subnetL},
		{"subnets of a zone's id", "subnets", nil, []string{"availabilityZoneId=euw1-az2"}, subnetB},
		{"default subnets", "subnets", nil, []string{"default-for-az=true"}, subnetA + " " + subnetB},
		{"a subnet by its free addresses", "subnets", nil, []string{"available-ip-address-count=7"}, subnetL},
		{"a subnet by its range", "subnets", nil, []string{"cidrBlock=10.0.0.0/28"}, subnetL},
		{"a subnet by its ARN", "subnets", nil, []string{"subnet-arn=arn:aws:ec2:eu-west-1:" + account + ":subnet/" + subnetL}, subnetL},
		{"subnets that give out public addresses", "subnets", nil, []string{"map-public-ip-on-launch=true"}, ""},
		{"groups by name", "groups", nil, []string{"group-name=default"}, groupH + " " + groupL},
		{"groups by name and VPC, as Terraform does", "groups", nil, []string{"group-name=default", "vpc-id=" + lab}, groupL},
		{"groups by description", "groups", nil, []string{"description=Amazon*"}, groupM},
		{"groups by who may come in", "groups", nil, []string{"ip-permission.group-id=" + groupL}, groupL},
		{"groups by where one may go", "groups", nil, []string{"egress.ip-permission.cidr=0.0.0.0/0"}, groupH + " " + groupL + " " + groupM},
		{"groups by port, which no rule has", "groups", nil, []string{"ip-permission.from-port=*"}, ""},
		{"all zones", "zones", nil, nil, "eu-west-1a eu-west-1b"},
		{"a zone by name", "zones", []string{"eu-west-1b"}, nil, "eu-west-1b"},
		{"a zone by filter", "zones", nil, []string{"zone-id=euw1-az1", "zone-type=availability-zone", "opt-in-status=opt-in-not-required"}, "eu-west-1a"},
		{"the region", "regions", nil, nil, "eu-west-1"},
		{"the region by name and filter", "regions", []string{"eu-west-1"}, []string{"endpoint=*west-1*"}, "eu-west-1"},
		{"no region by filter", "regions", nil, []string{"region-name=us-*"}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := s.ids(c.op, c.ids, filter(c.filters...))
			if err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("%v, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestDescribeRefuses(t *testing.T) {
	s := open(t)
	many := []ec2.Filter{{Name: shape.Ptr("vpc-id"), Values: slices.Repeat([]string{"x"}, 150)}, {Name: shape.Ptr("vpc-id"), Values: slices.Repeat([]string{"x"}, 51)}}
	cases := []struct {
		name, op   string
		ids        []string
		filters    []ec2.Filter
		code, text string
	}{
		{"a VPC that does not exist", "vpcs", []string{"vpc-00000009"}, nil, "InvalidVpcID.NotFound", "The vpc ID 'vpc-00000009' does not exist"},
		{"VPCs of which two do not exist", "vpcs", []string{"vpc-00000009", home, "vpc-00000008"}, nil, "InvalidVpcID.NotFound", "The vpc IDs 'vpc-00000008, vpc-00000009' do not exist"},
		{"a VPC id that is none", "vpcs", []string{"vpc-XYZ"}, nil, "InvalidVpcID.Malformed", `"vpc-XYZ" (expecting "vpc-...")`},
		{"a subnet that does not exist", "subnets", []string{"subnet-00000009"}, nil, "InvalidSubnetID.NotFound", "The subnet ID 'subnet-00000009' does not exist"},
		{"a subnet id that is none", "subnets", []string{home}, nil, "InvalidSubnetID.Malformed", home},
		{"a group that does not exist", "groups", []string{"sg-00000009"}, nil, "InvalidGroup.NotFound", "The security group 'sg-00000009' does not exist"},
		{"a group id that is none", "groups", []string{"default"}, nil, "InvalidGroupId.Malformed", "default"},
		{"a zone that does not exist", "zones", []string{"us-east-1a"}, nil, "InvalidParameterValue", "Invalid availability zone: [us-east-1a]"},
		{"a region that does not exist", "regions", []string{"us-east-1"}, nil, "InvalidParameterValue", "Invalid region names: [us-east-1]"},
		{"an unknown VPC filter", "vpcs", nil, filter("colour=red"), "InvalidParameterValue", "The filter 'colour' is invalid"},
		{"a filter of another case", "vpcs", nil, filter("VPC-ID=x"), "InvalidParameterValue", "The filter 'VPC-ID' is invalid"},
		{"a tag filter without a key", "vpcs", nil, filter("tag:=x"), "InvalidParameterValue", "The filter 'tag:' is invalid"},
		{"an unknown subnet filter", "subnets", nil, filter("group-name=x"), "InvalidParameterValue", "The filter 'group-name' is invalid"},
		{"an unknown group filter", "groups", nil, filter("ip-permission.colour=x"), "InvalidParameterValue", "invalid"},
		{"an unknown zone filter", "zones", nil, filter("vpc-id=x"), "InvalidParameterValue", "invalid"},
		{"tags of a region, which have none", "regions", nil, filter("tag:a=x"), "InvalidParameterValue", "invalid"},
		{"a filter without name", "vpcs", nil, []ec2.Filter{{Values: []string{"x"}}}, "MissingParameter", "Filter.Name"},
		{"a filter without values", "vpcs", nil, []ec2.Filter{{Name: shape.Ptr("vpc-id")}}, "MissingParameter", "Filter.Value"},
		{"more than 200 values", "vpcs", nil, many, "FilterLimitExceeded", "200"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.ids(c.op, c.ids, c.filters)
			check(t, err, c.code, 400, c.text)
		})
	}
	t.Run("a zone id that does not exist", func(t *testing.T) {
		_, err := s.DescribeAvailabilityZones(t.Context(), service.Call{}, &ec2.DescribeAvailabilityZonesInput{ZoneIds: []string{"use1-az1"}})
		check(t, err, "InvalidParameterValue", 400, "use1-az1")
	})
}

func TestDryRunIsAnswered(t *testing.T) {
	s, dry := open(t), shape.Ptr(true)
	for name, call := range map[string]func() error{
		"DescribeVpcs": func() error {
			_, err := s.DescribeVpcs(t.Context(), service.Call{}, &ec2.DescribeVpcsInput{DryRun: dry})
			return err
		},
		"DescribeSubnets": func() error {
			_, err := s.DescribeSubnets(t.Context(), service.Call{}, &ec2.DescribeSubnetsInput{DryRun: dry})
			return err
		},
		"DescribeSecurityGroups": func() error {
			_, err := s.DescribeSecurityGroups(t.Context(), service.Call{}, &ec2.DescribeSecurityGroupsInput{DryRun: dry})
			return err
		},
		"DescribeAvailabilityZones": func() error {
			_, err := s.DescribeAvailabilityZones(t.Context(), service.Call{}, &ec2.DescribeAvailabilityZonesInput{DryRun: dry})
			return err
		},
		"DescribeRegions": func() error {
			_, err := s.DescribeRegions(t.Context(), service.Call{}, &ec2.DescribeRegionsInput{DryRun: dry})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, call(), "DryRunOperation", 412, "Request would have succeeded, but DryRun flag is set.")
		})
	}
}

func TestPagesHoldEveryRecordOnce(t *testing.T) {
	s := open(t)
	var want []string
	put(t, s, func(tx *state.Tx) error {
		want = nil
		for i := range 23 {
			id := fmt.Sprintf("vpc-1000000000000%04d", i)
			state.Put(tx, state.VPCs, &state.VPC{ID: ident.VPCID(id), CIDR: fmt.Sprintf("10.%d.0.0/16", i)})
			if i < 20 {
				want = append(want, id)
			}
		}
		return nil
	})
	var got []string
	in := &ec2.DescribeVpcsInput{MaxResults: shape.Ptr(int32(5)), Filters: filter("cidr=10.?.0.0/16,10.1?.0.0/16", "vpc-id=vpc-1*")}
	for range 10 {
		out, err := s.DescribeVpcs(t.Context(), service.Call{}, in)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range out.Vpcs {
			got = append(got, *v.VpcId)
		}
		if len(out.Vpcs) > 5 {
			t.Errorf("a page of %d", len(out.Vpcs))
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	t.Run("a foreign token is refused", func(t *testing.T) {
		sub, err := s.DescribeSubnets(t.Context(), service.Call{}, &ec2.DescribeSubnetsInput{MaxResults: shape.Ptr(int32(1))})
		if err != nil || sub.NextToken == nil {
			t.Fatal(err)
		}
		for _, token := range []string{"", "x", "!", *sub.NextToken, *sub.NextToken + "A"} {
			_, err := s.DescribeVpcs(t.Context(), service.Call{}, &ec2.DescribeVpcsInput{NextToken: &token})
			check(t, err, "InvalidNextToken", 400, "NextToken")
		}
	})
	t.Run("ids and a page size are refused together", func(t *testing.T) {
		_, err := s.DescribeVpcs(t.Context(), service.Call{}, &ec2.DescribeVpcsInput{VpcIds: []string{home}, MaxResults: shape.Ptr(int32(5))})
		check(t, err, "InvalidParameterCombination", 400, "vpcIds")
		_, err = s.DescribeSecurityGroups(t.Context(), service.Call{}, &ec2.DescribeSecurityGroupsInput{GroupNames: []string{"default"}, MaxResults: shape.Ptr(int32(5))})
		check(t, err, "InvalidParameterCombination", 400, "groupNames")
	})
}

func TestAnswersAreWhole(t *testing.T) {
	s := open(t)
	t.Run("a VPC", func(t *testing.T) {
		out, err := s.DescribeVpcs(t.Context(), service.Call{}, &ec2.DescribeVpcsInput{VpcIds: []string{home}})
		if err != nil {
			t.Fatal(err)
		}
		v := out.Vpcs[0]
		if *v.OwnerId != account || *v.CidrBlock != "172.31.0.0/16" || *v.State != "available" || *v.InstanceTenancy != "default" || !*v.IsDefault ||
			len(v.Tags) != 2 || *v.Tags[0].Key != "Name" || *v.Tags[0].Value != "home" || *v.CidrBlockAssociationSet[0].CidrBlockState.State != "associated" {
			t.Errorf("%+v", v)
		}
	})
	t.Run("a subnet counts its free addresses", func(t *testing.T) {
		out, err := s.DescribeSubnets(t.Context(), service.Call{}, &ec2.DescribeSubnetsInput{SubnetIds: []string{subnetA, subnetL}})
		if err != nil {
			t.Fatal(err)
		}
		a, l := out.Subnets[0], out.Subnets[1]
		if *a.AvailableIpAddressCount != 4090 || *l.AvailableIpAddressCount != 16-6-3 || *a.AvailabilityZoneId != "euw1-az1" || *l.VpcId != lab || *l.State != "available" {
			t.Errorf("%d %d %+v", *a.AvailableIpAddressCount, *l.AvailableIpAddressCount, l)
		}
	})
	t.Run("only the default group lets its own members in", func(t *testing.T) {
		out, err := s.DescribeSecurityGroups(t.Context(), service.Call{}, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{groupH, groupM}})
		if err != nil {
			t.Fatal(err)
		}
		h, m := out.SecurityGroups[0], out.SecurityGroups[1]
		if len(h.IpPermissions) != 1 || *h.IpPermissions[0].UserIdGroupPairs[0].GroupId != groupH || len(m.IpPermissions) != 0 || *m.OwnerId != account ||
			*m.SecurityGroupArn != "arn:aws:ec2:eu-west-1:"+account+":security-group/"+groupM {
			t.Errorf("%+v %+v", h, m)
		}
	})
	t.Run("a group name is one of the default VPC", func(t *testing.T) {
		out, err := s.DescribeSecurityGroups(t.Context(), service.Call{}, &ec2.DescribeSecurityGroupsInput{GroupNames: []string{"default"}})
		if err != nil || len(out.SecurityGroups) != 1 || *out.SecurityGroups[0].GroupId != groupH {
			t.Errorf("%+v, %v", out, err)
		}
		_, err = s.DescribeSecurityGroups(t.Context(), service.Call{}, &ec2.DescribeSecurityGroupsInput{GroupNames: []string{"nobody"}})
		check(t, err, "InvalidGroup.NotFound", 400, "'nobody' does not exist in default VPC '"+home+"'")
	})
	t.Run("nothing found is an empty list", func(t *testing.T) {
		out, err := s.DescribeVpcs(t.Context(), service.Call{}, &ec2.DescribeVpcsInput{Filters: filter("vpc-id=none")})
		if err != nil || out.Vpcs == nil || len(out.Vpcs) != 0 || out.NextToken != nil {
			t.Errorf("%+v, %v", out, err)
		}
	})
}

func TestEveryFilterWorksOnEveryRecord(t *testing.T) {
	s := open(t)
	every := func(op string, names []string) {
		for _, name := range names {
			if _, err := s.ids(op, nil, filter(name+"=*")); err != nil {
				t.Errorf("%s by %s: %v", op, name, err)
			}
		}
	}
	every("vpcs", keys(vpcFilters.of))
	every("subnets", keys(subnetFilters.of))
	every("groups", keys(groupFilters.of))
	every("zones", keys(zoneFilters.of))
	every("regions", keys(regionFilters.of))
}

func keys[T any](of map[string]func(*T) []string) (names []string) {
	for name := range of {
		names = append(names, name)
	}
	return names
}

func TestBindPutsEveryOperation(t *testing.T) {
	table := service.Table{}
	new(Service).Bind(table)
	if len(table) != 5 {
		t.Errorf("%d operations", len(table))
	}
}

func TestAvailable(t *testing.T) {
	for _, c := range []struct {
		cidr  string
		taken int
		want  int32
	}{{"10.0.0.0/28", 0, 10}, {"10.0.0.0/28", 10, 0}, {"10.0.0.0/28", 99, 0}, {"10.0.0.0/30", 0, 0}, {"10.0.0.0/16", 1, 65529}, {"x", 0, 0}, {"fd00::/64", 0, 0}} {
		if got := available(c.cidr, c.taken); got != c.want {
			t.Errorf("available(%s, %d) = %d, want %d", c.cidr, c.taken, got, c.want)
		}
	}
}

func TestWildcard(t *testing.T) {
	for _, c := range []struct {
		pattern, value string
		want           bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"?", "", false}, {"?", "é", true}, {"a*", "abc", true}, {"*c", "abc", true},
		{"a*c", "abbc", true}, {"a*c", "abbd", false}, {"*a*b*", "xxaxxbxx", true}, {"a?c", "abc", true}, {"a?c", "ac", false},
		{`\?`, "?", true}, {`\?`, "x", false}, {`\*x`, "*x", true}, {`a\`, `a\`, true}, {`\\`, `\`, true}, {"**", "x", true}, {"A", "a", false},
		{"a*\\*b", "axx*b", true}, {"ab", "abc", false},
	} {
		if got := wildcard(c.pattern, c.value); got != c.want {
			t.Errorf("wildcard(%q, %q) = %t", c.pattern, c.value, got)
		}
	}
}

func FuzzWildcard(f *testing.F) {
	f.Add("a*b?", "axxb")
	f.Add(`\`, `\`)
	f.Fuzz(func(t *testing.T, pattern, value string) {
		if len(pattern)+len(value) > 2000 {
			return
		}
		got := wildcard(pattern, value)
		if !strings.ContainsAny(pattern, `*?\`) && got != (string([]rune(pattern)) == string([]rune(value))) {
			t.Errorf("wildcard(%q, %q) = %t", pattern, value, got)
		}
		if !wildcard("*", value) {
			t.Errorf("* does not match %q", value)
		}
	})
}
