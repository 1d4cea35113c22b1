package analysis

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"carrel/internal/arn"
	"carrel/internal/permissions"
	"carrel/internal/policy"
	"carrel/internal/state"
)

// World is what decides in an account who may do what, at one moment: everybody who can sign, and every document that applies to somebody. There is
// no secret in it.
type World struct {
	Account   string `json:"account"`
	Region    string `json:"region"`
	Partition string `json:"partition"`
	// Actions are the actions that there are, those of the operations.
	Actions []string `json:"actions"`
	// Documents are all documents; the others name them by their place here.
	Documents  []permissions.Source `json:"documents"`
	Guardrails []int                `json:"guardrails,omitempty"`
	// Members are the root, the users and the roles, in this order and each by name.
	Members []Member `json:"members"`
}

// The types of a Member.
const (
	Root = "Root"
	User = "User"
	Role = "Role"
)

// Member is somebody whom policies apply to.
type Member struct {
	Type string `json:"type"`
	ARN  string `json:"arn"`
	// ID is the unique id: "AIDA...", "AROA...", the account's for the root.
	ID     string            `json:"id"`
	Name   string            `json:"name,omitempty"`
	Tags   map[string]string `json:"tags,omitempty"`
	Groups []string          `json:"groups,omitempty"`
	// Identity are its identity policies in the order of permissions, Boundary the one that bounds it.
	Identity []Applied `json:"identity,omitempty"`
	Boundary []int     `json:"boundary,omitempty"`
	// Trust is a role's trust policy.
	Trust         []int `json:"trust,omitempty"`
	ServiceLinked bool  `json:"serviceLinked,omitempty"`
}

// Applied is a document and the ARN of the group through which it applies.
type Applied struct {
	Document int    `json:"document"`
	Group    string `json:"group,omitempty"`
}

// collector fills a World, each document once.
type collector struct {
	*World
	reader state.Reader
	of     permissions.Account
	places map[permissions.Source]int
}

// NewEmptyWorld is the world of an account with nobody but its root in it, and with guardrails, whose texts are given by name.
func NewEmptyWorld(account permissions.Account, region string, actions []string, guardrails map[string]string) *World {
	w := &World{Account: account.ID, Region: region, Partition: account.Partition, Actions: actions}
	for _, name := range slices.Sorted(maps.Keys(guardrails)) {
		w.Guardrails = append(w.Guardrails, len(w.Documents))
		w.Documents = append(w.Documents, permissions.Source{Type: "guardrail", ID: name, Text: guardrails[name]})
	}
	w.Members = []Member{{Type: Root, ARN: arn.Root(account.Partition, account.ID).String(), ID: account.ID}}
	return w
}

// NewWorld gathers the world of an account from its records.
func NewWorld(r state.Reader, account permissions.Account, region string, actions []string) *World {
	var guardrails map[string]string
	if a, ok := state.Get(r, state.Accounts, state.Accounts.ID(nil)); ok {
		guardrails = a.Guardrails
	}
	c := &collector{World: NewEmptyWorld(account, region, actions, guardrails), reader: r, of: account, places: map[permissions.Source]int{}}
	var users, roles []Member
	for u := range state.All(r, state.Users) {
		users = append(users, c.user(u))
	}
	for role := range state.All(r, state.Roles) {
		roles = append(roles, c.role(role))
	}
	byName := func(a, b Member) int { return strings.Compare(a.ARN, b.ARN) }
	slices.SortFunc(users, byName)
	slices.SortFunc(roles, byName)
	c.Members = append(append(c.Members, users...), roles...)
	return c.World
}

func (c *collector) place(s permissions.Source) int {
	n, known := c.places[s]
	if !known {
		n = len(c.Documents)
		c.places[s] = n
		c.Documents = append(c.Documents, s)
	}
	return n
}

func (c *collector) all(sources []permissions.Source) []int {
	var out []int
	for _, s := range sources {
		out = append(out, c.place(s))
	}
	return out
}

func (c *collector) applied(sources []permissions.Source, group string) []Applied {
	var out []Applied
	for _, n := range c.all(sources) {
		out = append(out, Applied{n, group})
	}
	return out
}

func (c *collector) user(u *state.User) Member {
	m := Member{Type: User, ARN: arn.User(c.Partition, c.Account, u.Path, u.Name).String(), ID: string(u.ID), Name: u.Name, Tags: u.Tags, Boundary: c.all(c.of.Boundary(c.reader, u.Boundary))}
	own := *u
	own.Groups = nil
	m.Identity = c.applied(c.of.OfUser(c.reader, &own), "")
	for _, id := range u.Groups {
		if g, ok := state.Get(c.reader, state.Groups, string(id)); ok {
			name := arn.Of(c.Partition, c.Account, "group", g.Path+g.Name).String()
			m.Groups = append(m.Groups, name)
			m.Identity = append(m.Identity, c.applied(c.of.OfGroup(c.reader, g), name)...)
		}
	}
	return m
}

