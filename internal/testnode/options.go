package testnode

import (
	"os"
	"path/filepath"
	"strings"
)

// Option changes how [Start] sets a node up.
type Option func(*options)

type options struct {
	ordinary bool     // the login user is not root
	noPython bool     // PATH on the node finds no python
	home     string   // given home folder; "" makes one
	config   []string // additional lines of sshd_config
	sftpArgs []string // arguments of sftp-server
}

// AsUser makes the login user an ordinary one, even when the tests run as root. It owns its
// home and nothing else.
func AsUser() Option { return func(o *options) { o.ordinary = true } }

// WithoutPython gives the node a PATH that finds everything the machine has but python. It can
// still be started by its absolute path.
func WithoutPython() Option { return func(o *options) { o.noPython = true } }

// WithHome makes dir the home folder, for example a small file system that can fill up and was
// mounted before. It must exist and be reachable by the login user, which t.TempDir is only for
// the user who runs the tests; it is given to the login user, and not removed.
func WithHome(dir string) Option { return func(o *options) { o.home = dir } }

// WithConfig adds lines to sshd_config. They come first, so they win over the node's own. SetEnv
// is the node's own: sshd takes only the first such line.
func WithConfig(lines ...string) Option {
	return func(o *options) { o.config = append(o.config, lines...) }
}

// WithSFTPServer gives arguments to sftp-server: "-R" for a read-only one, for example.
func WithSFTPServer(args ...string) Option {
	return func(o *options) { o.sftpArgs = append(o.sftpArgs, args...) }
}

// pathWithoutPython fills a folder with links to every program of the machine but python.
func pathWithoutPython(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, from := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		entries, err := os.ReadDir(from)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "python") || strings.HasPrefix(e.Name(), "pypy") {
				continue
			}
			// The first folder of the machine's PATH wins, as it does there.
			err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name()))
			if err != nil && !os.IsExist(err) {
				return err
			}
		}
	}
	return nil
}
