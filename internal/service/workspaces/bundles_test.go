package workspaces

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

func TestDescribeWorkspaceBundlesChooses(t *testing.T) {
	w := furnish(t)
	for _, c := range []struct {
		name string
		in   api.DescribeWorkspaceBundlesInput
		want string
	}{
		{"the account's own", api.DescribeWorkspaceBundlesInput{}, "wsb-mine00001"},
		{"the account's own by its id", api.DescribeWorkspaceBundlesInput{Owner: shape.Ptr(account)}, "wsb-mine00001"},
		{"public ones", api.DescribeWorkspaceBundlesInput{Owner: shape.Ptr("AMAZON")}, "wsb-gfx000001 wsb-std000001 wsb-tiny00001 wsb-wait00001"},
		{"public ones as they are shown", api.DescribeWorkspaceBundlesInput{Owner: shape.Ptr("Amazon")}, "wsb-gfx000001 wsb-std000001 wsb-tiny00001 wsb-wait00001"},
		{"another account's: none", api.DescribeWorkspaceBundlesInput{Owner: shape.Ptr("210987654321")}, ""},
		{"named ones that may be seen", api.DescribeWorkspaceBundlesInput{BundleIds: []string{string(standard), string(foreign), string(mine), "wsb-000000000"}}, "wsb-mine00001 wsb-std000001"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := must(w.DescribeWorkspaceBundles(context.Background(), service.Call{}, &c.in))(t)
			ids := []string{}
			for _, b := range out.Bundles {
				ids = append(ids, *b.BundleId)
			}
			if got := strings.Join(ids, " "); got != c.want || out.Bundles == nil {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	t.Run("ids and owner exclude each other", func(t *testing.T) {
		_, err := w.DescribeWorkspaceBundles(context.Background(), service.Call{}, &api.DescribeWorkspaceBundlesInput{BundleIds: []string{string(mine)}, Owner: shape.Ptr("AMAZON")})
		refused(t, err, "InvalidParameterValuesException")
	})
	t.Run("a public bundle is shown as Amazon's", func(t *testing.T) {
		out := must(w.DescribeWorkspaceBundles(context.Background(), service.Call{}, &api.DescribeWorkspaceBundlesInput{BundleIds: []string{string(standard)}}))(t)
		b := out.Bundles[0]
		if *b.Owner != "Amazon" || *b.RootStorage.Capacity != "80" || *b.UserStorage.Capacity != "50" || *b.ComputeType.Name != "STANDARD" ||
			*b.State != "AVAILABLE" || *b.ImageId != "wsi-0a1b2c3d4" || *b.BundleType != "REGULAR" || b.LastUpdatedTime != nil {
			t.Errorf("bundle %+v", b)
		}
	})
	t.Run("30 are two pages", func(t *testing.T) {
		for i := range 29 {
			put(w, state.Bundles, &state.Bundle{ID: ident.BundleID(fmt.Sprintf("wsb-own%06d", i)), Owner: account, State: "AVAILABLE"})
		}
		first := must(w.DescribeWorkspaceBundles(context.Background(), service.Call{}, &api.DescribeWorkspaceBundlesInput{}))(t)
		second := must(w.DescribeWorkspaceBundles(context.Background(), service.Call{}, &api.DescribeWorkspaceBundlesInput{NextToken: first.NextToken}))(t)
		if len(first.Bundles) != 25 || len(second.Bundles) != 5 || second.NextToken != nil {
			t.Errorf("%d and %d", len(first.Bundles), len(second.Bundles))
		}
		_, err := w.DescribeWorkspaceBundles(context.Background(), service.Call{}, &api.DescribeWorkspaceBundlesInput{Owner: shape.Ptr("AMAZON"), NextToken: first.NextToken})
		refused(t, err, "InvalidParameterValuesException")
	})
}

func TestDescribeWorkspaceImages(t *testing.T) {
	w, _ := tagged(t)
	owned, shared := api.ImageTypeOwned, api.ImageTypeShared
	for _, c := range []struct {
		name string
		in   api.DescribeWorkspaceImagesInput
		want int
	}{
		{"all: the account's own", api.DescribeWorkspaceImagesInput{}, 1},
		{"owned", api.DescribeWorkspaceImagesInput{ImageType: &owned}, 1},
		{"shared: none", api.DescribeWorkspaceImagesInput{ImageType: &shared}, 0},
		{"a public bundle's image is not shown", api.DescribeWorkspaceImagesInput{ImageIds: []string{"wsi-0a1b2c3d5"}}, 0},
		{"by id", api.DescribeWorkspaceImagesInput{ImageIds: []string{"wsi-0a1b2c3d4", "wsi-999999999"}}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := must(w.DescribeWorkspaceImages(context.Background(), service.Call{}, &c.in))(t)
			if len(out.Images) != c.want || out.Images == nil {
				t.Fatalf("%d images", len(out.Images))
			}
			for _, i := range out.Images {
				if *i.Name != "own" || *i.OperatingSystem.Type != "LINUX" || *i.OwnerAccountId != account || *i.RequiredTenancy != "DEFAULT" {
					t.Errorf("image %+v", i)
				}
			}
		})
	}
	_, err := w.DescribeWorkspaceImages(context.Background(), service.Call{}, &api.DescribeWorkspaceImagesInput{NextToken: shape.Ptr("x")})
	refused(t, err, "InvalidParameterValuesException")
}

func TestBindCarriesOutItsOperations(t *testing.T) {
	w := furnish(t)
	table := service.Table{}
	w.Bind(table)
	if len(table) != 23 {
		t.Errorf("%d operations", len(table))
	}
	out, err := table[api.DescribeWorkspaces.Operation](context.Background(), service.Call{}, &api.DescribeWorkspacesInput{})
	if _, ok := out.(*api.DescribeWorkspacesOutput); !ok || err != nil {
		t.Errorf("%T, %v", out, err)
	}
	_, err = table[api.DescribeTags.Operation](context.Background(), service.Call{}, &api.DescribeTagsInput{ResourceId: shape.Ptr("ws-999999999")})
	refused(t, err, "ResourceNotFoundException")
}
