package arn

import "testing"

func TestParse(t *testing.T) {
	const ws = "arn:aws:workspaces:us-east-1:123456789012:workspace/ws-f9abcdefg"
	a, err := Parse(ws)
	if err != nil || a.String() != ws || a.Resource != "workspace/ws-f9abcdefg" {
		t.Fatalf("Parse = %+v, %v", a, err)
	}
	for _, bad := range []string{"", "arn", "arn:aws:iam::1", "arn::iam::1:x", "arn:aws:::1:x", "arn:aws:iam:::", "urn:aws:iam::1:x"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("Parse(%q) accepted it", bad)
		}
	}
}

func TestUserARN(t *testing.T) {
	if got := User("aws", "123456789012", "/ops/", "ada").String(); got != "arn:aws:iam::123456789012:user/ops/ada" {
		t.Error(got)
	}
}
