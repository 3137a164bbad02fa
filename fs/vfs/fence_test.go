package vfs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bundlefs/fs/contract"
	"bundlefs/fs/vfs"
	"bundlefs/internal/lease"
	"bundlefs/internal/testnode"
)

// leased is a folder of a node that is mounted under a lease.
type leased struct {
	*testing.T
	node   *testnode.Node
	link   *testnode.Link
	dir    string // the folder on the node
	record string // the owner record in it
	spool  string
}

func newLeased(t *testing.T) *leased {
	n := testnode.Start(t)
	l := &leased{T: t, node: n, link: testnode.NewLink(t, n.Addr), dir: filepath.Join(n.Home, "bundle"), spool: filepath.Join(t.TempDir(), "spool")}
	l.record = filepath.Join(l.dir, lease.RecordName)
	l.must(os.Mkdir(l.dir, 0o755))
	l.own("ours")
	l.put("old", "from before")
	return l
}

func (l *leased) must(errs ...error) {
	l.Helper()
	if err := errors.Join(errs...); err != nil {
		l.Fatal(err)
	}
}

func (l *leased) put(name, content string) {
	l.Helper()
	l.must(os.WriteFile(filepath.Join(l.dir, name), []byte(content), 0o644))
}

// own writes the owner record of a token.
func (l *leased) own(token string) { l.put(lease.RecordName, fmt.Sprintf(`{"token":%q}`, token)) }

func (l *leased) mount(token string) (*vfs.Exclusive, error) { return l.mountWith(token, func() {}) }

// mountWith calls checked each time that the record is read.
func (l *leased) mountWith(token string, checked func()) (*vfs.Exclusive, error) {
	return vfs.NewExclusive(l.Context(), vfs.ExclusiveOptions{
		Dial: dial(l.node.TargetVia(l.link)), Root: "bundle", Spool: l.spool,
		Check: func(read func(string) ([]byte, error)) error {
			checked()
			err := lease.Check(token, read)
			if errors.Is(err, lease.ErrNotOurs) {
				err = fmt.Errorf("%w: %w", vfs.ErrLeaseLost, err)
			}
			return err
		},
	})
}

// onNode is all that is in the folder on the node.
func (l *leased) onNode() map[string]string {
	l.Helper()
	lines := map[string]string{}
	if err := dumpTree(contract.OS{Dir: l.dir}, ".", lines); err != nil && !os.IsNotExist(err) {
		l.Fatal(err)
	}
	return lines
}

func writeFile(t contract.Tree, name, content string) error {
	f, err := t.Open(name, syscall.O_CREAT|syscall.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(content), 0)
	return errors.Join(err, f.Close())
}

// TestLeaseLost takes the lock away while the link is cut and changes wait.
func TestLeaseLost(t *testing.T) {
	for name, lose := range map[string]func(l *leased){
		"another owner": func(l *leased) { l.own("theirs") },
		"no record":     func(l *leased) { l.must(os.Remove(l.record)) },
		"half a record": func(l *leased) { l.put(lease.RecordName, `{"tok`) },
		"no folder":     func(l *leased) { l.must(os.Rename(l.dir, l.dir+".broken")) },
		"another folder": func(l *leased) {
			l.must(os.Rename(l.dir, l.dir+".broken"), os.Mkdir(l.dir, 0o755))
			l.own("theirs")
			l.put("old", "from before")
			l.put("sent", "sent before")
		},
	} {
		t.Run(name, func(t *testing.T) { testLeaseLost(newLeased(t), lose) })
	}
}

