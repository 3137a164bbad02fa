"""The step run on the node."""
import os

import agent


@agent.step("run")
def op_run(task):
    """A shell command in the bundle, with the venv first on PATH."""
    env = task.env(clean=False)
    if task.request.get("venv"):
        venv = task.path("venv")
        env["PATH"] = os.path.join(venv, "bin") + os.pathsep + env.get("PATH", os.defpath)
        if os.path.exists(os.path.join(venv, "pyvenv.cfg")):
            env["VIRTUAL_ENV"] = venv
    stdin = task.request.get("stdin")
    return task.command(["/bin/sh", "-c", task.request["command"]], task.bundle(), env,
                        None if stdin is None else stdin.encode("utf-8", "surrogateescape"))
