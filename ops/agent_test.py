"""Tests of the agent by itself, without SSH: python3 -m unittest agent_test.

The protocol is spoken with a real agent process, started as conc starts it.
"""
import ast
import glob
import io
import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import agent  # noqa: E402
import step_pip  # noqa: E402
import step_untar  # noqa: E402

BOOT = ('import sys; stdin = sys.stdin.buffer; exec(compile(stdin.read(int(sys.argv[2])), "agent.py", "exec")); '
        'main(stdin, sys.argv[1])')


def until(condition, seconds=20):
    """Waits until the condition holds; tells whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except FileNotFoundError:
        return ""


class Conversation:
    """A running agent."""

    def __init__(self, home):
        with open(os.path.join(HERE, "agent.py"), "rb") as f:
            source = f.read()
        modules = []
        for file in sorted(glob.glob(os.path.join(HERE, "step_*.py"))):
            with open(file, encoding="utf-8") as f:
                modules.append([os.path.basename(file)[:-3], f.read()])
        self.process = subprocess.Popen([sys.executable, "-I", "-S", "-X", "utf8", "-c", BOOT, "the-word", str(len(source))],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=dict(os.environ, HOME=home))
        self.process.stdin.write(source)
        self.send({"modules": modules})
        self.mark = self.process.stdout.read(len("\nthe-word\n"))
        self.hello = self.receive()["hello"]
        self.number = 0

    def send(self, frame):
        body = json.dumps(frame).encode("ascii")
        self.process.stdin.write(struct.pack(">I", len(body)) + body)
        self.process.stdin.flush()

    def receive(self):
        head = self.process.stdout.read(4)
        if not head:
            return None
        size, = struct.unpack(">I", head)
        assert size < 1 << 20, size
        return json.loads(self.process.stdout.read(size).decode("ascii"))

    def start(self, op, **request):
        self.number += 1
        request.update(id=self.number, op=op)
        self.send(request)

    def finish(self):
        """The output lines per stream, and the last frame."""
        lines = {1: [], 2: []}
        while True:
            frame = self.receive()
            assert frame is not None, self.process.stderr.read()
            if "status" in frame:
                return lines, frame
            if "lines" in frame:
                lines[frame["fd"]] += frame["lines"]

    def call(self, op, **request):
        self.start(op, **request)
        return self.finish()

    def close(self):
        if not self.process.stdin.closed:
            self.process.stdin.close()
        self.process.wait(timeout=20)
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()


class AgentCase(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.home)
        self.bundle = os.path.join(self.home, "bundle")
        os.mkdir(self.bundle)
        self.agent = Conversation(self.home)
        self.addCleanup(self.agent.close)

    def run_command(self, command, **request):
        request.setdefault("venv", "")
        return self.agent.call("run", bundle="bundle", command=command, **request)

    def pid_in(self, name):
        path = os.path.join(self.bundle, name)
        self.assertTrue(until(lambda: read(path).endswith("\n")))
        return int(read(path))


class Syntax(unittest.TestCase):
    def test_python_3_6(self):
        for file in glob.glob(os.path.join(HERE, "agent.py")) + glob.glob(os.path.join(HERE, "step_*.py")):
            with open(file, encoding="utf-8") as f:
                source = f.read()
            with self.subTest(file):
                source.encode("ascii")  # a login shell's locale does not matter then
                ast.parse(source, file, feature_version=(3, 6))

    def test_standard_library_only(self):
        allowed = getattr(sys, "stdlib_module_names", None)
        if allowed is None:  # before 3.10 the names are not known
            allowed = set(sys.modules) | {"lzma", "tarfile", "zipfile", "zlib"}
        for file in glob.glob(os.path.join(HERE, "agent.py")) + glob.glob(os.path.join(HERE, "step_*.py")):
            with open(file, encoding="utf-8") as f:
                tree = ast.parse(f.read())
            for node in ast.walk(tree):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
                for name in names:
                    self.assertTrue(name == "agent" or name.split(".")[0] in allowed, name)


class LinesCase(unittest.TestCase):
    def lines(self, *chunks):
        found = []
        lines = agent.Lines(found.extend)
        for chunk in chunks:
            lines.feed(chunk)
        lines.close()
        return found

    def test_chunks(self):
        self.assertEqual(self.lines(b"a", b"b\nc\n\n", b"d"), ["ab", "c", "", "d"])

    def test_not_utf8(self):
        self.assertEqual(self.lines(b"caf\xe9 \xff\n"), ["caf\\xe9 \\xff"])

    def test_character_in_two_chunks(self):
        self.assertEqual(self.lines(b"\xe2\x82", b"\xac\n"), ["\u20ac"])

    def test_huge_line_is_cut_between_characters(self):
        text = "x" + "\u20ac" * 100000
        found = self.lines(text.encode("utf-8"))
        self.assertGreater(len(found), 3)
        self.assertEqual("".join(found), text)
        self.assertLessEqual(max(len(line.encode("utf-8")) for line in found), agent.MAX_LINE)


class Run(AgentCase):
    def test_hello(self):
        self.assertEqual(self.agent.hello["home"], self.home)

    def test_output_and_code(self):
        lines, end = self.run_command("echo out; echo err >&2; pwd; exit 3")
        self.assertEqual((lines, end["status"], end["code"], end["message"]),
                         ({1: ["out", os.path.realpath(self.bundle)], 2: ["err"]}, "FAILED", 3, "exit status 3"))

    def test_ok_codes(self):
        self.assertEqual(self.run_command("exit 2", ok_codes=[0, 2])[1]["status"], "OK")
        self.assertEqual(self.run_command("exit 0", ok_codes=[2])[1]["status"], "FAILED")

    def test_environment(self):
        lines, _ = self.run_command('echo "$CONC_X $VIRTUAL_ENV ${PATH%%:*}"', env={"CONC_X": "\u00fc b"}, venv="v")
        self.assertEqual(lines[1], ["\u00fc b  " + os.path.join(self.home, "v", "bin")])

    def test_stdin(self):
        self.assertEqual(self.run_command("cat; echo $?", stdin="a\nb\n")[0][1], ["a", "b", "0"])
        self.assertEqual(self.run_command("cat; echo $?")[0][1], ["0"])
        self.assertEqual(self.run_command("true", stdin="x" * 300000)[1]["status"], "OK")
        self.assertEqual(self.run_command("wc -c", stdin="x" * 300000)[0][1], ["300000"])

    def test_signal(self):
        _, end = self.run_command("kill -KILL $$")
        self.assertEqual((end["status"], end["message"]), ("FAILED", "killed by SIGKILL"))

    def test_no_bundle(self):
        _, end = self.agent.call("run", bundle="other", command="true", venv="")
        self.assertEqual(end["status"], "BLOCKED")
        self.assertIn("other", end["message"])

    def test_many_lines(self):
        lines, end = self.run_command("seq 1 200000; seq 1 1000 >&2")
        self.assertEqual(end["status"], "OK")
        self.assertEqual(lines[1], [str(i) for i in range(1, 200001)])
        self.assertEqual(len(lines[2]), 1000)

    def test_huge_line(self):
        lines, _ = self.run_command("head -c 1000000 /dev/zero | tr '\\0' '\\377'")
        self.assertEqual("".join(lines[1]), "\\xff" * 1000000)

    def test_slow_reader_slows_the_command_down(self):
        self.agent.start("run", bundle="bundle", venv="", command="seq 1 2000000; echo > done")
        # Nothing is read: the pipes fill, and the command stands still.
        out = self.agent.process.stdout.fileno()
        self.assertTrue(until(lambda: agent.readable(out) > 60000))

        def memory():
            with open("/proc/%d/statm" % self.agent.process.pid) as f:
                return int(f.read().split()[1]) * 4096
        self.assertLess(memory(), 100 << 20)
        self.assertFalse(os.path.exists(os.path.join(self.bundle, "done")))
        lines, end = self.agent.finish()
        self.assertEqual((len(lines[1]), lines[1][-1], end["status"]), (2000000, "2000000", "OK"))
        self.assertLess(memory(), 100 << 20)

    def test_child_that_keeps_the_output_open(self):
        lines, end = self.run_command("sleep 300 & echo $!; seq 1 30000")
        pid = int(lines[1][0])
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        self.assertEqual((end["status"], len(lines[1])), ("OK", 30001))
        self.assertTrue(alive(pid))

    def test_timeout_kills_the_group(self):
        lines, end = self.run_command(
            "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > inner; while :; do sleep 0.1; done' & echo $$ > outer; while :; do sleep 0.1; done", timeout=0.5)
        self.assertEqual((end["status"], end["message"]), ("TIMED OUT", "not done in 0.5 s"))
        for name in ("inner", "outer"):
            self.assertFalse(alive(self.pid_in(name)), name)

    def test_timeout_kills_job_control_groups_too(self):
        _, end = self.run_command("set -m; sh -c 'echo $$ > inner; sleep 300' & wait", timeout=0.5)
        self.assertEqual(end["status"], "TIMED OUT")
        self.assertFalse(alive(self.pid_in("inner")))

    def test_cancel(self):
        self.agent.start("run", bundle="bundle", venv="", command="echo $$ > pid; sleep 300")
        pid = self.pid_in("pid")
        self.agent.send({"op": "cancel"})
        _, end = self.agent.finish()
        self.assertEqual(end["status"], "STOPPED")
        self.assertFalse(alive(pid))
        self.assertEqual(self.run_command("true")[1]["status"], "OK")

    def test_cancel_when_nothing_runs(self):
        self.agent.send({"op": "cancel"})
        self.agent.send({"op": "ping"})
        self.assertEqual(self.run_command("true")[1]["status"], "OK")

    def ends_with_its_command(self, how, ignore=""):
        self.agent.start("run", bundle="bundle", venv="", command=ignore + "echo $$ > pid; while :; do sleep 0.1; done")
        pid = self.pid_in("pid")
        how()
        self.agent.process.wait(timeout=20)
        self.assertTrue(until(lambda: not alive(pid)))

    def test_end_of_input(self):
        self.ends_with_its_command(self.agent.process.stdin.close)

    def test_end_of_input_when_term_is_ignored(self):
        self.ends_with_its_command(self.agent.process.stdin.close, "trap '' TERM; ")

    def test_hangup(self):
        self.ends_with_its_command(lambda: self.agent.process.send_signal(signal.SIGHUP))

    def test_nobody_reads_and_input_ends(self):
        self.agent.start("run", bundle="bundle", venv="", command="echo $$ > pid; yes")
        pid = self.pid_in("pid")
        self.agent.process.stdin.close()
        self.agent.process.wait(timeout=20)
        self.assertTrue(until(lambda: not alive(pid)))

    def test_exception(self):
        lines, end = self.agent.call("run", bundle="bundle", venv="")  # no command
        self.assertEqual(end["status"], "ERROR")
        self.assertIn("KeyError", end["message"])
        self.assertIn("task.request[\"command\"]", end["trace"])

    def test_frame_too_large(self):
        self.agent.process.stdin.write(struct.pack(">I", agent.MAX_FRAME + 1))
        self.agent.process.stdin.flush()
        self.agent.process.wait(timeout=20)
        self.assertIn(b"too large", self.agent.process.stderr.read())


class Untar(AgentCase):
    def tar(self, name, *members, mode="w:gz"):
        with tarfile.open(os.path.join(self.bundle, name), mode) as archive:
            for path, kind, content in members:
                info = tarfile.TarInfo(path)
                info.type, info.mode, info.mtime = kind, 0o6755, 1500000000
                data = b""
                if kind == tarfile.REGTYPE:
                    data = content.encode()
                    info.size = len(data)
                else:
                    info.linkname = content
                archive.addfile(info, io.BytesIO(data))

    def untar(self, glob):
        return self.agent.call("untar", bundle="bundle", glob=glob)[1]

    def test_every_kind(self):
        for name, mode in (("a.tar", "w"), ("b.tar.gz", "w:gz"), ("c.tgz", "w:gz"), ("d.tar.bz2", "w:bz2"), ("e.tar.xz", "w:xz")):
            folder = name.split(".")[0]
            self.tar(name, (folder + "/x/f", tarfile.REGTYPE, "hello"), (folder + "/s", tarfile.SYMTYPE, "x/f"), (folder + "/h", tarfile.LNKTYPE, folder + "/x/f"), mode=mode)
            with self.subTest(name):
                end = self.untar(name)
                self.assertEqual(end["status"], "OK", end)
                for file in ("x/f", "s", "h"):
                    with open(os.path.join(self.bundle, folder, file)) as f:
                        self.assertEqual(f.read(), "hello")
                info = os.stat(os.path.join(self.bundle, folder, "x/f"))
                self.assertEqual((stat.S_IMODE(info.st_mode), info.st_mtime), (0o755, 1500000000))
                self.assertEqual(self.untar(name)["status"], "OK")  # again, over itself

    def test_zip(self):
        with zipfile.ZipFile(os.path.join(self.bundle, "a.zip"), "w") as archive:
            archive.writestr("d/", "")
            archive.writestr("d/f", "hello")
            link = zipfile.ZipInfo("d/s")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "f")
        self.assertEqual(self.untar("*.zip")["status"], "OK")
        with open(os.path.join(self.bundle, "d/s")) as f:
            self.assertEqual(f.read(), "hello")

    def test_members_that_leave_the_bundle(self):
        F, S, L, D = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
        cases = {
            "absolute": [("/tmp/x", F, "")],
            "dotdot": [("a/../../x", F, "")],
            "symlink out": [("s", S, "../x")],
            "symlink absolute": [("s", S, "/etc/passwd")],
            "symlink back and out": [("a", D, ""), ("a/s", S, "b/../../../x")],
            "chain": [("d/a/s", S, "../.."), ("d/a/t", S, "s/../..")],
            "below a symlink": [("s", S, "."), ("s/x", F, "")],
            "below a file": [("s", F, ""), ("s/x", F, "")],
            "file over folder": [("s", D, ""), ("s", F, "")],
            "folder over file": [("s", F, ""), ("s", D, "")],
            "hard link out": [("h", L, "../x")],
            "hard link to a symlink": [("s", S, "x"), ("h", L, "s")],
            "hard link to what is there": [("h", L, "secret")],
            "device": [("d", tarfile.CHRTYPE, "")],
            "pipe": [("d", tarfile.FIFOTYPE, "")],
            "owner record": [(".conc-owner.json", F, "{}")],
        }
        for name, members in cases.items():
            self.tar("bad.tar", ("good", F, "x"), *members)
            with self.subTest(name):
                end = self.untar("bad.tar")
                self.assertEqual(end["status"], "FAILED", end)
                self.assertIn("refused", end["message"])
                self.assertEqual(os.listdir(self.bundle), ["bad.tar"])
                self.assertEqual(sorted(os.listdir(self.home)), ["bundle"])

    def test_symlink_that_is_there(self):
        os.mkdir(os.path.join(self.home, "out"))
        os.symlink("../out", os.path.join(self.bundle, "d"))
        self.tar("a.tar", ("d/x", tarfile.REGTYPE, "x"))
        self.assertEqual(self.untar("a.tar")["status"], "FAILED")
        self.assertEqual(os.listdir(os.path.join(self.home, "out")), [])
        os.unlink(os.path.join(self.bundle, "d"))
        os.symlink("../out/y", os.path.join(self.bundle, "f"))
        self.tar("b.tar", ("f", tarfile.REGTYPE, "x"))
        self.assertEqual(self.untar("b.tar")["status"], "OK")
        self.assertEqual(os.listdir(os.path.join(self.home, "out")), [])

    def test_broken(self):
        self.tar("a.tar.gz", ("x", tarfile.REGTYPE, "hello" * 10000))
        path = os.path.join(self.bundle, "a.tar.gz")
        with open(path, "rb") as f:
            data = f.read()
        for name, content in (("cut", data[:-30]), ("garbage", b"garbage" * 100), ("empty", b"")):
            with open(path, "wb") as f:
                f.write(content)
            with self.subTest(name):
                end = self.untar("*.gz")
                self.assertEqual(end["status"], "FAILED", end)
                self.assertIn("broken", end["hint"])

    def test_no_match(self):
        self.assertIn("nope-*", self.untar("nope-*")["message"])


class Verify(AgentCase):
    def test_differences(self):
        import hashlib
        files = {}
        for name in ("same", "changed", "missing", "d/e"):
            path = os.path.join(self.bundle, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as f:
                f.write("content")
            files[name] = [7, hashlib.sha256(b"content").hexdigest()]
        lines, end = self.agent.call("verify", bundle="bundle", files=files, strict=True)
        self.assertEqual((lines[1], end["status"]), ([], "OK"))
        os.unlink(os.path.join(self.bundle, "missing"))
        with open(os.path.join(self.bundle, "changed"), "w") as f:
            f.write("CONTENT")
        lines, end = self.agent.call("verify", bundle="bundle", files=files)
        self.assertEqual((end["status"], end["message"]), ("FAILED", "1 missing, 1 different"))
        self.assertEqual(lines[1], ["missing: missing", "differs: changed"])
        del files["missing"], files["changed"], files["d/e"]
        lines, end = self.agent.call("verify", bundle="bundle", files=files)
        self.assertEqual((end["status"], lines[1]), ("OK", ["extra: changed", "extra: d/"]))
        self.assertEqual(self.agent.call("verify", bundle="bundle", files=files, strict=True)[1]["status"], "FAILED")


class Venv(AgentCase):
    def venv(self, **request):
        return self.agent.call("venv", bundle="bundle", venv="v/w", **request)[1]

    def test_fresh_kept_cleared(self):
        python = os.path.join(self.home, "v/w/bin/python")
        self.assertEqual(self.venv()["status"], "OK")
        self.assertTrue(os.access(python, os.X_OK))
        self.assertFalse(os.path.exists(os.path.join(self.home, "v/w", agent.UNFINISHED)))
        end = self.venv()
        self.assertEqual(end["status"], "BLOCKED")
        self.assertIn("--keep", end["hint"])
        mark = os.path.join(self.home, "v/w/mark")
        open(mark, "w").close()
        self.assertEqual(self.venv(keep=True)["status"], "OK")
        self.assertTrue(os.path.exists(mark))
        self.assertEqual(self.venv(clear=True)["status"], "OK")
        self.assertFalse(os.path.exists(mark))
        os.unlink(python)
        end = self.venv(keep=True)
        self.assertEqual(end["status"], "BLOCKED")
        self.assertIn("--clear", end["hint"])

    def test_half_made(self):
        path = os.path.join(self.home, "v/w")
        os.makedirs(os.path.join(path, "lib"))
        open(os.path.join(path, agent.UNFINISHED), "w").close()
        self.assertEqual(self.venv()["status"], "OK")
        self.assertEqual(self.venv(keep=True)["status"], "OK")

    def test_foreign_folder_is_never_removed(self):
        os.makedirs(os.path.join(self.home, "v/w"))
        path = os.path.join(self.home, "v/w/precious")
        open(path, "w").close()
        for request in ({}, {"keep": True}, {"clear": True}):
            self.assertEqual(self.venv(**request)["status"], "BLOCKED")
        self.assertTrue(os.path.exists(path))

    def test_link_and_file(self):
        os.makedirs(os.path.join(self.home, "v"))
        os.symlink("x", os.path.join(self.home, "v/w"))
        self.assertEqual(self.venv()["status"], "BLOCKED")
        os.unlink(os.path.join(self.home, "v/w"))
        open(os.path.join(self.home, "v/w"), "w").close()
        self.assertEqual(self.venv()["status"], "BLOCKED")

    def test_cancelled_is_made_afresh(self):
        self.agent.start("venv", bundle="bundle", venv="v/w", with_pip=False)
        marker = os.path.join(self.home, "v/w", agent.UNFINISHED)
        self.assertTrue(until(lambda: os.path.exists(marker)))
        self.agent.send({"op": "cancel"})
        if self.agent.finish()[1]["status"] == "STOPPED":
            self.assertTrue(os.path.exists(marker))
            self.assertEqual(self.agent.call("setup", bundle="bundle", venv="v/w", glob="x")[1]["status"], "BLOCKED")
            self.assertEqual(self.venv()["status"], "OK")


class PipHints(unittest.TestCase):
    def test_missing(self):
        hint = step_pip.pip_hint("ERROR: No matching distribution found for setuptools>=40.8.0")
        self.assertIn("wheel", hint)
        self.assertIn("six", step_pip.pip_hint("ERROR: No matching distribution found for six>=1.0"))
        self.assertIn("broken", step_pip.pip_hint("ERROR: Wheel 'x' located at y is invalid."))
        self.assertEqual(step_pip.pip_hint("ERROR: something else"), "")


if __name__ == "__main__":
    unittest.main()
