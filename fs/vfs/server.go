package vfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// commander is a connection over which a command can be run on the node, of which no more is
// expected than that the login shell runs sh.
type commander interface {
	Output(ctx context.Context, command string) ([]byte, error)
}

// process is one on the node: its number and when it started, in clock ticks since the boot, which
// tells it from a later one with the same number. The zero process is one that is not known.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

const (
	// commandTime is how long a command about servers may take.
	commandTime = 15 * time.Second

	// An answer's line begins with this; a login shell may print others.
	serversMark = "bundlefs-servers:"
	endedMark   = "bundlefs-ended"

	// statOf sets $start, $parent, $state and $name of a process, of the lines of proc(5): the name is
	// in parentheses and may hold anything.
	statOf = `statof() { start=; read -r line <"/proc/$1/stat" || return 1; name=${line%)*}; name=${name#*\(}; ` +
		`set -- ${line##*) }; state=$1 parent=$2; shift 19; start=$1; } 2>/dev/null; `

	// A command over a connection is a child of the process that serves it, and so are its SFTP
	// servers: programs of that name, or, with internal-sftp, sshd itself. A login shell that does
	// not replace itself by what it runs, as dash, stands in between.
	listServers = statOf + `all=; me=$PPID; kids=; for dir in /proc/[0-9]*; do pid=${dir#/proc/}; statof $pid || continue; ` +
		`if [ "$parent" = $me ]; then kids="$kids $pid "; case $name in sshd*) all="$all $pid:$start" ;; esac; fi; done; ` +
		`for dir in /proc/[0-9]*; do pid=${dir#/proc/}; statof $pid || continue; ` +
		`case $name in sftp-server*) case "$kids $me " in *" $parent "*) all="$all $pid:$start" ;; esac ;; esac; done; ` +
		`echo "` + serversMark + `$all"`

	// KILL also ends what is stopped. A process that is gone, or waits for its parent, acts no more.
	endAll = statOf + `left=; for try in 1 2 3 4 5 6 7 8 9 10; do left=; for p in "$@"; do pid=${p%:*}; statof $pid || continue; ` +
		`if [ "$start" = "${p#*:}" ] && [ "$state" != Z ] && [ "$state" != X ]; then kill -9 $pid 2>/dev/null; left="$left $pid"; fi; done; ` +
		`[ -z "$left" ] && break; sleep 0.2 2>/dev/null || sleep 1; done; echo "` + endedMark + `$left"`
)

// errNoCommands is why nothing is known of the servers.
var errNoCommands = errors.New("no command can be run on the node")

// servers asks which processes on the node serve the SFTP sessions of a connection.
func servers(ctx context.Context, c *connection) ([]process, error) {
	line, err := ran(ctx, c, listServers, serversMark)
	if err != nil {
		return nil, err
	}
	var list []process
	for _, word := range strings.Fields(line) {
		pid, start, ok := strings.Cut(word, ":")
		p, err := strconv.Atoi(pid)
		at, serr := strconv.ParseUint(start, 10, 64)
		if !ok || err != nil || serr != nil || p < 2 || len(list) == 64 {
			return nil, fmt.Errorf("unexpected answer of the node: %.100q", line)
		}
		list = append(list, process{p, at})
	}
	if len(list) == 0 {
		return nil, errors.New("none is found")
	}
	return list, nil
}

// endServers ends servers of former connections over a new one. The error is why some of them may
// still act; nil: none does.
func endServers(ctx context.Context, c *connection, former []process) error {
	var words []string
	unknown := false
	for _, p := range former {
		if p == (process{}) {
			unknown = true
			continue
		}
		words = append(words, fmt.Sprintf("%d:%d", p.PID, p.Start))
	}
	if len(words) > 0 {
		left, err := ran(ctx, c, "set -- "+strings.Join(words, " ")+"; "+endAll, endedMark)
		if err != nil {
			return fmt.Errorf("ending the former SFTP servers: %w", err)
		}
		if left = strings.TrimSpace(left); left != "" {
			return fmt.Errorf("former SFTP servers on the node do not end: %.100q", left)
		}
	}
	if unknown {
		return errors.New("the former SFTP servers on the node are not known")
	}
	return nil
}

// ran runs a script on the node and returns what follows the mark in its output.
func ran(ctx context.Context, c *connection, script, mark string) (string, error) {
	r, ok := c.conn.(commander)
	if !ok {
		return "", errNoCommands
	}
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	out, err := r.Output(ctx, "exec sh -c '"+strings.ReplaceAll(script, "'", `'\''`)+"' sh")
	if err != nil {
		return "", err
	}
	for line := range bytes.Lines(out) {
		if rest, ok := bytes.CutPrefix(line, []byte(mark)); ok {
			return strings.TrimSpace(string(rest)), nil
		}
	}
	return "", errors.New("the login shell did not run a command")
}