func testLeaseLost(l *leased, lose func(*leased)) {
	x, err := l.mount("ours")
	l.must(err)
	here := contract.VFS{Files: x, Root: vfs.RootIno}
	l.must(writeFile(here, "sent", "sent before"), here.Mkdir("folder", 0o755), x.Sync(l.Context(), nil))
	l.link.Refuse()
	l.link.Reset()
	big := strings.Repeat("a line that is not on the node yet\n", 30000)
	l.must(writeFile(here, "new", "not sent"), writeFile(here, "folder/big", big), here.Mkdir("more", 0o755),
		here.Rename("sent", "renamed", false), writeFile(here, "old", "FROM"))
	lose(l)
	before := l.onNode()
	l.link.Heal()
	eventually(l.T, "the loss is noticed", func() bool { return x.Status().Fence != "" })
	st := x.Status()
	if !strings.Contains(st.Fence, "lock lost") || st.Pending.Files == 0 {
		l.Errorf("status: %+v", st)
	}
	for op, err := range map[string]error{
		"create": writeFile(here, "later", "x"), "mkdir": here.Mkdir("d", 0o755), "unlink": here.Unlink("new"),
		"rename": here.Rename("new", "newer", false), "chmod": here.Chmod("new", 0o600), "truncate": here.Truncate("new", 1),
		"link": here.Link("new", "n2"), "symlink": here.Symlink("a", "b"), "rmdir": here.Rmdir("more"), "sync": x.Sync(l.Context(), nil),
	} {
		if vfs.Errno(err) != syscall.EROFS || !errors.Is(err, vfs.ErrLeaseLost) {
			l.Errorf("%s: %v, want EROFS", op, err)
		}
	}
	reads := map[string]string{"new": "not sent", "folder/big": big}
	if len(before) > 0 { // part of it is on the node
		reads["old"] = "FROM before"
	}
	for name, want := range reads {
		if got, err := readTree(here, name); string(got) != want || err != nil {
			l.Errorf("reading %s: %d bytes, %v", name, len(got), err)
		}
	}
	l.must(x.Close())
	if after := l.onNode(); fmt.Sprint(after) != fmt.Sprint(before) {
		l.Errorf("on the node:\n%v\nwas\n%v", after, before)
	}
	_, err = l.mount("ours")
	var lost *vfs.LostError
	if !errors.As(err, &lost) || !errors.Is(err, vfs.ErrLeaseLost) || lost.Spool != l.spool || !strings.Contains(err.Error(), l.spool) || !strings.Contains(lost.Hint(), l.spool) {
		l.Errorf("mounted again: %v", err)
	}
	if after := l.onNode(); fmt.Sprint(after) != fmt.Sprint(before) {
		l.Errorf("on the node after mounting again:\n%v\nwas\n%v", after, before)
	}
	if l.Failed() {
		return
	}
	if _, err := os.Stat(l.dir + ".broken"); err == nil {
		l.must(os.RemoveAll(l.dir))
		l.must(os.Rename(l.dir+".broken", l.dir))
	}
	l.own("ours")
	x, err = l.mount("ours")
	l.must(err)
	here = contract.VFS{Files: x, Root: vfs.RootIno}
	l.must(x.Sync(context.Background(), nil))
	contract.Compare(l.T, here, contract.OS{Dir: l.dir})
	for name, want := range map[string]string{"new": "not sent", "folder/big": big, "old": "FROM before", "renamed": "sent before"} {
		if got, err := os.ReadFile(filepath.Join(l.dir, name)); string(got) != want || err != nil {
			l.Errorf("%s on the node: %d bytes, %v", name, len(got), err)
		}
	}
	l.must(x.Close())
	if _, err := os.Stat(l.spool); !os.IsNotExist(err) {
		l.Errorf("the spool is left: %v", err)
	}
}

// TestLeaseUnknown cannot read the record for a while, which is no loss.
func TestLeaseUnknown(t *testing.T) {
	l := newLeased(t)
	x, err := l.mount("ours")
	l.must(err)
	here := contract.VFS{Files: x, Root: vfs.RootIno}
	l.link.Refuse()
	l.link.Reset()
	l.must(writeFile(here, "new", "not sent"), os.Rename(l.record, l.record+".away"), os.Mkdir(l.record, 0o755))
	l.link.Heal()
	eventually(t, "the record was read in vain", func() bool { return strings.Contains(x.Status().LinkError, "read the owner record") })
	if st := x.Status(); st.Fence != "" || st.Connected {
		t.Errorf("status: %+v", st)
	}
	if _, err := os.Stat(filepath.Join(l.dir, "new")); err == nil {
		t.Error("sent without a lease")
	}
	l.must(os.Remove(l.record), os.Rename(l.record+".away", l.record), x.Sync(l.Context(), nil))
	if got, err := os.ReadFile(filepath.Join(l.dir, "new")); string(got) != "not sent" || err != nil {
		t.Errorf("on the node: %q %v", got, err)
	}
	l.must(x.Close())
}

