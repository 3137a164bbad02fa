package fs

import (
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestEndsProgram(t *testing.T) {
	const all = ^uint64(0)
	for _, c := range []struct {
		name                     string
		pending, caught, ignored uint64
		want                     bool
	}{
		{"none", 0, 0, 0, false},
		{"killed", signals(syscall.SIGKILL), 0, 0, true},
		{"asked, caught", signals(syscall.SIGINT), all, 0, true},
		{"asked, ignored", signals(syscall.SIGHUP), 0, signals(syscall.SIGHUP), false},
		{"dies of it", signals(syscall.SIGUSR1), 0, 0, true},
		{"dumps core", signals(syscall.SIGSEGV), 0, 0, true},
		{"catches it", signals(syscall.SIGUSR1, syscall.SIGALRM, syscall.SIGPROF), all, 0, false},
		{"scheduler of Go", signals(syscall.SIGURG), signals(syscall.SIGURG), 0, false},
		{"harmless by default", signals(syscall.SIGURG, syscall.SIGCHLD, syscall.SIGWINCH), 0, 0, false},
		{"stopped", signals(syscall.SIGTSTP, syscall.SIGSTOP), 0, 0, false},
		{"one of several", signals(syscall.SIGURG, syscall.SIGTERM), all, 0, true},
	} {
		if got := endsProgram(c.pending, c.caught, c.ignored); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestMustEnd(t *testing.T) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	defer signal.Stop(c)
	if mustEnd(uint32(os.Getpid())) {
		t.Error("this process, which nobody asked to end")
	}
	if !mustEnd(0) {
		t.Error("a process that cannot be seen")
	}
}

func TestOwnerOnly(t *testing.T) {
	o := &ownerOnly{RawFileSystem: fuse.NewDefaultRawFileSystem(), owner: 1000}
	for uid, want := range map[uint32]fuse.Status{0: fuse.OK, 1000: fuse.OK, 1001: fuse.EACCES} {
		h := fuse.InHeader{Caller: fuse.Caller{Owner: fuse.Owner{Uid: uid}}}
		if got := o.Access(nil, &fuse.AccessIn{InHeader: h}); got != want {
			t.Errorf("user %d: access %v, want %v", uid, got, want)
		}
		_, readlink := o.Readlink(nil, &h)
		for name, got := range map[string]fuse.Status{
			"lookup": o.Lookup(nil, &h, "x", nil), "readlink": readlink, "unlink": o.Unlink(nil, &h, "x"),
			"open": o.Open(nil, &fuse.OpenIn{InHeader: h}, nil), "create": o.Create(nil, &fuse.CreateIn{InHeader: h}, "x", nil),
			"rename": o.Rename(nil, &fuse.RenameIn{InHeader: h}, "x", "y"), "mkdir": o.Mkdir(nil, &fuse.MkdirIn{InHeader: h}, "x", nil),
		} {
			if (got == fuse.EACCES) != (want == fuse.EACCES) { // others are the file system's behind
				t.Errorf("user %d: %s %v", uid, name, got)
			}
		}
	}
}
