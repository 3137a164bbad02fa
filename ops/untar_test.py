"""Tests of the step untar: python3 -m unittest untar_test."""
import io
import os
import resource
import shutil
import stat
import subprocess
import tarfile
import unittest
import zipfile

from agent_test import AgentCase, read  # which makes the modules found


class Untar(AgentCase):
    def tar(self, name, *members, mode="w:gz"):
        with tarfile.open(os.path.join(self.bundle, name), mode) as archive:
            for path, kind, content in members:
                info = tarfile.TarInfo(path)
                info.type, info.mode, info.mtime = kind, 0o6755, 1500000000
                data = b""
                if kind == tarfile.REGTYPE:
                    data = content.encode()
                    info.size = len(data)
                else:
                    info.linkname = content
                archive.addfile(info, io.BytesIO(data))

    def untar(self, glob):
        return self.agent.call("untar", bundle="bundle", glob=glob)[1]

    def test_every_kind(self):
        for name, mode in (("a.tar", "w"), ("b.tar.gz", "w:gz"), ("c.tgz", "w:gz"), ("d.tar.bz2", "w:bz2"), ("e.tar.xz", "w:xz")):
            folder = name.split(".")[0]
            self.tar(name, (folder + "/x/f", tarfile.REGTYPE, "hello"), (folder + "/s", tarfile.SYMTYPE, "x/f"), (folder + "/h", tarfile.LNKTYPE, folder + "/x/f"), mode=mode)
            with self.subTest(name):
                end = self.untar(name)
                self.assertEqual(end["status"], "OK", end)
                for file in ("x/f", "s", "h"):
                    with open(os.path.join(self.bundle, folder, file)) as f:
                        self.assertEqual(f.read(), "hello")
                info = os.stat(os.path.join(self.bundle, folder, "x/f"))
                self.assertEqual((stat.S_IMODE(info.st_mode), info.st_mtime), (0o755, 1500000000))
                self.assertEqual(self.untar(name)["status"], "OK")  # again, over itself

    def test_zip(self):
        with zipfile.ZipFile(os.path.join(self.bundle, "a.zip"), "w") as archive:
            archive.writestr("d/", "")
            archive.writestr("d/f", "hello")
            link = zipfile.ZipInfo("d/s")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "f")
        self.assertEqual(self.untar("*.zip")["status"], "OK")
        with open(os.path.join(self.bundle, "d/s")) as f:
            self.assertEqual(f.read(), "hello")

    def test_members_that_leave_the_bundle(self):
        F, S, L, D = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
        cases = {
            "absolute": [("/tmp/x", F, "")],
            "dotdot": [("a/../../x", F, "")],
            "symlink out": [("s", S, "../x")],
            "symlink absolute": [("s", S, "/etc/passwd")],
            "symlink back and out": [("a", D, ""), ("a/s", S, "b/../../../x")],
            "chain": [("d/a/s", S, "../.."), ("d/a/t", S, "s/../..")],
            "below a symlink": [("s", S, "."), ("s/x", F, "")],
            "below a file": [("s", F, ""), ("s/x", F, "")],
            "file over folder": [("s", D, ""), ("s", F, "")],
            "folder over file": [("s", F, ""), ("s", D, "")],
            "hard link out": [("h", L, "../x")],
            "hard link to a symlink": [("s", S, "x"), ("h", L, "s")],
            "hard link to what is there": [("h", L, "secret")],
            "device": [("d", tarfile.CHRTYPE, "")],
            "pipe": [("d", tarfile.FIFOTYPE, "")],
            "owner record": [(".conc-owner.json", F, "{}")],
        }
        for name, members in cases.items():
            self.tar("bad.tar", ("good", F, "x"), *members)
            with self.subTest(name):
                end = self.untar("bad.tar")
                self.assertEqual(end["status"], "FAILED", end)
                self.assertIn("refused", end["message"])
                self.assertEqual(os.listdir(self.bundle), ["bad.tar"])
                self.assertEqual(sorted(os.listdir(self.home)), ["bundle"])

    def refused_after(self, before, members, word="refused", made=()):
        """Unpacks members into a bundle in which before has made something."""
        shutil.rmtree(self.bundle)
        os.mkdir(self.bundle)
        before()
        with open(os.path.join(self.bundle, ".conc-owner.json"), "w") as f:
            f.write("the record")
        self.tar("bad.tar", *members)
        end = self.untar("bad.tar")
        self.assertEqual(end["status"], "FAILED", end)
        self.assertIn(word, end["message"])
        self.assertIn("bad.tar: member %r" % members[-1][0], end["message"])
        self.assertEqual(read(os.path.join(self.bundle, ".conc-owner.json")), "the record")
        self.assertEqual(sorted(os.listdir(self.home)), ["bundle"])

    def test_judged_by_the_real_folder(self):
        F, S, L, D = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE

        def at(path):
            return os.path.join(self.bundle, path)

        def flat():  # x/y/s is the bundle itself
            os.makedirs(at("x/y"))
            os.symlink("../..", at("x/y/s"))

        def deep():  # s is deeper than it looks
            os.makedirs(at("d/e"))
            os.symlink("d/e", at("s"))

        def upward():
            os.symlink("..", at("out"))

        self.refused_after(flat, [("x/y/s/up", S, "../../outside")], "leads out")
        self.refused_after(flat, [("x/y/s/.conc-owner.json", F, "{}")], "owner record")
        self.refused_after(flat, [("x/y/s/.conc-owner.json", S, "x")], "owner record")
        self.refused_after(flat, [("f", F, "x"), ("x/y/s/.conc-owner.json", L, "f")], "owner record")
        self.refused_after(flat, [("x/y/s/.conc-broken-1/f", F, "")], "owner record")
        self.refused_after(upward, [("out/f", F, "x")], "outside")
        self.refused_after(upward, [("out/d", D, "")], "outside")
        self.refused_after(upward, [("f", F, "x"), ("out/h", L, "f")], "outside")
        self.refused_after(lambda: None, [("a/.bundlefs~1", F, "x")], "mount keeps")
        self.refused_after(deep, [("d/e/up", S, "../.."), ("s/up/.conc-owner.json", F, "x")], "owner record")  # by the second look
        shutil.rmtree(self.bundle)
        os.mkdir(self.bundle)
        deep()
        self.tar("a.tar", ("s/up", S, "../../a.tar"), ("s/f", F, "hello"), ("s/h", L, "s/f"))
        self.assertEqual(self.untar("a.tar")["status"], "OK")  # the name is not as deep as the place
        self.assertEqual(read(at("d/e/h")), "hello")
        self.tar("b.tar", ("s/f", F, "1"), ("s", D, ""), ("s/f", F, "2"))  # the link becomes a folder
        self.assertEqual(self.untar("b.tar")["status"], "OK")
        self.assertEqual((read(at("d/e/f")), read(at("s/f"))), ("1", "2"))

    def test_place_that_is_taken(self):
        F, S, D = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE

        def folder():
            os.mkdir(os.path.join(self.bundle, "f"))

        def file():
            with open(os.path.join(self.bundle, "f"), "w"):
                pass

        self.refused_after(folder, [("ok", F, ""), ("f", F, "x")], "in its place")
        self.refused_after(folder, [("ok", F, ""), ("f", S, "x")], "in its place")
        self.refused_after(file, [("ok", F, ""), ("f/x", F, "x")], "xists")
        self.refused_after(lambda: os.mkfifo(os.path.join(self.bundle, "f")), [("ok", F, ""), ("f", D, "")], "in its place")
        self.refused_after(lambda: None, [("ok", F, ""), ("n" * 300, F, "x")], "too long")
        self.refused_after(lambda: None, [("ok", F, ""), ("d/" * 3000 + "x", F, "x")], "too long")

    def test_no_room(self):
        self.tar("a.tar", ("ok", tarfile.REGTYPE, "x"), ("big", tarfile.REGTYPE, "x" * 200000))
        resource.prlimit(self.agent.process.pid, resource.RLIMIT_FSIZE, (100000, 100000))
        end = self.untar("a.tar")
        self.assertEqual((end["status"], end["message"]), ("FAILED", "a.tar: member 'big': File too large"), end)
        self.assertEqual(sorted(os.listdir(self.bundle)), ["a.tar", "ok"])

    def test_broken_archives(self):
        def tar(mode="w", **kind):
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode=mode, **kind) as archive:
                for name in ("one", "two", "three"):
                    info = tarfile.TarInfo(name)
                    info.size = 700
                    archive.addfile(info, io.BytesIO(os.urandom(700)))
            return out.getvalue()

        def damaged(data, offset):
            return data[:offset] + bytes([data[offset] ^ 0xff]) + data[offset + 1:]

        def pax(**headers):
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
                archive.addfile(tarfile.TarInfo("one"))
                info = tarfile.TarInfo("two")
                info.pax_headers = {key.replace("_", "."): value for key, value in headers.items()}
                archive.addfile(info)
            return out.getvalue()

        def zipped(**changes):
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w") as archive:
                archive.writestr("one", "1" * 100)
                archive.writestr("two", "2" * 100)
            return out.getvalue()

        plain, small = tar(), tar("w:gz")
        encrypted = zipped()
        for sign, flag in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
            at = encrypted.rindex(sign) + flag
            encrypted = encrypted[:at] + b"\1" + encrypted[at + 1:]
        method = zipped()
        at = method.rindex(b"PK\1\2") + 10
        method = method[:at] + b"\x62" + method[at + 1:]
        cases = {
            "empty.tar": (b"", "its beginning"), "text.tar": (b"no archive" * 100, "its beginning"),
            "within.tar": (plain[:1600 + 700], "'two'"), "header.tar": (plain[:2 * 1536 + 100], "'two'"),
            "between.tar": (plain[:2 * 1536], "'two'"), "damaged.tar": (damaged(plain, 2 * 1536 + 150), "'two'"),
            "cut.tar.gz": (small[:-200], ""), "sum.tar.gz": (damaged(small, len(small) - 6), "'three'"), "no.tar.gz": (plain[:50], "its beginning"),
            "cut.tar.xz": (tar("w:xz")[:-300], ""), "cut.tar.bz2": (tar("w:bz2")[:-300], ""),
            "nan.tar": (pax(mtime="nan"), "'two'"), "year.tar": (pax(mtime="1e300"), "'two'"), "nul.tar": (pax(path="a\0b"), "'a"),
            "size.tar": (pax(size="9" * 30), ""), "number.tar": (pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_name="x"), ""),
            "cut.zip": (zipped()[:-40], "its beginning"), "content.zip": (damaged(zipped(), zipped().rindex(b"2222")), "member 'two'"),
            "secret.zip": (encrypted, "member 'two'"), "method.zip": (method, "member 'two'"),
        }
        for name, (data, word) in sorted(cases.items()):
            with open(os.path.join(self.bundle, name), "wb") as f:
                f.write(data)
            with self.subTest(name):
                end = self.untar(name)
                self.assertEqual(end["status"], "FAILED", end)
                self.assertTrue(end["message"].startswith(name + ": "), end)
                self.assertIn(word, end["message"])
                self.assertNotIn("two", os.listdir(self.bundle))
            for made in ("one", "three"):
                if os.path.exists(os.path.join(self.bundle, made)):
                    os.unlink(os.path.join(self.bundle, made))

    def test_sparse(self):
        subprocess.check_call("truncate -s 100M s && printf x | dd of=s bs=1 seek=5000000 conv=notrunc 2>/dev/null && tar -S -cf s.tar s && rm s", shell=True, cwd=self.bundle)
        self.assertEqual(self.untar("s.tar")["status"], "OK")
        info = os.stat(os.path.join(self.bundle, "s"))
        self.assertEqual(info.st_size, 100 << 20)
        self.assertLess(info.st_blocks * 512, 8 << 20)
        with open(os.path.join(self.bundle, "s"), "rb") as f:
            f.seek(5000000)
            self.assertEqual(f.read(2), b"x\0")

    def test_symlink_that_is_there(self):
        os.mkdir(os.path.join(self.home, "out"))
        os.symlink("../out", os.path.join(self.bundle, "d"))
        self.tar("a.tar", ("d/x", tarfile.REGTYPE, "x"))
        self.assertEqual(self.untar("a.tar")["status"], "FAILED")
        self.assertEqual(os.listdir(os.path.join(self.home, "out")), [])
        os.unlink(os.path.join(self.bundle, "d"))
        os.symlink("../out/y", os.path.join(self.bundle, "f"))
        self.tar("b.tar", ("f", tarfile.REGTYPE, "x"))
        self.assertEqual(self.untar("b.tar")["status"], "OK")
        self.assertEqual(os.listdir(os.path.join(self.home, "out")), [])

    def test_broken(self):
        self.tar("a.tar.gz", ("x", tarfile.REGTYPE, "hello" * 10000))
        path = os.path.join(self.bundle, "a.tar.gz")
        with open(path, "rb") as f:
            data = f.read()
        for name, content in (("cut", data[:-30]), ("garbage", b"garbage" * 100), ("empty", b"")):
            with open(path, "wb") as f:
                f.write(content)
            with self.subTest(name):
                end = self.untar("*.gz")
                self.assertEqual(end["status"], "FAILED", end)
                self.assertIn("broken", end["hint"])

    def test_no_match(self):
        self.assertIn("nope-*", self.untar("nope-*")["message"])


if __name__ == "__main__":
    unittest.main()
