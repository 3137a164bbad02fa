package testnode

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"bundlefs/internal/remote"
)

// TestAsOrdinaryUser runs the tests of the node once more as an ordinary user, when they run as
// root now.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		return // then all tests are that test
	}
	dir, err := os.MkdirTemp("", "ordinary-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	n := &Node{dir: dir, User: ordinaryUser, uid: ordinaryUID, Home: dir}
	if err := n.writeUsers(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, ordinaryUID, ordinaryUID); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "tests") // go test's own is in a folder of root's
	if err := copyFile(os.Args[0], binary); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-test.skip=^TestLink|^TestMountOutside", "-test.timeout=2m")
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUID, Gid: ordinaryUID}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	result := make(chan error, 1)
	go onOwnThread(func() {
		if err := enterNamespace(dir); err != nil {
			result <- err
			return
		}
		result <- cmd.Run()
	})
	if err := <-result; err != nil {
		t.Errorf("%v:\n%s", err, out.String())
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

func TestTargetLogsIn(t *testing.T) {
	n := Start(t)
	l := NewLink(t, n.Addr)
	for _, target := range []remote.Target{n.Target(), n.TargetVia(l)} {
		c, err := remote.Dial(t.Context(), target, remote.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.SFTP(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if wd, err := s.Getwd(); err != nil || wd != n.Home {
			t.Errorf("sftp starts in %q, %v, want %q", wd, err, n.Home)
		}
		s.Close()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
