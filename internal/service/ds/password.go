package ds

import (
	"context"
	"errors"

	"carrel/internal/api/ds"
	"carrel/internal/awserr"
	"carrel/internal/directory"
	"carrel/internal/service"
	"carrel/internal/state"
)

// ResetUserPassword replaces a user's password and enables the user: EntityDoesNotExistException (no such directory),
// UserDoesNotExistException, InvalidPasswordException with the directory's reason, UnsupportedOperationException (an AD Connector, an
// administrator), DirectoryUnavailableException.
func (s *Service) ResetUserPassword(ctx context.Context, _ service.Call, in *ds.ResetUserPasswordInput) (*ds.ResetUserPasswordOutput, error) {
	d, ok := state.Get(s.DB.Snapshot(), state.Directories, *in.DirectoryId)
	switch {
	case !ok:
		return nil, noDirectory(*in.DirectoryId)
	case d.Spec.Type == string(ds.DirectoryTypeADConnector):
		return nil, awserr.Model("UnsupportedOperationException", "Passwords of an AD Connector's users are reset in their own directory.")
	case d.Status.Stage != "Active" && d.Status.Stage != "Impaired":
		return nil, awserr.Model("DirectoryUnavailableException", "Directory %s is %s.", d.ID, d.Status.Stage)
	}
	err := s.Users.SetPassword(ctx, d.ID, *in.UserName, directory.NewPassword(*in.NewPassword))
	switch {
	case err == nil:
		return &ds.ResetUserPasswordOutput{}, nil
	case errors.Is(err, directory.ErrNoUser):
		return nil, awserr.Model("UserDoesNotExistException", "User %s does not exist in directory %s.", *in.UserName, d.ID)
	case errors.Is(err, directory.ErrWeakPassword):
		return nil, awserr.Model("InvalidPasswordException", "The new password does not meet the password policy of directory %s.", d.ID).Because(err)
	case errors.Is(err, directory.ErrProtected):
		return nil, awserr.Model("UnsupportedOperationException", "The password of %s cannot be reset: it is an administrator's.", *in.UserName)
	}
	return nil, awserr.Model("DirectoryUnavailableException", "Directory %s does not answer. Try again later.", d.ID).Because(err)
}
