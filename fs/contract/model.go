package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bundlefs/fs/vfs"
)

// Op is one operation of a model test. Fields that the kind does not need are zero.
type Op struct {
	Kind  string
	Path  string `json:",omitempty"`
	Path2 string `json:",omitempty"`
	Slot  int    `json:",omitempty"` // which open file
	Off   int64  `json:",omitempty"`
	Len   int64  `json:",omitempty"`
	Flags int    `json:",omitempty"`
	Mode  uint32 `json:",omitempty"`
	Seed  uint32 `json:",omitempty"` // of the data
}

func (o Op) String() string {
	b, _ := json.Marshal(o)
	return string(b)
}

// plainOp is an Op without methods.
type plainOp Op

// MarshalJSON spells paths in ASCII: JSON has only UTF-8.
func (o Op) MarshalJSON() ([]byte, error) {
	for _, p := range []*string{&o.Path, &o.Path2} {
		q := strconv.QuoteToASCII(*p)
		*p = q[1 : len(q)-1]
	}
	return json.Marshal(plainOp(o))
}

// UnmarshalJSON is the way back.
func (o *Op) UnmarshalJSON(b []byte) (err error) {
	if err := json.Unmarshal(b, (*plainOp)(o)); err != nil {
		return err
	}
	for _, p := range []*string{&o.Path, &o.Path2} {
		if *p, err = strconv.Unquote(`"` + *p + `"`); err != nil {
			return err
		}
	}
	return nil
}

