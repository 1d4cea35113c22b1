package iam

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/ident"
	"carrel/internal/managed"
	"carrel/internal/policy"
	"carrel/internal/service"
	"carrel/internal/state"
)

// policyView is a managed policy, the customer's or AWS's, as the reading operations see it.
type policyView struct {
	arn, id, name, path, description string
	aws                              bool
	created, updated                 time.Time
	tags                             map[string]string
	// versions are in the order they were made in.
	versions []state.PolicyVersion
	main     string
}

func (s *Service) customers(p *state.Policy) policyView {
	return policyView{arn: s.account().ARN(p), id: string(p.ID), name: p.Name, path: p.Path, description: p.Description, created: p.Created,
		updated: p.Updated, tags: p.Tags, versions: p.Versions, main: p.Default}
}

// awss is AWS's managed policy: its default version is the only one there is here.
func (s *Service) awss(p *managed.Policy) policyView {
	return policyView{arn: p.ARN(s.Partition), id: p.ID, name: p.Name, path: p.Path, description: p.Description, aws: true, created: p.Created,
		updated: p.Updated, versions: []state.PolicyVersion{{ID: p.Version, Document: p.Document, Created: p.Updated}}, main: p.Version}
}

// findPolicy finds a managed policy of either kind; missing is the answer when there is none of that ARN.
func (s *Service) findPolicy(r state.Reader, name *string, missing func(string) error) (policyView, error) {
	if err := checkPolicyARN(name); err != nil {
		return policyView{}, err
	}
	if p, ok := managed.Find(s.Partition, *name); ok {
		return s.awss(p), nil
	}
	if p, ok := s.account().Customer(r, *name); ok {
		return s.customers(p), nil
	}
	return policyView{}, missing(*name)
}

// ownPolicy finds a customer managed policy, which can be changed; AWS's cannot.
func (s *Service) ownPolicy(tx *state.Tx, name *string, missing func(string) error) (*state.Policy, error) {
	if err := checkPolicyARN(name); err != nil {
		return nil, err
	}
	if _, ok := managed.Find(s.Partition, *name); ok {
		return nil, foreignPolicy()
	}
	if p, ok := s.account().Customer(tx, *name); ok {
		return p, nil
	}
	return nil, missing(*name)
}

// changePolicy lets fn change a customer managed policy, and saves it.
func (s *Service) changePolicy(ctx context.Context, name *string, missing func(string) error, fn func(*state.Tx, *state.Policy) error) error {
	return s.update(ctx, func(tx *state.Tx) error {
		old, err := s.ownPolicy(tx, name, missing)
		if err != nil {
			return err
		}
		p := state.Clone(old)
		if err := fn(tx, p); err != nil {
			return err
		}
		p.Updated = tx.Now()
		state.Put(tx, state.Policies, p)
		return nil
	})
}

// uses counts to how many users, groups and roles a policy is attached, and how many it bounds.
func uses(r state.Reader, arn string) (attached, bounds int) {
	attached = state.CountBy(r, state.Users, state.UsersByPolicy, arn) + state.CountBy(r, state.Groups, state.GroupsByPolicy, arn) +
		state.CountBy(r, state.Roles, state.RolesByPolicy, arn)
	return attached, state.CountBy(r, state.Users, state.UsersByBoundary, arn) + state.CountBy(r, state.Roles, state.RolesByBoundary, arn)
}

// describePolicy is a policy as lists have it: without description and tags (IAM API reference, ListPolicies).
func describePolicy(r state.Reader, p policyView) *iam.Policy {
	attached, bounds := uses(r, p.arn)
	return &iam.Policy{
		Arn: shape.Ptr(p.arn), PolicyId: shape.Ptr(p.id), PolicyName: shape.Ptr(p.name), Path: shape.Ptr(p.path), DefaultVersionId: shape.Ptr(p.main),
		AttachmentCount: shape.Ptr(int32(attached)), PermissionsBoundaryUsageCount: shape.Ptr(int32(bounds)), IsAttachable: shape.Ptr(true),
		CreateDate: shape.Ptr(p.created), UpdateDate: shape.Ptr(p.updated),
	}
}

func policyClaim(name string) string { return "policy/" + strings.ToLower(name) }

