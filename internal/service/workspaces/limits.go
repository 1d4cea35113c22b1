package workspaces

// Limits are the quotas of an account in a Region. 0 or less means no limit.
type Limits struct {
	// Workspaces in the account (AWS: 1, adjustable).
	Workspaces int
	// Directories registered with WorkSpaces (AWS: 50).
	Directories int
	// IPGroups in the account (AWS: 100, fixed).
	IPGroups int
	// IPGroupsPerDirectory that one directory can have (AWS: 25, fixed).
	IPGroupsPerDirectory int
	// RulesPerIPGroup that one group can have (AWS: 10, fixed).
	RulesPerIPGroup int
	// TagsPerResource that one resource can have (AWS: 50, fixed).
	TagsPerResource int
}

// DefaultLimits has AWS's structural limits, which clients count on, and room for the adjustable ones.
func DefaultLimits() Limits {
	return Limits{Workspaces: 100_000, Directories: 1000, IPGroups: 100, IPGroupsPerDirectory: 25, RulesPerIPGroup: 10, TagsPerResource: 50}
}

// over tells that n of something is more than limit allows.
func over(n, limit int) bool { return limit > 0 && n > limit }
