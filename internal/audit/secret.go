package audit

// secrets are the names of members whose values are secrets, whatever their shape's descriptor says: AWS's models call most of them sensitive, but not
// session tokens and one-time codes. A session token is most of what a thief of the log would need; a one-time code may be good for another
// minute. A member of one of these names is hidden in every operation of every service.
var secrets = map[string]bool{
	"Password": true, "OldPassword": true, "NewPassword": true, "TrustPassword": true,
	"SecretAccessKey": true, "SessionToken": true, "TradeInToken": true, "SharedSecret": true, "PreSharedKey": true, "preSharedKey": true,
	"WebIdentityToken": true, "SAMLAssertion": true, "ContextAssertion": true,
	"TokenCode": true, "AuthenticationCode1": true, "AuthenticationCode2": true,
	"Base32StringSeed": true, "QRCodePNG": true,
	"PrivateKey": true, "AddPrivateKey": true,
}
