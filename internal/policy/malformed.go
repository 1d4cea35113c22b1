package policy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"carrel/internal/awserr"
)

// What AWS answers. The identity-like kinds are read by an older reader of AWS's than trust policies, with other words.
const (
	textSyntax       = "Syntax errors in policy."
	textLegacy       = "The policy failed legacy parsing"
	textNoActions    = "Policy statement must contain actions."
	textNoResources  = "Policy statement must contain resources."
	textSidTwice     = "Statement IDs (SID) in a single policy must be unique."
	textSidForm      = "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"
	textVendor       = "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
	textColons       = "Actions/Condition can contain only one colon."
	textNoPrincipals = "Policy document should not specify a principal."
	textTrustJSON    = "This policy contains invalid Json"
	textTrustActions = "AssumeRole policy may only specify STS AssumeRole actions."
)

// MalformedError says why a document is refused and where: Text is AWS's, Reason is ours and more exact.
type MalformedError struct {
	Text, Reason string
	Position
}

// Error is what a client sees: "Syntax errors in policy. (line 3, column 7: duplicate element "Effect")".
func (e *MalformedError) Error() string {
	return fmt.Sprintf("%s (line %d, column %d: %s)", e.Text, e.Line, e.Column, e.Reason)
}

// AWS is the refusal as IAM and STS answer it.
func (e *MalformedError) AWS() *awserr.Error {
	return awserr.Model("MalformedPolicyDocument", "%s", e.Error())
}

// InvalidPrincipal refuses a principal of the statement that is written well and does not exist, which only who has the records can tell.
func (s *Statement) InvalidPrincipal(p PrincipalName, reason string) *MalformedError {
	return &MalformedError{Text: legible(invalidPrincipal(p.Type, p.Value)), Reason: legible(reason), Position: s.Start}
}

func invalidPrincipal(kind, name string) string {
	return `Invalid principal in policy: "` + kind + `":"` + name + `"`
}

// legible makes a message of text that quotes a document: not longer than a reader takes, and without characters that an answer in XML cannot hold.
func legible(s string) string {
	const most = 400
	s = strings.Map(func(u rune) rune {
		if unicode.IsControl(u) || u == 0xFFFE || u == 0xFFFF {
			return utf8.RuneError
		}
		return u
	}, s)
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

// MaxLength is the longest document that is looked at, in bytes (policyDocumentType).
const MaxLength = 131072

// Quota is how large documents may be, together where several share one, without their white space (reference 5.2).
type Quota struct {
	// Name is AWS's name of the quota; "" for inline policies, whose answer names the owner.
	Name string
	Max  int
}

// The quotas.
var (
	ManagedQuota     = Quota{"PolicySize", 6144}
	TrustQuota       = Quota{"ACLSizePerRole", 2048}
	InlineUserQuota  = Quota{"", 2048}
	InlineGroupQuota = Quota{"", 5120}
	InlineRoleQuota  = Quota{"", 10240}
	SessionQuota     = Quota{"", 2048}
)

// Size counts the characters of a document that quotas count.
func Size(text string) int {
	n := 0
	for _, u := range text {
		if !unicode.IsSpace(u) {
			n++
		}
	}
	return n
}

// Check refuses documents that are together over the quota. owner is whose inline policies they are ("user ada").
func (q Quota) Check(owner string, texts ...string) *awserr.Error {
	n := 0
	for _, text := range texts {
		n += Size(text)
	}
	switch {
	case n <= q.Max:
		return nil
	case q.Name == "":
		return awserr.Model("LimitExceeded", "Maximum policy size of %d bytes exceeded for %s", q.Max, owner)
	}
	return awserr.Model("LimitExceeded", "Cannot exceed quota for %s: %d", q.Name, q.Max)
}

// CheckPacked refuses session policies that are together over their quota, and gives PackedPolicySize: how full it is in percent.
// AWS packs before it measures, in a way it does not tell; here what is counted is what the quota says, so nothing that AWS refuses by
// its plain text fits by chance.
func CheckPacked(texts ...string) (percent int, err *awserr.Error) {
	n := 0
	for _, text := range texts {
		n += Size(text)
	}
	percent = (n*100 + SessionQuota.Max - 1) / SessionQuota.Max
	if n > SessionQuota.Max {
		err = awserr.Model("PackedPolicyTooLarge", "Packed policy consumes %d%% of allotted space, please use smaller policy.", percent)
	}
	return percent, err
}
