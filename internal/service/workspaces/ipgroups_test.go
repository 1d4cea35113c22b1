package workspaces

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

func rules(list ...string) []api.IpRuleItem {
	items := make([]api.IpRuleItem, len(list))
	for i := range list {
		items[i] = api.IpRuleItem{IpRule: &list[i], RuleDesc: shape.Ptr("rule " + fmt.Sprint(i))}
	}
	return items
}

func (w *world) createGroup(name string, ruleList ...string) (string, error) {
	out, err := w.CreateIpGroup(context.Background(), service.Call{}, &api.CreateIpGroupInput{GroupName: &name, UserRules: rules(ruleList...)})
	if err != nil {
		return "", err
	}
	return *out.GroupId, nil
}

// group makes a group that must be possible.
func (w *world) group(name string, ruleList ...string) string {
	w.t.Helper()
	id, err := w.createGroup(name, ruleList...)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) deleteGroup(id string) error {
	_, err := w.DeleteIpGroup(context.Background(), service.Call{}, &api.DeleteIpGroupInput{GroupId: &id})
	return err
}

func (w *world) associate(dir ident.DirectoryID, ids ...string) error {
	_, err := w.AssociateIpGroups(context.Background(), service.Call{}, &api.AssociateIpGroupsInput{DirectoryId: shape.Ptr(string(dir)), GroupIds: ids})
	return err
}

func (w *world) disassociate(dir ident.DirectoryID, ids ...string) error {
	_, err := w.DisassociateIpGroups(context.Background(), service.Call{}, &api.DisassociateIpGroupsInput{DirectoryId: shape.Ptr(string(dir)), GroupIds: ids})
	return err
}

func (w *world) rulesOf(id string) string {
	w.t.Helper()
	out := must(w.DescribeIpGroups(context.Background(), service.Call{}, &api.DescribeIpGroupsInput{GroupIds: []string{id}}))(w.t)
	if len(out.Result) != 1 {
		w.t.Fatalf("%d groups", len(out.Result))
	}
	texts := []string{}
	for _, r := range out.Result[0].UserRules {
		texts = append(texts, *r.IpRule)
	}
	return strings.Join(texts, " ")
}

