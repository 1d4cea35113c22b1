// Package region derives what belongs to a region's name: its Availability Zones and their ids, and the airport code of
// registration codes. It works for AWS's regions and for names that AWS does not have.
//
// It refuses to list regions: an installation is one region.
package region

import (
	"io"
	"strings"

	"carrel/internal/ident"
)

// Zone is an Availability Zone: Name "us-east-1a", ID "use1-az1".
type Zone struct{ Name, ID string }

// Zones are the two zones of every Carrel region.
func Zones(region string) []Zone {
	short := Abbreviation(region)
	return []Zone{{Name: region + "a", ID: short + "-az1"}, {Name: region + "b", ID: short + "-az2"}}
}

// compass are the words that AWS shortens to more than their first letter.
var compass = map[string]string{"northeast": "ne", "northwest": "nw", "southeast": "se", "southwest": "sw"}

// Abbreviation shortens a region's name as AWS's zone ids do: "us-east-1" to "use1", "ap-southeast-2" to "apse2",
// "us-gov-west-1" to "usgw1"; the first part stays whole, words become letters, numbers stay.
func Abbreviation(region string) string {
	parts := strings.Split(region, "-")
	short := parts[0]
	for _, part := range parts[1:] {
		switch letters, ok := compass[part]; {
		case ok:
			short += letters
		case part == "":
		case part[0] >= '0' && part[0] <= '9':
			short += part
		default:
			short += part[:1]
		}
	}
	return short
}

// airports are the codes seen in AWS's registration codes and edge locations.
var airports = map[string]string{
	"us-east-1": "iad", "us-east-2": "cmh", "us-west-1": "sfo", "us-west-2": "pdx", "us-gov-west-1": "pdt", "us-gov-east-1": "osu",
	"ca-central-1": "yul", "sa-east-1": "gru", "af-south-1": "cpt", "il-central-1": "tlv",
	"eu-west-1": "dub", "eu-west-2": "lhr", "eu-west-3": "cdg", "eu-central-1": "fra", "eu-north-1": "arn", "eu-south-1": "mxp",
	"ap-south-1": "bom", "ap-southeast-1": "sin", "ap-southeast-2": "syd", "ap-northeast-1": "nrt", "ap-northeast-2": "icn",
	"cn-north-1": "bjs", "cn-northwest-1": "zhy",
}

// Airport is the three-letter code in the region's registration codes ("WSpdx+ABC12D"); for a region that AWS does not have,
// the first letters of its abbreviation.
func Airport(region string) string {
	if code, ok := airports[region]; ok {
		return code
	}
	return (Abbreviation(region) + "xxx")[:3]
}

// RegistrationCode makes a directory's registration code as AWS writes them: "WSiad+4F0C1A".
func RegistrationCode(random io.Reader, region string) string {
	return "WS" + Airport(region) + "+" + strings.ToUpper(ident.Hex(random, 6))
}
