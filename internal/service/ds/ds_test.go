package ds

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"carrel/internal/api/ds"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

func open(t *testing.T, recs ...*state.Directory) *Service {
	t.Helper()
	s := &Service{DB: statetest.NewDB(t)}
	if _, err := s.DB.Update(t.Context(), func(tx *state.Tx) error {
		state.Put(tx, state.Installations, &state.Installation{Region: "us-east-1"})
		for _, rec := range recs {
			state.Put(tx, state.Directories, rec)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

func check(t *testing.T, err error, code string) {
	t.Helper()
	var e *awserr.Error
	if !errors.As(err, &e) || e.Code != code || e.Message == "" {
		t.Errorf("error %v, want %s", err, code)
	}
}

func simpleAD(i int) *state.Directory {
	return &state.Directory{ID: ident.DirectoryID(fmt.Sprintf("d-%010d", i)), Spec: state.DirectorySpec{Type: "SimpleAD", Name: "corp.example.com"},
		Status: state.DirectoryStatus{Stage: "Active"}}
}

func TestAnswersFollowTheType(t *testing.T) {
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	since := made.Add(time.Hour)
	base := func(id, kind string) *state.Directory {
		return &state.Directory{
			Meta: state.Meta{Created: made}, ID: ident.DirectoryID(id),
			Spec: state.DirectorySpec{Type: kind, Name: "corp.example.com", ShortName: "CORP", VPCID: "vpc-1", SubnetIDs: []ident.SubnetID{"subnet-1", "subnet-2"}},
			Status: state.DirectoryStatus{Stage: "Active", StageSince: since, DNSAddresses: []string{"10.0.0.10", "10.0.1.10"}, Zones: []string{"a", "b"},
				SecurityGroupID: "sg-1"},
		}
	}
	simple, microsoft, connector := base("d-0000000001", "SimpleAD"), base("d-0000000002", "MicrosoftAD"), base("d-0000000003", "ADConnector")
	simple.Spec.Size, simple.Spec.Description = "Small", "people"
	microsoft.Spec.Alias, microsoft.Spec.Edition = "corp", "Standard"
	connector.Spec.Size, connector.Status.Stage, connector.Status.StageReason = "Large", "Failed", "no answer"
	s := open(t, simple, microsoft, connector)
	out, err := s.DescribeDirectories(t.Context(), service.Call{}, &ds.DescribeDirectoriesInput{})
	if err != nil {
		t.Fatal(err)
	}
	want := func(id, alias string, change func(*ds.DirectoryDescription)) ds.DirectoryDescription {
		d := ds.DirectoryDescription{
			DirectoryId: &id, Name: shape.Ptr("corp.example.com"), ShortName: shape.Ptr("CORP"), Alias: &alias, AccessUrl: shape.Ptr(alias + ".awsapps.com"),
			Stage: shape.Ptr(ds.DirectoryStage("Active")), LaunchTime: &made, StageLastUpdatedDateTime: &since, SsoEnabled: shape.Ptr(false),
			NetworkType: shape.Ptr(ds.NetworkType("IPv4")), DnsIpAddrs: []string{"10.0.0.10", "10.0.1.10"},
			VpcSettings: &ds.DirectoryVpcSettingsDescription{VpcId: shape.Ptr("vpc-1"), SubnetIds: []string{"subnet-1", "subnet-2"},
				SecurityGroupId: shape.Ptr("sg-1"), AvailabilityZones: []string{"a", "b"}},
		}
		change(&d)
		return d
	}
	wants := []ds.DirectoryDescription{
		want("d-0000000001", "d-0000000001", func(d *ds.DirectoryDescription) {
			d.Type, d.Size, d.Description = shape.Ptr(ds.DirectoryType("SimpleAD")), shape.Ptr(ds.DirectorySize("Small")), shape.Ptr("people")
		}),
		want("d-0000000002", "corp", func(d *ds.DirectoryDescription) {
			d.Type, d.Edition, d.OsVersion = shape.Ptr(ds.DirectoryType("MicrosoftAD")), shape.Ptr(ds.DirectoryEdition("Standard")), shape.Ptr(ds.OSVersion("SERVER_2019"))
			d.DesiredNumberOfDomainControllers, d.RegionsInfo = shape.Ptr(int32(2)), &ds.RegionsInfo{PrimaryRegion: shape.Ptr("us-east-1")}
		}),
		want("d-0000000003", "d-0000000003", func(d *ds.DirectoryDescription) {
			d.Type, d.Size, d.VpcSettings = shape.Ptr(ds.DirectoryType("ADConnector")), shape.Ptr(ds.DirectorySize("Large")), nil
			d.Stage, d.StageReason = shape.Ptr(ds.DirectoryStage("Failed")), shape.Ptr("no answer")
			d.ConnectSettings = &ds.DirectoryConnectSettingsDescription{VpcId: shape.Ptr("vpc-1"), SubnetIds: []string{"subnet-1", "subnet-2"},
				SecurityGroupId: shape.Ptr("sg-1"), AvailabilityZones: []string{"a", "b"}, ConnectIps: []string{"10.0.0.10", "10.0.1.10"}}
		}),
	}
	if diff := cmp.Diff(wants, out.DirectoryDescriptions); diff != "" {
		t.Error(diff)
	}
}

func TestDirectoriesAreFoundById(t *testing.T) {
	s := open(t, simpleAD(1), simpleAD(2))
	out, err := s.DescribeDirectories(t.Context(), service.Call{}, &ds.DescribeDirectoriesInput{DirectoryIds: []string{"d-0000000002", "d-0000000001", "d-0000000002"}})
	if err != nil || len(out.DirectoryDescriptions) != 2 || *out.DirectoryDescriptions[0].DirectoryId != "d-0000000001" || out.NextToken != nil {
		t.Errorf("%+v, %v", out, err)
	}
	t.Run("one that does not exist fails the call", func(t *testing.T) {
		_, err := s.DescribeDirectories(t.Context(), service.Call{}, &ds.DescribeDirectoriesInput{DirectoryIds: []string{"d-0000000001", "d-0000000009"}})
		check(t, err, "EntityDoesNotExistException")
	})
	t.Run("none there is an empty list", func(t *testing.T) {
		out, err := open(t).DescribeDirectories(t.Context(), service.Call{}, &ds.DescribeDirectoriesInput{})
		if err != nil || out.DirectoryDescriptions == nil || len(out.DirectoryDescriptions) != 0 {
			t.Errorf("%+v, %v", out, err)
		}
	})
}

func TestPagesHoldEveryDirectoryOnce(t *testing.T) {
	var recs []*state.Directory
	var ids []string
	for i := range 250 {
		recs = append(recs, simpleAD(i))
		ids = append(ids, string(recs[i].ID))
	}
	s := open(t, recs...)
	for _, c := range []struct {
		name  string
		limit *int32
		ids   []string
		pages int
	}{
		{"of 100 by default", nil, nil, 3},
		{"of 100 for limit 0", shape.Ptr(int32(0)), nil, 3},
		{"of 100 at most", shape.Ptr(int32(1000)), nil, 3},
		{"of 30", shape.Ptr(int32(30)), nil, 9},
		{"of 125, cut to 100, by id", shape.Ptr(int32(125)), ids, 3},
		{"of 50 by id", shape.Ptr(int32(50)), ids, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := &ds.DescribeDirectoriesInput{Limit: c.limit, DirectoryIds: c.ids}
			var got []string
			for pages := 1; ; pages++ {
				out, err := s.DescribeDirectories(t.Context(), service.Call{}, in)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range out.DirectoryDescriptions {
					got = append(got, *d.DirectoryId)
				}
				if in.NextToken = out.NextToken; in.NextToken == nil {
					if pages != c.pages {
						t.Errorf("%d pages, want %d", pages, c.pages)
					}
					break
				}
			}
			if !slices.Equal(got, ids) {
				t.Errorf("%d directories", len(got))
			}
		})
	}
	t.Run("a token that is none is refused", func(t *testing.T) {
		for _, token := range []string{"", "!", "abc", base64.RawURLEncoding.EncodeToString([]byte("vpc-00000001"))} {
			_, err := s.DescribeDirectories(t.Context(), service.Call{}, &ds.DescribeDirectoriesInput{NextToken: &token})
			check(t, err, "InvalidNextTokenException")
		}
	})
	t.Run("a negative limit is refused", func(t *testing.T) {
		_, err := s.DescribeDirectories(t.Context(), service.Call{}, &ds.DescribeDirectoriesInput{Limit: shape.Ptr(int32(-1))})
		check(t, err, "InvalidParameterException")
	})
}

func TestBindPutsTheOperation(t *testing.T) {
	table := service.Table{}
	new(Service).Bind(table)
	if table[ds.DescribeDirectories.Operation] == nil || len(table) != 5 {
		t.Errorf("%v", table)
	}
}
