"""Tests that run on the node after a deploy, with the Python of the virtual environment.

The step `test` and `conc test` set `ncd` and `sudoPass`. They run without as well: `python -m unittest hello.devops.nodetests` on the node.
"""
import os
import sqlite3
import subprocess
import sys
import unittest

from hello.app import greetings
from hello.app.version import __version__


class Installed(unittest.TestCase):
    """The product is where it should be, in the version that it should have."""

    ncd = {}
    sudoPass = None

    def test_release(self):
        self.assertEqual(__version__, self.ncd.get("release", __version__))

    def test_command(self):
        command = os.path.join(os.path.dirname(sys.executable), "hello")
        said = subprocess.check_output([command, "--version"], universal_newlines=True)
        self.assertEqual("hello %s\n" % __version__, said)

    def test_runs_in_venv(self):
        self.assertNotEqual(sys.base_prefix, sys.prefix)
        venv = self.ncd.get("venv")
        if venv:
            self.assertEqual(os.path.realpath(os.path.join(os.path.expanduser("~"), venv)), os.path.realpath(sys.prefix))


class Database(unittest.TestCase):
    """The data is ready for this release."""

    ncd = {}
    sudoPass = None

    def test_schema(self):
        file = greetings.path(self.ncd.get("data"))
        self.assertTrue(os.path.exists(file), "%s is missing: run the migration" % file)
        db = sqlite3.connect(file)
        try:
            self.assertEqual(len(greetings.MIGRATIONS), greetings.schema(db))
            self.assertEqual([("ok",)], db.execute("PRAGMA integrity_check").fetchall())
        finally:
            db.close()
