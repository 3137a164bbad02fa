"""The step pip on the node."""
import collections
import os
import re
import time

import agent


MAX_HELD = 256 << 10  # characters of pip's output that are kept for when it fails


class Held:
    """What pip writes: shown when it fails. Meanwhile its last line is shown as progress."""

    def __init__(self, task):
        self.task, self.real = task, task.send
        self.frames, self.size, self.dropped = collections.deque(), 0, False

    def send(self, **frame):
        if "lines" not in frame:
            self.real(**frame)
            return
        self.frames.append(frame)
        self.size += sum(map(len, frame["lines"]))
        while self.size > MAX_HELD and len(self.frames) > 1:
            self.size -= sum(map(len, self.frames.popleft()["lines"]))
            self.dropped = True
        last = frame["lines"][-1].strip()
        now = time.monotonic()
        if last and now - self.task.reported > 0.1:
            self.task.reported = now
            self.real(progress={"what": "pip", "done": 0, "total": 1, "unit": "runs", "note": last[:60]})

    def show(self):
        if self.dropped:
            self.real(fd=1, lines=["(what pip wrote before is left out)"])
        for frame in self.frames:
            self.real(**frame)


@agent.step("pip")
def op_pip(task):
    """One run of pip; its output is shown when it fails, or when that is asked for."""
    if task.request.get("verbose"):
        return install(task)
    held = Held(task)
    task.send = held.send  # hides the method
    try:
        end = install(task)
        if end["status"] != "OK":
            held.show()
        return end
    except BaseException:
        held.show()
        raise
    finally:
        del task.send


def install(task):
    """One run of pip for all, out of the pip wheel in the bundle, never the internet."""
    bundle, python = task.bundle(), task.python()
    targets = []
    for kind, value in task.request["targets"]:
        if kind == "glob":
            found = agent.matches(bundle, value)
            if not found:
                raise agent.Halt("FAILED", "nothing in the bundle matches %s" % value, "deliver it with a copy step; is it spelled right?")
            targets += ["./" + name for name in found]
        elif kind == "requirement":
            targets.append(value)
        elif os.path.isfile(os.path.join(bundle, value)):
            targets += [kind, value]
        else:
            raise agent.Halt("FAILED", "there is no file %s in the bundle" % value, "deliver it with a copy step")
    env = task.env(clean=True)
    env["PIP_CONFIG_FILE"] = os.devnull
    env["PIP_NO_INDEX"] = env["PIP_NO_CACHE_DIR"] = env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    # What a build asks of the internet fails at once instead of after minutes: nothing listens on the discard port.
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        env[name] = "http://127.0.0.1:9"
    env["no_proxy"] = env["NO_PROXY"] = ""
    kept = {"error": "", "installed": "", "text": ""}

    def watch(line):
        said = line.strip()
        if said.startswith("ERROR:") and not kept["error"]:  # indented when it comes from the building of an sdist
            kept["error"] = said[len("ERROR:"):].strip()
        if line.startswith("Successfully installed"):
            kept["installed"] = said
        kept["text"] = (kept["text"] + "\n" + line)[-20000:]

    argv = find_pip(task, bundle, python, env) + [
        "install", "--isolated", "--no-index", "--find-links", ".", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    try:
        end = task.command(argv + task.request.get("options", []) + targets, bundle, env, watch=watch)
    except agent.Halt as halt:
        if halt.end["status"] == "FAILED":
            if kept["error"]:
                halt.end["message"] = "pip: " + kept["error"]
            halt.end["hint"] = pip_hint(kept["text"])
        raise
    end["message"] = summary(kept["installed"])
    return end


def summary(said):
    """pip's last line in short; it names what others need first."""
    names = said.split()[2:]
    if not names:
        return "nothing to install: all is there already"
    return "installed %s" % names[-1] + (" and %d more" % (len(names) - 1) if len(names) > 1 else "")


def pip_hint(text):
    missing = re.search(r"No matching distribution found for ([A-Za-z0-9._-]+)", text)
    if missing and missing.group(1).lower() in ("setuptools", "wheel"):
        return "an sdist is built here, which needs wheels of setuptools and wheel in the bundle: add them to a copy step, or deliver a wheel instead of the sdist"
    if missing:
        return "deliver a wheel or sdist of %s with a copy step, for this Python and platform" % missing.group(1)
    if re.search(r"invalid wheel|Wheel .* is invalid|BadZipFile|not a zip file|ReadError|EOFError|unexpected end of data|neither 'setup.py' nor 'pyproject.toml'", text, re.I):
        return "the artifact is broken: build it again, deliver it with the copy step, and go on from there"
    return ""


def find_pip(task, bundle, python, env):
    """The command that is pip: the newest wheel's, else the venv's own, else ensurepip's."""
    wheels = agent.matches(bundle, "pip-*.whl")
    if wheels:
        newest = max(wheels, key=lambda name: [int(n) for n in re.findall(r"\d+", name.split("-")[1])])
        return [python, "./" + newest + "/pip"]

    def has(module):
        return task.run([python, "-c", "import importlib.util as u, sys; sys.exit(not u.find_spec('%s'))" % module], bundle, env) == 0

    if not has("pip"):
        if not has("ensurepip"):
            raise agent.Halt("BLOCKED", "no pip: there is no pip wheel in the bundle, and the node's python has no ensurepip",
                       "add a wheel of pip (pip-VERSION-py3-none-any.whl) to a copy step, or install python3-venv on the node")
        task.judge(task.run([python, "-m", "ensurepip", "--default-pip"], bundle, env))
    return [python, "-m", "pip"]
