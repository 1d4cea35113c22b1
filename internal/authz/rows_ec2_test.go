package authz_test

import (
	"testing"

	"carrel/internal/api/cloudtrail"
	"carrel/internal/api/ds"
	"carrel/internal/api/dsdata"
	"carrel/internal/api/ec2"
	"carrel/internal/api/shape"
	"carrel/internal/state"
)

const (
	ec2ARN = "arn:aws:ec2:us-east-1:123456789012:"
	dsARN  = "arn:aws:ds:us-east-1:123456789012:"
)

// network is a default VPC and another one, each with a subnet and a group; those of the second are red.
func network(w *world) {
	red := state.Meta{Tags: map[string]string{"team": "red"}}
	w.update(func(tx *state.Tx) {
		state.Put(tx, state.VPCs, &state.VPC{ID: "vpc-1", Default: true})
		state.Put(tx, state.Subnets, &state.Subnet{ID: "subnet-1", VPCID: "vpc-1", Zone: "us-east-1a", ZoneID: "use1-az1"})
		state.Put(tx, state.SecurityGroups, &state.SecurityGroup{ID: "sg-1", VPCID: "vpc-1", Name: "web"})
		state.Put(tx, state.VPCs, &state.VPC{Meta: red, ID: "vpc-2"})
		state.Put(tx, state.Subnets, &state.Subnet{Meta: red, ID: "subnet-2", VPCID: "vpc-2", Zone: "us-east-1b", ZoneID: "use1-az2"})
		state.Put(tx, state.SecurityGroups, &state.SecurityGroup{Meta: red, ID: "sg-2", VPCID: "vpc-2", Name: "web"})
	})
}

func tagged(of ec2.ResourceType, key, value string) []ec2.TagSpecification {
	return []ec2.TagSpecification{{ResourceType: &of, Tags: []ec2.Tag{{Key: &key, Value: &value}}}}
}

func TestEC2TagsAtCreation(t *testing.T) {
	w := newWorld(t)
	network(w)
	op := ec2.CreateSubnet.Operation
	in := func(specs []ec2.TagSpecification) *ec2.CreateSubnetInput {
		return &ec2.CreateSubnetInput{VpcId: shape.Ptr("vpc-1"), TagSpecifications: specs}
	}
	red, blue := tagged(ec2.ResourceTypeSubnet, "team", "red"), tagged(ec2.ResourceTypeSubnet, "team", "blue")
	create := both(allow("ec2:CreateSubnet", ec2ARN+"vpc/*"), allow("ec2:CreateSubnet", ec2ARN+"subnet/*", `{"StringEquals":{"aws:RequestTag/team":"red"}}`))
	const noTags = "ec2:CreateTags on resource: " + ec2ARN + "subnet/* because no identity-based policy allows the ec2:CreateTags action"
	t.Run("IAM-6 what is made has the request's tags, the VPC it is made in does not", func(t *testing.T) {
		p := w.user("a", both(create, allow("ec2:CreateTags", "*")))
		w.allowed(p, op, in(red))
		w.refused(p, op, in(blue), ec2ARN+"subnet/*")
		w.refused(p, op, in(nil), ec2ARN+"subnet/*")
		w.refused(w.user("b", allow("ec2:*", "*", `{"StringEquals":{"aws:RequestTag/team":"red"}}`)), op, in(red), ec2ARN+"vpc/vpc-1")
	})
	t.Run("tags for another type are not those of what is made", func(t *testing.T) {
		w.refused(w.user("c", both(create, allow("ec2:CreateTags", "*"))), op, in(tagged(ec2.ResourceTypeVpc, "team", "red")), ec2ARN+"subnet/*")
	})
	t.Run("tags need ec2:CreateTags, and only they do", func(t *testing.T) {
		p := w.user("d", allow("ec2:CreateSubnet", "*"))
		w.allowed(p, op, in(nil))
		w.denied(p, op, in(red), noTags)
	})
	t.Run("ec2:CreateAction is the operation", func(t *testing.T) {
		w.allowed(w.user("e", both(create, allow("ec2:CreateTags", ec2ARN+"subnet/*", `{"StringEquals":{"ec2:CreateAction":"CreateSubnet","aws:RequestTag/team":"red"}}`))), op, in(red))
		w.denied(w.user("f", both(create, allow("ec2:CreateTags", "*", `{"StringEquals":{"ec2:CreateAction":"CreateVpc"}}`))), op, in(red), noTags)
		// Tags of what is there already come by no other operation.
		w.refused(w.user("g", allow("ec2:CreateTags", "*", `{"StringLike":{"ec2:CreateAction":"*"}}`)), ec2.CreateTags.Operation,
			&ec2.CreateTagsInput{Resources: []string{"vpc-1"}}, ec2ARN+"vpc/vpc-1")
	})
	t.Run("rules of a group are asked for when they get tags", func(t *testing.T) {
		p := w.user("h", both(allow("ec2:AuthorizeSecurityGroupIngress", ec2ARN+"security-group/*"), allow("ec2:CreateTags", "*")))
		w.allowed(p, ec2.AuthorizeSecurityGroupIngress.Operation, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: shape.Ptr("sg-1")})
		w.refused(p, ec2.AuthorizeSecurityGroupIngress.Operation, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: shape.Ptr("sg-1"),
			TagSpecifications: tagged(ec2.ResourceTypeSecurityGroupRule, "a", "b")}, ec2ARN+"security-group-rule/*")
	})
}

