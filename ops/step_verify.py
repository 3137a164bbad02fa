"""The step verify on the node: the bundle's files against the manifest."""
import hashlib
import os

import agent

CHUNK = 1 << 20
NAMED = 50  # files that are named one by one


def digest(task, path):
    found = hashlib.sha256()
    with open(path, "rb") as f:
        for chunk in iter(lambda: f.read(CHUNK), b""):
            task.check()
            found.update(chunk)
    return found.hexdigest()


def extras(task, bundle, files):
    """What is in the bundle and not in the manifest; a folder that has nothing of it, once, with a slash."""
    known = set()
    for path in files:
        while path:
            known.add(path)
            path = os.path.dirname(path)
    for folder, folders, names in os.walk(bundle):
        task.check()
        below = os.path.relpath(folder, bundle)
        for name in sorted(folders + names):
            path = name if below == "." else os.path.join(below, name)
            if path not in known and path not in (agent.OWNER_RECORD, agent.UNPACKED):
                yield path + ("/" if name in folders else "")
        folders[:] = [name for name in folders if (name if below == "." else os.path.join(below, name)) in known]


@agent.step("verify")
def op_verify(task):
    bundle, files = task.bundle(), task.request["files"]
    found = {"missing": [], "differs": [], "extra": []}
    for done, (path, (size, wanted)) in enumerate(sorted(files.items()), 1):
        task.check()
        full = os.path.join(bundle, path)
        try:
            if os.path.getsize(full) != size or digest(task, full) != wanted:
                found["differs"].append(path)
        except (FileNotFoundError, NotADirectoryError):
            found["missing"].append(path)
        except IsADirectoryError:
            found["differs"].append(path)
        task.progress("verify", done, len(files), "files")
    found["extra"] = list(extras(task, bundle, files))
    for kind in ("missing", "differs", "extra"):
        for path in found[kind][:NAMED]:
            task.say("%s: %s" % (kind, path))
        if len(found[kind]) > NAMED:
            task.say("%s: and %d more" % (kind, len(found[kind]) - NAMED))
    wrong = [kind for kind in ("missing", "differs") if found[kind]]
    if found["extra"] and task.request.get("strict"):
        wrong.append("extra")
    summary = ", ".join("%d %s" % (len(found[kind]), {"differs": "different"}.get(kind, kind)) for kind in wrong)
    if wrong == ["extra"]:
        raise agent.Halt("FAILED", summary, "remove them from the bundle, or leave --strict out")
    if wrong:
        raise agent.Halt("FAILED", summary, "deliver them again with the copy step")
    return {"status": "OK", "message": "%d files are as delivered" % len(files)}
