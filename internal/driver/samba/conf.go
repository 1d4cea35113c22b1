package samba

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// setting is one line of smb.conf. Everything in one is made of checked names, addresses and our own directory.
type setting struct{ name, value string }

func writeConf(settings []setting) []byte {
	var b strings.Builder
	b.WriteString("# Written at every start; changes are lost.\n[global]\n")
	for _, s := range settings {
		fmt.Fprintf(&b, "\t%s = %s\n", s.name, s.value)
	}
	return []byte(b.String())
}

// places are the settings that keep everything Samba writes in the domain's own directory: the distribution's would be shared.
func (d *domain) places() []setting {
	state := filepath.Join(d.dir, stateDir)
	run := filepath.Join(state, "run")
	var interfaces []string
	for _, a := range d.rec.Addresses {
		interfaces = append(interfaces, a.String()+"/32")
	}
	s := []setting{
		{"pid directory", run},
		{"ncalrpc dir", filepath.Join(run, "ncalrpc")},
		{"winbindd socket directory", filepath.Join(run, "winbindd")},
		{"ntp signd socket directory", filepath.Join(run, "ntp_signd")},
		{"logging", "file"},
		{"log file", filepath.Join(state, "log", "log.%m")},
		{"max log size", "1024"}, // KiB, then the file begins anew beside one old one
		{"log level", "1"},       // higher levels write down what users send
		// Nothing else, not even loopback: other directories of the same VPC have controllers in the same namespace.
		{"interfaces", strings.Join(interfaces, " ")},
		{"bind interfaces only", "yes"},
	}
	if f := d.forwarder(); f.IsValid() {
		s = append(s, setting{"dns forwarder", f.String()})
	} else {
		s = append(s, setting{"dns forwarder", ""})
	}
	return s
}

// forwarder answers for what is not the domain's: the VPC's own DNS, the network's base address plus two. Never the host's.
func (d *domain) forwarder() netip.Addr {
	cidr := d.rec.network().CIDR
	if !cidr.IsValid() {
		return netip.Addr{}
	}
	return cidr.Masked().Addr().Next().Next()
}

// conf is what the controller runs with.
func (d *domain) conf() []byte {
	state, tls := filepath.Join(d.dir, stateDir), filepath.Join(d.dir, tlsDir)
	return writeConf(append([]setting{
		{"netbios name", strings.ToUpper(d.rec.Host)},
		{"workgroup", d.rec.ShortName},
		{"realm", strings.ToUpper(d.rec.Name)},
		{"server role", "active directory domain controller"},
		// No file shares and no winbind, which need root: directories are for logins, Kerberos, DNS and machine accounts here.
		{"server services", "ldap, cldap, kdc, dns, rpc, drepl"},
		{"private dir", filepath.Join(state, "private")},
		{"lock directory", state},
		{"state directory", filepath.Join(state, "state")},
		{"cache directory", filepath.Join(state, "cache")},
		{"binddns dir", filepath.Join(state, "bind-dns")},
		{"idmap_ldb:use rfc2307", "yes"},
		{"tls enabled", "yes"},
		{"tls keyfile", filepath.Join(tls, keyFile)},
		{"tls certfile", filepath.Join(tls, certificateFile)},
		{"tls cafile", filepath.Join(tls, authorityFile)},
		{"tls priority", "SECURE256:+SECURE128:-VERS-TLS1.0:-VERS-TLS1.1"},
		// Passwords only inside TLS, on port 389 too.
		{"ldap server require strong auth", "yes"},
	}, d.places()...))
}

// seed is what the domain is made with: without one the distribution's own configuration is inherited.
func (d *domain) seed() []byte { return writeConf(d.places()) }
