"""Runs an interpreter with the application's own code: see conc_child.py."""
import base64
import json
import signal
import sys

import agent
import agent_process

STATUSES = ("OK", "BLOCKED", "FAILED", "STOPPED", "ERROR", "TIMED OUT")
TESTS = ("ok", "failed", "error", "skipped", "expected failure", "unexpected success")


def interpreter(task):
    """The venv's interpreter, or the node's when the code comes straight out of the bundle."""
    return sys.executable if task.request["order"]["wheels"] else task.python()


def run(task, python, cwd):
    """Runs the order of the request; gives the last frame."""
    heard = {"end": None, "running": ""}

    def take(event):
        if isinstance(event.get("progress"), dict):
            progress = event["progress"]
            task.progress(str(progress.get("what"))[:500], number(progress.get("done")), number(progress.get("total")), "")
        if isinstance(event.get("running"), str):
            heard["running"] = event["running"][:500]
        if isinstance(event.get("test"), dict):
            task.send(test=test(event["test"]))
        if isinstance(event.get("end"), dict):
            heard["end"] = event["end"]

    events = agent_process.Events(take)
    try:
        source = task.request["child"].encode("ascii")
        order = json.dumps(dict(task.request["order"], fd=events.w, sudo=password(task))).encode("ascii")
        argv = [python, "-I", "-u", "-X", "utf8", "-c", task.request["boot"], str(len(source))]
        code = task.run(argv, cwd, task.in_venv(task.env(clean=True)), source + order, events=events)
    finally:
        events.close()
    return judge(code, heard["end"], heard["running"])


def password(task):
    """What was proved before the first step, in base64; None when it is not asked for, or sudo wants none."""
    found = sys.modules["step_sudo"].known["password"] if task.request["sudo"] else None
    return None if found is None else base64.b64encode(found).decode("ascii")


def judge(code, end, running):
    """The last frame, of how the interpreter ended and what it said at its end."""
    if code < 0:
        try:
            how = "was killed by " + signal.Signals(-code).name
        except ValueError:
            how = "was killed by signal %d" % -code
    else:
        how = "ended with exit status %d" % code
    if end is None:
        raise agent.Halt("ERROR", "the interpreter " + how + (" in " + running if running else " before the code had returned"))
    frame = {key: str(end.get(key) or "") for key in ("status", "message", "hint", "trace")}
    if frame["status"] not in STATUSES or frame["status"] == "OK" and code != 0:
        raise agent.Halt("ERROR", "the interpreter " + how + " after the code had returned")
    if end.get("code") is not None:
        frame["code"] = number(end["code"])
    return dict(frame, returned=True)


def number(value):
    """A number as conc takes it: the child is not trusted to give one."""
    if not isinstance(value, (int, float)) or value != value:
        return 0
    return int(max(-2.0 ** 53, min(2.0 ** 53, value)))


def test(event):
    """A test that has ended, with the types that conc takes."""
    clean = {key: str(event.get(key) or "") for key in ("id", "status", "message", "trace", "output")}
    if clean["status"] not in TESTS:
        clean["status"] = "error"
    seconds = event.get("seconds")
    return dict(clean, seconds=float(seconds) if isinstance(seconds, (int, float)) and 0 <= seconds < 1e9 else 0.0, sub=bool(event.get("sub")))
