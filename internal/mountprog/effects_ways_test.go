package mountprog

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bundlefs/internal/lease"
	"bundlefs/internal/testnode"
)

// TestEffectsOfSSH shows what changes the way by which bundlefs itself connects.
func TestEffectsOfSSH(t *testing.T) {
	b := newBench(t, os.Getuid())
	port, key, known := strconv.Itoa(b.node.Port), b.target.IdentityFile, b.own(b.node.KnownHosts)
	if err := os.WriteFile(filepath.Join(b.node.Home, "file"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	mounts := func(what string, args ...string) {
		t.Helper()
		b.must("bundlefs", append(args, b.mountpoint)...)
		pid := b.status().PID
		if got := b.must("cat", filepath.Join(b.mountpoint, "file")); got != "text" {
			t.Errorf("%s: %q", what, got)
		}
		b.must("bundlefs", "unmount", b.mountpoint)
		b.gone(pid)
	}
	keys := "IdentityFile=" + key + ",UserKnownHostsFile=" + known + ",IdentityAgent=none"
	mounts("-o port", b.source(""), "-F", "none", "-o", keys+",port="+port)
	mounts("-p", b.source(""), "-F", "none", "-o", keys, "-p", port)
	// Names of files begin in the folder where it was started.
	mounts("relative names", b.source(""), "-F", "none", "-p", port, "-o", "IdentityAgent=none,IdentityFile="+filepath.Base(key)+",UserKnownHostsFile="+filepath.Base(known))
	config := fmt.Sprintf("Host node\n HostName 127.0.0.1\n Port %s\n User %s\n IdentityFile %s\n UserKnownHostsFile %s\n IdentityAgent none\n CertificateFile %s-cert.pub\n", port, b.target.User, key, known, key)
	mounts("-F", "node:", "-F", b.file("config", config))
	// What the file says and has no effect is told, once.
	r := b.run("bundlefs", "node:", b.mountpoint, "-F", "config")
	if want := "bundlefs: " + filepath.Join(b.dir, "config") + ":8: CertificateFile is not obeyed"; r.code != 0 || strings.Count(r.err, "\n") != 2 || !strings.HasPrefix(r.err, want) || !strings.Contains(r.err, "\nbundlefs: hint: -o ssh_command=ssh") {
		t.Errorf("%d %s, want %s… and a hint", r.code, r.err, want)
	}
	pid := b.status().PID
	b.must("bundlefs", "unmount", b.mountpoint)
	b.gone(pid)

	// sftp_server is a command, or a subsystem.
	trace := filepath.Join(b.node.Home, "trace")
	server := filepath.Join(b.node.Home, "server")
	if err := os.WriteFile(server, []byte("#!/bin/sh\necho started >>"+trace+"\nexec "+sftpServer(t)+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	mounts("sftp_server", b.source(""), "-F", "none", "-p", port, "-o", keys+",sftp_server="+server)
	if got := readString(t, trace); !strings.HasPrefix(got, "started\n") {
		t.Errorf("sftp_server: %q", got)
	}
	mounts("sftp_server", b.source(""), "-F", "none", "-p", port, "-o", keys+",sftp_server=sftp")

	if b.uid != 0 {
		t.Log("only root can give the node a user with a password")
		return
	}
	b.on(testnode.Start(t, testnode.WithSudo(), testnode.WithConfig("PasswordAuthentication yes")))
	p := &process{b: b, cmd: b.command("bundlefs", b.args("", "-o", "password_stdin,PubkeyAuthentication=no,IdentityAgent=none")...)}
	p.cmd.Stdin = strings.NewReader(testnode.SudoPassword + "\n")
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != ExitOK {
		t.Fatalf("password_stdin: %d %s", code, p.err.String())
	}
	pid = b.status().PID
	b.must("bundlefs", "unmount", b.mountpoint)
	b.gone(pid)
	b.refused("a wrong password", refusal{args: b.args("", "-o", "password_stdin,PubkeyAuthentication=no,IdentityAgent=none"), stdin: "wrong\n", cause: "permission denied", hint: "password"})
}

// TestDirectPort mounts from SFTP servers at ports, of IPv4 and IPv6.
func TestDirectPort(t *testing.T) {
	s := newStage(t, os.Getuid())
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		l, err := net.Listen("tcp", host+":0")
		if err != nil && host == "[::1]" {
			t.Log("this machine has no IPv6:", err)
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				server := exec.Command(sftpServer(t))
				server.Stdin, server.Stdout = conn, conn
				if err := server.Run(); err != nil {
					t.Error(err)
				}
				conn.Close()
			}
		}()
		port := l.Addr().(*net.TCPAddr).Port
		s.mountedBy(func() { s.want(host, s.read("file"), "old") },
			host+":"+s.data, s.mountpoint, "-o", fmt.Sprintf("directport=%d", port))
		l.Close()
		<-ended
	}
}

// TestSetUID mounts as root for another user, who then has the mount.
func TestSetUID(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("only root can mount as another user; TestRefusedMountPoints shows the rest")
		return
	}
	s := newStage(t, nobody)
	user, root := *s, s.asUser(0)
	user.env = slices.DeleteFunc(slices.Clone(s.env), func(e string) bool { return strings.HasPrefix(e, "XDG_") })
	root.must("bundlefs", s.args("setuid=nobody")...)
	pid := user.status().PID
	if uid := user.must("stat", "-c", "%u", fmt.Sprintf("/proc/%d", pid)); uid != fmt.Sprintln(nobody) {
		t.Errorf("the process is uid %s", uid)
	}
	s.want("as the user", user.must("cat", s.here("file")), "old")
	if r := root.run("cat", s.here("file")); r.code == 0 {
		t.Errorf("root reads the mount of the user: %s", r.out)
	}
	user.must("bundlefs", "unmount", s.mountpoint)
	s.gone(pid)
}

// asUser is the same bench for another user.
func (b *bench) asUser(uid int) *bench {
	c := *b
	c.uid = uid
	return &c
}

// TestWhoMayUse looks into mounts as another user than the one who has mounted.
func TestWhoMayUse(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("only root can be two users; fs.TestWhoIsLetIn is as far as others get")
		return
	}
	s := newStage(t, 0)
	other := s.asUser(nobody)
	if err := errors.Join(os.Chmod(s.dir, 0o755), os.Chmod(s.mountpoint, 0o755)); err != nil {
		t.Fatal(err)
	}
	can := func(b *bench, name string) bool { return b.run("cat", s.here(name)).code == 0 }
	for options, want := range map[string]bool{"": false, "allow_root": false, "allow_other": true} {
		s.with(options, func() {
			if got := can(other, "file"); got != want {
				t.Errorf("%q: another user gets in: %v", options, got)
			}
		})
	}
	// The server, which is root's, lets all be read, but the kernel does not.
	if err := os.Chmod(s.there("file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for options, want := range map[string]bool{"allow_other": true, "allow_other,default_permissions": false} {
		s.with(options, func() {
			if got := can(other, "file"); got != want {
				t.Errorf("%q: what only its owner may read is read: %v", options, got)
			}
		})
	}
}

// TestEffectsOfExclusive shows the options of exclusive mode.
func TestEffectsOfExclusive(t *testing.T) {
	s := newStage(t, os.Getuid())
	state := filepath.Join(s.dir, "spools")
	if err := errors.Join(os.Mkdir(state, 0o700), os.WriteFile(s.there(lease.RecordName), []byte(`{"token":"ours"}`), 0o600),
		os.WriteFile(s.there("big"), bytes.Repeat([]byte("data"), 1<<18), 0o644)); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "XDG_STATE_HOME="+state)
	s.with("exclusive=ours", func() {
		s.want("mode", s.status().Mode, "exclusive")
		s.must("sh", "-c", `echo new >"$1"`, "sh", s.here("new"))
		s.must("bundlefs", "sync", s.mountpoint)
		s.want("on the node after the barrier", readString(t, s.there("new")), "new\n")
	})
	s.with("exclusive=ours,nomount", func() {
		if m := s.find(); m != nil {
			t.Errorf("nomount: %+v", m)
		}
		s.want("mode", s.status().Mode, "exclusive")
	})
	for options, want := range map[string]bool{"exclusive=ours,cache_max=0": false, "exclusive=ours": true} {
		s.with(options, func() {
			s.must("cksum", s.here("big"))
			kept := func() bool { return keptOnDisk(t, s.status().PID) > 512<<10 }
			if want {
				await(t, "what was read is kept on the disk", kept)
			} else if kept() {
				t.Errorf("%s: what was read is kept on the disk", options)
			}
		})
	}
	// While the server is gone, no more is taken than the spool may hold.
	program := readString(t, s.program)
	s.kept("pids")
	s.with("exclusive=ours,spool_max=1048576,timeout=0", func() {
		if err := os.WriteFile(s.program, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		s.killServer()
		p := s.start("dd", "if=/dev/zero", "of="+s.here("large"), "bs=64k", "count=64", "status=none")
		await(t, "the spool is full", func() bool { return s.status().Pending.Bytes >= 1<<19 })
		for range 20 {
			if n := s.status().Pending.Bytes; n > 2<<20 {
				t.Fatalf("%d bytes wait in the spool", n)
			}
		}
		if err := os.WriteFile(s.program, []byte(program), 0o755); err != nil {
			t.Fatal(err)
		}
		if code := p.wait(); code != 0 {
			t.Errorf("the writer: %d %s", code, p.err.String())
		}
	})
	if st, err := os.Stat(s.there("large")); err != nil || st.Size() != 4<<20 {
		t.Errorf("on the node: %v %v", st, err)
	}
}

// keptOnDisk is how much is in the files of a process that have no name.
func keptOnDisk(t *testing.T, pid int) (n int64) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		to, err := os.Readlink(f)
		if err == nil && strings.HasSuffix(to, " (deleted)") {
			if st, err := os.Stat(f); err == nil {
				n += st.Size()
			}
		}
	}
	return n
}

