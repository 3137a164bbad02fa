"""Tests of the steps' parts of the agent: python3 -m unittest steps_test."""
import hashlib
import os
import sys
import unittest
import zipfile

from agent_test import AgentCase, agent, until  # which makes the modules found

import step_pip
import step_sudo


class Verify(AgentCase):
    def test_differences(self):
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


class SudoReasons(unittest.TestCase):
    def test_texts(self):
        expired, not_allowed, wrong, terminal, broken = [entry[1] for entry in step_sudo.REASONS]
        for said, message in (
                ("ann is not in the sudoers file.  This incident will be reported.", not_allowed),
                ("ann is not in the sudoers file.", not_allowed),
                ("Sorry, user ann may not run sudo on node1.", not_allowed),
                ("Sorry, user ann is not allowed to execute '/usr/bin/id' as root on node1.", not_allowed),
                ("sudo-rs: I'm sorry ann. I'm afraid I can't do that", not_allowed),
                ("sudo: ann is not allowed to run sudo on node1.", not_allowed),
                ("Sorry, try again.\nsudo: no password was provided\nsudo: 1 incorrect password attempt", wrong),
                ("Sorry, try again.\nsudo: 3 incorrect password attempts", wrong),
                ("sudo-rs: Authentication failed, try again.\nsudo-rs: Maximum 3 incorrect authentication attempts", wrong),
                ("sudo: sorry, you must have a tty to run sudo", terminal),
                ("sudo: a terminal is required to read the password; either use the -S option to read from standard input or configure an askpass helper", terminal),
                ("sudo: no tty present and no askpass program specified", terminal),
                ("sudo: Account or password is expired, reset your password and try again", expired),
                ("sudo: account validation failure, is your account locked?", expired),
                ("sudo: Password expired, contact your system administrator", expired),
                ("sudo: Account expired or PAM config lacks an \"account\" section for sudo, contact your system administrator", expired),
                ("sudo-rs: Account validation failure, is your account locked?", expired),
                ("sudo: /usr/bin/sudo must be owned by uid 0 and have the setuid bit set", broken),
                ("sudo: effective uid is not 0, is /usr/bin/sudo on a file system with the 'nosuid' option set or an NFS file system without root privileges?", broken),
                ("sudo: The \"no new privileges\" flag is set, which prevents sudo from running as root.", broken),
        ):
            with self.subTest(said):
                self.assertEqual((step_sudo.reason(said) or ("nothing",))[0], message)
        self.assertIsNone(step_sudo.reason("sudo: unable to resolve host node1: Name or service not known"))


