package archtest

import (
	"os/exec"
	"strings"
	"testing"
)

func TestThePackagesThatDecideAreCoveredWhole(t *testing.T) {
	for _, pkg := range covered {
		if _, known := table[pkg]; !known {
			t.Errorf("%s has no row in the table", pkg)
		}
		cmd := exec.Command("go", "test", "-short", "-cover", "./"+pkg)
		cmd.Dir = "../.."
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "coverage: 100.0% of statements") {
			t.Errorf("%s: %v\n%s\ngo test -short -coverprofile c.out ./%s && go tool cover -html c.out shows what no test runs", pkg, err, out, pkg)
		}
	}
}
