package oidc

import "testing"

// FuzzKeys reads key sets: every key that comes out is one that verifies can be asked of.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`)) // RFC 7515 A.3
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))                                                          // RFC 8037 A.2
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"oct","k":"AA"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := readKeys(text)
		if err != nil {
			return
		}
		token := &token{algorithm: "RS256", signed: []byte("x"), signature: []byte("y")}
		for alg := range methods {
			token.algorithm = alg
			if signed, _ := token.signedBy(keys); signed {
				t.Fatal("a signature of nothing")
			}
		}
	})
}

func TestKeySetsOfTheRFCs(t *testing.T) {
	keys, err := readKeys([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`))
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	// RFC 7515 appendix A.3.
	text := "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
	token, err := readToken(text)
	if err != nil {
		t.Fatal(err)
	}
	if signed, found := token.signedBy(keys); !signed || !found {
		t.Error("the example of RFC 7515 A.3 does not verify")
	}
}
