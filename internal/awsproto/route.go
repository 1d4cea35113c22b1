package awsproto

import (
	"net/http"
	"slices"
	"strings"

	"carrel/internal/api/shape"
	"carrel/internal/awserr"
)

const targetHeader = "X-Amz-Target"

// Route finds the operation that r names, for the service its signature is scoped to. All of r is hostile: a request that names
// its operation in two ways, even twice the same one, is refused (SIG-10). Errors are of Kind UnknownOperation, or Serialization
// for a form that cannot be read.
func (c *Codec) Route(signingName string, r *Request) (*shape.Operation, *awserr.Error) {
	sc := c.services[signingName]
	if sc == nil {
		return nil, awserr.New(awserr.UnknownOperation, "The service is not served at this endpoint.")
	}
	switch sc.service.Protocol {
	case shape.AWSQuery, shape.EC2Query:
		return routeForm(sc.service, r)
	case shape.RESTJSON:
		return routeREST(sc, r)
	}
	return routeTarget(sc.service, r)
}

// routeTarget reads X-Amz-Target: the service's own prefix, a dot, the operation, byte by byte.
func routeTarget(s *shape.Service, r *Request) (*shape.Operation, *awserr.Error) {
	targets := r.Header.Values(targetHeader)
	if r.Method != http.MethodPost || r.Path != "/" || len(targets) != 1 || namesOperation(r.RawQuery) {
		return nil, unknownOperation()
	}
	types := r.Header.Values("Content-Type")
	if len(types) != 1 {
		return nil, unknownOperation()
	}
	if media, _, _ := strings.Cut(types[0], ";"); strings.TrimSpace(media) != "application/x-amz-json-1.1" {
		return nil, unknownOperation()
	}
	name, ours := strings.CutPrefix(targets[0], s.TargetPrefix+".")
	if !ours {
		return nil, unknownOperation()
	}
	if op := s.Operation(name); op != nil {
		return op, nil
	}
	return nil, unknownOperation()
}

// routeForm reads Action and Version from the query string and the form body. Version may be missing; another one is refused.
func routeForm(s *shape.Service, r *Request) (*shape.Operation, *awserr.Error) {
	if r.Method != http.MethodPost && r.Method != http.MethodGet || r.Path != "/" || len(r.Header.Values(targetHeader)) > 0 {
		return nil, unknownOperation()
	}
	f, err := formOf(r)
	if err != nil {
		return nil, awserr.New(awserr.Serialization, "%s", err.text())
	}
	if slices.ContainsFunc(f, func(p param) bool { return strings.EqualFold(p.name, targetHeader) }) {
		return nil, unknownOperation()
	}
	action, ok := f.get("Action")
	if !ok {
		return nil, awserr.New(awserr.UnknownOperation, "The request names no action.")
	}
	version, versioned := f.get("Version")
	if versioned && version != s.APIVersion {
		return nil, awserr.New(awserr.UnknownOperation, "Could not find operation %s for version %s", shown(action), shown(version))
	}
	if op := s.Operation(action); op != nil {
		return op, nil
	}
	return nil, awserr.New(awserr.UnknownOperation, "Could not find operation %s for version %s", shown(action), s.APIVersion)
}

// routeREST matches method and path; the path's literal segments are compared as sent, so "%43reateUser" is no operation.
func routeREST(sc *serviceCodec, r *Request) (*shape.Operation, *awserr.Error) {
	if len(r.Header.Values(targetHeader)) > 0 || namesOperation(r.RawQuery) {
		return nil, unknownOperation()
	}
	var found *opCodec
	for _, oc := range sc.routes {
		if oc.op.Method != r.Method || !oc.uri.matches(r.Path) {
			continue
		}
		if found == nil || oc.uri.labels() < found.uri.labels() {
			found = oc
		}
	}
	if found == nil {
		return nil, unknownOperation()
	}
	return found.op, nil
}

// namesOperation tells whether a query string has a parameter Action or X-Amz-Target (which some signers move there), or cannot be read.
func namesOperation(rawQuery string) bool {
	f, err := parseForm(nil, rawQuery)
	if err != nil {
		return true
	}
	for _, p := range f {
		if strings.EqualFold(p.name, "Action") || strings.EqualFold(p.name, targetHeader) {
			return true
		}
	}
	return false
}

// unknownOperation has no details: what the client sent stands in its own log, and headers may hold bytes that do not belong into ours.
func unknownOperation() *awserr.Error {
	return awserr.New(awserr.UnknownOperation, "The requested operation is not recognized by the service.")
}
