package iam

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/policy"
	"carrel/internal/service"
	"carrel/internal/state"
)

// ListPoliciesGrantingServiceAccess lists the policies of a user, with its groups', a group or a role that allow something of a service. What else
// limits the identity is not looked at, as in AWS.
func (s *Service) ListPoliciesGrantingServiceAccess(_ context.Context, _ service.Call, in *iam.ListPoliciesGrantingServiceAccessInput) (*iam.ListPoliciesGrantingServiceAccessOutput, error) {
	snap := s.DB.Snapshot()
	e, err := s.origin(snap, in.Arn)
	if err != nil {
		return nil, err
	}
	order := make([]int, len(in.ServiceNamespaces))
	for i := range order {
		order[i] = i
	}
	services, next, err := page(order, func(i int) string { return fmt.Sprintf("%08d", i) }, in.Marker, nil)
	if err != nil {
		return nil, err
	}
	out := &iam.ListPoliciesGrantingServiceAccessOutput{PoliciesGrantingServiceAccess: []iam.ListPoliciesGrantingServiceAccessEntry{}, IsTruncated: shape.Ptr(next != nil), Marker: next}
	for _, i := range services {
		entry := iam.ListPoliciesGrantingServiceAccessEntry{ServiceNamespace: &in.ServiceNamespaces[i], Policies: []iam.PolicyGrantingServiceAccess{}}
		for _, o := range e.owners {
			entry.Policies = append(entry.Policies, s.granting(snap, o, in.ServiceNamespaces[i])...)
		}
		out.PoliciesGrantingServiceAccess = append(out.PoliciesGrantingServiceAccess, entry)
	}
	return out, nil
}

// granting are the policies of one owner that allow something of a service: of an inline one is told whose it is, of a managed one its ARN.
func (s *Service) granting(r state.Reader, o owner, namespace string) []iam.PolicyGrantingServiceAccess {
	var out []iam.PolicyGrantingServiceAccess
	for _, name := range slices.Sorted(maps.Keys(o.own.Inline)) {
		if grants(o.own.Inline[name], namespace) {
			out = append(out, iam.PolicyGrantingServiceAccess{PolicyName: &name, PolicyType: shape.Ptr(iam.PolicyTypeInline), EntityType: &o.kind, EntityName: &o.name})
		}
	}
	for _, source := range s.account().Attached(r, o.own.Attached) {
		if grants(source.Text, namespace) {
			out = append(out, iam.PolicyGrantingServiceAccess{PolicyName: shape.Ptr(simulatorID(source)), PolicyType: shape.Ptr(iam.PolicyTypeManaged), PolicyArn: shape.Ptr(source.ID)})
		}
	}
	return out
}

// grants tells whether a statement of a document allows an action of the service.
func grants(text, namespace string) bool {
	doc, err := policy.Parse(policy.Identity, text)
	if err != nil {
		return false // it denies everything
	}
	for i := range doc.Statements {
		s := &doc.Statements[i]
		if s.Effect != policy.Allow {
			continue
		}
		named, whole := false, false
		for _, action := range s.Actions {
			vendor, rest, _ := strings.Cut(action, ":")
			ofService := action == "*" || strings.EqualFold(vendor, namespace)
			named = named || ofService
			whole = whole || ofService && (action == "*" || strings.Trim(rest, "*") == "")
		}
		if s.NotAction && !whole || !s.NotAction && named {
			return true
		}
	}
	return false
}
