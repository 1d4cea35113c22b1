package dsdata

import (
	"context"
	"errors"
	"fmt"
	"testing"

	api "carrel/internal/api/dsdata"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/directory"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

// people is a directory.Manager of one directory that fails with err when it is set.
type people struct {
	err  error
	made directory.NewUser
	all  []directory.User
}

func (p *people) CreateUser(_ context.Context, _ ident.DirectoryID, u directory.NewUser) (directory.User, error) {
	p.made = u
	return directory.User{Name: u.Name, SID: "S-1-5-21-1-2-3-1104"}, p.err
}

func (p *people) SetPassword(context.Context, ident.DirectoryID, string, directory.Password) error {
	return p.err
}
func (p *people) DisableUser(context.Context, ident.DirectoryID, string) error { return p.err }
func (p *people) DeleteUser(context.Context, ident.DirectoryID, string) error  { return p.err }
func (p *people) Lookup(_ context.Context, _ ident.DirectoryID, name string) (directory.User, error) {
	return directory.User{Name: name, SID: "S-1", GivenName: "Ada", Enabled: true}, p.err
}

func (p *people) ListUsers(_ context.Context, _ ident.DirectoryID, after string, limit int) ([]directory.User, string, error) {
	var page []directory.User
	for _, u := range p.all {
		if u.Name > after {
			page = append(page, u)
		}
	}
	if len(page) > limit {
		return page[:limit], page[limit-1].Name, p.err
	}
	return page, "", p.err
}

const corp = "d-0000000001"

func open(t *testing.T) (*Service, *people) {
	t.Helper()
	s := &Service{DB: statetest.NewDB(t)}
	if _, err := s.DB.Update(t.Context(), func(tx *state.Tx) error {
		for i, d := range []*state.Directory{
			{Spec: state.DirectorySpec{Type: "SimpleAD"}, Status: state.DirectoryStatus{Stage: "Active"}},
			{Spec: state.DirectorySpec{Type: "ADConnector"}, Status: state.DirectoryStatus{Stage: "Active"}},
			{Spec: state.DirectorySpec{Type: "MicrosoftAD"}, Status: state.DirectoryStatus{Stage: "Creating"}},
		} {
			d.ID, d.Spec.Name = ident.DirectoryID(fmt.Sprintf("d-%010d", i+1)), "corp.example.com"
			state.Put(tx, state.Directories, d)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p := &people{}
	s.Users = p
	return s, p
}

func check(t *testing.T, what string, err error, code string) {
	t.Helper()
	var e *awserr.Error
	if !errors.As(err, &e) || e.Code != code || e.Message == "" {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

func TestCreateUserHandsTheUserOn(t *testing.T) {
	s, p := open(t)
	out, err := s.CreateUser(t.Context(), service.Call{}, &api.CreateUserInput{DirectoryId: shape.Ptr(corp), SAMAccountName: shape.Ptr("ada"), GivenName: shape.Ptr("Ada"),
		Surname: shape.Ptr("Lovelace"), EmailAddress: shape.Ptr("ada@example.com"), OtherAttributes: map[string]api.AttributeValue{"title": {S: shape.Ptr("Countess")}}})
	if err != nil || *out.SID != "S-1-5-21-1-2-3-1104" || p.made.Surname != "Lovelace" || p.made.Attributes["title"] != "Countess" {
		t.Errorf("%+v, %+v, %v", out, p.made, err)
	}
}

// DIR-1: names that mean something to LDAP, and attributes that mean rights.
func TestCreateUserRefusesWhatWouldMeanMoreThanAUser(t *testing.T) {
	for name, change := range map[string]func(*api.CreateUserInput){
		"a name of 21":      func(in *api.CreateUserInput) { in.SAMAccountName = shape.Ptr("abcdefghijklmnopqrstu") },
		"a space at an end": func(in *api.CreateUserInput) { in.SAMAccountName = shape.Ptr("ada ") },
		"a dot at the end":  func(in *api.CreateUserInput) { in.SAMAccountName = shape.Ptr("ada.") },
		"memberOf": func(in *api.CreateUserInput) {
			in.OtherAttributes = map[string]api.AttributeValue{"memberOf": {S: shape.Ptr("CN=Domain Admins")}}
		},
		"userAccountControl": func(in *api.CreateUserInput) {
			in.OtherAttributes = map[string]api.AttributeValue{"userAccountControl": {S: shape.Ptr("512")}}
		},
		"a number": func(in *api.CreateUserInput) {
			in.OtherAttributes = map[string]api.AttributeValue{"title": {N: shape.Ptr(int64(1))}}
		},
		"no directory":         func(in *api.CreateUserInput) { in.DirectoryId = nil },
		"someone else's users": func(in *api.CreateUserInput) { in.DirectoryId = shape.Ptr("d-0000000002") },
	} {
		s, p := open(t)
		in := &api.CreateUserInput{DirectoryId: shape.Ptr(corp), SAMAccountName: shape.Ptr("ada")}
		change(in)
		_, err := s.CreateUser(t.Context(), service.Call{}, in)
		check(t, name, err, "ValidationException")
		if p.made.Name != "" {
			t.Errorf("%s: made", name)
		}
	}
}

func TestTheDirectorysAnswersAreTold(t *testing.T) {
	s, p := open(t)
	describe := func(id string) error {
		_, err := s.DescribeUser(t.Context(), service.Call{}, &api.DescribeUserInput{DirectoryId: &id, SAMAccountName: shape.Ptr("ada")})
		return err
	}
	if err := describe(corp); err != nil {
		t.Error(err)
	}
	check(t, "no such directory", describe("d-9999999999"), "AccessDeniedException")
	check(t, "not there yet", describe("d-0000000003"), "DirectoryUnavailableException")
	_, err := s.DescribeUser(t.Context(), service.Call{}, &api.DescribeUserInput{DirectoryId: shape.Ptr(corp), SAMAccountName: shape.Ptr("ada"), Realm: shape.Ptr("other.example.com")})
	check(t, "another realm", err, "ValidationException")
	for code, err := range map[string]error{"ResourceNotFoundException": directory.ErrNoUser, "AccessDeniedException": directory.ErrProtected, "DirectoryUnavailableException": directory.ErrUnavailable} {
		p.err = fmt.Errorf("x: %w", err)
		_, err := s.DeleteUser(t.Context(), service.Call{}, &api.DeleteUserInput{DirectoryId: shape.Ptr(corp), SAMAccountName: shape.Ptr("ada")})
		check(t, code, err, code)
		_, err = s.DisableUser(t.Context(), service.Call{}, &api.DisableUserInput{DirectoryId: shape.Ptr(corp), SAMAccountName: shape.Ptr("ada")})
		check(t, "disable: "+code, err, code)
	}
	p.err = directory.ErrExists
	_, err = s.CreateUser(t.Context(), service.Call{}, &api.CreateUserInput{DirectoryId: shape.Ptr(corp), SAMAccountName: shape.Ptr("ada")})
	check(t, "made twice", err, "ConflictException")
}

func TestListUsersWalksAllPages(t *testing.T) {
	s, p := open(t)
	for _, n := range []string{"ada", "alan", "grace"} {
		p.all = append(p.all, directory.User{Name: n, SID: "S-" + n})
	}
	var seen []string
	var token *string
	for range 3 {
		out, err := s.ListUsers(t.Context(), service.Call{}, &api.ListUsersInput{DirectoryId: shape.Ptr(corp), MaxResults: shape.Ptr(int32(2)), NextToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range out.Users {
			seen = append(seen, *u.SAMAccountName)
		}
		if token = out.NextToken; token == nil {
			break
		}
	}
	if fmt.Sprint(seen) != "[ada alan grace]" || token != nil {
		t.Errorf("%v, %v", seen, token)
	}
	_, err := s.ListUsers(t.Context(), service.Call{}, &api.ListUsersInput{DirectoryId: shape.Ptr(corp), NextToken: shape.Ptr("%%%")})
	check(t, "a token of nobody", err, "ValidationException")
}
