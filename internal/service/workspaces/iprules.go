package workspaces

import (
	"net/netip"
	"slices"
	"unicode/utf8"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/awserr"
	"carrel/internal/state"
)

// maxText bounds names and descriptions that the model leaves unbounded, in characters: a record is read by everybody.
const maxText = 255

// checkRule accepts an IPv4 address or CIDR range in its one dotted-decimal spelling, host bits allowed (10.0.0.1/16). Readings
// that differ between programs (010.0.0.1 is 8.0.0.1 to some, 1.2.3 is 1.2.0.3) would admit whom the author did not mean.
func checkRule(rule string) *awserr.Error {
	if a, err := netip.ParseAddr(rule); err == nil && a.Is4() {
		return nil
	}
	if p, err := netip.ParsePrefix(rule); err == nil && p.Addr().Is4() {
		return nil
	}
	return errRule(rule)
}

// readRules checks the rules of a request. Their text is kept unchanged: clients compare it.
func (s *Service) readRules(list []api.IpRuleItem) ([]state.IPRule, *awserr.Error) {
	rules := make([]state.IPRule, 0, min(len(list), maxPage))
	seen := make(map[string]struct{}, min(len(list), maxPage))
	for _, item := range list {
		r := state.IPRule{Rule: shape.Val(item.IpRule), Description: shape.Val(item.RuleDesc)}
		if err := checkRule(r.Rule); err != nil {
			return nil, err
		}
		if utf8.RuneCountInString(r.Description) > maxText {
			return nil, errRuleDescription()
		}
		if _, twice := seen[r.Rule]; twice {
			return nil, errRuleTwice(r.Rule)
		}
		seen[r.Rule] = struct{}{}
		rules = append(rules, r)
	}
	return rules, s.checkRuleCount(rules)
}

func (s *Service) checkRuleCount(rules []state.IPRule) *awserr.Error {
	if max := s.Limits.RulesPerIPGroup; over(len(rules), max) {
		return errLimit("rules of an IP access control group", max)
	}
	return nil
}

// addRules is the rules of AuthorizeIpRules after old.
func (s *Service) addRules(old, added []state.IPRule) ([]state.IPRule, *awserr.Error) {
	for _, r := range added {
		if hasRule(old, r.Rule) {
			return nil, errRuleTwice(r.Rule)
		}
	}
	rules := slices.Concat(old, added)
	return rules, s.checkRuleCount(rules)
}

// dropRules is old without the revoked ones. A rule that is not there is refused: whoever misspells the rule to be revoked must
// not believe it gone.
func dropRules(old []state.IPRule, revoked []string) ([]state.IPRule, *awserr.Error) {
	for _, rule := range revoked {
		if !hasRule(old, rule) {
			return nil, errNoRule(rule)
		}
	}
	return slices.DeleteFunc(slices.Clone(old), func(r state.IPRule) bool { return slices.Contains(revoked, r.Rule) }), nil
}

func hasRule(rules []state.IPRule, rule string) bool {
	return slices.ContainsFunc(rules, func(r state.IPRule) bool { return r.Rule == rule })
}
