package oidc

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"carrel/internal/awserr"
)

// The claims that AWS reads (IAM User Guide, "Passing session tags in AWS STS"). The tags stand in one object, or each in a claim of its own
// under the same name.
const (
	tagsClaim     = "https://aws.amazon.com/tags"
	tagClaim      = tagsClaim + "/principal_tags/"
	keysClaim     = tagsClaim + "/transitive_tag_keys"
	identityClaim = "https://aws.amazon.com/source_identity"
)

// Limits of session tags (STS API reference).
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

var (
	sourceIdentity = regexp.MustCompile(`^[a-zA-Z_0-9+=,.@-]{2,64}$`)
	tagText        = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

func hasAWSPrefix(s string) bool { return strings.HasPrefix(strings.ToLower(s), "aws:") }

// readTags reads session tags and source identity.
func (id *Identity) readTags(claims object) *awserr.Error {
	if written, given := claims[identityClaim]; given {
		name, ok := written.(string)
		if !ok || !sourceIdentity.MatchString(name) || hasAWSPrefix(name) {
			return invalid(`Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with "aws:"`)
		}
		id.SourceIdentity = name
	}
	tags := object{}
	for name, v := range claims {
		if key, ok := strings.CutPrefix(name, tagClaim); ok {
			tags[key] = v
		}
	}
	transitive, ok := claims.texts(keysClaim)
	if written, given := claims[tagsClaim]; given && ok {
		if len(tags) > 0 || transitive != nil {
			return notJWT(errors.New("tags in both forms"))
		}
		var all object
		if all, ok = written.(object); ok {
			if list, given := all["principal_tags"]; given {
				tags, ok = list.(object)
			}
			if ok {
				transitive, ok = all.texts("transitive_tag_keys")
			}
		}
	}
	if !ok {
		return notJWT(errors.New("the tags are not in their form"))
	}
	return id.setTags(tags, transitive)
}

func (id *Identity) setTags(tags object, transitive []string) *awserr.Error {
	if len(tags) > maxTags {
		return invalid("The token has more than %d session tags", maxTags)
	}
	folded := map[string]bool{}
	for key := range tags {
		values, ok := tags.texts(key)
		if !ok || len(values) != 1 || !validTag(key, values[0]) {
			return invalid("The session tag %.128q in the token is not valid", key)
		}
		// Keys are compared without case in conditions: two that differ in it alone would be one tag with two values.
		if folded[strings.ToLower(key)] {
			return invalid("Duplicate tag keys found in the token. Please note that Tag keys are case insensitive.")
		}
		folded[strings.ToLower(key)] = true
		if id.Tags == nil {
			id.Tags = map[string]string{}
		}
		id.Tags[key] = values[0]
	}
	for _, key := range transitive {
		if _, known := id.Tags[key]; !known {
			return invalid("The specified transitive tag key must be included in the requested tags.")
		}
		id.Transitive = append(id.Transitive, key)
	}
	return nil
}

func validTag(key, value string) bool {
	return key != "" && utf8.RuneCountInString(key) <= maxTagKey && utf8.RuneCountInString(value) <= maxTagValue &&
		tagText.MatchString(key) && tagText.MatchString(value) && !hasAWSPrefix(key)
}
