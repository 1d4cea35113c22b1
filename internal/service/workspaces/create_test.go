package workspaces

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/directory"
	"carrel/internal/service"
	"carrel/internal/state"
)

func TestCreateWorkspacesFillsInWhatTheRequestLeavesOut(t *testing.T) {
	w := furnish(t)
	out := w.create(ask("ADA"))
	if len(out.FailedRequests) != 0 || len(out.PendingRequests) != 1 {
		t.Fatalf("failed %v, pending %v", out.FailedRequests, out.PendingRequests)
	}
	got := out.PendingRequests[0]
	p := got.WorkspaceProperties
	if *got.State != "PENDING" || *got.UserName != "Ada" || *got.BundleId != string(standard) || *got.DirectoryId != string(corp) {
		t.Errorf("pending %+v", got)
	}
	if *p.RunningMode != "ALWAYS_ON" || p.RunningModeAutoStopTimeoutInMinutes != nil || *p.RootVolumeSizeGib != 80 || *p.UserVolumeSizeGib != 50 ||
		*p.ComputeTypeName != "STANDARD" || !slices.Equal(p.Protocols, []api.Protocol{"WSP"}) || *p.OperatingSystemName != "UBUNTU_22_04" {
		t.Errorf("properties %+v", p)
	}
	rec := get(w, state.Workspaces, *got.WorkspaceId)
	if rec.Spec.UserSID != "S-1-5-21-1-1000" || rec.Spec.Power != state.PowerRunning || rec.Status.Since.IsZero() || rec.Created.IsZero() {
		t.Errorf("record %+v", rec)
	}
	for other := range state.AllBy(w.DB.Snapshot(), state.Workspaces, state.WorkspacesByUser, state.UserKey(corp, "ADA")) {
		if string(other.ID) != *got.WorkspaceId {
			t.Errorf("the user has %s", other.ID)
		}
	}
}

func TestCreateWorkspacesTakesWhatTheRequestNames(t *testing.T) {
	w := furnish(t)
	mode, compute, protocol, system := api.RunningModeAutoStop, api.ComputePower, api.ProtocolWsp, api.OperatingSystemNameUbuntu2204
	out := w.create(ask("ada", with(api.WorkspaceProperties{RunningMode: &mode, ComputeTypeName: &compute, RootVolumeSizeGib: number(175),
		UserVolumeSizeGib: number(100), Protocols: []api.Protocol{protocol}, OperatingSystemName: &system}),
		func(r *api.WorkspaceRequest) {
			r.Tags = []api.Tag{tag("team", "blue")}
			r.RootVolumeEncryptionEnabled, r.VolumeEncryptionKey = shape.Ptr(true), shape.Ptr("arn:aws:kms:us-east-1:123456789012:key/k")
		}))
	if len(out.FailedRequests) != 0 {
		t.Fatalf("failed: %s", *out.FailedRequests[0].ErrorMessage)
	}
	got := out.PendingRequests[0]
	p := got.WorkspaceProperties
	if *p.RunningMode != mode || *p.RunningModeAutoStopTimeoutInMinutes != 60 || *p.ComputeTypeName != compute || *p.RootVolumeSizeGib != 175 {
		t.Errorf("properties %+v", p)
	}
	if !*got.RootVolumeEncryptionEnabled || got.UserVolumeEncryptionEnabled != nil || got.VolumeEncryptionKey == nil {
		t.Errorf("encryption %+v", got)
	}
	if tags := get(w, state.Workspaces, *got.WorkspaceId).Tags; tags["team"] != "blue" {
		t.Errorf("tags %v", tags)
	}
}

