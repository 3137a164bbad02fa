#!/usr/bin/env python3
"""Makes the source distributions of this example into a folder: make_sdists.py DIR

setuptools and pip are unpacked from the wheels that examples/hello finds, and get a setup.py out of setups. The same source gives the same bytes.
"""
import glob
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, os.pardir, "hello"))
import build  # noqa: E402  # of examples/hello

# setuptools and pip are built by what is in the sdist itself and in the venv; nothing is looked for elsewhere.
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "setuptools.build_meta"\nbackend-path = ["."]\n'


def write(folder, name, text):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


def unpack(name, folder):
    """Unpacks a wheel into the sources of an sdist. Returns NAME-VERSION."""
    wheel = build.find(name)
    if not wheel:
        sys.exit("make_sdists: no wheel file of %s in %s: install python3-%s-whl, or set PYTHON_WHEELS to a folder that has it" % (
            name, ", ".join(build.wheel_folders()), name))
    stem = "-".join(os.path.basename(wheel).split("-")[:2])
    source = os.path.join(folder, stem)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(source)
    info, = glob.glob(os.path.join(source, "*.dist-info"))
    egg_info = os.path.join(source, name + ".egg-info")  # with its entry points setuptools knows itself before it is installed
    os.mkdir(egg_info)
    for entry in os.listdir(info):
        if entry == "entry_points.txt":
            os.rename(os.path.join(info, entry), os.path.join(egg_info, entry))
        elif entry == "METADATA":
            shutil.copy(os.path.join(info, entry), os.path.join(egg_info, "PKG-INFO"))
            os.rename(os.path.join(info, entry), os.path.join(source, "PKG-INFO"))
        else:
            os.remove(os.path.join(info, entry))
    os.rmdir(info)
    write(source, "setup.py", read(HERE, "setups", name + ".py"))
    if name == "setuptools":
        write(source, "pyproject.toml", PYPROJECT)
    return stem


def almanac(folder):
    """Copies the product's sources. Returns NAME-VERSION."""
    source = os.path.join(folder, "almanac")
    os.makedirs(source)
    for name in ("setup.py", "almanac.py"):
        write(source, name, read(HERE, "almanac", name))
    about = {}
    exec(read(source, "almanac.py"), about)
    write(source, "PKG-INFO", "Metadata-Version: 2.1\nName: almanac\nVersion: %s\n" % about["__version__"])
    stem = "almanac-" + about["__version__"]
    os.rename(source, os.path.join(folder, stem))
    return stem


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.split("\n")[0])
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as tmp:
        made = []
        for stem in (unpack("setuptools", tmp), unpack("pip", tmp), almanac(tmp)):
            sdist = os.path.join(tmp, stem + ".tar.gz")
            with tarfile.open(sdist, "w:gz") as archive:
                archive.add(os.path.join(tmp, stem), stem)
            build.repack(sdist)
            made.append(sdist)
        build.replace(sys.argv[1], made)
    for path in made:
        print("make_sdists: " + os.path.join(sys.argv[1], os.path.basename(path)))


if __name__ == "__main__":
    main()
