"""The step untar on the node: archives unpacked inside the bundle.

The whole archive is looked at before anything is unpacked. Refused are names
that are absolute or have "..", members below a symbolic link of the archive,
symbolic links that lead out (in a target every ".." comes first, and there are
no more of them than folders above the link), hard links to anything but a file
of the archive, names that conc and bundlefs keep to themselves, and devices,
sockets and pipes. Folders above a link are those of the real folder that it is
put into: there may be links in the bundle, too. So each member is judged once
more when its turn comes. Owners and the set-user-id bits are not restored.

Whatever is wrong with an archive, or with the place for a member, is FAILED
with the member's name.
"""
import errno
import os
import re
import stat
import tarfile
import time
import zipfile

import agent

NAME = re.compile(r"\.(tar|tar\.gz|tgz|tar\.bz2|tbz2|tar\.xz|txz|zip)$")
RESERVED = re.compile(r"\.conc-(owner|broken)[.-]")  # in the bundle itself; see package bundle
RESERVED_ANYWHERE = ".bundlefs~"                      # begins names that the mount uses
CHUNK = 1 << 20
MOST = 1000000   # members
LONGEST = 4095   # bytes of a name
WITHOUT_DATE = 315532800  # 1980: a zip's time that is none
MEND = {errno.ENOSPC: "make room on the node", errno.EDQUOT: "make room for the node's user", errno.EROFS: "the file system on the node is read-only",
        errno.EACCES: "give the node's user the right to write there", errno.EPERM: "give the node's user the right to write there"}


class Broken(Exception):
    """The archive itself is damaged."""


class Header(tarfile.TarInfo):
    """Keeps the last header, since tarfile takes a damaged one, or the end of the file, for the end of the archive."""

    __slots__ = ()
    last = b""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        Header.last = buf
        return super(Header, cls).frombuf(buf, encoding, errors)


class Member:
    """A file of an archive: kind is "file", "folder", "symlink", "link" or "other"."""

    def __init__(self, path, kind, mode, mtime, target, source):
        self.path, self.kind, self.mode, self.mtime, self.target, self.source = path, kind, mode & 0o777, mtime, target, source


def tar_members(archive):
    kinds = [(tarfile.TarInfo.isfile, "file"), (tarfile.TarInfo.isdir, "folder"),
             (tarfile.TarInfo.issym, "symlink"), (tarfile.TarInfo.islnk, "link")]
    for info in archive:
        kind = [name for test, name in kinds if test(info)]
        yield Member(info.name, kind[0] if kind else "other", info.mode, info.mtime, info.linkname, info)
    if len(Header.last) != tarfile.BLOCKSIZE or Header.last.strip(b"\0"):
        raise Broken("it is cut off or damaged there")
    while archive.fileobj.read(CHUNK):  # its checksums come last
        pass


def zip_members(archive):
    for info in archive.infolist():
        mode = info.external_attr >> 16
        if info.filename.endswith("/"):
            kind = "folder"
        elif stat.S_ISLNK(mode):
            kind = "symlink"
        else:
            kind = "other" if stat.S_IFMT(mode) not in (0, stat.S_IFREG) else "file"
        target = archive.read(info).decode("utf-8", "surrogateescape") if kind == "symlink" and info.file_size < 4096 else ""
        try:
            mtime = time.mktime(info.date_time + (0, 0, -1))
        except (ValueError, OverflowError):
            mtime = WITHOUT_DATE
        yield Member(info.filename, kind, mode & 0o777 or (0o755 if kind == "folder" else 0o644), mtime, target, info)


def parts_of(path):
    return [part for part in path.split("/") if part not in ("", ".")]


def vet(member, seen):
    """Gives why the member is refused by its name, or None; puts its path into its plain form."""
    parts = parts_of(member.path)
    if member.path.startswith("/"):
        return "its path is absolute"
    if ".." in parts or "\0" in member.path:
        return "its path has '..'" if ".." in parts else "its path has a NUL"
    if len(member.path) > LONGEST:
        return "its name is too long"
    if member.kind == "other":
        return "it is a device, pipe or socket, or of an unknown kind"
    member.path = "/".join(parts)
    if not parts:
        return None if member.kind == "folder" else "it has no name"
    for i in range(1, len(parts)):
        above = seen.get("/".join(parts[:i]))
        if above is not None and above != "folder":
            return "it is below %s, which is no folder" % "/".join(parts[:i])
    if member.kind == "link":
        member.target = "/".join(parts_of(member.target))
        if seen.get(member.target) != "file":
            return "it is a hard link to %s, which is no file of the archive" % member.target
    if seen.get(member.path, member.kind) != member.kind and "folder" in (seen[member.path], member.kind):
        return "it is both a folder and not"
    seen[member.path] = "file" if member.kind == "link" else member.kind
    return None


