package main

import (
	"errors"
	"io"
	"os"
	"syscall"

	"bundlefs/internal/progress"
)

// output gives what is written to for f, a standard stream. When who reads it has
// gone, broken is called: a run is halted as by Ctrl-C, for a program that just died
// would leave its journal, its mount and what runs on the node as they are.
func output(f *os.File, broken func()) io.Writer {
	if progress.IsTerminal(f) { // it ends with SIGHUP
		return f
	}
	return &pipe{f, broken}
}

type pipe struct {
	f      *os.File
	broken func()
}

// errNoReader is not a broken pipe or connection of another kind.
var errNoReader = errors.New("nobody reads the output any more")

// Write writes to the stream.
func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.f.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		p.broken()
		err = errNoReader
	}
	return n, err
}
