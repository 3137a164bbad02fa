// Package remote speaks SSH to a node: it connects, checks the host key, logs
// in, opens SFTP sessions and runs commands, all over one connection.
//
//	c, err := remote.Dial(ctx, remote.Target{Host: "node1"}, remote.Options{Prompt: remote.TerminalPrompter()})
//	…
//	defer c.Close()
//	files, err := c.SFTP(ctx)
//	p, err := c.Start(ctx, remote.Quote("ls", "-l", dir), nil, os.Stdout, os.Stderr)
//	status, err := p.Wait()
//
// # Host keys
//
// The host key is always checked against known_hosts, on every hop, and there is
// no way to switch that off. A host that is not known is asked about where there
// is a Prompter and StrictHostKeyChecking is ask (the default); accept-new
// adds it without asking; otherwise it is refused. StrictHostKeyChecking no and
// off mean accept-new here: a key that changed is refused in any case, and so is
// a key of another type than those known for the host, a revoked key, and a
// certificate that does not hold. Of the types a server has it is made to show a known one.
//
// # Logging in
//
// Keys are tried in this order: those named by the target and by IdentityFile,
// out of ssh-agent where it has them; the other keys of ssh-agent, unless
// IdentitiesOnly is set; the default files ~/.ssh/id_ed25519, id_ecdsa and
// id_rsa, when no file is named. Then keyboard-interactive and password, where
// somebody can be asked. A passphrase is asked for only when the node would take
// the key, as far as that can be known before. Secrets are not kept, and are not
// written to errors or logs; a Go string cannot be wiped, so an answer stays in
// memory until the collector takes it.
//
// # ssh_config
//
// Read are: AddressFamily, BatchMode, BindAddress, Ciphers, ConnectTimeout (15 s by default, for the
// connection and all up to the end of the login, without the time that somebody is asked),
// GlobalKnownHostsFile, HashKnownHosts, Host, HostKeyAlgorithms, HostKeyAlias, HostName,
// IdentitiesOnly, IdentityAgent, IdentityFile, Include, KbdInteractiveAuthentication, KexAlgorithms,
// MACs, Match (all, host, originalhost, user, localuser), NumberOfPasswordPrompts,
// PasswordAuthentication, Port, PreferredAuthentications (without their order), ProxyJump,
// PubkeyAuthentication, RevokedHostKeys (a text file, not a KRL), ServerAliveCountMax (3),
// ServerAliveInterval (15 s; 0 sends none), StrictHostKeyChecking, User, UserKnownHostsFile. Other
// words are ignored; [Notes] tells of those that may have changed the connection, as CertificateFile.
// ProxyCommand is an error: without it the connection would go elsewhere. A Match block with
// another criterion, above all exec, is left out, and Notes tells. The home folder is $HOME. As with
// ssh, the options of the target are not for its jump hosts, which have their own in the file.
//
// # One connection for several processes
//
// A process can lend its connection to others of the same machine ([Share]), as OpenSSH does with
// ControlMaster. They get a [Client] of a local socket ([Over]), and what they do is done in
// sessions on the node: data, errors, signals, sizes of terminals and exit codes are passed on. How the
// socket is found, and who may use it, is the caller's matter.
//
// # Limitations
//
// No GSSAPI, host-based login, security keys outside of ssh-agent, user
// certificates outside of ssh-agent, or sharing of connections with OpenSSH's ControlMaster.
// OpenSSH passes signals on only to commands of users other than root, and not to
// forced commands: a command that must end with its session has to watch its
// standard input, which ends then.
package remote
