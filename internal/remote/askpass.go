package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// UserPrompter asks as ssh(1) does: on the terminal; by the program of SSH_ASKPASS
// where there is no terminal but a display; and as SSH_ASKPASS_REQUIRE says, by the
// program in any case ("force"), or whenever there is a display ("prefer"), or not
// at all ("never"). It is nil when there is no way to ask.
func UserPrompter() Prompter {
	terminal := TerminalPrompter()
	program := os.Getenv("SSH_ASKPASS")
	require := os.Getenv("SSH_ASKPASS_REQUIRE")
	if program == "" || require == "never" {
		return terminal
	}
	display := os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
	if require == "force" || display && (require == "prefer" || terminal == nil) {
		return &askpass{program}
	}
	return terminal
}

// askpass asks by a program, which is given the question and prints the answer.
type askpass struct{ program string }

func (a *askpass) Secret(prompt string) (string, error) {
	return a.secretContext(context.Background(), prompt)
}

func (a *askpass) Confirm(prompt string) (bool, error) {
	return a.confirmContext(context.Background(), prompt)
}

func (a *askpass) secretContext(ctx context.Context, prompt string) (string, error) {
	cmd := exec.CommandContext(ctx, a.program, prompt)
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", fmt.Errorf("ask with %s: %w", a.program, err)
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("ask with %s: %w", a.program, err)
	}
	// Not by bytes.Buffer, which leaves copies behind when it grows.
	answer := make([]byte, maxAnswer)
	defer clear(answer)
	n, err := io.ReadFull(out, answer)
	if err == nil {
		err = errors.New("the answer is too long")
	} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if ended := cmd.Wait(); err == nil && ended != nil {
		err = fmt.Errorf("%w: %w", errNoAnswer, ended)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("ask with %s: %w", a.program, err)
	}
	line, _, _ := bytes.Cut(answer[:n], []byte("\n"))
	return string(bytes.TrimSuffix(line, []byte("\r"))), nil
}

func (a *askpass) confirmContext(ctx context.Context, prompt string) (bool, error) {
	answer, err := a.secretContext(ctx, prompt+" (yes/no)")
	return strings.EqualFold(strings.TrimSpace(answer), "yes"), err
}