class PipSummary(unittest.TestCase):
    def test_one_line(self):
        for said, summary in (
                ("", "nothing to install: all is there already"),
                ("Successfully installed hello-1.4.2", "installed hello-1.4.2"),
                ("Successfully installed a-1 b-2 c-3 hello-1.4.2", "installed hello-1.4.2 and 3 more")):
            self.assertEqual(step_pip.summary(said), summary)

    def test_held(self):
        class Task:
            reported = 0.0
            sent = []

            def send(self, **frame):
                self.sent.append(frame)

        held = step_pip.Held(Task())
        for i in range(100):
            held.send(fd=1, lines=["%d" % i + "x" * (step_pip.MAX_HELD // 10)])
        held.send(status="OK")
        self.assertLessEqual(held.size, step_pip.MAX_HELD)
        self.assertFalse([frame for frame in Task.sent if "lines" in frame])
        self.assertIn({"status": "OK"}, Task.sent)
        held.show()
        self.assertIn("left out", Task.sent[-len(held.frames) - 1]["lines"][0])
        self.assertTrue(Task.sent[-1]["lines"][0].startswith("99x"))


class PipForThisPython(AgentCase):
    def pip(self, version, needs, program="import sys; sys.exit('ERROR: this is pip VERSION')"):
        with zipfile.ZipFile(os.path.join(self.bundle, "pip-%s-py3-none-any.whl" % version), "w") as archive:
            text = "Metadata-Version: 2.1\nName: pip\nVersion: %s\n" % version
            archive.writestr("pip-%s.dist-info/METADATA" % version, text + ("Requires-Python: %s\n" % needs if needs else "") + "\nRequires-Python: <1\n")
            archive.writestr("pip/__main__.py", program.replace("VERSION", version))

    def run_pip(self, version=None):
        venv = os.path.join(self.home, "v")
        if not os.path.exists(venv):
            os.makedirs(os.path.join(venv, "bin"))
            os.symlink(sys.executable, os.path.join(venv, "bin", "python"))
        if version:
            with open(os.path.join(venv, "pyvenv.cfg"), "w") as f:
                f.write("home = /usr/bin\nversion = %s\n" % version)
        return self.agent.call("pip", bundle="bundle", venv="v", targets=[["requirement", "x"]])

    def test_newest_that_fits(self):
        self.pip("21.3.1", ">=3.6")
        self.pip("24.0", ">=3.7")
        self.pip("100.1", ">=3.9")
        for version, chosen in (("3.6.9", "21.3.1"), ("3.7.3", "24.0"), ("3.9.0", "100.1"), ("3.13.1", "100.1")):
            self.assertEqual(self.run_pip(version)[1]["message"], "pip: this is pip " + chosen)

    def test_none_fits(self):
        self.pip("24.0", ">=3.7")
        self.pip("25.1", "!=3.7.*,>=3.9")
        end = self.run_pip("3.6.9")[1]
        self.assertEqual(end["status"], "BLOCKED")
        self.assertIn("Python 3.6.9 of the node", end["message"])
        self.assertIn("pip-25.1-py3-none-any.whl needs Python !=3.7.*,>=3.9, pip-24.0-py3-none-any.whl needs Python >=3.7", end["message"])
        self.assertIn("pip-21.3.1-py3-none-any.whl", end["hint"])

    def test_crash(self):
        self.pip("9.0", "", "import sys\nsys.stderr.write('ERROR: Exception:\\n')\nimport pkgutil\npkgutil.NoSuchThing\n")
        lines, end = self.run_pip()
        self.assertEqual((end["status"], end["message"].split(" has")[0]), ("FAILED", "pip: AttributeError: module 'pkgutil'"))
        self.assertIn("does not work with the node's Python", end["hint"])
        self.assertIn("ERROR: Exception:", lines[2])

    def test_runs_unpacked(self):
        self.pip("9.0", "", "import os, sys\nprint(os.path.abspath(sys.argv[0]), sys.dont_write_bytecode)\n"
                 "print(sorted(os.listdir(os.path.dirname(os.path.abspath(sys.argv[0])))))\nsys.exit('ERROR: shown')\n")
        folder = os.path.join(self.bundle, agent.UNPACKED)
        os.makedirs(os.path.join(folder, "old"))  # what an agent that was killed has left
        lines, end = self.run_pip()
        self.assertEqual(end["message"], "pip: shown")
        at = os.path.join(folder, "pip-9.0-py3-none-any.whl")
        self.assertIn(at + "/pip True", lines[1])
        self.assertIn("['pip']", lines[1])  # no metadata beside it: it does not count as installed
        self.assertFalse(os.path.exists(folder))

    def test_cannot_be_unpacked(self):
        self.pip("9.0", "", "import sys; sys.exit('ERROR: out of ' + sys.argv[0])")
        with open(os.path.join(self.bundle, agent.UNPACKED), "w"):  # a file in its place
            pass
        self.assertEqual(self.run_pip()[1]["message"], "pip: out of ./pip-9.0-py3-none-any.whl/pip")

    def test_admits(self):
        for needs, version, fits in ((">=3.7", (3, 6, 9), False), (">=3.7", (3, 10, 0), True), ("<4,>=3", (3, 12, 1), True), ("!=3.0.*,!=3.1.*", (3, 1, 4), False),
                                     ("~=3.6", (3, 9, 0), True), ("~=3.6", (4, 0, 0), False), ("==3.8.*", (3, 8, 5), True), ("", (3, 6, 0), True), ("odd", (3, 6, 0), True)):
            self.assertEqual(step_pip.admits(needs, version), fits, needs)


class PipHints(unittest.TestCase):
    def test_missing(self):
        hint = step_pip.pip_hint("ERROR: No matching distribution found for setuptools>=40.8.0")
        self.assertIn("wheel", hint)
        self.assertIn("six", step_pip.pip_hint("ERROR: No matching distribution found for six>=1.0"))
        self.assertIn("broken", step_pip.pip_hint("ERROR: Wheel 'x' located at y is invalid."))
        self.assertEqual(step_pip.pip_hint("ERROR: something else"), "")


if __name__ == "__main__":
    unittest.main()
