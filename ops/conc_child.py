"""The child of a step that runs the application's own Python, on either host.

Its interpreter, the venv's or the workstation's, is started with a line that
reads this file from standard input and calls main. What follows on standard input
until its end is the order, JSON:

    {"fd": 3, "main": "conc_call", "modules": [["conc_call", SOURCE], ...],
     "path": ["lib"], "wheels": false, "ncd": {"name": "node1", ...}, "sudo": null, ...}

path is what comes first on sys.path, relative to the current folder; wheels: so do the
wheels and zip files there. sudo is the password for sudo in base64, or null.
main has a function run(order, child) with the rest.

Standard output and standard error are the application's. The child itself speaks
over the descriptor fd, a line of JSON each:

    {"progress": {"what": "rows", "done": 3, "total": 9}}
    {"test": {...}}, {"running": "..."}       see conc_unittest.py
    {"end": {"status": "OK", "message": "", "hint": "", "trace": "", "code": null}}

The end comes when the application's code has returned; after it the interpreter
ends as any other. Without it, it has crashed.
"""
import base64
import difflib
import faulthandler
import glob
import importlib
import json
import os
import pkgutil
import sys
import threading
import time
import traceback
import types

MAX_EVENT = 400 << 10    # bytes; who reads drops what is longer than 512 KiB
MAX_MESSAGE = 2000       # characters of a line that tells what happened
MAX_TRACE = 32000        # characters of a traceback
OWN = ("conc_child.py", "conc_call.py", "conc_unittest.py")


class Halt(Exception):
    """Ends the step with a status that is not OK."""

    def __init__(self, status, message, hint="", trace=""):
        Exception.__init__(self, message)
        self.end = {"status": status, "message": message, "hint": hint, "trace": trace}


class Child:
    """The descriptor of the events."""

    def __init__(self, fd):
        self.fd, self.pid = fd, os.getpid()
        self.lock = threading.Lock()  # keeps lines whole
        self.reported = 0.0           # when progress was last told

    def send(self, **event):
        if os.getpid() != self.pid:  # a fork of the application's
            return
        body = json.dumps(event)
        if len(body) > MAX_EVENT:
            body = json.dumps(shortened(event))
        data = memoryview(body.encode("ascii") + b"\n")
        with self.lock:
            while data:
                data = data[os.write(self.fd, data):]

    def progress(self, what, done, total):
        now = time.monotonic()
        if now - self.reported > 0.1 or done == total:
            self.reported = now
            self.send(progress={"what": what, "done": done, "total": total})


def shortened(value):
    """The same with the ends of long strings only."""
    if isinstance(value, dict):
        return {key: shortened(v) for key, v in value.items()}
    return value[-8000:] if isinstance(value, str) else value


def said(err):
    """An exception in one line."""
    try:
        text = str(err)
    except Exception:
        text = "(without text: its __str__ fails)"
    name = type(err).__name__
    return (name + ": " + text.strip().split("\n")[0] if text.strip() else name)[:MAX_MESSAGE]


def trace(err):
    """The traceback of an exception, without the frames that are ours."""
    shown = traceback.TracebackException(type(err), err, err.__traceback__)
    todo, seen = [shown], set()
    while todo:
        part = todo.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        part.stack[:] = [f for f in part.stack if f.filename not in OWN and not f.filename.startswith("<frozen importlib")]
        todo += [part.__cause__, part.__context__] + list(getattr(part, "exceptions", None) or [])
    return clipped("".join(shown.format()))


def clipped(text, limit=MAX_TRACE):
    """A text whose middle is left out when it is long."""
    if len(text) <= limit:
        return text
    return text[:limit // 2] + "\n[... %d characters left out ...]\n" % (len(text) - limit) + text[-(limit // 2):]


def nearest(word, words):
    found = difflib.get_close_matches(word, list(words), 1)
    return "did you mean %s? " % found[0] if found else ""


def siblings(parent):
    """The names of the modules in a package, or of all modules."""
    path = sys.path
    if parent:
        path = getattr(sys.modules.get(parent), "__path__", [])
    names = {m.name for m in pkgutil.iter_modules(path)}
    for folder in path:  # namespace packages
        try:
            names.update(n for n in os.listdir(folder) if n.isidentifier() and os.path.isdir(os.path.join(folder, n)))
        except OSError:
            pass
    return names


def missing(name, err):
    """Tells whether an import failed since the module, or a package it is in, is not there."""
    return err.name is not None and (name == err.name or name.startswith(err.name + "."))


def no_module(err):
    parent, _, last = err.name.rpartition(".")
    near = nearest(last, siblings(parent))
    if near and parent:
        near = near.replace("mean ", "mean %s." % parent)
    return Halt("BLOCKED", "there is no module %s" % err.name, near + "it must be delivered and installed before this step")


def load(name):
    """Imports a module; Halt when it is not there."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as err:
        if missing(name, err):
            raise no_module(err)
        raise Halt("BLOCKED", "%s needs the module %s, which is not there" % (name, err.name or err), "deliver and install it before this step", trace(err))


def main():
    """Takes the order and does it."""
    order = json.loads(sys.stdin.buffer.read().decode("ascii"))
    child = Child(order["fd"])
    os.set_inheritable(child.fd, False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    try:
        faulthandler.enable(os.dup(2))  # not where the output of a test is kept
    except (OSError, RuntimeError, ValueError):
        pass
    here = os.getcwd()
    first = [os.path.join(here, folder) for folder in order["path"]]
    if order["wheels"]:
        first += sorted(glob.glob(os.path.join(glob.escape(here), "*.whl")) + glob.glob(os.path.join(glob.escape(here), "*.zip")))
    sys.path[:] = first + [p for p in sys.path if p]
    sys.argv[:] = ["conc"]
    if order["sudo"] is not None:
        order["sudo"] = base64.b64decode(order["sudo"]).decode("utf-8", "surrogateescape")
    for name, source in order.pop("modules"):
        module = types.ModuleType(name)
        sys.modules[name] = module
        exec(compile(source, name + ".py", "exec"), module.__dict__)
    try:
        end = sys.modules[order["main"]].run(order, child)
    except Halt as halt:
        end = halt.end
    except BaseException as err:
        end = {"status": "ERROR", "message": said(err), "trace": trace(err)}
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # the application has closed or replaced it
            pass
    end["message"] = str(end.get("message", ""))[:MAX_MESSAGE]
    child.send(end=end)