// data is what the operation writes.
func (o Op) data() []byte {
	b := make([]byte, o.Len)
	x := o.Seed
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// pair is a file that is open on both sides.
type pair struct {
	got, want File
	flags     int
}

// both does operations on two trees in step and compares what comes of them.
type both struct {
	got, want Tree
	links     bool // link counts are compared
	slots     [4]*pair
}

// do does one operation; the error says what differs.
func (b *both) do(o Op) error {
	if o.Path != "" && b.follows(o) {
		return nil
	}
	var err error
	switch o.Kind {
	case "open":
		err = b.open(o)
	case "write", "append", "read", "ftruncate", "fstat", "fsync", "close":
		err = b.onSlot(o)
	case "close all":
		err = b.close()
	case "put":
		err = b.put(o, o.Path)
	case "save": // as programs do that never want half a file
		tmp := path.Join(path.Dir(o.Path), "tmp~")
		if err = b.put(o, tmp); err == nil {
			err = b.name(Op{Kind: "rename", Path: tmp, Path2: o.Path})
		}
	case "swap":
		tmp := path.Join(path.Dir(o.Path), "swap~")
		for _, step := range [][2]string{{o.Path, tmp}, {o.Path2, o.Path}, {tmp, o.Path2}} {
			if err == nil {
				err = b.name(Op{Kind: "rename", Path: step[0], Path2: step[1]})
			}
		}
	case "rmall":
		err = b.removeAll(o.Path)
	case "check":
		err = b.same(o.Path, true)
	case "list":
		err = b.sameList(o.Path)
	default:
		err = b.name(o)
	}
	for _, p := range []string{o.Path, o.Path2} {
		if err == nil && p != "" {
			if err = b.same(p, false); err == nil {
				err = b.sameList(path.Dir(p))
			}
		}
	}
	return err
}

// follows reports whether the operation would go through a symbolic link, which a
// Tree need not do, or is one that only a kernel refuses.
func (b *both) follows(o Op) bool {
	for _, p := range []string{o.Path, o.Path2} {
		for dir := path.Dir(p); dir != "." && p != ""; dir = path.Dir(dir) {
			if a, err := b.want.Lstat(dir); err == nil && a.Mode&vfs.TypeMask == vfs.TypeSymlink {
				return true
			}
		}
	}
	inside := strings.HasPrefix(o.Path2, o.Path+"/") || strings.HasPrefix(o.Path, o.Path2+"/")
	switch a, err := b.want.Lstat(o.Path); o.Kind {
	case "rename", "swap":
		return inside
	case "list":
		return err == nil && a.Mode&vfs.TypeMask == vfs.TypeSymlink
	case "open", "put", "save", "check":
		return err == nil && (a.Mode&vfs.TypeMask == vfs.TypeSymlink || a.Mode&vfs.TypeMask == vfs.TypeDir && o.Flags&syscall.O_ACCMODE == 0)
	case "chmod":
		return err == nil && a.Mode&vfs.TypeMask == vfs.TypeSymlink
	case "truncate":
		return err == nil && a.Mode&vfs.TypeMask != vfs.TypeRegular
	}
	return false
}

// name does an operation on names or attributes.
func (b *both) name(o Op) error {
	return b.each(o.Kind, func(t Tree) error {
		switch o.Kind {
		case "mkdir":
			return t.Mkdir(o.Path, o.Mode|0o700)
		case "rmdir":
			return t.Rmdir(o.Path)
		case "unlink":
			return t.Unlink(o.Path)
		case "rename":
			return t.Rename(o.Path, o.Path2, o.Flags != 0)
		case "link":
			return t.Link(o.Path, o.Path2)
		case "symlink":
			return t.Symlink(o.target(), o.Path)
		case "chmod":
			return t.Chmod(o.Path, o.Mode|0o700)
		case "utimes":
			return t.Utimes(o.Path, o.time(), o.time())
		case "truncate":
			return t.Truncate(o.Path, o.Len)
		}
		panic("contract: unknown operation " + o.Kind)
	})
}

func (o Op) target() string  { return fmt.Sprintf("none/%d", o.Seed) }
func (o Op) time() time.Time { return time.Unix(int64(o.Seed), 123456789) }

// each does something on both sides and compares the errors.
func (b *both) each(what string, do func(t Tree) error) error {
	want, got := do(b.want), do(b.got)
	return sameError(what, got, want)
}

func sameError(what string, got, want error) error {
	g, w := vfs.Errno(got), vfs.Errno(want)
	full := []syscall.Errno{syscall.ENOTEMPTY, syscall.EEXIST}
	if g == w || slices.Contains(full, g) && slices.Contains(full, w) {
		return nil
	}
	return fmt.Errorf("%s: error %v, want %v", what, got, want)
}

func (b *both) open(o Op) error {
	if b.slots[o.Slot] != nil {
		return nil
	}
	mode := o.Mode | 0o600
	want, wantErr := b.want.Open(o.Path, o.Flags, mode)
	got, err := b.got.Open(o.Path, o.Flags, mode)
	if wantErr == nil && err == nil {
		b.slots[o.Slot] = &pair{got, want, o.Flags}
	}
	return sameError("open", err, wantErr)
}

func (b *both) onSlot(o Op) error {
	p := b.slots[o.Slot]
	if p == nil {
		return nil
	}
	appends, writes := p.flags&syscall.O_APPEND != 0, p.flags&syscall.O_ACCMODE == syscall.O_RDWR
	each := func(do func(f File) error) error {
		want := do(p.want)
		return sameError(o.Kind, do(p.got), want)
	}
	switch o.Kind {
	case "write":
		if !writes || appends {
			return nil
		}
		return each(func(f File) error { _, err := f.WriteAt(o.data(), o.Off); return err })
	case "append":
		if !writes || !appends {
			return nil
		}
		return each(func(f File) error { return f.Append(o.data()) })
	case "ftruncate":
		if !writes {
			return nil
		}
		return each(func(f File) error { return f.Truncate(o.Len) })
	case "fsync":
		return each(File.Sync)
	case "close":
		b.slots[o.Slot] = nil
		return each(File.Close)
	case "read":
		return sameData(p.got, p.want, o.Off, o.Len)
	}
	got, err := p.got.Stat()
	want, wantErr := p.want.Stat()
	if err := sameError("fstat", err, wantErr); err != nil || wantErr != nil {
		return err
	}
	return b.sameAttr("open file", got, want)
}

// sameData compares a range of two files.
func sameData(got, want File, off, n int64) error {
	x, y := make([]byte, n), make([]byte, n)
	i, err := got.ReadAt(x, off)
	j, wantErr := want.ReadAt(y, off)
	if err == io.EOF {
		err = nil
	}
	if wantErr == io.EOF {
		wantErr = nil
	}
	if err := sameError("read", err, wantErr); err != nil {
		return err
	}
	if i != j {
		return fmt.Errorf("read at %d: %d bytes, want %d", off, i, j)
	}
	if k := firstDifference(x, y); k >= 0 {
		return fmt.Errorf("read at %d: byte %d is %#x, want %#x", off, off+int64(k), x[k], y[k])
	}
	return nil
}

func firstDifference(x, y []byte) int {
	if bytes.Equal(x, y) {
		return -1
	}
	for i := range x {
		if x[i] != y[i] {
			return i
		}
	}
	return len(x)
}

// put writes a whole file.
func (b *both) put(o Op, p string) error {
	return b.each("put", func(t Tree) error {
		f, err := t.Open(p, syscall.O_RDWR|syscall.O_CREAT|syscall.O_TRUNC, o.Mode|0o600)
		if err != nil {
			return err
		}
		for data, off := o.data(), int64(0); len(data) > 0 && err == nil; {
			n := min(len(data), 40000)
			_, err = f.WriteAt(data[:n], off)
			data, off = data[n:], off+int64(n)
		}
		if err := f.Close(); err != nil {
			return err
		}
		return err
	})
}

// removeAll does what rm -rf does.
func (b *both) removeAll(p string) error {
	a, err := b.want.Lstat(p)
	if err != nil {
		return b.same(p, false)
	}
	if a.Mode&vfs.TypeMask != vfs.TypeDir {
		return b.name(Op{Kind: "unlink", Path: p})
	}
	if err := b.sameList(p); err != nil {
		return err
	}
	names, err := b.want.List(p)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := b.removeAll(path.Join(p, name)); err != nil {
			return err
		}
	}
	return b.name(Op{Kind: "rmdir", Path: p})
}

