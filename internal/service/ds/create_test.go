package ds

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"testing"

	"carrel/internal/api/ds"
	"carrel/internal/api/shape"
	"carrel/internal/directory"
	"carrel/internal/ident"
	"carrel/internal/seal"
	"carrel/internal/service"
	"carrel/internal/state"
)

// people is a directory.Manager that answers SetPassword with err.
type people struct {
	directory.Manager
	err  error
	seen string
}

func (p *people) SetPassword(_ context.Context, id ident.DirectoryID, name string, password directory.Password) error {
	p.seen = string(id) + " " + name + " " + password.Reveal()
	return p.err
}

func openVPC(t *testing.T, recs ...*state.Directory) *Service {
	t.Helper()
	s := open(t, recs...)
	s.Rand, s.MaxDirectories = rand.Reader, 2
	var err error
	if s.Seal, err = seal.Open(filepath.Join(t.TempDir(), "seal.key"), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DB.Update(t.Context(), func(tx *state.Tx) error {
		state.Put(tx, state.VPCs, &state.VPC{ID: "vpc-1", CIDR: "10.0.0.0/16"})
		for i, zone := range []string{"a", "b", "a"} {
			state.Put(tx, state.Subnets, &state.Subnet{ID: ident.SubnetID(fmt.Sprintf("subnet-%d", i)), VPCID: "vpc-1", Zone: zone})
		}
		state.Put(tx, state.Subnets, &state.Subnet{ID: "subnet-elsewhere", VPCID: "vpc-2", Zone: "b"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

func request() *ds.CreateDirectoryInput {
	return &ds.CreateDirectoryInput{Name: shape.Ptr("corp.example.com"), Password: shape.Ptr("Passw0rd-1"), Size: shape.Ptr(ds.DirectorySizeSmall),
		VpcSettings: &ds.DirectoryVpcSettings{VpcId: shape.Ptr("vpc-1"), SubnetIds: []string{"subnet-0", "subnet-1"}}}
}

func TestCreateDirectoryWritesWhatTheReconcilerNeeds(t *testing.T) {
	s := openVPC(t)
	in := request()
	in.Tags = []ds.Tag{{Key: shape.Ptr("team"), Value: shape.Ptr("desks")}}
	out, err := s.CreateDirectory(t.Context(), service.Call{}, in)
	if err != nil {
		t.Fatal(err)
	}
	d, ok := state.Get(s.DB.Snapshot(), state.Directories, *out.DirectoryId)
	if !ok || d.Status.Stage != "Requested" || d.Spec.Type != "SimpleAD" || d.Spec.ShortName != "CORP" || d.Spec.AdminPassword.Reveal() == "Passw0rd-1" ||
		len(d.Spec.SubnetIDs) != 2 || len(d.Status.Zones) != 2 || d.Tags["team"] != "desks" {
		t.Errorf("%+v", d)
	}
	if got, err := s.Seal.Unseal(d.Spec.AdminPassword.Reveal(), *out.DirectoryId); err != nil || got != "Passw0rd-1" {
		t.Errorf("sealed is %q, %v", got, err)
	}
	ad, err := s.CreateMicrosoftAD(t.Context(), service.Call{}, &ds.CreateMicrosoftADInput{Name: shape.Ptr("a-very-long-first-label.example.com"), Password: in.Password, VpcSettings: in.VpcSettings})
	if err != nil {
		t.Fatal(err)
	}
	if d, _ := state.Get(s.DB.Snapshot(), state.Directories, *ad.DirectoryId); d.Spec.Edition != "Enterprise" || d.Spec.ShortName != "A-VERY-LONG-FIR" {
		t.Errorf("%+v", d.Spec)
	}
}

func TestCreateDirectoryRefusesWhatCannotBe(t *testing.T) {
	for name, change := range map[string]func(*ds.CreateDirectoryInput){
		"a name of one label":       func(in *ds.CreateDirectoryInput) { in.Name = shape.Ptr("corp") },
		"a name with a newline":     func(in *ds.CreateDirectoryInput) { in.Name = shape.Ptr("corp.example.com\n[global]") },
		"a name with a path":        func(in *ds.CreateDirectoryInput) { in.Name = shape.Ptr("../../etc.example.com") },
		"a short name with a slash": func(in *ds.CreateDirectoryInput) { in.ShortName = shape.Ptr("A/B") },
		"a short name of 16":        func(in *ds.CreateDirectoryInput) { in.ShortName = shape.Ptr("ABCDEFGHIJKLMNOP") },
		"IPv6":                      func(in *ds.CreateDirectoryInput) { in.NetworkType = shape.Ptr(ds.NetworkTypeDualStack) },
		"no network":                func(in *ds.CreateDirectoryInput) { in.VpcSettings = nil },
		"one subnet":                func(in *ds.CreateDirectoryInput) { in.VpcSettings.SubnetIds = []string{"subnet-0"} },
		"one subnet twice":          func(in *ds.CreateDirectoryInput) { in.VpcSettings.SubnetIds = []string{"subnet-0", "subnet-0"} },
		"two subnets of one zone":   func(in *ds.CreateDirectoryInput) { in.VpcSettings.SubnetIds = []string{"subnet-0", "subnet-2"} },
		"another VPC's subnet":      func(in *ds.CreateDirectoryInput) { in.VpcSettings.SubnetIds = []string{"subnet-0", "subnet-elsewhere"} },
		"a VPC that does not exist": func(in *ds.CreateDirectoryInput) { in.VpcSettings.VpcId = shape.Ptr("vpc-9") },
		"a reserved tag":            func(in *ds.CreateDirectoryInput) { in.Tags = []ds.Tag{{Key: shape.Ptr("AWS:x"), Value: shape.Ptr("")}} },
		"a tag given twice":         func(in *ds.CreateDirectoryInput) { in.Tags = []ds.Tag{{Key: shape.Ptr("x")}, {Key: shape.Ptr("x")}} },
	} {
		t.Run(name, func(t *testing.T) {
			s := openVPC(t)
			in := request()
			change(in)
			_, err := s.CreateDirectory(t.Context(), service.Call{}, in)
			check(t, err, "InvalidParameterException")
			if n := state.Count(s.DB.Snapshot(), state.Directories); n != 0 {
				t.Errorf("%d directories", n)
			}
		})
	}
}

func TestTheLimitOfDirectoriesCountsByType(t *testing.T) {
	s := openVPC(t, simpleAD(1), simpleAD(2))
	_, err := s.CreateDirectory(t.Context(), service.Call{}, request())
	check(t, err, "DirectoryLimitExceededException")
	if _, err := s.CreateMicrosoftAD(t.Context(), service.Call{}, &ds.CreateMicrosoftADInput{Name: shape.Ptr("corp.example.com"), Password: shape.Ptr("Passw0rd-1"), VpcSettings: request().VpcSettings}); err != nil {
		t.Error(err)
	}
}

func TestDeleteDirectoryWaitsForItsRegistrationToEnd(t *testing.T) {
	registered := simpleAD(1)
	registered.Registration = &state.Registration{State: "REGISTERED"}
	s := openVPC(t, registered, simpleAD(2))
	_, err := s.DeleteDirectory(t.Context(), service.Call{}, &ds.DeleteDirectoryInput{DirectoryId: shape.Ptr(string(registered.ID))})
	check(t, err, "ClientException")
	_, err = s.DeleteDirectory(t.Context(), service.Call{}, &ds.DeleteDirectoryInput{DirectoryId: shape.Ptr("d-9999999999")})
	check(t, err, "EntityDoesNotExistException")
	for range 2 {
		if _, err := s.DeleteDirectory(t.Context(), service.Call{}, &ds.DeleteDirectoryInput{DirectoryId: shape.Ptr("d-0000000002")}); err != nil {
			t.Fatal(err)
		}
	}
	if d, _ := state.Get(s.DB.Snapshot(), state.Directories, "d-0000000002"); d.Status.Stage != "Deleting" {
		t.Errorf("stage %s", d.Status.Stage)
	}
}

func TestResetUserPasswordTellsTheDirectorysAnswer(t *testing.T) {
	connector := simpleAD(2)
	connector.Spec.Type = "ADConnector"
	creating := simpleAD(3)
	creating.Status.Stage = "Creating"
	p := &people{}
	s := openVPC(t, simpleAD(1), connector, creating)
	s.Users = p
	reset := func(id string) error {
		_, err := s.ResetUserPassword(t.Context(), service.Call{}, &ds.ResetUserPasswordInput{DirectoryId: &id, UserName: shape.Ptr("ada"), NewPassword: shape.Ptr("Analytical-1")})
		return err
	}
	if err := reset("d-0000000001"); err != nil || p.seen != "d-0000000001 ada Analytical-1" {
		t.Errorf("%q, %v", p.seen, err)
	}
	check(t, reset("d-9999999999"), "EntityDoesNotExistException")
	check(t, reset("d-0000000002"), "UnsupportedOperationException")
	check(t, reset("d-0000000003"), "DirectoryUnavailableException")
	for code, err := range map[string]error{"UserDoesNotExistException": directory.ErrNoUser, "InvalidPasswordException": directory.ErrWeakPassword,
		"UnsupportedOperationException": directory.ErrProtected, "DirectoryUnavailableException": directory.ErrUnavailable} {
		p.err = fmt.Errorf("set: %w", err)
		check(t, reset("d-0000000001"), code)
	}
}
