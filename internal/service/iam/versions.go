package iam

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/service"
	"carrel/internal/state"
)

// CreatePolicyVersion adds a version to a customer managed policy, and makes it the default one if that is asked for.
func (s *Service) CreatePolicyVersion(ctx context.Context, _ service.Call, in *iam.CreatePolicyVersionInput) (*iam.CreatePolicyVersionOutput, error) {
	if err := storable(in.PolicyDocument); err != nil {
		return nil, err
	}
	var made state.PolicyVersion
	err := s.changePolicy(ctx, in.PolicyArn, noUsablePolicy, func(tx *state.Tx, p *state.Policy) error {
		if len(p.Versions) >= versionsPerPolicy {
			return tooManyVersions()
		}
		made = state.PolicyVersion{ID: fmt.Sprint("v", p.Next), Document: *in.PolicyDocument, Created: tx.Now()}
		p.Versions = append(p.Versions, made)
		p.Next++
		if shape.Val(in.SetAsDefault) {
			p.Default = made.ID
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreatePolicyVersionOutput{PolicyVersion: describeVersion(made, shape.Val(in.SetAsDefault))}, nil
}

// describeVersion is a version without its document, which only GetPolicyVersion shows.
func describeVersion(v state.PolicyVersion, main bool) *iam.PolicyVersion {
	return &iam.PolicyVersion{VersionId: shape.Ptr(v.ID), IsDefaultVersion: shape.Ptr(main), CreateDate: shape.Ptr(v.Created)}
}

// version finds a version by its id, -1 when there is none.
func version(versions []state.PolicyVersion, id *string) int {
	return slices.IndexFunc(versions, func(v state.PolicyVersion) bool { return v.ID == shape.Val(id) })
}

// GetPolicyVersion shows a version of a managed policy with its document.
func (s *Service) GetPolicyVersion(_ context.Context, _ service.Call, in *iam.GetPolicyVersionInput) (*iam.GetPolicyVersionOutput, error) {
	missing := func(arn string) error { return noSuchVersion(arn, shape.Val(in.VersionId)) }
	p, err := s.findPolicy(s.DB.Snapshot(), in.PolicyArn, missing)
	if err != nil {
		return nil, err
	}
	i := version(p.versions, in.VersionId)
	if i < 0 {
		return nil, missing(p.arn)
	}
	out := describeVersion(p.versions[i], p.versions[i].ID == p.main)
	out.Document = encoded(p.versions[i].Document)
	return &iam.GetPolicyVersionOutput{PolicyVersion: out}, nil
}

// ListPolicyVersions lists the versions of a managed policy, the newest first.
func (s *Service) ListPolicyVersions(_ context.Context, _ service.Call, in *iam.ListPolicyVersionsInput) (*iam.ListPolicyVersionsOutput, error) {
	p, err := s.findPolicy(s.DB.Snapshot(), in.PolicyArn, noSuchPolicy)
	if err != nil {
		return nil, err
	}
	versions := slices.Clone(p.versions)
	slices.Reverse(versions)
	position := func(v state.PolicyVersion) string {
		n, _ := strconv.Atoi(v.ID[1:]) // they are made as "v" and a number
		return fmt.Sprintf("%010d", math.MaxInt32-n)
	}
	versions, next, err := page(versions, position, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iam.ListPolicyVersionsOutput{Versions: make([]iam.PolicyVersion, 0, len(versions)), IsTruncated: shape.Ptr(next != nil), Marker: next}
	for _, v := range versions {
		out.Versions = append(out.Versions, *describeVersion(v, v.ID == p.main))
	}
	return out, nil
}

// SetDefaultPolicyVersion chooses the version that counts.
func (s *Service) SetDefaultPolicyVersion(ctx context.Context, _ service.Call, in *iam.SetDefaultPolicyVersionInput) (*iam.SetDefaultPolicyVersionOutput, error) {
	missing := func(arn string) error { return noSuchVersion(arn, shape.Val(in.VersionId)) }
	return &iam.SetDefaultPolicyVersionOutput{}, s.changePolicy(ctx, in.PolicyArn, missing, func(_ *state.Tx, p *state.Policy) error {
		if version(p.Versions, in.VersionId) < 0 {
			return missing(*in.PolicyArn)
		}
		p.Default = *in.VersionId
		return nil
	})
}

// DeletePolicyVersion removes a version that is not the default one.
func (s *Service) DeletePolicyVersion(ctx context.Context, _ service.Call, in *iam.DeletePolicyVersionInput) (*iam.DeletePolicyVersionOutput, error) {
	missing := func(arn string) error { return noSuchVersion(arn, shape.Val(in.VersionId)) }
	return &iam.DeletePolicyVersionOutput{}, s.changePolicy(ctx, in.PolicyArn, missing, func(_ *state.Tx, p *state.Policy) error {
		i := version(p.Versions, in.VersionId)
		if i < 0 {
			return missing(*in.PolicyArn)
		}
		if p.Default == *in.VersionId {
			return deleteConflict("Cannot delete the default version of a policy.")
		}
		p.Versions = slices.Delete(p.Versions, i, i+1)
		return nil
	})
}
