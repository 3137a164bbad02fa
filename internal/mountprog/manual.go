package mountprog

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Manual is the manual page bundlefs(1) in Markdown, as go-md2man takes it. It is made from the
// same tables as -h and the parser.
func Manual() string {
	var b strings.Builder
	b.WriteString("bundlefs 1 \"\" \"bundlefs\" \"User Commands\"\n=======\n\n" +
		"# NAME\n\nbundlefs, mount.bundlefs - mount a folder of another machine over SSH\n\n" +
		"# SYNOPSIS\n\n**bundlefs** [*user*@]*host*:[*dir*] *mountpoint* [**-o** *option*,…] [**-p** *port*] [**-F** *config*] [**-f**] [**-d**]\n")
	for _, a := range asks {
		more := ""
		switch a.name {
		case "discard":
			more = " *path* …"
		case "retry":
			more = " [*path* …]"
		}
		fmt.Fprintf(&b, "\n**bundlefs** **%s** *mountpoint*%s [**--json**]\n", a.name, more)
	}
	b.WriteString(`
**mount** **-t** **bundlefs** [*user*@]*host*:[*dir*] *mountpoint* [**-o** *option*,…]

# DESCRIPTION

bundlefs mounts a folder of a machine that has an OpenSSH server, and nothing else, on a folder of this one. It takes the options of
sshfs(1), with their meaning. It returns when the mount can be used; when that fails it prints the cause and, where it is known, what
to do, and ends with a code that is not 0. An IPv6 address is written in brackets. Without *dir* it is the home folder.

In *shared mode*, the default, others may write in the folder at the same time: names and attributes are believed for a second, a file is
looked at anew when it is opened, and **close**(2) returns when what was written is on the other machine. In *exclusive mode* (**-o**
**exclusive**) the mount is the only writer: nothing is asked twice and changes are sent behind.

When the link is lost it is made again, and open files go on working. Requests wait for it as long as **-o** **timeout** says. A server that owes
an answer for **ServerAliveInterval** times **ServerAliveCountMax** seconds (45), whatever its sshd says, counts as lost, too (an fsync may take
ten times as long). The mount does not end for it, unless with **passive**, where there is no way back; **umount**(8) and **fusermount3 -u** always end it. While it is mounted, nothing can be written into the folder underneath.

The key of the host is always checked. An unknown one is asked about on the terminal, or by the program of **SSH_ASKPASS** as ssh(1) has
it, and refused where nobody can be asked.

# COMMANDS

`)
	for _, a := range asks {
		fmt.Fprintf(&b, "**%s**\n: %s.\n\n", a.name, sentence(a.help))
	}
	b.WriteString("# FLAGS\n\n")
	f, _, _, _, _ := flags()
	f.VisitAll(func(fl *pflag.Flag) {
		if fl.Hidden {
			return
		}
		name, text := pflag.UnquoteUsage(fl)
		head := "**--" + fl.Name + "**"
		if fl.Shorthand != "" {
			head = "**-" + fl.Shorthand + "**, " + head
		}
		if name != "" && fl.Value.Type() != "bool" {
			head += " *" + strings.ToLower(name) + "*"
		}
		fmt.Fprintf(&b, "%s\n: %s.\n\n", head, sentence(text))
	})
	b.WriteString("# OPTIONS\n\nSeveral are separated by commas; **\\\\,** is a comma within a value.\n\n")
	for _, group := range groups {
		fmt.Fprintf(&b, "## %s\n\n", group)
		for _, o := range options {
			if o.group != group {
				continue
			}
			head := "**" + o.name + "**"
			if o.arg != "" {
				head += "=*" + escape(o.arg) + "*"
			}
			if len(o.also) > 0 {
				head += " (" + escape(strings.Join(o.also, ", ")) + ")"
			}
			fmt.Fprintf(&b, "%s\n: %s.\n\n", head, sentence(o.help))
		}
	}
	fmt.Fprintf(&b, "## Words of ssh_config\n\nAs **WORD**=*VALUE*, in any case: %s.\n\n", strings.Join(sshWords, ", "))
	fmt.Fprintf(&b, "These have no effect: %s.\n\n", strings.Join(sshIgnored, ", "))
	fmt.Fprintf(&b, "These only **ssh_command** knows: %s.\n\n", strings.Join(sshOthers, ", "))
	b.WriteString(`The files ~/.ssh/config and /etc/ssh/ssh_config are read, too. What they say that is not obeyed and may change the connection, as
CertificateFile, PKCS11Provider, KnownHostsCommand or a Match block with **exec**, is told when it mounts. ProxyCommand is an error, since the connection
would go elsewhere without it. RevokedHostKeys has to be a text file with one public key in a line; a file that cannot be read, or is a KRL, lets no host pass.
Names of files that are relative begin in the folder where bundlefs is started. There are no flags **-4** and **-6**: AddressFamily does it.

# MOUNTING FROM /ETC/FSTAB

	deploy@node1:data  /mnt/data  bundlefs  _netdev,allow_other,default_permissions,IdentityFile=/root/.ssh/id_ed25519  0  0
	me@node1:          /home/me/n bundlefs  noauto,user,x-systemd.automount  0  0

**setuid**=*USER* has root mount as that user, with the user's keys and files in ~/.ssh. The type can be **fuse.bundlefs**, too.

# EXIT STATUS

0: it is mounted, or was done. 1: it could not be done, and the cause was printed. 2: the arguments are wrong, and nothing was tried. 130: a signal
came before the mount was ready. 3: this machine does not let us mount by FUSE. **mount.bundlefs** has the codes of mount(8): 1 for wrong arguments, 8 for a
signal, 32 for all else.

# ENVIRONMENT

**SSH_AUTH_SOCK**, **SSH_ASKPASS**, **SSH_ASKPASS_REQUIRE**, **DISPLAY** as in ssh(1). **XDG_STATE_HOME**: where exclusive mode keeps
what is not sent yet, in ~/.local/state without it. **GOMEMLIMIT**: a limit for memory in place of the one that bundlefs sets itself. **GOMAXPROCS**: how many processors may be used at a time, in place of half of those there are.

# SEE ALSO

sshfs(1), ssh_config(5), mount(8), fusermount3(1)
`)
	return b.String()
}

// sentence begins with a capital letter and means nothing special in Markdown.
func sentence(s string) string {
	s = strings.ReplaceAll(s, "`", "")
	return escape(strings.ToUpper(s[:1]) + s[1:])
}

func escape(s string) string {
	return strings.NewReplacer("_", `\_`, "*", `\*`, "[", `\[`, "]", `\]`, "|", `\|`, "~", `\~`).Replace(s)
}
