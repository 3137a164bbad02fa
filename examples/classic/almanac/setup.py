from setuptools import setup

from almanac import __version__

setup(
    name="almanac",
    version=__version__,
    description="Tells what day of its year a date is",
    py_modules=["almanac"],
    entry_points={"console_scripts": ["almanac = almanac:main"]},
    zip_safe=False,
)
