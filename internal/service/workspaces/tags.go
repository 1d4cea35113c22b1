package workspaces

import (
	"context"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/awserr"
	"carrel/internal/service"
	"carrel/internal/state"
)

const (
	maxTagKey   = 127
	maxTagValue = 255
)

// readTags checks the tags of a request. Lengths are in characters. nil for none.
func (s *Service) readTags(list []api.Tag) (map[string]string, *awserr.Error) {
	if len(list) == 0 {
		return nil, nil
	}
	tags := make(map[string]string, len(list))
	for _, t := range list {
		key, value := shape.Val(t.Key), shape.Val(t.Value)
		if err := checkTagKey(key); err != nil {
			return nil, err
		}
		if utf8.RuneCountInString(value) > maxTagValue {
			return nil, errTagValue()
		}
		if _, twice := tags[key]; twice {
			return nil, errTagTwice(key)
		}
		tags[key] = value
	}
	if max := s.Limits.TagsPerResource; over(len(tags), max) {
		return nil, errLimit("tags of a resource", max)
	}
	return tags, nil
}

// checkTagKey refuses keys that cannot be. The prefix aws: is reserved in every spelling, or a caller could imitate the
// service's own tags in tag policies.
func checkTagKey(key string) *awserr.Error {
	if n := utf8.RuneCountInString(key); n < 1 || n > maxTagKey {
		return errTagKey()
	}
	if len(key) >= 4 && strings.EqualFold(key[:4], "aws:") {
		return errTagReserved()
	}
	return nil
}

// target is a resource with tags. write stores a set of tags with it.
type target struct {
	tags  map[string]string
	write func(tx *state.Tx, tags map[string]string)
}

// target finds the resource that an id names. Public bundles and images belong to nobody's account and have no tags.
func (s *Service) target(r state.Reader, id string) (target, *awserr.Error) {
	kind, _, _ := strings.Cut(id, "-")
	switch kind {
	case "ws":
		return plain(r, state.Workspaces, id, nil)
	case "d", "wsd":
		d, ok := state.Get(r, state.Directories, id)
		if !ok || d.Registration == nil {
			return target{}, errNoResource(id)
		}
		return target{d.Registration.Tags, func(tx *state.Tx, tags map[string]string) {
			c := state.Clone(d)
			c.Registration.Tags = tags
			state.Put(tx, state.Directories, c)
		}}, nil
	case "wsi":
		return plain(r, state.Images, id, func(i *state.Image) bool { return i.Owner == s.Account })
	case "wsb":
		return plain(r, state.Bundles, id, func(b *state.Bundle) bool { return b.Owner == s.Account })
	case "wsipg":
		return plain(r, state.IPGroups, id, nil)
	}
	// wsca- would be a connection alias; there are none.
	return target{}, errNoResource(id)
}

// plain is a target whose tags are in the record's Meta; own tells whether the account owns it (nil: always).
func plain[T any](r state.Reader, d *state.Definition[T], id string, own func(*T) bool) (target, *awserr.Error) {
	rec, ok := state.Get(r, d, id)
	if !ok || own != nil && !own(rec) {
		return target{}, errNoResource(id)
	}
	return target{d.Meta(rec).Tags, func(tx *state.Tx, tags map[string]string) {
		c := state.Clone(rec)
		d.Meta(c).Tags = tags
		state.Put(tx, d, c)
	}}, nil
}

// CreateTags adds tags to a resource; keys that exist get the new value. ResourceNotFoundException,
// InvalidParameterValuesException for a tag that cannot be, ResourceLimitExceededException over 50.
func (s *Service) CreateTags(ctx context.Context, _ service.Call, in *api.CreateTagsInput) (*api.CreateTagsOutput, error) {
	added, bad := s.readTags(in.Tags)
	if bad != nil {
		return nil, bad
	}
	err := s.update(ctx, func(tx *state.Tx) error {
		t, err := s.target(tx, shape.Val(in.ResourceId))
		if err != nil {
			return err
		}
		tags := make(map[string]string, len(t.tags)+len(added))
		maps.Copy(tags, t.tags)
		maps.Copy(tags, added)
		if max := s.Limits.TagsPerResource; over(len(tags), max) {
			return errLimit("tags of a resource", max)
		}
		if !maps.Equal(tags, t.tags) {
			t.write(tx, tags)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.CreateTagsOutput{}, nil
}

// DeleteTags takes tags off a resource; keys that it does not have are no error.
func (s *Service) DeleteTags(ctx context.Context, _ service.Call, in *api.DeleteTagsInput) (*api.DeleteTagsOutput, error) {
	for _, key := range in.TagKeys {
		if err := checkTagKey(key); err != nil {
			return nil, err
		}
	}
	err := s.update(ctx, func(tx *state.Tx) error {
		t, err := s.target(tx, shape.Val(in.ResourceId))
		if err != nil {
			return err
		}
		tags := maps.Clone(t.tags)
		maps.DeleteFunc(tags, func(key, _ string) bool { return slices.Contains(in.TagKeys, key) })
		if len(tags) != len(t.tags) {
			t.write(tx, tags)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteTagsOutput{}, nil
}

// DescribeTags lists a resource's tags in the order of their keys.
func (s *Service) DescribeTags(_ context.Context, _ service.Call, in *api.DescribeTagsInput) (*api.DescribeTagsOutput, error) {
	t, err := s.target(s.DB.Snapshot(), shape.Val(in.ResourceId))
	if err != nil {
		return nil, err
	}
	out := &api.DescribeTagsOutput{TagList: make([]api.Tag, 0, len(t.tags))}
	for _, key := range slices.Sorted(maps.Keys(t.tags)) {
		out.TagList = append(out.TagList, api.Tag{Key: &key, Value: shape.Ptr(t.tags[key])})
	}
	return out, nil
}
