package workspaces

import (
	"context"
	"strings"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/service"
	"carrel/internal/state"
)

// DescribeWorkspaceImages lists the account's images, all or the named ones, in pages of MaxResults in the order of their ids. The images
// of public bundles are nobody's and do not appear. ImageType SHARED asks for images that other accounts share: there are none.
func (s *Service) DescribeWorkspaceImages(_ context.Context, _ service.Call, in *api.DescribeWorkspaceImagesInput) (*api.DescribeWorkspaceImagesOutput, error) {
	q := query{"DescribeWorkspaceImages", strings.Join(in.ImageIds, ","), string(shape.Val(in.ImageType))}
	after, err := s.pages.open(q, in.NextToken)
	if err != nil {
		return nil, err
	}
	snap := s.DB.Snapshot()
	seq := state.All(snap, state.Images)
	if in.ImageIds != nil {
		seq = found(snap, state.Images, in.ImageIds)
	}
	shared := shape.Val(in.ImageType) == api.ImageTypeShared
	keep := func(i *state.Image) bool { return i.Owner == s.Account && !shared }
	recs, next := filter(seq, state.Images, keep, cut{after, pageSize(in.MaxResults)})
	out := &api.DescribeWorkspaceImagesOutput{Images: make([]api.WorkspaceImage, len(recs)), NextToken: s.pages.seal(q, next)}
	for i, rec := range recs {
		out.Images[i] = image(rec)
	}
	return out, nil
}

func image(i *state.Image) api.WorkspaceImage {
	out := api.WorkspaceImage{
		ImageId:        (*string)(&i.ID),
		Name:           &i.Name,
		Description:    some(&i.Description),
		State:          (*api.WorkspaceImageState)(&i.State),
		ErrorCode:      some(&i.ErrorCode),
		ErrorMessage:   some(&i.ErrorMessage),
		Created:        &i.Created,
		OwnerAccountId: &i.Owner,
	}
	if i.Platform != "" {
		out.OperatingSystem = &api.OperatingSystem{Type: (*api.OperatingSystemType)(&i.Platform)}
	}
	if i.RequiredTenancy != "" {
		out.RequiredTenancy = (*api.WorkspaceImageRequiredTenancy)(&i.RequiredTenancy)
	}
	return out
}
