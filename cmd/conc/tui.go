package main

// This file is the only one that writes to the user. Its rules:
//
//   - data, what a command was asked for, goes to standard output, and nothing
//     else does; messages go to standard error;
//   - on a terminal a message is "conc: NODE: STEP: text", elsewhere it is a log
//     line, "time LEVEL node step text", with "-" for what does not apply;
//   - the error that ends a command is "conc: text" everywhere, followed by
//     "conc: hint: text" lines that say what to do; lower case, no full stop;
//   - text from a node was stripped of control characters before it comes here.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"bundlefs/internal/progress"
)

// ui writes to the user.
type ui struct {
	data     io.Writer // standard output
	terminal bool      // messages go to a terminal
	level    slog.Level

	bar *progress.Bar // on standard error

	dataMu sync.Mutex // keeps events on standard output whole

	mu       sync.Mutex      // keeps lines whole, and guards what follows
	messages io.Writer       // standard error
	many     bool            // several nodes are worked on: each line names its own
	board    *progress.Board // their lines on a terminal; else nil
}

func newUI(stdout, stderr io.Writer) *ui {
	return &ui{data: stdout, messages: stderr, terminal: progress.IsTerminal(stderr), bar: progress.New(stderr)}
}

// line writes one or more lines of messages, above a bar when there is one.
func (u *ui) line(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.board.Above(text+"\n") && !u.bar.Above(text+"\n") {
		io.WriteString(u.messages, text+"\n")
	}
}

// say is a message about a node and a step; "" for what does not apply.
func (u *ui) say(level slog.Level, node, step, format string, args ...any) {
	if level < u.level {
		return
	}
	text := fmt.Sprintf(format, args...)
	if u.terminal {
		for _, s := range []string{step, node} {
			if s != "" {
				text = s + ": " + text
			}
		}
		if level >= slog.LevelWarn {
			text = strings.ToLower(level.String()) + ": " + text
		}
		u.line("conc: " + text)
		return
	}
	dash := func(s string) string {
		if s == "" {
			return "-"
		}
		return strings.ReplaceAll(s, " ", "_")
	}
	u.line(fmt.Sprintf("%s %s %s %s %s", time.Now().Format("2006-01-02T15:04:05.000Z07:00"), level, dash(node), dash(step), text))
}

func (u *ui) info(node, step, format string, args ...any) {
	u.say(slog.LevelInfo, node, step, format, args...)
}

func (u *ui) warn(node, step, format string, args ...any) {
	u.say(slog.LevelWarn, node, step, format, args...)
}

// output is a line that a step wrote.
func (u *ui) output(node, step, text string) {
	if u.terminal {
		u.mu.Lock()
		many := u.many
		u.mu.Unlock()
		if many {
			u.line(node + " | " + text)
		} else {
			u.line("    " + text)
		}
		return
	}
	u.say(slog.LevelInfo, node, step, "| %s", text)
}

// fail shows the error that ends a command.
func (u *ui) fail(err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		u.line("conc: " + line)
	}
	if hint := hintOf(err); hint != "" {
		for line := range strings.SplitSeq(hint, "\n") {
			u.line("conc: hint: " + line)
		}
	}
}

// print writes lines of data.
func (u *ui) print(lines ...string) {
	for _, l := range lines {
		fmt.Fprintln(u.data, l)
	}
}

// table writes rows of data in columns.
func (u *ui) table(rows [][]string) {
	w := tabwriter.NewWriter(u.data, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	w.Flush()
}

// json writes a value as data, indented; event writes it in one line.
func (u *ui) json(v any) error {
	e := json.NewEncoder(u.data)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (u *ui) event(v any) error {
	u.dataMu.Lock()
	defer u.dataMu.Unlock()
	e := json.NewEncoder(u.data)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// progress shows a bar on a terminal, and nothing elsewhere; of several nodes, it is
// text on the node's line. What it is begins with the node's name. progressEnd removes the bar.
func (u *ui) progress(s progress.State) {
	u.mu.Lock()
	board, many := u.board, u.many
	u.mu.Unlock()
	if many {
		node, what, _ := strings.Cut(s.What, ": ")
		if s.Total > 0 {
			what += fmt.Sprintf(" %d%%", 100*s.Done/s.Total)
		}
		board.Set(node, what)
		return
	}
	s.What = "conc: " + s.What
	u.bar.Show(s)
}

func (u *ui) progressEnd() { u.bar.End() }

// several begins a display of several nodes; severalEnd ends it.
func (u *ui) several(names []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.many, u.board = true, progress.NewBoard(u.messages, names)
}

func (u *ui) severalEnd() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.board.End()
	u.many, u.board = false, nil
}

// nodeState is what a node's line shows; nothing where there is none.
func (u *ui) nodeState(node, text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.board.Set(node, text)
}

// ask writes a question, which the answer follows in the same line.
func (u *ui) ask(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	io.WriteString(u.messages, "conc: "+text)
}

// logger gives a slog logger for the libraries: their messages are shown as
// ours, with the attributes "node" and "step" in their places.
func (u *ui) logger() *slog.Logger { return slog.New(&logHandler{ui: u}) }

type logHandler struct {
	ui    *ui
	attrs []slog.Attr
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	// What libraries tell at Info is of interest only to who asked for more.
	return level >= slog.LevelWarn || h.ui.level < slog.LevelInfo
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var node, step string
	text := r.Message
	take := func(a slog.Attr) bool {
		switch a.Key {
		case "node":
			node = a.Value.String()
		case "step":
			step = a.Value.String()
		default:
			text += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		}
		return true
	}
	for _, a := range h.attrs {
		take(a)
	}
	r.Attrs(take)
	h.ui.say(r.Level, node, step, "%s", text)
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.ui, append(append([]slog.Attr(nil), h.attrs...), attrs...)}
}

func (h *logHandler) WithGroup(string) slog.Handler { return h }
