package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newZap is a zap logger for etcd's code that writes to a slog logger. etcd's debug messages are dropped and its
// information becomes debugging: it is about etcd's insides.
//
// etcd ends the process (zap's Fatal) or panics in a goroutine of its own when it cannot go on, as when the disk refuses a
// write. Neither is for a library to decide: with fatal set, fatal is told and the goroutine that failed ends there,
// without doing what it was about to do.
func newZap(to *slog.Logger, fatal func(error)) *zap.Logger {
	var opts []zap.Option
	if fatal != nil {
		opts = append(opts, zap.WithFatalHook(stop{fatal}), zap.WithPanicHook(stop{fatal}))
	}
	return zap.New(&core{to: to.With("component", "etcd")}, opts...)
}

// stop is what happens instead of the end of the process.
type stop struct{ fatal func(error) }

// OnWrite ends the calling goroutine.
func (s stop) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	s.fatal(errors.New(describe(e.Message, fields)))
	runtime.Goexit()
}

// describe is a message with its fields, for an error text.
func describe(message string, fields []zapcore.Field) string {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	var b strings.Builder
	b.WriteString(message)
	for _, f := range fields {
		if v, ok := enc.Fields[f.Key]; ok {
			fmt.Fprintf(&b, " %s=%v", f.Key, v)
		}
	}
	return b.String()
}

// core is a zapcore.Core over slog.
type core struct{ to *slog.Logger }

func level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	case l == zapcore.InfoLevel:
		return slog.LevelDebug
	}
	return slog.LevelDebug - 4
}

// Enabled says whether the slog logger wants the level.
func (c *core) Enabled(l zapcore.Level) bool {
	return l >= zapcore.InfoLevel && c.to.Enabled(context.Background(), level(l))
}

// With is the core with fields added to every message.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{to: c.to.With(attributes(fields)...)}
}

// Check adds the core to an entry it wants.
func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write logs the entry.
func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	l := level(e.Level)
	if expected[e.Message] {
		l = slog.LevelDebug
	}
	c.to.Log(context.Background(), l, e.Message, attributes(fields)...)
	return nil
}

// expected are etcd's warnings about what this package sets on purpose: there is no listener to share a port, no token to sign, and a
// transaction may be as large as the largest batch call. A server that starts tries to publish itself hundreds of times in the
// milliseconds before it has elected itself; one that never gets there is an error of Embedded.
var expected = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true,
	"exceeded recommended request limit":                                                   true,
	"simple token is not cryptographically signed":                                         true,
	"failed to publish local member to cluster through raft":                               true,
}

// Sync does nothing: slog keeps nothing back.
func (c *core) Sync() error { return nil }

func attributes(fields []zapcore.Field) []any {
	enc := zapcore.NewMapObjectEncoder()
	attrs := make([]any, 0, len(fields))
	for _, f := range fields {
		f.AddTo(enc)
		if v, ok := enc.Fields[f.Key]; ok {
			attrs = append(attrs, slog.Any(f.Key, v))
		}
	}
	return attrs
}
