// Package display_test looks at desktops through the real programs: noVNC in Chromium before the relay, QEMU's VNC server behind it.
package display_test

import (
	"os/exec"
	"testing"
)

// need fails with the packages that are missing. What each program is for stands beside it.
func need(t *testing.T, programs map[string]string) {
	t.Helper()
	for program, pkg := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("needs %s: apt-get install %s", program, pkg)
		}
	}
}
