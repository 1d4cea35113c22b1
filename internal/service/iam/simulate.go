package iam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/permissions"
	"carrel/internal/policy"
	"carrel/internal/service"
	"carrel/internal/state"
)

// mostPairs is how many pairs of an action and a resource one call simulates: a page is cut so that it has no more. mostResources is how many
// resources a call may name.
const mostPairs, mostResources = 10_000, 10_000

// simulated is what both simulations take.
type simulated struct {
	// policies are those of the principal, then those that the request brings; boundaries, guardrails and resource likewise.
	policies, boundaries, guardrails, resource []permissions.Source
	principal                                  policy.Principal
	// owner is the account that owns resources whose ARNs do not say.
	owner              string
	actions, resources []string
	context            []iam.ContextEntry
	marker             *string
	max                *int32
}

// SimulateCustomPolicy tells what policies that the request brings would decide.
func (s *Service) SimulateCustomPolicy(ctx context.Context, _ service.Call, in *iam.SimulateCustomPolicyInput) (*iam.SimulateCustomPolicyOutput, error) {
	snap := s.DB.Snapshot()
	sim := &simulated{actions: in.ActionNames, resources: in.ResourceArns, context: in.ContextEntries, marker: in.Marker, max: in.MaxItems,
		principal: policy.Principal{Type: policy.User, Account: s.AccountID}}
	about := &about{policies: in.PolicyInputList, boundaries: in.PermissionsBoundaryPolicyInputList, resource: in.ResourcePolicy, owner: in.ResourceOwner, caller: in.CallerArn, handling: in.ResourceHandlingOption}
	if err := s.complete(snap, sim, about); err != nil {
		return nil, err
	}
	results, next, err := sim.run(ctx)
	if err != nil {
		return nil, err
	}
	return &iam.SimulateCustomPolicyOutput{EvaluationResults: results, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

// SimulatePrincipalPolicy tells what the policies of a user, group or role would decide, together with those that the request brings.
func (s *Service) SimulatePrincipalPolicy(ctx context.Context, _ service.Call, in *iam.SimulatePrincipalPolicyInput) (*iam.SimulatePrincipalPolicyOutput, error) {
	snap := s.DB.Snapshot()
	e, err := s.origin(snap, in.PolicySourceArn)
	if err != nil {
		return nil, err
	}
	sim := &simulated{policies: e.policies, boundaries: e.boundary, principal: e.principal,
		actions: in.ActionNames, resources: in.ResourceArns, context: in.ContextEntries, marker: in.Marker, max: in.MaxItems}
	about := &about{policies: in.PolicyInputList, boundaries: in.PermissionsBoundaryPolicyInputList, resource: in.ResourcePolicy, owner: in.ResourceOwner, caller: in.CallerArn, handling: in.ResourceHandlingOption}
	if err := s.complete(snap, sim, about); err != nil {
		return nil, err
	}
	results, next, err := sim.run(ctx)
	if err != nil {
		return nil, err
	}
	return &iam.SimulatePrincipalPolicyOutput{EvaluationResults: results, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

// about is the rest of a request, as it came.
type about struct {
	policies, boundaries              []string
	resource, owner, caller, handling *string
}

// origin is a user, group or role as the source of policies.
type origin struct {
	policies, boundary []permissions.Source
	principal          policy.Principal
	// owners have the policies: the entity itself, and the groups of a user.
	owners []owner
}

// owner is who has policies.
type owner struct {
	kind iam.PolicyOwnerEntityType
	name string
	own  *state.Permissions
}

// origin finds a user, group or role by its ARN.
func (s *Service) origin(r state.Reader, name *string) (*origin, error) {
	text := shape.Val(name)
	bad := invalidInput("Invalid Entity Arn: %s does not clearly define entity type and name.", text)
	a, err := arn.Parse(text)
	if err != nil || a.Service != "iam" {
		return nil, bad
	}
	kind, rest, _ := strings.Cut(a.Resource, "/")
	last := rest[strings.LastIndexByte(rest, '/')+1:]
	e := &origin{principal: policy.Principal{Type: policy.User, Account: s.AccountID}}
	var own string
	switch kind {
	case "user":
		u, err := findUser(r, last)
		if err != nil {
			return nil, err
		}
		own = arn.User(s.Partition, s.AccountID, u.Path, u.Name).String()
		e.policies, e.boundary = s.account().OfUser(r, u), s.account().Boundary(r, u.Boundary)
		e.principal.ARN, e.principal.ID = own, string(u.ID)
		e.owners = []owner{{iam.PolicyOwnerEntityTypeUser, u.Name, &u.Permissions}}
		for g := range groupsOf(r, u) {
			e.owners = append(e.owners, owner{iam.PolicyOwnerEntityTypeGroup, g.Name, &g.Permissions})
		}
	case "group":
		g, err := findGroup(r, last)
		if err != nil {
			return nil, err
		}
		own = arn.Of(s.Partition, s.AccountID, "group", g.Path+g.Name).String()
		e.policies = s.account().OfGroup(r, g)
		e.owners = []owner{{iam.PolicyOwnerEntityTypeGroup, g.Name, &g.Permissions}}
	case "role":
		role, err := findRole(r, last)
		if err != nil {
			return nil, err
		}
		own = s.roleARN(role)
		e.policies, e.boundary = s.account().OfRole(r, role), s.account().Boundary(r, role.Boundary)
		e.owners = []owner{{iam.PolicyOwnerEntityTypeRole, role.Name, &role.Permissions}}
		e.principal = policy.Principal{Type: policy.RoleSession, Account: s.AccountID, Issuer: own, IssuerID: string(role.ID), ServiceLinked: role.Service != ""}
	default:
		return nil, bad
	}
	if own != text { // another account, partition or path
		return nil, noSuchEntity("The %s with name %s cannot be found.", kind, last)
	}
	return e, nil
}

// complete puts what the request brings into sim, and refuses what cannot be simulated.
func (s *Service) complete(r state.Reader, sim *simulated, in *about) error {
	given, err := sources(policy.Identity, "PolicyInputList", in.policies)
	if err != nil {
		return err
	}
	sim.policies = append(sim.policies, given...)
	bounds, err := sources(policy.Boundary, "PermissionsBoundaryPolicyInputList", in.boundaries)
	if err != nil {
		return err
	}
	switch {
	case len(bounds) > 1:
		return invalidInput("Only one permissions boundary policy can be simulated.")
	case len(bounds) == 1:
		sim.boundaries = bounds
	}
	rails := accountOf(r).Guardrails
	for _, name := range slices.Sorted(maps.Keys(rails)) {
		sim.guardrails = append(sim.guardrails, permissions.Source{Type: string(iam.PolicySourceTypeNone), ID: name, Text: rails[name]})
	}
	if in.caller != nil {
		if sim.principal, err = s.simulatedCaller(r, *in.caller); err != nil {
			return err
		}
	}
	if in.handling != nil && !slices.Contains(handlingOptions, *in.handling) {
		return invalidInput("'%s' is not a valid Resource Handling Option.", *in.handling)
	}
	if err := sim.checkNames(); err != nil {
		return err
	}
	return sim.ownedBy(in)
}

// ownedBy takes the policy of the resources in, and whose they are.
func (sim *simulated) ownedBy(in *about) error {
	sim.owner = sim.principal.Account
	if in.owner != nil {
		a, err := arn.Parse(*in.owner)
		if err != nil || a.Service != "iam" || a.Resource != "root" || !isAccountID(a.Account) {
			return invalidInput("'%s' is not a valid as a Resource Owner.", *in.owner) // AWS's words
		}
		sim.owner = a.Account
	}
	if in.resource == nil {
		return nil
	}
	if sim.principal.Type != policy.User || sim.principal.ARN == "" {
		return invalidInput("CallerArn must be the ARN of an IAM user when a resource policy is simulated.")
	}
	if _, err := policy.Parse(policy.Resource, *in.resource); err != nil {
		return badDocument("ResourcePolicy", err)
	}
	sim.resource = []permissions.Source{{Type: string(iam.PolicySourceTypeResource), ID: "ResourcePolicy", Text: *in.resource}}
	return nil
}

// handlingOptions are the scenarios of ec2:RunInstances. Here all of them mean that each of the resources is asked for.
var handlingOptions = []string{"EC2-Classic-InstanceStore", "EC2-Classic-EBS", "EC2-VPC-InstanceStore", "EC2-VPC-InstanceStore-Subnet", "EC2-VPC-EBS", "EC2-VPC-EBS-Subnet"}

// simulatedCaller is the user as whom is simulated. It need not exist, nor be of this account.
func (s *Service) simulatedCaller(r state.Reader, name string) (policy.Principal, error) {
	a, err := arn.Parse(name)
	kind, rest, _ := strings.Cut(a.Resource, "/")
	if err != nil || a.Service != "iam" || kind != "user" || rest == "" || !isAccountID(a.Account) {
		return policy.Principal{}, invalidInput("Invalid CallerArn: %s is not the ARN of an IAM user.", name)
	}
	p := policy.Principal{Type: policy.User, Account: a.Account, ARN: name}
	if e, err := s.origin(r, &name); err == nil {
		p.ID = e.principal.ID
	}
	return p, nil
}

func isAccountID(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789") == "" }

// sources are the documents of a list of the request, each under the list's name and its number in it.
func sources(kind policy.Kind, list string, texts []string) ([]permissions.Source, error) {
	var out []permissions.Source
	for i, text := range texts {
		id := fmt.Sprintf("%s.%d", list, i+1)
		if _, err := policy.Parse(kind, text); err != nil {
			return nil, badDocument(id, err)
		}
		out = append(out, permissions.Source{Type: string(iam.PolicySourceTypeNone), ID: id, Text: text})
	}
	return out, nil
}

func badDocument(id string, err error) error {
	var m *policy.MalformedError
	if errors.As(err, &m) {
		return invalidInput("Invalid policy document %s: %s", id, m.Error())
	}
	return err
}

// checkNames refuses actions without a service and resources that are no ARNs.
func (sim *simulated) checkNames() error {
	for _, name := range sim.actions {
		vendor, action, ok := strings.Cut(name, ":")
		if !ok || vendor == "" || action == "" || strings.ContainsAny(name, "*? ") || strings.Contains(action, ":") {
			return invalidInput("ActionNames are not in a valid format: %s.", name)
		}
	}
	if len(sim.resources) > mostResources {
		return invalidInput("No more than %d ResourceArns can be simulated.", mostResources)
	}
	for _, name := range sim.resources {
		if _, err := arn.Parse(name); err != nil && name != "*" {
			return invalidInput("ResourceNames are not in a valid ARN format: %s.", name)
		}
	}
	return nil
}
