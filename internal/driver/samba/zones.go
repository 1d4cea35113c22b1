package samba

import (
	"net/netip"
	"slices"
	"strings"

	"carrel/internal/ident"
)

// Zone is what a VPC's name server has to know of a domain.
type Zone struct {
	// Name is the domain's DNS name; Servers are its controllers inside the VPC.
	Name    string
	Servers []netip.Addr
}

// Zones gives the domains that are inside a VPC, in order of name.
func (s *Domains) Zones(vpc ident.VPCID) []Zone {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Zone
	for _, d := range s.domains {
		if d.rec.VPC == vpc {
			out = append(out, Zone{d.rec.Name, slices.Clone(d.rec.Addresses)})
		}
	}
	slices.SortFunc(out, func(a, b Zone) int { return strings.Compare(a.Name, b.Name) })
	return out
}
