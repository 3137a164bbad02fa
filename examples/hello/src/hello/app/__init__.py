"""The product itself: the `hello` command and the database of those it greeted.

`hello` is a namespace package without an `__init__.py` (PEP 420), so that parts of a product can come in distributions of their own.
"""
