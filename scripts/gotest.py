#!/usr/bin/env python3
"""Runs `go test -json ARGUMENTS…` and fails on what `go test` alone lets pass.

Besides a failing test these are failures:
  - a test that was skipped: what does not run here does not run anywhere;
  - a process that outlives the tests. This program becomes the subreaper of all it starts (prctl(2)), so that daemons, too, end up as its children;
  - a FUSE mount in the temporary folder or in the user's home that was not there before;
  - anything left in the temporary folder, which is one of its own for this run, and
    anything new in the places of the user's home and of /run where the programs keep state.

It prints the package lines of `go test` (`ok  pkg  1.2s`), and the output of the tests that failed.
"""
import collections
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

PR_SET_CHILD_SUBREAPER = 36
# What was killed a moment ago may need a moment to be gone; what is a leak stays.
GRACE = 5.0
# What the summary at the end repeats of one failed test, in lines; the rest stands above.
REPEATED = 15


def mounts(folders):
    """The mount points of the FUSE file systems below these folders."""
    found = set()
    with open("/proc/self/mountinfo", errors="surrogateescape") as table:
        for line in table:
            left, _, right = line.partition(" - ")
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), left.split(" ")[4])
            if right.startswith("fuse") and any(point.startswith(folder.rstrip("/") + "/") for folder in folders):
                found.add(point)
    return found


def entries(folders):
    """All paths below the folders. A folder that does not exist has none."""
    found = set()
    for folder in folders:
        for base, dirs, files in os.walk(folder):
            found.update(os.path.join(base, name) for name in dirs + files)
    return found


def state_folders():
    home = os.path.expanduser("~")
    env = os.environ.get
    return [
        os.path.join(env("XDG_STATE_HOME") or os.path.join(home, ".local/state"), "conc"),
        os.path.join(env("XDG_STATE_HOME") or os.path.join(home, ".local/state"), "bundlefs"),
        os.path.join(env("XDG_CACHE_HOME") or os.path.join(home, ".cache"), "bundlefs"),
        os.path.join(env("XDG_CACHE_HOME") or os.path.join(home, ".cache"), "conc"),
        os.path.join(env("XDG_RUNTIME_DIR") or "/nonexistent", "bundlefs"),
        os.path.join(home, ".ssh"),
    ]


def reap():
    """Collects the children that ended, so that they do not look like left ones."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def reap_orphans(but, ended):
    """Collects, until the event, what ends as our child because its parent has gone: thousands of tests' daemons and shells
    would be left as zombies until the end. The status of the process `but` is left to who waits for it."""
    while not ended.wait(1):
        try:
            while True:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None or found.si_pid == but:
                    break
                os.waitpid(found.si_pid, os.WNOHANG)
        except ChildProcessError:
            pass


def descendants():
    """{pid: command line} of all that this process or its children started, zombies excepted."""
    parent, command = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name, errors="replace") as stat:
                state, ppid = stat.read().rpartition(")")[2].split()[:2]
            with open("/proc/%s/cmdline" % name, errors="replace") as cmdline:
                line = cmdline.read().replace("\0", " ").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parent[int(name)] = int(ppid)
        if state not in "ZX":
            command[int(name)] = line or "[%s]" % name

    def ours(pid):
        while pid in parent:
            pid = parent[pid]
            if pid == os.getpid():
                return True
        return False

    return {pid: line for pid, line in command.items() if ours(pid)}


def settled(look):
    """What look() still finds after the grace."""
    deadline = time.monotonic() + GRACE
    while True:
        reap()
        found = look()
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def essence(lines):
    """What a failed test said itself: neither go's frame around it nor the logs of its nodes, which are long and come last."""
    said = []
    for line in "".join(lines).splitlines():
        if "the end of sshd's log" in line:
            break
        if not line.lstrip().startswith(("=== ", "--- ")):
            said.append(line.strip())
    return said[:REPEATED]


class Report:
    """Follows the events of `go test -json`."""

    def __init__(self):
        self.output = collections.defaultdict(list)
        self.skipped = []
        self.failed = []

    def event(self, event):
        action, package, test = event.get("Action"), event.get("Package", ""), event.get("Test")
        text = event.get("Output", "")
        if action == "build-output" or (action == "output" and not test):
            if text not in ("PASS\n", "FAIL\n"):
                sys.stdout.write(text)
        elif action == "output":
            self.output[package, test].append(text)
        elif action == "pass" and test:
            lines = self.output.pop((package, test), [])
            if any("needs root: left out" in line for line in lines):
                sys.stdout.write("%s %s needs root: left out\n" % (package, test))
        elif action in ("skip", "fail") and test:
            lines = self.output.pop((package, test), [])
            name = "%s %s" % (package, test)
            if action == "skip":
                self.skipped.append(name)
            else:
                self.failed += [name] + ["    " + line for line in essence(lines)]
            sys.stdout.write("".join(lines))
        sys.stdout.flush()

    def unfinished(self):
        """What tests said that neither passed nor failed: their program crashed or ran out of time."""
        for lines in self.output.values():
            sys.stdout.write("".join(lines))


def run(arguments, env):
    report = Report()
    test = subprocess.Popen(["go", "test", "-json"] + arguments, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=env,
                            universal_newlines=True, errors="replace")
    ended = threading.Event()
    reaper = threading.Thread(target=reap_orphans, args=(test.pid, ended))
    reaper.start()
    try:
        for line in test.stdout:
            try:
                report.event(json.loads(line))
            except ValueError:
                sys.stdout.write(line)
        return report, test.wait()
    finally:
        ended.set()
        reaper.join()
        if test.poll() is None:
            test.send_signal(signal.SIGINT)
            test.wait()
        report.unfinished()


def end_processes(left):
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def main(arguments):
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    # nohup has it ignored by all that is started here, and tests send it.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # An interrupt goes through the same cleaning as an end.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

    # As open as /tmp itself: some tests log in to the node as another user.
    tmp = tempfile.mkdtemp(prefix="bundlefs-test-")
    os.chmod(tmp, 0o1777)
    go_tmp = tempfile.mkdtemp(prefix="bundlefs-build-")
    places = [os.path.realpath(tmp), os.path.realpath(os.path.expanduser("~"))]
    mounts_before, state_before = mounts(places), entries(state_folders())
    complaints = []
    try:
        report, code = run(arguments, dict(os.environ, TMPDIR=tmp, GOTMPDIR=go_tmp))
        if report.failed:
            complaints.append(("tests that failed", report.failed))
        elif code:
            complaints.append(("go test ended with %d" % code, []))
        complaints.append(("tests that were skipped", report.skipped))
    finally:
        left = settled(descendants)
        left_mounts = settled(lambda: mounts(places) - mounts_before)
        complaints.append(("processes left running (ended now)", ["%d %s" % item for item in sorted(left.items())]))
        complaints.append(("FUSE mounts left (unmounted now)", sorted(left_mounts)))
        end_processes(left)
        for mount in left_mounts:
            subprocess.call(["fusermount3", "-u", "-z", mount])
        complaints.append(("files left in the temporary folder (removed now)", sorted(entries([tmp]))[:50]))
        complaints.append(("files left in the user's folders", sorted(entries(state_folders()) - state_before)[:50]))
        settled(descendants)
        if mounts(places) == mounts_before:   # never descend into what could not be unmounted
            shutil.rmtree(tmp, ignore_errors=True)
            shutil.rmtree(go_tmp, ignore_errors=True)

    bad = False
    for title, lines in complaints:
        if lines or title.startswith("go test ended"):
            bad = True
            print("gotest: %s" % title)
            for line in lines:
                print("    " + line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
