"""The version, in a file that setup.cfg can read without importing anything else."""
__version__ = "1.4.2"
