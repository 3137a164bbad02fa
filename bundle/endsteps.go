package bundle

import (
	"strconv"
	"strings"
)

// stepPrefix begins the names of the files in the home on the node that tell what runs under a lock:
// stepPrefix LEASE-PID-START-MARK, see agent_fence.py of package ops. The lease is lease.Hash of the
// lock's token, START the start time of the process PID as /proc/PID/stat has it, and PID-MARK the value
// of stepVariable in the environment of all that the process has started. They are empty: all is in the
// name, so that there is no moment at which half of it can be read, and no room is needed for it.
const (
	stepPrefix   = ".conc-step-"
	stepVariable = "_CONC_STEP"
)

// endSteps is for scripts that break or give up a lock, after scriptHead. It defines
//
//	end_steps LEASE LEAVE    ends what runs under the lock, with all that it started: first as the
//	                         agent does it, then by SIGHUP (for shells) and SIGTERM, then by SIGKILL.
//	                         It returns when that is gone. What cannot be ended, as another user's
//	                         after sudo, and is not among the numbers LEAVE, is in $left, a line
//	                         "PID COMMAND" each, and the status is 1
//
// Whoever begins a step writes its name first and proves the lock then. Whoever breaks the lock makes
// the proof fail first, and calls this then. So no step is overlooked.
//
// What belongs to a step is what has its mark in its environment, is in a session of something that
// does, or descends from it. The session in which sshd starts the agent is left out unless it is
// the agent's own: not every server makes one for each command. So are we, and what we descend from.
const endSteps = `
# Of a process: its parent, session and start. Fails when it has ended.
step_stat() {
	line=
	IFS= read -r line 2>/dev/null <"/proc/$1/stat" || [ -n "$line" ] || return 1
	case $line in *") "?*) ;; *) line=$(cat "/proc/$1/stat" 2>/dev/null) ;; esac # a line feed in its name
	set -- ${line##*") "}
	case $1 in Z|X|"") return 1 ;; esac
	parent=$2 session=$4 start=${20}
}
step_add() {
	living="$living $1 "
	case $outside in *" $session "*) ;; *) sessions="$sessions $session " ;; esac
}
# Sets living to PID:START of all that runs. What was found once stays known, and so do its sessions.
steps_living() {
	living= others= marked=
	[ -z "$marks" ] || marked=$(grep -lsF $marks /proc/[0-9]*/environ 2>/dev/null)
	for p in /proc/[0-9]*; do
		p=${p#/proc/}
		case $mine in *" $p "*) continue ;; esac
		step_stat "$p" || continue
		case "$known $sessions $marked
" in
		*" $p:$start "*|*" $session "*|*"/proc/$p/environ
"*) step_add "$p:$start" ;;
		*) others="$others $p:$start:$parent:$session" ;;
		esac
	done
	more=yes
	while [ -n "$more" ]; do
		more=
		for p in $others; do
			session=${p##*:} p=${p%:*}; parent=${p##*:} p=${p%:*}
			case $living in
			*" $p "*) ;;
			*" $parent:"*) step_add "$p"; more=yes ;;
			esac
		done
	done
	known="$known $living"
}
# Whether one of them may be signalled.
steps_ours() {
	for p in $living; do
		kill -0 "${p%:*}" 2>/dev/null && return 0
	done
	return 1
}
steps_signal() {
	signal=$1; shift
	for p in "$@"; do
		step_stat "${p%:*}" && [ "$start" = "${p#*:}" ] && kill -"$signal" "${p%:*}" 2>/dev/null
	done
}
# Waits for so many tenths of a second, but not for what may not be signalled.
steps_gone() {
	turns=$1
	while steps_living; steps_ours && [ "$turns" -gt 0 ]; do
		sleep 0.1 2>/dev/null || sleep 1
		turns=$((turns - 1))
	done
	[ -z "$living" ]
}
end_steps() {
	hash=$1 leave=" $2 " left= known= marks= agents= outside= sessions= mine= named= living=
	set -- ` + stepPrefix + `"$hash"-*
	[ -e "$1" ] || [ -L "$1" ] || return 0
	p=$$
	while step_stat "$p"; do
		mine="$mine $p " outside="$outside $session " p=$parent
	done 2>/dev/null
	for f; do
		[ -f "$f" ] && [ ! -L "$f" ] || continue
		f=${f#` + stepPrefix + `"$hash"-}
		p=${f%%-*} f=${f#*-}; s=${f%%-*} f=${f#*-}
		case $p$s in ""|*[!0-9]*) continue ;; esac
		case $f in left) ;; ""|*[!0-9a-z-]*) continue ;; *) marks="$marks -e ` + stepVariable + `=$p-$f" ;; esac
		named="$named $p"
		[ "$p" -gt 1 ] && step_stat "$p" && [ "$start" = "$s" ] || continue
		known="$known $p:$s "
		case $f in left|shell-*) ;; *) agents="$agents $p:$s" ;; esac
		[ "$session" = "$p" ] || outside="$outside $session "
	done
	[ -n "$named" ] || return 0
	if [ ! -r /proc/$$/stat ]; then
		for p in $named; do
			kill -TERM "$p" 2>/dev/null
			kill -0 "$p" 2>/dev/null && living="$living $p:"
		done
		[ -z "$living" ] || sleep 3
	elif steps_living; [ -n "$living" ]; then
		# The agent may end as root what it has started so. A stopped one must go on for that.
		[ -n "$agents" ] && { steps_signal TERM $agents; steps_signal CONT $agents; steps_gone 40; } ||
			{ steps_signal HUP $living; steps_signal TERM $living; steps_signal CONT $living; steps_gone 10; } ||
			{ steps_signal KILL $living; steps_gone 30; } ||
			{ sleep 2; steps_living; } # sudo ends what it runs some time after its terminal is gone
	fi
	umask 077
	for p in $living; do
		s=${p#*:} p=${p%:*}
		[ -n "$s" ] || kill -0 "$p" 2>/dev/null || continue
		case $leave in *" $p "*) continue ;; esac
		: >"` + stepPrefix + `$hash-$p-${s:-0}-left" # what it descends from is gone: it is found by this next time
		command=$({ tr "\0\n" "  " <"/proc/$p/cmdline"; } 2>/dev/null | dd bs=200 count=1 2>/dev/null)
		left="$left$p $command
"
	done
	[ -z "$left" ] || return 1
	rm -f ` + stepPrefix + `"$hash"-*
}
`