func TestEC2Tagging(t *testing.T) {
	w := newWorld(t)
	network(w)
	for id, resource := range map[string]string{
		"vpc-1": "vpc/", "subnet-1": "subnet/", "sg-1": "security-group/", "sgr-1": "security-group-rule/", "eni-1": "network-interface/", "igw-1": "internet-gateway/",
		"eigw-1": "egress-only-internet-gateway/", "nat-1": "natgateway/", "rtb-1": "route-table/", "acl-1": "network-acl/", "vpce-1": "vpc-endpoint/", "vpce-svc-1": "vpc-endpoint-service/",
		"cgw-1": "customer-gateway/", "vgw-1": "vpn-gateway/", "vpn-1": "vpn-connection/", "eipalloc-1": "elastic-ip/", "dopt-1": "dhcp-options/", "pcx-1": "vpc-peering-connection/",
		"fl-1": "vpc-flow-log/", "pl-1": "prefix-list/", "odd-1": "*/", "": "*/", "vpc": "*/",
	} {
		w.refused(w.user("none", ""), ec2.CreateTags.Operation, &ec2.CreateTagsInput{Resources: []string{id}}, ec2ARN+resource+id)
	}
	w.refused(w.user("none", ""), ec2.CreateTags.Operation, &ec2.CreateTagsInput{Resources: []string{"ipam-pool-1"}}, "arn:aws:ec2::123456789012:ipam-pool/ipam-pool-1")
	t.Run("IAM-6 one forbidden id in a batch", func(t *testing.T) {
		p := w.user("a", allow("ec2:*Tags", ec2ARN+"vpc/*"))
		w.allowed(p, ec2.CreateTags.Operation, &ec2.CreateTagsInput{Resources: []string{"vpc-1", "vpc-2"}})
		w.refused(p, ec2.DeleteTags.Operation, &ec2.DeleteTagsInput{Resources: []string{"vpc-1", "subnet-1", "vpc-2"}}, ec2ARN+"subnet/subnet-1")
	})
	t.Run("keys and tags of the request and of each resource", func(t *testing.T) {
		p := w.user("b", allow("ec2:*Tags", "*", `{"StringEquals":{"ec2:ResourceTag/team":"red","aws:ResourceTag/team":"red"},"ForAllValues:StringEquals":{"aws:TagKeys":["cost"]}}`))
		cost := []ec2.Tag{{Key: shape.Ptr("cost"), Value: shape.Ptr("1")}}
		w.allowed(p, ec2.CreateTags.Operation, &ec2.CreateTagsInput{Resources: []string{"vpc-2", "subnet-2", "sg-2"}, Tags: cost})
		w.refused(p, ec2.CreateTags.Operation, &ec2.CreateTagsInput{Resources: []string{"vpc-2", "vpc-1"}, Tags: cost}, ec2ARN+"vpc/vpc-1")
		w.refused(p, ec2.DeleteTags.Operation, &ec2.DeleteTagsInput{Resources: []string{"sg-2"}, Tags: []ec2.Tag{{Key: shape.Ptr("team")}}}, ec2ARN+"security-group/sg-2")
	})
}

