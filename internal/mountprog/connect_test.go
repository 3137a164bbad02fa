package mountprog

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/internal/proc"
	"bundlefs/internal/testnode"
)

// server writes a program that is an SFTP server, whatever its arguments, and keeps them.
func (b *bench) server() (program, arguments string) {
	b.t.Helper()
	program, arguments = filepath.Join(b.dir, "ssh"), filepath.Join(b.dir, "arguments")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nprintf '%s\\n' \"$@\" >"+arguments+"\nexec "+sftpServer(b.t)+"\n"), 0o755); err != nil {
		b.t.Fatal(err)
	}
	return program, arguments
}

// sftpServer is OpenSSH's.
func sftpServer(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/sftp-server"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("there is no sftp-server: run make setup")
	return ""
}

// TestSSHCommand mounts through a program, as mount(8) has it done, and looks at what can be seen.
func TestSSHCommand(t *testing.T) {
	b := newUser(t, os.Getuid())
	program, arguments := b.server()
	data := filepath.Join(b.dir, "data")
	b.must("bundlefs", "me@h:"+data, b.mountpoint, "-o", "delay_connect,no_check_root,_netdev,dev,suid,user=x,x-systemd.automount,Cipher=no", "--sloppy",
		"-o", "ssh_command="+program+" 'a b',ProxyCommand=x y", "-o", "max_conns=2,disable_hardlink,max_read=8192")
	pid := b.status().PID
	if out := b.must("bundlefs", "status", b.mountpoint); !strings.Contains(out, "down: the mount was not used yet") {
		t.Errorf("before the first use: %s", out)
	}
	if r := b.run("ls", b.mountpoint); r.code == 0 {
		t.Errorf("the folder is not there: %s", r.out)
	}
	if err := os.Mkdir(data, 0o777); err != nil {
		t.Fatal(err)
	}
	b.must("sh", "-c", `until echo hello >"$1/file" 2>/dev/null; do sleep 0.1; done; cat "$1/file"`, "sh", b.mountpoint)
	if r := b.run("ln", filepath.Join(b.mountpoint, "file"), filepath.Join(b.mountpoint, "other")); r.code == 0 {
		t.Errorf("disable_hardlink: %d %s", r.code, r.err)
	}
	given, err := os.ReadFile(arguments)
	if want := "a b\n-x\n-a\n-oClearAllForwardings=yes\n-oProxyCommand=x y\n-oServerAliveInterval=15\n-oServerAliveCountMax=3\nme@h\n-s\nsftp\n"; err != nil || string(given) != want {
		t.Errorf("arguments: %q %v", given, err)
	}
	if out := b.must("bundlefs", "status", b.mountpoint); !strings.Contains(out, "round trip") || !strings.Contains(out, "lookup") {
		t.Errorf("status: %s", out)
	}
	if out := b.must("bundlefs", "status", "--prometheus", b.mountpoint); !strings.Contains(out, "bundlefs_link_up{") || !strings.Contains(out, `operation="lookup"`) {
		t.Errorf("for Prometheus: %s", out)
	}
	b.must("bundlefs", "unmount", b.mountpoint)
	b.gone(pid)
	b.fails("exit status 3", "try it by hand", "bundlefs", "h:", b.mountpoint, "-o", "ssh_command=sh -c 'exit 3'")
}

// TestPassive: the server is at standard input and output, and when it ends, or hangs, the
// mount ends.
func TestPassive(t *testing.T) {
	t.Run("ends", func(t *testing.T) {
		testPassive(t, func(server *exec.Cmd) {
			if err := server.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("hangs", func(t *testing.T) {
		testPassive(t, func(server *exec.Cmd) {
			p, _ := proc.Read(server.Process.Pid)
			hanging(t, p)
		})
	})
}

func testPassive(t *testing.T, end func(server *exec.Cmd)) {
	b := newUser(t, os.Getuid())
	program, _ := b.server()
	server := exec.Command(program)
	fromServer, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in, toServer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	server.Stdin, server.Stdout = in, out
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	out.Close()
	mount := b.command("bundlefs", ":"+b.dir, b.mountpoint, "-o", "passive,timeout=2"+quickly)
	mount.Stdin, mount.Stdout = fromServer, toServer
	if err := mount.Start(); err != nil {
		t.Fatal(err)
	}
	fromServer.Close()
	toServer.Close()
	b.mounted()
	b.must("sh", "-c", `test -e "$1/ssh"`, "sh", b.mountpoint)
	end(server)
	b.run("ls", b.mountpoint) // asks the server
	if err := mount.Wait(); err != nil {
		t.Error(err)
	}
	server.Process.Signal(unix.SIGCONT)
	server.Wait()
	b.clean()
}

// hanging stops an SFTP server, until the end of the test at the latest.
func hanging(t *testing.T, p proc.Process) {
	t.Helper()
	t.Cleanup(func() { p.Signal(unix.SIGCONT) })
	p.Signal(unix.SIGSTOP)
	await(t, "the server stops", func() bool { now, ok := proc.Read(p.PID); return !ok || now.State == 'T' })
}

// quickly are options with which a server that does not answer soon counts as lost.
const quickly = ",ServerAliveInterval=1,ServerAliveCountMax=1"

// TestHungServer has the server hang behind the transports that are no SSH of ours: the
// connection is made again, and nothing is lost.
func TestHungServer(t *testing.T) {
	t.Run("ssh_command", func(t *testing.T) {
		b := newUser(t, os.Getuid())
		program, _ := b.server()
		b.must("bundlefs", "h:"+b.dir, b.mountpoint, "-o", "timeout=0,ssh_command="+program+quickly)
		pid := b.status().PID
		servers := proc.Below(pid)
		if len(servers) != 1 {
			t.Fatalf("%d servers", len(servers))
		}
		hanging(t, servers[0])
		b.hungAndBack(pid)
	})
	t.Run("directport", func(t *testing.T) {
		b := newUser(t, os.Getuid())
		program, _ := b.server()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan *exec.Cmd, 10)
		var serving sync.WaitGroup
		t.Cleanup(func() { l.Close(); serving.Wait() }) // after hanging lets it go on
		serving.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				f, err := c.(*net.TCPConn).File()
				c.Close()
				if err != nil {
					t.Error(err)
					return
				}
				server := exec.Command(program)
				server.Stdin, server.Stdout = f, f
				err = server.Start()
				f.Close()
				if err != nil {
					t.Error(err)
					return
				}
				started <- server
				serving.Go(func() { server.Wait() })
			}
		})
		b.must("bundlefs", "127.0.0.1:"+b.dir, b.mountpoint, "-o", fmt.Sprint("timeout=0,directport=", l.Addr().(*net.TCPAddr).Port, quickly))
		server, _ := proc.Read((<-started).Process.Pid)
		hanging(t, server)
		b.hungAndBack(b.status().PID)
		server.Signal(unix.SIGCONT)
	})
}

