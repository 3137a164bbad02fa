"""The step setup on the node."""
import os
import re

import agent

ARCHIVE = re.compile(r"\.(tar|tar\.gz|tgz|tar\.bz2|tar\.xz|zip)$")


@agent.step("setup")
def op_setup(task):
    """setup.py install of an unpacked sdist, given as folder or as archive."""
    bundle, python, pattern = task.bundle(), task.python(), task.request["glob"]
    found = agent.matches(bundle, pattern)
    if not found:
        raise agent.Halt("FAILED", "nothing in the bundle matches %s" % pattern, "deliver it with a copy step and unpack it with untar")
    names = [n for n in found if os.path.isdir(os.path.join(bundle, n)) or ARCHIVE.search(n)]
    folders = sorted(set(ARCHIVE.sub("", os.path.basename(n)) if not os.path.isdir(os.path.join(bundle, n)) else n for n in names))
    if len(folders) != 1:
        raise agent.Halt("FAILED", "%s must mean one unpacked sdist, but means %s" % (pattern, ", ".join(folders) or "only files"), "write the name out")
    folder = os.path.join(bundle, folders[0])
    if not os.path.isdir(folder):
        raise agent.Halt("FAILED", "%s is not unpacked: there is no folder %s" % (", ".join(names), folder), "add an untar step before this one")
    if not os.path.isfile(os.path.join(folder, "setup.py")):
        raise agent.Halt("FAILED", "there is no setup.py in %s" % folder, "install it with a pip step")
    lacks = []

    def watch(line):
        if re.match(r"(ModuleNotFoundError|ImportError): No module named '?(setuptools|distutils|pkg_resources)", line):
            lacks.append(line)

    try:
        end = task.command([python, "setup.py", "install"], folder, task.env(clean=True), watch=watch)
    except agent.Halt as halt:
        if lacks:
            halt.end["message"] = "setup.py: " + lacks[0].split(": ", 1)[1]
            halt.end["hint"] = "setup.py needs setuptools in the venv: deliver it and add a step before this one: remote pip setuptools-*.whl"
        raise
    end["message"] = "installed " + folders[0]
    return end
