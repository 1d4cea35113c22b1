package doctor

import (
	"fmt"
	"strings"
)

// OldAWSCLI says whether what `aws --version` printed is of a version that does not read endpoint_url from its configuration, as 1.29 and 2.13 are the
// first to do (Debian 12 has 2.9). False for what cannot be read.
func OldAWSCLI(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(strings.TrimSpace(version), "aws-cli/%d.%d.", &major, &minor); err != nil {
		return false
	}
	return major == 1 && minor < 29 || major == 2 && minor < 13
}
