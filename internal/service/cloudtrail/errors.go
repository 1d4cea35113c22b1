package cloudtrail

import "carrel/internal/awserr"

// The exceptions of the cloudtrail model. AWS does not publish the texts of those of LookupEvents; they say what the API reference says of them.

func invalidAttributes(format string, args ...any) error {
	return awserr.Model("InvalidLookupAttributesException", format, args...)
}

func invalidTimeRange() error {
	return awserr.Model("InvalidTimeRangeException", "Invalid time range: the start time must not be after the end time.")
}

func invalidNextToken() error {
	return awserr.Model("InvalidNextTokenException", "Invalid nextToken: it was not given for a request with these parameters, or is too old.")
}

func invalidToken() error {
	return awserr.Model("InvalidTokenException", "The token is not valid.")
}

func invalidName(format string, args ...any) error {
	return awserr.Model("InvalidTrailNameException", format, args...)
}

func invalidARN(id string) error {
	return awserr.Model("CloudTrailARNInvalidException", "The ARN %s is not valid.", id)
}

func unknownTrail(id, account string) error {
	return awserr.Model("TrailNotFoundException", "Unknown trail: %s for the user: %s", id, account)
}

func unknownResource(id string) error {
	return awserr.Model("ResourceNotFoundException", "The resource %s does not exist.", id)
}
