package workspaces

import (
	"context"
	"fmt"
	"testing"
	"time"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/service"
	"carrel/internal/state"
)

// power calls one of the four operations.
func (w *world) power(op string, ids ...string) []api.FailedWorkspaceChangeRequest {
	w.t.Helper()
	ctx, call := context.Background(), service.Call{}
	switch op {
	case "start":
		in := &api.StartWorkspacesInput{}
		for _, id := range ids {
			in.StartWorkspaceRequests = append(in.StartWorkspaceRequests, api.StartRequest{WorkspaceId: &id})
		}
		return must(w.StartWorkspaces(ctx, call, in))(w.t).FailedRequests
	case "stop":
		in := &api.StopWorkspacesInput{}
		for _, id := range ids {
			in.StopWorkspaceRequests = append(in.StopWorkspaceRequests, api.StopRequest{WorkspaceId: &id})
		}
		return must(w.StopWorkspaces(ctx, call, in))(w.t).FailedRequests
	case "reboot":
		in := &api.RebootWorkspacesInput{}
		for _, id := range ids {
			in.RebootWorkspaceRequests = append(in.RebootWorkspaceRequests, api.RebootRequest{WorkspaceId: &id})
		}
		return must(w.RebootWorkspaces(ctx, call, in))(w.t).FailedRequests
	}
	in := &api.TerminateWorkspacesInput{}
	for _, id := range ids {
		in.TerminateWorkspaceRequests = append(in.TerminateWorkspaceRequests, api.TerminateRequest{WorkspaceId: &id})
	}
	return must(w.TerminateWorkspaces(ctx, call, in))(w.t).FailedRequests
}

var allStates = []string{"PENDING", "AVAILABLE", "IMPAIRED", "UNHEALTHY", "REBOOTING", "STARTING", "REBUILDING", "RESTORING", "MAINTENANCE",
	"ADMIN_MAINTENANCE", "TERMINATING", "TERMINATED", "SUSPENDED", "UPDATING", "STOPPING", "STOPPED", "ERROR"}

// TestEveryStateAnswersEveryRequest is the whole table: which states let a request through, and where it leads.
func TestEveryStateAnswersEveryRequest(t *testing.T) {
	allowed := map[string]map[string]bool{
		"start":     {"STOPPED": true},
		"stop":      {"AVAILABLE": true, "IMPAIRED": true, "UNHEALTHY": true, "ERROR": true},
		"reboot":    {"AVAILABLE": true, "UNHEALTHY": true},
		"terminate": {},
	}
	for _, s := range allStates {
		allowed["terminate"][s] = s != "SUSPENDED"
	}
	on := map[string]string{"start": "STARTING", "stop": "STOPPING", "reboot": "REBOOTING", "terminate": "TERMINATING"}
	for op, states := range allowed {
		for _, mode := range []string{autoStop, alwaysOn, manual} {
			for _, from := range allStates {
				t.Run(fmt.Sprintf("%s of %s in %s", op, mode, from), func(t *testing.T) {
					w := open(t)
					id := string(w.workspace("ws-000000001", from, mode))
					w.clock.Advance(time.Minute)
					want := ""
					switch {
					case mode == alwaysOn && (op == "start" || op == "stop"):
						want = "OperationNotSupported.Workspace"
					case !states[from]:
						want = "InvalidResourceState.Workspace"
					}
					failed := w.power(op, id)
					rec := get(w, state.Workspaces, id)
					if want != "" {
						if len(failed) != 1 || *failed[0].ErrorCode != want || *failed[0].ErrorMessage == "" || *failed[0].WorkspaceId != id {
							t.Fatalf("failed %+v, want %s", failed, want)
						}
						if rec.Status.State != from || rec.Spec.Power != state.PowerRunning || rec.Spec.Reboots != 0 {
							t.Errorf("a refused request changed %+v", rec)
						}
						return
					}
					if len(failed) != 0 {
						t.Fatalf("refused: %s", *failed[0].ErrorMessage)
					}
					checkGoing(t, rec, op, on[op], w.clock.Now())
				})
			}
		}
	}
}

// checkGoing checks that a record is on the way to what was asked.
func checkGoing(t *testing.T, rec *state.Workspace, op, to string, now time.Time) {
	t.Helper()
	power := map[string]state.Power{"start": state.PowerRunning, "stop": state.PowerStopped, "reboot": state.PowerRunning, "terminate": state.PowerTerminated}[op]
	reboots := map[string]int{"reboot": 1}[op]
	if rec.Status.State != to || rec.Spec.Power != power || rec.Spec.Reboots != reboots {
		t.Errorf("state %s power %s reboots %d, want %s %s %d", rec.Status.State, rec.Spec.Power, rec.Spec.Reboots, to, power, reboots)
	}
	if now.Sub(rec.Status.Since) > 30*time.Second || rec.Status.ErrorCode != "" || rec.Status.Backoff != (state.Backoff{}) {
		t.Errorf("the old account stands: %+v", rec.Status)
	}
}

