package authz

import "carrel/internal/arn"

// trail is a trail by its name or ARN. Event data stores, channels and dashboards are named by their ARNs.
var trail = &kind{service: "cloudtrail", prefix: "trail/", named: func(e *env, name string) target {
	if a, err := arn.Parse(name); err == nil {
		return target{arn: name, account: a.Account}
	}
	a := arn.ARN{Partition: e.Partition, Service: "cloudtrail", Region: e.Region, Account: e.Account, Resource: "trail/" + name}
	return target{arn: a.String(), account: e.Account}
}}

// cloudtrailRows are the rows of cloudtrail (Service Authorization Reference).
var cloudtrailRows = table{
	"DescribeTrails":    {},
	"GetEventSelectors": {on: []on{trail.at("TrailName")}},
	"GetTrail":          {on: []on{trail.at("Name")}},
	"GetTrailStatus":    {on: []on{trail.at("Name")}},
	"ListPublicKeys":    {},
	"ListTags":          {on: []on{trail.at("ResourceIdList")}},
	"ListTrails":        {},
	"LookupEvents":      {},
}