func TestEC2Resources(t *testing.T) {
	w := newWorld(t)
	network(w)
	t.Run("lists are of everything", func(t *testing.T) {
		w.allowed(w.user("a", allow("ec2:Describe*", "*", `{"StringEquals":{"ec2:Region":"us-east-1"}}`)), ec2.DescribeVpcs.Operation, nil)
		w.refused(w.user("b", allow("ec2:Describe*", ec2ARN+"vpc/*")), ec2.DescribeVpcs.Operation, &ec2.DescribeVpcsInput{VpcIds: []string{"vpc-1"}}, "*")
	})
	t.Run("ec2:Vpc is the VPC that a subnet or group is in", func(t *testing.T) {
		p := w.user("c", allow("ec2:*", "*", `{"ArnEquals":{"ec2:Vpc":"`+ec2ARN+`vpc/vpc-2"}}`))
		w.allowed(p, ec2.DeleteSecurityGroup.Operation, &ec2.DeleteSecurityGroupInput{GroupId: shape.Ptr("sg-2")})
		w.allowed(p, ec2.DeleteSubnet.Operation, &ec2.DeleteSubnetInput{SubnetId: shape.Ptr("subnet-2")})
		w.refused(p, ec2.DeleteSubnet.Operation, &ec2.DeleteSubnetInput{SubnetId: shape.Ptr("subnet-1")}, ec2ARN+"subnet/subnet-1")
		w.refused(p, ec2.DeleteSubnet.Operation, &ec2.DeleteSubnetInput{SubnetId: shape.Ptr("subnet-9")}, ec2ARN+"subnet/subnet-9")
		q := w.user("d", allow("ec2:*", "*", `{"StringEquals":{"ec2:AvailabilityZone":"us-east-1a","ec2:AvailabilityZoneId":"use1-az1","ec2:SubnetID":"subnet-1"}}`))
		w.allowed(q, ec2.ModifySubnetAttribute.Operation, &ec2.ModifySubnetAttributeInput{SubnetId: shape.Ptr("subnet-1")})
		w.refused(q, ec2.ModifySubnetAttribute.Operation, &ec2.ModifySubnetAttributeInput{SubnetId: shape.Ptr("subnet-2")}, ec2ARN+"subnet/subnet-2")
	})
	t.Run("a group's name does not lead around a deny of its id", func(t *testing.T) {
		p := w.user("e", both(allow("ec2:*", "*"), document("Deny", "ec2:*", ec2ARN+"security-group/sg-1")))
		w.denied(p, ec2.DeleteSecurityGroup.Operation, &ec2.DeleteSecurityGroupInput{GroupName: shape.Ptr("web")},
			"ec2:DeleteSecurityGroup on resource: "+ec2ARN+"security-group/sg-1 with an explicit deny in an identity-based policy")
		w.refused(w.user("f", allow("ec2:*", ec2ARN+"security-group/sg-?")), ec2.DeleteSecurityGroup.Operation, &ec2.DeleteSecurityGroupInput{GroupName: shape.Ptr("none")}, ec2ARN+"security-group/*")
	})
	t.Run("what is not required is asked for when it is named", func(t *testing.T) {
		p := w.user("g", both(allow("ec2:*", ec2ARN+"network-interface/*"), allow("ec2:*", ec2ARN+"subnet/subnet-1")))
		in := &ec2.CreateNetworkInterfaceInput{SubnetId: shape.Ptr("subnet-1")}
		w.allowed(p, ec2.CreateNetworkInterface.Operation, in)
		in.Groups = []string{"sg-1"}
		w.refused(p, ec2.CreateNetworkInterface.Operation, in, ec2ARN+"security-group/sg-1")
		// When nothing of that is named, it is not as if nothing were asked for.
		w.refused(p, ec2.CreateVpcEndpointConnectionNotification.Operation, nil, "*")
		w.refused(p, ec2.CreateVpcEndpointConnectionNotification.Operation, &ec2.CreateVpcEndpointConnectionNotificationInput{ServiceId: shape.Ptr("vpce-svc-1")}, ec2ARN+"vpc-endpoint-service/vpce-svc-1")
	})
	t.Run("an endpoint's service is a key of the endpoint alone", func(t *testing.T) {
		only := allow("ec2:CreateVpcEndpoint", ec2ARN+"vpc-endpoint/*", `{"StringEquals":{"ec2:VpceServiceName":"com.amazonaws.us-east-1.workspaces"}}`)
		in := &ec2.CreateVpcEndpointInput{VpcId: shape.Ptr("vpc-1"), ServiceName: shape.Ptr("com.amazonaws.us-east-1.workspaces")}
		w.refused(w.user("h", allow("ec2:*", "*", `{"StringLike":{"ec2:VpceServiceName":"*"}}`)), ec2.CreateVpcEndpoint.Operation, in, ec2ARN+"vpc/vpc-1")
		p := w.user("i", both(only, allow("ec2:CreateVpcEndpoint", ec2ARN+"vpc/*")))
		w.allowed(p, ec2.CreateVpcEndpoint.Operation, in)
		in.ServiceName = shape.Ptr("com.amazonaws.us-east-1.sts")
		w.refused(p, ec2.CreateVpcEndpoint.Operation, in, ec2ARN+"vpc-endpoint/*")
	})
}

