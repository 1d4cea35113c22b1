package region

import "testing"

func TestAbbreviation(t *testing.T) {
	for region, want := range map[string]string{
		"us-east-1": "use1", "us-west-2": "usw2", "ap-southeast-2": "apse2", "ap-northeast-1": "apne1", "ap-south-1": "aps1",
		"ca-central-1": "cac1", "us-gov-west-1": "usgw1", "cn-northwest-1": "cnnw1", "sa-east-1": "sae1", "me-south-1": "mes1",
		"home": "home", "lab-berlin-12": "labb12", "a--b": "ab", "": "",
	} {
		if got := Abbreviation(region); got != want {
			t.Errorf("Abbreviation(%q) = %q, want %q", region, got, want)
		}
	}
}

func TestZones(t *testing.T) {
	z := Zones("eu-west-1")
	if len(z) != 2 || z[0] != (Zone{"eu-west-1a", "euw1-az1"}) || z[1] != (Zone{"eu-west-1b", "euw1-az2"}) {
		t.Error(z)
	}
}

func TestAirport(t *testing.T) {
	for region, want := range map[string]string{"us-west-2": "pdx", "lab-berlin-1": "lab", "x": "xxx"} {
		if got := Airport(region); got != want {
			t.Errorf("Airport(%q) = %q, want %q", region, got, want)
		}
	}
}
