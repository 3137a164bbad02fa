"""A command that the agent runs: its session, its killing, its output in lines."""
import fcntl
import json
import os
import selectors
import signal
import struct
import subprocess
import termios
import threading
import time

MARK = "_CONC_STEP"    # an environment variable
MAX_LINE = 64 << 10    # bytes; a longer line goes out in pieces
READ = 32 << 10        # MAX_LINE + READ, escaped as JSON, stays below the 1 MiB that conc takes
MAX_EVENT = 512 << 10  # bytes of an event of a child
GRACE = 1.0            # seconds between SIGTERM and SIGKILL
LINGER = 0.2           # seconds without output after which a pipe that a child keeps open is left


class Lines:
    """Cuts a stream into lines, and lines that are too long into pieces."""

    def __init__(self, emit):
        self.emit = emit
        self.rest = b""

    def feed(self, data):
        parts = (self.rest + data).split(b"\n")
        self.rest = parts.pop()
        lines = []
        for part in parts:
            while len(part) > MAX_LINE:
                part = self.cut(part, lines)
            lines.append(part)
        while len(self.rest) > MAX_LINE:
            self.rest = self.cut(self.rest, lines)
        self.send(lines)

    @staticmethod
    def cut(part, lines):
        at = MAX_LINE
        while at > MAX_LINE - 4 and part[at] & 0xC0 == 0x80:  # not within a UTF-8 character
            at -= 1
        lines.append(part[:at])
        return part[at:]

    def close(self):
        if self.rest:
            self.send([self.rest])
        self.rest = b""

    def send(self, lines):
        if lines:
            self.emit([line.decode("utf-8", "backslashreplace") for line in lines])


class Events:
    """A pipe apart from the outputs, over which a child tells what it does, a line of JSON each.

    The child gets the end w under its number. Each event, a dict, is handed to
    take; what is none is dropped, and so is a line that is too long.
    """

    def __init__(self, take):
        self.take = take
        self.rest = b""
        self.r, self.w = os.pipe()

    def feed(self, data):
        parts = (self.rest + data).split(b"\n")
        self.rest = parts.pop()[:MAX_EVENT]
        for part in parts:
            try:
                event = json.loads(part.decode("ascii")) if len(part) < MAX_EVENT else None
            except ValueError:  # a child that has crashed, or something else writes there
                continue
            if isinstance(event, dict):
                self.take(event)

    def given(self):
        """The child has its end."""
        if self.w is not None:
            os.close(self.w)
            self.w = None

    def close(self):
        self.given()
        os.close(self.r)


