package awsproto

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"carrel/internal/api/shape"
	"carrel/internal/awserr"
)

// spelling is how a protocol says a Kind: its code and HTTP status.
type spelling struct {
	code   string
	status int
}

// spell follows section "error codes and statuses" of the API surface notes: awsJson codes end in Exception and go with 400, the
// query protocols use the older names with 403 and 400, EC2 has names of its own. SDKs decide by the code.
func spell(k awserr.Kind, proto shape.Protocol) spelling {
	type row struct{ json, query, ec2, rest spelling }
	var r row
	switch k {
	case awserr.MissingAuthentication:
		r = row{spelling{"MissingAuthenticationTokenException", 400}, spelling{"MissingAuthenticationToken", 403}, spelling{"MissingAuthenticationToken", 403}, spelling{"MissingAuthenticationTokenException", 403}}
	case awserr.IncompleteSignature:
		r = row{spelling{"IncompleteSignatureException", 400}, spelling{"IncompleteSignature", 400}, spelling{"IncompleteSignature", 400}, spelling{"IncompleteSignatureException", 400}}
	case awserr.UnknownKey:
		r = row{spelling{"UnrecognizedClientException", 400}, spelling{"InvalidClientTokenId", 403}, spelling{"AuthFailure", 401}, spelling{"UnrecognizedClientException", 403}}
	case awserr.BadSignature:
		r = row{spelling{"InvalidSignatureException", 400}, spelling{"SignatureDoesNotMatch", 403}, spelling{"SignatureDoesNotMatch", 403}, spelling{"InvalidSignatureException", 403}}
	case awserr.ExpiredToken:
		r = row{spelling{"ExpiredTokenException", 400}, spelling{"ExpiredToken", 403}, spelling{"RequestExpired", 400}, spelling{"ExpiredTokenException", 403}}
	case awserr.AccessDenied:
		r = row{spelling{"AccessDeniedException", 400}, spelling{"AccessDenied", 403}, spelling{"UnauthorizedOperation", 403}, spelling{"AccessDeniedException", 403}}
	case awserr.Validation:
		r = row{spelling{"ValidationException", 400}, spelling{"ValidationError", 400}, spelling{"InvalidParameterValue", 400}, spelling{"ValidationException", 400}}
	case awserr.Serialization:
		r = row{spelling{"SerializationException", 400}, spelling{"MalformedQueryString", 400}, spelling{"MalformedQueryString", 400}, spelling{"SerializationException", 400}}
	case awserr.UnknownOperation:
		r = row{spelling{"UnknownOperationException", 400}, spelling{"InvalidAction", 400}, spelling{"InvalidAction", 400}, spelling{"UnknownOperationException", 404}}
	case awserr.NotImplemented:
		r = row{spelling{"NotImplementedException", 501}, spelling{"NotImplemented", 501}, spelling{"UnsupportedOperation", 400}, spelling{"NotImplementedException", 501}}
	case awserr.Throttled:
		r = row{spelling{"ThrottlingException", 400}, spelling{"Throttling", 400}, spelling{"RequestLimitExceeded", 503}, spelling{"ThrottlingException", 429}}
	case awserr.RequestTooLarge:
		r = row{spelling{"RequestEntityTooLargeException", 413}, spelling{"RequestEntityTooLarge", 413}, spelling{"RequestEntityTooLarge", 413}, spelling{"RequestEntityTooLargeException", 413}}
	case awserr.Unavailable:
		r = row{spelling{"ServiceUnavailableException", 503}, spelling{"ServiceUnavailable", 503}, spelling{"Unavailable", 503}, spelling{"ServiceUnavailableException", 503}}
	default: // Internal, and any kind this table does not know
		r = row{spelling{"InternalFailure", 500}, spelling{"InternalFailure", 500}, spelling{"InternalError", 500}, spelling{"InternalFailure", 500}}
	}
	return [...]spelling{shape.AWSJSON: r.json, shape.AWSQuery: r.query, shape.EC2Query: r.ec2, shape.RESTJSON: r.rest}[proto]
}

// defaultText is said when an error brings no message.
func defaultText(k awserr.Kind) string {
	switch k {
	case awserr.UnknownKey:
		return "The security token included in the request is invalid."
	case awserr.ExpiredToken:
		return "The security token included in the request is expired"
	case awserr.MissingAuthentication:
		return "Missing Authentication Token"
	case awserr.BadSignature:
		return "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	case awserr.Throttled:
		return "Rate exceeded"
	case awserr.Internal:
		return awserr.Fault(nil).Message
	}
	return ""
}

// Unimplemented is the answer of an operation that is decoded and validated but not carried out: the exception for it in the
// service's model where it has one (OperationNotSupportedException, UnsupportedOperationException), so that callers that
// handle it do, declared for this operation or not; otherwise Kind NotImplemented, which is status 501 (no SDK retries it) and UnsupportedOperation for EC2.
func Unimplemented(op *shape.Operation) *awserr.Error {
	text := "The operation " + op.Name + " is not implemented by this endpoint."
	for _, code := range []string{"OperationNotSupportedException", "UnsupportedOperationException"} {
		if _, modelled := op.Service.Exceptions[code]; modelled {
			return awserr.Model(code, "%s", text)
		}
	}
	return awserr.New(awserr.NotImplemented, "%s", text)
}

