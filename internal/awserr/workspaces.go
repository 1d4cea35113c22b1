package awserr

// The exceptions declared by the workspaces model, each named after its shape.

// AccessDeniedException is workspaces' own denial of a thing the caller may not touch (not a policy decision: see AccessDenied).
func AccessDeniedException(format string, args ...any) *Error {
	return Model("AccessDeniedException", format, args...)
}

// InvalidParameterValues is a business rule violated by a value.
func InvalidParameterValues(format string, args ...any) *Error {
	return Model("InvalidParameterValuesException", format, args...)
}

// InvalidParameterCombination is two members that exclude each other.
func InvalidParameterCombination(format string, args ...any) *Error {
	return Model("InvalidParameterCombinationException", format, args...)
}

// InvalidResourceState is an operation the resource's state does not allow.
func InvalidResourceState(format string, args ...any) *Error {
	return Model("InvalidResourceStateException", format, args...)
}

// OperationNotSupported is an operation that this resource cannot have.
func OperationNotSupported(format string, args ...any) *Error {
	return Model("OperationNotSupportedException", format, args...)
}

// ResourceNotFound names the id that does not exist.
func ResourceNotFound(id, format string, args ...any) *Error {
	return Model("ResourceNotFoundException", format, args...).With("ResourceId", id)
}

// ResourceAlreadyExists is a name or id that is taken.
func ResourceAlreadyExists(format string, args ...any) *Error {
	return Model("ResourceAlreadyExistsException", format, args...)
}

// ResourceAssociated is a resource that another one still uses.
func ResourceAssociated(format string, args ...any) *Error {
	return Model("ResourceAssociatedException", format, args...)
}

// ResourceLimitExceeded is a quota reached.
func ResourceLimitExceeded(format string, args ...any) *Error {
	return Model("ResourceLimitExceededException", format, args...)
}

// ResourceUnavailable names a resource that cannot be used now.
func ResourceUnavailable(id, format string, args ...any) *Error {
	return Model("ResourceUnavailableException", format, args...).With("ResourceId", id)
}

// UnsupportedNetworkConfiguration is a VPC or subnet that WorkSpaces cannot use.
func UnsupportedNetworkConfiguration(format string, args ...any) *Error {
	return Model("UnsupportedNetworkConfigurationException", format, args...)
}
