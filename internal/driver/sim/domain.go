package sim

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"carrel/internal/directory"
	"carrel/internal/driver"
	"carrel/internal/ident"
)

// domain is what the journal keeps of a directory.
type domain struct {
	Info  driver.DomainInfo
	Name  string
	Users []directory.User
	// NextRID counts up for ever: a SID is never given twice.
	NextRID int
	// Passwords of the users by SID; a user without one cannot log in.
	Passwords map[string]password `json:",omitempty"`
}

// Domain is the simulated driver.Domain and directory.Lister.
type Domain struct{ sim *Sim }

var (
	_ driver.Domain    = (*Domain)(nil)
	_ directory.Lister = (*Domain)(nil)
)

// userName is what a sAMAccountName may be (MS-ADA3 2.222, the characters of MS-SAMR 3.1.1.6 left out).
var userName = regexp.MustCompile(`^[^"/\\\[\]:;|=,+*?<>@\x00-\x20.][^"/\\\[\]:;|=,+*?<>@\x00-\x1f]{0,62}$`)

// defaultUsers are in every simulated directory.
func defaultUsers() []directory.User {
	return []directory.User{
		{Name: "ada", DisplayName: "Ada Lovelace", GivenName: "Ada", Surname: "Lovelace", Enabled: true},
		{Name: "grace", DisplayName: "Grace Hopper", GivenName: "Grace", Surname: "Hopper", Enabled: true},
	}
}

// Provision makes a directory with the users ada and grace.
func (d *Domain) Provision(ctx context.Context, spec driver.DomainSpec) (driver.DomainInfo, error) {
	s, id := d.sim, spec.DirectoryID
	var out driver.DomainInfo
	err := s.do(ctx, call{"domain", "provision", string(id), s.times.Provision}, func() error {
		if have, ok := s.domains[id]; ok {
			out = copyInfo(have.Info)
			return nil
		}
		if spec.Name == "" || len(spec.Controllers) == 0 {
			return driver.Permanent("InvalidDirectory", errors.New("a directory needs a name and a controller's place"))
		}
		next := &domain{Info: driver.DomainInfo{DirectoryID: id, Stage: driver.DomainActive}, Name: spec.Name, NextRID: 1103}
		for _, c := range spec.Controllers {
			next.Info.DNSAddresses = append(next.Info.DNSAddresses, c.Address)
		}
		for _, u := range defaultUsers() {
			next.add(u)
		}
		if err := s.save("domain", string(id), next); err != nil {
			return err
		}
		s.domains[id] = next
		out = copyInfo(next.Info)
		return nil
	})
	return out, err
}

func copyInfo(i driver.DomainInfo) driver.DomainInfo {
	i.DNSAddresses = slices.Clone(i.DNSAddresses)
	return i
}

// add gives u its SID and mail address.
func (d *domain) add(u directory.User) directory.User {
	h := sha256.Sum256([]byte(d.Info.DirectoryID))
	u.SID = fmt.Sprintf("S-1-5-21-%d-%d-%d-%d", binary.BigEndian.Uint32(h[0:]), binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[8:]), d.NextRID)
	if u.Email == "" {
		u.Email = strings.ToLower(u.Name) + "@" + d.Name
	}
	d.NextRID++
	d.Users = append(d.Users, u)
	return u
}

// clone is a copy that may be changed.
func (d *domain) clone() *domain {
	next := *d
	next.Users, next.Passwords = slices.Clone(d.Users), maps.Clone(d.Passwords)
	return &next
}

func (d *domain) find(name string) int {
	return slices.IndexFunc(d.Users, func(u directory.User) bool { return strings.EqualFold(u.Name, name) })
}

// AddUser puts an enabled user into a directory: directory.ErrNoDirectory; an error when there is one of that name or the
// name cannot be a sAMAccountName.
func (d *Domain) AddUser(id ident.DirectoryID, name string) (directory.User, error) {
	s := d.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	have, ok := s.domains[id]
	switch {
	case !ok:
		return directory.User{}, fmt.Errorf("add user to %s: %w", id, directory.ErrNoDirectory)
	case !userName.MatchString(name):
		return directory.User{}, fmt.Errorf("%q cannot be a user name", name)
	case have.find(name) >= 0:
		return directory.User{}, fmt.Errorf("%s has a user %s already", id, name)
	}
	next := have.clone()
	u := next.add(directory.User{Name: name, DisplayName: name, Enabled: true})
	if err := s.save("domain", string(id), next); err != nil {
		return directory.User{}, err
	}
	s.domains[id] = next
	return u, nil
}

// RemoveUser takes a user out of a directory; a user added again has another SID. directory.ErrNoDirectory, directory.ErrNoUser.
func (d *Domain) RemoveUser(id ident.DirectoryID, name string) error {
	s := d.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	have, ok := s.domains[id]
	if !ok {
		return fmt.Errorf("remove user from %s: %w", id, directory.ErrNoDirectory)
	}
	at := have.find(name)
	if at < 0 {
		return fmt.Errorf("remove user %s from %s: %w", name, id, directory.ErrNoUser)
	}
	next := have.clone()
	delete(next.Passwords, have.Users[at].SID)
	next.Users = slices.Delete(next.Users, at, at+1)
	if err := s.save("domain", string(id), next); err != nil {
		return err
	}
	s.domains[id] = next
	return nil
}

// Lookup finds a user.
func (d *Domain) Lookup(_ context.Context, id ident.DirectoryID, name string) (directory.User, error) {
	s := d.sim
	if err := s.faults.strike("domain", "lookup"); err != nil {
		return directory.User{}, fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	have, ok := s.domains[id]
	if !ok {
		return directory.User{}, fmt.Errorf("look up in %s: %w", id, directory.ErrNoDirectory)
	}
	if at := have.find(name); at >= 0 {
		return have.Users[at], nil
	}
	return directory.User{}, fmt.Errorf("look up %q in %s: %w", name, id, directory.ErrNoUser)
}

// Inspect tells what exists.
func (d *Domain) Inspect(_ context.Context, id ident.DirectoryID) (driver.DomainInfo, error) {
	s := d.sim
	if err := s.faults.strike("domain", "inspect"); err != nil {
		return driver.DomainInfo{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.domains[id]; ok {
		return copyInfo(have.Info), nil
	}
	return driver.DomainInfo{}, fmt.Errorf("simulated domain %s: %w", id, driver.ErrNotFound)
}

// Remove ends a directory and its users.
func (d *Domain) Remove(ctx context.Context, id ident.DirectoryID) error {
	s := d.sim
	return s.do(ctx, call{"domain", "remove", string(id), s.times.Remove}, func() error {
		if _, ok := s.domains[id]; !ok {
			return nil
		}
		if err := s.save("domain", string(id), nil); err != nil {
			return err
		}
		delete(s.domains, id)
		return nil
	})
}

// List gives all directories.
func (d *Domain) List(context.Context) ([]driver.DomainInfo, error) {
	if err := d.sim.faults.strike("domain", "list"); err != nil {
		return nil, err
	}
	return list(d.sim, d.sim.domains, func(have *domain) driver.DomainInfo { return copyInfo(have.Info) })
}
