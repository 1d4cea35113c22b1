package awsproto

import (
	"fmt"
	"testing"

	"carrel/internal/api/cloudtrail"
	"carrel/internal/api/ds"
	"carrel/internal/api/dsdata"
	"carrel/internal/api/ec2"
	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/api/workspaces"
	"carrel/internal/awserr"
)

func TestErrorsAreSpeltAsEachProtocolDoes(t *testing.T) {
	const queryBody = `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>%s</Type><Code>%s</Code><Message>m</Message></Error><RequestId>r</RequestId></ErrorResponse>`
	const ec2Body = xmlDeclaration + `<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>r</RequestID></Response>`
	for _, tt := range []struct {
		kind                   awserr.Kind
		json, query, ec2, rest spelling
	}{
		{awserr.MissingAuthentication, spelling{"MissingAuthenticationTokenException", 400}, spelling{"MissingAuthenticationToken", 403}, spelling{"MissingAuthenticationToken", 403}, spelling{"MissingAuthenticationTokenException", 403}},
		{awserr.IncompleteSignature, spelling{"IncompleteSignatureException", 400}, spelling{"IncompleteSignature", 400}, spelling{"IncompleteSignature", 400}, spelling{"IncompleteSignatureException", 400}},
		{awserr.UnknownKey, spelling{"UnrecognizedClientException", 400}, spelling{"InvalidClientTokenId", 403}, spelling{"AuthFailure", 401}, spelling{"UnrecognizedClientException", 403}},
		{awserr.BadSignature, spelling{"InvalidSignatureException", 400}, spelling{"SignatureDoesNotMatch", 403}, spelling{"SignatureDoesNotMatch", 403}, spelling{"InvalidSignatureException", 403}},
		{awserr.ExpiredToken, spelling{"ExpiredTokenException", 400}, spelling{"ExpiredToken", 403}, spelling{"RequestExpired", 400}, spelling{"ExpiredTokenException", 403}},
		{awserr.AccessDenied, spelling{"AccessDeniedException", 400}, spelling{"AccessDenied", 403}, spelling{"UnauthorizedOperation", 403}, spelling{"AccessDeniedException", 403}},
		{awserr.Validation, spelling{"ValidationException", 400}, spelling{"ValidationError", 400}, spelling{"InvalidParameterValue", 400}, spelling{"ValidationException", 400}},
		{awserr.Serialization, spelling{"SerializationException", 400}, spelling{"MalformedQueryString", 400}, spelling{"MalformedQueryString", 400}, spelling{"SerializationException", 400}},
		{awserr.UnknownOperation, spelling{"UnknownOperationException", 400}, spelling{"InvalidAction", 400}, spelling{"InvalidAction", 400}, spelling{"UnknownOperationException", 404}},
		{awserr.NotImplemented, spelling{"NotImplementedException", 501}, spelling{"NotImplemented", 501}, spelling{"UnsupportedOperation", 400}, spelling{"NotImplementedException", 501}},
		{awserr.Throttled, spelling{"ThrottlingException", 400}, spelling{"Throttling", 400}, spelling{"RequestLimitExceeded", 503}, spelling{"ThrottlingException", 429}},
		{awserr.Internal, spelling{"InternalFailure", 500}, spelling{"InternalFailure", 500}, spelling{"InternalError", 500}, spelling{"InternalFailure", 500}},
		{awserr.RequestTooLarge, spelling{"RequestEntityTooLargeException", 413}, spelling{"RequestEntityTooLarge", 413}, spelling{"RequestEntityTooLarge", 413}, spelling{"RequestEntityTooLargeException", 413}},
		{awserr.Unavailable, spelling{"ServiceUnavailableException", 503}, spelling{"ServiceUnavailable", 503}, spelling{"Unavailable", 503}, spelling{"ServiceUnavailableException", 503}},
	} {
		t.Run(tt.kind.String(), func(t *testing.T) {
			jsonBody := func(code string) string { return fmt.Sprintf(`{"__type":%q,"message":"m"}`, code) }
			messageName := "message"
			if _, modelled := dsdata.Service.Exceptions[tt.rest.code]; modelled {
				messageName = "Message"
			}
			side, ec2Message := "Sender", "m"
			if tt.query.status >= 500 {
				side = "Receiver"
			}
			if tt.kind == awserr.AccessDenied {
				ec2Message = "You are not authorized to perform this operation. m"
			}
			if tt.kind == awserr.ExpiredToken {
				ec2Message = "Request has expired."
			}
			for _, want := range []struct {
				s *shape.Service
				spelling
				body, contentType string
			}{
				{workspaces.Service, tt.json, jsonBody(tt.json.code), "application/x-amz-json-1.1"},
				{sts.Service, tt.query, fmt.Sprintf(queryBody, side, tt.query.code), "text/xml"},
				{ec2.Service, tt.ec2, fmt.Sprintf(ec2Body, tt.ec2.code, ec2Message), "text/xml;charset=UTF-8"},
				{dsdata.Service, tt.rest, fmt.Sprintf(`{"__type":%q,%q:"m"}`, tt.rest.code, messageName), "application/json"},
			} {
				e := awserr.New(tt.kind, "m")
				resp := EncodeError(want.s, want.s.Protocol, e, "r")
				if resp.Status != want.status || string(resp.Body) != want.body || resp.Header.Get("Content-Type") != want.contentType || resp.Header.Get("x-amzn-RequestId") != "r" {
					t.Errorf("%s: got %d %v %s\nwant %d %s", want.s.Name, resp.Status, resp.Header, resp.Body, want.status, want.body)
				}
				if got := resp.Header.Get("x-amzn-ErrorType"); (got == want.code) != (want.s.Protocol == shape.RESTJSON) {
					t.Errorf("%s: x-amzn-ErrorType %q", want.s.Name, got)
				}
			}
		})
	}
}

