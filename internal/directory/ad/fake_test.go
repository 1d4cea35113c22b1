package ad

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"carrel/internal/directory"
	"carrel/internal/ident"
)

const (
	corp     = ident.DirectoryID("d-90670a1b2c")
	password = "Correct-Horse-7"
)

// account is a user of the fake directory.
type account struct {
	name, upn, password string
	rid                 byte
	// data is what a bind with the right password answers instead of success; always: with any password.
	data   string
	always bool
	// control is userAccountControl.
	control string
}

func (a *account) sid() []byte {
	return []byte{1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, a.rid, 4, 0, 0}
}

// fake is a directory that answers as Samba and Active Directory do (the lab's table), or misbehaves when told to.
type fake struct {
	t        *testing.T
	listener net.Listener
	config   *tls.Config
	ca       []byte
	// connections and binds count what reached the directory.
	connections, binds, searches atomic.Int32

	mu       sync.Mutex
	accounts []*account
	// onConnect runs on the raw connection, before TLS; true: it has been dealt with.
	onConnect func(net.Conn) bool
	// onBind may answer a bind instead of the fake.
	onBind func(w io.Writer, id int64) bool
	// noToken leaves tokenGroups out; lookalike finds "ada" whatever was asked for.
	noToken, lookalike bool
	changed            []string
}

// start makes a directory of corp.example.com whose certificate stands for name.
func start(t *testing.T, name string) *fake {
	t.Helper()
	f := &fake{t: t, accounts: []*account{
		{name: "Ada", rid: 1, password: password, control: "512"},
		{name: "dis", rid: 2, password: password, data: "533", control: "514"},
		{name: "locked", rid: 3, password: password, data: "775", always: true, control: "512"},
		{name: "must", rid: 4, password: password, data: "773", control: "512"},
		{name: "expired", rid: 5, password: password, data: "532", control: "512"},
		{name: "hours", rid: 6, password: password, data: "530", control: "512"},
		{name: "ended", rid: 7, password: password, data: "701", control: "512"},
		// mallory has set the user principal name that ada would be expected to have.
		{name: "mallory", rid: 8, upn: "ada@corp.example.com", password: "Mallory-Pass-1", control: "512"},
		{name: "connector", rid: 9, password: password, control: "512"},
	}}
	f.config, f.ca = certificate(t, name)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.listener = l
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.connections.Add(1)
			wait.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		wait.Wait()
	})
	return f
}

