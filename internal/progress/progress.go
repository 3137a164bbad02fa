// Package progress shows how far a long work has come, as a bar on a terminal:
// the same bar for all programs here. What is not a terminal shows nothing.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// IsTerminal tells whether what is written to w is shown on a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// State is how far a work has come. A Total of 0 is not known, and not shown.
type State struct {
	What        string // what is being done; another What is another bar
	Done, Total int64
	Unit        string // "bytes" are shown in KiB and so on; else a plural, as "files"
	Note        string // what is shown behind the numbers; may be ""
}

// Bar is the place where a bar is shown; its methods may be called from several
// goroutines.
type Bar struct {
	w io.Writer // nil: nothing is shown

	mu   sync.Mutex // guards what follows
	all  *mpb.Progress
	bar  *mpb.Bar
	what string

	noteMu sync.Mutex // guards note, which is read while a bar is drawn
	note   string
}

// New makes a place for bars on w; on what is no terminal none is shown.
func New(w io.Writer) *Bar {
	if !IsTerminal(w) {
		w = nil
	}
	return &Bar{w: w}
}

// Show draws the bar, or removes it when all is done.
func (b *Bar) Show(s State) {
	if b.w == nil || s.Total <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil && b.what != s.What || s.Done >= s.Total {
		b.end()
	}
	if s.Done >= s.Total {
		return
	}
	b.setNote(s.Note)
	if b.bar == nil {
		b.what = s.What
		b.all = mpb.New(mpb.WithOutput(b.w), mpb.WithWidth(40))
		count := decor.CountersNoUnit("%d / %d "+s.Unit, decor.WCSyncSpace)
		if s.Unit == "bytes" {
			count = decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace)
		}
		note := decor.Any(func(decor.Statistics) string {
			b.noteMu.Lock()
			defer b.noteMu.Unlock()
			return b.note
		})
		b.bar = b.all.AddBar(s.Total, mpb.PrependDecorators(decor.Name(s.What)), mpb.AppendDecorators(count, note), mpb.BarRemoveOnComplete())
	}
	b.bar.SetTotal(s.Total, false)
	b.bar.SetCurrent(s.Done)
}

func (b *Bar) setNote(text string) {
	if text != "" {
		text = ", " + text
	}
	b.noteMu.Lock()
	defer b.noteMu.Unlock()
	b.note = text
}

// Above writes text above the bar; false when there is none, and nothing was written.
func (b *Bar) Above(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar == nil {
		return false
	}
	io.WriteString(b.all, text)
	return true
}

// End removes the bar, if there is one.
func (b *Bar) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end()
}

func (b *Bar) end() {
	if b.bar != nil {
		b.bar.Abort(true)
		b.all.Wait()
	}
	b.all, b.bar = nil, nil
}

// Barrier makes the states of a barrier, which is told only what is still to
// go: its total is the most that this was.
type Barrier struct {
	What  string
	files int64
	bytes int64
}

// Left is the state when so much is still to go to the node.
func (b *Barrier) Left(files, bytes int64) State {
	b.files, b.bytes = max(b.files, files), max(b.bytes, bytes)
	if b.bytes == 0 {
		return State{What: b.What, Done: b.files - files, Total: b.files, Unit: "files"}
	}
	return State{What: b.What, Done: b.bytes - bytes, Total: b.bytes, Unit: "bytes", Note: fmt.Sprintf("%d files to go", files)}
}
