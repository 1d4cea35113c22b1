package sts

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/awserr"
	"carrel/internal/federation/saml/samltest"
	"carrel/internal/ident"
	"carrel/internal/state"
)

func TestWhatSessionsOfAssertionsHaveRoomFor(t *testing.T) {
	w := newWorld(t)
	out, err := w.saml(t, w.response(t))
	if err != nil {
		t.Fatal(err)
	}
	if of, ok := ident.SessionKeyID(*out.Credentials.AccessKeyId).Account(); !ok || of != account {
		t.Errorf("the key %s is of account %q", *out.Credentials.AccessKeyId, of)
	}
	t.Run("tags that are too long together", func(t *testing.T) {
		var wide []samltest.Attr
		for i := range 30 {
			wide = append(wide, attr(fmt.Sprintf("PrincipalTag:%0128d", i), strings.Repeat("x", 20)))
		}
		_, err := w.saml(t, w.response(t, wide...))
		refused(t, err, "PackedPolicyTooLarge", "Packed size of session tags consumes 109% of allotted space.")
	})
	t.Run("more than a token holds", func(t *testing.T) {
		affiliations := make([]string, 500)
		for i := range affiliations {
			affiliations[i] = rand.Text() + rand.Text()
		}
		_, err := w.saml(t, w.response(t, samltest.Attr{Name: "urn:oid:1.3.6.1.4.1.5923.1.1.1.1", Values: affiliations}))
		refused(t, err, "PackedPolicyTooLarge", "Serialized token too large for session")
	})
	t.Run("while the store makes no key to seal with it is not available", func(t *testing.T) {
		response := w.response(t)
		w.update(t, func(tx *state.Tx) {
			for key := range state.All(tx, state.TokenKeys) {
				state.Delete(tx, state.TokenKeys, key.ID)
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := w.AssumeRoleWithSAML(ctx, w.call(), &sts.AssumeRoleWithSAMLInput{RoleArn: shape.Ptr(roleARN), PrincipalArn: shape.Ptr(samlARN), SAMLAssertion: &response})
		if e := awserr.From(err); err == nil || e.Kind == awserr.Internal {
			t.Errorf("%v", err)
		}
		if _, err := w.saml(t, response); err != nil {
			t.Errorf("the assertion was spent: %v", err)
		}
	})
}
