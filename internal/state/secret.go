package state

import "log/slog"

// Secret is a value that must not be printed: fmt, slog and errors show only that there is one.
// It is stored as it is in the store, which is why the state directory has mode 0700.
type Secret string

// String hides the value.
func (Secret) String() string { return "[secret]" }

// GoString hides the value.
func (Secret) GoString() string { return "[secret]" }

// LogValue hides the value.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// Reveal gives the value. Every use is a place to look at.
func (s Secret) Reveal() string { return string(s) }
