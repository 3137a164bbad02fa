package testnode

import (
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestMountOutsideCanEnd(t *testing.T) {
	server, err := fuse.NewServer(fuse.NewDefaultRawFileSystem(), t.TempDir(), &fuse.MountOptions{Name: "outside", DirectMount: true})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve()
	}()
	if err := server.WaitMount(); err != nil {
		t.Fatal(err)
	}
	n := Start(t) // must not keep a copy of the mount alive
	if err := server.Unmount(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-served:
	case <-time.After(20 * time.Second):
		t.Error("the mount goes on while the node runs")
		n.Kill()
		<-served
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`/plain`:     "/plain",
		`/a\040b`:    "/a b",
		`/a\134040`:  `/a\040`,
		`/ends\04`:   `/ends\04`,
		`/no\octal9`: `/no\octal9`,
	} {
		if got := unescape(in); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}
