"""Tests of the agent by itself, without SSH: python3 -m unittest agent_test steps_test.

The protocol is spoken with a real agent process, started as conc starts it.
"""
import ast
import glob
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import agent  # noqa: E402
import agent_fence  # noqa: E402
import agent_process  # noqa: E402

PARTS = [os.path.join(HERE, "agent_%s.py" % part) for part in ("audit", "fence", "process", "python")] + sorted(glob.glob(os.path.join(HERE, "step_*.py")))
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
        for file in PARTS:
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
    def sources(self):
        for file in [os.path.join(HERE, "agent.py")] + PARTS + glob.glob(os.path.join(HERE, "conc_*.py")):
            with self.subTest(file):
                yield read(file)

    def test_python_3_6(self):
        for source in self.sources():
            source.encode("ascii")  # so the node's locale does not matter
            if sys.version_info >= (3, 8):  # older ones cannot take much that is newer than 3.6
                ast.parse(source, feature_version=(3, 6))
            compile(source, "agent", "exec")

    def test_standard_library_only(self):
        allowed = set("""agent agent_audit agent_fence agent_python agent_process base64 collections conc_child difflib errno faulthandler fcntl glob hashlib importlib importlib.util inspect json linecache lzma os pkgutil platform queue re select selectors shutil signal stat
            struct subprocess sys sysconfig tarfile tempfile termios threading time traceback types unittest zipfile zlib""".split())
        for source in self.sources():
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Import):
                    self.assertLessEqual({a.name for a in node.names}, allowed)
                self.assertNotIsInstance(node, ast.ImportFrom)


class LinesCase(unittest.TestCase):
    def lines(self, *chunks):
        found = []
        lines = agent_process.Lines(found.extend)
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
        self.assertLessEqual(max(len(line.encode("utf-8")) for line in found), agent_process.MAX_LINE)


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

    def test_proves_the_lock(self):
        record = os.path.join(self.bundle, ".conc-owner.json")
        for content, lost in (('{"token": "ours"}', False), ('{"token": "another\'s"}', True), ("{}", True), ("[]", True), ("no JSON", True), (None, True)):
            if content is None:
                os.unlink(record)
            else:
                with open(record, "w") as f:
                    f.write(content)
            with self.subTest(content):
                end = self.run_command("echo x >>begun", token="ours")[1]
                self.assertEqual((end["status"], end.get("lost", False)), ("BLOCKED", True) if lost else ("OK", False), end)
                self.assertNotIn("ours", end["message"])
        self.assertEqual(read(os.path.join(self.bundle, "begun")), "x\n")

    def test_lock_that_is_lost_under_it(self):
        with open(os.path.join(self.bundle, ".conc-owner.json"), "w") as f:
            f.write('{"token": "ours"}')
        for command in ("true", "exit 3"):
            end = self.run_command("echo '{}' > .conc-owner.json; " + command, token="ours")[1]
            self.assertEqual((end["status"], end["message"], end["lost"]), ("ERROR", "lock lost: 'token'", True))
            with open(os.path.join(self.bundle, ".conc-owner.json"), "w") as f:
                f.write('{"token": "ours"}')

    def names(self):
        return [name for name in os.listdir(self.home) if name.startswith(".conc-step-")]

    def test_is_named_while_it_runs(self):
        lease = "0123456789abcdef" * 2
        stale = os.path.join(self.home, ".conc-step-%s-1-2-ab" % lease)
        with open(stale, "w"):
            pass
        lines, end = self.run_command('ls -a .. | grep "^.conc-step-"; echo "$_CONC_STEP"', lease=lease)
        self.assertEqual(end["status"], "OK")
        (name, mark), pid = lines[1], self.agent.process.pid
        self.assertEqual(name, ".conc-step-%s-%d-%d-%s" % (lease, pid, agent_fence.started(pid), mark.split("-")[1]))
        self.assertEqual(self.names(), [])
        self.agent.start("run", bundle="bundle", venv="", lease=lease, command="sleep 300 & echo $! > pid; wait")
        pid = self.pid_in("pid")
        self.assertEqual(os.stat(os.path.join(self.home, self.names()[0])).st_mode & 0o777, 0o600)
        self.agent.process.send_signal(signal.SIGTERM)
        self.agent.process.wait(timeout=20)
        self.assertFalse(alive(pid))
        self.assertEqual(self.names(), [])

    def test_last(self):
        self.assertEqual(self.run_command(":", last=True)[1]["status"], "OK")
        self.assertIsNone(self.agent.receive())
        self.assertEqual(self.agent.process.wait(timeout=20), 0)  # while its input is still open

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
        self.assertTrue(until(lambda: agent_process.readable(out) > 30000))  # of 16 pages, which need not be full

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

    def test_timeout_kills_other_sessions_too(self):
        _, end = self.run_command("(setsid sh -c 'echo $$ > gone; exec sleep 300' &); setsid env -i sh -c 'trap \"\" TERM; echo $$ > bare; while :; do sleep 0.1; done' & sleep 300", timeout=1)
        self.assertEqual(end["status"], "TIMED OUT")
        for name in ("gone", "bare"):
            self.assertFalse(alive(self.pid_in(name)), name)

    def test_daemon_of_a_step_that_ends_stays(self):
        self.assertEqual(self.run_command("setsid sh -c 'echo $$ > daemon; exec sleep 300' >/dev/null 2>&1 &")[1]["status"], "OK")
        pid = self.pid_in("daemon")
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        self.assertEqual(self.run_command("sleep 300", timeout=0.2)[1]["status"], "TIMED OUT")  # another step
        self.agent.close()
        self.assertTrue(alive(pid))

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


if __name__ == "__main__":
    unittest.main()
