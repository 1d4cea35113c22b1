// Package managed holds the AWS managed policies that every account has: they are the same everywhere, nobody can change or delete them, and
// they are in no store.
//
// The documents are those that AWS publishes, of the version that is named here. Of ReadOnlyAccess and SecurityAudit, which list the actions of
// all of AWS, only what concerns the services here is kept: what is left out would match nothing.
//
// It refuses to hold policies for services that Carrel does not have.
package managed

import (
	"embed"
	"strings"
	"time"
)

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

// All lists them in the order of their ARNs, with the documents of the partition aws; Find gives those of others.
func All() []*Policy { return all }

// Find finds one by its ARN. The ARNs in its document are the partition's.
func Find(partition, arn string) (*Policy, bool) {
	rest, ok := strings.CutPrefix(arn, prefix(partition))
	if !ok {
		return nil, false
	}
	p, ok := byName[partition][rest]
	if !ok && byName[partition] == nil {
		// A partition that this version does not know: there is none, but what a partition is called is the configuration's word.
		if p, ok = byName["aws"][rest]; ok {
			p = p.in(partition)
		}
	}
	return p, ok
}

// in is the policy with the ARNs of a partition.
func (p *Policy) in(partition string) *Policy {
	if partition == "aws" || !strings.Contains(p.Document, `"arn:aws:`) {
		return p
	}
	q := *p
	q.Document = strings.ReplaceAll(p.Document, `"arn:aws:`, `"arn:`+partition+`:`)
	return &q
}

//go:embed documents/*.json
var documents embed.FS

// byName has the policies of each partition by the ends of their ARNs.
var byName = func() map[string]map[string]*Policy {
	partitions := map[string]map[string]*Policy{}
	for _, partition := range []string{"aws", "aws-cn", "aws-us-gov"} {
		policies := map[string]*Policy{}
		for _, p := range all {
			policies[p.Path+p.Name] = p.in(partition)
		}
		partitions[partition] = policies
	}
	return partitions
}()

// read puts the document to an entry of the table.
func read(p *Policy) *Policy {
	text, err := documents.ReadFile("documents/" + p.Name + ".json")
	if err != nil {
		panic("managed: " + err.Error()) // the file is part of the program
	}
	p.Document = strings.TrimSuffix(string(text), "\n")
	return p
}

// at reads a time of the table.
func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic("managed: " + err.Error())
	}
	return t
}
