package directory

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"carrel/internal/ident"
	"carrel/internal/region"
	"carrel/internal/state"
)

// code gives the directory its registration code, which people type into their client.
func (p *planner) code() step {
	return step{
		Name:   "code",
		Needed: func(rec *record) bool { return rec.Registration.Code == "" },
		Do: func(context.Context, *record) (effect, error) {
			return func(tx *state.Tx, rec *record) error {
				name := ""
				if here, ok := state.Get(tx, state.Installations, "this"); ok {
					name = here.Region
				}
				code := region.RegistrationCode(p.random, name)
				if err := tx.Claim(codeClaim(code), string(rec.ID)); err != nil {
					return err
				}
				rec.Registration.Code = code
				if len(rec.Registration.SubnetIDs) == 0 {
					rec.Registration.SubnetIDs = slices.Clone(rec.Spec.SubnetIDs)
				}
				return nil
			}, nil
		},
	}
}

// codeClaim keeps registration codes unique: a code leads to one directory.
func codeClaim(code string) string { return "registration-code/" + strings.ToUpper(code) }

// members makes the security group that every desktop of the directory is in.
func (p *planner) members() step {
	return step{
		Name:   "members-group",
		Needed: func(rec *record) bool { return rec.Registration.MembersGroupID == "" },
		Do: func(context.Context, *record) (effect, error) {
			group := ident.NewSecurityGroupID(p.random)
			return func(tx *state.Tx, rec *record) error {
				putGroup(tx, &state.SecurityGroup{ID: group, VPCID: rec.Spec.VPCID, Name: string(rec.ID) + "_workspacesMembers",
					Description: "Amazon WorkSpaces Security Group"})
				rec.Registration.MembersGroupID = group
				return nil
			}, nil
		},
	}
}

// announceRegistered says REGISTERED.
func (p *planner) announceRegistered() step {
	return step{
		Name: "announce",
		Do: func(context.Context, *record) (effect, error) {
			return func(tx *state.Tx, rec *record) error {
				enter(rec, Registered, tx.Now())
				return nil
			}, nil
		},
		Verify: p.serves,
	}
}

// empty waits until no WorkSpace is left: the API refuses to deregister before, this is the second lock.
func (p *planner) empty() step {
	return step{
		Name: "empty",
		Do: func(_ context.Context, rec *record) (effect, error) {
			return nil, noWorkspaces(p.db.Snapshot(), rec)
		},
	}
}

func noWorkspaces(r state.Reader, rec *record) error {
	if n := state.CountBy(r, state.Workspaces, state.WorkspacesByDirectory, string(rec.ID)); n > 0 {
		return fmt.Errorf("directory %s still has %d WorkSpaces", rec.ID, n)
	}
	return nil
}

// unregister takes the registration off with its security group and code. A WorkSpace made meanwhile would have seen, in
// its own transaction, that the directory is DEREGISTERING.
func (p *planner) unregister() step {
	return step{
		Name: "unregister",
		Do: func(context.Context, *record) (effect, error) {
			return func(tx *state.Tx, rec *record) error {
				if err := noWorkspaces(tx, rec); err != nil {
					return err
				}
				if id := rec.Registration.MembersGroupID; id != "" {
					state.Delete(tx, state.SecurityGroups, string(id))
				}
				if name := codeClaim(rec.Registration.Code); rec.Registration.Code != "" {
					if owner, held := tx.Owner(name); held && owner == string(rec.ID) {
						tx.Release(name)
					}
				}
				rec.Registration = nil
				return nil
			}, nil
		},
	}
}
