"""What the node is like: the requests tags and survey. Nothing is changed on the node.

What only these two need is imported in the functions: this file is part of every run.
"""
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import agent

TOOLS = ("cc", "gcc", "clang", "make", "g++")  # to build extensions with
SUDO_TIME = 10.0  # seconds that sudo may take to answer


def glibc():
    """The version of glibc, (2, 36), or None."""
    try:
        name, _, version = os.confstr("CS_GNU_LIBC_VERSION").partition(" ")
        return tuple(int(n) for n in version.split(".")[:2]) if name == "glibc" else None
    except (AttributeError, OSError, ValueError):
        return None


def musl():
    """The version of musl, (1, 2), or None: its dynamic linker tells it."""
    try:
        with open(sys.executable, "rb") as f:
            head = f.read(1 << 16)
    except OSError:
        return None
    at = head.find(b"/lib/ld-musl-")
    if at < 0:
        return None
    loader = head[at:head.index(b"\0", at)].decode("ascii", "replace")
    try:
        done = subprocess.run([loader], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10)
        for line in done.stdout.decode("ascii", "replace").splitlines():
            if line.startswith("Version "):
                return tuple(int(n) for n in line.split()[1].split(".")[:2])
    except (OSError, ValueError, subprocess.SubprocessError):
        pass
    return None


def platforms():
    """The platform tags, the best first; PEP 600 and PEP 656."""
    import sysconfig
    plain = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    if not plain.startswith("linux_"):
        return [plain]
    if sys.maxsize < 1 << 32:  # a 32-bit interpreter on a 64-bit kernel
        plain = {"linux_x86_64": "linux_i686", "linux_aarch64": "linux_armv8l"}.get(plain, plain)
    arches = [plain[len("linux_"):]]
    if arches == ["armv8l"]:
        arches = ["armv8l", "armv7l"]
    found, libc = [], glibc()
    if libc and libc[0] == 2:
        legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
        for arch in arches:
            for minor in range(libc[1], 4 if arch in ("x86_64", "i686") else 16, -1):
                found.append("manylinux_2_%d_%s" % (minor, arch))
                if minor in legacy:
                    found.append("%s_%s" % (legacy[minor], arch))
    elif not libc:
        version = musl()
        if version:
            found += ["musllinux_%d_%d_%s" % (version[0], minor, arch) for arch in arches for minor in range(version[1], -1, -1)]
    return found + ["linux_" + arch for arch in arches]


def abis():
    """The ABI tags beside abi3 and none; PEP 425."""
    import sysconfig
    version = "%d%d" % sys.version_info[:2]
    if sys.implementation.name != "cpython":
        soabi = sysconfig.get_config_var("SOABI") or ""
        return ["_".join(soabi.replace(".", "-").split("-")[:2])] if soabi else []
    threading = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    debug = "d" if hasattr(sys, "gettotalrefcount") else ""
    memory = "m" if sys.version_info < (3, 8) else ""
    found = ["cp" + version + threading + debug + memory]
    if debug and sys.version_info >= (3, 8):
        found.append("cp" + version + threading)
    return found


def python():
    """What wheels and markers ask of an interpreter; PEP 508."""
    import platform
    implementation = {"cpython": "cp", "pypy": "pp", "ironpython": "ip", "jython": "jy"}.get(sys.implementation.name, sys.implementation.name)
    own = sys.implementation.version
    return {
        "version": "%d.%d.%d" % sys.version_info[:3], "implementation": implementation, "abis": abis(), "platforms": platforms(),
        "markers": {
            "os_name": os.name, "sys_platform": sys.platform, "platform_machine": platform.machine(), "platform_release": platform.release(),
            "platform_system": platform.system(), "platform_version": platform.version(),
            "python_version": "%d.%d" % sys.version_info[:2], "python_full_version": platform.python_version(),
            "platform_python_implementation": platform.python_implementation(), "implementation_name": sys.implementation.name,
            "implementation_version": "%d.%d.%d" % tuple(own[:3]),
        },
    }


@agent.step("tags")
def op_tags(task):
    return {"status": "OK", "message": "", "data": python()}


def space(path):
    """Free bytes and files for an ordinary user, and whether programs may run there; of the nearest folder that exists."""
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return {
        "path": path, "free": found.f_bavail * found.f_frsize, "total": found.f_blocks * found.f_frsize,
        "inodes": found.f_favail, "all_inodes": found.f_files,  # both 0 where the file system does not count them
        "writable": os.access(path, os.W_OK | os.X_OK) and not found.f_flag & os.ST_RDONLY, "noexec": bool(found.f_flag & getattr(os, "ST_NOEXEC", 8)),
    }


def sudo(task):
    """Whether sudo is there, and whether it asks for a password. It never reads one."""
    path = shutil.which("sudo")
    if not path:
        return {"state": "none" if os.geteuid() else "root"}
    child = subprocess.Popen([path, "-n", "true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        said = child.communicate(timeout=SUDO_TIME)[1].decode("utf-8", "replace").strip()
    except subprocess.TimeoutExpired:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except (PermissionError, ProcessLookupError):
            pass  # it runs as root: it ends when its output is closed
        child.stderr.close()
        return {"state": "timeout"}
    return {"state": "free" if child.returncode == 0 else "asks", "said": said[-500:]}


def headers():
    """Python.h of any Python on the node, as far as this one knows."""
    import sysconfig
    path = os.path.join(sysconfig.get_paths().get("include", ""), "Python.h")
    return path if os.path.isfile(path) else ""


def has_module(name):
    import importlib.util
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def seen(path):
    """What is at a path: a word."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return "nothing"
    return "link" if stat.S_ISLNK(mode) else "folder" if stat.S_ISDIR(mode) else "file"


@agent.step("survey")
def op_survey(task):
    home, found = task.home, {"python": python(), "executable": sys.executable, "home": task.home, "uid": os.geteuid(), "time": time.time()}
    found["modules"] = [name for name in ("venv", "ensurepip", "ssl", "ctypes", "zlib") if has_module(name)]
    found["space"] = {"home": space(home), "tmp": space(os.environ.get("TMPDIR") or "/tmp")}
    if task.request.get("venv"):
        path = task.path("venv")
        found["space"]["venv"] = space(path)
        found["venv"] = seen(path)
        found["venv_python"] = os.access(os.path.join(path, "bin", "python"), os.X_OK)
    found["tools"] = [path for path in (shutil.which(name) for name in TOOLS) if path]
    found["headers"] = headers()
    if task.request.get("sudo"):
        found["sudo"] = sudo(task)
    return {"status": "OK", "message": "", "data": found}
