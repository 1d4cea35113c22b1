package workspaces

import (
	"context"
	"strings"
	"sync"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

// DescribeWorkspaces lists WorkSpaces in the order of their ids, in pages of Limit (1-25, by default 25). At most one of WorkspaceIds,
// DirectoryId (alone, or with UserName and WorkspaceName) and BundleId chooses which; ids that do not exist are left out.
// InvalidParameterValuesException for other combinations and for a NextToken that is not this query's.
func (s *Service) DescribeWorkspaces(_ context.Context, call service.Call, in *api.DescribeWorkspacesInput) (*api.DescribeWorkspacesOutput, error) {
	if err := checkFilters(in); err != nil {
		return nil, err
	}
	dir, user, bundle, name := shape.Val(in.DirectoryId), shape.Val(in.UserName), shape.Val(in.BundleId), shape.Val(in.WorkspaceName)
	q := query{"DescribeWorkspaces", strings.Join(in.WorkspaceIds, ","), dir, strings.ToLower(user), bundle, name}
	after, err := s.pages.open(q, in.NextToken)
	if err != nil {
		return nil, err
	}
	snap, limit := s.DB.Snapshot(), pageSize(in.Limit)
	sheet := newSheet(call)
	var recs []*state.Workspace
	var next string
	switch {
	case in.WorkspaceIds != nil:
		recs, next = pick(snap, state.Workspaces, in.WorkspaceIds, cut{after, limit})
	case in.WorkspaceName != nil:
		recs, next = named(snap, in, cut{after, limit})
	case in.UserName != nil:
		recs, next = state.PageBy(sheet.in(snap), state.Workspaces, state.WorkspacesByUser, state.UserKey(ident.DirectoryID(dir), user), after, limit)
	case in.DirectoryId != nil:
		recs, next = state.PageBy(sheet.in(snap), state.Workspaces, state.WorkspacesByDirectory, dir, after, limit)
	case in.BundleId != nil:
		recs, next = state.PageBy(sheet.in(snap), state.Workspaces, state.WorkspacesByBundle, bundle, after, limit)
	default:
		recs, next = state.Page(sheet.in(snap), state.Workspaces, after, limit)
	}
	return &api.DescribeWorkspacesOutput{Workspaces: sheet.describe(recs), NextToken: s.pages.seal(q, next)}, nil
}

// checkFilters refuses combinations of filters that AWS refuses.
func checkFilters(in *api.DescribeWorkspacesInput) error {
	chosen := 0
	for _, given := range []bool{in.WorkspaceIds != nil, in.DirectoryId != nil, in.BundleId != nil} {
		if given {
			chosen++
		}
	}
	switch {
	case chosen > 1:
		return errFilters()
	case in.UserName != nil && in.DirectoryId == nil:
		return errNeedsDirectory("UserName")
	case in.WorkspaceName != nil && in.DirectoryId == nil:
		return errNeedsDirectory("WorkspaceName")
	}
	return nil
}

// named finds a directory's WorkSpaces of a name. Only user-decoupled WorkSpaces have one, and they stand in the index under the
// reserved user name.
func named(r state.Reader, in *api.DescribeWorkspacesInput, c cut) ([]*state.Workspace, string) {
	if in.UserName != nil && !strings.EqualFold(*in.UserName, undefinedUser) {
		return nil, ""
	}
	key := state.UserKey(ident.DirectoryID(*in.DirectoryId), undefinedUser)
	keep := func(w *state.Workspace) bool { return w.Spec.Name == *in.WorkspaceName }
	return filter(state.AllBy(r, state.Workspaces, state.WorkspacesByUser, key), state.Workspaces, keep, c)
}

// row holds what an answer needs beside the record it points into, so that a page is two allocations.
type row struct {
	properties          api.WorkspaceProperties
	protocols           [2]api.Protocol // as many as there are
	root, user, timeout int32
	yes                 bool
}

// sheet is the memory of one answer of WorkSpaces. Made anew for each it would be most of the garbage that reading pages makes, and with a
// hundred thousand records in memory garbage is what makes reading slow: the collector looks at all of them each time.
type sheet struct {
	records *state.Room[state.Workspace]
	rows    [maxPage]row
	out     [maxPage]api.Workspace
}

// sheets are those that no answer uses at the moment.
var sheets = sync.Pool{New: func() any { return &sheet{records: state.NewRoom[state.Workspace](maxPage + 1)} }} // one record more tells that there is a next page

// newSheet is one for this call alone; it goes back when the call's answer has been encoded, if the caller says when that is.
func newSheet(call service.Call) *sheet {
	if call.Lend == nil {
		return &sheet{}
	}
	s := sheets.Get().(*sheet)
	call.Lend(func() {
		s.records.Reset()
		clear(s.rows[:])
		clear(s.out[:])
		sheets.Put(s)
	})
	return s
}

// in makes pages of a snapshot use the sheet.
func (s *sheet) in(snap *state.Snapshot) state.Reader { return state.In(s.records, snap) }

// describe converts up to maxPage records for an answer. The answer points into the records, which never change while it is used.
func (s *sheet) describe(recs []*state.Workspace) []api.Workspace {
	out := s.out[:len(recs):len(recs)]
	for i, w := range recs {
		r := &s.rows[i]
		r.fill(&w.Spec)
		spec, status := &w.Spec, &w.Status
		out[i] = api.Workspace{
			WorkspaceId:         (*string)(&w.ID),
			DirectoryId:         (*string)(&spec.DirectoryID),
			UserName:            &spec.UserName,
			BundleId:            (*string)(&spec.BundleID),
			State:               (*api.WorkspaceState)(&status.State),
			IpAddress:           some(&status.IPAddress),
			SubnetId:            some((*string)(&status.SubnetID)),
			ComputerName:        some(&status.ComputerName),
			ErrorCode:           some(&status.ErrorCode),
			ErrorMessage:        some(&status.ErrorMessage),
			VolumeEncryptionKey: some(&spec.VolumeEncryptionKey),
			WorkspaceName:       some(&spec.Name),
			WorkspaceProperties: &r.properties,
			ModificationStates:  []api.ModificationState{},
		}
		if spec.EncryptUser {
			out[i].UserVolumeEncryptionEnabled = &r.yes
		}
		if spec.EncryptRoot {
			out[i].RootVolumeEncryptionEnabled = &r.yes
		}
		if b := &status.Backoff; b.Attempts > 0 && in(w, api.WorkspaceStateTerminating) {
			out[i].ErrorCode, out[i].ErrorMessage = shape.Ptr(codeTermination), shape.Ptr(textTermination(b.Step, b.Attempts))
		}
	}
	return out
}

func (r *row) fill(spec *state.WorkspaceSpec) {
	r.root, r.user, r.timeout, r.yes = int32(spec.RootGiB), int32(spec.UserGiB), int32(spec.AutoStopMinutes), true
	p := &r.properties
	p.RunningMode = (*api.RunningMode)(&spec.RunningMode)
	p.RootVolumeSizeGib, p.UserVolumeSizeGib = &r.root, &r.user
	p.ComputeTypeName = (*api.Compute)(&spec.Compute)
	if spec.AutoStopMinutes != 0 {
		p.RunningModeAutoStopTimeoutInMinutes = &r.timeout
	}
	if spec.OperatingSystem != "" {
		p.OperatingSystemName = (*api.OperatingSystemName)(&spec.OperatingSystem)
	}
	if len(spec.Protocols) > 0 {
		p.Protocols = r.protocols[:0:len(r.protocols)]
		for _, name := range spec.Protocols {
			p.Protocols = append(p.Protocols, api.Protocol(name))
		}
	}
}

// DescribeWorkspacesConnectionStatus tells whether users are connected, for the named WorkSpaces or for all, in pages of 25. The state
// is UNKNOWN while a desktop does not run and until it has reported.
func (s *Service) DescribeWorkspacesConnectionStatus(_ context.Context, _ service.Call, in *api.DescribeWorkspacesConnectionStatusInput) (*api.DescribeWorkspacesConnectionStatusOutput, error) {
	q := query{"DescribeWorkspacesConnectionStatus", strings.Join(in.WorkspaceIds, ",")}
	after, err := s.pages.open(q, in.NextToken)
	if err != nil {
		return nil, err
	}
	snap := s.DB.Snapshot()
	var recs []*state.Workspace
	var next string
	if in.WorkspaceIds != nil {
		recs, next = pick(snap, state.Workspaces, in.WorkspaceIds, cut{after, maxPage})
	} else {
		recs, next = state.Page(snap, state.Workspaces, after, maxPage)
	}
	out := &api.DescribeWorkspacesConnectionStatusOutput{
		WorkspacesConnectionStatus: make([]api.WorkspaceConnectionStatus, len(recs)), NextToken: s.pages.seal(q, next)}
	for i, w := range recs {
		out.WorkspacesConnectionStatus[i] = connection(w)
	}
	return out, nil
}

func connection(w *state.Workspace) api.WorkspaceConnectionStatus {
	status := &w.Status
	c := api.WorkspaceConnectionStatus{WorkspaceId: (*string)(&w.ID), ConnectionState: shape.Ptr(api.ConnectionStateUnknown)}
	off := in(w, api.WorkspaceStatePending, api.WorkspaceStateStarting, api.WorkspaceStateStopped, api.WorkspaceStateTerminated)
	if status.Connection != "" && !off {
		*c.ConnectionState = api.ConnectionState(status.Connection)
	}
	if !status.CheckedAt.IsZero() {
		c.ConnectionStateCheckTimestamp = &status.CheckedAt
	}
	if !status.LastUserSeen.IsZero() {
		c.LastKnownUserConnectionTimestamp = &status.LastUserSeen
	}
	return c
}
