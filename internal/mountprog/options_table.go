package mountprog

// The groups of options, in the order of the help and the manual.
const (
	groupLink   = "Connection"
	groupServer = "Ways to the server"
	groupMount  = "The mount"
	groupOwners = "Owners and permissions"
	groupLinks  = "Links"
	groupCache  = "Caches"
	groupData   = "Reading and writing"
	groupExcl   = "Exclusive mode"
	groupLog    = "Log"
	groupNone   = "Accepted, without effect"
)

var groups = []string{groupLink, groupServer, groupMount, groupOwners, groupLinks, groupCache, groupData, groupExcl, groupLog, groupNone}

// option is one word of -o. The table of all is what -h, the manual and the parser are made from.
type option struct {
	name  string // accepted in this case only, ssh_config words in any
	arg   string // what its value is called; "" for an option without one
	group string
	help  string // one sentence or two, without a full stop at the end
	set   func(m *mountConfig, value string) error
	also  []string // other names, as older versions of sshfs have
}

// options are all words of -o but the ssh_config words.
var options = []option{
	{"port", "PORT", groupLink, "the port of the node's sshd", (*mountConfig).setPort, nil},
	{"reconnect", "", groupLink, "connect again when the link was lost; it is always done", ignore, nil},
	{"delay_connect", "", groupLink, "mount at once, and connect when the mount is first used; nobody can be asked for a password then", on(func(m *mountConfig) *bool { return &m.fs.DelayConnect }), nil},
	{"max_conns", "N", groupLink, "SFTP sessions to use at once, 1 to 64 (4); with ssh_command or directport the number of connections (1)", func(m *mountConfig, v string) error { return number(&m.sessions, v, 1, 64) }, nil},
	{"timeout", "SECONDS", groupLink, "how long a request waits for a lost link before it fails (30; 0: as long as it takes)", func(m *mountConfig, v string) error { return seconds(&m.timeout, v) }, nil},
	{"no_check_root", "", groupLink, "mount even if the folder is not there (yet)", on(func(m *mountConfig) *bool { return &m.fs.NoCheckRoot }), nil},
	{"password_stdin", "", groupLink, "read the password from the first line of standard input, as pam_mount gives it", on(func(m *mountConfig) *bool { return &m.passwordStdin }), nil},
	{"compression", "yes|no", groupLink, "compress what is sent; only ssh_command can do that", (*mountConfig).setCompression, nil},

	{"sftp_server", "SERVER", groupServer, "the subsystem to use in place of sftp, or with a slash in it, the command to run on the node", func(m *mountConfig, v string) error { m.sftpServer = v; return nonEmpty(v) }, nil},
	{"ssh_command", "COMMAND", groupServer, "have the OpenSSH client, or another program, make the connection. It is split into words as by a shell, and started without one. All words of ssh_config can be given then", (*mountConfig).setSSHCommand, nil},
	{"ssh_protocol", "N", groupServer, "2 is the only version there is", sshProtocol, nil},
	{"directport", "PORT", groupServer, "connect to an SFTP server at this port, without SSH: nothing is encrypted and nobody logs in", func(m *mountConfig, v string) error { return number(&m.directPort, v, 1, 65535) }, nil},
	{"passive", "", groupServer, "speak SFTP on standard input and output; the host may be left out. Stays in the foreground, and ends when standard input does", on(func(m *mountConfig) *bool { return &m.passive }), []string{"slave"}},

	{"ro", "", groupMount, "mount read-only", on(func(m *mountConfig) *bool { return &m.readOnly }), nil},
	{"rw", "", groupMount, "mount for reading and writing (default)", off(func(m *mountConfig) *bool { return &m.readOnly }), nil},
	{"nonempty", "", groupMount, "mount even on a folder that is not empty", on(func(m *mountConfig) *bool { return &m.nonempty }), nil},
	{"noexec", "", groupMount, "let no program of the mount be started", on(func(m *mountConfig) *bool { return &m.noexec }), nil},
	{"exec", "", groupMount, "let programs of the mount be started (default)", off(func(m *mountConfig) *bool { return &m.noexec }), nil},
	{"fsname", "NAME", groupMount, "the name shown in the table of mounts", func(m *mountConfig, v string) error { m.fsname = v; return nonEmpty(v) }, nil},
	{"subtype", "NAME", groupMount, "the type shown in the table of mounts is fuse.NAME", func(m *mountConfig, v string) error { m.subtype = v; return nonEmpty(v) }, nil},
	{"subdir", "DIR", groupMount, "mount this folder below the one that is named", func(m *mountConfig, v string) error { m.subdir = v; return nonEmpty(v) }, nil},
	{"setuid", "USER", groupMount, "mount as this user; for root, in /etc/fstab", func(m *mountConfig, v string) error { m.setuid = v; return nonEmpty(v) }, nil},

	{"uid", "UID", groupOwners, "show all files as this user's", func(m *mountConfig, v string) error { return id(&m.uid, v, "id -u") }, nil},
	{"gid", "GID", groupOwners, "show all files as this group's", func(m *mountConfig, v string) error { return id(&m.gid, v, "getent group") }, nil},
	{"umask", "MASK", groupOwners, "take these permission bits from what is shown (octal)", func(m *mountConfig, v string) error { return umask(&m.umask, v) }, nil},
	{"idmap", "none|user|file", groupOwners, "how to translate the numbers of users and groups: not at all (the default in shared mode); that of the user on the node into that of who mounts (the default in exclusive mode, where the owner record tells who that is); as uidfile and gidfile say", oneOf(func(m *mountConfig) *string { return &m.fs.IDMap }, "none", "user", "file"), nil},
	{"uidfile", "FILE", groupOwners, "with idmap=file: lines of NAME:UID, a user here and its number on the node", func(m *mountConfig, v string) error { return path(&m.uidFile, v) }, nil},
	{"gidfile", "FILE", groupOwners, "with idmap=file: lines of NAME:GID, a group here and its number on the node", func(m *mountConfig, v string) error { return path(&m.gidFile, v) }, nil},
	{"nomap", "ignore|error", groupOwners, "with idmap=file, what becomes of a number that is not in the files: it stays as it is, or the request fails (default)", oneOf(func(m *mountConfig) *string { return &m.fs.NoMap }, "ignore", "error"), nil},
	{"allow_other", "", groupOwners, "let other users use the mount", on(func(m *mountConfig) *bool { return &m.allowOther }), nil},
	{"allow_root", "", groupOwners, "let root use the mount", on(func(m *mountConfig) *bool { return &m.allowRoot }), nil},
	{"default_permissions", "", groupOwners, "let the kernel check permissions", on(func(m *mountConfig) *bool { return &m.defaultPermissions }), nil},

	{"contain_symlinks", "", groupLinks, "refuse symlinks that lead out of the mount, with EPERM (default): what is absolute, and what goes up further than the link is deep, or after going down", contain(true), nil},
	{"no_contain_symlinks", "", groupLinks, "follow them all, wherever they lead on this machine", contain(false), nil},
	{"follow_symlinks", "", groupLinks, "show what a symlink points to on the node in its place", on(func(m *mountConfig) *bool { return &m.fs.FollowSymlinks }), nil},
	{"transform_symlinks", "", groupLinks, "make absolute targets below the mounted folder relative", on(func(m *mountConfig) *bool { return &m.fs.TransformSymlinks }), nil},
	{"disable_hardlink", "", groupLinks, "let link(2) fail, with ENOSYS; newer kernels make EPERM of it", on(func(m *mountConfig) *bool { return &m.fs.DisableHardlink }), nil},

	{"entry_timeout", "SECONDS", groupCache, "how long the kernel keeps names (1)", func(m *mountConfig, v string) error { return seconds(&m.entryTimeout, v) }, nil},
	{"attr_timeout", "SECONDS", groupCache, "how long the kernel keeps attributes (1)", func(m *mountConfig, v string) error { return seconds(&m.attrTimeout, v) }, nil},
	{"negative_timeout", "SECONDS", groupCache, "how long the kernel keeps that a name is not there (0)", func(m *mountConfig, v string) error { return seconds(&m.negativeTimeout, v) }, nil},
	{"kernel_cache", "", groupCache, "keep the data of files in the kernel from one open to the next, whatever changes on the node; nor ask again about small files that were read ahead", on(func(m *mountConfig) *bool { return &m.fs.KernelCache }), nil},
	{"auto_cache", "", groupCache, "keep it while size and time of the file are the same (default)", off(func(m *mountConfig) *bool { return &m.fs.NoAutoCache }), nil},
	{"noauto_cache", "", groupCache, "keep it not: each open reads the file anew, as sshfs does by default", on(func(m *mountConfig) *bool { return &m.fs.NoAutoCache }), nil},
	{"direct_io", "", groupCache, "keep no data in the kernel: each read and write is one of bundlefs", on(func(m *mountConfig) *bool { return &m.fs.DirectIO }), nil},
	{"dir_cache", "yes|no", groupCache, "keep listings, attributes and symlinks in bundlefs, too (yes)", yesNo(func(m *mountConfig) **bool { return &m.fs.DirCache }), []string{"cache"}},
	{"dcache_timeout", "SECONDS", groupCache, "how long they are kept", func(m *mountConfig, v string) error { return seconds(&m.fs.DcacheTimeout, v) }, []string{"cache_timeout"}},
	{"dcache_stat_timeout", "SECONDS", groupCache, "how long attributes are kept", func(m *mountConfig, v string) error { return seconds(&m.fs.DcacheStatTimeout, v) }, []string{"cache_stat_timeout"}},
	{"dcache_link_timeout", "SECONDS", groupCache, "how long targets of symlinks are kept; never longer than attributes", func(m *mountConfig, v string) error { return seconds(&m.fs.DcacheLinkTimeout, v) }, []string{"cache_link_timeout"}},
	{"dcache_dir_timeout", "SECONDS", groupCache, "how long listings are kept; never longer than attributes", func(m *mountConfig, v string) error { return seconds(&m.fs.DcacheDirTimeout, v) }, []string{"cache_dir_timeout"}},
	{"dcache_max_size", "N", groupCache, "how many entries are kept", func(m *mountConfig, v string) error { return number(&m.fs.DcacheMaxSize, v, 1, 1<<30) }, []string{"cache_max_size"}},

	{"sshfs_sync", "", groupData, "make each write wait until the node has the data", on(func(m *mountConfig) *bool { return &m.fs.SyncWrites }), []string{"sync"}},
	{"no_readahead", "", groupData, "read only what programs ask for", on(func(m *mountConfig) *bool { return &m.fs.NoReadahead }), nil},
	{"sync_readdir", "", groupData, "fetch no listing before it is asked for", on(func(m *mountConfig) *bool { return &m.fs.SyncReaddir }), nil},
	{"max_read", "BYTES", groupData, "the most that the kernel asks for at once (1048576)", func(m *mountConfig, v string) error { return atMost(&m.fs.MaxRead, v) }, nil},
	{"max_write", "BYTES", groupData, "the most that the kernel writes at once (1048576)", func(m *mountConfig, v string) error { return atMost(&m.fs.MaxWrite, v) }, nil},

	{"exclusive", "TOKEN", groupExcl, "be the only writer, as the owner record with this token in the folder says: changes are sent behind. With - the token is the first line of standard input, where no list of processes shows it; the connection is made meanwhile", func(m *mountConfig, v string) error { m.exclusive = v; return nonEmpty(v) }, nil},
	{"nomount", "", groupExcl, "mount nothing: serve the files by the control socket of MOUNTPOINT only", func(m *mountConfig, _ string) error { m.nomount = true; return nil }, nil},
	{"spool_max", "BYTES", groupExcl, "how much may wait to be sent before writers are slowed down (4294967296)", spoolMax, nil},
	{"cache_max", "BYTES", groupExcl, "how much of the local disk what was read or written may take, to be read again (1073741824; 0: none)", cacheMax, nil},

	{"logfile", "FILE", groupLog, "write the log there and not to syslog", func(m *mountConfig, v string) error { return path(&m.logfile, v) }, nil},
	{"loglevel", "LEVEL", groupLog, "what to log: debug, info, warn or error (warn)", oneOf(func(m *mountConfig) *string { return &m.logLevel }, "debug", "info", "warn", "error"), nil},
	{"debug", "", groupLog, "as -d", func(m *mountConfig, _ string) error { m.debug, m.foreground = true, true; return nil }, nil},
	{"sshfs_debug", "", groupLog, "log all requests; without logfile, in the foreground", on(func(m *mountConfig) *bool { return &m.debug }), nil},
	{"sshfs_verbose", "", groupLog, "as loglevel=info, unless a level is given", on(func(m *mountConfig) *bool { return &m.verbose }), nil},

	{"nosuid", "", groupNone, "the mount is always so: the node's files could give root", ignore, []string{"suid"}},
	{"nodev", "", groupNone, "the mount is always so: the node's files could give access to devices", ignore, []string{"dev"}},
	{"defaults", "", groupNone, "of fstab, for those who read it", ignore, []string{
		"_netdev", "auto", "noauto", "nofail", "users", "nousers", "owner", "noowner", "group", "nogroup", "nouser", "async"}},
	{"dirsync", "", groupNone, "names are always changed on the node at once, in shared mode", ignore, nil},
	{"ac_attr_timeout", "SECONDS", groupNone, "auto_cache decides by attributes that are asked for at the open, which is as good as 0", unusedSeconds, nil},
	{"dcache_clean_interval", "SECONDS", groupNone, "what is too old is dropped whenever something is added", unusedSeconds, []string{"cache_clean_interval", "dcache_min_clean_interval", "cache_min_clean_interval"}},
	{"user", "[NAME]", groupNone, "of fstab, for mount(8)", ignore, []string{"comment"}},
	{"noatime", "", groupNone, "FUSE never updates access times itself", ignore, []string{
		"atime", "relatime", "norelatime", "diratime", "nodiratime", "strictatime", "nostrictatime", "lazytime", "nolazytime", "iversion", "noiversion", "mand", "nomand", "silent", "loud"}},
	{"auto_unmount", "", groupNone, "a mount whose process was killed is cleaned up by the next bundlefs there, or by bundlefs unmount; until then nothing can be written into the folder underneath", ignore, nil},
	{"noforget", "", groupNone, "inode numbers are kept as long as the kernel knows them", ignore, []string{"use_ino", "readdir_ino", "nopath", "hard_remove"}},
	{"remember", "SECONDS", groupNone, "the same", ignore, nil},
	{"workaround", "LIST", groupNone, "of sshfs, separated by colons: rename, renamexdev, truncate, buflimit, fstat, createmode, none. What a server cannot do is done otherwise without being asked for", workaround, nil},
	{"modules", "subdir", groupNone, "subdir=DIR alone does it", modules, nil},
	{"rellinks", "", groupNone, "transform_symlinks does more", ignore, []string{"norellinks"}},
	{"from_code", "UTF-8", groupNone, "names of files are passed on as they are", utf8Only, []string{"to_code"}},
	{"big_writes", "", groupNone, "of older versions of FUSE and sshfs", ignore, []string{
		"intr", "large_read", "async_read", "sync_read", "nolocalcaches", "no_rofd_flush", "clone_fd", "unreliable_append", "atomic_o_trunc", "splice_read", "splice_write", "splice_move", "no_splice_read", "no_splice_write", "no_splice_move"}},
	{"max_background", "N", groupNone, "the same", ignore, []string{"congestion_threshold", "max_readahead", "max_threads", "max_idle_threads", "intr_signal", "writeback_cache", "blksize"}},
}
