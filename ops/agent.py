"""The agent of conc: runs steps on the node, and leaves nothing behind.

conc feeds this file to the node's python3 (3.6 or later, standard library only)
on standard input and then speaks frames with it, both ways: a 4-byte
big-endian length and that many bytes of JSON in ASCII.

To the agent, a request, of which one runs at a time:

    {"id": 1, "op": "run", "bundle": "bundle-hello", "timeout": 30, ...}
    {"op": "cancel", "why": "timeout"}    stops the request that runs; without why: since somebody says so
    {"op": "ping"}        tells that conc is still there
    {"op": "note", "audit": {...}, "status": "OK"}    a step that conc did without the agent

A request that is a step has an "audit", what agent_audit.py puts down with its
status. One with a "token" is begun only if that is in the owner record of the
bundle; else its end is BLOCKED, with "lost": true. If it is not there any more when
the request ends, the end is ERROR, with "lost": true. With a "lease", too, it is
named on the node while it runs: see agent_fence.py. After one with "last": true
the agent ends by itself.

From the agent, any number of these, and then one with a status:

    {"id": 1, "fd": 1, "lines": ["...", ...]}
    {"id": 1, "progress": {"what": "verify", "done": 3, "total": 9, "unit": "files"}}
    {"id": 1, "status": "FAILED", "message": "...", "hint": "...", "code": 3}

Each op of a step has its part of the agent in a file of its own, step_OP.py,
that comes in the first frame, {"modules": [["step_venv", SOURCE], ...]}, and
imports this one as "agent"; so do the other agent_*.py.

The main thread reads requests, one thread works on them, others wait for signals and for silence. When standard input
ends, a hangup comes or conc is silent for SILENCE seconds, the agent kills what
it runs and ends itself.
"""
import errno
import glob
import json
import linecache
import os
import queue
import signal
import struct
import sys
import threading
import time
import traceback
import types

MAX_FRAME = 16 << 20  # of a request
SILENCE = 90.0        # seconds without a frame after which conc is taken for gone
OWNER_RECORD = ".conc-owner.json"
SHOWN = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.EISDIR,
         errno.ENOTDIR, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO)  # the state of the node, not of the agent
UNFINISHED = ".conc-unfinished"  # in a venv that is being made
UNPACKED = ".conc-pip"  # in the bundle while pip runs: the pip wheel, unpacked

STEPS = {}  # op: function of a Task that gives the last frame, or raises


def step(op):
    """Says which op the function does."""
    def register(function):
        STEPS[op] = function
        return function
    return register


class Halt(Exception):
    """Ends a request with a status that is not OK."""

    def __init__(self, status, message, hint="", code=None):
        Exception.__init__(self, message)
        self.end = {"status": status, "message": message, "hint": hint}
        if code is not None:
            self.end["code"] = code


class Channel:
    """Writes frames; any thread may send."""

    def __init__(self, fd):
        self.fd = fd
        self.lock = threading.Lock()  # keeps frames whole

    def send(self, frame):
        body = json.dumps(frame).encode("ascii")
        data = memoryview(struct.pack(">I", len(body)) + body)
        with self.lock:
            while data:
                data = data[os.write(self.fd, data):]