func certificate(t *testing.T, name string) (*tls.Config, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// set tells the directory how to behave from now on.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) address() string { return f.listener.Addr().String() }

func (f *fake) settings() Settings {
	return Settings{Servers: []Server{{Address: f.address()}}, Domain: "corp.example.com", NetBIOS: "CORP", RootCAs: f.ca,
		ConnectTimeout: time.Minute, Timeout: time.Minute}
}

// client is a Client of one directory with these settings.
func client(t *testing.T, s Settings) *Client {
	t.Helper()
	c, err := New(Config{Directories: func(id ident.DirectoryID) (Settings, error) {
		if id != corp {
			return Settings{}, directory.ErrNoDirectory
		}
		return s, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *fake) serve(raw net.Conn) {
	defer raw.Close()
	f.mu.Lock()
	onConnect, onBind, config := f.onConnect, f.onBind, f.config.Clone()
	f.mu.Unlock()
	if onConnect != nil && onConnect(raw) {
		return
	}
	conn := tls.Server(raw, config)
	defer conn.Close()
	var bound *account
	for {
		request, err := ber.ReadPacket(conn)
		if err != nil || len(request.Children) < 2 {
			return
		}
		id, op := request.Children[0].Value.(int64), request.Children[1]
		switch op.Tag {
		case ldap.ApplicationBindRequest:
			f.binds.Add(1)
			if onBind != nil && onBind(conn, id) {
				continue
			}
			var text string
			bound, text = f.bind(op.Children[1].Value.(string), op.Children[2].Data.String())
			code := int64(ldap.LDAPResultInvalidCredentials)
			if bound != nil {
				code = ldap.LDAPResultSuccess
			}
			reply(conn, id, ldap.ApplicationBindResponse, code, text)
		case ldap.ApplicationSearchRequest:
			f.searches.Add(1)
			f.search(conn, id, op, bound)
		case ldap.ApplicationModifyRequest:
			code, text := f.modify(op, bound)
			reply(conn, id, ldap.ApplicationModifyResponse, code, text)
		default:
			return
		}
	}
}

func refused(data string) string {
	return "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data " + data + ", v1db1"
}

// bind resolves a name as a directory does: user principal names by their attribute first.
func (f *fake) bind(name, given string) (*account, string) {
	if given == "" {
		return &account{}, "" // an anonymous login succeeds: RFC 4513 section 5.1.2
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var who *account
	for _, a := range f.accounts {
		if a.upn != "" && strings.EqualFold(a.upn, name) {
			who = a
			break
		}
		if strings.EqualFold(`CORP\`+a.name, name) || strings.EqualFold(a.name+"@corp.example.com", name) && who == nil {
			who = a
		}
	}
	switch {
	case who == nil:
		return nil, refused("52e")
	case who.always, who.data != "" && given == who.password:
		return nil, refused(who.data)
	case given != who.password:
		return nil, refused("52e")
	}
	return who, ""
}

var asked = regexp.MustCompile(`^\(&\(objectCategory=person\)\(objectClass=user\)\(sAMAccountName=([^()]*)\)\)$`)

func (f *fake) search(w io.Writer, id int64, op *ber.Packet, bound *account) {
	f.mu.Lock()
	defer f.mu.Unlock()
	filter, err := ldap.DecompileFilter(op.Children[6])
	if err != nil || bound == nil {
		reply(w, id, ldap.ApplicationSearchResultDone, ldap.LDAPResultOperationsError, "00002020: Operation unavailable without authentication")
		return
	}
	if op.Children[0].Value.(string) == "" {
		if !f.noToken {
			entry(w, id, "", map[string][]byte{"tokenGroups": bound.sid()})
		}
	} else if m := asked.FindStringSubmatch(filter); m != nil {
		for _, a := range f.accounts {
			if strings.EqualFold(ldap.EscapeFilter(a.name), m[1]) || f.lookalike && a.name == "Ada" {
				entry(w, id, "CN="+a.name+",CN=Users,DC=corp,DC=example,DC=com", map[string][]byte{"sAMAccountName": []byte(a.name),
					"objectSid": a.sid(), "displayName": []byte("The " + a.name), "mail": []byte(a.name + "@example.com"), "userAccountControl": []byte(a.control)})
			}
		}
	} else {
		f.t.Errorf("the directory is asked a filter it should never see: %s", filter)
	}
	reply(w, id, ldap.ApplicationSearchResultDone, ldap.LDAPResultSuccess, "")
}

// modify is a change of unicodePwd by its old value.
func (f *fake) modify(op *ber.Packet, bound *account) (int64, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if bound == nil {
		return ldap.LDAPResultInsufficientAccessRights, "00000005: denied"
	}
	var values []string
	for _, change := range op.Children[1].Children {
		values = append(values, change.Children[1].Children[1].Children[0].Data.String())
	}
	for _, a := range f.accounts {
		if !strings.HasPrefix(op.Children[0].Value.(string), "CN="+a.name+",") {
			continue
		}
		switch {
		case len(values) != 2 || values[0] != EncodePassword(directory.NewPassword(a.password)):
			return ldap.LDAPResultConstraintViolation, "00000056: check_password_restrictions: the old password is wrong"
		case len(values[1]) < 2*10:
			return ldap.LDAPResultConstraintViolation, "0000052D: Constraint violation - check_password_restrictions: the password is too short. It should be equal or longer than 7 characters!"
		}
		f.changed = append(f.changed, a.name)
		return ldap.LDAPResultSuccess, ""
	}
	return ldap.LDAPResultNoSuchObject, "00002030: no such object"
}

func message(id int64, op *ber.Packet) []byte {
	p := ber.NewSequence("")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	p.AppendChild(op)
	return p.Bytes()
}

func octets(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

func reply(w io.Writer, id int64, tag ber.Tag, code int64, text string, referrals ...string) {
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
	op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, ""))
	op.AppendChild(octets(""))
	op.AppendChild(octets(text))
	if len(referrals) > 0 {
		list := ber.Encode(ber.ClassContext, ber.TypeConstructed, 3, nil, "")
		for _, r := range referrals {
			list.AppendChild(octets(r))
		}
		op.AppendChild(list)
	}
	_, _ = w.Write(message(id, op))
}

func entry(w io.Writer, id int64, dn string, attributes map[string][]byte) {
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "")
	op.AppendChild(octets(dn))
	list := ber.NewSequence("")
	for name, value := range attributes {
		a := ber.NewSequence("")
		a.AppendChild(octets(name))
		set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		set.AppendChild(octets(string(value)))
		a.AppendChild(set)
		list.AppendChild(a)
	}
	op.AppendChild(list)
	_, _ = w.Write(message(id, op))
}

// endless is a stream of small answers to nothing.
func endless(w io.Writer) {
	var b bytes.Buffer
	for range 1000 {
		reply(&b, 99999, ldap.ApplicationBindResponse, 0, strings.Repeat("x", 1000))
	}
	for {
		if _, err := w.Write(b.Bytes()); err != nil {
			return
		}
	}
}
