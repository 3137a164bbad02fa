"""The op test in its child: unittest cases of the application.

Each test is told as it ends:

    {"test": {"id": "a.b.Case.test_x", "status": "failed", "seconds": 0.1, "message": "...", "trace": "...", "output": "...", "sub": false}}

status is "ok", "failed", "error", "skipped", "expected failure" or "unexpected success".
sub: a subtest that is not OK; the test that it is of comes after it. What a test
writes, its own processes included, is kept until it ends, and shown when it fails.
"""
import os
import pkgutil
import sys
import tempfile
import time
import unittest

import conc_child

BAD = ("failed", "error", "unexpected success")
WORSE = ("ok", "skipped", "expected failure", "unexpected success", "failed", "error")  # in this order
OUTPUT = 32000  # bytes of a test's output that are shown


def run(order, child):
    loader = unittest.TestLoader()
    result = Result(child)
    suite = unittest.TestSuite()
    with Capture() as capture:
        result.capture = capture
        empty = []
        for name in order["tests"]:
            capture.begin()
            before = result.told
            found = list(flat(tests(loader, name, result)))
            suite.addTests(found)
            if not found and result.told == before:
                empty.append(name)
        cases = list(flat(suite))
        result.imports = result.told
        result.total = len(cases) + result.told
        for kind in {type(case) for case in cases}:
            kind.ncd, kind.sudoPass = dict(order["ncd"]), order["sudo"]
        capture.begin()
        suite.run(result)
    return result.end(empty)


