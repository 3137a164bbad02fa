"""Installs pip with the setuptools of the virtual environment."""
import os

from setuptools import find_namespace_packages, setup

HERE = os.path.dirname(os.path.abspath(__file__))
os.chdir(HERE)

setup(
    name="pip",
    version=os.path.basename(HERE).split("-")[1],
    packages=find_namespace_packages(include=["pip*"]),
    package_data={"": ["*"]},
    entry_points={"console_scripts": ["pip = pip._internal.cli.main:main"]},
    zip_safe=False,
    # Plain files in site-packages instead of an egg; Python compiles what is used when it is used.
    options={"install": {"single_version_externally_managed": "1", "record": os.path.join("build", "installed.txt")}, "install_lib": {"compile": "0"}},
)
