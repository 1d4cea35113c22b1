package workspaces

import (
	"context"
	"strconv"
	"strings"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/service"
	"carrel/internal/state"
)

const (
	// publicOwner owns the bundles and images that Carrel comes with: what a client asks for and what a record has.
	publicOwner = "AMAZON"
	// publicOwnerShown is how answers write it.
	publicOwnerShown = "Amazon"
)

// DescribeWorkspaceBundles lists the named bundles, those of Owner AMAZON or, with neither, the account's own, in pages of 25 in the order
// of their ids. Bundles of others and ids that do not exist are left out.
func (s *Service) DescribeWorkspaceBundles(_ context.Context, _ service.Call, in *api.DescribeWorkspaceBundlesInput) (*api.DescribeWorkspaceBundlesOutput, error) {
	if in.BundleIds != nil && in.Owner != nil {
		return nil, errBundleFilters()
	}
	owner := shape.Val(in.Owner)
	q := query{"DescribeWorkspaceBundles", strings.Join(in.BundleIds, ","), owner}
	after, err := s.pages.open(q, in.NextToken)
	if err != nil {
		return nil, err
	}
	snap := s.DB.Snapshot()
	seq, keep := state.All(snap, state.Bundles), func(b *state.Bundle) bool { return b.Owner == s.Account }
	switch {
	case in.BundleIds != nil:
		seq = found(snap, state.Bundles, in.BundleIds)
		keep = func(b *state.Bundle) bool { return b.Owner == publicOwner || b.Owner == s.Account }
	case strings.EqualFold(owner, publicOwner):
		keep = func(b *state.Bundle) bool { return b.Owner == publicOwner }
	case owner != "" && owner != s.Account:
		keep = func(*state.Bundle) bool { return false }
	}
	recs, next := filter(seq, state.Bundles, keep, cut{after, maxPage})
	out := &api.DescribeWorkspaceBundlesOutput{Bundles: make([]api.WorkspaceBundle, len(recs)), NextToken: s.pages.seal(q, next)}
	for i, b := range recs {
		out.Bundles[i] = bundle(b)
	}
	return out, nil
}

func bundle(b *state.Bundle) api.WorkspaceBundle {
	owner := b.Owner
	if owner == publicOwner {
		owner = publicOwnerShown
	}
	out := api.WorkspaceBundle{
		BundleId:     (*string)(&b.ID),
		Name:         &b.Name,
		Owner:        &owner,
		Description:  some(&b.Description),
		ImageId:      some((*string)(&b.ImageID)),
		ComputeType:  &api.ComputeType{Name: (*api.Compute)(&b.Compute)},
		RootStorage:  &api.RootStorage{Capacity: shape.Ptr(strconv.Itoa(b.RootGiB))},
		UserStorage:  &api.UserStorage{Capacity: shape.Ptr(strconv.Itoa(b.UserGiB))},
		State:        (*api.WorkspaceBundleState)(&b.State),
		BundleType:   shape.Ptr(api.BundleTypeRegular),
		CreationTime: &b.Created,
	}
	if !b.Updated.IsZero() {
		out.LastUpdatedTime = &b.Updated
	}
	return out
}
