package ec2

import (
	"strings"

	"carrel/internal/awserr"
)

// EC2's model declares no errors: codes and statuses are those of "Error codes for the Amazon EC2 API".

func dryRun(asked *bool) error {
	if asked == nil || !*asked {
		return nil
	}
	return awserr.Model("DryRunOperation", "Request would have succeeded, but DryRun flag is set.").WithStatus(412)
}

func invalidValue(format string, args ...any) error {
	return awserr.Model("InvalidParameterValue", format, args...).WithStatus(400)
}

func invalidCombination(a, b string) error {
	return awserr.Model("InvalidParameterCombination", "The parameter %s cannot be used with the parameter %s", a, b).WithStatus(400)
}

func missingParameter(name string) error {
	return awserr.Model("MissingParameter", "The request must contain the parameter %s", name).WithStatus(400)
}

func tooManyValues() error {
	return awserr.Model("FilterLimitExceeded", "The maximum number of filter values specified on a single call is %d", maxValues).WithStatus(400)
}

func invalidToken() error {
	return awserr.Model("InvalidNextToken", "The specified NextToken is not valid.").WithStatus(400)
}

// notFound names the ids, or the one, that do not exist. one and many begin the text: "The vpc ID", "The vpc IDs".
func notFound(code, one, many string, ids []string) error {
	if len(ids) == 1 {
		return awserr.Model(code, "%s '%s' does not exist", one, ids[0]).WithStatus(400)
	}
	return awserr.Model(code, "%s '%s' do not exist", many, strings.Join(ids, ", ")).WithStatus(400)
}

func malformed(code, id, prefix string) error {
	return awserr.Model(code, `Invalid id: "%s" (expecting "%s...")`, id, prefix).WithStatus(400)
}
