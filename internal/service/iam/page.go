package iam

import (
	"encoding/base64"

	"carrel/internal/api/shape"
)

// defaultItems is the size of a page when the caller names none (IAM API reference, MaxItems).
const defaultItems = 100

// page gives the items after marker of a list in the order of their keys, at most max, and the marker of the next page, nil at
// the end. The marker is the position's key as base64: what the client makes of it moves only the client's own position.
// AWS's marker may have 320 characters, so a key may have 240 bytes.
func page[T any](items []T, key func(T) string, marker *string, max *int32) ([]T, *string, error) {
	from := 0
	if marker != nil {
		after, err := base64.RawURLEncoding.Strict().DecodeString(*marker)
		if err != nil || len(after) == 0 {
			return nil, nil, invalidMarker()
		}
		for from < len(items) && key(items[from]) <= string(after) {
			from++
		}
	}
	items = items[from:]
	limit := defaultItems
	if max != nil && *max > 0 {
		limit = int(*max)
	}
	if len(items) <= limit {
		return items, nil, nil
	}
	next := base64.RawURLEncoding.EncodeToString([]byte(key(items[limit-1])))
	return items[:limit], shape.Ptr(next), nil
}
