// Package workspaces carries out the operations of Amazon WorkSpaces on Carrel's records: WorkSpaces, bundles, images, registered
// directories, IP access control groups and tags (WorkSpaces API reference, 2015-04-08).
//
// It refuses to see HTTP and signatures (front, identity), to decide who may call (authz), and to touch desktops: it writes what
// should be, the reconciler makes it so.
package workspaces

import (
	"context"
	"io"
	"net/netip"

	api "carrel/internal/api/workspaces"
	"carrel/internal/clock"
	"carrel/internal/directory"
	"carrel/internal/service"
	"carrel/internal/state"
)

// Deps is what the service works with.
type Deps struct {
	DB *state.DB
	// Directory finds the users that WorkSpaces are made for.
	Directory directory.Lister
	// Clock dates page tokens and must be the clock the DB has.
	Clock clock.Clock
	// Rand makes ids and page token nonces. It must be safe for concurrent use, as crypto/rand.Reader is.
	Rand io.Reader
	// Limits are the quotas; the zero value means DefaultLimits.
	Limits Limits
	// Account is the account id of 12 digits, Region "us-east-1", Partition "aws".
	Account, Region, Partition string
	// Zones are the names or ids of the Availability Zones that WorkSpaces supports; empty means every zone.
	Zones []string
	// ManagementRanges are the ranges of the management interfaces, one of which must be free in a directory's VPC
	// (see DefaultManagementRanges); empty means that nothing is checked.
	ManagementRanges []netip.Prefix
	// TokenKey seals NextTokens. Nodes that answer for each other, and a node after a restart, need the same key; the zero
	// value draws one from Rand, and tokens end with the process.
	TokenKey [32]byte
}

// Service carries out the operations. Its methods may be called concurrently.
type Service struct {
	Deps
	pages pager
}

// New makes the service.
func New(d Deps) *Service {
	if d.Limits == (Limits{}) {
		d.Limits = DefaultLimits()
	}
	if d.TokenKey == ([32]byte{}) {
		if _, err := io.ReadFull(d.Rand, d.TokenKey[:]); err != nil {
			// Tokens under a key of zeros could be made by anybody.
			panic("workspaces: no randomness: " + err.Error())
		}
	}
	return &Service{Deps: d, pages: newPager(d)}
}

// Bind puts the service's handlers into t.
func (s *Service) Bind(t service.Table) {
	service.Bind(t, api.CreateWorkspaces, s.CreateWorkspaces)
	service.Bind(t, api.DescribeWorkspaces, s.DescribeWorkspaces)
	service.Bind(t, api.DescribeWorkspacesConnectionStatus, s.DescribeWorkspacesConnectionStatus)
	service.Bind(t, api.StartWorkspaces, s.StartWorkspaces)
	service.Bind(t, api.StopWorkspaces, s.StopWorkspaces)
	service.Bind(t, api.RebootWorkspaces, s.RebootWorkspaces)
	service.Bind(t, api.TerminateWorkspaces, s.TerminateWorkspaces)

	service.Bind(t, api.DescribeWorkspaceBundles, s.DescribeWorkspaceBundles)
	service.Bind(t, api.DescribeWorkspaceImages, s.DescribeWorkspaceImages)

	service.Bind(t, api.RegisterWorkspaceDirectory, s.RegisterWorkspaceDirectory)
	service.Bind(t, api.DeregisterWorkspaceDirectory, s.DeregisterWorkspaceDirectory)
	service.Bind(t, api.DescribeWorkspaceDirectories, s.DescribeWorkspaceDirectories)

	service.Bind(t, api.CreateIpGroup, s.CreateIpGroup)
	service.Bind(t, api.DescribeIpGroups, s.DescribeIpGroups)
	service.Bind(t, api.DeleteIpGroup, s.DeleteIpGroup)
	service.Bind(t, api.AuthorizeIpRules, s.AuthorizeIpRules)
	service.Bind(t, api.RevokeIpRules, s.RevokeIpRules)
	service.Bind(t, api.UpdateRulesOfIpGroup, s.UpdateRulesOfIpGroup)
	service.Bind(t, api.AssociateIpGroups, s.AssociateIpGroups)
	service.Bind(t, api.DisassociateIpGroups, s.DisassociateIpGroups)

	service.Bind(t, api.CreateTags, s.CreateTags)
	service.Bind(t, api.DeleteTags, s.DeleteTags)
	service.Bind(t, api.DescribeTags, s.DescribeTags)
}

// update is service.Update on the service's DB.
func (s *Service) update(ctx context.Context, fn func(*state.Tx) error) error {
	return service.Update(ctx, s.DB, fn)
}
