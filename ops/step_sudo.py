"""The step sudo on the node, and the proof before the first step that it will work.

sudo gets the password on standard input, one line, and a terminal of its own as
its controlling one. What runs as root cannot be signalled by us: the kernel
does it, when the terminal hangs up, which it also does when this agent dies. It
serves a sudoers file with requiretty, too.
"""
import base64
import fcntl
import os
import select
import subprocess
import termios
import threading
import time

import agent
import agent_process

SUDO = ["sudo", "-k", "-p", ""]  # -k: nothing that was typed in a shell before counts, and nothing is left that would

# What this run knows of sudo on the node; the password is never in anything that is sent or shown.
known = {"password": None, "mixed": False}

WRONG, TERMINAL = "wrong sudo password", "sudo wants a terminal"
REASONS = (  # parts of what sudo and sudo-rs say, in the C locale: the message, the hint
    (("expired", "account validation", "account or password"),
     "the user's account or password has expired", "log in on the node and renew it"),
    (("not in the sudoers", "may not run sudo", "not allowed to", "i'm afraid i can't do that", "not permitted"),
     "the user may not use sudo on the node", "let an administrator give the user a rule in sudoers, or log in as another 'admin'"),
    (("incorrect password", "try again", "authentication fail", "incorrect authentication", "no password was provided"),
     WRONG, "it was tried once; go on from here with the right one"),
    (("must have a tty", "terminal is required", "no tty present", "requiretty"),
     TERMINAL, "remove requiretty from sudoers on the node"),
    (("must be owned by uid 0", "setuid bit", "no new privileges", "effective uid is not 0"),
     "sudo does not work on the node", "it must be owned by root and setuid, in a place that is not mounted nosuid"),
)


def members(sessions, leader):
    """The live processes of the sessions, and all that descend from leader; notes their sessions."""
    parents, found = {}, set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/" + name + "/stat", "rb") as f:
                state, parent, _, session = f.read().rpartition(b")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if state in (b"Z", b"X"):
            continue
        parents[int(name)] = int(parent)
        if int(session) in sessions:
            found.add(int(name))
    while True:
        more = {pid for pid, parent in parents.items() if pid not in found and (parent == leader or parent in found)}
        if not more:
            break
        found |= more
    for pid in found:
        try:
            sessions.add(os.getsid(pid))
        except OSError:
            pass
    return sorted(found)


class Process(agent_process.Process):
    """sudo with a terminal of its own, which is hung up to end what runs."""

    def __init__(self, argv, cwd, env, stdin, events=None):
        self.master, self.slave = os.openpty()
        self.over = threading.Event()
        self.left = []
        try:
            agent_process.Process.__init__(self, argv, cwd, env, stdin, events,
                                           preexec_fn=lambda: fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0))
        except BaseException:
            self.close()
            raise
        self.sessions = {self.popen.pid}
        self.drainer = threading.Thread(target=self.drain, daemon=True)
        self.drainer.start()

    def close(self):
        os.close(self.master)
        os.close(self.slave)

    def drain(self):
        """Drops what comes to the terminal, so that nobody waits for a reader; hangs up at the end."""
        while not self.over.is_set():
            if select.select([self.master], [], [], 0.05)[0]:
                os.read(self.master, 4096)
        self.close()

    def members(self):
        try:
            return members(self.sessions, self.popen.pid)
        except OSError:
            return None

    def kill_now(self):
        self.members()  # notes the sessions while the processes tell whose they are
        self.over.set()
        self.drainer.join()
        if not self.gone() and self.left:
            force(self.left)
            self.gone()

    def gone(self):
        deadline = time.monotonic() + agent_process.GRACE
        while True:
            self.left = self.members() or []
            if not self.left or time.monotonic() > deadline:
                return not self.left
            time.sleep(0.02)

    def reap(self):
        code = agent_process.Process.reap(self)
        self.over.set()
        self.drainer.join()
        return code


def force(pids):
    """SIGKILL by root, where the rules of sudo let us."""
    line = ["--", "/bin/sh", "-c", 'kill -KILL "$@"', "sh"] + [str(pid) for pid in pids]
    for option in ["-n"] + (["-S"] if known["password"] is not None else []):
        try:
            process = Process(SUDO + [option] + line, "/", dict(os.environ), secret() if option == "-S" else b"")
        except OSError:
            return
        try:
            process.popen.communicate(secret() if option == "-S" else b"", timeout=agent_process.GRACE)
        except subprocess.TimeoutExpired:
            process.over.set()  # hung up
        if process.reap() == 0:
            return


