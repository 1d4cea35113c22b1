package policy

import "strings"

// arnPattern matches ARNs component by component: a star never crosses one of the first five colons (reference 5.3).
type arnPattern struct {
	all   bool // The Resource "*".
	parts [6]pattern
	// whole is set instead of parts when variables decide where the components end.
	whole pattern
}

// match compares what tells most first: the resource part.
func (p *arnPattern) match(arn *[6]string, r *Request) bool {
	if p.whole.parts != nil {
		return p.matchWhole(arn, r)
	}
	for i := 5; i >= 0; i-- {
		if !p.parts[i].match(arn[i], r) {
			return false
		}
	}
	return true
}

func (p *arnPattern) matchWhole(arn *[6]string, r *Request) bool {
	var parts [6]string
	if !splitSix(p.whole.expand(r), &parts) {
		return false
	}
	for i := range parts {
		if !glob(parts[i], arn[i]) {
			return false
		}
	}
	return true
}

func (p *arnPattern) unresolved(r *Request) *part {
	if v := p.whole.unresolved(r); v != nil {
		return v
	}
	return p.parts[5].unresolved(r)
}

// splitSix cuts at the first five colons.
func splitSix(s string, to *[6]string) bool {
	for i := range 5 {
		before, after, found := strings.Cut(s, ":")
		if !found {
			return false
		}
		to[i], s = before, after
	}
	to[5] = s
	return true
}

// parseConditionARN reads a value of an Arn operator. Without variables it must have the six components.
func parseConditionARN(text string, vars bool) (arnPattern, string) {
	var p arnPattern
	whole, reason := parsePattern(text, true, vars)
	if reason != "" {
		return p, reason
	}
	if whole.parts != nil {
		p.whole = whole
		return p, ""
	}
	var parts [6]string
	if !splitSix(text, &parts) {
		return p, "an ARN has six components: " + text
	}
	for i := range parts {
		p.parts[i], _ = parsePattern(parts[i], true, vars)
	}
	return p, ""
}

// parseResource reads a value of Resource or NotResource. The text of a refusal is AWS's; the reason says more.
func parseResource(text string, vars bool) (p arnPattern, refusal, reason string) {
	if text == "*" {
		p.all = true
		return p, "", ""
	}
	parts := strings.SplitN(text, ":", 6)
	last := len(parts) - 1
	switch {
	case last == 0 || parts[0] != "arn":
		return p, "Resource " + text + ` must be in ARN format or "*".`, "neither an ARN nor a star"
	case !validPartition(parts[1]):
		return p, partitionRefusal(parts), "no AWS partition"
	case last < 2 || strings.ContainsAny(parts[2], "*?"):
		return p, "Resource vendor must be fully qualified and cannot contain regexes.", "the service has no wildcards"
	case vars && strings.Contains(strings.Join(parts[:min(last+1, 5)], ":"), "${"):
		return p, textLegacy, "a variable stands before the fifth colon"
	case parts[2] == "" || last < 5 && !strings.HasSuffix(parts[last], "*"):
		return p, textLegacy, "an ARN has six components"
	}
	if refusal := refuseIAM(text, parts, vars); refusal != "" {
		return p, refusal, "no resource of IAM"
	}
	for i := range p.parts {
		part := "*" // A star at the end of an ARN that is too short stands for all the rest.
		if i <= last {
			part = parts[i]
		}
		if p.parts[i], reason = parsePattern(part, true, vars); reason != "" {
			return p, textSyntax, reason
		}
	}
	return p, "", ""
}

// validPartition accepts aws, aws-cn and the like, as an installation may call its own, and patterns of them.
func validPartition(s string) bool {
	return strings.HasPrefix(s, "aws") || strings.ContainsAny(s, "*?")
}

func partitionRefusal(parts []string) string {
	shown := [5]string{parts[1], "*", "*", "*", "*"}
	copy(shown[1:], parts[2:])
	return `Partition "` + parts[1] + `" is not valid for resource "arn:` + strings.Join(shown[:], ":") + `".`
}

// iamPaths are what a resource of IAM begins with.
var iamPaths = []string{"user/", "federated-user/", "role/", "group/", "instance-profile/", "mfa/", "server-certificate/", "policy/", "sms-mfa/", "saml-provider/", "oidc-provider/", "report/", "access-report/"}

// refuseIAM holds ARNs of IAM to IAM's own rules.
func refuseIAM(text string, parts []string, vars bool) string {
	switch {
	case parts[2] != "iam" || len(parts) < 6:
		return ""
	case parts[3] != "":
		return "IAM resource " + text + " cannot contain region information."
	case parts[5] == "*" || parts[5] == "root" || vars && strings.HasPrefix(parts[5], "${"):
		return ""
	}
	for _, path := range iamPaths {
		// A pattern that may still become such a path ("user*") is one too.
		if strings.HasPrefix(parts[5], path) || mayBegin(parts[5], path) {
			return ""
		}
	}
	return `IAM resource path must either be "*" or start with ` + strings.Join(iamPaths, ", ") + "."
}

// mayBegin tells whether a pattern agrees with path up to its first wildcard.
func mayBegin(p, path string) bool {
	i := strings.IndexAny(p, "*?")
	return i >= 0 && strings.HasPrefix(path, p[:min(i, len(path))])
}
