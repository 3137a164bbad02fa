package fs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"bundlefs/internal/mountpoint"
)

// MostRequest is the data of one request of the kernel, in bytes: as much as it
// takes without being tuned.
const MostRequest = 1 << 20

// kernelOptions are the options of a mount as the kernel and fusermount3 take them.
type kernelOptions struct {
	source, subtype string
	allowOther      bool
	maxRead         int      // bytes
	words           []string // "ro", "noexec", "default_permissions" …
}

// mountKernel makes a mount and returns the descriptor on which the kernel asks.
// Root does it directly; others by fusermount3, which is setuid.
func mountKernel(dir string, o kernelOptions) (fd int, err error) {
	words := append([]string(nil), o.words...)
	if o.allowOther {
		words = append(words, "allow_other")
	}
	words = append(words, fmt.Sprintf("max_read=%d", o.maxRead))
	if os.Geteuid() == 0 {
		return mountDirectly(dir, o, words)
	}
	return mountByHelper(dir, append(words, "fsname="+o.source, "subtype="+o.subtype))
}

// mountFlags are the words that mount(2) takes as flags; what is cleared comes second.
var mountFlags = map[string][2]uintptr{
	"ro":          {unix.MS_RDONLY, 0},
	"rw":          {0, unix.MS_RDONLY},
	"nosuid":      {unix.MS_NOSUID, 0},
	"suid":        {0, unix.MS_NOSUID},
	"nodev":       {unix.MS_NODEV, 0},
	"dev":         {0, unix.MS_NODEV},
	"noexec":      {unix.MS_NOEXEC, 0},
	"exec":        {0, unix.MS_NOEXEC},
	"sync":        {unix.MS_SYNCHRONOUS, 0},
	"async":       {0, unix.MS_SYNCHRONOUS},
	"dirsync":     {unix.MS_DIRSYNC, 0},
	"noatime":     {unix.MS_NOATIME, 0},
	"atime":       {0, unix.MS_NOATIME},
	"nodiratime":  {unix.MS_NODIRATIME, 0},
	"diratime":    {0, unix.MS_NODIRATIME},
	"relatime":    {unix.MS_RELATIME, 0},
	"norelatime":  {0, unix.MS_RELATIME},
	"strictatime": {unix.MS_STRICTATIME, 0},
}

func mountDirectly(dir string, o kernelOptions, words []string) (fd int, err error) {
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	var data []string
	for _, w := range words {
		if f, ok := mountFlags[w]; ok {
			flags = flags&^f[1] | f[0]
		} else {
			data = append(data, w)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return -1, err
	}
	fd, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, NoFUSE(fmt.Errorf("open /dev/fuse: %w", err))
	}
	data = append(data, fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d",
		fd, st.Mode&unix.S_IFMT, os.Geteuid(), os.Getegid()))
	if err := unix.Mount(o.source, dir, "fuse."+o.subtype, flags, strings.Join(data, ",")); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%w: the kernel does not take the options %s", err, strings.Join(words, ","))
		}
		return -1, refusedMount(err)
	}
	return fd, nil
}

// mountByHelper has fusermount3 mount, and gets the descriptor from it.
func mountByHelper(dir string, words []string) (fd int, err error) {
	program, err := mountpoint.Fusermount()
	if err != nil {
		return -1, NoFUSE(fmt.Errorf("%w: install fuse3", err))
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "fusermount3")
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`)
	for i, w := range words {
		words[i] = escape.Replace(w)
	}
	cmd := exec.Command(program, "-o", strings.Join(words, ","), "--", dir)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Dir = "/"
	var said bytes.Buffer
	cmd.Stderr = &said
	err = cmd.Run()
	theirs.Close()
	if err != nil {
		if s := strings.TrimSpace(said.String()); s != "" {
			err = refusedByHelper(s)
		}
		return -1, err
	}
	return receive(pair[0])
}

// receive takes the one descriptor that was sent over a socket.
func receive(socket int) (fd int, err error) {
	data, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, data, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("descriptor of the mount: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("descriptor of the mount: fusermount3 sent %d messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("descriptor of the mount: fusermount3 sent %d, %v", len(fds), err)
	}
	return fds[0], nil
}