func TestCreateWorkspacesRefusesEachItemWithItsCode(t *testing.T) {
	mode := func(m api.RunningMode, minutes *int32) func(*api.WorkspaceRequest) {
		return with(api.WorkspaceProperties{RunningMode: &m, RunningModeAutoStopTimeoutInMinutes: minutes})
	}
	size := func(root, user int32) func(*api.WorkspaceRequest) {
		return with(api.WorkspaceProperties{RootVolumeSizeGib: &root, UserVolumeSizeGib: &user})
	}
	bundle := func(id string) func(*api.WorkspaceRequest) { return func(r *api.WorkspaceRequest) { r.BundleId = &id } }
	dir := func(id string) func(*api.WorkspaceRequest) {
		return func(r *api.WorkspaceRequest) { r.DirectoryId = &id }
	}
	tags := func(list ...api.Tag) func(*api.WorkspaceRequest) {
		return func(r *api.WorkspaceRequest) { r.Tags = list }
	}
	many := make([]api.Tag, 51)
	for i := range many {
		many[i] = tag(fmt.Sprint("k", i), "")
	}
	compute, system, accelerated := api.ComputeGraphics, api.OperatingSystemNameWindows11, api.AGAModeForWorkSpaceEnumEnabledAuto
	for _, c := range []struct {
		name, user string
		change     func(*api.WorkspaceRequest)
		code       string
	}{
		{"an unknown directory", "ada", dir("d-0123456789"), "ResourceNotFound.Directory"},
		{"a directory that is not registered", "ada", dir(string(other)), "ResourceNotFound.Directory"},
		{"an unknown user", "mallory", nil, "ResourceNotFound.User"},
		{"an unknown bundle", "ada", bundle("wsb-000000000"), "ResourceNotFound.Bundle"},
		{"another account's bundle", "ada", bundle(string(foreign)), "ResourceNotFound.Bundle"},
		{"a bundle that is not ready", "ada", bundle(string(pending)), "ResourceUnavailable.Bundle"},
		{"no user and no name", undefinedUser, nil, "InvalidUserConfiguration.Workspace"},
		{"a user and a name", "ada", func(r *api.WorkspaceRequest) { r.WorkspaceName = shape.Ptr("kiosk") }, "InvalidUserConfiguration.Workspace"},
		{"a timeout with ALWAYS_ON", "ada", mode("ALWAYS_ON", number(60)), "AutoStopTimeoutIsNotApplicableForAnAlwaysOnWorkspace"},
		{"a timeout without a mode", "ada", with(api.WorkspaceProperties{RunningModeAutoStopTimeoutInMinutes: number(60)}), "AutoStopTimeoutIsNotApplicableForAnAlwaysOnWorkspace"},
		{"a timeout with MANUAL", "ada", mode("MANUAL", number(60)), "AutoStopTimeoutIsNotDefaultForManualWorkspace"},
		{"a timeout that is no multiple of 60", "ada", mode("AUTO_STOP", number(90)), "InvalidParameterValues"},
		{"a timeout of 0 with AUTO_STOP", "ada", mode("AUTO_STOP", number(0)), "InvalidParameterValues"},
		{"a negative timeout", "ada", mode("AUTO_STOP", number(-60)), "InvalidParameterValues"},
		{"80/20 GiB", "ada", size(80, 20), "InvalidParameterValues"},
		{"100/100 GiB without graphics", "ada", size(100, 100), "InvalidParameterValues"},
		{"175/50 GiB", "ada", size(175, 50), "InvalidParameterValues"},
		{"2001/100 GiB", "ada", size(2001, 100), "InvalidParameterValues"},
		{"175/2001 GiB", "ada", size(175, 2001), "InvalidParameterValues"},
		{"negative GiB", "ada", size(-80, -50), "InvalidParameterValues"},
		{"a root volume smaller than the bundle's", "ada", func(r *api.WorkspaceRequest) { bundle(string(mine))(r); size(80, 100)(r) }, "InvalidParameterValues"},
		{"80/100 GiB with graphics", "ada", func(r *api.WorkspaceRequest) { bundle(string(graphics))(r); size(80, 100)(r) }, "InvalidParameterValues"},
		{"a graphics type on another bundle", "ada", with(api.WorkspaceProperties{ComputeTypeName: &compute}), "InvalidParameterValues"},
		{"a protocol that the bundle has not", "ada", with(api.WorkspaceProperties{Protocols: []api.Protocol{"PCOIP"}}), "InvalidParameterValues"},
		{"two protocols", "ada", with(api.WorkspaceProperties{Protocols: []api.Protocol{"WSP", "WSP"}}), "InvalidParameterValues"},
		{"another operating system", "ada", with(api.WorkspaceProperties{OperatingSystemName: &system}), "InvalidParameterValues"},
		{"Global Accelerator", "ada", with(api.WorkspaceProperties{GlobalAccelerator: &api.GlobalAcceleratorForWorkSpace{Mode: &accelerated}}), "OperationNotSupported.GlobalAccelerator"},
		{"an IPv6 address", "ada", func(r *api.WorkspaceRequest) { r.Ipv6Address = shape.Ptr("2001:db8::1") }, "OperationNotSupported.Ipv6Address"},
		{"a key for no volume", "ada", func(r *api.WorkspaceRequest) { r.VolumeEncryptionKey = shape.Ptr("alias/k") }, "InvalidParameterValues"},
		{"a key without end", "ada", func(r *api.WorkspaceRequest) {
			r.RootVolumeEncryptionEnabled, r.VolumeEncryptionKey = shape.Ptr(true), shape.Ptr(strings.Repeat("k", 2049))
		}, "InvalidParameterValues"},
		{"a reserved tag", "ada", tags(tag("aws:team", "blue")), "InvalidParameterValues"},
		{"a tag twice", "ada", tags(tag("team", "blue"), tag("team", "red")), "InvalidParameterValues"},
		{"51 tags", "ada", tags(many...), "ResourceLimitExceeded"},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			w := furnish(t)
			bad := ask(c.user)
			if c.change != nil {
				c.change(&bad)
			}
			out := w.create(bad, ask("grace"))
			if len(out.FailedRequests) != 1 || *out.FailedRequests[0].ErrorCode != c.code || *out.FailedRequests[0].ErrorMessage == "" {
				t.Fatalf("failed requests %+v, want one with %s", out.FailedRequests, c.code)
			}
			if echo := out.FailedRequests[0].WorkspaceRequest; echo == nil || *echo.UserName != c.user {
				t.Errorf("the request is not echoed: %+v", echo)
			}
			if len(out.PendingRequests) != 1 || *out.PendingRequests[0].UserName != "grace" || state.Count(w.DB.Snapshot(), state.Workspaces) != 1 {
				t.Errorf("the good item was not made beside the bad one: %+v", out.PendingRequests)
			}
		})
	}
}

