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
