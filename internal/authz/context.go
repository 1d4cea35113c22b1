package authz

import (
	"strconv"
	"time"

	"carrel/internal/identity"
	"carrel/internal/policy"
)

// The global condition keys (reference 5.4).
var (
	keySourceIP        = policy.NewKey("aws:SourceIp")
	keySourceVPC       = policy.NewKey("aws:SourceVpc")
	keySourceVPCE      = policy.NewKey("aws:SourceVpce")
	keyVPCSourceIP     = policy.NewKey("aws:VpcSourceIp")
	keySecureTransport = policy.NewKey("aws:SecureTransport")
	keyCurrentTime     = policy.NewKey("aws:CurrentTime")
	keyEpochTime       = policy.NewKey("aws:EpochTime")
	keyRequestedRegion = policy.NewKey("aws:RequestedRegion")
	keyViaService      = policy.NewKey("aws:ViaAWSService")
	keyIsService       = policy.NewKey("aws:PrincipalIsAWSService")
	keyUserAgent       = policy.NewKey("aws:UserAgent")
	keyReferer         = policy.NewKey("aws:Referer")
	keyMFAPresent      = policy.NewKey("aws:MultiFactorAuthPresent")
	keyMFAAge          = policy.NewKey("aws:MultiFactorAuthAge")
	keyTokenIssueTime  = policy.NewKey("aws:TokenIssueTime")
	keyPrincipalARN    = policy.NewKey("aws:PrincipalArn")
	keyPrincipalAcc    = policy.NewKey("aws:PrincipalAccount")
	keyPrincipalType   = policy.NewKey("aws:PrincipalType")
	keyUserID          = policy.NewKey("aws:userid")
	keyUserName        = policy.NewKey("aws:username")
	keyProvider        = policy.NewKey("aws:FederatedProvider")
	keySourceIdentity  = policy.NewKey("aws:SourceIdentity")
	keyResourceAccount = policy.NewKey("aws:ResourceAccount")
	keyTagKeys         = policy.NewKey("aws:TagKeys")
	keyEC2Region       = policy.NewKey("ec2:Region") // Of all actions of ec2.
)

const timeLayout = "2006-01-02T15:04:05Z"

// setCaller sets what belongs to who signed. Keys that are sometimes missing are missing exactly when AWS leaves them out: policies use
// Null and ...IfExists on them.
func (a *Authorizer) setCaller(d *Decision, ask *Ask) {
	r, p, s := &d.request, ask.Principal, ask.Principal.Session()
	kind, principalARN := "User", p.ARN()
	switch p.Type() {
	case identity.Root:
		kind = "Account"
	case identity.AssumedRole:
		// The role, and not its session: a policy about a role holds for all its sessions.
		kind, principalARN = "AssumedRole", p.Issuer()
	case identity.FederatedUser:
		kind = "FederatedUser"
	default:
		r.Set(keyUserName, p.Name())
	}
	r.Set(keyPrincipalType, kind)
	r.Set(keyPrincipalARN, principalARN)
	r.Set(keyPrincipalAcc, p.AccountID())
	r.Set(keyUserID, p.UserID())
	r.Set(keyIsService, "false")
	for k, v := range d.subject.tags(s) {
		r.Set(policy.NewKey("aws:PrincipalTag/"+k), v)
	}
	if s != nil {
		a.setSession(d, s)
	}
	a.setFactor(d, ask)
}

// setFactor sets when a second factor was shown: for the session, or just now with the request itself. Long-term credentials alone have no such keys.
func (a *Authorizer) setFactor(d *Decision, ask *Ask) {
	s, now := ask.Principal.Session(), ask.Circumstances.Now
	shown := now
	if !rowOf(ask.Op).shows(ask.Input) {
		if s == nil {
			return
		}
		shown = s.MFA
	}
	d.request.Set(keyMFAPresent, strconv.FormatBool(!shown.IsZero()))
	if !shown.IsZero() {
		d.request.Set(keyMFAAge, strconv.FormatInt(int64(now.Sub(shown)/time.Second), 10))
	}
}

// setSession sets the keys of temporary credentials.
func (a *Authorizer) setSession(d *Decision, s *identity.Session) {
	r := &d.request
	r.Set(keyTokenIssueTime, s.Issued.UTC().Format(timeLayout))
	if s.Provider != "" {
		r.Set(keyProvider, s.Provider)
	}
	if s.SourceIdentity != "" {
		r.Set(keySourceIdentity, s.SourceIdentity)
	}
	for name, values := range s.Claims {
		r.SetAll(policy.NewKey(name), values)
	}
}

// setCircumstances sets what the listener knows. aws:SourceIp and the keys of an endpoint exclude each other, and only the listener says
// which it is: no header does (VPC-1).
func (a *Authorizer) setCircumstances(d *Decision, c *Circumstances, region string) {
	r := &d.request
	source := ""
	if c.Source.IsValid() {
		source = c.Source.WithZone("").String()
	}
	switch e := c.Endpoint; {
	case e != nil:
		r.Set(keySourceVPC, e.VPC)
		r.Set(keySourceVPCE, e.ID)
		if source != "" {
			r.Set(keyVPCSourceIP, source)
		}
	case source != "":
		r.Set(keySourceIP, source)
	}
	r.Set(keySecureTransport, strconv.FormatBool(c.TLS))
	now := a.secondOf(c.Now)
	r.Set(keyCurrentTime, now.current)
	r.Set(keyEpochTime, now.epoch)
	r.Set(keyRequestedRegion, region)
	if d.op != nil && d.op.Service.Name == "ec2" {
		r.Set(keyEC2Region, region)
	}
	r.Set(keyViaService, "false")
	if c.UserAgent != "" {
		r.Set(keyUserAgent, c.UserAgent)
	}
	if c.Referer != "" {
		r.Set(keyReferer, c.Referer)
	}
}

// second is a second in the words of its condition keys.
type second struct {
	unix           int64
	current, epoch string
}

// secondOf is the second of now. Most requests come within that of the one before.
func (a *Authorizer) secondOf(now time.Time) *second {
	unix := now.Unix()
	if s := a.second.Load(); s != nil && s.unix == unix {
		return s
	}
	s := &second{unix: unix, current: now.UTC().Format(timeLayout), epoch: strconv.FormatInt(unix, 10)}
	a.second.Store(s)
	return s
}
