package authz

import (
	"strings"

	"carrel/internal/api/ec2"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/policy"
	"carrel/internal/state"
)

// The condition keys of ec2 that say something of the resource.
var (
	keyVPC          = policy.NewKey("ec2:Vpc")
	keyZone         = policy.NewKey("ec2:AvailabilityZone")
	keyZoneID       = policy.NewKey("ec2:AvailabilityZoneId")
	keyCreateAction = policy.NewKey("ec2:CreateAction")
	keyVPCEService  = policy.NewKey("ec2:VpceServiceName")
)

// ec2Type is a resource type of ec2. idKey is the condition key that has the resource's id, tags and more say what its record has; each may be missing.
type ec2Type struct {
	name, idKey string
	tags        func(e *env, id string) map[string]string
	more        func(e *env, id string) []keyed
}

func (x ec2Type) kind() *kind {
	k := &kind{service: "ec2", prefix: x.name + "/", tags: x.tags, tagKey: "ec2:ResourceTag/"}
	if x.idKey == "" && x.more == nil {
		return k
	}
	plain, key := *k, policy.NewKey(x.idKey)
	k.named = func(e *env, id string) target {
		t := plain.target(e, id)
		if x.idKey != "" {
			t.keys = append(t.keys, keyed{key, id})
		}
		if x.more != nil {
			t.keys = append(t.keys, x.more(e, id)...)
		}
		return t
	}
	return k
}

func inVPC(e *env, id string) keyed {
	return keyed{keyVPC, vpc.arn(e, id)}
}

// The resource types of ec2 that operations name. Only the first three have records.
var (
	vpc    = ec2Type{name: "vpc", idKey: "ec2:VpcID", tags: tagsOf(state.VPCs)}.kind()
	subnet = ec2Type{name: "subnet", idKey: "ec2:SubnetID", tags: tagsOf(state.Subnets), more: func(e *env, id string) []keyed {
		if s, ok := state.Get(e.snapshot, state.Subnets, id); ok {
			return []keyed{inVPC(e, string(s.VPCID)), {keyZone, s.Zone}, {keyZoneID, s.ZoneID}}
		}
		return nil
	}}.kind()
	securityGroup = ec2Type{name: "security-group", idKey: "ec2:SecurityGroupID", tags: tagsOf(state.SecurityGroups), more: func(e *env, id string) []keyed {
		if g, ok := state.Get(e.snapshot, state.SecurityGroups, id); ok {
			return []keyed{inVPC(e, string(g.VPCID))}
		}
		return nil
	}}.kind()

	customerGateway   = ec2Type{name: "customer-gateway"}.kind()
	dhcpOptions       = ec2Type{name: "dhcp-options", idKey: "ec2:DhcpOptionsID"}.kind()
	egressGateway     = ec2Type{name: "egress-only-internet-gateway"}.kind()
	elasticIP         = ec2Type{name: "elastic-ip", idKey: "ec2:AllocationId"}.kind()
	endpoint          = ec2Type{name: "vpc-endpoint"}.kind()
	endpointService   = ec2Type{name: "vpc-endpoint-service"}.kind()
	flowLog           = ec2Type{name: "vpc-flow-log"}.kind()
	instance          = ec2Type{name: "instance", idKey: "ec2:InstanceID"}.kind()
	internetGateway   = ec2Type{name: "internet-gateway", idKey: "ec2:InternetGatewayID"}.kind()
	ipamPool          = &kind{service: "ec2", prefix: "ipam-pool/", global: true, tagKey: "ec2:ResourceTag/"}
	ipv4Pool          = ec2Type{name: "ipv4pool-ec2"}.kind()
	ipv6Pool          = ec2Type{name: "ipv6pool-ec2"}.kind()
	natGateway        = ec2Type{name: "natgateway"}.kind()
	networkACL        = ec2Type{name: "network-acl", idKey: "ec2:NetworkAclID"}.kind()
	networkInterface  = ec2Type{name: "network-interface", idKey: "ec2:NetworkInterfaceID"}.kind()
	peering           = ec2Type{name: "vpc-peering-connection", idKey: "ec2:VpcPeeringConnectionID"}.kind()
	prefixList        = ec2Type{name: "prefix-list"}.kind()
	routeTable        = ec2Type{name: "route-table", idKey: "ec2:RouteTableID"}.kind()
	securityGroupRule = ec2Type{name: "security-group-rule"}.kind()
	transitGateway    = ec2Type{name: "transit-gateway", idKey: "ec2:transitGatewayId"}.kind()
	vpnConcentrator   = ec2Type{name: "vpn-concentrator"}.kind()
	vpnConnection     = ec2Type{name: "vpn-connection"}.kind()
	vpnGateway        = ec2Type{name: "vpn-gateway"}.kind()
)

