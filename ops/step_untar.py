"""The step untar on the node: archives unpacked inside the bundle.

The whole archive is looked at before anything is unpacked. Refused are names
that are absolute or have "..", members below a symbolic link, symbolic links
that lead out (in a target every ".." comes first, and there are no more of them
than folders above the link), hard links to anything but a file of the archive,
and devices, sockets and pipes. Owners and the set-user-id bits are not restored.
"""
import os
import re
import stat
import tarfile
import time
import zipfile
import zlib

import agent

NAME = re.compile(r"\.(tar|tar\.gz|tgz|tar\.bz2|tbz2|tar\.xz|txz|zip)$")
CHUNK = 1 << 20
BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, zlib.error)
try:
    import lzma
    BROKEN += (lzma.LZMAError,)
except ImportError:  # a Python built without it; tarfile says so itself
    pass


class Member:
    """A file of an archive: kind is "file", "folder", "symlink" or "link"."""

    def __init__(self, path, kind, mode, mtime, target, source):
        self.path, self.kind, self.mode, self.mtime, self.target, self.source = path, kind, mode & 0o777, mtime, target, source


def tar_members(archive):
    kinds = [(tarfile.TarInfo.isfile, "file"), (tarfile.TarInfo.isdir, "folder"),
             (tarfile.TarInfo.issym, "symlink"), (tarfile.TarInfo.islnk, "link")]
    for info in archive:
        kind = [name for test, name in kinds if test(info)]
        yield Member(info.name, kind[0] if kind else "device", info.mode, info.mtime, info.linkname, info)


def zip_members(archive):
    for info in archive.infolist():
        mode = info.external_attr >> 16
        if info.filename.endswith("/"):
            kind = "folder"
        elif stat.S_ISLNK(mode):
            kind = "symlink"
        else:
            kind = "device" if stat.S_IFMT(mode) not in (0, stat.S_IFREG) else "file"
        target = archive.read(info).decode("utf-8", "surrogateescape") if kind == "symlink" and info.file_size < 4096 else ""
        mtime = time.mktime(info.date_time + (0, 0, -1))
        yield Member(info.filename, kind, mode & 0o777 or (0o755 if kind == "folder" else 0o644), mtime, target, info)


def vet(member, seen):
    """Gives why the member is refused, or None; puts its path into its plain form."""
    parts = [part for part in member.path.split("/") if part not in ("", ".")]
    if member.path.startswith("/"):
        return "its path is absolute"
    if ".." in parts or "\0" in member.path:
        return "its path has '..'"
    if member.kind == "device":
        return "it is a device, pipe or socket"
    member.path = "/".join(parts)
    if not parts:
        return None if member.kind == "folder" else "it has no name"
    if parts[0] == agent.OWNER_RECORD:
        return "it is the bundle's owner record"
    for i in range(1, len(parts)):
        above = seen.get("/".join(parts[:i]))
        if above is not None and above != "folder":
            return "it is below %s, which is no folder" % "/".join(parts[:i])
    if member.kind == "symlink":
        steps = [part for part in member.target.split("/") if part not in ("", ".")]
        up = 0
        while up < len(steps) and steps[up] == "..":
            up += 1
        if not member.target or member.target.startswith("/") or ".." in steps[up:] or up > len(parts) - 1:
            return "it is a symbolic link that leads out: %s" % member.target
    if member.kind == "link":
        member.target = "/".join(part for part in member.target.split("/") if part not in ("", "."))
        if seen.get(member.target) != "file":
            return "it is a hard link to %s, which is no file of the archive" % member.target
    if seen.get(member.path, member.kind) != member.kind and "folder" in (seen[member.path], member.kind):
        return "it is both a folder and not"
    seen[member.path] = "file" if member.kind == "link" else member.kind
    return None


def vetted(task, name, members):
    """All members, or Halt when one is refused."""
    seen, good = {}, []
    for member in members:
        task.check()
        why = vet(member, seen)
        if why is not None:
            raise agent.Halt("FAILED", "%s: member %r is refused: %s" % (name, member.path, why),
                             "nothing was unpacked; do not trust this archive")
        if member.path:
            good.append(member)
    return good


def place(bundle, member):
    """The member's path on the disk, its folder made; Halt when that would leave the bundle."""
    path = os.path.join(bundle, member.path)
    folder = os.path.dirname(path)
    real = os.path.realpath(folder)
    if real != bundle and not real.startswith(bundle + "/"):
        raise agent.Halt("FAILED", "%s would be unpacked to %s, outside of the bundle" % (member.path, real), "remove the symbolic link from the bundle")
    os.makedirs(folder, exist_ok=True)
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    return path


def unpack(task, bundle, name, members, opener):
    folders = []
    for done, member in enumerate(members, 1):
        task.check()
        path = place(bundle, member)
        if member.kind == "folder":
            os.makedirs(path, exist_ok=True)
            folders.append((path, member))
            continue
        if member.kind == "symlink":
            os.symlink(member.target, path)
        elif member.kind == "link":
            os.link(os.path.join(bundle, member.target), path, follow_symlinks=False)
        else:
            with opener(member.source) as source, open(path, "xb") as out:
                for chunk in iter(lambda: source.read(CHUNK), b""):
                    task.check()
                    out.write(chunk)
            os.chmod(path, member.mode)
            os.utime(path, (member.mtime, member.mtime))
        task.progress(name, done, len(members), "files")
    for path, member in reversed(folders):
        os.chmod(path, member.mode | 0o700)
        os.utime(path, (member.mtime, member.mtime))


@agent.step("untar")
def op_untar(task):
    bundle = os.path.realpath(task.bundle())
    names = [name for name in agent.matches(bundle, task.request["glob"]) if os.path.isfile(os.path.join(bundle, name))]
    if not names:
        raise agent.Halt("FAILED", "no archive in the bundle matches %s" % task.request["glob"], "deliver it with a copy step; is it spelled right?")
    for name in names:
        if not NAME.search(name):
            raise agent.Halt("FAILED", "%s is no archive by its name" % name, "untar takes .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz and .zip")
    total = 0
    for name in names:
        path = os.path.join(bundle, name)
        try:
            if name.endswith(".zip"):
                with zipfile.ZipFile(path) as archive:
                    members = vetted(task, name, zip_members(archive))
                    unpack(task, bundle, name, members, archive.open)
            else:
                with tarfile.open(path, encoding="utf-8", errors="surrogateescape") as archive:
                    members = vetted(task, name, tar_members(archive))
                    unpack(task, bundle, name, members, archive.extractfile)
        except BROKEN as err:
            raise agent.Halt("FAILED", "%s: %s" % (name, str(err).split("\n")[0] or type(err).__name__), "the archive is broken: build and deliver it again")
        total += len(members)
    return {"status": "OK", "message": "%d members of %s" % (total, ", ".join(names))}
