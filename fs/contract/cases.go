package contract

import (
	"strings"
	"syscall"
	"time"
)

// big is larger than a kernel request and than a packet, and has no period that
// would hide a chunk in the wrong place.
func big(n int) string {
	var b strings.Builder
	for x := uint32(1); b.Len() < n; x = x*1664525 + 1013904223 {
		b.WriteByte(byte(x >> 24))
	}
	return b.String()
}

var cases = []struct {
	name string
	run  func(c *check)
}{
	{"Names", func(c *check) {
		c.lists(".")
		c.ok(c.Mkdir("d", 0o755))
		c.write("d/b", "b")
		c.write("d/a", "")
		c.ok(c.Symlink("a", "d/l"))
		c.lists("d", "a", "b", "l")
		c.refused(c.Mkdir("d", 0o755), syscall.EEXIST)
		c.refused(c.Mkdir("d/a", 0o755), syscall.EEXIST)
		c.refused(c.Mkdir("none/x", 0o755), syscall.ENOENT)
		c.refused(c.Mkdir(strings.Repeat("x", 256), 0o755), syscall.ENAMETOOLONG)
		c.ok(c.Mkdir(strings.Repeat("x", 255), 0o755))
		c.gone("d/none")
	}},
	{"Remove", func(c *check) {
		c.ok(c.Mkdir("d", 0o755))
		c.write("d/f", "x")
		c.refused(c.Rmdir("d"), syscall.ENOTEMPTY)
		c.refused(c.Rmdir("d/f"), syscall.ENOTDIR)
		c.refused(c.Unlink("d"), syscall.EISDIR, syscall.EPERM)
		c.refused(c.Unlink("none"), syscall.ENOENT)
		c.ok(c.Unlink("d/f"))
		c.gone("d/f")
		c.ok(c.Rmdir("d"))
		c.gone("d")
		c.refused(c.Rmdir("d"), syscall.ENOENT)
	}},
	{"Modes", func(c *check) {
		c.ok(c.Mkdir("d", 0o700))
		c.write("f", "x")
		if a := c.stat("d"); a.Mode != 0o040700 {
			c.Errorf("mode of a new folder %o", a.Mode)
		}
		if a := c.stat("f"); a.Mode != 0o100644 {
			c.Errorf("mode of a new file %o", a.Mode)
		}
		for _, mode := range []uint32{0o400, 0o755, 0o600} {
			c.ok(c.Chmod("f", mode))
			if a := c.stat("f"); a.Mode != 0o100000|mode {
				c.Errorf("mode %o after chmod %o", a.Mode, mode)
			}
		}
		c.has("f", "x")
	}},
	{"Times", func(c *check) {
		c.write("f", "x")
		at, mt := time.Unix(1000000000, 0), time.Unix(1234567890, 0)
		c.ok(c.Utimes("f", at, mt))
		if a := c.stat("f"); !a.Mtime.Equal(mt) {
			c.Errorf("mtime %v, want %v", a.Mtime, mt)
		}
		c.ok(c.Mkdir("d", 0o755))
		c.ok(c.Utimes("d", at, mt))
		if a := c.stat("d"); !a.Mtime.Equal(mt) {
			c.Errorf("mtime of the folder %v, want %v", a.Mtime, mt)
		}
		c.ok(c.Symlink("nowhere", "l"))
		c.ok(c.Utimes("l", at, mt))
		if a := c.stat("l"); !a.Mtime.Equal(mt) {
			c.Errorf("mtime of the link %v, want %v", a.Mtime, mt)
		}
	}},
	{"Content", func(c *check) {
		for _, n := range []int{0, 1, 4095, 4096, 32768, 131073, 3<<20 + 7} {
			want := big(n)
			c.write("f", want)
			c.has("f", want)
			if a := c.stat("f"); a.Size != int64(n) {
				c.Errorf("size %d, want %d", a.Size, n)
			}
		}
	}},
	{"Sparse", func(c *check) {
		f := c.open("f", syscall.O_RDWR|syscall.O_CREAT)
		_, err := f.WriteAt([]byte("end"), 10000)
		c.ok(err)
		_, err = f.WriteAt([]byte("start"), 0)
		c.ok(err)
		want := "start" + strings.Repeat("\x00", 9995) + "end"
		if got := c.contentOf(f); got != want {
			c.Fatalf("content %s", brief(got))
		}
		c.ok(f.Close())
		c.has("f", want)
	}},
	{"Truncate", func(c *check) {
		c.write("f", "0123456789")
		c.ok(c.Truncate("f", 4))
		c.has("f", "0123")
		c.ok(c.Truncate("f", 8))
		c.has("f", "0123\x00\x00\x00\x00")
		f := c.open("f", syscall.O_RDWR)
		c.ok(f.Truncate(2))
		_, err := f.WriteAt([]byte("xy"), 3)
		c.ok(err)
		c.ok(f.Close())
		c.has("f", "01\x00xy")
		c.ok(c.Truncate("f", 0))
		c.has("f", "")
		c.refused(c.Truncate("none", 0), syscall.ENOENT)
	}},
	{"OpenFlags", func(c *check) {
		_, err := c.Open("f", syscall.O_RDONLY, 0)
		c.refused(err, syscall.ENOENT)
		c.ok(c.open("f", syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL).Close())
		_, err = c.Open("f", syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL, 0o644)
		c.refused(err, syscall.EEXIST)
		c.write("f", "content")
		c.ok(c.open("f", syscall.O_WRONLY|syscall.O_CREAT).Close())
		c.has("f", "content")
		c.ok(c.open("f", syscall.O_WRONLY|syscall.O_TRUNC).Close())
		c.has("f", "")
		c.ok(c.Mkdir("d", 0o755))
		_, err = c.Open("d", syscall.O_WRONLY, 0)
		c.refused(err, syscall.EISDIR)
		_, err = c.Open("d", syscall.O_WRONLY|syscall.O_CREAT, 0o644)
		c.refused(err, syscall.EISDIR)
	}},
	{"Append", func(c *check) {
		c.write("f", "one ")
		a := c.open("f", syscall.O_WRONLY|syscall.O_APPEND)
		b := c.open("f", syscall.O_WRONLY|syscall.O_APPEND)
		c.ok(a.Append([]byte("two ")))
		c.ok(b.Append([]byte("three ")))
		c.ok(a.Append([]byte("four")))
		c.ok(a.Close())
		c.ok(b.Close())
		c.has("f", "one two three four")
	}},
	{"RenameOver", func(c *check) {
		c.write("a", "new")
		c.write("b", "old")
		old := c.open("b", syscall.O_RDWR)
		c.ok(c.Rename("a", "b", false))
		c.gone("a")
		c.has("b", "new")
		if got := c.contentOf(old); got != "old" {
			c.Errorf("the replaced file reads %q", got)
		}
		_, err := old.WriteAt([]byte("OLD"), 0)
		c.ok(err)
		if got := c.contentOf(old); got != "OLD" {
			c.Errorf("the replaced file reads %q after writing", got)
		}
		if a, err := old.Stat(); err != nil || a.Nlink != 0 {
			c.Errorf("the replaced file has %d links, %v", a.Nlink, err)
		}
		c.ok(old.Close())
		c.has("b", "new")
		c.lists(".", "b")
	}},
	{"RenameRefused", func(c *check) {
		c.write("f", "f")
		c.write("g", "g")
		c.ok(c.Mkdir("d", 0o755))
		c.ok(c.Mkdir("full", 0o755))
		c.write("full/x", "")
		c.refused(c.Rename("f", "g", true), syscall.EEXIST)
		c.refused(c.Rename("f", "d", false), syscall.EISDIR)
		c.refused(c.Rename("d", "f", false), syscall.ENOTDIR)
		c.refused(c.Rename("d", "full", false), syscall.ENOTEMPTY, syscall.EEXIST)
		c.refused(c.Rename("d", "d/sub", false), syscall.EINVAL)
		c.refused(c.Rename("none", "x", false), syscall.ENOENT)
		c.refused(c.Rename("f", "none/x", false), syscall.ENOENT)
		c.ok(c.Rename("f", "new", true))
		c.has("new", "f")
		c.ok(c.Rename("full", "d", false))
		c.lists("d", "x")
		c.lists(".", "d", "g", "new")
	}},
	{"RenameFolder", func(c *check) {
		c.ok(c.Mkdir("a", 0o755))
		c.ok(c.Mkdir("a/b", 0o755))
		c.write("a/b/f", "content")
		f := c.open("a/b/f", syscall.O_RDWR)
		c.ok(c.Rename("a", "z", false))
		c.gone("a/b/f")
		c.has("z/b/f", "content")
		_, err := f.WriteAt([]byte("CON"), 0)
		c.ok(err)
		c.ok(f.Close())
		c.has("z/b/f", "CONtent")
		c.ok(c.Mkdir("a", 0o755))
		c.ok(c.Rename("z/b", "a/c", false))
		c.has("a/c/f", "CONtent")
		c.lists("z")
	}},
	{"UnlinkOpen", func(c *check) {
		c.write("f", "content")
		f := c.open("f", syscall.O_RDWR)
		before, err := f.Stat()
		c.ok(err)
		c.ok(c.Unlink("f"))
		c.gone("f")
		_, err = f.WriteAt([]byte("X"), 7)
		c.ok(err)
		if got := c.contentOf(f); got != "contentX" {
			c.Errorf("reads %q", got)
		}
		c.ok(f.Truncate(3))
		if after, err := f.Stat(); err != nil || after.Nlink != 0 || after.Size != 3 || after.Ino != before.Ino {
			c.Errorf("attributes %+v, %v", after, err)
		}
		c.write("f", "another")
		if got := c.contentOf(f); got != "con" {
			c.Errorf("reads %q beside a new file of that name", got)
		}
		c.ok(f.Close())
		c.has("f", "another")
	}},
	{"Links", func(c *check) {
		c.write("f", "content")
		c.ok(c.Link("f", "g"))
		a, b := c.stat("f"), c.stat("g")
		if a.Ino != b.Ino || a.Nlink != 2 || b.Nlink != 2 {
			c.Errorf("a link's attributes %+v and %+v", a, b)
		}
		f := c.open("g", syscall.O_WRONLY)
		_, err := f.WriteAt([]byte("CON"), 0)
		c.ok(err)
		c.ok(f.Close())
		c.has("f", "CONtent")
		c.refused(c.Link("f", "g"), syscall.EEXIST)
		c.ok(c.Unlink("f"))
		c.has("g", "CONtent")
		if a := c.stat("g"); a.Nlink != 1 {
			c.Errorf("%d links left", a.Nlink)
		}
		c.ok(c.Mkdir("d", 0o755))
		c.refused(c.Link("d", "e"), syscall.EPERM)
	}},
	{"Symlinks", func(c *check) {
		c.ok(c.Symlink("some/where", "l"))
		target, err := c.Readlink("l")
		c.ok(err)
		if target != "some/where" {
			c.Errorf("target %q", target)
		}
		if a := c.stat("l"); a.Mode&0o170000 != 0o120000 || a.Size != 10 {
			c.Errorf("attributes %+v", a)
		}
		c.refused(c.Symlink("x", "l"), syscall.EEXIST)
		c.write("f", "")
		_, err = c.Readlink("f")
		c.refused(err, syscall.EINVAL)
		c.ok(c.Rename("l", "m", false))
		target, err = c.Readlink("m")
		c.ok(err)
		if target != "some/where" {
			c.Errorf("target %q after renaming", target)
		}
		c.ok(c.Unlink("m"))
	}},
	{"Sync", func(c *check) {
		f := c.open("f", syscall.O_RDWR|syscall.O_CREAT)
		_, err := f.WriteAt([]byte("x"), 0)
		c.ok(err)
		c.ok(f.Sync())
		c.ok(f.Close())
		c.has("f", "x")
	}},
	{"ManyNames", func(c *check) {
		c.ok(c.Mkdir("d", 0o755))
		var want []string
		for i := range 300 {
			name := "name" + string(rune('a'+i/100)) + string(rune('0'+i/10%10)) + string(rune('0'+i%10))
			c.write("d/"+name, "")
			want = append(want, name)
		}
		c.lists("d", want...)
		for _, name := range want[:299] {
			c.ok(c.Unlink("d/" + name))
		}
		c.lists("d", want[299])
	}},
}
