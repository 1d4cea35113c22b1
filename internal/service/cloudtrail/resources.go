package cloudtrail

import (
	"bytes"
	"encoding/json"
	"strings"

	"carrel/internal/audit"
)

// resource is something that an event is about.
type resource struct{ kind, name string }

// maxResources bounds how many an event names: one call may name thousands.
const maxResources = 200

// prefixes are the kinds of things by how their ids begin. Where CloudTrail has a type of the thing it is that one; of WorkSpaces it has the types of
// CloudFormation, and the others follow them.
var prefixes = map[string]string{
	"ws": "AWS::WorkSpaces::Workspace", "wsb": "AWS::WorkSpaces::WorkspaceBundle", "wsi": "AWS::WorkSpaces::WorkspaceImage",
	"wsipg": "AWS::WorkSpaces::WorkspaceIpGroup", "wsca": "AWS::WorkSpaces::ConnectionAlias", "wspool": "AWS::WorkSpaces::WorkspacesPool",
	"d":   "AWS::DirectoryService::Directory",
	"vpc": "AWS::EC2::VPC", "subnet": "AWS::EC2::Subnet", "sg": "AWS::EC2::SecurityGroup", "sgr": "AWS::EC2::SecurityGroupRule", "eni": "AWS::EC2::NetworkInterface",
	"rtb": "AWS::EC2::RouteTable", "igw": "AWS::EC2::InternetGateway", "acl": "AWS::EC2::NetworkAcl", "dopt": "AWS::EC2::DHCPOptions",
	"vpce": "AWS::EC2::VPCEndpoint", "nat": "AWS::EC2::NatGateway", "eipalloc": "AWS::EC2::EIP",
}

// uniques are the kinds of IAM's things by how their unique ids begin ("Unique identifiers" of the IAM User Guide).
var uniques = map[string]string{
	"AIDA": "AWS::IAM::User", "AROA": "AWS::IAM::Role", "AGPA": "AWS::IAM::Group", "ANPA": "AWS::IAM::Policy", "AKIA": "AWS::IAM::AccessKey",
	"ASIA": "AWS::IAM::AccessKey", "AIPA": "AWS::IAM::InstanceProfile",
}

// named are IAM's kinds by the member that names one; the names of other services' users and groups are not IAM's.
var named = map[string]string{
	"userName": "AWS::IAM::User", "roleName": "AWS::IAM::Role", "groupName": "AWS::IAM::Group", "policyName": "AWS::IAM::Policy",
	"instanceProfileName": "AWS::IAM::InstanceProfile", "virtualMFADeviceName": "AWS::IAM::MfaDevice",
}

// paths are the kinds of IAM's and STS's things by the first part of an ARN's resource.
var paths = map[string]string{
	"user": "AWS::IAM::User", "role": "AWS::IAM::Role", "group": "AWS::IAM::Group", "policy": "AWS::IAM::Policy", "mfa": "AWS::IAM::MfaDevice",
	"instance-profile": "AWS::IAM::InstanceProfile", "saml-provider": "AWS::IAM::SamlProvider", "oidc-provider": "AWS::IAM::OpenIdConnectProvider",
	"assumed-role": "AWS::STS::AssumedRole", "federated-user": "AWS::STS::FederatedUser",
}

// resources are what an event's request and answer name, each once, in that order. Their texts are partly the client's: they are matched, never parsed
// further.
func resources(r *audit.Record) []resource {
	c := collector{ours: r.EventSource == "iam.amazonaws.com" || r.EventSource == "sts.amazonaws.com", seen: map[resource]bool{}}
	for _, d := range []audit.Document{r.RequestParameters, r.ResponseElements} {
		c.document(d.String())
	}
	return c.found
}

type collector struct {
	// ours: names are IAM's.
	ours  bool
	found []resource
	seen  map[resource]bool
}

// document visits the strings of a document, each with the name of the member that holds it or its list, in the order of the text.
func (c *collector) document(text string) {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	// names holds the member under way of each open object, "" for a list's place: its strings belong to the member around it.
	var names []string
	var lists []bool
	key := false
	for len(c.found) < maxResources {
		token, err := d.Token()
		if err != nil {
			return // io.EOF
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				name := ""
				if t == '[' && len(names) > 0 {
					name = names[len(names)-1]
				}
				names, lists = append(names, name), append(lists, t == '[')
			} else {
				names, lists = names[:len(names)-1], lists[:len(lists)-1]
			}
			key = len(lists) > 0 && !lists[len(lists)-1]
			continue
		case string:
			if key {
				names[len(names)-1], key = t, false
				continue
			}
			if len(names) > 0 {
				c.value(names[len(names)-1], t)
			}
		}
		key = len(lists) > 0 && !lists[len(lists)-1]
	}
}

// value takes a string that a member holds.
func (c *collector) value(member, value string) {
	lower := strings.ToLower(member)
	switch {
	case strings.HasPrefix(value, "arn:"):
		parts := strings.SplitN(value, ":", 6)
		if len(parts) == 6 && (parts[2] == "iam" || parts[2] == "sts") && (strings.HasSuffix(lower, "arn") || strings.HasSuffix(lower, "arns") || lower == "serialnumber") {
			kind, _, _ := strings.Cut(parts[5], "/")
			c.add(paths[kind], value)
		}
	case c.ours && named[member] != "":
		c.add(named[member], value)
	case strings.HasSuffix(lower, "id") || strings.HasSuffix(lower, "ids") || lower == "resources":
		if c.ours && len(value) >= 16 {
			kind := uniques[value[:4]]
			if kind == "AWS::IAM::Role" && strings.Contains(value, ":") {
				kind = "AWS::STS::AssumedRole"
			}
			c.add(kind, value)
			return
		}
		prefix, rest, ok := strings.Cut(value, "-")
		if ok && rest != "" {
			c.add(prefixes[prefix], value)
		}
	}
}

func (c *collector) add(kind, name string) {
	r := resource{kind, name}
	if kind == "" || c.seen[r] {
		return
	}
	c.seen[r] = true
	c.found = append(c.found, r)
}