// TestSyslog: what happens after the mount has left the terminal is told to syslog. The one that
// hears it is ours, in a mount namespace.
func TestSyslog(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("only root can put a syslog in the place of this machine's")
		return
	}
	s := newStage(t, 0)
	run := filepath.Join(s.dir, "system")
	if err := os.Mkdir(run, 0o755); err != nil {
		t.Fatal(err)
	}
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(run, "log"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	heard := make(chan string, 1)
	go func() {
		defer close(heard)
		line := make([]byte, 4096)
		for {
			n, err := log.Read(line)
			if err != nil {
				return
			}
			if text := string(line[:n]); strings.Contains(text, "connecting again") {
				heard <- text
				return
			}
		}
	}()
	program := filepath.Join(s.dir, "bundlefs")
	if out, err := exec.Command("cp", fmt.Sprintf("/proc/%d/exe", os.Getpid()), program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.must("unshare", "-m", "sh", "-c", testnode.DetachFUSE+`set -e
if [ -e /dev/log ]; then mount --bind "$1/log" "$(readlink -f /dev/log)"; else mount --bind "$1" "$(readlink -f /var/run)"; fi
"$2" "h:$3" "$4" -o "ssh_command=$5,dir_cache=no"
kill -9 $(cat "$6/pids")
until cat "$4/file" >/dev/null 2>&1; do sleep 0.1; done
"$2" unmount "$4"
`, "sh", run, program, s.data, s.mountpoint, s.program, s.dir)
	log.SetReadDeadline(time.Now().Add(30 * time.Second))
	if text := <-heard; !strings.Contains(text, "bundlefs[") || !strings.Contains(text, "level=WARN") || strings.Contains(text, "time=") {
		t.Errorf("heard %q", text)
	}
}
