package front_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/service"
)

func TestWhatAHandlerLendsIsGivenBackOnceNobodyReadsIt(t *testing.T) {
	h := newHouse(t)
	name, broken := "office", error(nil)
	calls := 0
	h.Handlers[operation(t, "workspaces", "DescribeIpGroups")] = func(_ context.Context, call service.Call, _ any) (any, error) {
		name = "office"
		call.Lend(func() {
			calls++
			name = "another answer's"
		})
		return &api.DescribeIpGroupsOutput{Result: []api.WorkspacesIpGroup{{GroupId: shape.Ptr("wsipg-0a1b2c3d4"), GroupName: &name}}}, broken
	}
	for i := range 2 {
		a := h.send(t, h.describe(t).request())
		if a.status != 200 || !strings.Contains(a.text, `"groupName":"office"`) || calls != i+1 {
			t.Errorf("%d %s; given back %d times", a.status, a.text, calls)
		}
	}
	broken = errors.New("no answer")
	if a := h.send(t, h.describe(t).request()); a.status != 500 || calls != 3 {
		t.Errorf("%d %s; given back %d times", a.status, a.text, calls)
	}
	h.audit.full = errDisk
	broken = nil
	if a := h.send(t, h.describe(t).request()); a.status != 500 || calls != 4 {
		t.Errorf("without a record: %d %s; given back %d times", a.status, a.text, calls)
	}
}
