package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"bundlefs/internal/remote"
)

// scriptHead begins every script that is run on the node, in one exec. The login shell may have
// said something before, and whatever follows may do so after: what counts is between two lines
// that begin with a mark that nobody can know. The first argument is that mark, which is printed
// with a sign before it, so that a command line that is echoed is not taken for an answer.
//
//	say WORDS    the answer
//	finish       its end, and that of the script
//	fail WHAT    it could not be done; why is on standard error, as programs said it
//	held DIR     answers who holds a bundle: "gone", "link", "other" for what is no folder, or
//	             "held SINCE KIND" with KIND of its record: "file", followed by what is in it,
//	             "none", "temp" when there is that of ours which was not finished, "closed", "other";
//	             a second argument is the name of the latter. No more than maxRecord and one byte are
//	             sent. "broken" is the kind when the lock was broken and is not free yet; what follows
//	             is the record that counted before
//	recorded FILE  tells whether the record in it has the token that is in $token
//	unname PREFIX  removes the lease names that begin so
const scriptHead = `
mark="=$1"; shift
echo "$mark" >&2
LC_ALL=C; export LC_ALL
say() { echo "$mark $*"; }
finish() { echo; echo "$mark end"; exit 0; }
fail() { say failed "$1"; finish; }
held() {
	record=$1/` + RecordName + `
	if [ -L "$1" ]; then say link
	elif [ ! -e "$1" ]; then say gone
	elif [ ! -d "$1" ]; then say other
	else
		since=$(stat -c %Y -- "$1" 2>/dev/null || stat -f %m -- "$1" 2>/dev/null) || since=0
		kind=file
		if [ ! -x "$1" ]; then kind=closed
		elif [ ! -e "$record" ] && [ ! -L "$record" ]; then
			kind=none
			for broken in "$1/` + brokenPrefix + `"*; do
				if [ -f "$broken" ] && [ ! -L "$broken" ] && [ -r "$broken" ]; then kind=broken record=$broken; fi
			done
			[ -f "$1/$2" ] && [ ! -L "$1/$2" ] && kind=temp
		elif [ -L "$record" ] || [ ! -f "$record" ]; then kind=other
		elif [ ! -r "$record" ]; then kind=closed
		fi
		say held "$since" "$kind"
		case $kind in file | broken) dd if="$record" bs=65537 count=1 2>/dev/null ;; esac
	fi
	finish
}
recorded() {
	[ -f "$1" ] && [ ! -L "$1" ] || return 1
	while IFS= read -r line; do
		case $line in *'"token": "'"$token"'"'*) return 0 ;; esac
	done <"$1"
	return 1
}
unname() {
	for lease in "$1"*; do
		if [ -L "$lease" ]; then rm -f -- "$lease"; fi
	done
}
if [ -z "$HOME" ] || ! cd -- "$HOME"; then fail home; fi
`

// answer is what a script on the node said.
type answer struct {
	words []string // never empty
	body  []byte   // what followed them
	why   string   // what programs said on standard error, as one line
}

// runScript runs a script, which scriptHead begins, in one exec. Standard input carries what no
// list of processes may show.
func runScript(ctx context.Context, client *remote.Client, script, input string, args ...string) (*answer, error) {
	s, err := startScript(ctx, client, script, args...)
	if err != nil {
		return nil, err
	}
	return s.finish(input)
}

// runWhole is runScript for what is not cut off at once when ctx ends, since whether it was done has to
// be known. A script that does not even begin is given up soon.
func runWhole(ctx context.Context, client *remote.Client, script, input string, args ...string) (*answer, error) {
	heard := make(chan struct{})
	asked, stop := lateCancel(ctx, heard)
	defer stop()
	s, err := beginScript(asked, client, heard, script, args...)
	if err != nil {
		return nil, err
	}
	return s.finish(input)
}

// running is a script that runs on the node, and waits for its input if it reads any.
type running struct {
	process   *remote.Process
	mark      string
	input     *lateInput
	out, errs *marked
}

// startScript is runScript up to the input: whoever calls it has to call finish or abandon. ctx is for
// the whole of it.
func startScript(ctx context.Context, client *remote.Client, script string, args ...string) (*running, error) {
	return beginScript(ctx, client, make(chan struct{}), script, args...)
}

