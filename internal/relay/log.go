package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"github.com/pion/logging"
)

// loggerFactory sends pion's log to slog. Nearly all that pion logs is caused by what clients send, errors included; at any level above
// debug, strangers could fill the disk.
type loggerFactory struct{ log *slog.Logger }

func (f loggerFactory) NewLogger(scope string) logging.LeveledLogger {
	return pionLogger{f.log.With("scope", "pion/"+scope)}
}

type pionLogger struct{ log *slog.Logger }

func (l pionLogger) text(s string) { l.log.Debug(s) }
func (l pionLogger) format(f string, args []any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug(fmt.Sprintf(f, args...))
	}
}

func (l pionLogger) Trace(string)              {}
func (l pionLogger) Tracef(string, ...any)     {}
func (l pionLogger) Debug(string)              {} // several lines for each packet
func (l pionLogger) Debugf(string, ...any)     {}
func (l pionLogger) Info(s string)             { l.text(s) }
func (l pionLogger) Infof(f string, a ...any)  { l.format(f, a) }
func (l pionLogger) Warn(s string)             { l.text(s) }
func (l pionLogger) Warnf(f string, a ...any)  { l.format(f, a) }
func (l pionLogger) Error(s string)            { l.text(s) }
func (l pionLogger) Errorf(f string, a ...any) { l.format(f, a) }

// isExhausted reports whether accepting failed for want of something that comes back.
func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) ||
		errors.Is(err, syscall.ECONNABORTED)
}
