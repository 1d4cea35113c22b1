// Package awsproto turns bytes into typed values and back, on the server's side, for the four AWS wire protocols Carrel speaks:
// awsJson1.1, awsQuery, ec2Query and restJson.
//
// It holds routing (which operation does a request name), decoding into the generated input structs, encoding of the generated
// output structs, and how an awserr.Error is spelt in each protocol. Everything that reaches Route and Decode is controlled by a
// stranger, so both are strict: one reading of a request or none (attack SIG-10). Descriptors drive everything; there is no
// map[string]any in between that a second reader could see differently.
//
// It refuses to know net/http's server, signatures, constraints of a model (generated Validate methods do those) and any
// service's rules.
package awsproto

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"sync"

	"carrel/internal/api/shape"
	"carrel/internal/awserr"
)

// Request is a plain view of an HTTP request. Nothing in it has been checked.
type Request struct {
	Method string
	// Path is the path as it stood on the request line, percent-encoding intact (net/url's EscapedPath).
	Path string
	// RawQuery is the query string without its question mark, percent-encoding intact.
	RawQuery string
	Header   http.Header
	// Body is the whole body; its size was limited by whoever read it.
	Body []byte
}

// Response is an answer ready to be written. Header is never nil; its values are shared and must not be changed in place. Body belongs
// to the caller until Release.
type Response struct {
	Status int
	Header http.Header
	Body   []byte

	// scratch is what Body stands in, of pool; nil when it is nobody else's.
	scratch *[]byte
	pool    *sync.Pool
}

// Release gives Body's memory to the next answer. Whoever still reads Body then reads somebody else's answer: it is called only when
// nobody can, or not at all.
func (r *Response) Release() {
	// One huge answer must not hold on to its memory for ever.
	if r.scratch != nil && cap(*r.scratch) <= 1<<20 {
		r.pool.Put(r.scratch)
	}
	r.scratch, r.Body = nil, nil
}

// Limits of one request. They are far above what any client of AWS sends and bound what a small body can make us allocate.
const (
	// maxDepth bounds the nesting of a JSON document and of a query parameter's name, and so every recursion here.
	maxDepth = 64
	// maxElements bounds list elements, map entries and unknown members of one request, all together: "{}," is three bytes,
	// the struct it becomes may be hundreds.
	maxElements = 20000
	// maxParams bounds the parameters of a form.
	maxParams = 10000
	// maxIndex bounds N in X.member.N.
	maxIndex = 10000
	// maxFields bounds the members of one structure (the decoder's bit set of members already seen).
	maxFields = 256
)

// Codec routes, decodes and encodes for a fixed set of services. It is made once at start and safe for concurrent use.
type Codec struct {
	services map[string]*serviceCodec // by signing name
	ops      map[*shape.Operation]*opCodec
	buffers  sync.Pool // of *[]byte: what bodies stand in
}

type serviceCodec struct {
	service *shape.Service
	routes  []*opCodec // restJson only
}

type opCodec struct {
	op      *shape.Operation
	in, out *plan
	uri     uriTemplate // restJson only
}

// NewCodec checks every operation's descriptors against its Go structs and prepares the plans for both directions. An error
// means that generated code and this package disagree, or that two services share a signing name: the process must not start.
func NewCodec(services ...*shape.Service) (*Codec, error) {
	c := &Codec{services: map[string]*serviceCodec{}, ops: map[*shape.Operation]*opCodec{}}
	c.buffers.New = func() any { b := make([]byte, 0, 8<<10); return &b }
	for _, s := range services {
		if c.services[s.SigningName] != nil {
			return nil, fmt.Errorf("two services sign as %q", s.SigningName)
		}
		sc := &serviceCodec{service: s}
		b := &planner{proto: s.Protocol, memo: map[planKey]*plan{}}
		for i, op := range s.Operations {
			if i > 0 && s.Operations[i-1].Name >= op.Name {
				return nil, fmt.Errorf("%s: operations are not sorted at %s", s.Name, op.Name)
			}
			oc, err := newOpCodec(b, op)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", s.Name, op.Name, err)
			}
			c.ops[op] = oc
			sc.routes = append(sc.routes, oc)
		}
		c.services[s.SigningName] = sc
	}
	return c, nil
}

