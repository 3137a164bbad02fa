"""The line that each step leaves on the node: ~/.conc/log, who did what here, and how it ended.

It is for who looks after the node: no argument, output or attribute is in it.
"""
import fcntl
import json
import os
import re
import stat
import time

FOLDER, LOG, OLD = ".conc", "log", "log.1"
MAX_LOG = 1 << 20   # bytes, from which on it becomes log.1
MAX_FIELD = 200     # characters
FIELDS = ("deploy", "node", "list", "step", "op")
PLAIN = re.compile(r"[A-Za-z0-9_.,:/@%+=~-]+$")


def word(value):
    """A value as one word of ASCII; in quotes where it is not plain."""
    text = str(value)
    if len(text) > MAX_FIELD:
        text = text[:MAX_FIELD] + "..."
    return text if PLAIN.match(text) else json.dumps(text)


def line(fields, status):
    words = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), word(fields.get("who", ""))]
    words += ["%s=%s" % (name, word(fields.get(name, ""))) for name in FIELDS]
    return " ".join(words + ["status=" + word(status)]) + "\n"


def note(home, fields, status):
    """Appends the line. That it cannot be written is no failure of the step."""
    try:
        write(home, line(fields, status).encode("ascii"))
    except (OSError, ValueError):
        pass


def write(home, text):
    path = os.path.join(home, FOLDER)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    # What another user has put there, or a link, is not written to.
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        private(folder, 0o700)
        log = opened(folder)
        try:
            if os.fstat(log).st_size + len(text) > MAX_LOG and turned(folder, log):
                os.close(log)
                log = opened(folder)
            os.write(log, text)
        finally:
            os.close(log)
    finally:
        os.close(folder)


def opened(folder):
    # O_NONBLOCK: a pipe in its place does not hold up the step.
    fd = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        private(fd, 0o600)
    except BaseException:
        os.close(fd)
        raise
    return fd


def private(fd, mode):
    """Raises unless it is ours alone; takes away what others may do with it."""
    info = os.fstat(fd)
    if info.st_uid != os.geteuid() or stat.S_ISREG(info.st_mode) and info.st_nlink != 1 or not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
        raise PermissionError("not ours")
    if stat.S_IMODE(info.st_mode) != mode:
        os.fchmod(fd, mode)


def turned(folder, log):
    """Makes the log the old one, unless another agent is about to do it, or has done it."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        now = os.stat(LOG, dir_fd=folder, follow_symlinks=False)
        if now.st_ino == os.fstat(log).st_ino:
            os.rename(LOG, OLD, src_dir_fd=folder, dst_dir_fd=folder)
        return True
    except OSError:
        return False
