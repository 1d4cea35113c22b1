package authz

import (
	"carrel/internal/api/cloudtrail"
	"carrel/internal/api/ds"
	"carrel/internal/api/dsdata"
	"carrel/internal/api/ec2"
	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/api/workspaces"
)

// services are those whose operations there are rows for.
var services = []*shape.Service{workspaces.Service, ds.Service, dsdata.Service, sts.Service, iam.Service, ec2.Service, cloudtrail.Service}
