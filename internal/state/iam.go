package state

import (
	"strings"
	"time"

	"carrel/internal/ident"
)

// Permissions are the policies that a user, group or role has of its own.
type Permissions struct {
	// Inline are the texts of its inline policies, as they were put, by their names.
	Inline map[string]string `json:",omitempty"`
	// Attached are the ARNs of its managed policies, sorted.
	Attached []string `json:",omitempty"`
}

// User is an IAM user.
type User struct {
	Meta
	// Name is as created; names are unique without regard to case.
	Name string
	ID   ident.UserID
	Path string
	Permissions
	// Boundary is the ARN of the managed policy that bounds its permissions; empty: none does.
	Boundary string `json:",omitempty"`
	// Groups are the groups it is in, sorted.
	Groups []ident.GroupID `json:",omitempty"`
	// Login is its login profile, nil when it has none.
	Login *Login `json:",omitempty"`
}

// Login is a user's login profile: a password.
type Login struct {
	Created time.Time
	// Changed is when the password was set.
	Changed time.Time
	// Hash is of the password, with its method and salt; History are those of earlier ones, the newest first.
	Hash          Secret
	History       []Secret `json:",omitempty"`
	ResetRequired bool     `json:",omitempty"`
}

// AccessKey is a long-term access key of an IAM user or of the account's root.
type AccessKey struct {
	Meta
	ID ident.AccessKeyID
	// UserID is empty for the root's keys.
	UserID ident.UserID `json:",omitempty"`
	// Secret signs; see Secret for what keeps it out of logs.
	Secret Secret
	Active bool
}

// Group is an IAM group. Its members say that they are in it.
type Group struct {
	Meta
	ID   ident.GroupID
	Name string
	Path string
	Permissions
}

// Role is an IAM role.
type Role struct {
	Meta
	ID          ident.RoleID
	Name        string
	Path        string
	Description string `json:",omitempty"`
	// Trust is its trust policy in policy's own writing. The users and roles it names are named by their unique ids, so that whoever is made again
	// under an old name is not trusted.
	Trust string
	// MaxSession is how long a session of it may last, in seconds.
	MaxSession int
	Permissions
	Boundary string `json:",omitempty"`
	// Service is the service that the role is linked to ("workspaces.amazonaws.com"); empty: to none.
	Service string `json:",omitempty"`
}

// Policy is a customer managed policy.
type Policy struct {
	Meta
	ID          ident.PolicyID
	Name        string
	Path        string
	Description string `json:",omitempty"`
	// Updated is when a version was made, deleted or made the default.
	Updated time.Time
	// Versions are in the order they were made in; Default is the one that counts, Next the number of the next one.
	Versions []PolicyVersion
	Default  string
	Next     int
}

// PolicyVersion is a version of a managed policy: "v1".
type PolicyVersion struct {
	ID       string
	Document string
	Created  time.Time
}

// Text is the default version's document.
func (p *Policy) Text() string {
	for i := range p.Versions {
		if p.Versions[i].ID == p.Default {
			return p.Versions[i].Document
		}
	}
	return ""
}

// MFADevice is a virtual MFA device (TOTP, RFC 6238).
type MFADevice struct {
	Meta
	// Serial is its ARN: "arn:aws:iam::123456789012:mfa/ada".
	Serial string
	Name   string
	Path   string
	Seed   Secret
	// UserID is whose it is: a user's unique id, RootDevice for the account's root, empty while it is nobody's.
	UserID  string    `json:",omitempty"`
	Enabled time.Time `json:",omitzero"`
	// Step is the last time step whose code was taken: none is taken twice. Drift is how many steps the device's clock is ahead.
	Step  int64 `json:",omitempty"`
	Drift int64 `json:",omitempty"`
	// Guessed is when the last of the wrong codes that were shown will be forgiven; zero: none was.
	Guessed time.Time `json:",omitzero"`
}

// RootDevice is the MFADevice.UserID of the account's root.
const RootDevice = "root"

// InstanceProfile is an instance profile; it is stored and shown, no desktop has one.
type InstanceProfile struct {
	Meta
	ID     ident.InstanceProfileID
	Name   string
	Path   string
	RoleID ident.RoleID `json:",omitempty"`
}

// RoleDeletion is a service-linked role's deletion that was asked for and has been done. It is kept for a while, so that it can be asked after.
type RoleDeletion struct {
	Meta
	// ID is the DeletionTaskId: "task/aws-service-role/ds.amazonaws.com/AWSServiceRoleForDirectoryService/" and a UUID.
	ID string
}

