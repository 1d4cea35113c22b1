// Package ad asks Active Directory, Carrel's own (Samba) and a customer's alike, whether a password is right and who a user is, over
// LDAPS (RFC 4511 inside TLS; MS-ADTS for what Active Directory adds).
//
// It refuses to speak to a server whose certificate the directory's own authority has not signed, to use StartTLS (an attacker in the
// path strips it) or to follow a referral (a directory must not choose whom we connect to), to send an empty password (the directory
// would take it for an anonymous login and say yes), to put a name that was not checked into a filter or a bind, and to believe a bind
// alone: who has logged in is read from the directory on the same connection.
package ad

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"carrel/internal/directory"
	"carrel/internal/ident"
)

const (
	// maxMessage bounds one LDAP message and every element in it, in bytes. The decoder takes memory for as much as a server claims to
	// send; its own bound is 2 GiB. The longest we ask for is a token of a few thousand groups.
	maxMessage = 1 << 20
	// maxConversation bounds all that a server may send on one connection, in bytes.
	maxConversation = 4 << 20
)

func init() {
	// Both are the libraries' only settings of their kind and hold for the process. This package is the only one that reads LDAP.
	ber.MaxPacketLengthBytes = maxMessage
	ber.MaxNestingDepth = 32
	// The library would write what a hostile server sends to standard error.
	ldap.Logger(log.New(io.Discard, "", 0))
}

// Config is what a Client needs.
type Config struct {
	// Directories gives a directory's settings: an error that is directory.ErrNoDirectory when there is none.
	Directories func(id ident.DirectoryID) (Settings, error)
}

// Server is a domain controller.
type Server struct {
	// Address is host:port; 636 is LDAPS, 3269 the global catalogue.
	Address string
	// Name must be in the server's certificate. "" is the address's host, or the domain's name when that is an IP address.
	Name string
}

// ServiceAccount is the account that looks users up and changes expired passwords. An ordinary user is enough.
type ServiceAccount struct {
	// Name is a DN, a user principal name or DOMAIN\name.
	Name     string
	Password directory.Password
}

// Settings are what has to be known of one directory.
type Settings struct {
	// Servers are asked in this order; the one that answered last comes first.
	Servers []Server
	// Domain is the DNS name ("corp.example.com"), NetBIOS the short name ("CORP"; "": bind names are built of Domain), BaseDN where users
	// are searched ("": the whole domain).
	Domain, NetBIOS, BaseDN string
	// RootCAs are the authorities that may sign the servers' certificates, in PEM. Without one no server is believed.
	RootCAs []byte
	// Dial connects to a server; nil: the process's own network. It is how a directory inside a VPC is reached.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Service is nil when the directory has given Carrel no account.
	Service *ServiceAccount
	// ConnectTimeout bounds connecting to one server with its TLS handshake (default 3 s), Timeout all that is done with one server
	// (default 8 s).
	ConnectTimeout, Timeout time.Duration
}

// Client is directory.Authenticator and directory.Lister for all directories of Config. Safe for concurrent use.
type Client struct {
	directories func(ident.DirectoryID) (Settings, error)

	mu sync.Mutex
	// good is the address that answered last, so that a server that is down costs its time-out once and not at every login.
	good map[ident.DirectoryID]string
}

var (
	_ directory.Authenticator = (*Client)(nil)
	_ directory.Lister        = (*Client)(nil)
)

// New makes a client.
func New(cfg Config) (*Client, error) {
	if cfg.Directories == nil {
		return nil, errors.New("ad: Directories is needed")
	}
	return &Client{directories: cfg.Directories, good: map[ident.DirectoryID]string{}}, nil
}

// settings gives a directory's settings, completed: ErrNoDirectory; ErrUnavailable when they cannot be used.
func (c *Client) settings(id ident.DirectoryID) (Settings, error) {
	s, err := c.directories(id)
	if err != nil {
		return s, fmt.Errorf("directory %s: %w", id, err)
	}
	if len(s.Servers) == 0 || s.Domain == "" || len(s.RootCAs) == 0 {
		return s, fmt.Errorf("directory %s has no servers, no domain name or no certificate authority: %w", id, directory.ErrUnavailable)
	}
	if s.BaseDN == "" {
		s.BaseDN = BaseDN(s.Domain)
	}
	if s.Dial == nil {
		s.Dial = (&net.Dialer{}).DialContext
	}
	if s.ConnectTimeout <= 0 {
		s.ConnectTimeout = 3 * time.Second
	}
	if s.Timeout <= 0 {
		s.Timeout = 8 * time.Second
	}
	s.Servers = slices.Clone(s.Servers)
	c.mu.Lock()
	good := c.good[id]
	c.mu.Unlock()
	slices.SortStableFunc(s.Servers, func(a, b Server) int { return preference(a, good) - preference(b, good) })
	return s, nil
}

func preference(s Server, good string) int {
	if s.Address == good {
		return 0
	}
	return 1
}

func (c *Client) answered(id ident.DirectoryID, s Server) {
	c.mu.Lock()
	c.good[id] = s.Address
	c.mu.Unlock()
}

// BaseDN is a domain's own entry: "corp.example.com" gives "DC=corp,DC=example,DC=com".
func BaseDN(domain string) string {
	var parts []string
	for label := range strings.SplitSeq(domain, ".") {
		parts = append(parts, "DC="+ldap.EscapeDN(label))
	}
	return strings.Join(parts, ",")
}