// TestLeaseNever mounts with a token that is not the owner's: nothing is left here.
func TestLeaseNever(t *testing.T) {
	l := newLeased(t)
	before := l.onNode()
	_, err := l.mount("mine")
	var lost *vfs.LostError
	if !errors.Is(err, vfs.ErrLeaseLost) || errors.As(err, &lost) {
		t.Errorf("mounted: %v", err)
	}
	if _, err := os.Stat(l.spool); !os.IsNotExist(err) {
		t.Errorf("a spool is left: %v", err)
	}
	if after := l.onNode(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("on the node: %v, was %v", after, before)
	}
}

// TestLeaseBroken takes the lock away while the link is up: each barrier finds it out,
// and from then on nothing is sent.
func TestLeaseBroken(t *testing.T) {
	for name, barrier := range map[string]func(l *leased, x *vfs.Exclusive) error{
		"with something to send": func(l *leased, x *vfs.Exclusive) error {
			l.must(writeFile(contract.VFS{Files: x, Root: vfs.RootIno}, "new", "late"))
			return x.Sync(context.Background(), nil)
		},
		"with nothing to send": func(l *leased, x *vfs.Exclusive) error { return x.Sync(context.Background(), nil) },
		"of one file": func(l *leased, x *vfs.Exclusive) (err error) {
			f, err := contract.VFS{Files: x, Root: vfs.RootIno}.Open("old", syscall.O_RDWR, 0)
			l.must(err)
			defer func() { l.must(f.Close()) }()
			// It believes a proof that is not a second old.
			for deadline := time.Now().Add(30 * time.Second); err == nil && time.Now().Before(deadline); {
				if _, err = f.WriteAt([]byte("x"), 0); err == nil {
					err = f.Sync()
				}
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLeased(t)
			x, err := l.mount("ours")
			l.must(err)
			here := contract.VFS{Files: x, Root: vfs.RootIno}
			l.must(writeFile(here, "sent", "ours"), x.Sync(l.Context(), nil))
			l.must(os.Rename(l.dir, l.dir+".broken"), os.Mkdir(l.dir, 0o755))
			l.own("theirs")
			l.put("old", "theirs")
			if err := barrier(l, x); vfs.Errno(err) != syscall.EROFS || !errors.Is(err, vfs.ErrLeaseLost) {
				t.Errorf("barrier: %v, want a lost lock", err)
			}
			if st := x.Status(); !strings.Contains(st.Fence, "lock lost") || !st.Connected {
				t.Errorf("status: %+v", st)
			}
			before := l.onNode()
			if err := writeFile(here, "later", "late"); vfs.Errno(err) != syscall.EROFS {
				t.Errorf("writing afterwards: %v", err)
			}
			if err := x.Sync(context.Background(), nil); !errors.Is(err, vfs.ErrLeaseLost) {
				t.Errorf("the next barrier: %v", err)
			}
			l.must(x.Close())
			if after := l.onNode(); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("on the node:\n%v\nwas\n%v", after, before)
			}
		})
	}
}

// TestLeaseBrokenIdle notices the loss though nothing is done in the mount.
func TestLeaseBrokenIdle(t *testing.T) {
	defer vfs.SetLeaseIdle(vfs.SetLeaseIdle(time.Millisecond))
	l := newLeased(t)
	x, err := l.mount("ours")
	l.must(err)
	l.own("theirs")
	eventually(t, "the loss is noticed", func() bool { return x.Status().Fence != "" })
	l.must(x.Close())
}

// TestLeaseProofs counts the proofs: there are few, however much is sent.
func TestLeaseProofs(t *testing.T) {
	l := newLeased(t)
	proofs := make(chan struct{}, 1000)
	x, err := l.mountWith("ours", func() { proofs <- struct{}{} })
	l.must(err)
	here := contract.VFS{Files: x, Root: vfs.RootIno}
	started := time.Now()
	for i := range 300 {
		l.must(writeFile(here, fmt.Sprint("f", i), "content"))
	}
	l.must(x.Sync(l.Context(), nil))
	most := 4 + int(time.Since(started)/time.Second)
	if n := len(proofs); n < 2 || n > most {
		t.Errorf("the record was read %d times, want 2 to %d", n, most)
	}
	l.must(x.Close())
}
