package authz_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/workspaces"
	"carrel/internal/authz"
	"carrel/internal/identity/identitytest"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

// BenchmarkDecide decides about a list and about a batch of 25, for a user with twenty statements.
func BenchmarkDecide(b *testing.B) {
	db := statetest.NewDB(b)
	var text strings.Builder
	for i := range 20 {
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, `{"Effect":"Allow","Action":["workspaces:Describe*","workspaces:T*"],"Resource":"%sworkspace/ws-%02d*","Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}}`, prefix, i)
	}
	text.WriteString(`,{"Effect":"Allow","Action":"workspaces:Describe*","Resource":"*"}`)
	id := identitytest.AddUser(b, db, "ada")
	if _, err := db.Update(b.Context(), func(tx *state.Tx) error {
		old, _ := state.Get(tx, state.Users, string(id))
		u := state.Clone(old)
		u.Inline = map[string]string{"Own": `{"Version":"2012-10-17","Statement":[` + text.String() + `]}`}
		state.Put(tx, state.Users, u)
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	p := identitytest.Principal(b, db, identitytest.AddKey(b, db, id))
	a := &authz.Authorizer{DB: db, Account: identitytest.Account, Region: identitytest.Region, Partition: identitytest.Partition}
	at := authz.Circumstances{Now: time.Unix(1772600767, 0), Source: netip.MustParseAddr("192.0.2.7"), TLS: true, UserAgent: "aws-cli/2"}
	var ids []string
	for i := range 25 {
		ids = append(ids, fmt.Sprintf("ws-%02d%07d", i%20, i))
	}
	for name, ask := range map[string]*authz.Ask{
		"list":     {Principal: p, Op: workspaces.DescribeWorkspaces.Operation, Input: &workspaces.DescribeWorkspacesInput{}, Circumstances: &at},
		"batch-25": {Principal: p, Op: workspaces.TerminateWorkspaces.Operation, Input: terminate(ids...), Circumstances: &at},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var record []byte
			for b.Loop() {
				d := a.Decide(ask)
				if !d.Allowed {
					b.Fatal(d.Denial(context.Background()))
				}
				record = d.AppendJSON(record[:0])
				d.Release()
			}
		})
		b.Run(name+"-without-record", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a.Decide(ask).Release()
			}
		})
	}
}
