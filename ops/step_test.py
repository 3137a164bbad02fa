"""The step test on the node: unittest cases of the application."""
import os

import agent
import agent_python


@agent.step("test")
def op_test(task):
    """In the bundle; without one, when it is the venv that is tested, in the home."""
    python = agent_python.interpreter(task)
    cwd = task.path("bundle")
    if task.request["order"]["wheels"] or task.request["order"]["path"] or os.path.isdir(cwd):
        cwd = task.bundle()
    else:
        cwd = task.home
    return agent_python.run(task, python, cwd)
