package managed_test

import (
	"slices"
	"strings"
	"testing"

	"carrel/internal/ident"
	"carrel/internal/managed"
	"carrel/internal/policy"
)

func TestEveryManagedPolicyIsAPolicy(t *testing.T) {
	ids := map[string]bool{}
	var arns []string
	for _, p := range managed.All() {
		t.Run(p.Name, func(t *testing.T) {
			if _, err := policy.Parse(policy.Identity, p.Document); err != nil {
				t.Error(err)
			}
			if n := policy.Size(p.Document); n > policy.ManagedQuota.Max {
				t.Errorf("%d characters", n)
			}
			if _, err := ident.ParsePolicyID(p.ID); err != nil || ids[p.ID] {
				t.Errorf("id %s: %v, twice: %v", p.ID, err, ids[p.ID])
			}
			ids[p.ID] = true
			if p.Path != "/" && p.Path != "/aws-service-role/" || p.Description == "" || len(p.Version) < 2 || p.Version[0] != 'v' || p.Created.IsZero() || p.Updated.Before(p.Created) {
				t.Errorf("%+v", p)
			}
			for _, partition := range []string{"aws", "aws-cn", "aws-us-gov", "aws-elsewhere"} {
				q, ok := managed.Find(partition, p.ARN(partition))
				if !ok || q.ID != p.ID {
					t.Fatalf("%s is not found in %s", p.Name, partition)
				}
				d, err := policy.Parse(policy.Identity, q.Document)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range d.Statements {
					for _, r := range s.Resources {
						if strings.HasPrefix(r, "arn:") && !strings.HasPrefix(r, "arn:"+partition+":") && !strings.HasPrefix(r, "arn:*:") {
							t.Errorf("%s in %s", r, partition)
						}
					}
				}
			}
		})
		arns = append(arns, p.ARN("aws"))
	}
	if !slices.IsSorted(arns) || len(slices.Compact(arns)) != len(managed.All()) {
		t.Errorf("not in order, or one twice: %v", arns)
	}
}

func TestAnotherPartitionsPolicyIsNotFound(t *testing.T) {
	for _, arn := range []string{"arn:aws:iam::aws:policy/AWSDenyAll", "arn:aws-cn:iam::aws:policy/AWSDenyal", "arn:aws-cn:iam::123456789012:policy/AWSDenyAll", "", "arn:aws-cn:iam::aws:policy"} {
		if p, ok := managed.Find("aws-cn", arn); ok {
			t.Errorf("%s finds %s", arn, p.Name)
		}
	}
}

// What reference 5.6 says of it.
func TestTheWorkSpacesAdminHasItsActions(t *testing.T) {
	p, ok := managed.Find("aws", "arn:aws:iam::aws:policy/AmazonWorkSpacesAdmin")
	if !ok {
		t.Fatal("missing")
	}
	d, err := policy.Parse(policy.Identity, p.Document)
	if err != nil || len(d.Statements) != 1 || len(d.Statements[0].Actions) != 34 || !slices.Contains(d.Statements[0].Actions, "workspaces:TerminateWorkspaces") {
		t.Errorf("%+v, %v", d, err)
	}
}
