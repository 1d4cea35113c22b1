package samba

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"carrel/internal/driver"
)

var (
	// label is one part of a DNS name (RFC 1123 section 2.1). Names go into Samba's configuration and into LDAP names as they are.
	label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	// netBIOS is a domain's short name: what AWS's DirectoryShortName lets through (MS-NBTE has more).
	netBIOS = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,14}$`)
)

// administrators says what a type's administrator is called. Other types have no controllers of ours.
var administrators = map[string]string{"SimpleAD": "Administrator", "MicrosoftAD": "Admin"}

// newRecord checks a spec and makes the record of its domain, but for its uid. PermanentError.
func newRecord(spec driver.DomainSpec) (record, error) {
	r := record{DirectoryID: spec.DirectoryID, Type: spec.Type, Name: strings.ToLower(spec.Name), ShortName: strings.ToUpper(spec.ShortName),
		Host: "dc" + strings.TrimPrefix(string(spec.DirectoryID), "d-"), VPC: spec.VPC, VPCCIDR: spec.VPCCIDR}
	if administrators[spec.Type] == "" {
		return r, driver.Permanent("UnsupportedDirectoryType", fmt.Errorf("samba: a directory of type %q has no domain of ours", spec.Type))
	}
	labels := strings.Split(r.Name, ".")
	if r.ShortName == "" {
		r.ShortName = strings.ToUpper(labels[0][:min(len(labels[0]), 15)])
	}
	bad := func(err error) (record, error) {
		return r, driver.Permanent("InvalidDirectory", fmt.Errorf("samba: %s: %w", spec.DirectoryID, err))
	}
	switch {
	// 64 characters: the longest name of an Active Directory domain.
	case len(labels) < 2 || len(r.Name) > 64 || slices.ContainsFunc(labels, func(l string) bool { return !label.MatchString(l) }):
		return bad(fmt.Errorf("%q is no domain name of at least two parts and at most 64 characters", spec.Name))
	case !netBIOS.MatchString(r.ShortName) || strings.EqualFold(r.ShortName, r.Host):
		return bad(fmt.Errorf("%q is no NetBIOS name for a domain", r.ShortName))
	case len(spec.Controllers) == 0 || spec.VPC == "":
		return bad(errors.New("a domain needs a VPC and a controller's place in it"))
	}
	var cidr netip.Prefix
	var err error
	if spec.VPCCIDR != "" {
		if cidr, err = netip.ParsePrefix(spec.VPCCIDR); err != nil {
			return bad(fmt.Errorf("the VPC's addresses: %w", err))
		}
	}
	for _, c := range spec.Controllers {
		a, err := netip.ParseAddr(c.Address)
		if err != nil || !a.Is4() || slices.Contains(r.Addresses, a) || cidr.IsValid() && !cidr.Contains(a) {
			return bad(fmt.Errorf("%q is no IPv4 address of its own for a controller in the VPC", c.Address))
		}
		r.Addresses = append(r.Addresses, a)
	}
	return r, nil
}

// same says why a domain that exists is not the one that is asked for; nil: it is.
func (r *record) same(want record) error {
	if r.Name != want.Name || r.ShortName != want.ShortName || r.VPC != want.VPC || !slices.Equal(r.Addresses, want.Addresses) {
		return driver.Permanent("DirectoryExists", fmt.Errorf("samba: %s is %s (%s) in %s at %v already, not %s (%s) in %s at %v",
			r.DirectoryID, r.Name, r.ShortName, r.VPC, r.Addresses, want.Name, want.ShortName, want.VPC, want.Addresses))
	}
	return nil
}

// policy is a new domain's password policy: AWS's for its managed directories (24 passwords remembered, 42 days at most, 1 day at least,
// 7 characters, complexity), and a lockout, which AWS leaves to the administrator: LDAPS can be reached from desktops, past the portal's own brake.
// Times are negative counts of 100 ns (MS-ADTS 3.1.1.3.1.1); pwdProperties 1 is complexity (MS-SAMR 2.2.1.10).
var policy = map[string]int64{
	"pwdProperties":    1,
	"minPwdLength":     7,
	"pwdHistoryLength": 24,
	"minPwdAge":        -1 * day, "maxPwdAge": -42 * day,
	"lockoutThreshold": 10, "lockoutDuration": -15 * minute, "lockOutObservationWindow": -15 * minute,
}

const (
	minute = 60 * 1e7
	day    = 24 * 60 * minute
)
