package e2e

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"carrel/internal/sigv4"
)

// etcdServer is an etcd server on loopback, for the length of the test, and its URL.
func etcdServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := url.URL{Scheme: "http", Host: l.Addr().String()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := embed.NewConfig()
	c.Name, c.Dir, c.LogLevel = "external", t.TempDir(), "fatal"
	c.InitialCluster = "external=http://localhost:2380"
	c.ListenPeerUrls = nil
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{u}, []url.URL{u}
	c.MaxTxnOps, c.MaxRequestBytes = 4096, 16<<20
	server, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	<-server.Server.ReadyNotify()
	return u.String()
}

// credentials are what a request is signed with.
type credentials struct{ AccessKeyId, SecretAccessKey, SessionToken string }

// as sends a call of iam or sts, signed with credentials.
func (w *world) as(t testing.TB, who credentials, service, version string, values url.Values) answer {
	t.Helper()
	values.Set("Version", version)
	c := w.formCall(service, values)
	c.signer.AccessKeyID, c.signer.Secret, c.signer.SessionToken = who.AccessKeyId, sigv4.Secret(who.SecretAccessKey), sigv4.Secret(who.SessionToken)
	a, err := w.do(t.Context(), c.sign(t))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// within is how long it may take until a node has heard what another one has written.
const within = time.Second

// refuses waits until node refuses who, with one of the codes, and then wants each of the next calls to be refused.
func refuses(t *testing.T, node *world, who credentials, code string) {
	t.Helper()
	values := func() url.Values { return url.Values{"Action": {"ListUsers"}} }
	begin := time.Now()
	for {
		a := node.as(t, who, "iam", "2010-05-08", values())
		if a.code == code {
			break
		}
		if a.status != http.StatusOK || time.Since(begin) > within {
			t.Fatalf("after %s: %s, want %s", time.Since(begin), a, code)
		}
	}
	t.Logf("refused %s after it was answered", time.Since(begin).Round(time.Millisecond))
	for range 20 {
		if a := node.as(t, who, "iam", "2010-05-08", values()); a.code != code {
			t.Fatalf("taken again: %s", a)
		}
	}
}

// TestRevocationOnEveryNode: two control nodes of one installation, two processes with one etcd. What was deleted, disabled or revoked at one is refused at the
// other (SIG-8, SIG-9), and what one has made the other takes without asking it.
func TestRevocationOnEveryNode(t *testing.T) {
	config := fmt.Sprintf("etcd: {endpoints: ['%s']}\n", etcdServer(t))
	a := boot(t, filepath.Join(t.TempDir(), "a"), config)
	b := boot(t, filepath.Join(t.TempDir(), "b"), config)
	root := credentials{AccessKeyId: a.keyID, SecretAccessKey: a.secret}
	iam := func(node *world, action string, more url.Values) answer {
		t.Helper()
		more.Set("Action", action)
		got := node.as(t, root, "iam", "2010-05-08", more)
		if got.status != http.StatusOK {
			t.Fatalf("%s: %s", action, got)
		}
		return got
	}
	const all = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	n := 0
	// person is somebody who may everything, known at both nodes.
	person := func() (name string, key credentials) {
		t.Helper()
		n++
		name = fmt.Sprint("p", n)
		iam(a, "CreateUser", url.Values{"UserName": {name}})
		iam(a, "PutUserPolicy", url.Values{"UserName": {name}, "PolicyName": {"All"}, "PolicyDocument": {all}})
		var made struct {
			Key credentials `xml:"CreateAccessKeyResult>AccessKey"`
		}
		if err := xml.Unmarshal([]byte(iam(a, "CreateAccessKey", url.Values{"UserName": {name}}).body), &made); err != nil {
			t.Fatal(err)
		}
		return name, made.Key
	}
	// takes waits until both nodes take the credentials.
	takes := func(who credentials) {
		t.Helper()
		for _, node := range []*world{a, b} {
			until(t, within, "the credentials are taken", func() (bool, string) {
				got := node.as(t, who, "iam", "2010-05-08", url.Values{"Action": {"ListUsers"}})
				return got.status == http.StatusOK, got.String()
			})
		}
	}
	// session is of a new role, made at one node.
	session := func(node *world) (role string, who credentials) {
		t.Helper()
		_, key := person()
		n++
		role = fmt.Sprint("r", n)
		iam(a, "CreateRole", url.Values{"RoleName": {role}, "AssumeRolePolicyDocument": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + a.account(t) + `"},"Action":"sts:AssumeRole"}]}`}})
		iam(a, "PutRolePolicy", url.Values{"RoleName": {role}, "PolicyName": {"All"}, "PolicyDocument": {all}})
		takes(key)
		values := url.Values{"Action": {"AssumeRole"}, "RoleArn": {"arn:aws:iam::" + a.account(t) + ":role/" + role}, "RoleSessionName": {"desk"}}
		until(t, within, "the role is assumed", func() (bool, string) {
			got := node.as(t, key, "sts", "2011-06-15", values)
			var made struct {
				Key credentials `xml:"AssumeRoleResult>Credentials"`
			}
			err := xml.Unmarshal([]byte(got.body), &made)
			who = made.Key
			return err == nil && who.SessionToken != "", got.String()
		})
		takes(who)
		return role, who
	}
	deleteRole := func(role string) {
		t.Helper()
		iam(a, "DeleteRolePolicy", url.Values{"RoleName": {role}, "PolicyName": {"All"}})
		iam(a, "DeleteRole", url.Values{"RoleName": {role}})
	}
	t.Run("SIG-9 a key that was disabled", func(t *testing.T) {
		name, key := person()
		takes(key)
		iam(a, "UpdateAccessKey", url.Values{"UserName": {name}, "AccessKeyId": {key.AccessKeyId}, "Status": {"Inactive"}})
		refuses(t, b, key, "InvalidClientTokenId")
		iam(a, "UpdateAccessKey", url.Values{"UserName": {name}, "AccessKeyId": {key.AccessKeyId}, "Status": {"Active"}})
		takes(key)
		iam(a, "DeleteAccessKey", url.Values{"UserName": {name}, "AccessKeyId": {key.AccessKeyId}})
		refuses(t, b, key, "InvalidClientTokenId")
	})
	t.Run("SIG-9 a user who was deleted, at the other node than was made", func(t *testing.T) {
		name, key := person()
		takes(key)
		iam(b, "DeleteUserPolicy", url.Values{"UserName": {name}, "PolicyName": {"All"}})
		refuses(t, a, key, "AccessDenied")
		iam(b, "DeleteAccessKey", url.Values{"UserName": {name}, "AccessKeyId": {key.AccessKeyId}})
		iam(b, "DeleteUser", url.Values{"UserName": {name}})
		refuses(t, a, key, "InvalidClientTokenId")
	})
	t.Run("SIG-8 sessions of a role that was deleted, made at either node", func(t *testing.T) {
		for _, node := range []*world{a, b} {
			role, who := session(node)
			deleteRole(role)
			refuses(t, b, who, "InvalidClientTokenId")
		}
	})
	t.Run("SIG-8 sessions that were revoked by their time", func(t *testing.T) {
		role, who := session(b)
		iam(a, "PutRolePolicy", url.Values{"RoleName": {role}, "PolicyName": {"AWSRevokeOlderSessions"}, "PolicyDocument": {
			`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"` + time.Now().Add(time.Minute).UTC().Format(time.RFC3339) + `"}}}]}`}})
		refuses(t, b, who, "AccessDenied")
	})
}

// account is the account's id.
func (w *world) account(t testing.TB) string {
	t.Helper()
	var status struct{ AccountID string }
	if err := json.Unmarshal([]byte(w.carrel(t, "status", "--json")), &status); err != nil || status.AccountID == "" {
		t.Fatalf("%+v %v", status, err)
	}
	return status.AccountID
}
