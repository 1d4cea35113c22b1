package app

import (
	"context"
	"net/http"

	"carrel/internal/authz"
	"carrel/internal/clock"
	"carrel/internal/federation/oidc"
	svcsts "carrel/internal/service/sts"
)

// federation carries out the operations of sts that nobody signs, with sessions that sts makes. Tokens and assertions live by the machine's clock, as
// signatures do.
func (h *house) federation(sts *svcsts.Service) *svcsts.Federation {
	i := h.installation
	audiences, recipients := svcsts.SignInNames(i.Partition, i.Region)
	return &svcsts.Federation{
		Sessions: sts, Audiences: audiences, Recipients: recipients, Trust: trust{h.authz},
		WebIdentities: &oidc.Verifier{Fetcher: oidc.Fetcher{Proxy: http.ProxyFromEnvironment}, Clock: clock.System{}},
	}
}

// trust has authz read trust policies for sts.
type trust struct{ authz *authz.Authorizer }

// MayAssume asks under the circumstances of the request, which come with ctx from the door: without them nothing is allowed. The door records what was
// decided.
func (t trust) MayAssume(ctx context.Context, q *svcsts.TrustQuestion) error {
	asked := &authz.Assumption{Op: q.Operation, RoleARN: q.RoleARN, Provider: q.Provider, Actions: q.Actions, Keys: q.Keys}
	if q.Role != nil {
		asked.Role = q.Role.ID
	}
	return t.authz.MayAssume(ctx, asked)
}