func TestIPG2RuleText(t *testing.T) {
	for _, rule := range []string{"0.0.0.0/0", "10.0.0.1", "10.0.0.1/16", "192.0.2.0/24", "255.255.255.255/32"} {
		t.Run(fmt.Sprintf("IPG-2 %q is accepted", rule), func(t *testing.T) {
			if err := checkRule(rule); err != nil {
				t.Error(err)
			}
		})
	}
	for _, rule := range []string{"", "010.0.0.1", "1.2.3", "1.2.3/24", "0x7f.1", "0x7f.0.0.1", "2130706433", "127.1", " 10.0.0.1", "10.0.0.1 ", "10.0.0.0 /8", "10.0.0.0/ 8",
		"10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/", "10.0.0.0/255.0.0.0", "10.0.0.0/8/8", "256.0.0.1", "1.2.3.4.5", "10.0.0.1\n", "10.0.0.1\x00",
		"::1", "2001:db8::/32", "::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "fe80::1%eth0", "10.0.0.1%eth0", "１0.0.0.1", "10.0.0.1-10.0.0.9", "localhost", "*"} {
		t.Run(fmt.Sprintf("IPG-2 %q is refused", rule), func(t *testing.T) {
			if err := checkRule(rule); err == nil || err.Code != "InvalidParameterValuesException" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzRule(f *testing.F) {
	for _, seed := range []string{"10.0.0.0/8", "010.0.0.1", "::ffff:1.2.3.4", "1.2.3.4/33", "0x7f.1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rule string) {
		if checkRule(rule) != nil {
			return
		}
		// What is accepted another strict reader reads too, as IPv4, and writes as the same text.
		if ip := net.ParseIP(rule); ip != nil {
			if ip.To4() == nil || ip.String() != rule {
				t.Fatalf("%q is read as %v", rule, ip)
			}
			return
		}
		ip, n, err := net.ParseCIDR(rule)
		if err != nil || ip.To4() == nil || len(n.Mask) != net.IPv4len || netip.MustParsePrefix(rule).String() != rule {
			t.Fatalf("%q is read as %v %v (%v)", rule, ip, n, err)
		}
	})
}

func TestCreateIpGroupRefusals(t *testing.T) {
	long := strings.Repeat("ä", 256)
	for _, c := range []struct {
		name string
		in   api.CreateIpGroupInput
		code string
	}{
		{"no name", api.CreateIpGroupInput{GroupName: shape.Ptr("")}, "InvalidParameterValuesException"},
		{"a name without end", api.CreateIpGroupInput{GroupName: &long}, "InvalidParameterValuesException"},
		{"a description without end", api.CreateIpGroupInput{GroupName: shape.Ptr("a"), GroupDesc: &long}, "InvalidParameterValuesException"},
		{"a rule description without end", api.CreateIpGroupInput{GroupName: shape.Ptr("a"), UserRules: []api.IpRuleItem{{IpRule: shape.Ptr("10.0.0.1"), RuleDesc: &long}}}, "InvalidParameterValuesException"},
		{"a rule without text", api.CreateIpGroupInput{GroupName: shape.Ptr("a"), UserRules: []api.IpRuleItem{{}}}, "InvalidParameterValuesException"},
		{"a rule twice", api.CreateIpGroupInput{GroupName: shape.Ptr("a"), UserRules: rules("10.0.0.1", "10.0.0.1")}, "InvalidParameterValuesException"},
		{"a bad tag", api.CreateIpGroupInput{GroupName: shape.Ptr("a"), Tags: []api.Tag{tag("", "")}}, "InvalidParameterValuesException"},
		{"a name that is taken", api.CreateIpGroupInput{GroupName: shape.Ptr("taken")}, "ResourceAlreadyExistsException"},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			w := open(t)
			w.group("taken")
			_, err := w.CreateIpGroup(context.Background(), service.Call{}, &c.in)
			refused(t, err, c.code)
			if n := state.Count(w.DB.Snapshot(), state.IPGroups); n != 1 {
				t.Errorf("%d groups", n)
			}
		})
	}
}

func TestRulesAreKeptAsTheyWereSent(t *testing.T) {
	w := open(t)
	id := w.group("office", "10.0.0.1/16", "192.0.2.7")
	if got := w.rulesOf(id); got != "10.0.0.1/16 192.0.2.7" {
		t.Errorf("rules %q", got)
	}
	out := must(w.DescribeIpGroups(context.Background(), service.Call{}, &api.DescribeIpGroupsInput{}))(t)
	if g := out.Result[0]; *g.GroupName != "office" || g.GroupDesc != nil || *g.UserRules[1].RuleDesc != "rule 1" {
		t.Errorf("group %+v", g)
	}
}

func TestRulesChange(t *testing.T) {
	w := open(t)
	ctx, call := context.Background(), service.Call{}
	id, unknown := w.group("office", "10.0.0.1"), "wsipg-000000000"
	authorize := func(id string, list ...string) error {
		_, err := w.AuthorizeIpRules(ctx, call, &api.AuthorizeIpRulesInput{GroupId: &id, UserRules: rules(list...)})
		return err
	}
	revoke := func(id string, list ...string) error {
		_, err := w.RevokeIpRules(ctx, call, &api.RevokeIpRulesInput{GroupId: &id, UserRules: list})
		return err
	}
	update := func(id string, list ...string) error {
		_, err := w.UpdateRulesOfIpGroup(ctx, call, &api.UpdateRulesOfIpGroupInput{GroupId: &id, UserRules: rules(list...)})
		return err
	}
	eleven := make([]string, 11)
	for i := range eleven {
		eleven[i] = fmt.Sprintf("10.1.0.%d", i)
	}
	for _, c := range []struct {
		name string
		do   func() error
		code string
		want string
	}{
		{"authorizing adds", func() error { return authorize(id, "10.0.0.2", "10.0.0.3/8") }, "", "10.0.0.1 10.0.0.2 10.0.0.3/8"},
		{"authorizing what exists is refused whole", func() error { return authorize(id, "10.0.0.9", "10.0.0.2") }, "InvalidParameterValuesException", "10.0.0.1 10.0.0.2 10.0.0.3/8"},
		{"authorizing a bad rule is refused", func() error { return authorize(id, "10.0.0.256") }, "InvalidParameterValuesException", "10.0.0.1 10.0.0.2 10.0.0.3/8"},
		{"authorizing an eleventh rule is refused whole", func() error { return authorize(id, eleven[:8]...) }, "ResourceLimitExceededException", "10.0.0.1 10.0.0.2 10.0.0.3/8"},
		{"authorizing in an unknown group is refused", func() error { return authorize(unknown, "10.0.0.2") }, "ResourceNotFoundException", "10.0.0.1 10.0.0.2 10.0.0.3/8"},
		{"revoking takes away", func() error { return revoke(id, "10.0.0.2") }, "", "10.0.0.1 10.0.0.3/8"},
		{"revoking what is not there is refused whole", func() error { return revoke(id, "10.0.0.1", "10.0.0.3") }, "InvalidParameterValuesException", "10.0.0.1 10.0.0.3/8"},
		{"revoking in an unknown group is refused", func() error { return revoke(unknown, "10.0.0.1") }, "ResourceNotFoundException", "10.0.0.1 10.0.0.3/8"},
		{"updating replaces", func() error { return update(id, eleven[:10]...) }, "", strings.Join(eleven[:10], " ")},
		{"updating with eleven is refused", func() error { return update(id, eleven...) }, "ResourceLimitExceededException", strings.Join(eleven[:10], " ")},
		{"updating an unknown group is refused", func() error { return update(unknown) }, "ResourceNotFoundException", strings.Join(eleven[:10], " ")},
		{"IPG-1 updating with nothing leaves a group without rules", func() error { return update(id) }, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			refused(t, c.do(), c.code)
			if got := w.rulesOf(id); got != c.want {
				t.Errorf("rules %q, want %q", got, c.want)
			}
		})
	}
}

