package ad

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"carrel/internal/directory"
)

// Whatever a server answers, nobody logs in by it who is not in the answer, and the process lives on.
func FuzzAnswers(f *testing.F) {
	a := &account{name: "Ada", rid: 1, control: "512"}
	made := func(fn func(w io.Writer)) []byte {
		var b bytes.Buffer
		fn(&b)
		return b.Bytes()
	}
	bound := made(func(w io.Writer) { reply(w, 1, ldap.ApplicationBindResponse, ldap.LDAPResultSuccess, "") })
	root := made(func(w io.Writer) {
		entry(w, 2, "", map[string][]byte{"tokenGroups": a.sid()})
		reply(w, 2, ldap.ApplicationSearchResultDone, ldap.LDAPResultSuccess, "")
	})
	user := made(func(w io.Writer) {
		entry(w, 3, "CN=Ada", map[string][]byte{"sAMAccountName": []byte("Ada"), "objectSid": a.sid(), "userAccountControl": []byte("512")})
		reply(w, 3, ldap.ApplicationSearchResultDone, ldap.LDAPResultSuccess, "")
	})
	f.Add(bound, root, user)
	f.Add(made(func(w io.Writer) {
		reply(w, 1, ldap.ApplicationBindResponse, ldap.LDAPResultInvalidCredentials, refused("773"))
	}), root, user)
	f.Add(made(func(w io.Writer) {
		reply(w, 1, ldap.ApplicationBindResponse, ldap.LDAPResultReferral, "", "ldap://192.0.2.1/")
	}), root, user)
	f.Add([]byte("\x30\x05\x02\x01\x01\x61\x00"), []byte{}, []byte{})
	s := &Settings{Domain: "corp.example.com", NetBIOS: "CORP", BaseDN: "DC=corp"}
	f.Fuzz(func(t *testing.T, bindAnswer, rootAnswer, userAnswer []byte) {
		// In a bubble: a deadline that everybody waits for is there at once.
		synctest.Test(t, func(t *testing.T) { converse(t, s, [][]byte{bindAnswer, rootAnswer, userAnswer}) })
	})
}

func converse(t *testing.T, s *Settings, answers [][]byte) {
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		for _, answer := range answers {
			if _, err := ber.ReadPacket(theirs); err != nil {
				return
			}
			if _, err := theirs.Write(answer); err != nil {
				return
			}
		}
	}()
	var u directory.User
	err := Converse(t.Context(), ours, time.Now().Add(time.Second), maxConversation, func(conn *ldap.Conn) (err error) {
		if err := bind(conn, s.bindName("ada"), pw(password)); err != nil {
			return err
		}
		u, err = s.whoLoggedIn(conn, "ada")
		return err
	})
	if err == nil && (u.SID == "" || !strings.EqualFold(u.Name, "ada")) {
		t.Errorf("%+v logged in as ada", u)
	}
	<-done
}
