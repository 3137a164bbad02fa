"""What runs under a lock is named on the node, so that whoever breaks the lock can end it.

While a step runs there is an empty file in the home. All is in its name, so
that it is there as a whole or not at all, also on a full disk:

    .conc-step-LEASE-PID-START-MARK

LEASE is the hash of the lock's token, PID the agent, START its start time
(field 22 of /proc/PID/stat; 0 without /proc) and PID-MARK what all that the
step starts has in its environment. MARK is "left" for a process that could not
be ended; that of conc shell, which does the same, begins with "shell-". Package bundle reads the names: see endsteps.go.
"""
import os
import re

PREFIX = ".conc-step-"
LEFT = "left"
NAME = re.compile(re.escape(PREFIX) + r"[0-9a-f]{32}-([0-9]+)-([0-9]+)-((?:shell-)?[0-9a-f]+|left)$")
LEASE = re.compile(r"[0-9a-f]{32}$")


def started(pid):
    """The start time of a process; 0 when there is no such process, or no /proc."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as f:
            fields = f.read().rpartition(b")")[2].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


def marked(mark):
    """Whether a process that we may look at has the mark, NAME=VALUE, in its environment."""
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            try:
                with open("/proc/" + name + "/environ", "rb") as f:
                    if mark in f.read().split(b"\0"):
                        return True
            except OSError:  # another user's, or it has just ended
                pass
    return False


def write(home, lease, pid, mark):
    """Names a process; gives the path."""
    if not LEASE.match(lease):
        raise ValueError("not the hash of a token")
    path = os.path.join(home, "%s%s-%d-%d-%s" % (PREFIX, lease, pid, started(pid), mark))
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    return path


def remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass


def sweep(home, variable):
    """Removes the names of what has ended, with all that it started."""
    for name in os.listdir(home):
        match = NAME.match(name) if name.startswith(PREFIX) else None
        if match is None or not os.path.isdir("/proc"):
            continue
        pid, start, mark = match.groups()
        if started(int(pid)) != int(start) and not marked(("%s=%s-%s" % (variable, pid, mark)).encode("ascii")):
            remove(os.path.join(home, name))
