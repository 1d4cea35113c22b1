package shape

// Op is an operation with the types of its input and output structs, so that a handler binds to it only when its types fit.
type Op[I, O any] struct{ *Operation }
