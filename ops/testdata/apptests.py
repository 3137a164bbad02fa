"""Cases as an application may have them, for the op test."""
import os
import subprocess
import unittest


class Good(unittest.TestCase):
    ncd = {}
    sudoPass = "none yet"

    @classmethod
    def setUpClass(cls):
        cls.seen = cls.ncd["name"]

    def test_attributes(self):
        self.assertEqual((self.seen, self.ncd["word"], self.sudoPass), ("node1", "a 'b' $c", None))

    def test_writes(self):
        print("nobody sees this")

    @unittest.skip("not on this node")
    def test_skipped(self):
        pass

    @unittest.expectedFailure
    def test_expected(self):
        self.fail()


class Bad(unittest.TestCase):
    def test_fails(self):
        print("written before")
        subprocess.check_call(["echo", "by a process"])
        self.assertEqual(1, 2)

    def test_raises(self):
        raise RuntimeError("broken\x1b[31m")

    @unittest.expectedFailure
    def test_unexpected(self):
        pass

    def test_subtests(self):
        for i in range(3):
            with self.subTest(i=i):
                self.assertEqual(i, 1)

    def test_leaves(self):
        raise SystemExit(0)

    def test_both(self):
        self.addCleanup(lambda: 1 / 0)
        self.fail("first")


class Unready(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise OSError("no database")

    def test_one(self):
        pass

    def test_two(self):
        pass


class Unwanted(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise unittest.SkipTest("not here")

    def test_one(self):
        pass


class Crash(unittest.TestCase):
    def test_crash(self):
        os.abort()
