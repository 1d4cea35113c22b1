package audit

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestUserIdentitiesAreShapedLikeCloudTrails(t *testing.T) {
	issued := time.Date(2026, 11, 23, 9, 0, 0, 0, time.FixedZone("", 3600))
	const attributes = `"attributes":{"creationDate":"2026-11-23T08:00:00Z","mfaAuthenticated":"false"}`
	tests := []struct {
		name string
		who  UserIdentity
		want string
	}{
		{"a session of GetSessionToken has attributes only", UserIdentity{Type: "IAMUser", UserName: "ada", SessionContext: &SessionContext{CreationDate: issued}},
			`{"type":"IAMUser","userName":"ada","sessionContext":{` + attributes + `}}`},
		{"a second factor and a source identity are told", UserIdentity{Type: "Root", SessionContext: &SessionContext{CreationDate: issued, MFA: true, SourceIdentity: "ada"}},
			`{"type":"Root","sessionContext":{` + strings.Replace(attributes, "false", "true", 1) + `,"sourceIdentity":"ada"}}`},
		{"a federated user of the root has an issuer without a name", UserIdentity{Type: "FederatedUser", SessionContext: &SessionContext{CreationDate: issued,
			SessionIssuer: SessionIssuer{Type: "Root", PrincipalID: "123456789012", ARN: "arn:aws:iam::123456789012:root", AccountID: "123456789012"}}},
			`{"type":"FederatedUser","sessionContext":{"sessionIssuer":{"type":"Root","principalId":"123456789012","arn":"arn:aws:iam::123456789012:root",` +
				`"accountId":"123456789012"},` + attributes + `}}`},
		{"an OpenID Connect provider's word is told in the order of its keys", UserIdentity{Type: "AssumedRole", SessionContext: &SessionContext{CreationDate: issued,
			SessionIssuer:   SessionIssuer{Type: "Role", PrincipalID: "AROA1", ARN: "arn:aws:iam::123456789012:role/r", AccountID: "123456789012", UserName: "r"},
			WebIDFederation: &Federation{Provider: "idp.example.com", Attributes: map[string]string{"idp.example.com:sub": "42", "idp.example.com:aud": "a\n"}}}},
			`{"type":"AssumedRole","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROA1","arn":"arn:aws:iam::123456789012:role/r",` +
				`"accountId":"123456789012","userName":"r"},"webIdFederationData":{"federatedProvider":"idp.example.com","attributes":{"idp.example.com:aud":"a\n",` +
				`"idp.example.com:sub":"42"}},` + attributes + `}}`},
		{"who comes with a provider's word has no ARN", UserIdentity{Type: "SAMLUser", PrincipalID: "q:ada", UserName: "ada", IdentityProvider: "q"},
			`{"type":"SAMLUser","principalId":"q:ada","userName":"ada","identityProvider":"q"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.who.append(nil)
			if string(got) != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			var again UserIdentity
			if err := json.Unmarshal(got, &again); err != nil || !bytes.Equal(again.append(nil), got) {
				t.Errorf("reads back as %s, %v", again.append(nil), err)
			}
		})
	}
}

func TestDecisionDocuments(t *testing.T) {
	t.Run("a decision stands in additionalEventData and reads back", func(t *testing.T) {
		d, err := DecisionDocument([]byte(`{"id":"d-1","allowed":false}`))
		if err != nil {
			t.Fatal(err)
		}
		r := record("e1")
		r.Decision = d
		got := r.AppendJSON(nil)
		if !bytes.Contains(got, []byte(`,"additionalEventData":{"decision":{"id":"d-1","allowed":false}},"requestID":"r-e1"`)) {
			t.Errorf("got %s", got)
		}
		var again Record
		if err := json.Unmarshal(got, &again); err != nil || !bytes.Equal(again.AppendJSON(nil), got) {
			t.Errorf("reads back as %s, %v", again.AppendJSON(nil), err)
		}
	})
	t.Run("what reorders or hides text is escaped", func(t *testing.T) {
		d, err := DecisionDocument([]byte("{\"sid\":\"\u202egpj\x7f\u2028 \xff漢\"}"))
		if want := `{"sid":"\u202egpj\u007f\u2028 \ufffd漢"}`; err != nil || d.String() != want {
			t.Errorf("got %s, %v, want %s", d, err, want)
		}
	})
	for name, in := range map[string]string{
		"nothing": "", "no object": `"x"`, "a list": `[{}]`, "two objects": `{}{}`, "a broken object": `{"a":`, "a line feed between tokens": "{\n}",
		"a tab between tokens": "{\t}", "more than 32 KiB": `{"a":"` + strings.Repeat("x", MaxDecision) + `"}`,
		"more than 32 KiB when escaped": `{"a":"` + strings.Repeat("\u202e", MaxDecision/4) + `"}`, "white space before it": " {}",
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			if d, err := DecisionDocument([]byte(in)); err == nil || d.raw != nil {
				t.Errorf("accepted as %.60s", d)
			}
		})
	}
}

func FuzzDecisionDocument(f *testing.F) {
	f.Add([]byte("{\"a\":\"\u2028\\u0000\"}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := DecisionDocument(in)
		if err != nil {
			return
		}
		if got := []byte(d.String()); !json.Valid(got) || got[0] != '{' || bytes.ContainsAny(got, "\n\r\t\x1b\u2028\u202e") || len(got) > MaxDecision {
			t.Errorf("%q became %q", in, got)
		}
	})
}
