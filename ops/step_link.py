"""The step link on the node: a symbolic link that is switched in one moment."""
import hashlib
import os

import agent


@agent.step("link")
def op_link(task):
    """Makes the link, or replaces it by renaming a new one over it."""
    link, target = task.request["link"], task.request["target"]
    home = os.path.realpath(task.home)
    path = os.path.join(home, link)
    if not os.path.exists(os.path.join(home, target)):
        raise agent.Halt("BLOCKED", "there is no %s on the node to link to" % os.path.join(task.home, target), "is it made by a step before this one?")
    folder = os.path.dirname(path)
    real = os.path.realpath(folder)
    if real != home and not real.startswith(home + "/"):
        raise agent.Halt("BLOCKED", "%s is %s, outside of the home" % (folder, real), "give the link a place below the home")
    if os.path.lexists(path) and not os.path.islink(path):
        raise agent.Halt("BLOCKED", "%s is no symbolic link" % os.path.join(task.home, link), "move it away on the node, or give the link another name: link replaces nothing but links")
    text = os.path.relpath(os.path.join(home, target), real)
    was = os.readlink(path) if os.path.islink(path) else None
    if was == text:
        return {"status": "OK", "message": "%s points to %s already" % (link, target)}
    os.makedirs(real, exist_ok=True)
    # A name of its own, short whatever the link's is: what an interrupted step left of it is replaced, and nobody else's file.
    new = os.path.join(real, ".conc-new-" + hashlib.sha256(os.fsencode(os.path.basename(path))).hexdigest()[:16])
    if os.path.islink(new):
        os.unlink(new)
    os.symlink(text, new)
    try:
        os.rename(new, os.path.join(real, os.path.basename(path)))
    except OSError:
        os.unlink(new)
        raise
    sync(real)
    message = "%s -> %s" % (link, target)
    if was is None:
        return {"status": "OK", "message": message + ", new"}
    before = os.path.normpath(os.path.join(real, was))
    if before.startswith(home + "/"):
        before = os.path.relpath(before, home)
        return {"status": "OK", "message": "%s; it was %s, the way back is: remote link %s %s" % (message, before, link, before)}
    return {"status": "OK", "message": "%s; it was %s" % (message, was)}


def sync(folder):
    """The new name survives a crash of the node, where its file system can promise that."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)
