"""The op python in its child: one function of the application."""
import inspect

import conc_child

STATUSES = ("OK", "BLOCKED", "FAILED", "STOPPED", "ERROR", "TIMED OUT")


def run(order, child):
    function = find(order["module"], order["function"])
    where = order["module"] + ":" + order["function"]

    def report(message, done=0, total=0):
        """Tells how far the work is; done and total are numbers of anything."""
        child.progress(str(message), int(done), int(total))

    args, named = arguments(function, where, (dict(order["ncd"]), order["sudo"]), report)
    try:
        value = function(*args, **named)
    except AssertionError as err:
        return {"status": "FAILED", "message": conc_child.said(err), "trace": conc_child.trace(err)}
    except SystemExit as err:
        return left(err.code, order["ok_codes"])
    return judged(value, where)


def find(module, function):
    """The function, or Halt when there is none."""
    found = conc_child.load(module)
    path = module
    for name in function.split("."):
        if not hasattr(found, name):
            names = [n for n in dir(found) if not n.startswith("_")]
            raise conc_child.Halt("BLOCKED", "%s has no %s" % (path, name), conc_child.nearest(name, names) + "write: python MODULE:FUNC")
        found = getattr(found, name)
        path += "." + name
    if not callable(found):
        raise conc_child.Halt("BLOCKED", "%s is no function but %s" % (path, type(found).__name__), "write: python MODULE:FUNC")
    return found


def arguments(function, where, args, report):
    """What the function is called with: (ncd, sudoPass), and report if it has an argument of that name or must have a third."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some that are written in C do not tell
        return args, {}
    ways = [(args, {}), (args + (report,), {})]
    if "report" in signature.parameters:
        ways.insert(0, (args, {"report": report}))
    for positional, named in ways:
        try:
            signature.bind(*positional, **named)
            return positional, named
        except TypeError:
            pass
    raise conc_child.Halt("BLOCKED", "%s takes %s" % (where, signature), "define it as f(ncd, sudoPass) or f(ncd, sudoPass, report)")


def left(code, ok_codes):
    """The end of a function that called sys.exit."""
    if code is None or code is False:
        code = 0
    if isinstance(code, int):
        code = int(code) & 0xFF
        if code in ok_codes:
            return {"status": "OK", "message": "exit status %d" % code if code else "", "code": code}
        return {"status": "FAILED", "message": "exit status %d" % code, "code": code}
    return {"status": "FAILED", "message": str(code).split("\n")[0], "trace": str(code) if "\n" in str(code) else "", "code": 1}


def judged(value, where):
    """The end that a returned value means."""
    message = ""
    if isinstance(value, tuple) and len(value) == 2:
        value, message = value[0], str(value[1]).strip()
    if value is None or value is True:
        status = "OK"
    elif value is False:
        status, message = "FAILED", message or "%s returned False" % where
    else:
        status = named(value)
    if status is None:
        text = repr(value)
        return {"status": "ERROR", "message": "%s returned %s, which is no status" % (where, text if len(text) < 200 else text[:200] + "..."),
                "hint": "return one of %s, None, or (status, message)" % ", ".join('"%s"' % s for s in STATUSES)}
    if not message and status != "OK":
        message = "%s returned %s" % (where, status)
    return {"status": status, "message": message.split("\n")[0], "trace": message if "\n" in message else ""}


def named(value):
    """The status that a value is by its name: "TIMED OUT", or an object such as Status.TIMED_OUT; else None."""
    for name in (value, getattr(value, "name", None), getattr(value, "value", None)):
        if isinstance(name, str):
            plain = name.strip().upper().replace("_", " ")
            if plain in STATUSES:
                return plain
    return None
