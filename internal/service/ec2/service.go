// Package ec2 carries out the operations of Amazon EC2 that describe Carrel's networks: regions, Availability Zones, VPCs, subnets
// and security groups (EC2 API reference, 2016-11-15).
//
// It refuses to see HTTP and signatures (front, identity) and to touch networks: it answers from records.
package ec2

import (
	"carrel/internal/api/ec2"
	"carrel/internal/region"
	"carrel/internal/service"
	"carrel/internal/state"
)

// Service carries out the operations. Its methods may be called concurrently.
type Service struct {
	DB *state.DB
	// AccountID is the account of 12 digits, Region "us-east-1", Partition "aws".
	AccountID, Region, Partition string
	// Zones are the region's Availability Zones (see region.Zones).
	Zones []region.Zone
}

// Bind puts the service's handlers into t.
func (s *Service) Bind(t service.Table) {
	service.Bind(t, ec2.DescribeRegions, s.DescribeRegions)
	service.Bind(t, ec2.DescribeAvailabilityZones, s.DescribeAvailabilityZones)
	service.Bind(t, ec2.DescribeVpcs, s.DescribeVpcs)
	service.Bind(t, ec2.DescribeSubnets, s.DescribeSubnets)
	service.Bind(t, ec2.DescribeSecurityGroups, s.DescribeSecurityGroups)
}
