"""The database of greetings: one SQLite file."""
import os
import sqlite3

# Each migration brings the schema from its index to the next number; what was released is never changed, only added to.
MIGRATIONS = (
    "CREATE TABLE greeting (name TEXT NOT NULL, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)",
    "CREATE INDEX greeting_name ON greeting (name)",
)


class NewerSchema(Exception):
    """The database was made by a newer release than this one."""


def path(folder=None):
    """The file of the database: in `folder`, else in $HELLO_DATA, else in ~/hello-data."""
    folder = folder or os.environ.get("HELLO_DATA") or "~/hello-data"
    return os.path.join(os.path.expanduser(folder), "greetings.sqlite3")


def schema(db):
    """The version of the schema of an open database: how many migrations it has seen."""
    return db.execute("PRAGMA user_version").fetchone()[0]


def upgrade(file):
    """Creates the database or brings it to the newest schema. Returns the versions (before, after).

    Raises NewerSchema, and changes nothing, when the database is ahead of this release.
    """
    os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
    db = sqlite3.connect(file, isolation_level=None)  # no implicit transactions: ours hold the schema changes, too
    try:
        db.execute("BEGIN IMMEDIATE")
        before = schema(db)
        if before > len(MIGRATIONS):
            raise NewerSchema("%s has schema %d, this release knows %d" % (file, before, len(MIGRATIONS)))
        for statement in MIGRATIONS[before:]:
            db.execute(statement)
        db.execute("PRAGMA user_version = %d" % len(MIGRATIONS))
        db.execute("COMMIT")
        return before, len(MIGRATIONS)
    finally:
        db.close()  # rolls back what was not committed


def count(file, name):
    """Notes a greeting of `name` and returns how many there were, this one included."""
    db = sqlite3.connect(file)
    try:
        with db:
            db.execute("INSERT INTO greeting (name) VALUES (?)", (name,))
            return db.execute("SELECT count(*) FROM greeting WHERE name = ?", (name,)).fetchone()[0]
    finally:
        db.close()