// Survivor is a process on the node that runs under a lock and could not be ended.
type Survivor struct {
	PID     int
	Command string // "" when unknown
}

func (s Survivor) String() string {
	if s.Command == "" {
		return "pid " + strconv.Itoa(s.PID)
	}
	return "pid " + strconv.Itoa(s.PID) + " (" + s.Command + ")"
}

// survivors reads the lines of end_steps.
func survivors(body []byte) []Survivor {
	var list []Survivor
	for line := range strings.Lines(string(body)) {
		number, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		if pid, err := strconv.Atoi(number); err == nil && pid > 0 {
			list = append(list, Survivor{pid, clean(command)})
		}
	}
	return list
}

// SurvivorsError says that a lock is not free yet: its holder can do nothing more, but what it has
// started on the node still runs.
type SurvivorsError struct {
	Node, Dir string
	Closing   bool // the holder is closing it; else somebody breaks it
	Processes []Survivor
}

func (e *SurvivorsError) Error() string {
	names := make([]string, len(e.Processes))
	for i, p := range e.Processes {
		names[i] = p.String()
	}
	op, whose := "unlock ", "the former holder's"
	if e.Closing {
		op, whose = "remove bundle ", "its"
	}
	return op + e.Dir + " on " + e.Node + ": " + whose + " processes could not be ended: " + strings.Join(names, ", ")
}

// Is makes errors.Is(err, ErrBlocked) true.
func (e *SurvivorsError) Is(target error) bool { return target == ErrBlocked }

// Hint says what the operator can do.
func (e *SurvivorsError) Hint() string {
	line := "conc unlock " + e.Node + " --force"
	for _, p := range e.Processes {
		line += " --leave " + strconv.Itoa(p.PID)
	}
	if e.Closing {
		return "end them on the node, as their user or root, and close again; or wait until they have ended\n" +
			"if they may run beside the next holder's steps: 'conc close " + e.Node + " --forget', then '" + line + "'"
	}
	return "end them on the node, as their user or root, and unlock again; or wait until they have ended\n" +
		"if they may run beside the next holder's steps: '" + line + "'"
}
