package iam

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/policy"
	"carrel/internal/service"
)

// GetContextKeysForCustomPolicy lists the condition keys that policies ask for.
func (s *Service) GetContextKeysForCustomPolicy(_ context.Context, _ service.Call, in *iam.GetContextKeysForCustomPolicyInput) (*iam.GetContextKeysForCustomPolicyOutput, error) {
	keys, err := contextKeys(nil, in.PolicyInputList)
	if err != nil {
		return nil, err
	}
	return &iam.GetContextKeysForCustomPolicyOutput{ContextKeyNames: keys}, nil
}

// GetContextKeysForPrincipalPolicy lists the condition keys that the policies of a user, with its groups', a group or a role ask for.
func (s *Service) GetContextKeysForPrincipalPolicy(_ context.Context, _ service.Call, in *iam.GetContextKeysForPrincipalPolicyInput) (*iam.GetContextKeysForPrincipalPolicyOutput, error) {
	e, err := s.origin(s.DB.Snapshot(), in.PolicySourceArn)
	if err != nil {
		return nil, err
	}
	var stored []string
	for _, source := range e.policies {
		stored = append(stored, source.Text)
	}
	keys, err := contextKeys(stored, in.PolicyInputList)
	if err != nil {
		return nil, err
	}
	return &iam.GetContextKeysForPrincipalPolicyOutput{ContextKeyNames: keys}, nil
}

// contextKeys are the keys of documents that are stored and of those that the request brings, which may be of any kind. Each key is given once,
// in the first spelling, in the order of their names.
func contextKeys(stored, given []string) ([]string, error) {
	keys := []string{}
	for _, text := range stored {
		// One that cannot be read any more denies everything, whatever the keys.
		if doc, err := policy.Parse(policy.Identity, text); err == nil {
			keys = append(keys, doc.ContextKeys()...)
		}
	}
	named, err := sourcesOfAnyKind(given)
	if err != nil {
		return nil, err
	}
	for _, doc := range named {
		keys = append(keys, doc.ContextKeys()...)
	}
	slices.SortStableFunc(keys, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return slices.CompactFunc(keys, strings.EqualFold), nil
}

func sourcesOfAnyKind(texts []string) ([]*policy.Document, error) {
	var docs []*policy.Document
	for i, text := range texts {
		var first error
		for _, kind := range []policy.Kind{policy.Identity, policy.Resource, policy.Trust} {
			doc, err := policy.Parse(kind, text)
			if err == nil {
				docs, first = append(docs, doc), nil
				break
			}
			if first == nil {
				first = err
			}
		}
		if first != nil {
			return nil, badDocument(fmt.Sprintf("PolicyInputList.%d", i+1), first)
		}
	}
	return docs, nil
}

// checkContext refuses values that are not of the type that their entry names.
func checkContext(entries []iam.ContextEntry) error {
	seen := map[string]bool{}
	for _, e := range entries {
		name := shape.Val(e.ContextKeyName)
		switch folded := policy.NewKey(name).String(); {
		case name == "":
			return invalidInput("A context key has no name.")
		case seen[folded]:
			return invalidInput("The context key %s is given twice.", name)
		default:
			seen[folded] = true
		}
		if e.ContextKeyType == nil {
			return invalidInput("The context key %s has no type.", name)
		}
		kind, list := strings.CutSuffix(string(*e.ContextKeyType), "List")
		if !list && len(e.ContextKeyValues) > 1 {
			return invalidInput("The context key %s of type %s has %d values.", name, kind, len(e.ContextKeyValues))
		}
		for _, value := range e.ContextKeyValues {
			if !isOf(kind, value) {
				return invalidInput("The value '%s' of the context key %s is not of type %s.", value, name, kind)
			}
		}
	}
	return nil
}

var numeric = regexp.MustCompile(`^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$`)

// isOf tells whether a value is of a type of ContextKeyTypeEnum, without "List".
func isOf(kind, value string) bool {
	switch kind {
	case "string":
		return true
	case "numeric":
		return numeric.MatchString(value)
	case "boolean":
		return strings.EqualFold(value, "true") || strings.EqualFold(value, "false")
	case "ip":
		_, single := netip.ParseAddr(value)
		_, block := netip.ParsePrefix(value)
		return single == nil || block == nil
	case "binary":
		_, err := base64.StdEncoding.DecodeString(value)
		return err == nil
	case "date":
		return isDate(value)
	}
	return false
}

func isDate(value string) bool {
	if value != "" && strings.Trim(value, "0123456789") == "" {
		return true // the time as seconds since 1970
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02", "2006-01", "2006"} {
		if _, err := time.Parse(layout, value); err == nil {
			return true
		}
	}
	return false
}