func TestErrorsFillInWhatTheyLack(t *testing.T) {
	for _, tt := range []struct {
		name string
		svc  *shape.Service
		e    *awserr.Error
		want string
	}{
		{"a text for an unknown key", workspaces.Service, awserr.New(awserr.UnknownKey, ""), `400 {"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}`},
		{"EC2's own text for an unknown key", ec2.Service, awserr.New(awserr.UnknownKey, ""),
			"401 " + xmlDeclaration + `<Response><Errors><Error><Code>AuthFailure</Code><Message>AWS was not able to validate the provided access credentials</Message></Error></Errors><RequestID>r</RequestID></Response>`},
		{"EC2's code for a missing member", ec2.Service, awserr.New(awserr.Validation, "Value null at 'vpcId' failed to satisfy constraint: Member must not be null"),
			"400 " + xmlDeclaration + `<Response><Errors><Error><Code>MissingParameter</Code><Message>Value null at 'vpcId' failed to satisfy constraint: Member must not be null</Message></Error></Errors><RequestID>r</RequestID></Response>`},
		{"a modelled exception's members", workspaces.Service, awserr.ResourceNotFound("ws-1", "gone"), `400 {"__type":"ResourceNotFoundException","message":"gone","ResourceId":"ws-1"}`},
		{"ds's spelling of message and its RequestId", ds.Service, awserr.Model("EntityDoesNotExistException", "gone"), `400 {"__type":"EntityDoesNotExistException","Message":"gone","RequestId":"r"}`},
		{"the model's status", iam.Service, awserr.Model("NoSuchEntity", "gone"),
			`404 <ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>gone</Message></Error><RequestId>r</RequestId></ErrorResponse>`},
		{"the error's own status before the model's", iam.Service, awserr.Model("NoSuchEntity", "gone").WithStatus(410),
			`410 <ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>gone</Message></Error><RequestId>r</RequestId></ErrorResponse>`},
		{"a code EC2 does not model", ec2.Service, awserr.Model("DryRunOperation", "Request would have succeeded, but DryRun flag is set.").WithStatus(412),
			"412 " + xmlDeclaration + `<Response><Errors><Error><Code>DryRunOperation</Code><Message>Request would have succeeded, but DryRun flag is set.</Message></Error></Errors><RequestID>r</RequestID></Response>`},
		{"a service's own fault", ds.Service, awserr.Model("ServiceException", "oops"), `500 {"__type":"ServiceException","Message":"oops","RequestId":"r"}`},
		{"no cause", workspaces.Service, awserr.Fault(fmt.Errorf("secret")), `500 {"__type":"InternalFailure","message":"The request processing has failed because of an unknown error, exception or failure."}`},
		{"an exception without a name as a fault", workspaces.Service, &awserr.Error{Message: "m"}, `500 {"__type":"InternalFailure","message":"m"}`},
		{"hostile text escaped", sts.Service, awserr.New(awserr.Validation, "<x>&\x00"),
			`400 <ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>ValidationError</Code><Message>&lt;x&gt;&amp;` + "\ufffd" + `</Message></Error><RequestId>r</RequestId></ErrorResponse>`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp := EncodeError(tt.svc, tt.svc.Protocol, tt.e, "r")
			if got := fmt.Sprintf("%d %s", resp.Status, resp.Body); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	t.Run("an unknown service", func(t *testing.T) {
		resp := EncodeError(nil, shape.AWSQuery, awserr.New(awserr.Throttled, ""), "r")
		if got := string(resp.Body); got != `<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error><RequestId>r</RequestId></ErrorResponse>` {
			t.Error(got)
		}
	})
}

func TestUnimplementedUsesTheModelsOwnExceptionWhereOneFits(t *testing.T) {
	for op, want := range map[*shape.Operation]string{
		workspaces.Service.Operation("AcceptAccountLinkInvitation"): "OperationNotSupportedException: The operation AcceptAccountLinkInvitation is not implemented by this endpoint.",
		workspaces.Service.Operation("CreateWorkspaceImage"):        "OperationNotSupportedException: The operation CreateWorkspaceImage is not implemented by this endpoint.",
		ds.Service.Operation("CreateTrust"):                         "UnsupportedOperationException: The operation CreateTrust is not implemented by this endpoint.",
		ec2.Service.Operation("CreateVpnGateway"):                   "NotImplemented: The operation CreateVpnGateway is not implemented by this endpoint.",
		cloudtrail.Service.Operation("LookupEvents"):                "UnsupportedOperationException: The operation LookupEvents is not implemented by this endpoint.",
	} {
		if got := Unimplemented(op).Error(); got != want {
			t.Errorf("got %s, declared %v", got, op.Errors)
		}
	}
}
