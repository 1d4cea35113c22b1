package workspaces

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/directory"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

// undefinedUser in a request asks for a user-decoupled WorkSpace, which has a name instead of a user.
const undefinedUser = "[UNDEFINED]"

const (
	// lookups is how many users of one call are looked up at a time.
	lookups = 5
	// quotaMargin: closer to the quota than this, creators wait for each other (see checkQuota).
	quotaMargin = 1000
)

// CreateWorkspaces asks for WorkSpaces. What can be is PENDING in the answer and durable; what cannot stands in FailedRequests with the
// request. ResourceLimitExceededException for the whole call, and nothing is made, when the quota has no room for it.
func (s *Service) CreateWorkspaces(ctx context.Context, _ service.Call, in *api.CreateWorkspacesInput) (*api.CreateWorkspacesOutput, error) {
	people := s.people(ctx, in.Workspaces)
	var made []*state.Workspace
	var failed []api.FailedCreateWorkspaceRequest
	err := s.update(ctx, func(tx *state.Tx) error {
		made, failed = nil, nil
		for i := range in.Workspaces {
			request := &in.Workspaces[i]
			w, f := s.create(tx, request, people[i])
			if f != nil {
				failed = append(failed, f.create(request))
				continue
			}
			made = append(made, w)
		}
		return s.checkQuota(tx, len(made))
	})
	if err != nil {
		return nil, err
	}
	if failed == nil {
		failed = []api.FailedCreateWorkspaceRequest{}
	}
	return &api.CreateWorkspacesOutput{PendingRequests: new(sheet).describe(made), FailedRequests: failed}, nil
}

// checkQuota refuses n more WorkSpaces when they are too many. Near the quota two creators conflict, so that the second one counts
// again; further away they do not, because one call makes at most 25 and the margin is 40 of those within one transaction's time.
func (s *Service) checkQuota(tx *state.Tx, n int) error {
	max := s.Limits.Workspaces
	if max <= 0 || n == 0 {
		return nil
	}
	have := state.Count(tx, state.Workspaces)
	if have+n > max {
		return errLimit("WorkSpaces", max)
	}
	if have+n+quotaMargin > max {
		tx.Guard(state.WorkspaceTable, "")
	}
	return nil
}

// person is what a directory says about the user of a request.
type person struct {
	directory.User
	err error
}

// people looks the users of all requests up before the transaction: a directory may be slow, and a transaction may run again.
func (s *Service) people(ctx context.Context, requests []api.WorkspaceRequest) []person {
	found := make([]person, len(requests))
	var g errgroup.Group
	g.SetLimit(lookups)
	snap := s.DB.Snapshot()
	for i := range requests {
		id, name := shape.Val(requests[i].DirectoryId), shape.Val(requests[i].UserName)
		if name == undefinedUser {
			continue
		}
		if d, ok := state.Get(snap, state.Directories, id); !ok || d.Registration == nil {
			// Only registered directories are asked; create says what is wrong.
			found[i].err = directory.ErrNoDirectory
			continue
		}
		g.Go(func() error {
			found[i].User, found[i].err = s.Directory.Lookup(ctx, ident.DirectoryID(id), name)
			return nil
		})
	}
	_ = g.Wait() // the errors are in found
	return found
}

// create puts one WorkSpace into tx, or says why not; then it has put nothing.
func (s *Service) create(tx *state.Tx, r *api.WorkspaceRequest, p person) (*state.Workspace, *failure) {
	if f := registeredForUse(tx, shape.Val(r.DirectoryId)); f != nil {
		return nil, f
	}
	spec := state.WorkspaceSpec{DirectoryID: ident.DirectoryID(shape.Val(r.DirectoryId)), Power: state.PowerRunning}
	if f := userOf(&spec, r, p); f != nil {
		return nil, f
	}
	bundle, f := s.bundleForUse(tx, shape.Val(r.BundleId))
	if f != nil {
		return nil, f
	}
	spec.BundleID = bundle.ID
	if f := propertiesOf(&spec, r.WorkspaceProperties, bundle); f != nil {
		return nil, f
	}
	if f := encryption(&spec, r); f != nil {
		return nil, f
	}
	if shape.Val(r.Ipv6Address) != "" {
		return nil, &failIPv6
	}
	tags, bad := s.readTags(r.Tags)
	if bad != nil {
		return nil, shape.Ptr(failTags(bad))
	}
	id, f := s.idFor(tx, &spec)
	if f != nil {
		return nil, f
	}
	w := &state.Workspace{
		Meta:   state.Meta{Created: tx.Now(), Tags: tags},
		ID:     id,
		Spec:   spec,
		Status: state.WorkspaceStatus{State: string(api.WorkspaceStatePending), Since: tx.Now()},
	}
	state.Put(tx, state.Workspaces, w)
	return w, nil
}

// idFor makes the WorkSpace's id. A user has one WorkSpace in a directory; user-decoupled WorkSpaces are told apart by their names alone.
func (s *Service) idFor(tx *state.Tx, spec *state.WorkspaceSpec) (ident.WorkspaceID, *failure) {
	if spec.Name != "" {
		return newID(tx, state.Workspaces, func() ident.WorkspaceID { return ident.NewWorkspaceID(s.Rand) }), nil
	}
	id, err := state.NewUserWorkspaceID(tx, s.Rand, spec.DirectoryID, spec.UserName)
	if err != nil {
		return "", &failUserHasOne
	}
	return id, nil
}

// registeredForUse tells why no WorkSpace can be made in a directory. The read is checked when tx commits: a deregistration that comes
// between makes the transaction run again and find it.
func registeredForUse(tx *state.Tx, id string) *failure {
	d, ok := state.Get(tx, state.Directories, id)
	if !ok || d.Registration == nil {
		return &failNoDirectory
	}
	if d.Registration.State != string(api.WorkspaceDirectoryStateRegistered) {
		return shape.Ptr(failDirectoryState(d.Registration.State))
	}
	return nil
}

// userOf sets the spec's user, as the directory spells it, or its name.
func userOf(spec *state.WorkspaceSpec, r *api.WorkspaceRequest, p person) *failure {
	if shape.Val(r.UserName) == undefinedUser {
		if shape.Val(r.WorkspaceName) == "" {
			return &failNameMissing
		}
		spec.UserName, spec.Name = undefinedUser, *r.WorkspaceName
		return nil
	}
	switch {
	case errors.Is(p.err, directory.ErrNoUser):
		return &failNoUser
	case errors.Is(p.err, directory.ErrNoDirectory):
		return &failNoDirectory
	case p.err != nil:
		return &failNoAnswer
	case shape.Val(r.WorkspaceName) != "":
		return &failNameGiven
	}
	spec.UserName, spec.UserSID = p.Name, p.SID
	return nil
}

// bundleForUse finds a bundle that the account may use and that is ready.
func (s *Service) bundleForUse(tx *state.Tx, id string) (*state.Bundle, *failure) {
	b, ok := state.Get(tx, state.Bundles, id)
	switch {
	case !ok || b.Owner != publicOwner && b.Owner != s.Account:
		return nil, &failNoBundle
	case b.State != string(api.WorkspaceBundleStateAvailable):
		return nil, &failBundleNotReady
	}
	return b, nil
}