func TestCreateWorkspacesTakesEverySizeThatIsAllowed(t *testing.T) {
	for _, c := range []struct {
		bundle     string
		root, user int32
	}{{string(standard), 80, 10}, {string(standard), 80, 100}, {string(standard), 2000, 2000}, {string(graphics), 175, 100}, {string(tiny), 8, 2}, {string(mine), 175, 2000}} {
		t.Run(fmt.Sprintf("%s takes %d/%d GiB", c.bundle, c.root, c.user), func(t *testing.T) {
			w := furnish(t)
			r := ask("ada", with(api.WorkspaceProperties{RootVolumeSizeGib: &c.root, UserVolumeSizeGib: &c.user}))
			r.BundleId = &c.bundle
			if out := w.create(r); len(out.FailedRequests) != 0 {
				t.Errorf("refused: %s", *out.FailedRequests[0].ErrorMessage)
			}
		})
	}
}

func TestCreateWorkspacesInADirectoryThatDoesNotAnswerFailsThatItemOnly(t *testing.T) {
	w := furnish(t)
	w.dir.away[corp] = true
	name := "kiosk"
	out := w.create(ask("ada"), ask(undefinedUser, func(r *api.WorkspaceRequest) { r.WorkspaceName = &name }))
	if len(out.FailedRequests) != 1 || *out.FailedRequests[0].ErrorCode != "ResourceUnavailable.Directory" || len(out.PendingRequests) != 1 {
		t.Errorf("out %+v", out)
	}
}

func TestCreateWorkspacesInADirectoryThatIsNotYetRegisteredSaysItsState(t *testing.T) {
	w := furnish(t)
	alter(w, state.Directories, string(corp), func(d *state.Directory) { d.Registration.State = "REGISTERING" })
	out := w.create(ask("ada"))
	if len(out.FailedRequests) != 1 || *out.FailedRequests[0].ErrorCode != "InvalidResourceState.Directory" {
		t.Errorf("out %+v", out)
	}
}

func TestAUserHasOneWorkspaceInADirectory(t *testing.T) {
	w := furnish(t)
	out := w.create(ask("ada"), ask("ADA"))
	if len(out.PendingRequests) != 1 || len(out.FailedRequests) != 1 || *out.FailedRequests[0].ErrorCode != "ResourceExists.WorkSpace" {
		t.Fatalf("twice in one batch: %+v", out)
	}
	out = w.create(ask("Ada"))
	if len(out.FailedRequests) != 1 || *out.FailedRequests[0].ErrorCode != "ResourceExists.WorkSpace" {
		t.Errorf("again: %+v", out)
	}
}

func TestUserDecoupledWorkspacesAreManyAndHaveNames(t *testing.T) {
	w := furnish(t)
	one, two := "kiosk-1", "kiosk-2"
	out := w.create(ask(undefinedUser, func(r *api.WorkspaceRequest) { r.WorkspaceName = &one }), ask(undefinedUser, func(r *api.WorkspaceRequest) { r.WorkspaceName = &two }))
	if len(out.PendingRequests) != 2 {
		t.Fatalf("out %+v", out)
	}
	if got := out.PendingRequests[1]; *got.UserName != undefinedUser || *got.WorkspaceName != two {
		t.Errorf("second %+v", got)
	}
}

