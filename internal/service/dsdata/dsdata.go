// Package dsdata carries out the operations of AWS Directory Service Data on the users of Carrel's directories (Directory Service
// Data API reference, 2023-05-31).
//
// It refuses to keep users: they are in their directory and nowhere else. What it may be asked about is decided from the directory's record.
package dsdata

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	api "carrel/internal/api/dsdata"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/directory"
	"carrel/internal/service"
	"carrel/internal/state"
)

// Service carries out the operations. Its methods may be called concurrently.
type Service struct {
	DB *state.DB
	// Users are the directories' users.
	Users directory.Manager
}

// Bind puts the service's handlers into t.
func (s *Service) Bind(t service.Table) {
	service.Bind(t, api.CreateUser, s.CreateUser)
	service.Bind(t, api.DescribeUser, s.DescribeUser)
	service.Bind(t, api.DisableUser, s.DisableUser)
	service.Bind(t, api.DeleteUser, s.DeleteUser)
	service.Bind(t, api.ListUsers, s.ListUsers)
}

// the record of a directory whose users can be managed. The model gives no exception for a directory that does not exist:
// to the caller it is one that may not be reached.
func (s *Service) directory(id *string) (*state.Directory, error) {
	d, ok := state.Get(s.DB.Snapshot(), state.Directories, shape.Val(id))
	switch {
	case shape.Val(id) == "":
		return nil, awserr.Model("ValidationException", "DirectoryId must be specified.")
	case !ok:
		return nil, awserr.Model("AccessDeniedException", "You don't have permission to access directory %s, or it does not exist.", *id)
	case d.Spec.Type == "ADConnector":
		return nil, awserr.Model("ValidationException", "Directory %s is an AD Connector: its users are managed where they are.", *id).With("Reason", "INVALID_DIRECTORY_TYPE")
	case d.Status.Stage != "Active" && d.Status.Stage != "Impaired":
		return nil, awserr.Model("DirectoryUnavailableException", "Directory %s is %s.", *id, d.Status.Stage).With("Reason", "INVALID_DIRECTORY_STATE")
	}
	return d, nil
}

// failure says what the directory's own answer means to a client.
func failure(d *state.Directory, name string, err error) error {
	switch {
	case errors.Is(err, directory.ErrNoUser):
		return awserr.Model("ResourceNotFoundException", "User %s does not exist in directory %s.", name, d.ID)
	case errors.Is(err, directory.ErrExists):
		return awserr.Model("ConflictException", "Directory %s has a user, group or computer %s already.", d.ID, name)
	case errors.Is(err, directory.ErrProtected):
		return awserr.Model("AccessDeniedException", "%s is a protected account of directory %s.", name, d.ID)
	case errors.Is(err, directory.ErrUnavailable), errors.Is(err, directory.ErrNoDirectory):
		return awserr.Model("DirectoryUnavailableException", "Directory %s does not answer. Try again later.", d.ID).With("Reason", "DIRECTORY_TIMEOUT").Because(err)
	}
	return err
}

// CreateUser makes a user, disabled until ResetUserPassword gives it a password.
func (s *Service) CreateUser(ctx context.Context, _ service.Call, in *api.CreateUserInput) (*api.CreateUserOutput, error) {
	d, err := s.directory(in.DirectoryId)
	if err != nil {
		return nil, err
	}
	name := *in.SAMAccountName
	if len(name) > maxName || strings.TrimSpace(name) != name || strings.HasSuffix(name, ".") {
		return nil, awserr.Model("ValidationException", "SAMAccountName %q is not a user name: at most %d characters, no space at its ends, no dot at the end.", name, maxName).
			With("Reason", "INVALID_ATTRIBUTE_VALUE")
	}
	user := directory.NewUser{Name: name, GivenName: shape.Val(in.GivenName), Surname: shape.Val(in.Surname), Email: shape.Val(in.EmailAddress)}
	if user.Attributes, err = attributes(in.OtherAttributes); err != nil {
		return nil, err
	}
	made, err := s.Users.CreateUser(ctx, d.ID, user)
	if err != nil {
		return nil, failure(d, name, err)
	}
	return &api.CreateUserOutput{DirectoryId: in.DirectoryId, SAMAccountName: &made.Name, SID: &made.SID}, nil
}

// maxName is the length of a sAMAccountName of a user (MS-ADA3 2.222: 256 in the schema, 20 for what can log on everywhere).
const maxName = 20

// settable are the attributes that OtherAttributes may set. What decides about rights (memberOf, userAccountControl, ...) is not among
// them: that has operations of its own.
var settable = map[string]bool{"company": true, "department": true, "description": true, "displayName": true, "employeeID": true, "facsimileTelephoneNumber": true,
	"homePhone": true, "initials": true, "l": true, "mobile": true, "physicalDeliveryOfficeName": true, "postalCode": true, "preferredLanguage": true,
	"st": true, "streetAddress": true, "telephoneNumber": true, "title": true, "wWWHomePage": true}

