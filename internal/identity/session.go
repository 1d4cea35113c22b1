package identity

import (
	"carrel/internal/arn"
	"carrel/internal/ident"
	"carrel/internal/sigv4"
	"carrel/internal/state"
)

// signer is whose a signature may be, as the newest snapshot has it.
type signer struct {
	secret state.Secret
	// key is a long-term key, session what temporary credentials say: one of them is nil.
	key     *state.AccessKey
	session *Session
	// user is whose key it is, who asked for the session token, or who made the federated user; nil: the root. role is whose session it is.
	user *state.User
	role *state.Role
}

// lookup finds who may have signed. false: nobody, whatever the reason; the caller does not learn which, for an outsider must not either.
func (a *Authenticator) lookup(sig *sigv4.Signature) (signer, bool) {
	snapshot := a.config.DB.Snapshot()
	// A key of the one kind with the other's token, or lack of one, is nobody's.
	if sig.SessionToken != "" {
		return a.holder(snapshot, sig)
	}
	id, err := ident.ParseAccessKeyID(sig.AccessKeyID)
	if err != nil {
		return signer{}, false
	}
	key, ok := state.Get(snapshot, state.AccessKeys, string(id))
	// A key without secret would verify whoever signs with the empty one.
	if !ok || !key.Active || key.Secret == "" {
		return signer{}, false
	}
	w := signer{secret: key.Secret, key: key}
	return w, w.finds(snapshot, key.UserID)
}

// holder is who holds the temporary credentials of a token: none when the token is another key's, or when the user or role that it speaks for is not
// there any more. One who was made again under the old name has another id.
func (a *Authenticator) holder(r state.Reader, sig *sigv4.Signature) (signer, bool) {
	s, err := a.config.Tokens.Open(string(sig.SessionToken))
	if err != nil || string(s.KeyID) != sig.AccessKeyID {
		return signer{}, false
	}
	w := signer{secret: s.Secret, session: s}
	switch s.Type {
	case AssumedRole:
		w.role, _ = state.Get(r, state.Roles, string(s.RoleID))
		return w, w.role != nil
	case IAMUser:
		return w, s.UserID != "" && w.finds(r, s.UserID)
	case FederatedUser:
		return w, w.finds(r, s.UserID)
	case Root:
		return w, true
	}
	return signer{}, false
}

// finds sets the user; no id is the root's.
func (w *signer) finds(r state.Reader, id ident.UserID) bool {
	if id == "" {
		return true
	}
	w.user, _ = state.Get(r, state.Users, string(id))
	return w.user != nil
}

// keyID is the key's id in text.
func (w *signer) keyID() string {
	if w.session != nil {
		return string(w.session.KeyID)
	}
	return string(w.key.ID)
}

// made is what a principal is made from, without the principal.
func (w *signer) made() known {
	m := known{session: w.session}
	if w.key != nil {
		m.key = w.key.Revision
	}
	if w.user != nil {
		m.user = w.user.Revision
	}
	if w.role != nil {
		m.role = w.role.Revision
	}
	return m
}

func (a *Authenticator) describe(w *signer) *principal {
	c := &a.config
	p := &principal{account: c.Account, keyID: w.keyID(), session: w.session}
	if w.user == nil {
		p.kind, p.arn, p.userID = Root, arn.Root(c.Partition, c.Account).String(), c.Account
	} else {
		p.kind, p.arn = IAMUser, arn.User(c.Partition, c.Account, w.user.Path, w.user.Name).String()
		p.userID, p.name, p.user = string(w.user.ID), w.user.Name, w.user.ID
	}
	switch s := w.session; {
	case s == nil:
	case s.Type == AssumedRole:
		p.kind, p.role, p.name = AssumedRole, w.role.ID, s.Name
		p.arn, p.userID = arn.Session(c.Partition, c.Account, w.role.Name, s.Name).String(), string(w.role.ID)+":"+s.Name
		p.issuer = arn.Of(c.Partition, c.Account, "role", w.role.Path+w.role.Name).String()
	case s.Type == FederatedUser:
		p.issuer = p.arn // of who made it
		p.kind, p.name = FederatedUser, s.Name
		p.arn, p.userID = arn.Federated(c.Partition, c.Account, s.Name).String(), c.Account+":"+s.Name
	}
	return p
}

// ForbiddenForSession tells that temporary credentials like p's may not call an operation of a service ("iam", "sts"), whatever policies say: those of
// GetSessionToken call iam only when a second factor was shown for them and of sts AssumeRole and GetCallerIdentity, those of GetFederationToken
// nothing of iam and of sts GetCallerIdentity (IAM User Guide, "Compare AWS STS credentials").
//
// GetSessionToken and GetFederationToken, which no temporary credentials may call, are not told here: they refuse in words of their own.
func ForbiddenForSession(p Principal, service, operation string) bool {
	s := p.Session()
	if s == nil || service == "sts" && (operation == "GetCallerIdentity" || operation == "GetSessionToken" || operation == "GetFederationToken") {
		return false
	}
	switch p.Type() {
	case FederatedUser:
		return service == "iam" || service == "sts"
	case IAMUser, Root:
		return service == "iam" && s.MFA.IsZero() || service == "sts" && operation != "AssumeRole"
	}
	return false
}