class Task:
    """One request that is worked on."""

    def __init__(self, channel, request, home):
        self.channel, self.request, self.home = channel, request, home
        self.lock = threading.Lock()  # guards stopped and process
        self.stopped = None           # why: "cancel", "timeout"
        self.process = None
        self.reported = 0.0
        self.token = request.pop("token", None)
        self.lease = request.pop("lease", None)
        self.mark = os.urandom(16).hex()  # with our pid, in the environment of all that it starts
        self.record = None  # the file that names it

    def send(self, **frame):
        frame["id"] = self.request.get("id")
        self.channel.send(frame)

    def say(self, line):
        self.send(fd=1, lines=[line])

    def progress(self, what, done, total, unit):
        now = time.monotonic()
        if done == total or now - self.reported > 0.1:
            self.reported = now
            self.send(progress={"what": what, "done": done, "total": total, "unit": unit})

    def note(self, status):
        """Puts down how the request ended, once, when it is a step."""
        audit = self.request.pop("audit", None)
        if audit:
            sys.modules["agent_audit"].note(self.home, audit, status)

    def stop(self, why):
        """Ends the request from another thread."""
        with self.lock:
            if self.stopped is None:
                self.stopped = why
            if self.process is not None:
                self.process.kill()

    def check(self):
        """Raises Halt when the request was stopped; long work calls it often."""
        if self.stopped == "timeout":
            raise Halt("TIMED OUT", "not done in %g s" % self.request["timeout"])
        if self.stopped is not None:
            raise Halt("STOPPED", "interrupted")

    def enter(self):
        """Names the request on the node, if it has a lease, and proves its lock. Whoever breaks the lock
        first makes the proof fail and then reads the names: one of the two is seen."""
        if self.lease is not None:
            fence = sys.modules["agent_fence"]
            fence.sweep(self.home, sys.modules["agent_process"].MARK)
            self.record = fence.write(self.home, self.lease, os.getpid(), self.mark)
        why = self.unproved()
        if why is not None:
            halt = Halt("BLOCKED", why, "look who has it with conc status")
            halt.end["lost"] = True
            raise halt

    def depart(self, end):
        """Gives the last frame of a request that had entered: whatever it did, it needs the lock until its end."""
        why = self.unproved()
        self.forget()
        if why is None:
            return end
        return {"status": "ERROR", "message": why, "hint": "look who has it with conc status", "lost": True}

    def forget(self):
        if self.record is not None:
            sys.modules["agent_fence"].remove(self.record)
            self.record = None

    def unproved(self):
        """Why the lock is not that of the request; None when it is, or it has none."""
        if self.token is None:
            return None
        try:
            with open(os.path.join(self.path("bundle"), OWNER_RECORD), encoding="utf-8") as f:
                return None if json.load(f)["token"] == self.token else "lock lost"
        except (OSError, ValueError, LookupError, TypeError) as err:
            return "lock lost: %s" % err

    def path(self, key):
        return os.path.join(self.home, self.request[key])

    def bundle(self):
        path = self.path("bundle")
        if not os.path.isdir(path):
            raise Halt("BLOCKED", "no bundle on the node: there is no folder %s" % path, "open it first")
        return path

    def python(self):
        """The venv's interpreter."""
        path = self.path("venv")
        python = os.path.join(path, "bin", "python")
        if os.path.exists(os.path.join(path, UNFINISHED)):
            raise Halt("BLOCKED", "the virtual environment %s is half made" % path, "run the venv step again: it starts afresh")
        if not os.access(python, os.X_OK):
            raise Halt("BLOCKED", "no virtual environment on the node: there is no %s" % python, "run a venv step first")
        return python

    def env(self, clean):
        """The environment of a command; clean: without what would lead Python or pip astray."""
        env = dict(os.environ)
        if clean:
            for name in list(env):
                if name.startswith(("PIP_", "PYTHON", "VIRTUAL_ENV", "__PYVENV")):
                    del env[name]
            env["PYTHONUNBUFFERED"] = "1"
        env.update(self.request.get("env") or {})
        return env

    def in_venv(self, env):
        """The same environment with the venv first on PATH."""
        if self.request.get("venv"):
            venv = self.path("venv")
            env["PATH"] = os.path.join(venv, "bin") + os.pathsep + env.get("PATH", os.defpath)
            if os.path.exists(os.path.join(venv, "pyvenv.cfg")):
                env["VIRTUAL_ENV"] = venv
        return env

    def run(self, argv, cwd, env, stdin=None, watch=None, events=None, start=None):
        """Runs a command with its output streamed; gives its return code, negative for a signal.

        watch is called with each line; events is an agent_process.Events.
        """
        def emitter(number):
            def emit(lines):
                self.send(fd=number, lines=lines)
                for line in lines if watch else ():
                    watch(line)
            return emit

        module = sys.modules["agent_process"]
        env = dict(env, **{module.MARK: "%d-%s" % (os.getpid(), self.mark)})
        with self.lock:  # so that whoever stops it sees the process, or there is none
            self.check()
            process = self.process = (start or module.Process)(argv, cwd, env, stdin, events)
        try:
            process.pump(emitter, stdin, events)
        finally:
            code = process.reap()
            self.name_left(process)
            with self.lock:
                self.process = None
            for pipe in (process.popen.stdin, process.popen.stdout, process.popen.stderr):
                if pipe is not None:
                    pipe.close()
        self.check()
        return code

    def name_left(self, process):
        """Names what could not be ended of a process that was killed: it has lost those that it descends from."""
        if self.lease is not None and process.killer is not None:
            for pid in process.members() or []:
                try:
                    sys.modules["agent_fence"].write(self.home, self.lease, pid, sys.modules["agent_fence"].LEFT)
                except OSError:
                    pass

    def command(self, argv, cwd, env, stdin=None, watch=None):
        """Runs a command as the whole of a step."""
        return self.judge(self.run(argv, cwd, env, stdin, watch))

    def judge(self, code):
        """Ends the step unless the code is an accepted one."""
        if code in self.request.get("ok_codes", [0]):
            return {"status": "OK", "message": "", "code": code}
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = "signal %d" % -code
            raise Halt("FAILED", "killed by " + name, code=-1)
        raise Halt("FAILED", "exit status %d" % code, code=code)


