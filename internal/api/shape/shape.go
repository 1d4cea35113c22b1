// Package shape is what generated API code needs at run time: descriptors of operations and shapes, and the checks
// of a model's constraints on typed values.
//
// It refuses to know a wire protocol (awsproto does) and any service's rules (service/* does).
package shape

// Kind is the type of a shape in a service model.
type Kind uint8

// The kinds of the AWS service model. Go types of members: String *string (or *Enum for enums), Boolean *bool,
// Integer *int32, Long *int64, Float *float32, Double *float64, Timestamp *time.Time, Blob []byte, List []T,
// Map map[string]T, Structure *S as a member. Elements of lists and maps are string, bool, int32, ... S without pointer.
// nil is "absent"; an empty non-nil list is "present and empty".
const (
	Structure Kind = iota
	List
	Map
	String
	Boolean
	Integer
	Long
	Float
	Double
	Timestamp
	Blob
)

// Shape describes one shape of a model. Descriptors are generated, shared and never changed.
type Shape struct {
	Name string
	Kind Kind
	// Fields of a Structure, in the order of the generated Go struct's fields: Fields[i] describes field i.
	Fields []Field
	// Elem is the member of a List or the value of a Map; Key the key of a Map.
	Elem, Key *Shape
	// ElemName is the model's locationName of a list member, KeyName and ValueName those of a map; empty means the protocol's default.
	ElemName, KeyName, ValueName string
	// Flat lists and maps carry no wrapper in the XML protocols.
	Flat bool
	// Check holds the constraints, or nil.
	Check *Check
	// TimeFormat is the model's timestampFormat, empty for the protocol's default.
	TimeFormat string
	// Sensitive values are never logged or audited.
	Sensitive bool
	// Union structures carry exactly one member.
	Union bool
}

// Check holds the constraints of a model. Min and Max count characters of a String, bytes of a Blob, elements of a List or Map,
// or bound a number.
type Check struct {
	Min, Max       int64
	HasMin, HasMax bool
	Pattern        string
	Enum           []string
	// Exception is the service's own exception that answers a value against these constraints, empty for the common ValidationException.
	Exception string
}

// Location is where a restJson member travels.
type Location uint8

// The places of a restJson member.
const (
	InBody Location = iota
	InQuery
	InURI
	InHeader
	InStatus
)

// Field describes one member of a structure.
type Field struct {
	// Name is the model's member name, which is also the Go field's name with its first letter in upper case.
	Name string
	// Wire is the model's locationName where it has one (else empty: Name is the wire name).
	Wire string
	// Query is the ec2 queryName where the model has one.
	Query    string
	Of       *Shape
	Required bool
	Location Location
	// Token marks an idempotency token.
	Token bool
	// Flat marks a flattened list or map member.
	Flat bool
}

// Operation describes one operation of a service.
type Operation struct {
	Service *Service
	Name    string
	Input   *Shape // nil: no input
	Output  *Shape // nil: no output
	// NewInput gives a pointer to a zero input struct; never nil, operations without input have an empty struct.
	NewInput func() any
	// NewOutput gives a pointer to a zero output struct; never nil.
	NewOutput func() any
	// Errors are the wire codes of the declared exceptions.
	Errors []string
	// Method and URI are the HTTP binding ("POST", "/Users/CreateUser").
	Method, URI string
	// ResultWrapper is the awsQuery element around the output, empty for none.
	ResultWrapper string
	// Unsigned operations carry authtype none in the model.
	Unsigned bool
	// ReadOnly is true for operations that only read (Describe, Get, List, Lookup ...): CloudTrail's readOnly.
	ReadOnly bool
}

// Protocol is the wire protocol of a service.
type Protocol uint8

// The protocols Carrel speaks.
const (
	AWSJSON Protocol = iota
	AWSQuery
	EC2Query
	RESTJSON
)

// Service describes one service.
type Service struct {
	// Name is Carrel's and botocore's name ("workspaces", "ds-data").
	Name string
	// SigningName is the service of the credential scope.
	SigningName string
	// ID is the model's serviceId ("WorkSpaces").
	ID           string
	Protocol     Protocol
	TargetPrefix string
	APIVersion   string
	XMLNamespace string
	// Operations sorted by name.
	Operations []*Operation
	// Modelled is how many operations AWS's full model has, those included that Carrel leaves out.
	Modelled int
	// Exceptions by wire code.
	Exceptions map[string]Exception
}

// Exception describes a modelled exception.
type Exception struct {
	// Shape describes its members.
	Shape *Shape
	// Status is the HTTP status of the model, 0 when it has none.
	Status int
	// Fault is true for the service's own faults.
	Fault bool
}

// Operation finds an operation by its exact name, or nil.
func (s *Service) Operation(name string) *Operation {
	lo, hi := 0, len(s.Operations)
	for lo < hi {
		mid := (lo + hi) / 2
		if s.Operations[mid].Name < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(s.Operations) && s.Operations[lo].Name == name {
		return s.Operations[lo]
	}
	return nil
}

// Ptr gives a pointer to a copy of v.
func Ptr[T any](v T) *T { return &v }

// Given is nil for the zero value: members that are not set are left out of an answer.
func Given[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// Val gives what p points to, or the zero value.
func Val[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
