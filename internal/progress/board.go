package progress

import (
	"io"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Board shows what several works do, a line each; its methods may be called from
// several goroutines.
type Board struct {
	all *mpb.Progress

	mu    sync.Mutex // guards what follows
	lines map[string]*boardLine
}

type boardLine struct {
	bar *mpb.Bar

	mu   sync.Mutex // guards text, which is read while the line is drawn
	text string
}

func (l *boardLine) set(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = text
}

func (l *boardLine) get() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text
}

// NewBoard makes a board on w with a line for each name; nil where w is no terminal.
func NewBoard(w io.Writer, names []string) *Board {
	if !IsTerminal(w) {
		return nil
	}
	b := &Board{all: mpb.New(mpb.WithOutput(w)), lines: map[string]*boardLine{}}
	for _, name := range names {
		l := &boardLine{text: "waits"}
		bar := b.all.New(1, mpb.NopStyle(), mpb.PrependDecorators(
			decor.Name(name, decor.WCSyncSpaceR), decor.Any(func(decor.Statistics) string { return l.get() })))
		l.bar = bar
		b.lines[name] = l
	}
	return b
}

// Set changes the text of a line; a nil board does nothing.
func (b *Board) Set(name, text string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.lines[name]; l != nil {
		l.set(text)
	}
}

// Above writes text above the lines; false when there are none, and nothing was written.
func (b *Board) Above(text string) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lines == nil {
		return false
	}
	io.WriteString(b.all, text)
	return true
}

// End removes the lines.
func (b *Board) End() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lines == nil {
		return
	}
	for _, l := range b.lines {
		l.bar.Abort(true)
	}
	b.all.Wait()
	b.lines = nil
}