func TestOfManyCreatorsForOneUserOneSucceeds(t *testing.T) {
	w := furnish(t)
	const creators = 16
	var made, refusals atomic.Int32
	fns := make([]func(context.Context), creators)
	for i := range fns {
		fns[i] = func(ctx context.Context) {
			out, err := w.CreateWorkspaces(ctx, service.Call{}, &api.CreateWorkspacesInput{Workspaces: []api.WorkspaceRequest{ask("ada")}})
			switch {
			case err != nil:
				t.Error(err)
			case len(out.PendingRequests) == 1:
				made.Add(1)
			case *out.FailedRequests[0].ErrorCode == "ResourceExists.WorkSpace":
				refusals.Add(1)
			}
		}
	}
	both(t, fns...)
	if made.Load() != 1 || refusals.Load() != creators-1 || state.Count(w.DB.Snapshot(), state.Workspaces) != 1 {
		t.Errorf("%d made, %d refused, %d records", made.Load(), refusals.Load(), state.Count(w.DB.Snapshot(), state.Workspaces))
	}
}

func TestBatchesThatShareOneUserConflictInThatItemOnly(t *testing.T) {
	w := furnish(t)
	for i := range 8 {
		name := fmt.Sprint("u", i)
		w.dir.users[corp][name] = directory.User{Name: name, SID: "S-" + name}
	}
	var made atomic.Int32
	batch := func(n int) func(context.Context) {
		return func(ctx context.Context) {
			requests := []api.WorkspaceRequest{ask("ada")}
			for i := range 4 {
				requests = append(requests, ask(fmt.Sprint("u", 4*n+i)))
			}
			out, err := w.CreateWorkspaces(ctx, service.Call{}, &api.CreateWorkspacesInput{Workspaces: requests})
			if err != nil {
				t.Error(err)
				return
			}
			made.Add(int32(len(out.PendingRequests)))
		}
	}
	both(t, batch(0), batch(1))
	if made.Load() != 9 {
		t.Errorf("%d made, want 9", made.Load())
	}
}

func TestNoWorkspaceSlipsIntoADirectoryThatIsDeregistered(t *testing.T) {
	for round := range 20 {
		w := furnish(t)
		var pending int
		var refusal error
		both(t, func(ctx context.Context) {
			out, err := w.CreateWorkspaces(ctx, service.Call{}, &api.CreateWorkspacesInput{Workspaces: []api.WorkspaceRequest{ask("ada")}})
			if err != nil {
				t.Error(err)
				return
			}
			pending = len(out.PendingRequests)
		}, func(ctx context.Context) {
			_, refusal = w.DeregisterWorkspaceDirectory(ctx, service.Call{}, &api.DeregisterWorkspaceDirectoryInput{DirectoryId: shape.Ptr(string(corp))})
		})
		deregistering := get(w, state.Directories, string(corp)).Registration.State == "DEREGISTERING"
		if (refusal == nil) != deregistering || deregistering == (pending == 1) {
			t.Fatalf("round %d: deregistering %v (%v), %d WorkSpaces made", round, deregistering, refusal, pending)
		}
		if refusal != nil {
			refused(t, refusal, "OperationNotSupportedException")
		}
	}
}

func TestTheQuotaOfWorkspacesHolds(t *testing.T) {
	w := furnish(t, func(d *Deps) { d.Limits = DefaultLimits(); d.Limits.Workspaces = 3 })
	kiosk := func(n int) api.WorkspaceRequest {
		return ask(undefinedUser, func(r *api.WorkspaceRequest) { r.WorkspaceName = shape.Ptr(fmt.Sprint("kiosk-", n)) })
	}
	_, err := w.CreateWorkspaces(context.Background(), service.Call{}, &api.CreateWorkspacesInput{Workspaces: []api.WorkspaceRequest{kiosk(0), kiosk(1), kiosk(2), kiosk(3)}})
	refused(t, err, "ResourceLimitExceededException")
	if n := state.Count(w.DB.Snapshot(), state.Workspaces); n != 0 {
		t.Fatalf("%d WorkSpaces of a refused call", n)
	}
	var made, over atomic.Int32
	fns := make([]func(context.Context), 8)
	for i := range fns {
		fns[i] = func(ctx context.Context) {
			_, err := w.CreateWorkspaces(ctx, service.Call{}, &api.CreateWorkspacesInput{Workspaces: []api.WorkspaceRequest{kiosk(i)}})
			switch codeOf(err) {
			case "":
				made.Add(1)
			case "ResourceLimitExceededException":
				over.Add(1)
			default:
				t.Error(err)
			}
		}
	}
	both(t, fns...)
	if made.Load() != 3 || over.Load() != 5 {
		t.Errorf("%d made, %d refused, want 3 and 5", made.Load(), over.Load())
	}
}

func TestAStoreThatIsGoneIsUnavailableNotASuccess(t *testing.T) {
	w := furnish(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := w.CreateWorkspaces(ctx, service.Call{}, &api.CreateWorkspacesInput{Workspaces: []api.WorkspaceRequest{ask(undefinedUser, func(r *api.WorkspaceRequest) { r.WorkspaceName = shape.Ptr("kiosk") })}})
	refused(t, err, "Unavailable")
}
