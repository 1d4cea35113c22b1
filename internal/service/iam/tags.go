package iam

import (
	"cmp"
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/service"
	"carrel/internal/state"
)

// checkTags refuses keys that IAM reserves or that occur twice. Keys compare without regard to case (IAM user guide, "Rules for
// tagging").
func checkTags(tags []iam.Tag) error {
	seen := map[string]bool{}
	for _, tag := range tags {
		key := strings.ToLower(shape.Val(tag.Key))
		if strings.HasPrefix(key, "aws:") {
			return invalidInput("Tag keys that start with 'aws:' are reserved for system use.")
		}
		if seen[key] {
			return invalidInput("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		seen[key] = true
	}
	return nil
}

// merge adds tags to old. A key that differs only in case from an old one replaces it, spelling included.
func merge(old map[string]string, tags []iam.Tag) map[string]string {
	merged := maps.Clone(old)
	if merged == nil && len(tags) > 0 {
		merged = map[string]string{}
	}
	for _, tag := range tags {
		without(merged, shape.Val(tag.Key))
		merged[shape.Val(tag.Key)] = shape.Val(tag.Value)
	}
	return merged
}

func without(tags map[string]string, key string) {
	maps.DeleteFunc(tags, func(k, _ string) bool { return strings.EqualFold(k, key) })
}

// tagList is a user's tags in the order of their keys, nil for none.
func tagList(tags map[string]string) []iam.Tag {
	var list []iam.Tag
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, iam.Tag{Key: shape.Ptr(key), Value: shape.Ptr(tags[key])})
	}
	return list
}

// TagUser adds or replaces tags.
func (s *Service) TagUser(ctx context.Context, _ service.Call, in *iam.TagUserInput) (*iam.TagUserOutput, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	return &iam.TagUserOutput{}, s.update(ctx, func(tx *state.Tx) error {
		old, err := findUser(tx, shape.Val(in.UserName))
		if err != nil {
			return err
		}
		user := state.Clone(old)
		if user.Tags = merge(old.Tags, in.Tags); len(user.Tags) > tagsPerUser {
			return overQuota("TagsPerUser", tagsPerUser)
		}
		state.Put(tx, state.Users, user)
		return nil
	})
}

// UntagUser removes tags; keys that the user does not have are no error.
func (s *Service) UntagUser(ctx context.Context, _ service.Call, in *iam.UntagUserInput) (*iam.UntagUserOutput, error) {
	return &iam.UntagUserOutput{}, s.update(ctx, func(tx *state.Tx) error {
		old, err := findUser(tx, shape.Val(in.UserName))
		if err != nil {
			return err
		}
		user := state.Clone(old)
		for _, key := range in.TagKeys {
			without(user.Tags, key)
		}
		state.Put(tx, state.Users, user)
		return nil
	})
}

// ListUserTags lists a user's tags. The order is that of the keys' digests, because a key may be longer than a marker.
func (s *Service) ListUserTags(_ context.Context, _ service.Call, in *iam.ListUserTagsInput) (*iam.ListUserTagsOutput, error) {
	user, err := findUser(s.DB.Snapshot(), shape.Val(in.UserName))
	if err != nil {
		return nil, err
	}
	position := func(tag iam.Tag) string {
		digest := sha256.Sum256([]byte(shape.Val(tag.Key)))
		return string(digest[:])
	}
	tags := tagList(user.Tags)
	if in.Marker != nil || len(tags) > int(cmp.Or(shape.Val(in.MaxItems), defaultItems)) {
		slices.SortFunc(tags, func(a, b iam.Tag) int { return cmp.Compare(position(a), position(b)) })
	}
	tags, next, err := page(tags, position, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	if tags == nil {
		tags = []iam.Tag{}
	}
	return &iam.ListUserTagsOutput{Tags: tags, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}
