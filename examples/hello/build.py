#!/usr/bin/env python3
"""Builds what is deployed, from source and without a network:

dist/      the sdist and, out of that, the wheel of this product
vendor/    the wheels a node needs to install them: pip, setuptools, and wheel where this setuptools needs it

pip, setuptools and wheel come as wheel files from $PYTHON_WHEELS, else from /usr/share/python-wheels (packages python3-pip-whl,
python3-setuptools-whl and python3-wheel-whl of Debian), else from Python's own ensurepip. The same source gives the same bytes.
"""
import glob
import gzip
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "src", "tests")
# The time of every file in the artifacts. Any fixed one does.
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "1577836800"))


def version(wheel):
    """The version in the name of a wheel file, as numbers: name-1.2.3-…whl is (1, 2, 3)."""
    return tuple(int(n) for n in re.findall(r"\d+", os.path.basename(wheel).split("-")[1]))


def wheel_folders():
    if os.environ.get("PYTHON_WHEELS"):
        return [os.environ["PYTHON_WHEELS"]]
    folders = ["/usr/share/python-wheels"]
    try:
        import ensurepip
        folders.append(os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"))
    except ImportError:
        pass
    return folders


def find(name):
    """The newest wheel file of that name in the first folder that has one, or None."""
    for folder in wheel_folders():
        found = glob.glob(os.path.join(folder, name + "-*.whl"))
        if found:
            return max(found, key=version)
    return None


def tools():
    """The wheel files of pip, setuptools and, if need be, wheel."""
    found = {name: find(name) for name in ("pip", "setuptools", "wheel")}
    if found["setuptools"] and version(found["setuptools"]) >= (70, 1):
        del found["wheel"]  # setuptools builds wheels by itself
    missing = sorted(name for name, file in found.items() if not file)
    if missing:
        sys.exit("build: no wheel file of %s in %s: install %s, or set PYTHON_WHEELS to a folder that has them" % (
            ", ".join(missing), ", ".join(wheel_folders()), " ".join("python3-%s-whl" % name for name in missing)))
    # 66.1.1 and the like fail deep inside of pkg_resources: pkgutil.ImpImporter is gone from Python 3.12.
    if sys.version_info >= (3, 12) and version(found["setuptools"]) < (67, 3):
        sys.exit("build: %s does not work with this Python %d.%d: run  make PYTHON=…  with an older one" % (
            os.path.basename(found["setuptools"]), sys.version_info[0], sys.version_info[1]))
    return sorted(found.values())


def files_below(folder):
    for base, dirs, files in os.walk(folder):
        dirs[:] = [name for name in dirs if name != "__pycache__" and not name.endswith(".egg-info")]
        for name in files:
            yield os.path.join(base, name)


def inputs():
    for name in SOURCES:
        path = os.path.join(HERE, name)
        if os.path.isdir(path):
            yield from files_below(path)
        else:
            yield path


def stage(folder):
    """Copies the sources with the same modes and times on every machine; what building drops beside them stays out of the source folder."""
    for path in inputs():
        copy = os.path.join(folder, os.path.relpath(path, HERE))
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copyfile(path, copy)
        os.chmod(copy, 0o644)
        os.utime(copy, (EPOCH, EPOCH))


def hook(name, source, output, path):
    """Calls build_sdist or build_wheel (PEP 517) of the setuptools on `path`. Returns the file that it made."""
    call = "import sys, setuptools.build_meta as backend; open(sys.argv[2], 'w').write(getattr(backend, sys.argv[1])(sys.argv[3]))"
    answer = os.path.join(output, "answer")
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env.update(PYTHONPATH=path, PYTHONHASHSEED="0", SOURCE_DATE_EPOCH=str(EPOCH))
    # -S: the setuptools on `path`, with none that is installed beside it.
    done = subprocess.run([sys.executable, "-S", "-c", call, name, answer, output], cwd=source, env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode != 0:
        sys.exit("build: %s failed:\n%s" % (name, done.stdout))
    with open(answer) as file:
        made = file.read()
    os.remove(answer)
    return os.path.join(output, made)


def repack(sdist):
    """Writes the archive anew: sorted, without owners, with one time."""
    again = sdist + ".new"
    with tarfile.open(sdist) as old, open(again, "wb") as raw:
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=EPOCH) as packed:
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as new:
                for member in sorted(old.getmembers(), key=lambda member: member.name):
                    member.uid = member.gid = 0
                    member.uname = member.gname = ""
                    member.mtime = EPOCH
                    member.mode = 0o755 if member.isdir() else 0o644
                    new.addfile(member, old.extractfile(member) if member.isfile() else None)
    os.rename(again, sdist)


def replace(folder, files):
    """Makes `folder` hold exactly these files."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for path in files:
        shutil.copy(path, folder)


def is_new(wheels):
    """Is everything built, and newer than what it was built from?"""
    made = glob.glob(os.path.join(HERE, "dist", "*")) + glob.glob(os.path.join(HERE, "vendor", "*.whl"))
    if len(made) != 2 + len(wheels):
        return False
    return min(map(os.path.getmtime, made)) >= max(map(os.path.getmtime, list(inputs()) + [os.path.abspath(__file__)]))


def main():
    os.umask(0o022)
    wheels = tools()
    if is_new(wheels):
        return
    with tempfile.TemporaryDirectory() as tmp:
        source, output, modules = (os.path.join(tmp, name) for name in ("source", "output", "modules"))
        os.makedirs(output)
        stage(source)
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(modules)
        sdist = hook("build_sdist", source, output, modules)
        repack(sdist)
        # The wheel is made out of the sdist, so that an sdist with a file missing is noticed here and not on a node.
        with tarfile.open(sdist) as archive:
            archive.extractall(os.path.join(tmp, "unpacked"))
        unpacked, = glob.glob(os.path.join(tmp, "unpacked", "*"))
        wheel = hook("build_wheel", unpacked, output, modules)
        replace(os.path.join(HERE, "vendor"), wheels)
        replace(os.path.join(HERE, "dist"), [sdist, wheel])
    for path in (sdist, wheel):
        print("build: " + os.path.relpath(os.path.join(HERE, "dist", os.path.basename(path))))


if __name__ == "__main__":
    main()
