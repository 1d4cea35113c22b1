package managed

import (
	"slices"
	"strings"
	"time"
)

// linked are the policies of service-linked roles (AWS Managed Policy Reference). AWS does not publish their unique ids: these are ours.
var linked = []*Policy{
	{ID: "ANPACARRELDIRECTORYSV", Name: "AWSDirectoryServiceServiceRolePolicy", Path: "/aws-service-role/", Description: "Policy for the Directory Service Service Linked Role", Version: "v1",
		Created: time.Date(2025, 7, 11, 0, 22, 0, 0, time.UTC), Updated: time.Date(2025, 7, 11, 0, 22, 0, 0, time.UTC),
		Document: `{"Version":"2012-10-17","Statement":[` +
			`{"Sid":"SSMSendCommandPermission","Effect":"Allow","Action":["ssm:SendCommand"],"Resource":["arn:aws:ssm:*:*:document/AWS-RunPowerShellScript","arn:aws:ec2:*:*:instance/*"]},` +
			`{"Sid":"EC2DescribePermissions","Effect":"Allow","Action":["ec2:DescribeAvailabilityZones","ec2:DescribeDhcpOptions","ec2:DescribeNetworkInterfaces",` +
			`"ec2:DescribeRouteTables","ec2:DescribeSecurityGroups","ec2:DescribeSubnets","ec2:DescribeVpcs"],"Resource":"*"},` +
			`{"Sid":"SSMManagementPermissions","Effect":"Allow","Action":["ssm:ListCommands","ssm:GetCommandInvocation","ssm:DescribeInstanceInformation","ssm:GetConnectionStatus"],"Resource":"*"}]}`},
	{ID: "ANPACARRELCLOUDTRAILX", Name: "CloudTrailServiceRolePolicy", Path: "/aws-service-role/", Description: "Permission policy for CloudTrail ServiceLinkedRole", Version: "v3",
		Created: time.Date(2018, 10, 24, 21, 21, 44, 0, time.UTC), Updated: time.Date(2023, 11, 27, 1, 18, 0, 0, time.UTC),
		Document: `{"Version":"2012-10-17","Statement":[` +
			`{"Sid":"CloudTrailFullAccess","Effect":"Allow","Action":["cloudtrail:*"],"Resource":"*"},` +
			`{"Sid":"AwsOrgsAccess","Effect":"Allow","Action":["organizations:DescribeAccount","organizations:DescribeOrganization","organizations:ListAccounts",` +
			`"organizations:ListAWSServiceAccessForOrganization"],"Resource":["*"]},` +
			`{"Sid":"AwsOrgsDelegatedAdminAccess","Effect":"Allow","Action":"organizations:ListDelegatedAdministrators","Resource":"*",` +
			`"Condition":{"StringEquals":{"organizations:ServicePrincipal":["cloudtrail.amazonaws.com"]}}},` +
			`{"Sid":"DeleteTableAccess","Effect":"Allow","Action":"glue:DeleteTable","Resource":["arn:*:glue:*:*:catalog","arn:*:glue:*:*:database/aws:cloudtrail",` +
			`"arn:*:glue:*:*:table/aws:cloudtrail/*"],"Condition":{"StringEquals":{"aws:ResourceAccount":"${aws:PrincipalAccount}"}}},` +
			`{"Sid":"DeregisterResourceAccess","Effect":"Allow","Action":"lakeformation:DeregisterResource","Resource":"*",` +
			`"Condition":{"StringEquals":{"aws:ResourceAccount":"${aws:PrincipalAccount}"}}}]}`},
}

func init() {
	all = append(all, linked...)
	slices.SortFunc(all, func(a, b *Policy) int { return strings.Compare(a.Path+a.Name, b.Path+b.Name) })
}