// SAMLProvider is a SAML 2.0 identity provider.
type SAMLProvider struct {
	Meta
	Name string
	UUID string
	// Metadata is the provider's metadata document; ValidUntil what it says, or a hundred years from when it was given.
	Metadata   string
	ValidUntil time.Time
	// Encryption is the AssertionEncryptionMode ("Required", "Allowed"), Keys decrypt assertions; empty: they must not be encrypted.
	Encryption string           `json:",omitempty"`
	Keys       []SAMLPrivateKey `json:",omitempty"`
}

// SAMLPrivateKey decrypts assertions.
type SAMLPrivateKey struct {
	ID    string
	Added time.Time
	PEM   Secret
}

// OIDCProvider is an OpenID Connect identity provider.
type OIDCProvider struct {
	Meta
	// URL is the issuer without "https://": "idp.example.org/realms/desk".
	URL         string
	ClientIDs   []string `json:",omitempty"`
	Thumbprints []string `json:",omitempty"`
}

// Account is what is set for the account as a whole; there is one record once something is set.
type Account struct {
	Meta
	Alias     string          `json:",omitempty"`
	Passwords *PasswordPolicy `json:",omitempty"`
	// TokenVersion is the GlobalEndpointTokenVersion that was chosen.
	TokenVersion string `json:",omitempty"`
	// Reported is when the last credential report was made.
	Reported time.Time `json:",omitzero"`
	// Guardrails say what anybody in the account, its root included, may do at most: texts of AWS's service control policies, by name. None: no limit.
	Guardrails map[string]string `json:",omitempty"`
}

// PasswordPolicy is the account's password policy; the numbers are 0 where nothing is asked for.
type PasswordPolicy struct {
	MinLength, MaxAgeDays, Remembered int  `json:",omitempty"`
	Symbols, Numbers, Upper, Lower    bool `json:",omitempty"`
	UsersMayChange, HardExpiry        bool `json:",omitempty"`
}

// TokenKey seals session tokens. The newest one seals, each opens what it has sealed; it is deleted when all of that has expired.
type TokenKey struct {
	Meta
	// ID is short and random; tokens begin with it.
	ID     string
	Secret Secret
}

// Spent is something that may be used once and has been: an assertion, a token of an identity provider.
type Spent struct {
	Meta
	// ID is a hash of what and whose it is. After Until it would be refused anyway, and the record may go.
	ID    string
	Until time.Time
}

// Use is the last request that a key, or a session of a role, has signed.
type Use struct {
	Meta
	// ID is the key's or the role's. Service is the signing name ("workspaces"), Region that of the credential scope.
	ID              string
	At              time.Time
	Service, Region string
}

// The tables of identities.
const (
	UserTable            Table = "user"
	AccessKeyTable       Table = "accesskey"
	GroupTable           Table = "group"
	RoleTable            Table = "role"
	PolicyTable          Table = "policy"
	MFADeviceTable       Table = "mfadevice"
	InstanceProfileTable Table = "instanceprofile"
	RoleDeletionTable    Table = "roledeletion"
	SAMLProviderTable    Table = "samlprovider"
	OIDCProviderTable    Table = "oidcprovider"
	AccountTable         Table = "account"
	TokenKeyTable        Table = "tokenkey"
	SpentTable           Table = "spent"
	UseTable             Table = "use"
)

