"""Tests of the node's log of steps: python3 -m unittest audit_test."""
import os
import signal
import stat
import unittest

from agent_test import AgentCase, read, until  # which makes the modules found

import agent_audit

AUDIT = {"who": "ann@desk", "deploy": "/d/deploy.ini", "node": "node1", "list": "install", "step": "s1", "op": "remote run"}
TAIL = ' ann@desk deploy=/d/deploy.ini node=node1 list=install step=s1 op="remote run" status='


class Audit(AgentCase):
    def setUp(self):
        AgentCase.setUp(self)
        self.folder = os.path.join(self.home, ".conc")
        self.log = os.path.join(self.folder, "log")

    def lines(self):
        return [line[len("2000-01-01T00:00:00Z"):] for line in read(self.log).splitlines()]

    def test_line_and_modes(self):
        self.assertEqual(self.run_command("true", audit=AUDIT)[1]["status"], "OK")
        self.assertEqual(self.run_command("exit 1", audit=AUDIT)[1]["status"], "FAILED")
        self.run_command("true")  # no step
        self.assertEqual(self.lines(), [TAIL + "OK", TAIL + "FAILED"])
        self.assertEqual([stat.S_IMODE(os.stat(path).st_mode) for path in (self.folder, self.log)], [0o700, 0o600])

    def test_strange_and_long_words(self):
        self.run_command("true", audit=dict(AUDIT, step="a b\n\u20ac\x1b", list="l" * 5000))
        line, = self.lines()
        self.assertIn('step="a b\\n\\u20ac\\u001b"', line)
        self.assertLess(len(line), 500)

    def test_lost_link(self):
        self.agent.start("run", bundle="bundle", venv="", command="echo $$ > pid; sleep 300", audit=AUDIT)
        self.pid_in("pid")
        self.agent.process.send_signal(signal.SIGHUP)
        self.agent.process.wait(timeout=20)
        self.assertEqual(self.lines(), [TAIL + "ERROR"])

    def test_note(self):
        self.agent.send({"op": "note", "audit": dict(AUDIT, op="local copy"), "status": "OK"})
        self.run_command("true")
        self.assertEqual(self.lines()[0], TAIL.replace("remote run", "local copy") + "OK")

    def test_turned(self):
        os.mkdir(self.folder)
        with open(self.log, "w") as f:
            f.write("x" * (agent_audit.MAX_LOG - 10) + "\n")
        self.run_command("true", audit=AUDIT)
        self.run_command("true", audit=AUDIT)
        self.assertEqual(self.lines(), [TAIL + "OK"] * 2)
        self.assertEqual(len(read(self.log + ".1")), agent_audit.MAX_LOG - 9)

    def test_not_where_somebody_leads_to(self):
        other = os.path.join(self.home, "other")
        os.mkdir(other)
        victim = os.path.join(other, "log")
        open(victim, "w").close()

        def link_folder():
            os.symlink(other, self.folder)

        def link_log():
            os.mkdir(self.folder)
            os.symlink(victim, self.log)

        def hard_link():
            os.link(victim, self.log)

        def fifo():
            os.mkfifo(self.log)

        def nothing_can_be_made():
            open(self.folder, "w").close()

        for place in (link_folder, link_log, hard_link, fifo, nothing_can_be_made):
            with self.subTest(place.__name__):
                if os.path.isdir(self.folder) and not os.path.islink(self.folder) and place is nothing_can_be_made:
                    os.rmdir(self.folder)
                place()
                self.assertEqual(self.run_command("true", audit=AUDIT)[1]["status"], "OK")
                self.assertEqual(read(victim), "")
                os.unlink(self.folder if os.path.islink(self.folder) or os.path.isfile(self.folder) else self.log)

    def test_not_into_what_is_anothers(self):
        fd = os.open("/", os.O_RDONLY)
        self.addCleanup(os.close, fd)
        mode, real = os.fstat(fd).st_mode, os.geteuid
        self.addCleanup(setattr, os, "geteuid", real)
        os.geteuid = lambda: 12345
        with self.assertRaises(PermissionError):
            agent_audit.private(fd, 0o700)
        self.assertEqual(os.fstat(fd).st_mode, mode)


if __name__ == "__main__":
    unittest.main()
