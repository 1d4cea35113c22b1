package doctor

import "testing"

func TestAnAWSCLIWithoutEndpointsInItsConfigurationIsKnown(t *testing.T) {
	for version, old := range map[string]bool{
		"aws-cli/2.9.19 Python/3.11.2 Linux/6.1.0 source/x86_64.debian.12 prompt/off\n": true,
		"aws-cli/2.12.99 Python": true, "aws-cli/1.22.34 Python/3.10.12": true, "aws-cli/1.28.1": true,
		"aws-cli/2.13.0 Python": false, "aws-cli/2.31.1": false, "aws-cli/1.29.0": false, "aws-cli/1.45.11 Python/3.11.7": false, "aws-cli/3.0.0": false,
		"": false, "aws-cli/two": false, "not aws-cli/2.9.19": false,
	} {
		if OldAWSCLI(version) != old {
			t.Errorf("%q: not %v", version, old)
		}
	}
}