// beginScript is startScript, and closes heard when the script runs.
func beginScript(ctx context.Context, client *remote.Client, heard chan struct{}, script string, args ...string) (*running, error) {
	mark := newToken()[:32]
	s := &running{
		mark: mark, input: &lateInput{text: make(chan string, 1)},
		out:  &marked{mark: []byte("=" + mark + " "), most: maxRecord + 4096},
		errs: &marked{mark: []byte("=" + mark + "\n"), most: 4096, heard: heard},
	}
	cmd := remote.Quote(append([]string{"sh", "-c", scriptHead + script, "sh", mark}, args...)...)
	var err error
	if s.process, err = client.Start(ctx, cmd, s.input, s.out, s.errs); err != nil {
		s.abandon()
		return nil, err
	}
	s.process.Expect(heard, "login shell")
	return s, nil
}

// abandon gives the script no input, and does not wait for it.
func (s *running) abandon() { close(s.input.text) }

// finish gives the script its input and waits for its answer.
func (s *running) finish(input string) (*answer, error) {
	s.input.text <- input
	close(s.input.text)
	status, err := s.process.Wait()
	if err != nil {
		return nil, err
	}
	out, errs := s.out, s.errs
	text, _, whole := bytes.Cut(out.text, []byte("\n="+s.mark+" end\n"))
	if !whole {
		return nil, notRun(status, out, errs)
	}
	line, body, _ := bytes.Cut(text, []byte("\n"))
	a := &answer{words: strings.Fields(string(line)), body: body, why: clean(string(errs.text))}
	if len(a.words) == 0 {
		return nil, notRun(status, out, errs)
	}
	return a, nil
}

// lateInput is an input that is not known yet when the script starts.
type lateInput struct {
	text chan string // holds all of it, then is closed
	left string
}

func (l *lateInput) Read(p []byte) (int, error) {
	for l.left == "" {
		text, ok := <-l.text
		if !ok {
			return 0, io.EOF
		}
		l.left = text
	}
	n := copy(p, l.left)
	l.left = l.left[n:]
	return n, nil
}

// notRun is the error when there was no answer, or not a whole one.
func notRun(status *remote.ExitStatus, out, errs *marked) error {
	err := fmt.Errorf("the shell on the node did not do what it was asked to, and ended with %s", status)
	if out.found {
		err = fmt.Errorf("the shell on the node ended with %s in the middle", status)
	}
	for _, said := range [][]byte{errs.text, out.text} {
		if s := clean(string(said)); s != "" {
			err = fmt.Errorf("%w: it said %q", err, s)
			break
		}
	}
	return withHint(err, "the login must be able to run commands: look at its shell, the files that this reads (as ~/.bashrc), "+
		"and at ForceCommand in the node's sshd_config")
}

// failure makes an error of the answer "failed WHAT".
func (a *answer) failure(what map[string]string) error {
	text := what[a.words[len(a.words)-1]]
	if a.words[0] != "failed" || text == "" {
		return fmt.Errorf("unexpected answer of the node: %q", clean(strings.Join(a.words, " ")))
	}
	if a.why != "" {
		text += ": " + a.why
	}
	return errors.New(text)
}

// marked is a writer that keeps what follows a mark, up to a number of bytes, and before that the
// beginning of what else there is.
type marked struct {
	mark  []byte
	most  int
	found bool
	heard chan struct{} // closed when the mark is found; may be nil
	text  []byte        // behind the mark, when that was found
	last  []byte        // the end of what was written, while it was not
}

func (m *marked) Write(p []byte) (int, error) {
	n := len(p)
	if !m.found {
		all := append(m.last, p...)
		_, after, found := bytes.Cut(all, m.mark)
		if !found {
			m.text = append(m.text, p[:min(n, max(512-len(m.text), 0))]...)
			m.last = bytes.Clone(all[max(0, len(all)-len(m.mark)):])
			return n, nil
		}
		m.found, m.text, m.last, p = true, nil, nil, after
		if m.heard != nil {
			close(m.heard)
		}
	}
	m.text = append(m.text, p[:min(len(p), max(m.most-len(m.text), 0))]...)
	return n, nil
}
