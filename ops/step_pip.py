"""The step pip on the node."""
import collections
import os
import re
import shutil
import sys
import time
import zipfile
import zlib

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

    try:
        argv = find_pip(task, bundle, python, env) + [
            "install", "--isolated", "--no-index", "--find-links", ".", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
        end = task.command(argv + task.request.get("options", []) + targets, bundle, env, watch=watch)
    except agent.Halt as halt:
        if halt.end["status"] == "FAILED":
            crash = crashed(kept["text"])
            if kept["error"] and not (crash and kept["error"].startswith("Exception")):
                halt.end["message"] = "pip: " + kept["error"]
            elif crash:
                halt.end["message"] = "pip: " + crash
            halt.end["hint"] = pip_hint(kept["text"])
        raise
    finally:
        shutil.rmtree(os.path.join(bundle, agent.UNPACKED), ignore_errors=True)
    end["message"] = summary(kept["installed"])
    return end


def summary(said):
    """pip's last line in short; it names what others need first."""
    names = said.split()[2:]
    if not names:
        return "nothing to install: all is there already"
    return "installed %s" % names[-1] + (" and %d more" % (len(names) - 1) if len(names) > 1 else "")


def crashed(text):
    """The last line of a traceback from inside a wheel of pip; "" without one."""
    at = text.rfind("Traceback (most recent call last)")
    if at < 0 or not re.search(r'File "[^"]*pip-[^"/]*\.whl/pip/', text[at:]):
        return ""
    last = re.findall(r"^\s*((?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt)\b.*)$", text[at:], re.M)
    return last[-1].strip() if last else "an exception"


def pip_hint(text):
    if crashed(text):
        return "the pip in the bundle does not work with the node's Python %s: add a wheel of another pip to a copy step, a newer one for a new Python" % sys.version.split()[0]
    missing = re.search(r"No matching distribution found for ([A-Za-z0-9._-]+)", text)
    if missing and missing.group(1).lower() in ("setuptools", "wheel"):
        return "an sdist is built here, which needs wheels of setuptools and wheel in the bundle: add them to a copy step, or deliver a wheel instead of the sdist"
    if missing:
        return "deliver a wheel or sdist of %s with a copy step, for this Python and platform" % missing.group(1)
    if re.search(r"invalid wheel|Wheel .* is invalid|BadZipFile|not a zip file|ReadError|EOFError|unexpected end of data|neither 'setup.py' nor 'pyproject.toml'", text, re.I):
        return "the artifact is broken: build it again, deliver it with the copy step, and go on from there"
    return ""


LAST = {(3, 6): "21.3.1", (3, 7): "24.0", (3, 8): "25.0.1"}  # the last pip for a Python


def fitting(bundle, wheels, version):
    """The newest of the pip wheels that is for this version of Python."""
    newest = sorted(wheels, key=lambda name: [int(n) for n in re.findall(r"\d+", name.split("-")[1])], reverse=True)
    wants = []
    for name in newest:
        needs = requires_python(os.path.join(bundle, name))
        if admits(needs, version):
            return name
        wants.append("%s needs Python %s" % (name, needs))
    known = LAST.get(version[:2])
    raise agent.Halt("BLOCKED", "no pip for Python %s of the node in the bundle: %s" % (".".join(map(str, version)), ", ".join(wants)),
                     "add the wheel pip-%s-py3-none-any.whl to a copy step: it is the last pip for this Python" % known if known else
                     "add a wheel of a pip for this Python to a copy step")


def version_of(venv):
    """The version of a venv's Python, (3, 11, 2); the agent's where it is not told."""
    try:
        with open(os.path.join(venv, "pyvenv.cfg"), encoding="utf-8") as f:
            for line in f:
                name, _, value = line.partition("=")
                if name.strip() in ("version", "version_info"):
                    return tuple(int(n) for n in value.strip().split(".")[:3])
    except (OSError, ValueError):
        pass
    return tuple(sys.version_info[:3])


def requires_python(wheel):
    """What the wheel's metadata say, such as ">=3.7"; "" when they say nothing or cannot be read."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if re.match(r"pip-[^/]*\.dist-info/METADATA$", name):
                    for line in archive.read(name).decode("utf-8", "replace").splitlines():
                        if not line:
                            break
                        if line.lower().startswith("requires-python:"):
                            return line.partition(":")[2].strip()
    except (OSError, ValueError, zipfile.BadZipFile):
        pass  # pip will say what is wrong with it
    return ""


def admits(needs, version):
    """Whether version specifiers let a Python in; see PEP 440. What cannot be read does."""
    for part in needs.split(","):
        match = re.match(r"\s*(~=|==|!=|<=|>=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?\s*$", part)
        if not match:
            continue
        operator, number, any_below = match.groups()
        wanted = tuple(int(n) for n in number.split("."))
        size = len(wanted) if any_below else 3
        have, want = version[:size], (wanted + (0, 0, 0))[:size] if not any_below else wanted
        fits = {"==": have == want, "!=": have != want, "<=": have <= want, ">=": have >= want, "<": have < want, ">": have > want,
                "~=": have >= want and version[:len(wanted) - 1] == wanted[:-1]}[operator]
        if not fits:
            return False
    return True


def unpacked(task, bundle, wheel):
    """Where the pip of a wheel is unpacked, relative to the bundle; "" when that cannot be done.

    Python takes less time to run it from there than out of the wheel. Its metadata stay
    in the wheel, so that it is not taken for one that is installed.
    """
    folder = os.path.join(bundle, agent.UNPACKED)
    shutil.rmtree(folder, ignore_errors=True)  # what was killed has left it
    try:
        with zipfile.ZipFile(os.path.join(bundle, wheel)) as archive:
            for info in archive.infolist():
                task.check()
                if info.filename.startswith("pip/"):
                    archive.extract(info, os.path.join(folder, wheel))
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error):
        shutil.rmtree(folder, ignore_errors=True)  # it may have filled the disk
        return ""  # pip, out of the wheel, says what is wrong with it, if anything is
    return os.path.join(".", agent.UNPACKED, wheel)


def find_pip(task, bundle, python, env):
    """The command that is pip: the newest wheel's that is for this Python, else the venv's own, else ensurepip's."""
    wheels = agent.matches(bundle, "pip-*.whl")
    if wheels:
        wheel = fitting(bundle, wheels, version_of(task.path("venv")))
        return [python, "-B", (unpacked(task, bundle, wheel) or "./" + wheel) + "/pip"]

    def has(module):
        return task.run([python, "-c", "import importlib.util as u, sys; sys.exit(not u.find_spec('%s'))" % module], bundle, env) == 0

    if not has("pip"):
        if not has("ensurepip"):
            raise agent.Halt("BLOCKED", "no pip: there is no pip wheel in the bundle, and the node's python has no ensurepip",
                       "add a wheel of pip (pip-VERSION-py3-none-any.whl) to a copy step, or install python3-venv on the node")
        task.judge(task.run([python, "-m", "ensurepip", "--default-pip"], bundle, env))
    return [python, "-m", "pip"]
