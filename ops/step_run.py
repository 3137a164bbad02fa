"""The step run on the node."""
import agent


@agent.step("run")
def op_run(task):
    """A shell command in the bundle, with the venv first on PATH."""
    env = task.in_venv(task.env(clean=False))
    stdin = task.request.get("stdin")
    return task.command(["/bin/sh", "-c", task.request["command"]], task.bundle(), env,
                        None if stdin is None else stdin.encode("utf-8", "surrogateescape"))