def matches(folder, pattern):
    """What the pattern matches in the folder, relative to it, sorted."""
    found = glob.glob(os.path.join(glob.escape(folder), pattern))
    return sorted(os.path.relpath(path, folder) for path in found)


class Agent:
    """Reads requests until standard input ends."""

    def __init__(self, stdin, channel):
        self.stdin, self.channel = stdin, channel
        self.home = os.path.expanduser("~")
        self.requests = queue.Queue()
        self.lock = threading.Lock()  # guards task
        self.task = None
        self.heard = time.monotonic()

    def read(self, size):
        data = self.stdin.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def frame(self):
        size, = struct.unpack(">I", self.read(4))
        if size > MAX_FRAME:
            raise ValueError("a request of %d bytes is too large" % size)
        frame = json.loads(self.read(size).decode("ascii"))
        self.heard = time.monotonic()
        return frame

    def serve(self):
        os.chdir(self.home)
        self.hear()
        try:
            for name, source in self.frame()["modules"]:
                load(name, source)
            self.channel.send({"hello": {"python": sys.version.split()[0], "executable": sys.executable, "home": self.home}})
            for target in (self.work, self.watch):
                threading.Thread(target=target, daemon=True).start()
            while True:
                request = self.frame()
                if request["op"] == "cancel":
                    with self.lock:
                        task = self.task
                    if task is not None:
                        task.stop(request.get("why", "cancel"))
                elif request["op"] == "note":
                    sys.modules["agent_audit"].note(self.home, request["audit"], request["status"])
                elif request["op"] != "ping":
                    self.start(request)
        except EOFError:
            self.leave(0)

    def hear(self):
        """Leaves at a signal. The main thread cannot be waited for: one that comes as it begins to read would not interrupt it."""
        told, tell = os.pipe()
        os.set_blocking(tell, False)
        signal.set_wakeup_fd(tell)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

        def listen():
            os.read(told, 1)
            self.leave(1)
        threading.Thread(target=listen, daemon=True).start()

    def start(self, request):
        task = Task(self.channel, request, self.home)
        with self.lock:
            self.task = task  # conc sends a request only after the end of the one before
        self.requests.put(task)

    def work(self):
        while True:
            task = self.requests.get()
            timer = None
            if task.request.get("timeout"):
                timer = threading.Timer(task.request["timeout"], task.stop, ["timeout"])
                timer.daemon = True
                timer.start()
            try:
                end = perform(task)
                if timer is not None:
                    timer.cancel()
                task.note(end["status"])
                task.send(**end)
                if task.request.get("last"):
                    os._exit(0)
            except OSError:  # nobody hears us any more
                self.leave(1)

    def watch(self):
        while time.monotonic() - self.heard < SILENCE:
            time.sleep(SILENCE / 20)
        self.leave(1)

    def leave(self, code):
        """Kills what runs, and ends."""
        task = self.task
        if task is not None:
            audit = task.request.pop("audit", None)
            task.stop("cancel")
            process = task.process
            killer = process and process.killer
            if killer is not None:
                killer.join()
                task.name_left(process)
            task.forget()
            if audit:  # ERROR is what conc says of a step that has lost its link
                sys.modules["agent_audit"].note(self.home, audit, "ERROR")
        os._exit(code)


def perform(task):
    """Does a request; gives its last frame, whatever happens."""
    entered = False
    try:
        task.check()
        task.enter()
        entered = True
        end = STEPS[task.request["op"]](task)
    except Halt as halt:
        end = halt.end
    except Exception as err:
        trace = traceback.format_exc()
        if isinstance(err, OSError) and err.errno in SHOWN:
            end = {"status": "FAILED", "message": str(err), "trace": trace}
        else:
            end = {"status": "ERROR", "message": "%s: %s" % (type(err).__name__, err), "trace": trace}
    if entered:
        return task.depart(end)
    task.forget()
    return end


def load(name, source):
    """Makes a module of source, as if it had been imported from a file."""
    module = types.ModuleType(name)
    file = name + ".py"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)  # for tracebacks
    sys.modules[name] = module
    exec(compile(source, file, "exec"), module.__dict__)


def main(stdin, word):
    """Takes over a process that conc started; word tells where the frames begin."""
    sys.modules["agent"] = sys.modules["__main__"]
    channel = Channel(os.dup(1))
    os.dup2(2, 1)  # whatever is printed goes to standard error, not between the frames
    os.write(channel.fd, b"\n" + word.encode("ascii") + b"\n")
    Agent(stdin, channel).serve()
