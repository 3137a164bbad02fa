"""Steps of a deploy that change data.

A step is a function f(ncd, sudoPass): `ncd` has the attributes of the node in deploy.ini by name, all of them strings; `sudoPass` is the
password for sudo, or None. It returns the status, "OK" or "BLOCKED", or raises.
"""
from hello.app import greetings


def upgrade(ncd, sudoPass):
    """Creates the database on the node or brings it to the schema of this release. `ncd["data"]` is its folder (default ~/hello-data)."""
    file = greetings.path(ncd.get("data"))
    try:
        before, after = greetings.upgrade(file)
    except greetings.NewerSchema as newer:
        print("%s: install a newer release, or restore the database of this one" % newer)
        return "BLOCKED"
    print("%s: schema %d, was %d" % (file, after, before))
    return "OK"
