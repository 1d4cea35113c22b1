package authz

var iamRows, ec2Rows, dsRows, dsDataRows, cloudtrailRows table
