"""The `hello` command."""
import argparse
import os
import platform

from hello.app import greetings
from hello.app.version import __version__


def main(args=None):
    """Prints one line: a greeting, the version, the Python that runs it and the node."""
    parser = argparse.ArgumentParser(prog="hello", description="Greets, and says what runs where.")
    parser.add_argument("name", nargs="?", default="world", help="whom to greet (%(default)s)")
    parser.add_argument("--version", action="version", version="%(prog)s " + __version__)
    name = parser.parse_args(args).name

    # conc hands the attributes of the node to the commands it runs; without it the host name is what we know.
    node = os.environ.get("CONC_NAME") or platform.node()
    line = "Hello, %s! This is hello %s with Python %s on %s." % (name, __version__, platform.python_version(), node)
    database = greetings.path()
    if os.path.exists(database):
        line += " Greeting number %d." % greetings.count(database, name)
    print(line)
    return 0
