package workspaces

import (
	"context"
	"time"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/service"
	"carrel/internal/state"
)

// stuckReboot is how old a REBOOTING must be to be asked for again.
const stuckReboot = 20 * time.Minute

// transition is one of the changes of state that a client asks for (the table of WorkspaceState).
type transition struct {
	// allowed tells why a WorkSpace cannot change so now, or nil.
	allowed func(w *state.Workspace, now time.Time) *failure
	// settled WorkSpaces are on their way already: asking again succeeds and changes nothing.
	settled func(w *state.Workspace) bool
	// to is the state on the way; want sets what should be.
	to   api.WorkspaceState
	want func(*state.WorkspaceSpec)
}

// in tells whether w is in one of the states.
func in(w *state.Workspace, states ...api.WorkspaceState) bool {
	for _, s := range states {
		if w.Status.State == string(s) {
			return true
		}
	}
	return false
}

func starting() transition {
	return transition{
		allowed: func(w *state.Workspace, _ time.Time) *failure {
			switch {
			case w.Spec.RunningMode == alwaysOn:
				return shape.Ptr(failMode(w, "started"))
			case !in(w, api.WorkspaceStateStopped):
				return shape.Ptr(failState(w, "started"))
			}
			return nil
		},
		to:   api.WorkspaceStateStarting,
		want: func(s *state.WorkspaceSpec) { s.Power = state.PowerRunning },
	}
}

func stopping() transition {
	return transition{
		allowed: func(w *state.Workspace, _ time.Time) *failure {
			switch {
			case w.Spec.RunningMode == alwaysOn:
				return shape.Ptr(failMode(w, "stopped"))
			case !in(w, api.WorkspaceStateAvailable, api.WorkspaceStateImpaired, api.WorkspaceStateUnhealthy, api.WorkspaceStateError):
				return shape.Ptr(failState(w, "stopped"))
			}
			return nil
		},
		to:   api.WorkspaceStateStopping,
		want: func(s *state.WorkspaceSpec) { s.Power = state.PowerStopped },
	}
}

func rebooting() transition {
	return transition{
		allowed: func(w *state.Workspace, now time.Time) *failure {
			stuck := in(w, api.WorkspaceStateRebooting) && now.Sub(w.Status.Since) > stuckReboot
			if !stuck && !in(w, api.WorkspaceStateAvailable, api.WorkspaceStateUnhealthy) {
				return shape.Ptr(failState(w, "rebooted"))
			}
			return nil
		},
		to:   api.WorkspaceStateRebooting,
		want: func(s *state.WorkspaceSpec) { s.Reboots++ },
	}
}

func terminating() transition {
	return transition{
		allowed: func(w *state.Workspace, _ time.Time) *failure {
			if in(w, api.WorkspaceStateSuspended) {
				return shape.Ptr(failState(w, "terminated"))
			}
			return nil
		},
		settled: func(w *state.Workspace) bool {
			return w.Spec.Power == state.PowerTerminated && in(w, api.WorkspaceStateTerminating, api.WorkspaceStateTerminated)
		},
		to:   api.WorkspaceStateTerminating,
		want: func(s *state.WorkspaceSpec) { s.Power = state.PowerTerminated },
	}
}

// change carries a transition out on every WorkSpace of a batch that allows it, in one transaction, and lists the others. An id that
// stands in the batch twice is one request.
func (s *Service) change(ctx context.Context, ids []*string, t transition) ([]api.FailedWorkspaceChangeRequest, error) {
	var failed []api.FailedWorkspaceChangeRequest
	err := s.update(ctx, func(tx *state.Tx) error {
		failed = []api.FailedWorkspaceChangeRequest{}
		seen := make(map[string]struct{}, len(ids))
		for _, p := range ids {
			id := shape.Val(p)
			if _, again := seen[id]; again {
				continue
			}
			seen[id] = struct{}{}
			if f := t.apply(tx, id); f != nil {
				failed = append(failed, f.change(p))
			}
		}
		return nil
	})
	return failed, err
}

// apply puts the changed record into tx: what should be, and the state on the way. The reconciler starts afresh, whatever it was
// waiting for.
func (t transition) apply(tx *state.Tx, id string) *failure {
	w, ok := state.Get(tx, state.Workspaces, id)
	if !ok {
		return shape.Ptr(failNoWorkspace(id))
	}
	if t.settled != nil && t.settled(w) {
		return nil
	}
	if f := t.allowed(w, tx.Now()); f != nil {
		return f
	}
	c := state.Clone(w)
	t.want(&c.Spec)
	c.Status.State, c.Status.Since = string(t.to), tx.Now()
	c.Status.ErrorCode, c.Status.ErrorMessage = "", ""
	c.Status.Backoff = state.Backoff{}
	state.Put(tx, state.Workspaces, c)
	return nil
}

// StartWorkspaces starts WorkSpaces that are STOPPED and not ALWAYS_ON; FailedRequests has the others.
func (s *Service) StartWorkspaces(ctx context.Context, _ service.Call, in *api.StartWorkspacesInput) (*api.StartWorkspacesOutput, error) {
	ids := make([]*string, len(in.StartWorkspaceRequests))
	for i, r := range in.StartWorkspaceRequests {
		ids[i] = r.WorkspaceId
	}
	failed, err := s.change(ctx, ids, starting())
	if err != nil {
		return nil, err
	}
	return &api.StartWorkspacesOutput{FailedRequests: failed}, nil
}

// StopWorkspaces stops WorkSpaces that are AVAILABLE, IMPAIRED, UNHEALTHY or in ERROR and not ALWAYS_ON; FailedRequests has the others.
func (s *Service) StopWorkspaces(ctx context.Context, _ service.Call, in *api.StopWorkspacesInput) (*api.StopWorkspacesOutput, error) {
	ids := make([]*string, len(in.StopWorkspaceRequests))
	for i, r := range in.StopWorkspaceRequests {
		ids[i] = r.WorkspaceId
	}
	failed, err := s.change(ctx, ids, stopping())
	if err != nil {
		return nil, err
	}
	return &api.StopWorkspacesOutput{FailedRequests: failed}, nil
}

// RebootWorkspaces reboots WorkSpaces that are AVAILABLE, UNHEALTHY or have been REBOOTING for over 20 minutes; FailedRequests has the
// others.
func (s *Service) RebootWorkspaces(ctx context.Context, _ service.Call, in *api.RebootWorkspacesInput) (*api.RebootWorkspacesOutput, error) {
	ids := make([]*string, len(in.RebootWorkspaceRequests))
	for i, r := range in.RebootWorkspaceRequests {
		ids[i] = r.WorkspaceId
	}
	failed, err := s.change(ctx, ids, rebooting())
	if err != nil {
		return nil, err
	}
	return &api.RebootWorkspacesOutput{FailedRequests: failed}, nil
}

// TerminateWorkspaces terminates WorkSpaces in any state but SUSPENDED, for good; FailedRequests has the others.
func (s *Service) TerminateWorkspaces(ctx context.Context, _ service.Call, in *api.TerminateWorkspacesInput) (*api.TerminateWorkspacesOutput, error) {
	ids := make([]*string, len(in.TerminateWorkspaceRequests))
	for i, r := range in.TerminateWorkspaceRequests {
		ids[i] = r.WorkspaceId
	}
	failed, err := s.change(ctx, ids, terminating())
	if err != nil {
		return nil, err
	}
	return &api.TerminateWorkspacesOutput{FailedRequests: failed}, nil
}
