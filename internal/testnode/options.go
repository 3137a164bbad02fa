package testnode

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Option changes how [Start] sets a node up.
type Option func(*options)

type options struct {
	ordinary bool     // the login user is not root
	without  []string // PATH on the node finds no program whose name begins with one of these
	sudoers  string   // what /etc/sudoers on the node holds; "": the machine's own
	home     string   // given home folder; "" makes one
	config   []string // additional lines of sshd_config
	sftpArgs []string // arguments of sftp-server
}

// AsUser makes the login user an ordinary one, even when the tests run as root. It owns its
// home and nothing else.
func AsUser() Option { return func(o *options) { o.ordinary = true } }

// WithoutPython gives the node a PATH that finds everything the machine has but python. It can
// still be started by its absolute path.
func WithoutPython() Option {
	return func(o *options) { o.without = append(o.without, "python", "pypy") }
}

// WithoutSudo gives the node a PATH that finds no sudo.
func WithoutSudo() Option { return func(o *options) { o.without = append(o.without, "sudo") } }

// SudoPassword is that of the login user of [WithSudo].
const SudoPassword = "correct horse: \u00fcnd $x '\""

// sudoHash is SudoPassword as crypt(3) has it.
const sudoHash = "$6$efrvWAq6saQXIRMD$pn2Wie58roevH1Xiq7GaCjqJeb1aLpEjCADiygc.UnKui.peu8QyNn.eIxr8BCRzC0mOPkXohzhZiBGY6SOxJ1"

// WithSudo makes the login user an ordinary one who has [SudoPassword] and the rules, lines of
// sudoers in which USER is the user; no others hold. It needs tests that run as root.
func WithSudo(rules ...string) Option {
	return func(o *options) {
		o.ordinary = true
		o.sudoers = strings.ReplaceAll(strings.Join(rules, "\n")+"\n", "USER", ordinaryUser)
	}
}

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

// pathWithout fills a folder with links to every program of the machine but those whose names begin with a prefix.
func pathWithout(dir string, prefixes []string) error {
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
			if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(e.Name(), p) }) {
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
