package ops

import (
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"bundlefs/internal/remote"
)

//go:embed agent.py agent_audit.py agent_fence.py agent_process.py agent_python.py step_*.py
var programs embed.FS

// bootstrap is what the node's python is started with: it reads the agent, of
// as many bytes as its second argument says, and runs it. It has no quotes,
// backslashes or line feeds that some login shell could read in its own way.
const bootstrap = `import sys; sys.version_info >= (3, 6) or sys.exit("conc: this is python " + sys.version.split()[0]); ` +
	`stdin = sys.stdin.buffer; exec(compile(stdin.read(int(sys.argv[2])), "agent.py", "exec")); main(stdin, sys.argv[1])`

const (
	pingEvery = 15 * time.Second
	// stopGrace is how long the agent may take to answer a cancel; it needs one
	// second to kill, and a round trip.
	stopGrace  = 5 * time.Second
	closeGrace = 3 * time.Second
	maxNoise   = 64 << 10 // of what a login shell prints before the agent speaks
	maxStderr  = 8 << 10  // kept of the agent's standard error
)

var errEnded = errors.New("the agent was ended")

// agent is the conversation with the agent on the node. One call runs at a time.
type agent struct {
	python string
	log    *slog.Logger
	client *remote.Client
	cancel context.CancelFunc // ends the process on the node
	frames chan *frame        // unbuffered: who does not read slows the node down
	dead   chan struct{}      // closed when nothing can come any more
	heard  chan struct{}      // closed when it has said its first word
	stderr tail
	out    chan []byte // what is still to be written; closed never
	wg     sync.WaitGroup

	mu   sync.Mutex // guards err
	err  error      // why it is dead
	last int        // the last request's number; of call only
}

// startAgent starts the agent on the client's node. It does not wait for the
// answer: the first call does, so that no round trip is lost. notes are frames that it gets first.
func startAgent(ctx context.Context, client *remote.Client, python string, notes []byte, log *slog.Logger) (*agent, error) {
	source, err := programs.ReadFile("agent.py")
	if err != nil {
		return nil, fmt.Errorf("read agent: %w", err)
	}
	first, err := modulesFrame()
	if err != nil {
		return nil, err
	}
	word := "conc-agent-" + rand.Text()
	command := homeWord(python) + " " + remote.Quote("-I", "-S", "-X", "utf8", "-c", bootstrap, word, strconv.Itoa(len(source)))

	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a := &agent{
		python: python, log: log, client: client, cancel: cancel, stderr: tail{limit: maxStderr},
		frames: make(chan *frame), dead: make(chan struct{}), heard: make(chan struct{}), out: make(chan []byte, 4),
	}
	stdin, in := io.Pipe()
	out, stdout := io.Pipe()
	stop := context.AfterFunc(ctx, cancel) // until it runs: then a step that is stopped has its own way
	process, err := client.Start(life, command, stdin, stdout, &a.stderr)
	stop()
	if err != nil {
		cancel()
		stdin.Close()
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	process.Expect(a.heard, "login shell, or "+python+",")
	a.out <- slices.Concat(source, first, notes)
	a.wg.Add(3)
	go a.write(in)
	go a.read(out, stdout, word, process)
	go func() {
		defer a.wg.Done()
		<-life.Done()
		stdin.CloseWithError(errEnded) // whoever writes to it, or waits for its output to be read,
		out.CloseWithError(errEnded)   // must not wait for ever
	}()
	return a, nil
}

// modulesFrame is the frame with the steps' parts of the agent. They are loaded in
// the order of their names, so that one can import those before it.
func modulesFrame() ([]byte, error) {
	entries, err := programs.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("read agent: %w", err)
	}
	modules := [][2]string{}
	for _, e := range entries {
		name, _ := strings.CutSuffix(e.Name(), ".py")
		if name == "agent" {
			continue
		}
		source, err := programs.ReadFile(e.Name())
		if err != nil {
			return nil, fmt.Errorf("read agent: %w", err)
		}
		modules = append(modules, [2]string{name, string(source)})
	}
	return appendFrame(nil, map[string]any{"modules": modules})
}

// write sends what calls put out, and a ping now and then.
func (a *agent) write(in *io.PipeWriter) {
	defer a.wg.Done()
	defer in.Close()
	ping, _ := appendFrame(nil, map[string]string{"op": "ping"})
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		b, sent := ping, false
		select {
		case b = <-a.out:
			sent = true
		case <-ticker.C:
		case <-a.dead:
			select {
			case b = <-a.out: // a note that nobody waits for
				sent = true
			default:
				return
			}
		}
		_, err := in.Write(b)
		if sent {
			clear(b) // there may be a password in it
		}
		if err != nil {
			return // the reader finds out why
		}
	}
}

