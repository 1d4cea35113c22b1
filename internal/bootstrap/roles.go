package bootstrap

import (
	"slices"

	"carrel/internal/ident"
	"carrel/internal/state"
)

// DefaultRole is the role that WorkSpaces acts with in an account (WorkSpaces Administration Guide, "Create the workspaces_DefaultRole Role").
const DefaultRole = "workspaces_DefaultRole"

// defaultTrust lets WorkSpaces assume it, in policy's own writing.
const defaultTrust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"workspaces.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// defaultPolicies are AWS's managed policies that the guide attaches to it, the last one for pools.
var defaultPolicies = []string{"AmazonWorkSpacesServiceAccess", "AmazonWorkSpacesSelfServiceAccess", "AmazonWorkSpacesPoolServiceAccess"}

// defaultRole makes the role.
func (o Options) defaultRole(tx *state.Tx, partition string) error {
	role := &state.Role{Meta: state.Meta{Created: tx.Now()}, ID: ident.NewRoleID(o.Rand), Name: DefaultRole, Path: "/", Trust: defaultTrust, MaxSession: 3600}
	for _, name := range defaultPolicies {
		role.Attached = append(role.Attached, "arn:"+partition+":iam::aws:policy/"+name)
	}
	slices.Sort(role.Attached)
	state.Put(tx, state.Roles, role)
	return tx.Claim(state.RoleClaim(role.Name), string(role.ID))
}