// CreatePolicy makes a customer managed policy with its first version.
func (s *Service) CreatePolicy(ctx context.Context, _ service.Call, in *iam.CreatePolicyInput) (*iam.CreatePolicyOutput, error) {
	if err := policyTags.check(in.Tags); err != nil {
		return nil, err
	}
	if err := storable(in.PolicyDocument); err != nil {
		return nil, err
	}
	name, id := shape.Val(in.PolicyName), ident.NewPolicyID(s.Rand)
	var p *state.Policy
	err := s.update(ctx, func(tx *state.Tx) error {
		if err := room(tx, state.Policies, "PoliciesPerAccount", s.MaxPolicies); err != nil {
			return err
		}
		if err := claim(tx, policyClaim(name), string(id), policyExists(name)); err != nil {
			return err
		}
		now := tx.Now()
		p = &state.Policy{
			Meta: state.Meta{Created: now, Tags: policyTags.merge(nil, in.Tags)}, ID: id, Name: name, Path: cmp.Or(shape.Val(in.Path), "/"),
			Description: shape.Val(in.Description), Updated: now, Versions: []state.PolicyVersion{{ID: "v1", Document: *in.PolicyDocument, Created: now}},
			Default: "v1", Next: 2,
		}
		state.Put(tx, state.Policies, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := describePolicy(s.DB.Snapshot(), s.customers(p))
	out.Tags = tagList(p.Tags)
	return &iam.CreatePolicyOutput{Policy: out}, nil
}

// storable refuses a document that cannot be a managed policy.
func storable(document *string) error {
	if _, err := parse(policy.Identity, document); err != nil {
		return err
	}
	return fits(policy.ManagedQuota, "", *document)
}

// GetPolicy describes a managed policy.
func (s *Service) GetPolicy(_ context.Context, _ service.Call, in *iam.GetPolicyInput) (*iam.GetPolicyOutput, error) {
	snap := s.DB.Snapshot()
	p, err := s.findPolicy(snap, in.PolicyArn, noSuchPolicy)
	if err != nil {
		return nil, err
	}
	out := describePolicy(snap, p)
	if out.Tags = tagList(p.tags); out.Tags == nil {
		out.Tags = []iam.Tag{}
	}
	if p.description != "" {
		out.Description = shape.Ptr(p.description)
	}
	return &iam.GetPolicyOutput{Policy: out}, nil
}

// ListPolicies lists managed policies under a path in the order of their names: the customer's (Local), AWS's or all, on demand only those
// that are attached, or that are used as PolicyUsageFilter says.
func (s *Service) ListPolicies(_ context.Context, _ service.Call, in *iam.ListPoliciesInput) (*iam.ListPoliciesOutput, error) {
	snap := s.DB.Snapshot()
	var list []policyView
	if shape.Val(in.Scope) != iam.PolicyScopeTypeLocal {
		for _, p := range managed.All() {
			list = append(list, s.awss(p))
		}
	}
	if shape.Val(in.Scope) != iam.PolicyScopeTypeAws {
		for p := range state.All(snap, state.Policies) {
			list = append(list, s.customers(p))
		}
	}
	list = slices.DeleteFunc(list, func(p policyView) bool {
		if !strings.HasPrefix(p.path, shape.Val(in.PathPrefix)) {
			return true
		}
		attached, bounds := uses(snap, p.arn)
		switch shape.Val(in.PolicyUsageFilter) {
		case iam.PolicyUsageTypePermissionsPolicy:
			return attached == 0
		case iam.PolicyUsageTypePermissionsBoundary:
			return bounds == 0
		}
		return shape.Val(in.OnlyAttached) && attached == 0
	})
	// A customer's policy may have the name of one of AWS's.
	key := func(p policyView) string {
		if p.aws {
			return strings.ToLower(p.name) + " aws"
		}
		return strings.ToLower(p.name)
	}
	slices.SortFunc(list, func(a, b policyView) int { return cmp.Compare(key(a), key(b)) })
	list, next, err := page(list, key, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iam.ListPoliciesOutput{Policies: make([]iam.Policy, 0, len(list)), IsTruncated: shape.Ptr(next != nil), Marker: next}
	for _, p := range list {
		out.Policies = append(out.Policies, *describePolicy(snap, p))
	}
	return out, nil
}

// DeletePolicy removes a customer managed policy that is not used and has only its default version. The guards see whom it is given to at
// the same time.
func (s *Service) DeletePolicy(ctx context.Context, _ service.Call, in *iam.DeletePolicyInput) (*iam.DeletePolicyOutput, error) {
	return &iam.DeletePolicyOutput{}, s.update(ctx, func(tx *state.Tx) error {
		p, err := s.ownPolicy(tx, in.PolicyArn, noSuchPolicy)
		if err != nil {
			return err
		}
		for _, table := range []state.Table{state.UserTable, state.GroupTable, state.RoleTable} {
			tx.Guard(table, "")
		}
		if attached, bounds := uses(tx, *in.PolicyArn); attached+bounds > 0 {
			return deleteConflict("Cannot delete a policy attached to entities.")
		}
		if len(p.Versions) > 1 {
			return deleteConflict("This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.")
		}
		state.Delete(tx, state.Policies, string(p.ID))
		tx.Release(policyClaim(p.Name))
		return nil
	})
}