// read hands the agent's frames on until there are no more, and then notes why.
func (a *agent) read(out *io.PipeReader, stdout *io.PipeWriter, word string, process *remote.Process) {
	defer a.wg.Done()
	type end struct {
		status *remote.ExitStatus
		err    error
	}
	ended := make(chan end, 1)
	a.wg.Add(1)
	go func() {
		defer a.wg.Done()
		status, err := process.Wait()
		stdout.Close()
		ended <- end{status, err}
	}()
	noise, err := skipNoise(out, word)
	if noise != "" {
		a.log.Debug("printed before the agent spoke", "text", noise)
	}
	started := err == nil
	if started {
		close(a.heard)
	}
	for err == nil {
		var f *frame
		if f, err = readFrame(out); err == nil {
			select {
			case a.frames <- f:
			case <-a.dead:
			}
		}
	}
	out.CloseWithError(err) // lets the process's output go on into nothing
	if !errors.Is(err, io.EOF) {
		a.cancel()
	}
	e := <-ended
	a.fail(a.why(err, started, noise, e.status, e.err))
	a.cancel()
}

// skipNoise reads up to the line with the word; what stood before is noise.
func skipNoise(r io.Reader, word string) (string, error) {
	var seen []byte
	mark := []byte("\n" + word + "\n")
	b := make([]byte, 1)
	for !bytes.HasSuffix(seen, mark) {
		if len(seen) > maxNoise {
			return visible(string(seen[:200])), fmt.Errorf("more than %d bytes came before the agent's answer", maxNoise)
		}
		if _, err := io.ReadFull(r, b); err != nil {
			return strings.TrimSpace(string(seen)), err
		}
		seen = append(seen, b[0])
	}
	return strings.TrimSpace(string(seen[:len(seen)-len(mark)])), nil
}

// fail ends the conversation.
func (a *agent) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = err
		close(a.dead)
	}
}

func (a *agent) reason() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// close ends the agent and what it still runs: it gets the end of its input,
// and when it does not end by that, its session is closed.
func (a *agent) close() {
	a.fail(errEnded)
	timer := time.AfterFunc(closeGrace, a.cancel)
	defer timer.Stop()
	a.wg.Wait()
}

// call sends a request and gives its last frame. Output and progress go to t.
// When ctx ends, the request is cancelled on the node; a node that does not
// answer to that is cut off, whereupon the agent ends by itself. A secret goes
// with the request as its password, and is wiped when it has been sent.
func (a *agent) call(ctx context.Context, request map[string]any, secret []byte, t *task) (*frame, error) {
	a.last++
	request["id"] = a.last
	b, err := appendFrame(nil, request)
	if err != nil {
		return nil, err
	}
	if secret != nil {
		b = withSecret(b, secret)
	}
	if err := a.send(b); err != nil {
		return nil, err
	}
	done := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case f := <-a.frames:
			switch {
			case f.Hello != nil:
				a.log.Debug("agent runs", "python", f.Hello.Python, "executable", f.Hello.Executable)
			case f.ID != a.last:
			case f.Status != nil:
				return f, nil
			case f.Test != nil:
				t.test(f.Test)
			case f.Progress != nil:
				t.progress(Progress{What: visible(f.Progress.What), Done: f.Progress.Done, Total: f.Progress.Total, Unit: visible(f.Progress.Unit), Note: visible(f.Progress.Note)})
			default:
				t.flood(ctx, f.FD, f.Lines)
			}
		case <-a.dead:
			return nil, a.reason()
		case <-done:
			done = nil
			select {
			case <-a.heard:
			default: // nothing runs there that could be told, and it may never do
				a.fail(&lostError{"the agent had not started yet", nil})
				a.cancel()
				continue
			}
			why := "cancel"
			if errors.Is(context.Cause(ctx), errTimeout) {
				why = "timeout"
			}
			b, err := appendFrame(nil, map[string]string{"op": "cancel", "why": why})
			if err != nil {
				return nil, err
			}
			timer := time.NewTimer(stopGrace)
			defer timer.Stop()
			late = timer.C
			if err := a.send(b); err != nil {
				return nil, err
			}
		case <-late:
			a.fail(&lostError{"the node did not answer to that", nil})
			a.cancel()
		}
	}
}

func (a *agent) send(b []byte) error {
	select {
	case a.out <- b:
		return nil
	case <-a.dead:
		return a.reason()
	}
}