// same compares what a path is on both sides, with the content if asked for.
func (b *both) same(p string, content bool) error {
	got, err := b.got.Lstat(p)
	want, wantErr := b.want.Lstat(p)
	if err := sameError("stat "+p, err, wantErr); err != nil || wantErr != nil {
		return err
	}
	if err := b.sameAttr(p, got, want); err != nil {
		return err
	}
	switch want.Mode & vfs.TypeMask {
	case vfs.TypeSymlink:
		x, err := b.got.Readlink(p)
		y, wantErr := b.want.Readlink(p)
		if x != y {
			return fmt.Errorf("%s: target %q, want %q", p, x, y)
		}
		return sameError("readlink "+p, err, wantErr)
	case vfs.TypeRegular:
		if content {
			return compareContent(b.got, b.want, p)
		}
	}
	return nil
}

// sameAttr compares attributes. Times that were not set are those of the two
// moments at which the operation was done.
func (b *both) sameAttr(p string, got, want Attr) error {
	isDir := want.Mode&vfs.TypeMask == vfs.TypeDir
	const apart = 30 * time.Second
	switch {
	case got.Mode != want.Mode:
		return fmt.Errorf("%s: mode %o, want %o", p, got.Mode, want.Mode)
	case !isDir && got.Size != want.Size:
		return fmt.Errorf("%s: %d bytes, want %d", p, got.Size, want.Size)
	case !isDir && b.links && got.Nlink != want.Nlink:
		return fmt.Errorf("%s: %d links, want %d", p, got.Nlink, want.Nlink)
	case !isDir && got.Mtime.Sub(want.Mtime).Abs() > apart:
		return fmt.Errorf("%s: mtime %v, want %v", p, got.Mtime, want.Mtime)
	}
	return nil
}

func (b *both) sameList(p string) error {
	got, err := b.got.List(p)
	want, wantErr := b.want.List(p)
	if err := sameError("list "+p, err, wantErr); err != nil {
		return err
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("list %s: %q, want %q", p, got, want)
	}
	return nil
}

// sameTree compares everything below a folder.
func (b *both) sameTree(dir string) error {
	if err := b.sameList(dir); err != nil {
		return err
	}
	names, err := b.want.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		p := path.Join(dir, name)
		if err := b.same(p, true); err != nil {
			return err
		}
		if a, err := b.want.Lstat(p); err == nil && a.Mode&vfs.TypeMask == vfs.TypeDir {
			if err := b.sameTree(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *both) close() error {
	for i := range b.slots {
		if err := b.onSlot(Op{Kind: "close", Slot: i}); err != nil {
			return err
		}
	}
	return nil
}

func (b *both) anyOpen() bool {
	return slices.ContainsFunc(b.slots[:], func(p *pair) bool { return p != nil })
}
