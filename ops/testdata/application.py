"""Functions as an application may have them, for the op python."""
import collections
import ctypes
import enum
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time


class Status(enum.Enum):
    OK = 1
    BLOCKED = 2
    TIMED_OUT = 3


Step = collections.namedtuple("Step", "status message")


def nothing(ncd, sudoPass):
    print("%(name)s %(word)s" % ncd, sudoPass, os.path.basename(os.getcwd()), os.getcwd() in sys.path)
    sys.stderr.write("err\n")
    print("stdin is at its end: %r" % sys.stdin.read())


def environment(ncd, sudoPass):
    print(os.environ["PATH"].split(":")[0])
    print([name for name in os.environ if name.startswith(("PYTHON", "PIP"))])


def secret(ncd, sudoPass):
    seen = False
    for process in (os.getpid(), os.getppid()):
        for place in ("environ", "cmdline"):
            with open("/proc/%d/%s" % (process, place), "rb") as f:
                seen = seen or sudoPass.encode("utf-8") in f.read()
    print(hashlib.sha256(sudoPass.encode("utf-8")).hexdigest(), seen)


def noSecret(ncd, sudoPass):
    print(sudoPass)
    assert sudoPass is None


class Returns:
    """Each value that is returned is a function of its own."""

    @classmethod
    def define(cls, **values):
        for name, value in values.items():
            setattr(cls, name, staticmethod(lambda ncd, sudoPass, value=value: value))


Returns.define(
    ok="OK", true=True, blocked="BLOCKED", false=False, stopped=("STOPPED", "look at it first"), late=Status.TIMED_OUT, enum=Status.BLOCKED,
    failed=Step("FAILED", "3 rows are left"), error="ERROR", number=7, word="FINE", long="x" * 5000, lines=("FAILED", "one\ntwo"))


def raises(ncd, sudoPass):
    try:
        {}["schema"]
    except KeyError as err:
        raise RuntimeError("the schema is unknown\nask somebody") from err


def asserts(ncd, sudoPass):
    assert ncd["name"] == "other", "this is %s" % ncd["name"]


def leave(ncd, sudoPass):
    sys.exit(0)


def leave2(ncd, sudoPass):
    sys.exit(2)


def leaveText(ncd, sudoPass):
    sys.exit("the database is gone")


def hard(ncd, sudoPass):
    print("before")
    os._exit(0)


def segfault(ncd, sudoPass):
    ctypes.string_at(0)


def killed(ncd, sudoPass):
    os.kill(os.getpid(), signal.SIGKILL)


def crashLate(ncd, sudoPass):
    import atexit
    atexit.register(os._exit, 9)
    return "OK"


def much(ncd, sudoPass):
    for i in range(100000):
        print(i, "x" * 40)


def progress(ncd, sudoPass, report):
    for i in range(3):
        report("rows", i + 1, 3)
    report("rows")


def wrong(ncd):
    pass


def child(ncd, sudoPass):
    process = subprocess.Popen(["sleep", "300"])
    print(process.pid, flush=True)


def thread(ncd, sudoPass):
    done = threading.Event()
    threading.Thread(target=lambda: (done.wait(), print("the thread is done"))).start()
    threading.Timer(0.1, done.set).start()
    return "OK"


def forks(ncd, sudoPass):
    pid = os.fork()
    if pid == 0:
        return "FAILED"
    os.waitpid(pid, 0)
    return "OK"


def hangs(ncd, sudoPass):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open("pid", "w") as f:
        f.write("%d\n" % os.getpid())
    print("ready", flush=True)
    while True:
        time.sleep(0.05)
