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

// tagRule says how the keys of a kind of resource compare (IAM user guide, "Rules for tagging in IAM": those of users and roles without
// regard to case, those of all others exactly), what is answered when one occurs twice, and the quota's name.
type tagRule struct {
	same         func(a, b string) bool
	twice, quota string
}

const caselessTwice = "Duplicate tag keys found. Please note that Tag keys are case insensitive."

var (
	userTags    = tagRule{strings.EqualFold, caselessTwice, "TagsPerUser"}
	roleTags    = tagRule{strings.EqualFold, caselessTwice, "TagsPerRole"}
	policyTags  = tagRule{exactly, "Duplicate tag keys found.", "TagsPerPolicy"}
	profileTags = tagRule{exactly, "Duplicate tag keys found.", "TagsPerInstanceProfile"}
	deviceTags  = tagRule{exactly, "Duplicate tag keys found.", "TagsPerMfaDevice"}
	samlTags    = tagRule{exactly, "Duplicate tag keys found.", "TagsPerSAMLProvider"}
	oidcTags    = tagRule{exactly, "Duplicate tag keys found.", "TagsPerOpenIdConnectProvider"}
)

func exactly(a, b string) bool { return a == b }

// check refuses keys that IAM reserves or that occur twice.
func (rule tagRule) check(tags []iam.Tag) error {
	for i, tag := range tags {
		key := shape.Val(tag.Key)
		if strings.HasPrefix(strings.ToLower(key), "aws:") {
			return invalidInput("Tag keys that start with 'aws:' are reserved for system use.")
		}
		if slices.ContainsFunc(tags[:i], func(t iam.Tag) bool { return rule.same(shape.Val(t.Key), key) }) {
			return invalidInput("%s", rule.twice)
		}
	}
	return nil
}

// merge adds tags to old. A key that is the same as an old one replaces it, spelling included.
func (rule tagRule) merge(old map[string]string, tags []iam.Tag) map[string]string {
	merged := maps.Clone(old)
	if merged == nil && len(tags) > 0 {
		merged = map[string]string{}
	}
	for _, tag := range tags {
		rule.without(merged, shape.Val(tag.Key))
		merged[shape.Val(tag.Key)] = shape.Val(tag.Value)
	}
	return merged
}

func (rule tagRule) without(tags map[string]string, key string) {
	maps.DeleteFunc(tags, func(k, _ string) bool { return rule.same(k, key) })
}

// tagList is a resource's tags in the order of their keys, nil for none.
func tagList(tags map[string]string) []iam.Tag {
	var list []iam.Tag
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, iam.Tag{Key: shape.Ptr(key), Value: shape.Ptr(tags[key])})
	}
	return list
}

// taggable finds a copy of what is tagged, and what puts it back.
type taggable func(tx *state.Tx) (meta *state.Meta, save func(), err error)

// tag adds or replaces tags.
func (s *Service) tag(ctx context.Context, rule tagRule, tags []iam.Tag, find taggable) error {
	if err := rule.check(tags); err != nil {
		return err
	}
	return s.update(ctx, func(tx *state.Tx) error {
		meta, save, err := find(tx)
		if err != nil {
			return err
		}
		if meta.Tags = rule.merge(meta.Tags, tags); len(meta.Tags) > tagsPerResource {
			return overQuota(rule.quota, tagsPerResource)
		}
		save()
		return nil
	})
}

// untag removes tags; keys that are not there are no error.
func (s *Service) untag(ctx context.Context, rule tagRule, keys []string, find taggable) error {
	return s.update(ctx, func(tx *state.Tx) error {
		meta, save, err := find(tx)
		if err != nil {
			return err
		}
		for _, key := range keys {
			rule.without(meta.Tags, key)
		}
		save()
		return nil
	})
}

// tagPage is a page of tags, and the marker of the next one. The order of pages is that of the keys' digests, because a key may be longer
// than a marker.
func tagPage(all map[string]string, marker *string, max *int32) ([]iam.Tag, *string, error) {
	position := func(tag iam.Tag) string {
		digest := sha256.Sum256([]byte(shape.Val(tag.Key)))
		return string(digest[:])
	}
	tags := tagList(all)
	if marker != nil || len(tags) > int(cmp.Or(shape.Val(max), defaultItems)) {
		slices.SortFunc(tags, func(a, b iam.Tag) int { return cmp.Compare(position(a), position(b)) })
	}
	tags, next, err := page(tags, position, marker, max)
	if tags == nil {
		tags = []iam.Tag{}
	}
	return tags, next, err
}

