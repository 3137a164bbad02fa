"""Tests of the product on the developer's machine: PYTHONPATH=src python3 -m unittest discover tests"""
import contextlib
import io
import os
import platform
import sqlite3
import tempfile
import unittest
from unittest import mock

from hello.app import command, greetings
from hello.app.version import __version__
from hello.devops import migrate, nodetests


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = os.path.join(folder.name, "data")
        patch = mock.patch.dict(os.environ, HELLO_DATA=self.data)
        patch.start()
        self.addCleanup(patch.stop)

    def said(self, function, *args):
        """What the function returned and what it printed."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            result = function(*args)
        return result, output.getvalue()


class Command(Case):
    def test_greeting(self):
        with mock.patch.dict(os.environ, CONC_NAME="node7"):
            code, line = self.said(command.main, [])
        self.assertEqual(0, code)
        self.assertEqual("Hello, world! This is hello %s with Python %s on node7.\n" % (__version__, platform.python_version()), line)

    def test_counts_when_there_is_a_database(self):
        self.said(migrate.upgrade, {}, None)
        self.said(command.main, ["Ada"])
        self.said(command.main, ["Grace"])
        self.assertTrue(self.said(command.main, ["Ada"])[1].endswith(" Greeting number 2.\n"))


class Migration(Case):
    def test_new_then_nothing_to_do(self):
        status, said = self.said(migrate.upgrade, {}, None)
        self.assertEqual("OK", status)
        self.assertIn("schema %d, was 0" % len(greetings.MIGRATIONS), said)
        status, said = self.said(migrate.upgrade, {}, None)
        self.assertEqual("OK", status)
        self.assertIn("was %d" % len(greetings.MIGRATIONS), said)

    def test_place_from_node(self):
        place = os.path.join(self.data, "elsewhere")
        self.said(migrate.upgrade, {"data": place}, None)
        self.assertTrue(os.path.exists(greetings.path(place)))
        self.assertFalse(os.path.exists(greetings.path()))

    def test_old_data_is_kept(self):
        os.makedirs(self.data)
        db = sqlite3.connect(greetings.path())
        db.execute(greetings.MIGRATIONS[0])
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO greeting (name) VALUES ('Ada')")
        db.commit()
        db.close()
        self.assertEqual("OK", self.said(migrate.upgrade, {}, None)[0])
        self.assertEqual(2, greetings.count(greetings.path(), "Ada"))

    def test_newer_database_is_left_alone(self):
        self.said(migrate.upgrade, {}, None)
        db = sqlite3.connect(greetings.path())
        db.execute("PRAGMA user_version = 99")
        db.close()
        status, said = self.said(migrate.upgrade, {}, None)
        self.assertEqual("BLOCKED", status)
        self.assertIn("has schema 99", said)
        db = sqlite3.connect(greetings.path())
        self.assertEqual(99, greetings.schema(db))
        db.close()


class NodeTests(Case):
    def run_database_test(self):
        return unittest.defaultTestLoader.loadTestsFromTestCase(nodetests.Database).run(unittest.TestResult())

    def test_database(self):
        self.assertFalse(self.run_database_test().wasSuccessful())
        self.said(migrate.upgrade, {}, None)
        self.assertTrue(self.run_database_test().wasSuccessful())


if __name__ == "__main__":
    unittest.main()