func TestIPG1LimitsHoldAgainstRacingCallers(t *testing.T) {
	race := func(t *testing.T, n int, do func(i int) error) (done, over int32) {
		var ok, limited atomic.Int32
		fns := make([]func(context.Context), n)
		for i := range fns {
			fns[i] = func(context.Context) {
				switch err := do(i); codeOf(err) {
				case "":
					ok.Add(1)
				case "ResourceLimitExceededException":
					limited.Add(1)
				default:
					t.Error(err)
				}
			}
		}
		both(t, fns...)
		return ok.Load(), limited.Load()
	}
	t.Run("IPG-1 of 104 groups 100 are made", func(t *testing.T) {
		w := open(t)
		for i := range 96 {
			w.group(fmt.Sprint("g", i))
		}
		done, over := race(t, 8, func(i int) error { _, err := w.createGroup(fmt.Sprint("new", i)); return err })
		if done != 4 || over != 4 || state.Count(w.DB.Snapshot(), state.IPGroups) != 100 {
			t.Errorf("%d made, %d refused", done, over)
		}
	})
	t.Run("IPG-1 of 12 rules 10 are authorized", func(t *testing.T) {
		w := open(t)
		id := w.group("g", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6")
		done, over := race(t, 6, func(i int) error {
			_, err := w.AuthorizeIpRules(context.Background(), service.Call{}, &api.AuthorizeIpRulesInput{GroupId: &id, UserRules: rules(fmt.Sprintf("10.1.0.%d", i))})
			return err
		})
		if done != 4 || over != 2 {
			t.Errorf("%d authorized, %d refused", done, over)
		}
	})
	t.Run("IPG-1 of 28 groups a directory has 25", func(t *testing.T) {
		w := furnish(t)
		ids := make([]string, 28)
		for i := range ids {
			ids[i] = w.group(fmt.Sprint("g", i))
		}
		if err := w.associate(corp, ids...); codeOf(err) != "ResourceLimitExceededException" {
			t.Errorf("28 at once: %v", err)
		}
		if err := w.associate(corp, ids[:22]...); err != nil {
			t.Fatal(err)
		}
		done, over := race(t, 6, func(i int) error { return w.associate(corp, ids[22+i]) })
		if n := len(get(w, state.Directories, string(corp)).Registration.IPGroupIDs); done != 3 || over != 3 || n != 25 {
			t.Errorf("%d associated, %d refused, %d in all", done, over, n)
		}
		if err := w.associate(corp, ids[0]); err != nil {
			t.Errorf("what the full directory has already is refused: %v", err)
		}
		if err := w.disassociate(corp, ids[0]); err != nil {
			t.Error(err)
		}
	})
	t.Run("of two groups of one name one is made", func(t *testing.T) {
		w := open(t)
		var made, taken atomic.Int32
		create := func(context.Context) {
			switch _, err := w.createGroup("same"); codeOf(err) {
			case "":
				made.Add(1)
			case "ResourceAlreadyExistsException":
				taken.Add(1)
			}
		}
		both(t, create, create, create)
		if made.Load() != 1 || taken.Load() != 2 {
			t.Errorf("%d made, %d refused", made.Load(), taken.Load())
		}
	})
}

func TestAssociations(t *testing.T) {
	w := furnish(t)
	a, b := w.group("a"), w.group("b")
	refused(t, w.associate(corp, a, b, a), "")
	list := w.directories(api.DescribeWorkspaceDirectoriesInput{DirectoryIds: []string{string(corp)}}).Directories
	if got := strings.Join(list[0].IpGroupIds, " "); got != a+" "+b {
		t.Errorf("groups %q", got)
	}
	refused(t, w.associate(corp, a, "wsipg-000000000"), "ResourceNotFoundException")
	refused(t, w.associate("d-0123456789", a), "ResourceNotFoundException")
	refused(t, w.associate(other, a), "ResourceNotFoundException")
	refused(t, w.disassociate(corp, "wsipg-000000000"), "ResourceNotFoundException")
	refused(t, w.deleteGroup(a), "ResourceAssociatedException")
	refused(t, w.disassociate(corp, a), "")
	refused(t, w.disassociate(corp, a), "")
	refused(t, w.deleteGroup(a), "")
	refused(t, w.deleteGroup(a), "ResourceNotFoundException")
	if got := get(w, state.Directories, string(corp)).Registration.IPGroupIDs; len(got) != 1 || string(got[0]) != b {
		t.Errorf("left over: %v", got)
	}
	w.group("a") // its name is free again
	alter(w, state.Directories, string(corp), func(d *state.Directory) { d.Registration.State = "DEREGISTERING" })
	refused(t, w.associate(corp, b), "InvalidResourceStateException")
	refused(t, w.deleteGroup(b), "ResourceAssociatedException")
}

func TestAGroupIsNeverBothDeletedAndAssociated(t *testing.T) {
	for round := range 20 {
		w := furnish(t)
		id := w.group("a")
		var deleted, associated error
		both(t, func(context.Context) { deleted = w.deleteGroup(id) }, func(context.Context) { associated = w.associate(corp, id) })
		_, exists := state.Get(w.DB.Snapshot(), state.IPGroups, id)
		attached := len(get(w, state.Directories, string(corp)).Registration.IPGroupIDs) == 1
		if exists != attached || (deleted == nil) == exists || (associated == nil) != attached {
			t.Fatalf("round %d: exists %v, attached %v (%v, %v)", round, exists, attached, deleted, associated)
		}
	}
}

func TestDescribeIpGroupsPages(t *testing.T) {
	w := open(t)
	for i := range 30 {
		w.group(fmt.Sprint("g", i))
	}
	in := &api.DescribeIpGroupsInput{MaxResults: number(12)}
	seen, pages := map[string]bool{}, 0
	for {
		out := must(w.DescribeIpGroups(context.Background(), service.Call{}, in))(t)
		pages++
		for _, g := range out.Result {
			seen[*g.GroupId] = true
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	if len(seen) != 30 || pages != 3 {
		t.Errorf("%d groups on %d pages", len(seen), pages)
	}
	out := must(w.DescribeIpGroups(context.Background(), service.Call{}, &api.DescribeIpGroupsInput{GroupIds: []string{"wsipg-000000000"}}))(t)
	if out.Result == nil || len(out.Result) != 0 {
		t.Errorf("an unknown group: %v", out.Result)
	}
	_, err := w.DescribeIpGroups(context.Background(), service.Call{}, &api.DescribeIpGroupsInput{NextToken: shape.Ptr("x")})
	refused(t, err, "InvalidParameterValuesException")
}
