"""The step python on the node: a function of the delivered application."""
import agent
import agent_python


@agent.step("python")
def op_python(task):
    return agent_python.run(task, agent_python.interpreter(task), task.bundle())
