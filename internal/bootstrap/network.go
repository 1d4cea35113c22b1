package bootstrap

import (
	"carrel/internal/ident"
	"carrel/internal/region"
	"carrel/internal/state"
)

// The default VPC, as AWS makes it (VPC user guide, "Default VPCs"), with a subnet in each of two zones.
const defaultCIDR = "172.31.0.0/16"

var subnetPlan = [...]struct {
	cidr string
	// dns is the address of the simulated directory's controller there. AWS reserves the first four addresses of a subnet.
	dns string
}{
	{"172.31.0.0/20", "172.31.0.10"},
	{"172.31.16.0/20", "172.31.16.10"},
}

// network collects the default VPC, its subnets and its default security group in tx.
func (o Options) network(tx *state.Tx, regionName string) network {
	meta := state.Meta{Created: tx.Now()}
	n := network{vpc: ident.NewVPCID(o.Rand)}
	state.Put(tx, state.VPCs, &state.VPC{Meta: meta, ID: n.vpc, CIDR: defaultCIDR, Default: true, DNSNames: true, DNSLookup: true})
	zones := region.Zones(regionName)
	for i, plan := range subnetPlan {
		id := ident.NewSubnetID(o.Rand)
		n.subnets, n.zones = append(n.subnets, id), append(n.zones, zones[i].Name)
		state.Put(tx, state.Subnets, &state.Subnet{Meta: meta, ID: id, VPCID: n.vpc, CIDR: plan.cidr, Zone: zones[i].Name, ZoneID: zones[i].ID, Default: true})
	}
	o.group(tx, n.vpc, "default", "default VPC security group")
	return n
}

// network is what the simulated directory needs to know of the default network.
type network struct {
	vpc     ident.VPCID
	subnets []ident.SubnetID
	zones   []string
}

// group collects a security group in tx.
func (o Options) group(tx *state.Tx, vpc ident.VPCID, name, description string) ident.SecurityGroupID {
	id := ident.NewSecurityGroupID(o.Rand)
	state.Put(tx, state.SecurityGroups, &state.SecurityGroup{Meta: state.Meta{Created: tx.Now()}, ID: id, VPCID: vpc, Name: name, Description: description})
	return id
}