// hungAndBack writes a file while the server hangs, and unmounts.
func (b *bench) hungAndBack(pid int) {
	b.t.Helper()
	b.must("sh", "-c", `echo written >"$1/f"`, "sh", b.mountpoint)
	if got, err := os.ReadFile(filepath.Join(b.dir, "f")); err != nil || string(got) != "written\n" {
		b.t.Errorf("the server has %q, %v", got, err)
	}
	if n := b.status().Traffic.Connections; n < 2 {
		b.t.Errorf("%d connections", n)
	}
	b.must("bundlefs", "unmount", b.mountpoint)
	b.gone(pid)
}

// TestMountInsideItself mounts a folder that has the mount point in it, through one server:
// to list it, the server asks this mount, which asks the server. Nothing waits for ever.
func TestMountInsideItself(t *testing.T) {
	b := newUser(t, os.Getuid())
	program, _ := b.server()
	b.must("bundlefs", "h:"+b.dir, b.mountpoint, "-o", "timeout=2,attr_timeout=0,dcache_timeout=0,ssh_command="+program)
	pid := b.status().PID
	for _, what := range [][]string{{"ls", "-l", "."}, {"stat", "m"}, {"ls", "-l", "m"}, {"cat", "ssh"}} {
		start := time.Now()
		cmd := b.command(what[0], what[1:]...)
		cmd.Dir = b.mountpoint
		out, err := cmd.CombinedOutput()
		t.Logf("%v: %v after %v: %s", what, err, time.Since(start).Round(time.Millisecond), out)
		if err != nil && what[len(what)-1] != "m" {
			t.Errorf("%v: %v %s", what, err, out)
		}
	}
	b.must("fusermount3", "-u", b.mountpoint)
	b.gone(pid)
}

// TestMountHelper: mount(8) mounts, in a namespace where it finds the helper in /sbin. Who is not
// root calls the helper alone.
func TestMountHelper(t *testing.T) {
	b := newUser(t, os.Getuid())
	program, _ := b.server()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := `set -e
mkdir "$1/sbin" "$1/own" "$1/data"
touch "$1/data/file"
ln -s "$2" "$1/own/mount.bundlefs"
helper=$1/own/mount.bundlefs
if [ "$(id -u)" = 0 ]; then
` + testnode.DetachFUSE + `	mount --bind "$(readlink -f /sbin)" "$1/sbin"
	ln -s "$1"/sbin/* "$1/own/"
	mount --bind "$1/own" "$(readlink -f /sbin)"
	helper="mount -t bundlefs"
fi
$helper "h:$1/data" "$1/m" -o "ro,_netdev,ssh_command=$3"
test -e "$1/m/file"
if touch "$1/m/x" 2>/dev/null; then echo written; fi
$helper "h:$1/data" "$1/m" -o "ssh_command=$3" 2>/dev/null || echo "code $?"
"$1/own/bundlefs" unmount "$1/m"
if [ "$(id -u)" = 0 ]; then
	# A line of fstab.
	echo "h:$1/data $1/m bundlefs _netdev,nofail,x-systemd.automount,ro,fsname=by-fstab,ssh_command=$3 0 0" >"$1/fstab"
	mount -a -T "$1/fstab"
	grep -q "^by-fstab $1/m fuse.bundlefs ro,nosuid,nodev" /proc/self/mounts
	test -e "$1/m/file"
	"$1/own/bundlefs" unmount "$1/m"
fi
`
	script = strings.Replace(script, "helper=$1", "ln -s \"$2\" \"$1/own/bundlefs\"\nhelper=$1", 1)
	shell := []string{"sh", "-c", script, "sh", b.dir, self, program}
	if b.uid == 0 {
		shell = append([]string{"unshare", "-m"}, shell...)
	}
	if out := b.must(shell[0], shell[1:]...); out != "code 32\n" {
		t.Errorf("printed %q", out)
	}
}
