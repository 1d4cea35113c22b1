// Package arn reads and writes Amazon Resource Names (AWS General Reference, "Amazon Resource Names").
//
// It refuses to match them with wildcards: that is policy's.
package arn

import (
	"fmt"
	"strings"
)

// ARN is the six parts of arn:partition:service:region:account:resource. Resource may hold colons and slashes.
type ARN struct {
	Partition, Service, Region, Account, Resource string
}

// String writes the ARN: "arn:aws:workspaces:us-east-1:123456789012:workspace/ws-f9abcdefg".
func (a ARN) String() string {
	return "arn:" + a.Partition + ":" + a.Service + ":" + a.Region + ":" + a.Account + ":" + a.Resource
}

// Parse reads an ARN. Partition, service and resource must not be empty.
func Parse(s string) (ARN, error) {
	p := strings.SplitN(s, ":", 6)
	if len(p) != 6 || p[0] != "arn" || p[1] == "" || p[2] == "" || p[5] == "" {
		return ARN{}, fmt.Errorf("%q is not an ARN (arn:partition:service:region:account:resource)", s)
	}
	return ARN{Partition: p[1], Service: p[2], Region: p[3], Account: p[4], Resource: p[5]}, nil
}

// User is an IAM user's ARN. path begins and ends with a slash.
func User(partition, account, path, name string) ARN {
	return ARN{Partition: partition, Service: "iam", Account: account, Resource: "user" + path + name}
}

// Root is the account root's ARN.
func Root(partition, account string) ARN {
	return ARN{Partition: partition, Service: "iam", Account: account, Resource: "root"}
}

// Of is the ARN of something of IAM's that has a path: kind is "group", "role", "policy", "instance-profile" or "mfa", name begins with the path
// ("/team/admin").
func Of(partition, account, kind, name string) ARN {
	return ARN{Partition: partition, Service: "iam", Account: account, Resource: kind + name}
}

// Session is the ARN of a role's session: "arn:aws:sts::123456789012:assumed-role/admin/ada".
func Session(partition, account, role, session string) ARN {
	return ARN{Partition: partition, Service: "sts", Account: account, Resource: "assumed-role/" + role + "/" + session}
}

// Federated is the ARN of a user of GetFederationToken: "arn:aws:sts::123456789012:federated-user/ada".
func Federated(partition, account, name string) ARN {
	return ARN{Partition: partition, Service: "sts", Account: account, Resource: "federated-user/" + name}
}
