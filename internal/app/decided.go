package app

import (
	"context"
	"encoding/json"
	"fmt"

	"carrel/internal/analysis"
	"carrel/internal/api/shape"
	"carrel/internal/audit"
	"carrel/internal/authz"
	"carrel/internal/gateway"
	"carrel/internal/ident"
)

// gatewaySource is the eventSource of what people do at the portal: their desktops are the WorkSpaces service's.
const gatewaySource = "workspaces.amazonaws.com"

// recordDecision keeps a decision of the gateway in the audit log. What is allowed is on disk when it returns, or, with audit.onFailure "continue", kept.
func (h *house) recordDecision(ctx context.Context, d gateway.Decision) error {
	if !h.tells(&d) {
		return nil
	}
	rec, err := h.decisionRecord(&d)
	if err != nil {
		return err
	}
	asked := d.Address.IsValid() // And not the end of a session, which nothing can refuse.
	return h.audit.Write(ctx, rec, asked && (d.Allowed || h.failure() == audit.StopAll))
}

// tells says whether a decision gets a record of its own. Strangers' are bounded, and attempts behind the allowance are counted only.
func (h *house) tells(d *gateway.Decision) bool {
	switch {
	case d.Allowed || d.User != "":
		return true
	case d.Check == gateway.CheckAttempts:
		return h.strangers.Count(d.Address, d.Name+" refused by "+string(d.Check))
	}
	return h.strangers.Admit(d.Address, d.Name+" refused by "+string(d.Check))
}

func (h *house) failure() audit.Failure { return audit.Failure(h.conf.Audit.OnFailure) }

// recordable says why no decision could be recorded now; nil also when people go on without records.
func (h *house) recordable() error {
	if h.failure() == audit.Continue {
		return nil
	}
	return h.audit.Health()
}

// decisionRecord is a decision of the gateway as a record of the audit log.
func (h *house) decisionRecord(d *gateway.Decision) (*audit.Record, error) {
	i := h.installation
	rec := &audit.Record{
		EventTime: d.At, EventSource: gatewaySource, EventName: d.Name, AWSRegion: i.Region, UserAgent: d.UserAgent, RequestID: d.ID, EventID: ident.UUID(random),
		// As CloudTrail has it of what a service does by itself.
		SourceIPAddress:    gatewaySource,
		RecipientAccountID: i.AccountID, UserIdentity: audit.UserIdentity{Type: "Unknown"}, RequestParameters: aboutDesktop(d), ErrorCode: portalError(d.Code), ErrorMessage: d.Message,
	}
	if d.Address.IsValid() {
		rec.SourceIPAddress = d.Address.String()
	}
	if d.User != "" {
		rec.UserIdentity = audit.UserIdentity{Type: "Directory", PrincipalID: d.SID, AccountID: i.AccountID, UserName: d.User}
	}
	text, err := json.Marshal(analysis.Recorded{ID: d.ID, Explanation: authz.Explanation{Allowed: d.Allowed, By: string(d.Check), Reason: d.Reason, Context: d.Keys}})
	if err == nil {
		rec.Decision, err = audit.DecisionDocument(text)
	}
	if err != nil {
		return nil, fmt.Errorf("decision %s: %w", d.ID, err)
	}
	return rec, nil
}

// portalError is the AWS error nearest to what a person was told.
func portalError(code string) string {
	switch code {
	case "":
		return ""
	case "no-desktop":
		return "ResourceNotFoundException"
	case "not-now":
		return "InvalidResourceStateException"
	case "too-many-attempts":
		return "ThrottlingException"
	case "unavailable", "busy", "directory-unavailable":
		return "ServiceUnavailable"
	}
	return "AccessDeniedException"
}

// desktopParameters are what a person asks for; the registration code, names and passwords are not among them.
type desktopParameters struct {
	DirectoryID *string
	WorkspaceID *string
}

// desktopOperation describes it to the audit log, with the API's names.
var desktopOperation = &shape.Operation{Input: &shape.Shape{Kind: shape.Structure, Fields: []shape.Field{
	{Name: "DirectoryId", Of: &shape.Shape{Kind: shape.String}},
	{Name: "WorkspaceId", Of: &shape.Shape{Kind: shape.String}},
}}}

func aboutDesktop(d *gateway.Decision) audit.Document {
	in := &desktopParameters{}
	if d.Directory != "" {
		in.DirectoryID = shape.Ptr(string(d.Directory))
	}
	if d.WorkSpace != "" {
		in.WorkspaceID = shape.Ptr(string(d.WorkSpace))
	}
	return audit.Parameters(desktopOperation, in)
}