class Process:
    """A command in its own session; it is ended with all that it started, in whatever session."""

    def __init__(self, argv, cwd, env, stdin, events=None, **popen):
        # Guards reaped, so that no signal goes to a pid that may be another's by now.
        self.lock = threading.RLock()  # leave may come as a signal handler while this thread has it
        self.reaped = False
        self.killer = None
        self.seen = {}  # pid: start time, of what was found to be the command's
        # What the command starts, in whatever session, has this in its environment.
        env = dict(env)
        self.mark = ("%s=%s" % (MARK, env.setdefault(MARK, "%d-%s" % (os.getpid(), os.urandom(16).hex())))).encode("ascii")
        self.popen = subprocess.Popen(
            argv, cwd=cwd, env=env, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE, bufsize=0,
            pass_fds=[] if events is None else [events.w], **popen)
        if events is not None:
            events.given()

    def members(self):
        """The live processes of the session and all that the command started, or None where there is no /proc."""
        found, others, starts = set(), {}, {}
        try:
            names = [n for n in os.listdir("/proc") if n.isdigit()]
        except OSError:
            return None
        if not names:
            return None
        for name in names:
            try:
                with open("/proc/" + name + "/stat", "rb") as f:
                    fields = f.read().rpartition(b")")[2].split()
                state, parent, group, session, start = fields[:4] + [fields[19]]
            except (OSError, ValueError, IndexError):
                continue  # it has just ended
            starts[int(name)] = start
            if state in (b"Z", b"X"):
                continue
            if self.popen.pid in (int(group), int(session)) or self.seen.get(int(name)) == start or self.marked(name):
                found.add(int(name))
            else:
                others[int(name)] = int(parent)
        more = found | {self.popen.pid}
        while more:  # what has cleaned its environment
            more = {pid for pid, parent in others.items() if parent in more and pid not in found}
            found |= more
        self.seen = {pid: starts[pid] for pid in found}  # their descent may be lost with the next signal
        return sorted(found)

    def marked(self, name):
        try:
            with open("/proc/" + name + "/environ", "rb") as f:
                return self.mark in f.read().split(b"\0")
        except OSError:  # another user's
            return False

    def signal(self, number):
        with self.lock:
            if self.reaped:
                return
            targets = [lambda: os.killpg(self.popen.pid, number)]
            targets += [lambda pid=pid: os.kill(pid, number) for pid in self.members() or []]
            for send in targets:
                try:
                    send()
                except (ProcessLookupError, PermissionError):
                    pass

    def kill(self):
        """Begins to end it with all that it started."""
        with self.lock:
            if self.killer is None and not self.reaped:
                self.killer = threading.Thread(target=self.kill_now, daemon=True)
                self.killer.start()

    def kill_now(self):
        """Ends it with all that it started; returns when that is gone, or cannot be ended even so."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.signal(number)
            deadline = time.monotonic() + GRACE
            while time.monotonic() < deadline and self.members() != []:
                time.sleep(0.02)

    def wait(self):
        """Waits for the end without reaping, so that the group can still be killed."""
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self.popen.pid, os.WEXITED | os.WNOWAIT)
        else:
            self.reap()

    def reap(self):
        """Gives the return code; negative for a signal. A kill that goes on is waited for."""
        with self.lock:
            killer = self.killer
        if killer is not None:
            killer.join()
        with self.lock:
            code = self.popen.wait()
            self.reaped = True
        return code

    def pump(self, emitter, stdin, events=None):
        """Moves output until the pipes end, or the command ended and they are quiet.

        emitter(1) and emitter(2) take the lines of standard output and of standard error.
        """
        popen = self.popen
        ended, wake = os.pipe()
        waiter = threading.Thread(target=lambda: (self.wait(), os.close(wake)), daemon=True)
        pipes = {popen.stdout.fileno(): Lines(emitter(1)), popen.stderr.fileno(): Lines(emitter(2))}
        if events is not None:
            pipes[events.r] = events
        open_pipes = set(pipes)
        owed = None  # per pipe, what was in it when the command ended; None while it runs
        selector = selectors.DefaultSelector()
        try:
            for fd in list(pipes) + [ended]:
                selector.register(fd, selectors.EVENT_READ)
            if stdin is not None:
                pending = memoryview(stdin)
                os.set_blocking(popen.stdin.fileno(), False)
                selector.register(popen.stdin.fileno(), selectors.EVENT_WRITE)
            waiter.start()
            limit = None
            while open_pipes or owed is None:
                ready = selector.select(None if owed is None else LINGER)
                if owed is not None and not any(owed.values()) and (not ready or time.monotonic() > limit):
                    break  # a child keeps the output open: not ours to wait for
                for key, _ in ready:
                    if key.fd == ended:
                        selector.unregister(ended)
                        owed = {fd: readable(fd) for fd in open_pipes}
                        limit = time.monotonic() + 10 * LINGER
                    elif key.fd in pipes:
                        data = os.read(key.fd, READ)
                        if owed is not None:
                            owed[key.fd] = max(0, owed[key.fd] - len(data)) if data else 0
                        if data:
                            pipes[key.fd].feed(data)
                        else:
                            selector.unregister(key.fd)
                            open_pipes.discard(key.fd)
                    else:
                        try:
                            pending = pending[os.write(key.fd, pending):]
                        except BrokenPipeError:
                            pending = b""
                        if not pending:
                            selector.unregister(key.fd)
                            popen.stdin.close()
            for lines in pipes.values():
                if lines is not events:
                    lines.close()
        finally:
            selector.close()
            if owed is None:  # an exception: what conc cannot hear of must not go on
                self.kill()
            waiter.join()
            os.close(ended)


def readable(fd):
    """How many bytes wait in a pipe."""
    return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
