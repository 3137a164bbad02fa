from setuptools import setup

setup(
    name="hello-conc",
    version="1.0",
    packages=["hello_conc"],
    entry_points={"console_scripts": ["hello-conc = hello_conc:main"]},
    zip_safe=False,
)