def flat(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def tests(loader, name, result):
    """The tests that a name means: a module, a package with its test modules, a class or a method."""
    found, rest = resolve(name, result)
    if found is None:
        return []
    if rest:
        try:
            return [loader.loadTestsFromName(".".join(rest), found)]
        except TypeError:
            raise conc_child.Halt("BLOCKED", "%s is no test" % name, "write: test MODULE, or MODULE.CLASS.METHOD")
    suites = [loader.loadTestsFromModule(found)]
    if hasattr(found, "__path__") and not hasattr(found, "load_tests"):
        suites += discover(loader, found, result)
    return suites


def discover(loader, package, result):
    """The modules of a package, at any depth, whose names begin with test or nodetest."""
    for module in sorted(pkgutil.iter_modules(package.__path__, package.__name__ + "."), key=lambda m: m.name):
        last = module.name.rpartition(".")[2]
        if not module.ispkg and not last.startswith(("test", "nodetest")):
            continue
        loaded = imported(module.name, result)
        if loaded is not None and (not module.ispkg or last.startswith(("test", "nodetest")) or hasattr(loaded, "load_tests")):
            yield loader.loadTestsFromModule(loaded)
        if loaded is not None and module.ispkg and not hasattr(loaded, "load_tests"):
            for suite in discover(loader, loaded, result):
                yield suite


def imported(name, result):
    """Imports a module; what is wrong with it counts as a test that is an error."""
    try:
        return conc_child.load(name)
    except conc_child.Halt as halt:
        if not halt.end["trace"]:
            raise
        result.tell("import (%s)" % name, "error", 0.0, halt.end["message"], halt.end["trace"])
    except unittest.SkipTest as skip:
        result.tell("import (%s)" % name, "skipped", 0.0, str(skip))
    except BaseException as err:
        result.tell("import (%s)" % name, "error", 0.0, conc_child.said(err), conc_child.trace(err))
    return None


def resolve(name, result):
    """The module of a dotted name, and what is left of the name; a module of None: it is told already."""
    parts = name.split(".")
    found = None
    for i in range(len(parts)):
        module = ".".join(parts[:i + 1])
        if found is not None and hasattr(found, parts[i]) and module not in sys.modules:
            break  # a class, unless there is a module, too
        try:
            here = imported(module, result)
        except conc_child.Halt:
            if found is None or not hasattr(found, "__path__"):
                break
            raise
        if here is None:
            return None, []
        found = here
    else:
        return found, []
    if found is None:
        conc_child.load(parts[0])  # says that it is not there
    rest, at = parts[i:], found
    for part in rest:
        if not hasattr(at, part):
            near = conc_child.nearest(part, [n for n in dir(at) if not n.startswith("_")])
            raise conc_child.Halt("BLOCKED", "%s has no %s" % (getattr(at, "__name__", at), part), near + "write: test MODULE, or MODULE.CLASS.METHOD")
        at = getattr(at, part)
    return found, rest


def ident(test):
    name = test.id()
    prefix = "unittest.loader._FailedTest."
    return name[len(prefix):] if name.startswith(prefix) else name


class Capture:
    """Keeps what is written to standard output and standard error, by child processes, too."""

    def __enter__(self):
        self.flush()
        self.file = tempfile.TemporaryFile(buffering=0)  # has no name: nothing is left behind
        self.kept = [os.dup(fd) for fd in (1, 2)]
        for fd in (1, 2):
            os.dup2(self.file.fileno(), fd)
        return self

    def __exit__(self, *_):
        self.flush()
        for fd, kept in zip((1, 2), self.kept):
            os.dup2(kept, fd)
            os.close(kept)
        self.file.close()

    @staticmethod
    def flush():
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass

    def begin(self):
        self.flush()
        self.file.seek(0)
        self.file.truncate()

    def text(self):
        """The end of what was written since begin."""
        self.flush()
        size = os.fstat(self.file.fileno()).st_size
        data = os.pread(self.file.fileno(), OUTPUT, max(0, size - OUTPUT))
        text = data.decode("utf-8", "backslashreplace")
        if size > OUTPUT:
            text = "[... %d bytes left out ...]\n" % (size - OUTPUT) + text
        return text


class Result(unittest.TestResult):
    """Tells of each test."""

    def __init__(self, child):
        unittest.TestResult.__init__(self)
        self.child = child
        self.capture = None
        self.total = 0        # of tests, and of what could not be imported
        self.told = 0         # what was told that is no test that ran
        self.imports = 0      # of these, what could not be imported
        self.counts = dict.fromkeys(WORSE, 0)
        self.bad = []         # ids of what is not OK
        self.test = None      # that runs
        self.parts = []       # what is known of it: (status, message, trace)
        self.subs = 0         # its subtests that are not OK
        self.begun = 0.0

    def tell(self, name, status, seconds, message="", trace=""):
        self.counts[status] += 1
        self.told += self.test is None
        if status in BAD:
            self.bad.append(name)
        self.child.send(test=self.event(name, status, seconds, message, trace))

    def event(self, name, status, seconds, message, trace, sub=False):
        bad = status in BAD
        return {"id": name, "status": status, "seconds": seconds, "message": message.strip().split("\n")[0][:conc_child.MAX_MESSAGE],
                "trace": conc_child.clipped(trace), "output": self.capture.text() if bad and not sub else "", "sub": sub}

    def startTest(self, test):
        unittest.TestResult.startTest(self, test)
        self.test, self.parts, self.subs = test, [], 0
        self.child.send(running=ident(test))
        self.child.progress(ident(test), self.testsRun - 1, self.total)
        self.capture.begin()
        self.begun = time.perf_counter()

    def stopTest(self, test):
        seconds = time.perf_counter() - self.begun
        if self.subs:
            self.parts.append(("failed", "%d subtest%s failed" % (self.subs, "" if self.subs == 1 else "s"), ""))
        parts = self.parts or [("ok", "", "")]
        worst = max(parts, key=lambda part: WORSE.index(part[0]))
        self.tell(ident(test), worst[0], seconds, worst[1], "\n".join(part[2] for part in parts if part[2]))
        self.test = None
        self.capture.begin()
        self.child.send(running="")
        unittest.TestResult.stopTest(self, test)

    def add(self, test, status, message, trace=""):
        if self.test is None:  # setUpClass, setUpModule and their like
            self.tell(ident(test), status, 0.0, message, trace)
            self.capture.begin()
        elif hasattr(test, "test_case"):  # a subtest
            self.subs += status in BAD
            self.child.send(test=self.event(ident(test), status, 0.0, message, trace, sub=True))
        else:
            self.parts.append((status, message, trace))

    def text(self, err, test):
        return self._exc_info_to_string(err, test)

    def addError(self, test, err):
        message = conc_child.said(err[1])
        trace = self.text(err, test)
        if type(test).__name__ == "_FailedTest":  # of the loader, whose exception has the traceback as its text
            trace = str(err[1])
            message = [line for line in trace.strip().split("\n") if line][-1]
        self.add(test, "error", message, trace)

    def addFailure(self, test, err):
        self.add(test, "failed", conc_child.said(err[1]), self.text(err, test))

    def addSubTest(self, test, subtest, err):
        if err is not None:
            status = "failed" if issubclass(err[0], test.failureException) else "error"
            self.add(subtest, status, conc_child.said(err[1]), self.text(err, test))

    def addSuccess(self, test):
        pass

    def addSkip(self, test, reason):
        self.add(test, "skipped", reason)

    def addExpectedFailure(self, test, err):
        self.add(test, "expected failure", conc_child.said(err[1]))

    def addUnexpectedSuccess(self, test):
        self.add(test, "unexpected success", "it was expected to fail")

    def end(self, empty):
        """The end of the step; empty are the names in which there was no test."""
        bad = sum(self.counts[status] for status in BAD)
        extra = ["%d %s" % (self.counts[s], s) for s in ("skipped", "expected failure") if self.counts[s]]
        left = self.total - self.testsRun - self.imports
        if left > 0:
            extra.append("%d not run" % left)
        if bad:
            shown = ", ".join(self.bad[:5]) + (" and %d more" % (bad - 5) if bad > 5 else "")
            return {"status": "FAILED", "message": "%d of %d failed: %s" % (bad, max(self.total, bad), shown) + (" (%s)" % ", ".join(extra) if extra else "")}
        if empty:
            return {"status": "FAILED", "message": "no tests found in " + ", ".join(empty), "hint": "is it a module of unittest cases, or a package with modules test*.py?"}
        return {"status": "OK", "message": ", ".join(["%d test%s" % (self.total, "" if self.total == 1 else "s")] + extra)}
