package workspaces

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/awserr"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

// ipGroupClaim is the name under which the account's group of this name is claimed.
func ipGroupClaim(name string) string { return "ipgroup/" + name }

// CreateIpGroup makes an IP access control group. ResourceAlreadyExistsException when the name is taken,
// ResourceLimitExceededException over 100 groups or 10 rules, InvalidParameterValuesException for anything that cannot be.
func (s *Service) CreateIpGroup(ctx context.Context, _ service.Call, in *api.CreateIpGroupInput) (*api.CreateIpGroupOutput, error) {
	group := state.IPGroup{Name: shape.Val(in.GroupName), Description: shape.Val(in.GroupDesc)}
	if n := utf8.RuneCountInString(group.Name); n < 1 || n > maxText {
		return nil, errIPGroupName()
	}
	if utf8.RuneCountInString(group.Description) > maxText {
		return nil, errIPGroupDescription()
	}
	var bad *awserr.Error
	if group.Rules, bad = s.readRules(in.UserRules); bad != nil {
		return nil, bad
	}
	if group.Tags, bad = s.readTags(in.Tags); bad != nil {
		return nil, bad
	}
	var id ident.IPGroupID
	err := s.update(ctx, func(tx *state.Tx) error {
		if max := s.Limits.IPGroups; over(state.Count(tx, state.IPGroups)+1, max) {
			return errLimit("IP access control groups", max)
		}
		// Two creators at the limit: the second one conflicts, counts again and is refused.
		tx.Guard(state.IPGroupTable, "")
		rec := group
		rec.ID, rec.Created = newID(tx, state.IPGroups, func() ident.IPGroupID { return ident.NewIPGroupID(s.Rand) }), tx.Now()
		if err := tx.Claim(ipGroupClaim(rec.Name), string(rec.ID)); err != nil {
			return errIPGroupExists(rec.Name)
		}
		state.Put(tx, state.IPGroups, &rec)
		id = rec.ID
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.CreateIpGroupOutput{GroupId: (*string)(&id)}, nil
}

// newID draws ids until one is free; that it still is free is checked when tx commits.
func newID[T any, ID ~string](tx *state.Tx, d *state.Definition[T], draw func() ID) ID {
	for {
		id := draw()
		if _, taken := state.Get(tx, d, string(id)); !taken {
			return id
		}
	}
}

// DescribeIpGroups lists groups in the order of their ids, all or those named; ids that do not exist are left out.
func (s *Service) DescribeIpGroups(_ context.Context, _ service.Call, in *api.DescribeIpGroupsInput) (*api.DescribeIpGroupsOutput, error) {
	q := query{"DescribeIpGroups", strings.Join(in.GroupIds, ",")}
	after, err := s.pages.open(q, in.NextToken)
	if err != nil {
		return nil, err
	}
	snap, limit := s.DB.Snapshot(), pageSize(in.MaxResults)
	var recs []*state.IPGroup
	var next string
	if len(in.GroupIds) > 0 {
		recs, next = pick(snap, state.IPGroups, in.GroupIds, cut{after, limit})
	} else {
		recs, next = state.Page(snap, state.IPGroups, after, limit)
	}
	out := &api.DescribeIpGroupsOutput{Result: make([]api.WorkspacesIpGroup, len(recs)), NextToken: s.pages.seal(q, next)}
	for i, g := range recs {
		rules := make([]api.IpRuleItem, len(g.Rules))
		for j := range g.Rules {
			rules[j] = api.IpRuleItem{IpRule: &g.Rules[j].Rule, RuleDesc: some(&g.Rules[j].Description)}
		}
		out.Result[i] = api.WorkspacesIpGroup{GroupId: (*string)(&g.ID), GroupName: &g.Name, GroupDesc: some(&g.Description), UserRules: rules}
	}
	return out, nil
}

// some is p, or nil for an empty text. p may point into a record: nobody changes an output.
func some(p *string) *string {
	if *p == "" {
		return nil
	}
	return p
}

// DeleteIpGroup deletes a group. ResourceNotFoundException; ResourceAssociatedException while a directory has it.
func (s *Service) DeleteIpGroup(ctx context.Context, _ service.Call, in *api.DeleteIpGroupInput) (*api.DeleteIpGroupOutput, error) {
	id := shape.Val(in.GroupId)
	err := s.update(ctx, func(tx *state.Tx) error {
		g, ok := state.Get(tx, state.IPGroups, id)
		if !ok {
			return errNoIPGroup(id)
		}
		for d := range state.All(tx, state.Directories) {
			if d.Registration != nil && slices.Contains(d.Registration.IPGroupIDs, g.ID) {
				return errIPGroupInUse(id, string(d.ID))
			}
		}
		// An association made meanwhile writes its directory and so makes this transaction start again; one that comes after
		// has read the group and finds it gone.
		tx.Guard(state.DirectoryTable, "")
		state.Delete(tx, state.IPGroups, id)
		tx.Release(ipGroupClaim(g.Name))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteIpGroupOutput{}, nil
}

// changeRules replaces a group's rules by what fn makes of them.
func (s *Service) changeRules(ctx context.Context, groupID *string, fn func([]state.IPRule) ([]state.IPRule, *awserr.Error)) error {
	id := shape.Val(groupID)
	return s.update(ctx, func(tx *state.Tx) error {
		g, ok := state.Get(tx, state.IPGroups, id)
		if !ok {
			return errNoIPGroup(id)
		}
		rules, err := fn(g.Rules)
		if err != nil {
			return err
		}
		c := state.Clone(g)
		c.Rules = rules
		state.Put(tx, state.IPGroups, c)
		return nil
	})
}

// AuthorizeIpRules adds rules to a group: all of them or, when one cannot be or the group would have more than 10, none.
func (s *Service) AuthorizeIpRules(ctx context.Context, _ service.Call, in *api.AuthorizeIpRulesInput) (*api.AuthorizeIpRulesOutput, error) {
	added, bad := s.readRules(in.UserRules)
	if bad != nil {
		return nil, bad
	}
	err := s.changeRules(ctx, in.GroupId, func(old []state.IPRule) ([]state.IPRule, *awserr.Error) { return s.addRules(old, added) })
	if err != nil {
		return nil, err
	}
	return &api.AuthorizeIpRulesOutput{}, nil
}

// RevokeIpRules takes rules off a group: all of them or, when one is not there, none.
func (s *Service) RevokeIpRules(ctx context.Context, _ service.Call, in *api.RevokeIpRulesInput) (*api.RevokeIpRulesOutput, error) {
	err := s.changeRules(ctx, in.GroupId, func(old []state.IPRule) ([]state.IPRule, *awserr.Error) { return dropRules(old, in.UserRules) })
	if err != nil {
		return nil, err
	}
	return &api.RevokeIpRulesOutput{}, nil
}

// UpdateRulesOfIpGroup replaces all rules of a group. A group without rules admits nobody.
func (s *Service) UpdateRulesOfIpGroup(ctx context.Context, _ service.Call, in *api.UpdateRulesOfIpGroupInput) (*api.UpdateRulesOfIpGroupOutput, error) {
	rules, bad := s.readRules(in.UserRules)
	if bad != nil {
		return nil, bad
	}
	err := s.changeRules(ctx, in.GroupId, func([]state.IPRule) ([]state.IPRule, *awserr.Error) { return rules, nil })
	if err != nil {
		return nil, err
	}
	return &api.UpdateRulesOfIpGroupOutput{}, nil
}

// changeGroups replaces the IP groups of a registered directory by what fn makes of them and of ids, all of which exist.
func (s *Service) changeGroups(ctx context.Context, directoryID *string, ids []string, fn func(have, named []ident.IPGroupID) []ident.IPGroupID) error {
	id := shape.Val(directoryID)
	return s.update(ctx, func(tx *state.Tx) error {
		d, err := registered(tx, id)
		if err != nil {
			return err
		}
		named := make([]ident.IPGroupID, 0, len(ids))
		for _, groupID := range ids {
			g, ok := state.Get(tx, state.IPGroups, groupID)
			if !ok {
				return errNoIPGroup(groupID)
			}
			named = append(named, g.ID)
		}
		have := d.Registration.IPGroupIDs
		groups := fn(have, named)
		if slices.Equal(groups, have) {
			return nil
		}
		if max := s.Limits.IPGroupsPerDirectory; len(groups) > len(have) && over(len(groups), max) {
			return errLimit("IP access control groups of a directory", max)
		}
		c := state.Clone(d)
		c.Registration.IPGroupIDs = groups
		state.Put(tx, state.Directories, c)
		return nil
	})
}

// AssociateIpGroups gives a directory IP groups; those it has already are no error. ResourceNotFoundException for a directory or
// group, InvalidResourceStateException unless REGISTERED, ResourceLimitExceededException over 25.
func (s *Service) AssociateIpGroups(ctx context.Context, _ service.Call, in *api.AssociateIpGroupsInput) (*api.AssociateIpGroupsOutput, error) {
	err := s.changeGroups(ctx, in.DirectoryId, in.GroupIds, func(have, named []ident.IPGroupID) []ident.IPGroupID {
		groups := slices.Clone(have)
		for _, g := range named {
			if !slices.Contains(groups, g) {
				groups = append(groups, g)
			}
		}
		return groups
	})
	if err != nil {
		return nil, err
	}
	return &api.AssociateIpGroupsOutput{}, nil
}

// DisassociateIpGroups takes IP groups from a directory; those it does not have are no error.
func (s *Service) DisassociateIpGroups(ctx context.Context, _ service.Call, in *api.DisassociateIpGroupsInput) (*api.DisassociateIpGroupsOutput, error) {
	err := s.changeGroups(ctx, in.DirectoryId, in.GroupIds, func(have, named []ident.IPGroupID) []ident.IPGroupID {
		return slices.DeleteFunc(slices.Clone(have), func(g ident.IPGroupID) bool { return slices.Contains(named, g) })
	})
	if err != nil {
		return nil, err
	}
	return &api.DisassociateIpGroupsOutput{}, nil
}
