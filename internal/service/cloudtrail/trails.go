package cloudtrail

import (
	"context"
	"regexp"
	"strings"

	"carrel/internal/api/cloudtrail"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/service"
)

// DescribeTrails gives the trails with these names, or all: there are none.
func (s *Service) DescribeTrails(_ context.Context, _ service.Call, in *cloudtrail.DescribeTrailsInput) (*cloudtrail.DescribeTrailsOutput, error) {
	for _, name := range in.TrailNameList {
		if _, err := s.trail(name); err != nil {
			return nil, err
		}
	}
	return &cloudtrail.DescribeTrailsOutput{TrailList: []cloudtrail.Trail{}}, nil
}

// ListTrails gives all trails: there are none. No token was ever given.
func (s *Service) ListTrails(context.Context, service.Call, *cloudtrail.ListTrailsInput) (*cloudtrail.ListTrailsOutput, error) {
	return &cloudtrail.ListTrailsOutput{Trails: []cloudtrail.TrailInfo{}}, nil
}

// GetTrail finds no trail.
func (s *Service) GetTrail(_ context.Context, _ service.Call, in *cloudtrail.GetTrailInput) (*cloudtrail.GetTrailOutput, error) {
	return nil, s.missing(in.Name)
}

// GetTrailStatus finds no trail.
func (s *Service) GetTrailStatus(_ context.Context, _ service.Call, in *cloudtrail.GetTrailStatusInput) (*cloudtrail.GetTrailStatusOutput, error) {
	return nil, s.missing(in.Name)
}

// GetEventSelectors finds no trail.
func (s *Service) GetEventSelectors(_ context.Context, _ service.Call, in *cloudtrail.GetEventSelectorsInput) (*cloudtrail.GetEventSelectorsOutput, error) {
	return nil, s.missing(in.TrailName)
}

// ListPublicKeys gives the keys that sign the digests of trails: there are none. The audit log's own digests are signed with the evidence key.
func (s *Service) ListPublicKeys(_ context.Context, _ service.Call, in *cloudtrail.ListPublicKeysInput) (*cloudtrail.ListPublicKeysOutput, error) {
	if in.StartTime != nil && in.EndTime != nil && in.StartTime.After(*in.EndTime) {
		return nil, invalidTimeRange()
	}
	if in.NextToken != nil {
		return nil, invalidToken()
	}
	return &cloudtrail.ListPublicKeysOutput{PublicKeyList: []cloudtrail.PublicKey{}}, nil
}

// ListTags finds no resource that could have tags.
func (s *Service) ListTags(_ context.Context, _ service.Call, in *cloudtrail.ListTagsInput) (*cloudtrail.ListTagsOutput, error) {
	if len(in.ResourceIdList) > 0 {
		id := in.ResourceIdList[0]
		if a, err := arn.Parse(id); err != nil || a.Service != "cloudtrail" {
			return nil, invalidARN(id)
		}
		return nil, unknownResource(id)
	}
	if in.NextToken != nil {
		return nil, invalidToken()
	}
	return &cloudtrail.ListTagsOutput{ResourceTagList: []cloudtrail.ResourceTag{}}, nil
}

func (s *Service) missing(name *string) error {
	id, err := s.trail(shape.Val(name))
	if err != nil {
		return err
	}
	return unknownTrail(id, s.AccountID)
}

var nameCharacters = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)

// trail is the ARN of a trail that a caller names, by name or ARN, checked by the rules for names ("Naming requirements" of the CloudTrail User Guide).
func (s *Service) trail(name string) (string, error) {
	if strings.HasPrefix(name, "arn:") {
		a, err := arn.Parse(name)
		if err != nil || a.Service != "cloudtrail" || !strings.HasPrefix(a.Resource, "trail/") {
			return "", invalidARN(name)
		}
		return name, nil
	}
	alphanumeric := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' }
	switch n := len(name); {
	case n == 0:
		return "", invalidName("Trail name cannot be blank!")
	case !nameCharacters.MatchString(name):
		return "", invalidName("Trail name or ARN can only contain uppercase letters, lowercase letters, numbers, periods (.), hyphens (-), and underscores (_).")
	case n < 3:
		return "", invalidName("Trail name too short. Minimum allowed length: 3 characters. Specified name length: %d characters.", n)
	case n > 128:
		return "", invalidName("Trail name too long. Maximum allowed length: 128 characters. Specified name length: %d characters.", n)
	case !alphanumeric(name[0]):
		return "", invalidName("Trail name must starts with a letter or number.")
	case !alphanumeric(name[n-1]):
		return "", invalidName("Trail name must ends with a letter or number.")
	}
	return arn.ARN{Partition: s.Partition, Service: "cloudtrail", Region: s.Region, Account: s.AccountID, Resource: "trail/" + name}.String(), nil
}