func (c *collector) role(r *state.Role) Member {
	return Member{Type: Role, ARN: arn.Of(c.Partition, c.Account, "role", r.Path+r.Name).String(), ID: string(r.ID), Name: r.Name, Tags: r.Tags, ServiceLinked: r.Service != "",
		Identity: c.applied(c.of.OfRole(c.reader, r), ""), Boundary: c.all(c.of.Boundary(c.reader, r.Boundary)),
		Trust: []int{c.place(permissions.Source{Type: "resource", ID: "role_" + r.Name + "_trust", Text: r.Trust})}}
}

// find gives the member with an ARN.
func (w *World) find(name string) *Member {
	for i := range w.Members {
		if w.Members[i].ARN == name {
			return &w.Members[i]
		}
	}
	return nil
}

// principal is a member as Principal elements name it. The sessions of a role have names of their own, which nobody knows here.
func (w *World) principal(m *Member) policy.Principal {
	p := policy.Principal{Account: w.Account, ARN: m.ARN, ID: m.ID}
	switch m.Type {
	case Root:
		p.Type = policy.Root
	case User:
		p.Type = policy.User
	case Role:
		p.Type, p.ServiceLinked = policy.RoleSession, m.ServiceLinked
		p.Issuer, p.IssuerID = m.ARN, m.ID
		p.ARN, p.ID = arn.Session(w.Partition, w.Account, m.Name, "*").String(), ""
	}
	return p
}

// document reads a stored document as decisions do: one that cannot be read denies everything.
func (w *World) document(k policy.Kind, n int) *policy.Document {
	p, _ := policy.CompileStored(k, w.Documents[n].Text)
	return p.Document(0)
}

// checkAction refuses what is no action that there is, and says which are like it.
func (w *World) checkAction(name string) error {
	service, operation, ok := strings.Cut(name, ":")
	if !ok || strings.ContainsAny(name, "*?") {
		return fmt.Errorf("%q is not an action: write the service and the operation, as in workspaces:TerminateWorkspaces", name)
	}
	var others []string
	for _, a := range w.Actions {
		of, op, _ := strings.Cut(a, ":")
		switch {
		case strings.EqualFold(a, name):
			return nil
		case strings.EqualFold(of, service) && len(operation) > 2 && strings.Contains(strings.ToLower(op), strings.ToLower(operation[:len(operation)*2/3])):
			others = append(others, a)
		}
	}
	if len(others) > 0 {
		return fmt.Errorf("there is no action %s; there are %s", name, strings.Join(others[:min(len(others), 5)], ", "))
	}
	return fmt.Errorf("there is no action %s", name)
}

// ResourceTags finds the tags of a resource by its ARN; false when it does not exist, or when its tags are not to be found by its name.
func ResourceTags(r state.Reader, account permissions.Account, name string) (map[string]string, bool) {
	a, err := arn.Parse(name)
	if err != nil || a.Account != account.ID || a.Partition != account.Partition {
		return nil, false
	}
	kind, id, _ := strings.Cut(a.Resource, "/")
	last := id[strings.LastIndexByte(id, '/')+1:]
	switch a.Service + ":" + kind {
	case "workspaces:workspace":
		return tagsOf(r, state.Workspaces, id)
	case "workspaces:workspacebundle":
		return tagsOf(r, state.Bundles, id)
	case "workspaces:workspaceimage":
		return tagsOf(r, state.Images, id)
	case "workspaces:workspaceipgroup":
		return tagsOf(r, state.IPGroups, id)
	case "workspaces:directory":
		if d, ok := state.Get(r, state.Directories, id); ok && d.Registration != nil {
			return d.Registration.Tags, true
		}
	case "iam:user":
		for u := range state.AllBy(r, state.Users, state.UsersByName, strings.ToLower(last)) {
			return u.Tags, u.Path+u.Name == "/"+id
		}
	case "iam:role":
		for role := range state.AllBy(r, state.Roles, state.RolesByName, strings.ToLower(last)) {
			return role.Tags, role.Path+role.Name == "/"+id
		}
	case "iam:policy":
		if p, ok := account.Customer(r, name); ok {
			return p.Tags, true
		}
	}
	return nil, false
}

func tagsOf[T any](r state.Reader, d *state.Definition[T], id string) (map[string]string, bool) {
	rec, ok := state.Get(r, d, id)
	if !ok {
		return nil, false
	}
	return d.Meta(rec).Tags, true
}

// RootLocked tells whether the guardrails leave the root nothing, whatever it asks for.
func (w *World) RootLocked() bool {
	if len(w.Guardrails) == 0 {
		return false
	}
	resources := []string{"*"}
	for _, n := range w.Guardrails {
		for _, s := range w.document(policy.Guardrail, n).Statements {
			if s.Effect == policy.Allow && !s.NotResource {
				resources = append(resources, s.Resources...) // A pattern is one of the names that it matches.
			}
		}
	}
	for _, action := range w.Actions {
		for _, resource := range resources {
			if a := w.judge(&w.Members[0], &Question{Action: action, Resource: resource}, nil); a.Can != No {
				return false
			}
		}
	}
	return true
}
