package ident

import (
	"fmt"
	"io"
)

// VPCID names a VPC: "vpc-0a1b2c3d4e5f60718".
type VPCID string

// ParseVPCID checks s.
func ParseVPCID(s string) (VPCID, error) {
	if !check(s, "vpc-", hex16, size{8, 17}) {
		return "", fmt.Errorf("%q is not the id of a VPC (like vpc-0a1b2c3d4e5f60718)", s)
	}
	return VPCID(s), nil
}

// NewVPCID makes a random one from r.
func NewVPCID(r io.Reader) VPCID { return VPCID("vpc-" + draw(r, hex16, 17)) }

// SubnetID names a subnet: "subnet-0a1b2c3d4e5f60718".
type SubnetID string

// ParseSubnetID checks s.
func ParseSubnetID(s string) (SubnetID, error) {
	if !check(s, "subnet-", hex16, size{8, 17}) {
		return "", fmt.Errorf("%q is not the id of a subnet (like subnet-0a1b2c3d4e5f60718)", s)
	}
	return SubnetID(s), nil
}

// NewSubnetID makes a random one from r.
func NewSubnetID(r io.Reader) SubnetID { return SubnetID("subnet-" + draw(r, hex16, 17)) }

// SecurityGroupID names a security group: "sg-0a1b2c3d4e5f60718".
type SecurityGroupID string

// ParseSecurityGroupID checks s.
func ParseSecurityGroupID(s string) (SecurityGroupID, error) {
	if !check(s, "sg-", hex16, size{8, 17}) {
		return "", fmt.Errorf("%q is not the id of a security group (like sg-0a1b2c3d4e5f60718)", s)
	}
	return SecurityGroupID(s), nil
}

// NewSecurityGroupID makes a random one from r.
func NewSecurityGroupID(r io.Reader) SecurityGroupID {
	return SecurityGroupID("sg-" + draw(r, hex16, 17))
}

// InterfaceID names a network interface: "eni-0a1b2c3d4e5f60718".
type InterfaceID string

// ParseInterfaceID checks s.
func ParseInterfaceID(s string) (InterfaceID, error) {
	if !check(s, "eni-", hex16, size{8, 17}) {
		return "", fmt.Errorf("%q is not the id of a network interface (like eni-0a1b2c3d4e5f60718)", s)
	}
	return InterfaceID(s), nil
}

// NewInterfaceID makes a random one from r.
func NewInterfaceID(r io.Reader) InterfaceID { return InterfaceID("eni-" + draw(r, hex16, 17)) }
