package mountprog

import (
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"sync"
)

// logger is where the log goes: standard error at first, and when the program has left the
// terminal to a file or syslog.
type logger struct {
	*slog.Logger
	file *os.File // of -o logfile, nil without

	mu     sync.Mutex // guards what follows
	to     io.Writer
	syslog bool // which adds the time itself
}

// newLogger opens the log file, if there is one, so that a wrong name is noticed in time.
func newLogger(m *mountConfig, stderr io.Writer) (*logger, error) {
	l := &logger{to: stderr}
	if m.logfile != "" {
		f, err := os.OpenFile(m.logfile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, fail("name a file that you may write with -o logfile=FILE", "log file: %w", err)
		}
		l.file, l.to = f, f
	}
	level := slog.LevelWarn
	switch {
	case m.debug:
		level = slog.LevelDebug
	case m.logLevel != "":
		if err := level.UnmarshalText([]byte(m.logLevel)); err != nil {
			return nil, fmt.Errorf("loglevel: %w", err)
		}
	case m.verbose:
		level = slog.LevelInfo
	}
	l.Logger = slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level, ReplaceAttr: l.dropTime}))
	return l, nil
}

func (l *logger) dropTime(groups []string, a slog.Attr) slog.Attr {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.syslog && len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// Write takes a line of the log.
func (l *logger) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(line)
}

// leave stops writing to standard error. Without a file and without a syslog there is no log.
func (l *logger) leave() {
	if l.file != nil {
		return
	}
	var to io.Writer = io.Discard
	w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_WARNING, "bundlefs")
	if err == nil {
		to = w
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to, l.syslog = to, true
}

// close returns the log's file. What is logged later goes nowhere.
func (l *logger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.to.(io.Closer)
	l.to = io.Discard
	if !ok || c == io.Closer(os.Stderr) {
		return nil
	}
	if err := c.Close(); err != nil {
		return fmt.Errorf("close the log: %w", err)
	}
	return nil
}
