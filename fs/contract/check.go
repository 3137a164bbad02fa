package contract

import (
	"bytes"
	"io"
	"slices"
	"syscall"
	"testing"

	"bundlefs/fs/vfs"
)

// check is one test of the suite with its tree.
type check struct {
	*testing.T
	Tree
}

// ok ends the test on an error.
func (c *check) ok(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// refused expects one of the errnos.
func (c *check) refused(err error, want ...syscall.Errno) {
	c.Helper()
	if !slices.Contains(want, vfs.Errno(err)) {
		c.Fatalf("error %v, want one of %v", err, want)
	}
}

func (c *check) stat(path string) Attr {
	c.Helper()
	a, err := c.Lstat(path)
	c.ok(err)
	return a
}

func (c *check) open(path string, flags int) File {
	c.Helper()
	f, err := c.Open(path, flags, 0o644)
	c.ok(err)
	return f
}

// write makes a file with content.
func (c *check) write(path, content string) {
	c.Helper()
	f := c.open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC)
	if content != "" {
		_, err := f.WriteAt([]byte(content), 0)
		c.ok(err)
	}
	c.ok(f.Close())
}

func (c *check) contentOf(f File) string {
	c.Helper()
	var b bytes.Buffer
	_, err := io.Copy(&b, io.NewSectionReader(f, 0, 1<<40))
	c.ok(err)
	return b.String()
}

func (c *check) read(path string) string {
	c.Helper()
	f := c.open(path, syscall.O_RDONLY)
	defer f.Close()
	return c.contentOf(f)
}

// has compares a file's content.
func (c *check) has(path, want string) {
	c.Helper()
	if got := c.read(path); got != want {
		c.Fatalf("%s: %s, want %s", path, brief(got), brief(want))
	}
}

func (c *check) gone(path string) {
	c.Helper()
	_, err := c.Lstat(path)
	c.refused(err, syscall.ENOENT)
}

func (c *check) lists(path string, want ...string) {
	c.Helper()
	got, err := c.List(path)
	c.ok(err)
	if !slices.Equal(got, want) {
		c.Fatalf("list of %s: %q, want %q", path, got, want)
	}
}

func brief(s string) string {
	if len(s) > 60 {
		return s[:30] + "…" + s[len(s)-30:]
	}
	return s
}
