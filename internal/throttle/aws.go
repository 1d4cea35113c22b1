package throttle

// rates of a service: of operations that read and of those that change.
type rates struct{ read, write Rate }

// awsLike are AWS's figures for an account, here for a principal. Where AWS publishes none the row says so, and the figures are such that
// an automation that is not throttled by AWS is not throttled here.
var awsLike = map[string]rates{
	// WorkSpaces, "API throttling": 2 calls a second, bursts of 5.
	"workspaces": {Rate{2, 5}, Rate{2, 5}},
	// EC2, "Request throttling for the Amazon EC2 API": buckets of non-mutating and of mutating actions.
	"ec2": {Rate{20, 100}, Rate{5, 50}},
	// IAM and STS quotas: 600 requests a second.
	"sts": {Rate{600, 600}, Rate{600, 600}},
	// CloudTrail quotas: get, describe and list 10 a second, all others 1; LookupEvents below.
	"cloudtrail": {Rate{10, 10}, Rate{1, 1}},
	// Not published.
	"iam":     {Rate{20, 40}, Rate{10, 20}},
	"ds":      {Rate{10, 20}, Rate{5, 10}},
	"ds-data": {Rate{10, 20}, Rate{5, 10}},
}

// lookupEvents is CloudTrail's own row for the operation.
var lookupEvents = Rate{2, 2}

// AWSLike gives AWS's rates. A service without a row gets the narrowest: forgetting one must not open it.
func AWSLike(c Call) Rate {
	if c.Service == "cloudtrail" && c.Operation == "LookupEvents" {
		return lookupEvents
	}
	r, known := awsLike[c.Service]
	switch {
	case !known:
		return Rate{1, 1}
	case c.ReadOnly:
		return r.read
	}
	return r.write
}
