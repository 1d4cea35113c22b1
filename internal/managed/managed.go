// Package managed holds the AWS managed policies that every account has: they are the same everywhere, nobody can change or delete them, and
// they are in no store.
//
// It refuses to hold policies for services that Carrel does not have.
package managed

import "time"

// Policy is an AWS managed policy.
type Policy struct {
	// ID is its unique id ("ANPAIWMBCKSKIEE64ZLYK"), Name and Path are the end of its ARN ("arn:aws:iam::aws:policy/AdministratorAccess").
	ID, Name, Path, Description string
	// Version is its default version, and the only one here ("v1").
	Version          string
	Created, Updated time.Time
	Document         string
}

// ARN is its ARN in a partition.
func (p *Policy) ARN(partition string) string { return prefix(partition) + p.Path + p.Name }

func prefix(partition string) string { return "arn:" + partition + ":iam::aws:policy" }

// All lists them in the order of their ARNs.
func All() []*Policy { return all }

// Find finds one by its ARN.
func Find(partition, arn string) (*Policy, bool) {
	for _, p := range all {
		if p.ARN(partition) == arn {
			return p, true
		}
	}
	return nil, false
}

var all = []*Policy{
	{ID: "ANPAIWMBCKSKIEE64ZLYK", Name: "AdministratorAccess", Path: "/", Description: "Provides full access to AWS services and resources.", Version: "v1",
		Created: time.Date(2015, 2, 6, 18, 39, 46, 0, time.UTC), Updated: time.Date(2015, 2, 6, 18, 39, 46, 0, time.UTC),
		Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`},
}
