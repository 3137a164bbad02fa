"""The step venv on the node."""
import importlib.util
import os
import shutil
import sys

import agent


@agent.step("venv")
def op_venv(task):
    """Makes the venv; one that an earlier try left half made is made afresh."""
    path, marker = task.path("venv"), os.path.join(task.path("venv"), agent.UNFINISHED)
    with_pip = task.request.get("with_pip")
    env = task.env(clean=True)
    if os.path.islink(path):
        raise agent.Halt("BLOCKED", "%s is a symbolic link" % path, "give the attribute venv a path of its own, or remove the link on the node")
    if os.path.lexists(path) and not os.path.isdir(path):
        raise agent.Halt("BLOCKED", "%s is not a folder" % path, "give the attribute venv another path, or move it away on the node")
    if os.path.isdir(path) and os.listdir(path):
        python = os.path.join(path, "bin", "python")
        if os.path.exists(marker):
            task.say("removing what an interrupted step left at " + path)
            remove(task, path)
        elif not os.path.isfile(os.path.join(path, "pyvenv.cfg")):
            raise agent.Halt("BLOCKED", "%s is not empty and is no virtual environment" % path,
                       "give the attribute venv another path, or move the folder away on the node; --clear removes only virtual environments")
        elif task.request.get("clear"):
            remove(task, path)
        elif not task.request.get("keep"):
            raise agent.Halt("BLOCKED", "there is a virtual environment at %s already" % path,
                       "add --keep to the step to use it as it is, or --clear to make it anew; or give each release its own venv")
        elif not os.access(python, os.X_OK) or task.run([python, "-c", ""], task.home, env) != 0:
            raise agent.Halt("BLOCKED", "the virtual environment at %s does not work" % path, "add --clear to the step to make it anew")
        else:
            return {"status": "OK", "message": "kept " + path}
    # The agent is that python, without the folders of what is installed into it: of the standard library it finds what that has.
    if not importlib.util.find_spec("venv"):
        raise agent.Halt("BLOCKED", "%s on the node has no module venv" % sys.executable, "install python3-venv on the node")
    if with_pip and not importlib.util.find_spec("ensurepip"):
        raise agent.Halt("BLOCKED", "%s on the node has no module ensurepip" % sys.executable,
                   "install python3-venv on the node, or leave --with-pip out: pip then runs from the pip wheel in the bundle")
    os.makedirs(path, exist_ok=True)
    open(marker, "w").close()
    code = task.run([sys.executable, "-m", "venv"] + ([] if with_pip else ["--without-pip"]) + [path], task.home, env)
    end = task.judge(code)
    os.unlink(marker)
    end["message"] = "python %s in %s" % (sys.version.split()[0], path)
    return end


def remove(task, path):
    """Removes a tree; the marker stays until the end, so that a stop on the way is recovered from."""
    marker = os.path.join(path, agent.UNFINISHED)
    open(marker, "w").close()
    for entry in os.scandir(path):
        task.check()
        if entry.path != marker:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
