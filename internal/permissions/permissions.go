// Package permissions says which policy documents apply to a user, a role or a session: its own, its groups', those attached to it, and the one
// that bounds it.
//
// It refuses to read what is in them: policy compiles them, authz decides with them, and IAM shows them.
package permissions

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"carrel/internal/arn"
	"carrel/internal/managed"
	"carrel/internal/state"
)

// Source is a document that applies, and where it comes from.
type Source struct {
	// Type is IAM's PolicySourceType: "user", "group" or "role" for inline policies, "aws-managed" or "user-managed", "none" for the account's settings.
	Type string
	// ID names it: the ARN of a managed policy, "user_ada_Own" for ada's inline policy Own, as the policy simulator does.
	ID   string
	Text string
}

// Missing is the text of a managed policy that is attached and not there any more, which transactions do not let happen. It is no policy, and
// so denies everything (policy.CompileStored).
const Missing = ""

// Account resolves policies in one account.
type Account struct{ ID, Partition string }

// Managed finds a managed policy by its ARN, the customer's or AWS's.
func (a Account) Managed(r state.Reader, name string) (Source, bool) {
	if p, ok := managed.Find(a.Partition, name); ok {
		return Source{"aws-managed", name, p.Document}, true
	}
	if p, ok := a.Customer(r, name); ok {
		return Source{"user-managed", name, p.Text()}, true
	}
	return Source{}, false
}

// Customer finds a customer managed policy by its ARN. In a *state.Tx the commit checks that it has not changed.
func (a Account) Customer(r state.Reader, name string) (*state.Policy, bool) {
	last := name[strings.LastIndexByte(name, '/')+1:]
	for p := range state.AllBy(r, state.Policies, state.PoliciesByName, strings.ToLower(last)) {
		if a.ARN(p) != name {
			continue
		}
		if p, ok := state.Get(r, state.Policies, string(p.ID)); ok {
			return p, true
		}
	}
	return nil, false
}

// ARN is a customer managed policy's.
func (a Account) ARN(p *state.Policy) string {
	return arn.Of(a.Partition, a.ID, "policy", p.Path+p.Name).String()
}

// Role finds a role by its ARN, which compares by case: the one that is decided about and the one that is assumed are found by this alone. In a
// *state.Tx the commit does not check that it is still so; state.Get it for that.
func (a Account) Role(r state.Reader, name string) (*state.Role, bool) {
	last := name[strings.LastIndexByte(name, '/')+1:]
	for role := range state.AllBy(r, state.Roles, state.RolesByName, strings.ToLower(last)) {
		if arn.Of(a.Partition, a.ID, "role", role.Path+role.Name).String() == name {
			return role, true
		}
	}
	return nil, false
}

// OfUser lists the identity policies of a user, its groups' included, and what the account's settings allow all users.
func (a Account) OfUser(r state.Reader, u *state.User) []Source {
	out := append(a.own(r, "user", u.Name, &u.Permissions), a.ofAll(r, u)...)
	for _, id := range u.Groups {
		if g, ok := state.Get(r, state.Groups, string(id)); ok {
			out = append(out, a.own(r, "group", g.Name, &g.Permissions)...)
		}
	}
	return out
}

// literal makes a text one that no pattern is in.
var literal = strings.NewReplacer("*", "${*}", "?", "${?}", "$", "${$}")

// ofAll is what a user may do because all may: with AllowUsersToChangePassword change their own password and read the account's password policy.
// It "does not attach permissions policy to each user. Rather, IAM applies the permissions at the account-level for all users" (IAM User Guide, "Set
// an account password policy for IAM users").
func (a Account) ofAll(r state.Reader, u *state.User) []Source {
	account, ok := state.Get(r, state.Accounts, state.Accounts.ID(nil))
	if !ok || account.Passwords == nil || !account.Passwords.UsersMayChange {
		return nil
	}
	own, err := json.Marshal(literal.Replace(arn.User(a.Partition, a.ID, u.Path, u.Name).String()))
	if err != nil {
		return nil // A text can always be written.
	}
	return []Source{{"none", "AllowUsersToChangePassword", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:ChangePassword","Resource":` + string(own) +
		`},{"Effect":"Allow","Action":"iam:GetAccountPasswordPolicy","Resource":"*"}]}`}}
}

// OfRole lists the identity policies of a role.
func (a Account) OfRole(r state.Reader, role *state.Role) []Source {
	return a.own(r, "role", role.Name, &role.Permissions)
}

// OfGroup lists the policies of a group.
func (a Account) OfGroup(r state.Reader, g *state.Group) []Source {
	return a.own(r, "group", g.Name, &g.Permissions)
}

// Boundary gives the policy that bounds, by its ARN; none for "".
func (a Account) Boundary(r state.Reader, name string) []Source {
	if name == "" {
		return nil
	}
	return []Source{a.attached(r, name)}
}

// Attached gives managed policies by their ARNs.
func (a Account) Attached(r state.Reader, names []string) []Source {
	var out []Source
	for _, name := range names {
		out = append(out, a.attached(r, name))
	}
	return out
}

func (a Account) attached(r state.Reader, name string) Source {
	if s, ok := a.Managed(r, name); ok {
		return s
	}
	return Source{"user-managed", name, Missing}
}

func (a Account) own(r state.Reader, kind, name string, p *state.Permissions) []Source {
	var out []Source
	for _, inline := range slices.Sorted(maps.Keys(p.Inline)) {
		out = append(out, Source{kind, kind + "_" + name + "_" + inline, p.Inline[inline]})
	}
	return append(out, a.Attached(r, p.Attached)...)
}

// Tables are the tables that what this package says depends on.
var Tables = []state.Table{state.UserTable, state.GroupTable, state.RoleTable, state.PolicyTable, state.AccountTable}
