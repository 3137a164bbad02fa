"""Installs setuptools with the setuptools beside this file: none has to be there before."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
os.chdir(HERE)
sys.path.insert(0, HERE)

import setuptools  # noqa: E402  # it brings distutils along, for a Python that has none

with open(os.path.join("setuptools.egg-info", "entry_points.txt"), encoding="utf-8") as file:
    ENTRY_POINTS = file.read()

setuptools.setup(
    name="setuptools",
    version=os.path.basename(HERE).split("-")[1],
    packages=setuptools.find_namespace_packages(include=["setuptools*", "pkg_resources*", "_distutils_hack*"]),
    package_data={"": ["*"]},
    entry_points=ENTRY_POINTS,
    zip_safe=False,
    # Plain files in site-packages instead of an egg; Python compiles what is used when it is used.
    options={"install": {"single_version_externally_managed": "1", "record": os.path.join("build", "installed.txt")}, "install_lib": {"compile": "0"}},
)
