package holder

import (
	"bufio"
	"slices"
	"strings"
	"testing"
)

func TestIDsAreReadAsNewuidmapReadsThem(t *testing.T) {
	const file = "root:0:4294967295\nada:100000:65536\n\n# ada:1:1\nada:x:5\nada:5\nada:1:1:1\n1001:300000:10\nadam:400000:7\nada:200000:0\nada:-4:9\nada:500000:3"
	for _, c := range []struct {
		name string
		who  []string
		want []span
	}{
		{"by name and number, in order", []string{"ada", "1001"}, []span{{100000, 65536}, {300000, 10}, {500000, 3}}},
		{"of nobody else", []string{"ad"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := spans(bufio.NewScanner(strings.NewReader(file)), c.who); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestTheUserIsRootInsideAndHelpersHaveHisOtherIDs(t *testing.T) {
	for _, c := range []struct {
		name    string
		have    []span
		want    string
		problem string
	}{
		{"from one range, only what is needed of it", []span{{100000, 65536}}, "0 1000 1 64099 100000 1301", ""},
		{"from exactly enough", []span{{100000, 1301}}, "0 1000 1 64099 100000 1301", ""},
		{"from several", []span{{100000, 1000}, {300000, 200}, {400000, 500}}, "0 1000 1 64099 100000 1000 65099 300000 200 65299 400000 101", ""},
		{"but not from too few", []span{{100000, 1000}, {300000, 300}}, "", "gives this user 1300 ids"},
		{"and not from none", nil, "", "gives this user 0 ids"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := lines(1000, IDs{64099, 1301}, c.have)
			if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) || strings.Join(got, " ") != c.want {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