// EncodeError spells e in a protocol. svc may be nil when it is not known whose request it was; proto then still decides the form.
// The cause of e is never written.
func EncodeError(svc *shape.Service, proto shape.Protocol, e *awserr.Error, requestID string) Response {
	code, status := e.Code, e.Status
	if code == "" {
		s := spell(e.Kind, proto)
		if e.Kind == awserr.Modelled { // an exception without a name is a fault of ours
			s = spell(awserr.Internal, proto)
		}
		code = s.code
		if status == 0 {
			status = s.status
		}
	}
	message := or(e.Message, defaultText(e.Kind))
	if proto == shape.EC2Query {
		code, message = ec2Words(e, code, message)
	}
	var exception shape.Exception
	if svc != nil {
		exception = svc.Exceptions[code]
	}
	if status == 0 {
		status = modelledStatus(exception)
	}
	resp := Response{Status: status, Header: replyHeader(proto, requestID)}
	switch proto {
	case shape.AWSQuery:
		resp.Body = appendQueryError(svc, errorWords{code, message, requestID, status, e.Members})
	case shape.EC2Query:
		resp.Body = appendEC2Error(errorWords{code, message, requestID, status, e.Members})
	default:
		if proto == shape.RESTJSON {
			resp.Header.Set("X-Amzn-Errortype", code)
		}
		resp.Body = appendJSONError(exception.Shape, errorWords{code, message, requestID, status, e.Members}, resp.Header)
	}
	return resp
}

func modelledStatus(x shape.Exception) int {
	switch {
	case x.Status != 0:
		return x.Status
	case x.Fault:
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

// ec2Words turns the texts of the model's validation, of a denial and of expired credentials into EC2's: a required member that is missing has a code of
// its own there, and a denial begins with a fixed sentence.
func ec2Words(e *awserr.Error, code, message string) (string, string) {
	switch {
	case e.Kind == awserr.Validation && e.Code == "" && strings.Contains(message, "Member must not be null"):
		return "MissingParameter", message
	case e.Kind == awserr.AccessDenied && message != "":
		return code, "You are not authorized to perform this operation. " + message
	case e.Kind == awserr.AccessDenied:
		return code, "You are not authorized to perform this operation."
	case e.Kind == awserr.ExpiredToken:
		return code, "Request has expired."
	case e.Kind == awserr.UnknownKey && e.Message == "":
		return code, "AWS was not able to validate the provided access credentials"
	}
	return code, message
}

type errorWords struct {
	code, message, requestID string
	status                   int
	members                  map[string]string
}

// appendJSONError writes {"__type":code,"message":text} and the exception's further members, each under the name and in the place
// the model gives it. Members the model does not have are written as strings.
func appendJSONError(model *shape.Shape, words errorWords, h http.Header) []byte {
	b := appendJSONString([]byte(`{"__type":`), words.code)
	messageName := "message"
	fields := map[string]*shape.Field{}
	if model != nil {
		for i := range model.Fields {
			f := &model.Fields[i]
			fields[f.Name] = f
			if strings.EqualFold(f.Name, "message") {
				messageName = or(f.Wire, f.Name)
			}
		}
	}
	b = append(b, ',')
	b = appendJSONString(b, messageName)
	b = append(b, ':')
	b = appendJSONString(b, words.message)
	members := words.members
	if _, set := members["RequestId"]; !set && fields["RequestId"] != nil {
		members = map[string]string{"RequestId": words.requestID}
		for k, v := range words.members {
			members[k] = v
		}
	}
	for _, name := range sortedNames(members) {
		value, f := members[name], fields[name]
		if f != nil && f.Location == shape.InHeader {
			if !strings.ContainsAny(value, "\r\n") {
				h.Set(or(f.Wire, f.Name), value)
			}
			continue
		}
		wire := name
		if f != nil {
			wire = or(f.Wire, f.Name)
		}
		b = append(b, ',')
		b = appendJSONString(b, wire)
		b = append(b, ':')
		b = appendErrorMember(b, f, value)
	}
	return append(b, '}')
}

// appendErrorMember writes a member kept as text in the type the model gives it.
func appendErrorMember(b []byte, f *shape.Field, value string) []byte {
	if f != nil {
		switch f.Of.Kind {
		case shape.Boolean:
			if value == "true" || value == "false" {
				return append(b, value...)
			}
		case shape.Integer, shape.Long:
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				return strconv.AppendInt(b, n, 10)
			}
		}
	}
	return appendJSONString(b, value)
}

func sortedNames(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

// appendQueryError writes <ErrorResponse><Error><Type/><Code/><Message/>members</Error><RequestId/></ErrorResponse>.
func appendQueryError(svc *shape.Service, words errorWords) []byte {
	w := xmlWriter{}
	namespace := ""
	if svc != nil {
		namespace = svc.XMLNamespace
	}
	w.root("ErrorResponse", namespace)
	w.open("Error")
	if words.status >= 500 {
		w.element("Type", "Receiver")
	} else {
		w.element("Type", "Sender")
	}
	w.element("Code", words.code)
	w.element("Message", words.message)
	for _, name := range sortedNames(words.members) {
		w.element(name, words.members[name])
	}
	w.close("Error")
	w.element("RequestId", words.requestID)
	w.close("ErrorResponse")
	return w.buf
}

// appendEC2Error writes <Response><Errors><Error><Code/><Message/></Error></Errors><RequestID/></Response>; EC2 has no further members.
func appendEC2Error(words errorWords) []byte {
	w := xmlWriter{buf: []byte(xmlDeclaration)}
	w.open("Response")
	w.open("Errors")
	w.open("Error")
	w.element("Code", words.code)
	w.element("Message", words.message)
	w.close("Error")
	w.close("Errors")
	w.element("RequestID", words.requestID)
	w.close("Response")
	return w.buf
}
