package vault

import (
	"context"
	"log/slog"

	"github.com/kopia/kopia/repo/logging"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// withLog returns ctx with Kopia's logs going to log, all at level Debug: what
// goes wrong there comes back as an error too, and an error is either logged or
// returned, not both. A nil log is silent.
func withLog(ctx context.Context, log *slog.Logger) context.Context {
	if log == nil {
		return logging.WithLogger(ctx, nil)
	}
	return logging.WithLogger(ctx, func(module string) logging.Logger {
		return zap.New(slogCore{ctx: context.WithoutCancel(ctx), log: log.With("module", module)}).Sugar()
	})
}

// slogCore hands the entries of a zap logger to slog.
type slogCore struct {
	ctx    context.Context
	log    *slog.Logger
	fields []zapcore.Field
}

// Enabled implements zapcore.Core.
func (c slogCore) Enabled(zapcore.Level) bool { return c.log.Enabled(c.ctx, slog.LevelDebug) }

// With implements zapcore.Core.
func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	c.fields = append(c.fields[:len(c.fields):len(c.fields)], fields...)
	return c
}

// Check implements zapcore.Core.
func (c slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		f.AddTo(enc)
	}
	attrs := []slog.Attr{slog.String("text", e.Message), slog.String("severity", e.Level.String())}
	for k, v := range enc.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	c.log.LogAttrs(c.ctx, slog.LevelDebug, "kopia said", attrs...)
	return nil
}

// Sync implements zapcore.Core.
func (c slogCore) Sync() error { return nil }
