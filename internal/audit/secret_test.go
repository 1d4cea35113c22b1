package audit_test

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/cloudtrail"
	"carrel/internal/api/ds"
	"carrel/internal/api/dsdata"
	"carrel/internal/api/ec2"
	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/api/workspaces"
	"carrel/internal/audit"
)

// suspicious are names of members that sound like secrets.
var suspicious = regexp.MustCompile(`(?i)passw|passphrase|secret|token|seed|qrcode|assertion|privatekey|authenticationcode|credential|presharedkey|otp`)

// harmless are the members that sound so and are none, each with its reason.
var harmless = map[string]string{
	"NextToken":       "a position in a list, sealed where it could tell anything",
	"ClientToken":     "names a request, so that it is not carried out twice",
	"PreSharedKeyArn": "the name of a secret", "PreSharedKeyStorage": "a setting",
	"ApplicationConfigSecretArn": "the name of a secret", "ServiceAccountSecretArn": "the name of a secret",
	"ForgotPasswordLink": "an address", "AssertionEncryptionMode": "a setting", "GlobalEndpointTokenVersion": "a version",
	"SubjectFromWebIdentityToken": "who somebody is", "RemovePrivateKey": "the id of a key",
}

const canary = "canary-7b1f"

func TestNoMemberThatSoundsSecretIsEverWritten(t *testing.T) {
	seen, hidden := map[string]bool{}, 0
	for _, s := range []*shape.Service{workspaces.Service, ds.Service, dsdata.Service, sts.Service, iam.Service, ec2.Service, cloudtrail.Service} {
		for _, op := range s.Operations {
			for _, side := range []struct {
				name string
				of   *shape.Shape
				into any
				doc  func(*shape.Operation, any) audit.Document
			}{{"input", op.Input, op.NewInput(), audit.Parameters}, {"output", op.Output, op.NewOutput(), audit.Elements}} {
				if side.of == nil {
					continue
				}
				walk(side.of, reflect.ValueOf(side.into).Elem(), 0, func(name string, v reflect.Value) {
					if !suspicious.MatchString(name) {
						return
					}
					if harmless[name] != "" {
						seen[name] = true
						return
					}
					plant(v)
					if got := side.doc(op, side.into).String(); strings.Contains(got, canary) || strings.Contains(got, "Y2FuYXJ5") {
						t.Errorf("%s %s writes the %s member %s: hide it (secret.go) or say here why it is harmless", s.Name, op.Name, side.name, name)
					}
					hidden++
				})
			}
		}
	}
	if hidden < 20 {
		t.Errorf("only %d members were looked at", hidden)
	}
	for name := range harmless {
		if !seen[name] {
			t.Errorf("no model has the member %s any more", name)
		}
	}
}

// walk fills a structure as far as it goes and visits its members that hold text.
func walk(s *shape.Shape, v reflect.Value, depth int, visit func(string, reflect.Value)) {
	if depth > 12 {
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch s.Kind {
	case shape.Structure:
		for i := range s.Fields {
			f, of := v.Field(i), s.Fields[i].Of
			saved := reflect.ValueOf(f.Interface())
			walk(of, f, depth+1, visit)
			if holdsText(of) {
				visit(s.Fields[i].Name, f)
			}
			if saved.IsValid() {
				f.Set(saved) // what one member held must not hide another behind the limits of a document
			} else {
				f.SetZero()
			}
		}
	case shape.List:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		walk(s.Elem, v.Index(0), depth+1, visit)
	case shape.Map:
		elem := reflect.New(v.Type().Elem()).Elem()
		put := func() {
			m := reflect.MakeMap(v.Type())
			m.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), elem)
			v.Set(m)
		}
		put()
		walk(s.Elem, elem, depth+1, func(name string, member reflect.Value) {
			// A map's values are copies: the member is planted before the map is made again.
			if suspicious.MatchString(name) && harmless[name] == "" {
				plant(member)
			}
			put()
			visit(name, member)
		})
	}
}

func holdsText(s *shape.Shape) bool {
	switch s.Kind {
	case shape.String, shape.Blob:
		return true
	case shape.List:
		return holdsText(s.Elem)
	}
	return false
}

// plant puts the canary into a member.
func plant(v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.String:
		v.SetString(canary)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		v.SetBytes([]byte(canary))
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		plant(v.Index(0))
	}
}

func TestCredentialsAreRecordedByTheirKeyAlone(t *testing.T) {
	out := &sts.AssumeRoleOutput{Credentials: &sts.Credentials{AccessKeyId: shape.Ptr("ASIAEXAMPLE"), SecretAccessKey: shape.Ptr(canary),
		SessionToken: shape.Ptr(canary), Expiration: shape.Ptr(time.Unix(0, 0))}}
	const want = `{"credentials":{"accessKeyId":"ASIAEXAMPLE","expiration":"1970-01-01T00:00:00Z","secretAccessKey":"HIDDEN_DUE_TO_SECURITY_REASONS",` +
		`"sessionToken":"HIDDEN_DUE_TO_SECURITY_REASONS"}}`
	if got := audit.Elements(sts.AssumeRole.Operation, out).String(); got != want {
		t.Errorf("got %s", got)
	}
}
