package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// agentPatience is how long ssh-agent may take to list its keys.
const agentPatience = 10 * time.Second

// maxChallenges bounds the rounds of questions of one keyboard-interactive login.
const maxChallenges = 32

var errDenied = errors.New("no way to log in is left")

// candidate is a key that may be offered.
type candidate struct {
	label string
	// signer gives what signs with it; it may ask for a passphrase, which it
	// does at once only when the public key cannot be known otherwise.
	signer func() (*lazySigner, error)
}

// login tries the ways to log in, one after the other: keys, then questions,
// then a password. Its next method is an ssh.ClientAuthCallback, so each key is
// an attempt of its own, and one that cannot sign does not end the others.
type login struct {
	s     *settings
	ask   *asker // nil: nobody to ask
	alive func() error

	keys      []candidate
	agentConn net.Conn

	started bool     // the node asked for a login: the host key was accepted
	methods []string // what it accepts
	tried   []string
	current *candidate
	offered *lazySigner
	asked   map[string]int // attempts by keyboard-interactive and password
	askErr  error
	err     error // why next gave up
}

// newLogin collects the keys. It waits for ssh-agent, but not longer than ctx.
func newLogin(ctx context.Context, s *settings, ask *asker, clock *stopwatch, alive func() error) *login {
	l := &login{s: s, ask: ask, alive: alive, asked: map[string]int{}}
	if !s.pubkeyAuth {
		return l
	}
	held := l.openAgent(ctx)
	paused := func(signer ssh.Signer) func() (*lazySigner, error) {
		// An agent may ask its user to confirm, or to touch a token.
		return func() (*lazySigner, error) {
			return &lazySigner{pub: signer.PublicKey(), unlock: func() (ssh.Signer, error) {
				return pausingSigner{signer, clock}, nil
			}}, nil
		}
	}
	var explicit, others, defaults, blind []candidate
	used := map[string]bool{}
	for _, id := range s.identities {
		k, err := loadKeyFile(id.path)
		if err != nil {
			if id.explicit || !errors.Is(err, fs.ErrNotExist) {
				l.note("key %s: %v", id.path, err)
			}
			continue
		}
		list := &defaults
		if id.explicit {
			list = &explicit
		}
		if k.pub == nil {
			blind = append(blind, candidate{label: "key " + k.path, signer: func() (*lazySigner, error) {
				signer, err := k.unlock(ask, s.passPrompts)
				if err != nil {
					return nil, err
				}
				return &lazySigner{pub: signer.PublicKey(), unlock: func() (ssh.Signer, error) { return signer, nil }}, nil
			}})
			continue
		}
		label := "key " + k.path + " " + ssh.FingerprintSHA256(k.pub)
		if signer, ok := held[string(k.pub.Marshal())]; ok {
			used[string(k.pub.Marshal())] = true
			*list = append(*list, candidate{label + " in ssh-agent", paused(signer.signer)})
			continue
		}
		if k.signer == nil && k.sealed == nil {
			l.note("%s: only its public half is there, and ssh-agent does not have it", label)
			continue
		}
		*list = append(*list, candidate{label, func() (*lazySigner, error) {
			return &lazySigner{pub: k.pub, unlock: func() (ssh.Signer, error) { return k.unlock(ask, s.passPrompts) }}, nil
		}})
	}
	if !s.identitiesOnly {
		for _, a := range sortedHeld(held) {
			if !used[string(a.signer.PublicKey().Marshal())] {
				others = append(others, candidate{a.label, paused(a.signer)})
			}
		}
	}
	l.keys = slices.Concat(explicit, others, defaults, blind)
	return l
}

// heldKey is a key of the agent.
type heldKey struct {
	index  int
	label  string
	signer ssh.Signer
}

func sortedHeld(held map[string]heldKey) []heldKey {
	list := make([]heldKey, 0, len(held))
	for _, h := range held {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b heldKey) int { return a.index - b.index })
	return list
}

// openAgent gives the agent's keys by their public half. An agent that does not
// answer is noted, not an error.
func (l *login) openAgent(ctx context.Context) map[string]heldKey {
	if l.s.agentSocket == "" {
		return nil
	}
	d := net.Dialer{Timeout: agentPatience}
	conn, err := d.DialContext(ctx, "unix", l.s.agentSocket)
	if err != nil {
		l.note("ssh-agent at %s: %v", l.s.agentSocket, err)
		return nil
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(agentPatience))
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		stop()
		conn.Close()
		l.note("ssh-agent at %s: %v", l.s.agentSocket, err)
		return nil
	}
	_ = conn.SetDeadline(time.Time{})
	l.agentConn = conn
	held := map[string]heldKey{}
	for i, s := range signers {
		label := "ssh-agent's key " + ssh.FingerprintSHA256(s.PublicKey())
		if k, ok := s.PublicKey().(*agent.Key); ok && k.Comment != "" {
			label += " (" + printable(k.Comment) + ")"
		}
		held[string(s.PublicKey().Marshal())] = heldKey{i, label, s}
	}
	return held
}

