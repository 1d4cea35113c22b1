package metrics_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/metrics"
)

func TestRequestsAreCountedByWhatTheyWere(t *testing.T) {
	m := metrics.New("test")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 25 {
				m.Request("workspaces", "DescribeWorkspaces", "", time.Millisecond)
				m.Request("workspaces", "DescribeWorkspaces", []string{"AccessDenied", "Throttling"}[i%2], time.Second)
				m.Request("iam", "DescribeWorkspaces", "", time.Second)
			}
		})
	}
	all.Wait()
	m.Request("", "", "MissingAuthenticationToken", time.Millisecond)
	w := httptest.NewRecorder()
	m.Handler(false).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	count := func(service, operation, code string) string {
		return fmt.Sprintf(`carrel_api_requests_total{code=%q,operation=%q,service=%q}`, code, operation, service)
	}
	took := func(service, operation, part string) string {
		return fmt.Sprintf(`carrel_api_request_seconds_%s{operation=%q,service=%q`, part, operation, service)
	}
	for _, want := range []string{
		count("workspaces", "DescribeWorkspaces", "") + " 200",
		count("workspaces", "DescribeWorkspaces", "AccessDenied") + " 104",
		count("workspaces", "DescribeWorkspaces", "Throttling") + " 96",
		count("iam", "DescribeWorkspaces", "") + " 200",
		count("", "", "MissingAuthenticationToken") + " 1",
		took("workspaces", "DescribeWorkspaces", "count") + "} 400",
		took("workspaces", "DescribeWorkspaces", "sum") + "} 200.2",
		took("iam", "DescribeWorkspaces", "count") + "} 200",
		took("", "", "count") + "} 1",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s in\n%s", want, w.Body)
		}
	}
}