func attributes(in map[string]api.AttributeValue) (map[string]string, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for name, value := range in {
		if !settable[name] {
			return nil, awserr.Model("ValidationException", "OtherAttributes: %s cannot be set here.", name).With("Reason", "INVALID_ATTRIBUTE_FOR_USER")
		}
		if value.S == nil {
			return nil, awserr.Model("ValidationException", "OtherAttributes: %s must be a text (S).", name).With("Reason", "INVALID_ATTRIBUTE_VALUE")
		}
		out[name] = *value.S
	}
	return out, nil
}

// realm checks the Realm of a request against the directory's: trusted domains are not looked into.
func realm(d *state.Directory, asked *string) error {
	if asked != nil && !strings.EqualFold(strings.TrimSuffix(*asked, "."), d.Spec.Name) {
		return awserr.Model("ValidationException", "Realm %s is not that of directory %s.", *asked, d.ID).With("Reason", "INVALID_REALM")
	}
	return nil
}

// DescribeUser describes a user.
func (s *Service) DescribeUser(ctx context.Context, _ service.Call, in *api.DescribeUserInput) (*api.DescribeUserOutput, error) {
	d, err := s.directory(in.DirectoryId)
	if err != nil {
		return nil, err
	}
	if err := realm(d, in.Realm); err != nil {
		return nil, err
	}
	if len(in.OtherAttributes) > 0 {
		return nil, awserr.Model("ValidationException", "OtherAttributes cannot be asked for yet.").With("Reason", "INVALID_ATTRIBUTE_NAME")
	}
	u, err := s.Users.Lookup(ctx, d.ID, *in.SAMAccountName)
	if err != nil {
		return nil, failure(d, *in.SAMAccountName, err)
	}
	return &api.DescribeUserOutput{DirectoryId: in.DirectoryId, Realm: &d.Spec.Name, SAMAccountName: &u.Name, SID: &u.SID, Enabled: &u.Enabled,
		EmailAddress: shape.Given(u.Email), GivenName: shape.Given(u.GivenName), Surname: shape.Given(u.Surname), UserPrincipalName: shape.Ptr(u.Name + "@" + d.Spec.Name)}, nil
}

// DisableUser keeps a user from logging in, until ResetUserPassword.
func (s *Service) DisableUser(ctx context.Context, _ service.Call, in *api.DisableUserInput) (*api.DisableUserOutput, error) {
	d, err := s.directory(in.DirectoryId)
	if err != nil {
		return nil, err
	}
	if err := s.Users.DisableUser(ctx, d.ID, *in.SAMAccountName); err != nil {
		return nil, failure(d, *in.SAMAccountName, err)
	}
	return &api.DisableUserOutput{}, nil
}

// DeleteUser deletes a user.
func (s *Service) DeleteUser(ctx context.Context, _ service.Call, in *api.DeleteUserInput) (*api.DeleteUserOutput, error) {
	d, err := s.directory(in.DirectoryId)
	if err != nil {
		return nil, err
	}
	if err := s.Users.DeleteUser(ctx, d.ID, *in.SAMAccountName); err != nil {
		return nil, failure(d, *in.SAMAccountName, err)
	}
	return &api.DeleteUserOutput{}, nil
}

// maxPage is the size of a page when the caller names none.
const maxPage = 250

// ListUsers lists the users of a directory in order of name.
func (s *Service) ListUsers(ctx context.Context, _ service.Call, in *api.ListUsersInput) (*api.ListUsersOutput, error) {
	d, err := s.directory(in.DirectoryId)
	if err != nil {
		return nil, err
	}
	if err := realm(d, in.Realm); err != nil {
		return nil, err
	}
	after, err := base64.RawURLEncoding.Strict().DecodeString(shape.Val(in.NextToken))
	if err != nil || len(after) > 256 {
		return nil, awserr.Model("ValidationException", "The NextToken value is not valid.").With("Reason", "INVALID_NEXT_TOKEN")
	}
	limit := maxPage
	if in.MaxResults != nil {
		limit = int(*in.MaxResults)
	}
	users, next, err := s.Users.ListUsers(ctx, d.ID, string(after), limit)
	if err != nil {
		return nil, failure(d, "", err)
	}
	out := &api.ListUsersOutput{DirectoryId: in.DirectoryId, Realm: &d.Spec.Name, Users: make([]api.UserSummary, 0, len(users))}
	for _, u := range users {
		out.Users = append(out.Users, api.UserSummary{Enabled: &u.Enabled, SAMAccountName: &u.Name, SID: &u.SID, GivenName: shape.Given(u.GivenName), Surname: shape.Given(u.Surname)})
	}
	if next != "" {
		out.NextToken = shape.Ptr(base64.RawURLEncoding.EncodeToString([]byte(next)))
	}
	return out, nil
}