func TestARebootThatIsStuckCanBeAskedForAgain(t *testing.T) {
	w := open(t)
	id := string(w.workspace("ws-000000001", "AVAILABLE", alwaysOn))
	if failed := w.power("reboot", id); len(failed) != 0 {
		t.Fatal(*failed[0].ErrorMessage)
	}
	w.clock.Advance(19 * time.Minute)
	if failed := w.power("reboot", id); len(failed) != 1 {
		t.Error("a reboot of 19 minutes was asked for again")
	}
	w.clock.Advance(2 * time.Minute)
	if failed := w.power("reboot", id); len(failed) != 0 {
		t.Errorf("a reboot of 21 minutes is refused: %s", *failed[0].ErrorMessage)
	}
	if rec := get(w, state.Workspaces, id); rec.Spec.Reboots != 2 {
		t.Errorf("%d reboots", rec.Spec.Reboots)
	}
}

func TestABatchIsCarriedOutItemByItem(t *testing.T) {
	w := open(t)
	good, bad := string(w.workspace("ws-000000001", "AVAILABLE", autoStop)), string(w.workspace("ws-000000002", "PENDING", autoStop))
	failed := w.power("stop", bad, "ws-999999999", good)
	if len(failed) != 2 || *failed[0].WorkspaceId != bad || *failed[1].WorkspaceId != "ws-999999999" || *failed[1].ErrorCode != "ResourceNotFound.Workspace" {
		t.Errorf("failed %+v", failed)
	}
	if rec := get(w, state.Workspaces, good); rec.Status.State != "STOPPING" {
		t.Errorf("the good one is %s", rec.Status.State)
	}
}

func TestAnIdThatIsNamedTwiceIsOneRequest(t *testing.T) {
	w := open(t)
	id := string(w.workspace("ws-000000001", "AVAILABLE", autoStop))
	if failed := w.power("reboot", id, id); len(failed) != 0 {
		t.Errorf("failed %+v", failed)
	}
	if rec := get(w, state.Workspaces, id); rec.Spec.Reboots != 1 {
		t.Errorf("%d reboots", rec.Spec.Reboots)
	}
}

func TestARequestWithoutAnIdFails(t *testing.T) {
	w := open(t)
	out := must(w.StartWorkspaces(context.Background(), service.Call{}, &api.StartWorkspacesInput{StartWorkspaceRequests: []api.StartRequest{{}}}))(t)
	if len(out.FailedRequests) != 1 || *out.FailedRequests[0].ErrorCode != "ResourceNotFound.Workspace" || *out.FailedRequests[0].ErrorMessage != "The WorkspaceId is missing." {
		t.Errorf("failed %+v", out.FailedRequests)
	}
}

func TestTerminatingAgainChangesNothing(t *testing.T) {
	w := open(t)
	id := string(w.workspace("ws-000000001", "AVAILABLE", alwaysOn))
	w.power("terminate", id)
	before := get(w, state.Workspaces, id)
	if failed := w.power("terminate", id); len(failed) != 0 {
		t.Errorf("failed %+v", failed)
	}
	if after := get(w, state.Workspaces, id); after.Revision != before.Revision {
		t.Error("the record was written again")
	}
}

func TestStopAndTerminateAtOnceEndTerminated(t *testing.T) {
	w := open(t)
	id := string(w.workspace("ws-000000001", "AVAILABLE", autoStop))
	both(t, func(ctx context.Context) {
		_, err := w.StopWorkspaces(ctx, service.Call{}, &api.StopWorkspacesInput{StopWorkspaceRequests: []api.StopRequest{{WorkspaceId: shape.Ptr(id)}}})
		if err != nil {
			t.Error(err)
		}
	}, func(ctx context.Context) {
		_, err := w.TerminateWorkspaces(ctx, service.Call{}, &api.TerminateWorkspacesInput{TerminateWorkspaceRequests: []api.TerminateRequest{{WorkspaceId: shape.Ptr(id)}}})
		if err != nil {
			t.Error(err)
		}
	})
	if rec := get(w, state.Workspaces, id); rec.Spec.Power != state.PowerTerminated || rec.Status.State != "TERMINATING" {
		t.Errorf("%s, %s", rec.Spec.Power, rec.Status.State)
	}
}