// namedGroup is a security group by its id, or by the input's GroupName: then it is one of the default VPC.
var namedGroup = func() *kind {
	k := *securityGroup
	k.missing = func(e *env) target {
		if name := e.in.field("GroupName"); name != "" {
			for g := range state.All(e.snapshot, state.SecurityGroups) {
				if v, ok := state.Get(e.snapshot, state.VPCs, string(g.VPCID)); ok && v.Default && g.Name == name {
					return securityGroup.target(e, string(g.ID))
				}
			}
		}
		return target{arn: securityGroup.arn(e, "*"), account: e.Account}
	}
	return &k
}()

// byPrefix are the types by what their ids begin with.
var byPrefix = map[string]*kind{
	"acl": networkACL, "cgw": customerGateway, "dopt": dhcpOptions, "eigw": egressGateway, "eipalloc": elasticIP, "eni": networkInterface, "fl": flowLog, "i": instance,
	"igw": internetGateway, "ipam-pool": ipamPool, "ipv4pool-ec2": ipv4Pool, "ipv6pool-ec2": ipv6Pool, "nat": natGateway, "pcx": peering, "pl": prefixList, "rtb": routeTable,
	"sg": securityGroup, "sgr": securityGroupRule, "subnet": subnet, "tgw": transitGateway, "vgw": vpnGateway, "vpc": vpc, "vpce": endpoint, "vpce-svc": endpointService, "vpn": vpnConnection,
}

// anything is a resource of the type that its id tells; an id that tells none is of no type that a policy could name.
var anything = &kind{service: "ec2", prefix: "*/", named: func(e *env, id string) target {
	if k := byPrefix[id[:max(0, strings.LastIndexByte(id, '-'))]]; k != nil {
		return k.target(e, id)
	}
	return target{arn: arn.ARN{Partition: e.Partition, Service: "ec2", Region: e.Region, Account: e.Account, Resource: "*/" + id}.String(), account: e.Account}
}}

// made is what the operation makes: any of the type, and it alone has the request's tags for that type.
func (k *kind) made(more ...func(*env) []keyed) on {
	c := *k
	c.missing = func(e *env) target {
		t := target{arn: k.arn(e, "*"), account: e.Account, keys: requestTags(e, strings.TrimSuffix(k.prefix, "/"))}
		for _, fn := range more {
			t.keys = append(t.keys, fn(e)...)
		}
		return t
	}
	return c.any()
}

// ofService is the service that an endpoint is made for.
func ofService(e *env) []keyed {
	if name := e.in.field("ServiceName"); name != "" {
		return []keyed{{keyVPCEService, name}}
	}
	return nil
}

// requestTags are the tags that a request's tag specifications have for a type of resources.
func requestTags(e *env, of string) []keyed {
	if !e.in.v.IsValid() {
		return nil
	}
	f := e.in.v.FieldByName("TagSpecifications")
	if !f.IsValid() {
		return nil
	}
	specs, _ := f.Interface().([]ec2.TagSpecification)
	var keys []keyed
	for _, spec := range specs {
		if string(shape.Val(spec.ResourceType)) != of {
			continue
		}
		for _, tag := range spec.Tags {
			name := shape.Val(tag.Key)
			keys = append(keys, keyed{policy.NewKey("aws:RequestTag/" + name), shape.Val(tag.Value)}, keyed{keyTagKeys, name})
		}
	}
	return keys
}

// specified is a type that a request has tags for. What is made with tags needs ec2:CreateTags too, on any of the type, and policies may ask which
// operation it is made by.
var specified = &kind{service: "ec2", named: specifiedType, missing: func(e *env) target { return specifiedType(e, "") }}

func specifiedType(e *env, of string) target {
	t := target{arn: specifiedARN(e, of), account: e.Account, keys: requestTags(e, of)}
	t.keys = append(t.keys, keyed{keyCreateAction, e.op.Name})
	return t
}

func specifiedARN(e *env, of string) string {
	if of == "" {
		of = "*"
	}
	return arn.ARN{Partition: e.Partition, Service: "ec2", Region: e.Region, Account: e.Account, Resource: of + "/*"}.String()
}

// createTags is for operations whose requests may have tags for what they make.
var createTags = []also{{action: "ec2:CreateTags", on: specified.at("TagSpecifications.ResourceType"), when: "TagSpecifications.Tags"}}

// ruleTags are for security group rules that are made with tags: the rules are asked for only then.
func ruleTags(operation string) []also {
	return append([]also{{action: "ec2:" + operation, on: securityGroupRule.made(), when: "TagSpecifications.Tags"}}, createTags...)
}
