package awsproto

import (
	"strings"

	"carrel/internal/api/shape"
	"carrel/internal/awserr"
)

// Code is the code that EncodeError writes for e, for the audit record and metrics.
func Code(proto shape.Protocol, e *awserr.Error) string {
	code := e.Code
	switch {
	case code == "" && e.Kind == awserr.Modelled:
		code = spell(awserr.Internal, proto).code
	case code == "":
		code = spell(e.Kind, proto).code
	}
	if proto == shape.EC2Query {
		code, _ = ec2Words(e, code, e.Message)
	}
	return code
}

// Guess says in which protocol to answer a request that was refused before its service was known, so that its client can read why.
// It decides nothing but the format of an error.
func Guess(r *Request) shape.Protocol {
	switch {
	case len(r.Header.Values(targetHeader)) > 0:
		return shape.AWSJSON
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"), strings.Contains(r.RawQuery, "Action="):
		if strings.Contains(string(r.Body), "Version=2016-11-15") || strings.Contains(r.RawQuery, "Version=2016-11-15") {
			return shape.EC2Query
		}
		return shape.AWSQuery
	case r.Path != "/":
		return shape.RESTJSON
	}
	return shape.AWSJSON
}