class Places:
    """Where members go: real folders, in which there are no symbolic links."""

    def __init__(self, bundle):
        self.bundle = bundle
        self.real = {}  # of a member's folder

    def folder(self, path):
        """The real folder of a path in the bundle; None when that is outside."""
        name = os.path.dirname(path)
        if name not in self.real:
            self.real[name] = os.path.realpath(os.path.join(self.bundle, name))
        real = self.real[name]
        return real if real == self.bundle or real.startswith(self.bundle + "/") else None

    def refused(self, member):
        """Why the member is refused for the place where it would really be, or None."""
        real, base = self.folder(member.path), os.path.basename(member.path)
        if real is None:
            return "it would be unpacked to %s, outside of the bundle" % self.real[os.path.dirname(member.path)]
        above = parts_of(real[len(self.bundle):])
        for part in above + [base]:
            if part.startswith(RESERVED_ANYWHERE):
                return "the mount keeps names that begin with %s to itself" % RESERVED_ANYWHERE
        if RESERVED.match((above + [base])[0]):
            return "it is the bundle's owner record"
        if member.kind == "symlink":
            steps, up = parts_of(member.target), 0
            while up < len(steps) and steps[up] == "..":
                up += 1
            if not member.target or member.target.startswith("/") or "\0" in member.target or ".." in steps[up:] or up > len(above):
                return "it is a symbolic link that leads out: %s" % member.target
        return None

    def make(self, member):
        """The member's real path, its folder made and the place empty, but for a folder."""
        folder = self.folder(member.path)
        path = os.path.join(folder, os.path.basename(member.path))
        if not os.path.isdir(folder):
            os.makedirs(folder, exist_ok=True)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return path
        if stat.S_ISLNK(mode) or stat.S_ISREG(mode):
            os.unlink(path)
            if stat.S_ISLNK(mode):
                self.real.clear()
        elif member.kind != "folder" or not stat.S_ISDIR(mode):
            raise FileExistsError(errno.EEXIST, "there is a folder, device, pipe or socket in its place")
        return path

    def linked(self, member):
        """The real path of the file that a hard link is to."""
        folder = self.folder(member.target)
        path = os.path.join(folder or self.bundle, os.path.basename(member.target))
        if folder is None or not stat.S_ISREG(os.lstat(path).st_mode):
            raise FileNotFoundError(errno.ENOENT, "there is no file %s of this archive any more" % member.target)
        return path


def refuse(name, member, why, hint):
    raise agent.Halt("FAILED", "%s: member %r is refused: %s" % (name, member.path, why), hint)


def vetted(task, bundle, name, members, at):
    """All members, or Halt when one is refused."""
    seen, good, places = {}, [], Places(bundle)
    for member in members:
        task.check()
        at[0] = "after member %r" % member.path
        why = vet(member, seen) or (member.path and places.refused(member))
        if not why and len(seen) > MOST:
            why = "there are more than %d before it" % MOST
        if why:
            refuse(name, member, why, "nothing was unpacked; do not trust this archive")
        if member.path:
            good.append(member)
    return good


def put(task, path, member, opener):
    """Writes a file. What is zero stays a hole: a sparse file may be larger than the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb", buffering=0) as out, opener(member.source) as source:
            size, holes = 0, getattr(member.source, "sparse", None) is not None
            for chunk in iter(lambda: source.read(CHUNK), b""):
                task.check()
                size += len(chunk)
                if holes and not chunk.strip(b"\0"):
                    out.seek(size)
                    continue
                rest = memoryview(chunk)
                while rest:
                    rest = rest[out.write(rest):]
            if holes:
                out.truncate(size)
            os.fchmod(fd, member.mode)
            os.utime(fd, (member.mtime, member.mtime))
    except BaseException:
        os.unlink(path)  # never half a file
        raise


def unpack(task, bundle, name, members, opener, at):
    folders, places = [], Places(bundle)
    for done, member in enumerate(members, 1):
        task.check()
        at[0] = "member %r" % member.path
        why = places.refused(member)
        if why:
            refuse(name, member, why, "what comes before it is unpacked; do not trust this archive")
        path = places.make(member)
        if member.kind == "folder":
            if not os.path.isdir(path):
                os.mkdir(path)
            folders.append((path, member))
            continue
        if member.kind == "symlink":
            os.symlink(member.target, path)
        elif member.kind == "link":
            os.link(places.linked(member), path, follow_symlinks=False)
        else:
            put(task, path, member, opener)
        task.progress(name, done, len(members), "files")
    for path, member in reversed(folders):
        at[0] = "member %r" % member.path
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(fd, member.mode | 0o700)
            os.utime(fd, (member.mtime, member.mtime))
        finally:
            os.close(fd)


def unarchive(task, bundle, name):
    """Unpacks one archive; gives the number of its members."""
    path, at = os.path.join(bundle, name), ["its beginning"]
    begun = False
    try:
        if name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                members = vetted(task, bundle, name, zip_members(archive), at)
                begun = True
                unpack(task, bundle, name, members, archive.open, at)
        else:
            with tarfile.open(path, encoding="utf-8", errors="surrogateescape", tarinfo=Header) as archive:
                members = vetted(task, bundle, name, tar_members(archive), at)
                begun = True
                unpack(task, bundle, name, members, archive.extractfile, at)
    except agent.Halt:
        raise
    # Damaged headers make tarfile and zipfile raise nearly anything: KeyError, struct.error, MemoryError.
    except Exception as err:
        why = str(err).split("\n")[0] or type(err).__name__
        if isinstance(err, OSError) and err.errno is not None:
            why = err.strerror
        hint = MEND.get(getattr(err, "errno", None))
        if hint is None:
            hint = "look at what is there on the node" if begun and isinstance(err, OSError) and err.errno else "the archive is broken: build and deliver it again"
        hint += "; what comes before it is unpacked" if begun else "; nothing was unpacked"
        raise agent.Halt("FAILED", "%s: %s: %s" % (name, at[0], why), hint)
    return len(members)


@agent.step("untar")
def op_untar(task):
    bundle = os.path.realpath(task.bundle())
    names = [name for name in agent.matches(bundle, task.request["glob"]) if os.path.isfile(os.path.join(bundle, name))]
    if not names:
        raise agent.Halt("FAILED", "no archive in the bundle matches %s" % task.request["glob"], "deliver it with a copy step; is it spelled right?")
    for name in names:
        if not NAME.search(name):
            raise agent.Halt("FAILED", "%s is no archive by its name" % name, "untar takes .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz and .zip")
    total = sum(unarchive(task, bundle, name) for name in names)
    return {"status": "OK", "message": "%d members of %s" % (total, ", ".join(names))}
