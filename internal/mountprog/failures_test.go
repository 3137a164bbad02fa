package mountprog

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"bundlefs/internal/proc"
	"bundlefs/internal/testnode"
)

// refusal is how a mount must not come to be.
type refusal struct {
	args  []string
	stdin string // what comes there; "" is /dev/null
	code  int    // 0 is ExitFailed
	out   string // on standard output
	cause string // part of it
	hint  string // part of it
}

// refused runs the program, and demands the exit code, a line of cause, a line of advice, and
// that nothing is left.
func (b *bench) refused(name string, r refusal) {
	b.t.Helper()
	p := &process{b: b, cmd: b.command("bundlefs", r.args...)}
	b.refusedBy(name, p, r)
}

func (b *bench) refusedBy(name string, p *process, r refusal) {
	b.t.Helper()
	mark, tmp := "BUNDLEFS_TEST="+filepath.Base(b.dir), filepath.Join(b.dir, "tmp")
	p.cmd.Env = append(p.cmd.Env, mark, "TMPDIR="+tmp)
	if r.stdin != "" {
		p.cmd.Stdin = strings.NewReader(r.stdin)
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	if err := p.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	code := p.wait()
	if r.code == 0 {
		r.code = ExitFailed
	}
	lines := strings.Split(p.err.String(), "\n")
	switch {
	case code != r.code, p.out.String() != r.out, len(lines) != 3,
		!strings.HasPrefix(lines[0], "bundlefs: ") || !strings.Contains(lines[0], r.cause),
		!strings.HasPrefix(lines[1], "bundlefs: hint: ") || !strings.Contains(lines[1], r.hint):
		b.t.Errorf("%s: exit code %d, want %d: printed %q and\n%swant …%s… and the hint …%s…", name, code, r.code, p.out.String(), p.err.String(), r.cause, r.hint)
	}
	if b.run("test", "-d", b.mountpoint).code == 0 {
		b.clean()
	}
	if left := proc.Marked(mark); len(left) > 0 {
		b.t.Errorf("%s: processes left: %v", name, left)
	}
	for _, pattern := range []string{"tmp/*", "cache/bundlefs/*", "spools/bundlefs/*"} {
		if left, _ := filepath.Glob(filepath.Join(b.dir, pattern)); len(left) > 0 {
			b.t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

// file writes a file of the user, and returns its name.
func (b *bench) file(name, text string) string {
	b.t.Helper()
	name = filepath.Join(b.dir, name)
	if err := errors.Join(os.WriteFile(name, []byte(text), 0o600), os.Chown(name, b.uid, -1)); err != nil {
		b.t.Fatal(err)
	}
	return name
}

func TestRefusedOptions(t *testing.T) {
	b := newUser(t, os.Getuid())
	b.file("config", "Host h\n Port many\n")
	b.file("proxy", "ProxyCommand nc %h %p\n")
	b.file("malformed", "root 0\n")
	b.file("writable", "root:0\n")
	if err := os.Chmod(filepath.Join(b.dir, "writable"), 0o666); err != nil {
		t.Fatal(err)
	}
	with := func(o ...string) []string { return append([]string{"h:", b.mountpoint, "-F", "none"}, o...) }
	for name, r := range map[string]refusal{
		"unknown flag":        {args: with("-x"), code: ExitUsage, cause: "'x' in -x", hint: "bundlefs -h"},
		"ssh's flag":          {args: with("-4"), code: ExitUsage, cause: "'4' in -4", hint: "AddressFamily=inet"},
		"ssh's other flag":    {args: with("-6"), code: ExitUsage, cause: "'6' in -6", hint: "AddressFamily=inet6"},
		"unknown option":      {args: with("-o", "magic"), code: ExitUsage, cause: `unknown option "magic"`, hint: "lists the options"},
		"no value":            {args: with("-o", "uidfile"), code: ExitUsage, cause: "uidfile: it needs a value", hint: "uidfile=FILE"},
		"empty value":         {args: with("-o", "fsname="), code: ExitUsage, cause: "fsname=: it needs a value", hint: "fsname=NAME"},
		"value too much":      {args: with("-o", "ro=1"), code: ExitUsage, cause: "ro=1: it takes no value", hint: "write it as ro;"},
		"out of range":        {args: with("-o", "max_conns=65"), code: ExitUsage, cause: `"65" is not a number from 1 to 64`, hint: "max_conns=N"},
		"not a time":          {args: with("-o", "timeout=soon"), code: ExitUsage, cause: `"soon" is not a number of seconds`, hint: "timeout=SECONDS"},
		"not a mask":          {args: with("-o", "umask=9"), code: ExitUsage, cause: "umask=9", hint: "umask=MASK"},
		"a user's name":       {args: with("-o", "uid=root"), code: ExitUsage, cause: `"root" is not a numeric id`, hint: "id -u root"},
		"a group's name":      {args: with("-o", "gid=root"), code: ExitUsage, cause: `"root" is not a numeric id`, hint: "getent group root"},
		"not a size":          {args: with("-o", "spool_max=1G"), code: ExitUsage, cause: "spool_max=1G", hint: "spool_max=BYTES"},
		"a bad port":          {args: with("-p", "ssh"), code: ExitUsage, cause: `-p: "ssh"`, hint: "-p PORT"},
		"a bad command":       {args: with("-o", "ssh_command=ssh '"), code: ExitUsage, cause: "split it into words", hint: "ssh_command=COMMAND"},
		"a value of ssh":      {args: with("-o", "Port=x"), code: ExitUsage, cause: `Port=x: "x"`, hint: "bundlefs -h"},
		"a word of ssh":       {args: with("-o", "ProxyCommand=x"), code: ExitUsage, cause: "ProxyCommand=x", hint: "ssh_command=ssh"},
		"two ways":            {args: with("-o", "passive,directport=1"), code: ExitUsage, cause: "exclude each other", hint: "all but one"},
		"no map":              {args: with("-o", "idmap=file"), code: ExitUsage, cause: "needs a file", hint: "uidfile=FILE"},
		"no token":            {args: with("-o", "nomount"), code: ExitUsage, cause: "exclusive mode only", hint: "exclusive=TOKEN"},
		"follow exclusively":  {args: with("-o", "exclusive=t,follow_symlinks"), code: ExitUsage, cause: "a link is a link", hint: "leave follow_symlinks out"},
		"no host":             {args: []string{":d", b.mountpoint}, code: ExitUsage, cause: "the host is empty", hint: "[user@]host:[dir]"},
		"host like an option": {args: []string{"--", "-oProxyCommand=x:", b.mountpoint}, code: ExitUsage, cause: "must not begin with '-'", hint: "[user@]host:[dir]"},
		"bare IPv6":           {args: []string{"::1:", b.mountpoint}, code: ExitUsage, cause: "must be in brackets", hint: "[user@]host:[dir]"},
		"no mount point":      {args: []string{"h:"}, code: ExitUsage, cause: "the mount point is missing", hint: "bundlefs -h"},
		"no source":           {args: nil, code: ExitUsage, cause: "what to mount", hint: "bundlefs -h"},

		"no uidfile":          {args: with("-o", "idmap=file,uidfile=missing"), cause: filepath.Join(b.dir, "missing"), hint: "NAME:NUMBER"},
		"no gidfile":          {args: with("-o", "idmap=file,gidfile=missing"), cause: filepath.Join(b.dir, "missing"), hint: "NAME:NUMBER"},
		"malformed uidfile":   {args: with("-o", "idmap=file,uidfile=malformed"), cause: "malformed:1: \"root 0\" has no ':'", hint: "NAME:NUMBER"},
		"everybody's file":    {args: with("-o", "idmap=file,uidfile=writable"), cause: "written by others", hint: "chmod go-w"},
		"uidfile is a folder": {args: with("-o", "idmap=file,uidfile=m"), cause: "is a directory", hint: "text file"},
		"no such user":        {args: with("-o", "setuid=nosuchuser"), cause: "nosuchuser", hint: "name a user"},
		"no place for a log":  {args: with("-o", "logfile=missing/log"), cause: "missing/log", hint: "-o logfile=FILE"},
		"no config":           {args: []string{"h:", b.mountpoint, "-F", "missing"}, cause: filepath.Join(b.dir, "missing") + ": cannot read it", hint: "mend " + filepath.Join(b.dir, "missing")},
		"bad config":          {args: []string{"h:", b.mountpoint, "-F", "config"}, cause: "config:2: Port", hint: "mend " + filepath.Join(b.dir, "config:2")},
		"ProxyCommand":        {args: []string{"h:", b.mountpoint, "-F", "proxy"}, cause: "proxy:1: ProxyCommand", hint: "-o ssh_command=ssh"},
		"bad word":            {args: with("-o", "Ciphers=rot13"), cause: "Ciphers", hint: "man ssh_config"},
		"bad jump":            {args: with("-o", "ProxyJump=a:b"), cause: "malformed port", hint: "[user@]host[:port]"},
		"no password":         {args: with("-o", "password_stdin"), cause: "standard input has no password", hint: "first line"},
		"password too long":   {args: with("-o", "password_stdin"), stdin: strings.Repeat("x", maxPassword+1), cause: "longer than 4096", hint: "first line"},
		"no token comes":      {args: with("-o", "exclusive=-"), cause: "standard input has no token", hint: "first line"},
		"token too long":      {args: with("-o", "exclusive=-"), stdin: strings.Repeat("x", maxToken+1), cause: "longer than 4096", hint: "first line"},
	} {
		b.refused(name, r)
	}
}

func TestRefusedMountPoints(t *testing.T) {
	uids := []int{os.Getuid()}
	if os.Getuid() == 0 {
		uids = append(uids, nobody)
	}
	for _, uid := range uids {
		b := newUser(t, uid)
		b.file("file", "")
		b.file("m/used", "")
		if err := errors.Join(os.Symlink("loop", filepath.Join(b.dir, "loop")), os.Mkdir(filepath.Join(b.dir, "theirs"), 0o755), os.Chmod(filepath.Join(b.dir, "theirs"), 0o555)); err != nil {
			t.Fatal(err)
		}
		tests := map[string]refusal{
			"missing":         {args: []string{"h:", "missing"}, cause: filepath.Join(b.dir, "missing") + " does not exist", hint: "mkdir -p " + filepath.Join(b.dir, "missing")},
			"parent missing":  {args: []string{"h:", "missing/m"}, cause: "missing/m", hint: "mkdir -p"},
			"below a file":    {args: []string{"h:", "file/m"}, cause: "file/m: ", hint: "choose a folder"},
			"a loop":          {args: []string{"h:", "loop"}, cause: "loop", hint: "choose a folder"},
			"a file":          {args: []string{"h:", "file"}, cause: "is not a folder", hint: "choose a folder"},
			"not empty":       {args: []string{"h:", "m"}, cause: `it has "used"`, hint: "-o nonempty"},
			"a mount already": {args: []string{"h:", "/proc"}, cause: "/proc is a mount point already: proc of type proc", hint: "unmount it first"},
		}
		if uid != 0 {
			tests["not ours"] = refusal{args: []string{"h:", "theirs"}, cause: "we may not write to it", hint: "a folder of yours"}
			tests["sticky"] = refusal{args: []string{"h:", "/tmp"}, cause: "sticky", hint: "a folder of yours"}
			tests["not root"] = refusal{args: []string{"h:", "m", "-o", "setuid=root"}, cause: "only root can mount as root", hint: "mount as root"}
		}
		for name, r := range tests {
			b.refused(name, r)
		}
	}
}

// TestRefusedConnections goes through what can be wrong between here and the node.
func TestRefusedConnections(t *testing.T) {
	b := newBench(t, os.Getuid())
	ordinary := testnode.Start(t, testnode.AsUser())
	forced := testnode.Start(t, testnode.WithConfig("ForceCommand echo this account is not for SFTP"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	silent, accepted := deaf(t)
	drained := make(chan struct{})
	t.Cleanup(func() { close(drained) })
	go func() {
		for {
			select {
			case <-accepted:
			case <-drained:
				return
			}
		}
	}()
	home := b.node.Home
	for name, text := range map[string]string{"file": "", ".conc-owner.json": `{"token":"theirs"}`} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(home, "nobodys"), 0o755), os.Mkdir(filepath.Join(ordinary.Home, "closed"), 0)); err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(b.node.Port)
	otherKey := filepath.Join(b.dir, "other")
	locked := filepath.Join(b.dir, "locked")
	for file, passphrase := range map[string]string{otherKey: "", locked: "secret"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-a", "1", "-N", passphrase, "-f", file).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	known := b.own(b.node.KnownHosts)
	f := strings.Fields(readString(t, known))
	b.file("revoked", f[1]+" "+f[2]+"\n")
	b.file("changed", f[0]+" "+readString(t, otherKey+".pub"))
	b.file("empty", "")
	b.file("krl", "SSHKRL\n\x00")
	// With a key that is not the node's; the options of args come later, and lose.
	bare := func(o ...string) []string {
		return append([]string{b.source(""), b.mountpoint, "-F", "none", "-p", port}, o...)
	}
	keyed := func(known string, o ...string) []string {
		return bare(append([]string{"-o", "IdentityFile=" + b.target.IdentityFile + ",UserKnownHostsFile=" + known + ",GlobalKnownHostsFile=none,IdentityAgent=none"}, o...)...)
	}
	tests := map[string]refusal{
		"refused":           {args: b.args("", "-p", closed), cause: "connection refused", hint: "nothing listens on port " + closed},
		"unresolvable":      {args: []string{"nowhere.invalid:", b.mountpoint, "-F", "none"}, cause: "nowhere.invalid:22: host name not found", hint: "spelled right"},
		"silence":           {args: b.args("", "-p", silent, "-o", "ConnectTimeout=1"), cause: "no answer in time", hint: "ConnectTimeout"},
		"jump refused":      {args: b.args("", "-o", "ProxyJump=127.0.0.1:"+closed), cause: "127.0.0.1:" + closed, hint: "nothing listens on port " + closed},
		"BindAddress":       {args: b.args("", "-o", "BindAddress=192.0.2.1"), cause: "192.0.2.1 is no address of this machine", hint: "ip address"},
		"unknown host":      {args: keyed("empty"), cause: "is not known", hint: "ssh-keyscan"},
		"changed host key":  {args: keyed("changed"), cause: filepath.Join(b.dir, "changed:1"), hint: "ssh-keygen -f " + filepath.Join(b.dir, "changed")},
		"revoked host key":  {args: keyed(known, "-o", "RevokedHostKeys=revoked"), cause: "revoked by " + filepath.Join(b.dir, "revoked:1"), hint: "do not connect"},
		"revoked by a KRL":  {args: keyed(known, "-o", "RevokedHostKeys=krl"), cause: filepath.Join(b.dir, "krl"), hint: "text file"},
		"revoked missing":   {args: keyed(known, "-o", "RevokedHostKeys=missing"), cause: filepath.Join(b.dir, "missing"), hint: "one public key in a line"},
		"known hosts":       {args: keyed("m"), cause: "known hosts", hint: "UserKnownHostsFile"},
		"another's key":     {args: bare("-o", "IdentityFile=other,IdentityAgent=none,UserKnownHostsFile="+known), cause: otherKey, hint: "authorized_keys"},
		"no key":            {args: bare("-o", "IdentityFile=missing,IdentityAgent=none,UserKnownHostsFile="+known), cause: filepath.Join(b.dir, "missing"), hint: "authorized_keys"},
		"no folder":         {args: b.args("not/there"), cause: "not/there on the node: no such file", hint: "no_check_root"},
		"no subdir":         {args: b.args("", "-o", "subdir=not/there"), cause: "not/there on the node: no such file", hint: "no_check_root"},
		"a file":            {args: b.args("file"), cause: "file on the node: not a directory", hint: "single file"},
		"no server":         {args: b.args("", "-o", "sftp_server=/no/such"), cause: "/no/such on 127.0.0.1:" + port + ": it ended at once: exit status 127", hint: "the whole path"},
		"no subsystem":      {args: b.args("", "-o", "sftp_server=nosuch"), cause: "subsystem nosuch", hint: "Subsystem"},
		"no ssh_command":    {args: []string{"h:", b.mountpoint, "-o", "ssh_command=/no/such"}, cause: "/no/such", hint: "try it by hand: /no/such"},
		"ssh_command fails": {args: []string{"h:", b.mountpoint, "-o", "ssh_command=sh -c 'echo why >&2; exit 3'"}, cause: "exit status 3: why", hint: "try it by hand: sh -c"},
		"no SFTP by it":     {args: []string{"h:", b.mountpoint, "-o", "ssh_command=sh -c 'echo Welcome to this machine'"}, cause: "does not speak SFTP", hint: "try it by hand: sh -c"},
		"directport":        {args: []string{"127.0.0.1:", b.mountpoint, "-o", "directport=" + closed}, cause: "connection refused", hint: "at port " + closed},
		"directport to ssh": {args: []string{"127.0.0.1:", b.mountpoint, "-o", "directport=" + port}, cause: "does not speak SFTP", hint: "and not an sshd"},
		"passive":           {args: []string{":", b.mountpoint, "-o", "passive"}, out: "\x00\x00\x00\x05\x01\x00\x00\x00\x03", cause: "closed by the other side", hint: "sftp-server"},
		"another's token":   {args: b.args("", "-o", "exclusive=ours"), cause: "it has another owner", hint: "conc status"},
		"no owner record":   {args: b.args("nobodys", "-o", "exclusive=ours"), cause: "its owner record is gone", hint: "conc status"},
	}
	if b.uid == 0 {
		tests["locked key"] = refusal{args: bare("-o", "IdentityFile=locked,IdentityAgent=none,UserKnownHostsFile="+known), cause: "locked", hint: "ssh-add"}
	}
	for name, r := range tests {
		b.refused(name, r)
	}

	// An ordinary user on the node has a folder that is closed.
	b.on(ordinary)
	b.refused("closed folder", refusal{args: b.args("closed/inside"), cause: "closed/inside on the node: permission denied", hint: "as the user who logs in"})
	b.on(forced)
	b.refused("no SFTP", refusal{args: b.args(""), cause: "this account is not for SFTP", hint: "ForceCommand"})
}

// TestRefusedByMachine takes FUSE away, each time in a mount namespace of its own.
func TestRefusedByMachine(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("only root can take FUSE away; TestCheck looks at the rest")
		return
	}
	b := newUser(t, nobody)
	program := filepath.Join(b.dir, "bundlefs")
	if out, err := exec.Command("cp", "/proc/"+strconv.Itoa(os.Getpid())+"/exe", program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	helper := filepath.Join(b.dir, "mount.bundlefs")
	if err := os.Symlink("bundlefs", helper); err != nil {
		t.Fatal(err)
	}
	dev := filepath.Join(b.dir, "dev")
	asUser := "exec setpriv --reuid " + fmt.Sprint(nobody) + " --regid " + fmt.Sprint(nobody) + ` --clear-groups "$@"`
	const private = testnode.DetachFUSE + "set -e; "
	const noDevice = `mkdir "$0"; for f in null zero urandom tty; do touch "$0/$f"; mount --bind /dev/$f "$0/$f"; done; mount --rbind "$0" /dev; `
	const noHelper = `for f in fusermount3 fusermount; do for p in $(which -a $f); do mount --bind /dev/null "$(readlink -f "$p")"; done; done 2>/dev/null || true; `
	for _, c := range []struct {
		name, script, cause, hint string
	}{
		{"no device", private + noDevice + asUser, "FUSE is missing", "modprobe fuse"},
		{"no device for root", private + noDevice + `exec "$@"`, "FUSE is missing", "modprobe fuse"},
		{"hidden", private + "mount --bind /dev/null /dev/fuse; " + asUser, "FUSE is hidden", "--device /dev/fuse"},
		{"closed", private + `touch "$0.fuse"; chmod 600 "$0.fuse"; mount --bind "$0.fuse" /dev/fuse; ` + asUser, "FUSE is closed to ordinary users", "chmod 0666"},
		{"no fusermount3", private + noHelper + asUser, "fusermount3", "apt-get install fuse3"},
	} {
		p := &process{b: b, cmd: exec.Command("unshare", "-m", "sh", "-c", c.script, dev, program, "h:", b.mountpoint, "-F", "none")}
		p.cmd.Env, p.cmd.Dir = b.env, b.dir
		b.refusedBy(c.name, p, refusal{code: ExitNoFUSE, cause: c.cause, hint: c.hint})
		p = &process{b: b, cmd: exec.Command("unshare", "-m", "sh", "-c", c.script, dev+"8", helper, "h:", b.mountpoint, "-o", "rw")}
		p.cmd.Env, p.cmd.Dir = b.env, b.dir
		b.refusedBy(c.name+" by mount(8)", p, refusal{code: helperFailed, cause: c.cause, hint: c.hint})
		if err := errors.Join(os.RemoveAll(dev), os.RemoveAll(dev+"8")); err != nil {
			t.Fatal(err)
		}
	}
}

// on takes another node.
func (b *bench) on(n *testnode.Node) {
	b.t.Helper()
	b.node, b.target = n, n.Target()
	b.target.IdentityFile = b.own(b.target.IdentityFile)
}

func readString(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
