package cloudtrail

import (
	"errors"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/cloudtrail"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/service"
)

func TestThereAreNoTrails(t *testing.T) {
	s := New(Deps{AccountID: account, Region: "us-east-1", Partition: "aws"})
	ctx, call := t.Context(), service.Call{}
	described, err := s.DescribeTrails(ctx, call, &cloudtrail.DescribeTrailsInput{TrailNameList: []string{"main"}})
	if err != nil || described.TrailList == nil || len(described.TrailList) != 0 {
		t.Errorf("DescribeTrails = %v, %v", described, err)
	}
	listed, err := s.ListTrails(ctx, call, &cloudtrail.ListTrailsInput{})
	if err != nil || listed.Trails == nil || len(listed.Trails) != 0 {
		t.Errorf("ListTrails = %v, %v", listed, err)
	}
	keys, err := s.ListPublicKeys(ctx, call, &cloudtrail.ListPublicKeysInput{})
	if err != nil || keys.PublicKeyList == nil || len(keys.PublicKeyList) != 0 {
		t.Errorf("ListPublicKeys = %v, %v", keys, err)
	}
	tags, err := s.ListTags(ctx, call, &cloudtrail.ListTagsInput{})
	if err != nil || tags.ResourceTagList == nil || len(tags.ResourceTagList) != 0 {
		t.Errorf("ListTags = %v, %v", tags, err)
	}

	const main = "arn:aws:cloudtrail:us-east-1:123456789012:trail/main"
	named := func(name string) error {
		_, err := s.GetTrail(ctx, call, &cloudtrail.GetTrailInput{Name: &name})
		return err
	}
	now := time.Now()
	for _, c := range []struct {
		name       string
		err        error
		code, text string
	}{
		{"GetTrail", named("main"), "TrailNotFoundException", "Unknown trail: " + main + " for the user: 123456789012"},
		{"GetTrail by ARN", named(main), "TrailNotFoundException", "Unknown trail: " + main + " for the user: 123456789012"},
		{"GetTrailStatus", second(s.GetTrailStatus(ctx, call, &cloudtrail.GetTrailStatusInput{Name: shape.Ptr("main")})), "TrailNotFoundException", "Unknown trail: " + main},
		{"GetEventSelectors", second(s.GetEventSelectors(ctx, call, &cloudtrail.GetEventSelectorsInput{TrailName: shape.Ptr("main")})), "TrailNotFoundException", "Unknown trail: " + main},
		{"another service's ARN", named("arn:aws:iam::123456789012:role/main"), "CloudTrailARNInvalidException", "arn:aws:iam"},
		{"a broken ARN", named("arn:aws"), "CloudTrailARNInvalidException", "arn:aws"},
		{"no name", named(""), "InvalidTrailNameException", "Trail name cannot be blank!"},
		{"a short name", named("ab"), "InvalidTrailNameException", "Minimum allowed length: 3 characters. Specified name length: 2 characters."},
		{"a long name", named(strings.Repeat("x", 129)), "InvalidTrailNameException", "Maximum allowed length: 128 characters. Specified name length: 129 characters."},
		{"a name with a space", named("a b"), "InvalidTrailNameException", "can only contain"},
		{"a name that begins with a dot", named(".abc"), "InvalidTrailNameException", "must starts with"},
		{"a name that ends with a dot", named("abc."), "InvalidTrailNameException", "must ends with"},
		{"DescribeTrails of a bad name", second(s.DescribeTrails(ctx, call, &cloudtrail.DescribeTrailsInput{TrailNameList: []string{"main", ""}})), "InvalidTrailNameException", "blank"},
		{"keys of a time that ends before it begins", second(s.ListPublicKeys(ctx, call, &cloudtrail.ListPublicKeysInput{StartTime: &now, EndTime: shape.Ptr(now.Add(-1))})), "InvalidTimeRangeException", "start time"},
		{"keys by a token", second(s.ListPublicKeys(ctx, call, &cloudtrail.ListPublicKeysInput{NextToken: shape.Ptr("x")})), "InvalidTokenException", "token"},
		{"tags by a token", second(s.ListTags(ctx, call, &cloudtrail.ListTagsInput{NextToken: shape.Ptr("x")})), "InvalidTokenException", "token"},
		{"tags of a trail", second(s.ListTags(ctx, call, &cloudtrail.ListTagsInput{ResourceIdList: []string{main}})), "ResourceNotFoundException", main},
		{"tags of a name", second(s.ListTags(ctx, call, &cloudtrail.ListTagsInput{ResourceIdList: []string{"main"}})), "CloudTrailARNInvalidException", "main"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e *awserr.Error
			if !errors.As(c.err, &e) || e.Kind != awserr.Modelled || e.Code != c.code || !strings.Contains(e.Message, c.text) {
				t.Errorf("got %v, want %s %s", c.err, c.code, c.text)
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestBindPutsEveryOperation(t *testing.T) {
	table := service.Table{}
	New(Deps{}).Bind(table)
	for _, op := range cloudtrail.Service.Operations {
		if table[op] == nil {
			t.Errorf("%s has no handler", op.Name)
		}
	}
}
