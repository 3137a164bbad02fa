package main

import (
	"fmt"
	"log/slog"
	"time"

	"bundlefs/internal/journal"
	"bundlefs/ops"
)

// sink shows the events of a run and notes them in the journal.
type sink struct {
	s     *session
	list  string
	run   string // of the journal
	json  bool
	index int
	total int
}

var _ ops.Sink = (*sink)(nil)

func (s *session) sink(list, run string, json bool) *sink {
	return &sink{s: s, list: list, run: run, json: json}
}

// jsonEvent is an event of --json.
type jsonEvent struct {
	Time    time.Time     `json:"time"`
	Event   string        `json:"event"` // "step", "output", "progress", "step end"
	Node    string        `json:"node"`
	List    string        `json:"list"`
	Step    string        `json:"step"`
	Op      string        `json:"op,omitempty"`
	Index   int           `json:"index,omitempty"`
	Total   int           `json:"total,omitempty"`
	Stream  string        `json:"stream,omitempty"`
	Line    *string       `json:"line,omitempty"`
	Percent int64         `json:"percent,omitempty"`
	Status  string        `json:"status,omitempty"`
	Message string        `json:"message,omitempty"`
	Hint    string        `json:"hint,omitempty"`
	Command string        `json:"command,omitempty"`
	Resume  string        `json:"resume,omitempty"`
	Elapsed time.Duration `json:"elapsed,omitempty"` // nanoseconds
	Output  []string      `json:"output,omitempty"`  // the last lines of a step that is not OK
}

// maxShown is how many of the last lines of a step that is not OK are shown again.
const maxShown = 10

// lastLines are the last lines that a step wrote; none when it is OK.
func lastLines(r ops.Result) []string {
	if r.Status == ops.OK {
		return nil
	}
	return r.Output[max(0, len(r.Output)-maxShown):]
}

func (k *sink) emit(step ops.Step, e jsonEvent) {
	e.Time, e.Node, e.List, e.Step = time.Now().UTC(), k.s.node.Name, k.list, step.Name
	k.s.app.ui.event(e)
}

func (k *sink) event(kind journal.Kind, step ops.Step) journal.Event {
	e := k.s.event(kind)
	e.List, e.Run, e.Step, e.Op = k.list, k.run, step.Name, stepText(step)
	return e
}

func (k *sink) StepStarted(step ops.Step, index, total int) {
	k.index, k.total = index, total
	k.s.app.note(k.event(journal.Start, step))
	if k.json {
		k.emit(step, jsonEvent{Event: "step", Op: stepText(step), Index: index, Total: total})
		return
	}
	k.s.app.ui.nodeState(k.s.node.Name, fmt.Sprintf("[%d/%d] %s", index, total, step.Name))
	k.s.app.ui.info(k.s.node.Name, step.Name, "[%d/%d] %s", index, total, stepText(step))
}

func (k *sink) Output(step ops.Step, stream ops.Stream, line string) {
	if k.json {
		name := "stdout"
		if stream == ops.Stderr {
			name = "stderr"
		}
		k.emit(step, jsonEvent{Event: "output", Stream: name, Line: &line})
		return
	}
	k.s.app.ui.output(k.s.node.Name, step.Name, line)
}

func (k *sink) Progress(step ops.Step, p ops.Progress) {
	if k.json {
		if p.Total > 0 {
			k.emit(step, jsonEvent{Event: "progress", Message: p.What, Percent: 100 * p.Done / p.Total})
		}
		return
	}
	p.What = k.s.node.Name + ": " + step.Name + ": " + p.What
	k.s.app.ui.progress(p)
}

func (k *sink) StepEnded(step ops.Step, r ops.Result) {
	k.s.app.ui.progressEnd()
	if r.Command == "" { // what went well is worth knowing by hand, too
		r.Command = ops.Explain(step, *k.s.env())
	}
	e := k.event(journal.End, step)
	e.Status, e.Message, e.Command, e.Elapsed, e.Output = r.Status.String(), r.Message, r.Command, r.Elapsed, r.Output
	e.Next = r.Next
	k.s.app.note(e)
	if k.json {
		k.emit(step, jsonEvent{
			Event: "step end", Status: r.Status.String(), Message: r.Message, Hint: r.Hint, Command: r.Command, Resume: r.Resume, Elapsed: r.Elapsed,
			Output: lastLines(r),
		})
		return
	}
	level := slog.LevelInfo
	if r.Status != ops.OK && (r.Status != ops.Stopped || r.Interrupted) {
		level = slog.LevelError
	}
	text := r.Status.String() + " after " + seconds(r.Elapsed)
	if r.Message != "" {
		text += ": " + r.Message
	}
	k.s.app.ui.say(level, k.s.node.Name, step.Name, "%s", text)
}

func seconds(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
