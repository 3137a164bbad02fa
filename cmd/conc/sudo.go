package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"bundlefs/internal/remote"
)

// maxPassword bounds what is read of a file or descriptor, in bytes.
const maxPassword = 4096

// sudoSource is where passwords of sudo come from.
type sudoSource struct {
	file string // --sudo-password-file; "": none
	fd   int    // --sudo-password-fd; -1: none

	mu   sync.Mutex // guards what follows
	read bool
	kept []byte // what file or descriptor gave, for all nodes
}

func (s *sudoSource) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.file, "sudo-password-file", "", "take the sudo password from the first line of `FILE`, which only its owner may read")
	cmd.Flags().IntVar(&s.fd, "sudo-password-fd", -1, "take the sudo password from the file descriptor `N`")
	cmd.MarkFlagsMutuallyExclusive("sudo-password-file", "sudo-password-fd")
}

// password gives the password for a user on a node, for the caller to wipe.
func (s *sudoSource) password(ctx context.Context, who, node string) ([]byte, error) {
	if s.file == "" && s.fd < 0 {
		if who != "" {
			node = who + " on " + node
		}
		password, err := remote.TerminalSecret(ctx, "conc: sudo password of "+node+": ")
		if err != nil {
			return nil, &hintedError{fmt.Errorf("the sudo password cannot be asked for: %w", err),
				"give it with --sudo-password-file FILE or --sudo-password-fd N; a rule with NOPASSWD in sudoers needs none"}
		}
		return password, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.read {
		var err error
		if s.kept, err = s.take(); err != nil {
			return nil, err
		}
		s.read = true
	}
	return bytes.Clone(s.kept), nil
}

// take reads the file or the descriptor.
func (s *sudoSource) take() ([]byte, error) {
	if s.file == "" {
		f := os.NewFile(uintptr(s.fd), fmt.Sprintf("file descriptor %d", s.fd))
		if f == nil {
			return nil, usagef("", "--sudo-password-fd %d: there is no such descriptor", s.fd)
		}
		defer f.Close()
		return firstLine(f, f.Name())
	}
	f, err := os.Open(s.file)
	if err != nil {
		return nil, usagef("", "--sudo-password-file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, usagef("", "--sudo-password-file: %w", err)
	}
	owner, _ := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return nil, usagef("use --sudo-password-fd for a pipe", "--sudo-password-file %s is no regular file", s.file)
	case info.Mode().Perm()&0o077 != 0:
		return nil, usagef("chmod 600 "+remote.Quote(s.file), "--sudo-password-file %s can be read by others (mode %04o)", s.file, info.Mode().Perm())
	case owner != nil && owner.Uid != 0 && int(owner.Uid) != os.Getuid():
		return nil, usagef("", "--sudo-password-file %s belongs to somebody else", s.file)
	}
	return firstLine(f, s.file)
}

// firstLine reads the line with the password.
func firstLine(r io.Reader, name string) ([]byte, error) {
	buf := make([]byte, maxPassword+1)
	n := 0
	for n < len(buf) && bytes.IndexByte(buf[:n], '\n') < 0 {
		k, err := r.Read(buf[n:])
		n += k
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			clear(buf)
			return nil, usagef("", "read the sudo password: %w", err)
		}
	}
	line, _, _ := bytes.Cut(buf[:n], []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 || len(line) > maxPassword {
		clear(buf)
		return nil, usagef("its first line is the password", "%s holds no password", name)
	}
	return line, nil
}

// wipe forgets what was read.
func (s *sudoSource) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.kept)
}
