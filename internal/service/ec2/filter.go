package ec2

import (
	"slices"
	"strings"

	"carrel/internal/api/ec2"
	"carrel/internal/api/shape"
)

// maxValues is how many values all filters of one call may have together ("Filtering your resources").
const maxValues = 200

// filters says which filters a resource has: for each name the values of a resource under it. A resource passes a filter when
// one of its values matches one of the filter's; it must pass all filters.
type filters[T any] struct {
	of   map[string]func(*T) []string
	tags func(*T) []ec2.Tag
}

// match makes the test for the given filters; an unknown name or a filter without name or values is an error. Values are matched
// with regard to case.
func (f filters[T]) match(given []ec2.Filter) (func(*T) bool, error) {
	type test struct {
		values func(*T) []string
		want   []string
	}
	tests := make([]test, 0, len(given))
	total := 0
	for _, filter := range given {
		if filter.Name == nil {
			return nil, missingParameter("Filter.Name")
		}
		if len(filter.Values) == 0 {
			return nil, missingParameter("Filter.Value")
		}
		if total += len(filter.Values); total > maxValues {
			return nil, tooManyValues()
		}
		values := f.named(*filter.Name)
		if values == nil {
			return nil, invalidValue("The filter '%s' is invalid", *filter.Name)
		}
		tests = append(tests, test{values, filter.Values})
	}
	return func(r *T) bool {
		for _, t := range tests {
			have := t.values(r)
			if !slices.ContainsFunc(t.want, func(pattern string) bool {
				return slices.ContainsFunc(have, func(value string) bool { return wildcard(pattern, value) })
			}) {
				return false
			}
		}
		return true
	}, nil
}

// named gives what a filter looks at, nil for an unknown name.
func (f filters[T]) named(name string) func(*T) []string {
	if f.tags != nil {
		if key, ok := strings.CutPrefix(name, "tag:"); ok && key != "" {
			return func(r *T) (values []string) {
				for _, tag := range f.tags(r) {
					if shape.Val(tag.Key) == key {
						values = append(values, shape.Val(tag.Value))
					}
				}
				return values
			}
		}
		if name == "tag-key" {
			return func(r *T) (keys []string) {
				for _, tag := range f.tags(r) {
					keys = append(keys, shape.Val(tag.Key))
				}
				return keys
			}
		}
	}
	return f.of[name]
}

// wildcard matches * (any characters) and ? (one character); a backslash takes the next character as it is. It needs at most
// len(pattern)*len(value) steps: the client controls the pattern.
func wildcard(pattern, value string) bool {
	p, v := []rune(pattern), []rune(value)
	i, j, star, mark := 0, 0, -1, 0
	for j < len(v) {
		if i < len(p) && p[i] == '*' {
			star, mark = i, j
			i++
			continue
		}
		if width := one(p[i:], v[j]); width > 0 {
			i, j = i+width, j+1
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		i, j = star+1, mark
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// one gives how many runes of the pattern match c: 0 for none, 2 for an escaped one.
func one(p []rune, c rune) int {
	switch {
	case len(p) == 0:
		return 0
	case p[0] == '\\' && len(p) > 1:
		if p[1] == c {
			return 2
		}
		return 0
	case p[0] == '?' || p[0] == c:
		return 1
	}
	return 0
}

// none is the value of filters on what Carrel's resources do not have: AWS knows the filter, and nothing passes it.
func none[T any](*T) []string { return nil }

func text[T any](get func(*T) *string) func(*T) []string {
	return func(r *T) []string {
		if p := get(r); p != nil {
			return []string{*p}
		}
		return nil
	}
}

func truth[T any](get func(*T) *bool) func(*T) []string {
	return func(r *T) []string {
		if shape.Val(get(r)) {
			return []string{"true"}
		}
		return []string{"false"}
	}
}