func newOpCodec(b *planner, op *shape.Operation) (*opCodec, error) {
	oc := &opCodec{op: op}
	var err error
	if oc.in, err = b.top(op.Input, op.NewInput()); err != nil {
		return nil, fmt.Errorf("input: %w", err)
	}
	if oc.out, err = b.top(op.Output, op.NewOutput()); err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	if b.proto == shape.AWSQuery || b.proto == shape.EC2Query {
		for _, reserved := range []string{"Action", "Version"} {
			if _, taken := oc.in.byName[reserved]; taken {
				return nil, fmt.Errorf("input: a member is called %s", reserved)
			}
		}
	}
	if b.proto == shape.RESTJSON {
		if oc.uri, err = parseURITemplate(op.URI); err != nil {
			return nil, err
		}
		if err := oc.uri.bind(oc.in); err != nil {
			return nil, err
		}
	}
	return oc, nil
}

// Service gives the service behind a signing name, or nil.
func (c *Codec) Service(signingName string) *shape.Service {
	if sc := c.services[signingName]; sc != nil {
		return sc.service
	}
	return nil
}

// Decode reads r as the input of op, which Route found for it: a pointer to the generated input struct. Errors are of Kind
// Serialization and name the member at fault. Constraints of the model are not checked here.
func (c *Codec) Decode(op *shape.Operation, r *Request) (any, *awserr.Error) {
	oc := c.ops[op]
	if oc == nil {
		return nil, awserr.Fault(fmt.Errorf("decode of %s: operation is not in the codec", op.Name))
	}
	in := op.NewInput()
	v := reflect.ValueOf(in).Elem()
	var err *docError
	switch op.Service.Protocol {
	case shape.AWSQuery, shape.EC2Query:
		err = decodeForm(oc.in, v, r)
	case shape.RESTJSON:
		err = decodeREST(oc, v, r)
	default:
		err = decodeJSON(oc.in, v, r.Body)
	}
	if err != nil {
		return nil, awserr.New(awserr.Serialization, "%s", err.text())
	}
	return in, nil
}

// Encode writes output, a pointer to op's generated output struct (nil: all members absent), as a successful answer. Nil members
// are left out, empty lists are present. Release of the Response makes the next one cheaper. It fails with a Fault when output is not op's type or holds a number that JSON lacks.
func (c *Codec) Encode(op *shape.Operation, output any, requestID string) (Response, *awserr.Error) {
	oc := c.ops[op]
	if oc == nil {
		return Response{}, awserr.Fault(fmt.Errorf("encode of %s: operation is not in the codec", op.Name))
	}
	v, err := outputValue(oc.out, output)
	if err != nil {
		return Response{}, awserr.Fault(fmt.Errorf("encode of %s: %w", op.Name, err))
	}
	scratch := c.buffers.Get().(*[]byte)
	resp := Response{Status: http.StatusOK, Header: replyHeader(op.Service.Protocol, requestID), scratch: scratch, pool: &c.buffers}
	switch op.Service.Protocol {
	case shape.AWSQuery:
		*scratch = appendQueryResponse((*scratch)[:0], oc, v, requestID)
	case shape.EC2Query:
		*scratch = appendEC2Response((*scratch)[:0], oc, v, requestID)
	default:
		w := jsonWriter{buf: (*scratch)[:0]}
		w.output(oc.out, v)
		*scratch = w.buf
		err = w.err
		if op.Service.Protocol == shape.RESTJSON {
			err = errors.Join(err, bindOutput(oc.out, v, &resp))
		}
	}
	if err != nil {
		resp.Release()
		return Response{}, awserr.Fault(fmt.Errorf("encode of %s: %w", op.Name, err))
	}
	resp.Body = *scratch
	return resp, nil
}

func outputValue(p *plan, output any) (reflect.Value, error) {
	if output == nil {
		return reflect.Zero(p.typ), nil
	}
	v := reflect.ValueOf(output)
	if v.Kind() != reflect.Pointer || v.Type().Elem() != p.typ {
		return v, fmt.Errorf("output is a %T, want *%s", output, p.typ)
	}
	if v.IsNil() {
		return reflect.Zero(p.typ), nil
	}
	return v.Elem(), nil
}

// The content types as values of a header, shared by all answers.
var (
	typeJSON11  = []string{"application/x-amz-json-1.1"}
	typeXML     = []string{"text/xml"}
	typeXMLUTF8 = []string{"text/xml;charset=UTF-8"}
	typeJSON    = []string{"application/json"}
)

// replyHeader holds what every answer of a protocol carries, errors included.
func replyHeader(proto shape.Protocol, requestID string) http.Header {
	contentType := typeJSON11
	switch proto {
	case shape.AWSQuery:
		contentType = typeXML
	case shape.EC2Query:
		contentType = typeXMLUTF8
	case shape.RESTJSON:
		contentType = typeJSON
	}
	return http.Header{"Content-Type": contentType, "X-Amzn-Requestid": {requestID}}
}