func taggedUser(name *string) taggable {
	return func(tx *state.Tx) (*state.Meta, func(), error) {
		found, err := findUser(tx, shape.Val(name))
		if err != nil {
			return nil, nil, err
		}
		u := state.Clone(found)
		return &u.Meta, func() { state.Put(tx, state.Users, u) }, nil
	}
}

func taggedRole(name *string) taggable {
	return func(tx *state.Tx) (*state.Meta, func(), error) {
		found, err := findRole(tx, shape.Val(name))
		if err != nil {
			return nil, nil, err
		}
		role := state.Clone(found)
		return &role.Meta, func() { state.Put(tx, state.Roles, role) }, nil
	}
}

func (s *Service) taggedPolicy(name *string) taggable {
	return func(tx *state.Tx) (*state.Meta, func(), error) {
		found, err := s.ownPolicy(tx, name, noSuchPolicy)
		if err != nil {
			return nil, nil, err
		}
		p := state.Clone(found)
		return &p.Meta, func() { state.Put(tx, state.Policies, p) }, nil
	}
}

// TagUser adds or replaces tags.
func (s *Service) TagUser(ctx context.Context, _ service.Call, in *iam.TagUserInput) (*iam.TagUserOutput, error) {
	return &iam.TagUserOutput{}, s.tag(ctx, userTags, in.Tags, taggedUser(in.UserName))
}

// UntagUser removes tags; keys that the user does not have are no error.
func (s *Service) UntagUser(ctx context.Context, _ service.Call, in *iam.UntagUserInput) (*iam.UntagUserOutput, error) {
	return &iam.UntagUserOutput{}, s.untag(ctx, userTags, in.TagKeys, taggedUser(in.UserName))
}

// ListUserTags lists a user's tags.
func (s *Service) ListUserTags(_ context.Context, _ service.Call, in *iam.ListUserTagsInput) (*iam.ListUserTagsOutput, error) {
	user, err := findUser(s.DB.Snapshot(), shape.Val(in.UserName))
	if err != nil {
		return nil, err
	}
	tags, next, err := tagPage(user.Tags, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListUserTagsOutput{Tags: tags, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

// TagRole adds or replaces tags, also of a service-linked role.
func (s *Service) TagRole(ctx context.Context, _ service.Call, in *iam.TagRoleInput) (*iam.TagRoleOutput, error) {
	return &iam.TagRoleOutput{}, s.tag(ctx, roleTags, in.Tags, taggedRole(in.RoleName))
}

// UntagRole removes tags; keys that the role does not have are no error.
func (s *Service) UntagRole(ctx context.Context, _ service.Call, in *iam.UntagRoleInput) (*iam.UntagRoleOutput, error) {
	return &iam.UntagRoleOutput{}, s.untag(ctx, roleTags, in.TagKeys, taggedRole(in.RoleName))
}

// ListRoleTags lists a role's tags.
func (s *Service) ListRoleTags(_ context.Context, _ service.Call, in *iam.ListRoleTagsInput) (*iam.ListRoleTagsOutput, error) {
	role, err := findRole(s.DB.Snapshot(), shape.Val(in.RoleName))
	if err != nil {
		return nil, err
	}
	tags, next, err := tagPage(role.Tags, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListRoleTagsOutput{Tags: tags, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

// TagPolicy adds or replaces tags of a customer managed policy.
func (s *Service) TagPolicy(ctx context.Context, _ service.Call, in *iam.TagPolicyInput) (*iam.TagPolicyOutput, error) {
	return &iam.TagPolicyOutput{}, s.tag(ctx, policyTags, in.Tags, s.taggedPolicy(in.PolicyArn))
}

// UntagPolicy removes tags; keys that the policy does not have are no error.
func (s *Service) UntagPolicy(ctx context.Context, _ service.Call, in *iam.UntagPolicyInput) (*iam.UntagPolicyOutput, error) {
	return &iam.UntagPolicyOutput{}, s.untag(ctx, policyTags, in.TagKeys, s.taggedPolicy(in.PolicyArn))
}

// ListPolicyTags lists the tags of a managed policy; AWS's have none.
func (s *Service) ListPolicyTags(_ context.Context, _ service.Call, in *iam.ListPolicyTagsInput) (*iam.ListPolicyTagsOutput, error) {
	p, err := s.findPolicy(s.DB.Snapshot(), in.PolicyArn, noSuchPolicy)
	if err != nil {
		return nil, err
	}
	tags, next, err := tagPage(p.tags, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListPolicyTagsOutput{Tags: tags, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}