// Users, groups, roles, policies and instance profiles are stored under their unique ids; the name is an index, in lower case, and a Claim.
var (
	UsersByName = Index[User]{"name", func(u *User, keys []string) []string { return append(keys, strings.ToLower(u.Name)) }}
	// UsersByGroup finds a group's members by its id, UsersByPolicy whom a managed policy is attached to, UsersByBoundary whom it bounds, by its ARN.
	UsersByGroup = Index[User]{"group", func(u *User, keys []string) []string {
		for _, g := range u.Groups {
			keys = append(keys, string(g))
		}
		return keys
	}}
	UsersByPolicy   = Index[User]{"policy", func(u *User, keys []string) []string { return append(keys, u.Attached...) }}
	UsersByBoundary = Index[User]{"boundary", func(u *User, keys []string) []string { return given(keys, u.Boundary) }}
	Users           = &Definition[User]{Table: UserTable, ID: func(r *User) string { return string(r.ID) }, Meta: func(r *User) *Meta { return &r.Meta },
		Indexes: []Index[User]{UsersByName, UsersByGroup, UsersByPolicy, UsersByBoundary}}

	// AccessKeysByUser finds a user's keys; the root's keys stand under "root".
	AccessKeysByUser = Index[AccessKey]{"user", func(k *AccessKey, keys []string) []string {
		if k.UserID == "" {
			return append(keys, "root")
		}
		return append(keys, string(k.UserID))
	}}
	AccessKeys = &Definition[AccessKey]{Table: AccessKeyTable, ID: func(r *AccessKey) string { return string(r.ID) }, Meta: func(r *AccessKey) *Meta { return &r.Meta }, Indexes: []Index[AccessKey]{AccessKeysByUser}}

	GroupsByName   = Index[Group]{"name", func(g *Group, keys []string) []string { return append(keys, strings.ToLower(g.Name)) }}
	GroupsByPolicy = Index[Group]{"policy", func(g *Group, keys []string) []string { return append(keys, g.Attached...) }}
	Groups         = &Definition[Group]{Table: GroupTable, ID: func(r *Group) string { return string(r.ID) }, Meta: func(r *Group) *Meta { return &r.Meta },
		Indexes: []Index[Group]{GroupsByName, GroupsByPolicy}}

	RolesByName     = Index[Role]{"name", func(r *Role, keys []string) []string { return append(keys, strings.ToLower(r.Name)) }}
	RolesByPolicy   = Index[Role]{"policy", func(r *Role, keys []string) []string { return append(keys, r.Attached...) }}
	RolesByBoundary = Index[Role]{"boundary", func(r *Role, keys []string) []string { return given(keys, r.Boundary) }}
	Roles           = &Definition[Role]{Table: RoleTable, ID: func(r *Role) string { return string(r.ID) }, Meta: func(r *Role) *Meta { return &r.Meta },
		Indexes: []Index[Role]{RolesByName, RolesByPolicy, RolesByBoundary}}

	PoliciesByName = Index[Policy]{"name", func(p *Policy, keys []string) []string { return append(keys, strings.ToLower(p.Name)) }}
	Policies       = &Definition[Policy]{Table: PolicyTable, ID: func(r *Policy) string { return string(r.ID) }, Meta: func(r *Policy) *Meta { return &r.Meta }, Indexes: []Index[Policy]{PoliciesByName}}

	// MFADevicesByUser finds the devices of a user by the unique id, the root's under RootDevice.
	MFADevicesByUser = Index[MFADevice]{"user", func(d *MFADevice, keys []string) []string { return given(keys, d.UserID) }}
	MFADevices       = &Definition[MFADevice]{Table: MFADeviceTable, ID: func(r *MFADevice) string { return r.Serial }, Meta: func(r *MFADevice) *Meta { return &r.Meta }, Indexes: []Index[MFADevice]{MFADevicesByUser}}

	InstanceProfilesByName = Index[InstanceProfile]{"name", func(p *InstanceProfile, keys []string) []string { return append(keys, strings.ToLower(p.Name)) }}
	InstanceProfilesByRole = Index[InstanceProfile]{"role", func(p *InstanceProfile, keys []string) []string { return given(keys, string(p.RoleID)) }}
	InstanceProfiles       = &Definition[InstanceProfile]{Table: InstanceProfileTable, ID: func(r *InstanceProfile) string { return string(r.ID) }, Meta: func(r *InstanceProfile) *Meta { return &r.Meta },
		Indexes: []Index[InstanceProfile]{InstanceProfilesByName, InstanceProfilesByRole}}

	RoleDeletions = &Definition[RoleDeletion]{Table: RoleDeletionTable, ID: func(r *RoleDeletion) string { return r.ID }, Meta: func(r *RoleDeletion) *Meta { return &r.Meta }}

	// A SAML provider is stored under its name, an OIDC provider under its URL.
	SAMLProviders = &Definition[SAMLProvider]{Table: SAMLProviderTable, ID: func(r *SAMLProvider) string { return r.Name }, Meta: func(r *SAMLProvider) *Meta { return &r.Meta }}
	OIDCProviders = &Definition[OIDCProvider]{Table: OIDCProviderTable, ID: func(r *OIDCProvider) string { return r.URL }, Meta: func(r *OIDCProvider) *Meta { return &r.Meta }}

	Accounts  = &Definition[Account]{Table: AccountTable, ID: func(*Account) string { return "this" }, Meta: func(r *Account) *Meta { return &r.Meta }}
	TokenKeys = &Definition[TokenKey]{Table: TokenKeyTable, ID: func(r *TokenKey) string { return r.ID }, Meta: func(r *TokenKey) *Meta { return &r.Meta }}
	Uses      = &Definition[Use]{Table: UseTable, ID: func(r *Use) string { return r.ID }, Meta: func(r *Use) *Meta { return &r.Meta }}

	SpentOnes = &Definition[Spent]{Table: SpentTable, ID: func(r *Spent) string { return r.ID }, Meta: func(r *Spent) *Meta { return &r.Meta }}
)

// RoleClaim is what holds a role's name: names are unique without regard to case.
func RoleClaim(name string) string { return "role/" + strings.ToLower(name) }

// given appends the index key of something that may be missing.
func given(keys []string, s string) []string {
	if s == "" {
		return keys
	}
	return append(keys, s)
}