def secret():
    """The password as a line, or None when the node wants none."""
    return None if known["password"] is None else known["password"] + b"\n"


def ask(task, argv, stdin=None):
    """Runs sudo without showing what it says; gives its code, and that."""
    said = []
    task.send = lambda **frame: said.extend(frame.get("lines", []))  # hides the method
    env = task.env(clean=False)
    env["LC_ALL"] = "C"
    try:
        code = task.run(SUDO + argv, task.home, env, stdin, start=Process)
    except (FileNotFoundError, PermissionError):
        raise agent.Halt("BLOCKED", "there is no sudo on the node", "install it there, or take the sudo steps out and log in as root")
    finally:
        del task.send
    return code, "\n".join(said)


def reason(said):
    """The message and hint that fit what sudo said, or None."""
    low = said.lower()
    for parts, message, hint in REASONS:
        if any(part in low for part in parts):
            return message, hint
    return None


@agent.step("sudo_probe")
def op_probe(task):
    """Tells whether sudo wants a password: the message is "free" or "password"."""
    known["password"], known["mixed"] = None, False
    code, said = ask(task, ["-n", "-v"])
    if code == 0 or ask(task, ["-n", "--", "true"])[0] == 0:
        return {"status": "OK", "message": "free"}
    why = reason(said)
    if why is not None and why[0] not in (WRONG, TERMINAL):
        raise agent.Halt("BLOCKED", *why)
    known["mixed"] = ask(task, ["-n", "-l"])[0] == 0
    return {"status": "OK", "message": "password"}


@agent.step("sudo_validate")
def op_validate(task):
    """Tries the password, once, and keeps it for this run."""
    password = bytearray(base64.b64decode(task.request.pop("password")))
    code, said = ask(task, ["-S", "-v"], password + b"\n")
    if code == 0:
        known["password"] = password
        return {"status": "OK", "message": ""}
    password[:] = bytes(len(password))
    why = reason(said)
    if why is None:
        lines = [line for line in said.splitlines() if line.strip()] or ["exit status %d" % code]
        why = "sudo refused: " + lines[-1].strip(), "try 'sudo -v' on the node"
    raise agent.Halt("BLOCKED", *why)


@agent.step("sudo")
def op_sudo(task):
    """The words as root, in the bundle; standard input is empty behind the password."""
    bundle, env = task.bundle(), task.env(clean=False)
    words = ["--"] + task.request["words"]
    processes = []

    def start(*args):
        processes.append(Process(*args))
        return processes[-1]

    def run(option, stdin=None):
        return task.run(SUDO + [option] + words, bundle, env, stdin, start=start)

    try:
        if known["password"] is None or task.request.get("free"):
            return task.judge(run("-n"))
        if known["mixed"]:
            # A rule with NOPASSWD may hold for this command, which would then find the password
            # on its standard input: it is tried without first.
            code, frames = attempt(task, run)
            if not refused(code, frames):
                for frame in frames:
                    task.send(**frame)
                return task.judge(code)
        return task.judge(run("-S", secret()))
    except FileNotFoundError:
        raise agent.Halt("BLOCKED", "there is no sudo on the node", "install it there")
    except agent.Halt as halt:
        left = [pid for process in processes for pid in process.left]
        if left and halt.end["status"] in ("STOPPED", "TIMED OUT"):
            halt.end["message"] += ", but root's process %s could not be ended" % ", ".join(map(str, left))
            halt.end["hint"] = "end it on the node: the rules of sudo do not let this user do it"
        raise


def attempt(task, run):
    """Runs without a password. Frames are held back as long as they can be sudo's own refusal."""
    held, begun, real = [], [], task.send

    def send(**frame):
        if not begun and frame.get("fd") == 2 and all(line.startswith("sudo") for line in frame["lines"]) and len(held) < 4:
            held.append(frame)
            return
        begun.append(True)
        while held:
            real(**held.pop(0))
        real(**frame)

    task.send = send
    try:
        code = run("-n")
    finally:
        del task.send
    return code, held


def refused(code, frames):
    """Whether it was sudo that ended with the code, and nothing was run: all that came is a line of its own."""
    return code == 1 and bool(frames)