func TestDirectoriesHaveOtherTagsWithOtherServices(t *testing.T) {
	w := newWorld(t)
	w.update(func(tx *state.Tx) {
		d := &state.Directory{ID: "d-1", Registration: &state.Registration{Tags: map[string]string{"team": "blue"}}}
		d.Tags, d.Spec.Name = map[string]string{"team": "red"}, "corp.example.com"
		state.Put(tx, state.Directories, d)
	})
	red := `{"StringEquals":{"aws:ResourceTag/team":"red"}}`
	t.Run("ds", func(t *testing.T) {
		p := w.user("a", allow("ds:*", "*", red))
		w.allowed(p, ds.DeleteDirectory.Operation, &ds.DeleteDirectoryInput{DirectoryId: shape.Ptr("d-1")})
		w.refused(p, ds.DeleteDirectory.Operation, &ds.DeleteDirectoryInput{DirectoryId: shape.Ptr("d-2")}, dsARN+"directory/d-2")
		w.refused(p, ds.DescribeDirectories.Operation, &ds.DescribeDirectoriesInput{DirectoryIds: []string{"d-1"}}, "*")
		w.refused(p, ds.DeleteSnapshot.Operation, &ds.DeleteSnapshotInput{SnapshotId: shape.Ptr("s-1")}, dsARN+"directory/*")
		q := w.user("b", allow("ds:CreateDirectory", "*", `{"StringEquals":{"aws:RequestTag/team":"red"}}`))
		w.allowed(q, ds.CreateDirectory.Operation, &ds.CreateDirectoryInput{Tags: []ds.Tag{{Key: shape.Ptr("team"), Value: shape.Ptr("red")}}})
		w.refused(q, ds.CreateDirectory.Operation, &ds.CreateDirectoryInput{}, "*")
	})
	t.Run("ds-data needs ds:AccessDSData", func(t *testing.T) {
		in := &dsdata.CreateUserInput{DirectoryId: shape.Ptr("d-1"), SAMAccountName: shape.Ptr("ada")}
		w.denied(w.user("c", allow("ds-data:*", "*")), dsdata.CreateUser.Operation, in,
			"ds:AccessDSData on resource: "+dsARN+"directory/d-1 because no identity-based policy allows the ds:AccessDSData action")
		w.refused(w.user("d", allow("ds:*", "*")), dsdata.CreateUser.Operation, in, dsARN+"directory/d-1")
		w.allowed(w.user("e", both(allow("ds-data:*", dsARN+"directory/d-1", red), allow("ds:AccessDSData", dsARN+"directory/d-1"))), dsdata.CreateUser.Operation, in)
	})
	t.Run("ds-data's keys", func(t *testing.T) {
		access := allow("ds:AccessDSData", "*")
		p := w.user("f", both(access, allow("ds-data:*", "*", `{"StringEqualsIgnoreCase":{"ds-data:SAMAccountName":"Team","ds-data:MemberName":"ada","ds-data:Identifier":"SAMAccountName","ds-data:Realm":"corp.example.com"}}`)))
		in := &dsdata.AddGroupMemberInput{DirectoryId: shape.Ptr("d-1"), GroupName: shape.Ptr("team"), MemberName: shape.Ptr("ada")}
		w.allowed(p, dsdata.AddGroupMember.Operation, in)
		in.MemberName = shape.Ptr("bob")
		w.refused(p, dsdata.AddGroupMember.Operation, in, dsARN+"directory/d-1")
		q := w.user("g", both(access, allow("ds-data:*", "*", `{"StringEquals":{"ds-data:Realm":"other.example.com"}}`)))
		w.allowed(q, dsdata.ListUsers.Operation, &dsdata.ListUsersInput{DirectoryId: shape.Ptr("d-1"), Realm: shape.Ptr("other.example.com")})
		w.refused(q, dsdata.ListUsers.Operation, &dsdata.ListUsersInput{DirectoryId: shape.Ptr("d-1")}, dsARN+"directory/d-1")
		w.refused(w.user("h", both(access, allow("ds-data:List*", "*", `{"StringLike":{"ds-data:Identifier":"*"}}`))), dsdata.ListUsers.Operation,
			&dsdata.ListUsersInput{DirectoryId: shape.Ptr("d-1")}, dsARN+"directory/d-1")
	})
	t.Run("a search needs what describes what it finds", func(t *testing.T) {
		p := w.user("i", both(allow("ds:AccessDSData", "*"), allow("ds-data:SearchUsers", "*")))
		w.denied(p, dsdata.SearchUsers.Operation, &dsdata.SearchUsersInput{DirectoryId: shape.Ptr("d-1")},
			"ds-data:DescribeUser on resource: "+dsARN+"directory/d-1 because no identity-based policy allows the ds-data:DescribeUser action")
	})
}

func TestTrails(t *testing.T) {
	w := newWorld(t)
	const trails = "arn:aws:cloudtrail:us-east-1:123456789012:trail/"
	p := w.user("a", allow("cloudtrail:*", trails+"main"))
	w.allowed(p, cloudtrail.GetTrail.Operation, &cloudtrail.GetTrailInput{Name: shape.Ptr("main")})
	w.allowed(p, cloudtrail.GetTrailStatus.Operation, &cloudtrail.GetTrailStatusInput{Name: shape.Ptr(trails + "main")})
	w.refused(p, cloudtrail.GetTrail.Operation, &cloudtrail.GetTrailInput{Name: shape.Ptr("other")}, trails+"other")
	w.refused(p, cloudtrail.ListTags.Operation, &cloudtrail.ListTagsInput{ResourceIdList: []string{trails + "main", trails + "other"}}, trails+"other")
	w.refused(p, cloudtrail.LookupEvents.Operation, nil, "*")
	w.allowed(w.user("b", allow("cloudtrail:LookupEvents", "*")), cloudtrail.LookupEvents.Operation, nil)
}