// close lets go of the agent.
func (l *login) close() {
	if l.agentConn != nil {
		l.agentConn.Close()
	}
}

func (l *login) note(format string, args ...any) {
	l.tried = append(l.tried, fmt.Sprintf(format, args...))
}

// next is an ssh.ClientAuthCallback.
func (l *login) next(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	l.started = true
	l.methods = c.AllowedMethods
	l.settle()
	if err := l.alive(); err != nil {
		return l.giveUp(err)
	}
	if slices.Contains(l.methods, "publickey") {
		for len(l.keys) > 0 {
			k := l.keys[0]
			l.keys = l.keys[1:]
			signer, err := k.signer()
			if err != nil {
				l.note("%s: %v", k.label, err)
				continue
			}
			l.current, l.offered = &k, signer
			return ssh.PublicKeys(signer), nil
		}
	}
	for _, m := range []struct {
		name    string
		allowed bool
		method  func() ssh.AuthMethod
	}{
		{"keyboard-interactive", l.s.kbdAuth, l.questions},
		{"password", l.s.passAuth, l.password},
	} {
		if !m.allowed || !slices.Contains(l.methods, m.name) || l.asked[m.name] >= l.s.passPrompts {
			continue
		}
		if l.asked[m.name]++; l.ask == nil {
			l.asked[m.name] = l.s.passPrompts
			l.note("%s: nobody can be asked", m.name)
			continue
		}
		return m.method(), nil
	}
	return l.giveUp(errDenied)
}

// settle notes how the attempt before ended.
func (l *login) settle() {
	switch {
	case l.current != nil && l.offered.err != nil:
		l.note("%s: the node would accept it, but: %v", l.current.label, l.offered.err)
	case l.current != nil:
		l.note("%s: refused", l.current.label)
	case l.askErr != nil:
		l.note("%v", l.askErr)
	}
	l.current, l.offered, l.askErr = nil, nil, nil
}

func (l *login) giveUp(err error) (ssh.AuthMethod, error) {
	for _, m := range []string{"keyboard-interactive", "password"} {
		if n := l.asked[m]; n > 0 && l.ask != nil {
			l.note("%s: tried %d times", m, n)
		}
	}
	l.err = err
	return nil, err
}

// failed turns what the handshake ended with into an error for the user.
func (l *login) failed(err error) error {
	l.settle()
	e := &AuthError{User: l.s.user, Host: Target{Host: l.s.host, Port: l.s.port}.String(), Methods: l.methods, Tried: l.tried, Prompted: l.ask != nil}
	if !errors.Is(err, errDenied) {
		e.Err = err
	}
	return e
}

func (l *login) questions() ssh.AuthMethod {
	rounds := 0
	return ssh.KeyboardInteractive(func(name, instruction string, questions []string, _ []bool) ([]string, error) {
		if rounds++; rounds > maxChallenges {
			return nil, errors.New("keyboard-interactive: the node asks without end")
		}
		answers := make([]string, len(questions))
		for i, q := range questions {
			lead := ""
			if i == 0 {
				for _, s := range []string{name, instruction} {
					if s = strings.TrimSpace(s); s != "" {
						lead += s + "\n"
					}
				}
			}
			answer, err := l.secret("keyboard-interactive", fmt.Sprintf("%s(%s@%s) %s", lead, l.s.user, l.s.host, q))
			if err != nil {
				return nil, err
			}
			answers[i] = answer
		}
		return answers, nil
	})
}

func (l *login) password() ssh.AuthMethod {
	return ssh.PasswordCallback(func() (string, error) {
		return l.secret("password", fmt.Sprintf("%s@%s's password: ", l.s.user, l.s.host))
	})
}

// secret asks; without an answer the method is not tried again.
func (l *login) secret(method, prompt string) (string, error) {
	answer, err := l.ask.secret(prompt)
	if err != nil {
		l.asked[method] = l.s.passPrompts
		l.askErr = fmt.Errorf("%s: no answer was given: %w", method, err)
	}
	return answer, l.askErr
}

// pausingSigner stops the connection's clock while somebody confirms.
type pausingSigner struct {
	ssh.Signer
	clock *stopwatch
}

func (p pausingSigner) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	p.clock.pause()
	defer p.clock.resume()
	if a, ok := p.Signer.(ssh.AlgorithmSigner); ok {
		return a.SignWithAlgorithm(rand, data, algorithm)
	}
	return p.Signer.Sign(rand, data)
}
