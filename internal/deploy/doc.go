// Package deploy reads deploy.ini, the file that names the nodes, their
// attributes and the job lists. Load validates all of it before anything is
// done and reports every error with file, line, section and key.
//
//	f, err := deploy.Load(path, ops.Check)
//	nodes, err := f.Select("@web")
//	steps, err := nodes[0].Jobs(deploy.Install)
//
// The file is data, not code: reading it runs nothing, looks up no names and
// touches no other file (Node.Key looks for the identity file when it is asked).
//
// # Text
//
// UTF-8 of at most 1 MiB, with or without a byte order mark, lines ended by LF
// or CRLF, no control characters but tabs. The rules are those of Python's
// configparser with "=" as the only delimiter and case kept:
//
//	[SECTION]
//	key = value       ; a comment, also with #
//	long = first line
//	    second line
//
// A ";" or "#" that begins a line or follows a blank begins a comment. In job
// lists, where quotes have a meaning, one inside quotes or after a backslash
// does not. A line that is indented deeper than its key continues the value;
// the lines are trimmed and joined by newlines; lines that are only a comment
// are left out, empty ones inside a value stay. A section or a key may be
// given once. Keys and names are made of ASCII letters, digits, ".", "_" and
// "-", and begin with neither "-" nor ".".
//
// # Sections
//
//	[DEFAULT]      attributes of every node
//	[group:NAME]   nodes = NODE…, and attributes of these nodes
//	[node:NAME]    a node and its own attributes
//	[jobs:NAME]    STEP = HOST OP ARGUMENT…, in this order
//
// The group "all" always has every node and is not written. A node's own value
// beats its groups' and a group's beats [DEFAULT]'s. Two groups that give one
// node different values for a key are an error, unless the node has its own.
//
// # Substitution
//
// After merging, %(key)s in a value stands for the node's attribute key, which
// may use others in turn, and %% for a percent sign. The attribute name is the
// node's name and cannot be set. An unknown or circular variable is an error,
// and so is any other use of a percent sign. A substituted value has at most
// 64 KiB.
//
// # Attributes
//
//	bundle       folder of the bundle, relative to the home on the node; required
//	venv         virtual environment, likewise; required by steps that use it
//	admin        user on the node
//	op_key       WORD for ~/.ssh/id_ed25519-WORD, id_ecdsa-WORD or id_rsa-WORD;
//	             or a path: with a "/" or a leading "~", relative to deploy.ini
//	python       the node's interpreter (python3)
//	mount        mount point on the workstation (~/%(bundle)s/%(name)s), or none
//	artifacts    what the default job list copies
//	product      what the default job list installs
//	sshd.ip      IPv4, IPv6, host name or alias of the SSH configuration (the node's name)
//	sshd.port    1 to 65535
//	sshd.jump    [user@]host[:port],… as in ssh's ProxyJump, or none
//	sshd.timeout how long to wait for a sign of life of the node, as 30, 30s or 2m: for the
//	             connection, and for the first word of each command (30s)
//	sshd.config  yes or no: whether the SSH configuration files apply (yes)
//
// An empty admin, op_key, sshd.port, sshd.timeout or sshd.jump is one that is not given. All
// other keys are free attributes for the operator's own use, except that no
// other may begin with "sshd." or differ from one above only in case.
//
// Bundle and venv are clean paths without "..", and neither is inside the
// other, since closing a bundle removes it recursively. No two nodes are
// mounted at the same place or one inside the other.
//
// # Job lists
//
// A step is split into words as by a POSIX shell (see Split), but nothing is
// expanded except %(key)s, and that after splitting: a word stays one word
// whatever value is put into it. HOST is local or remote. Every step is
// checked as every node would run it. Without [jobs:install] that list is
//
//	deliver = local  copy ARTIFACTS
//	venv    = remote venv
//	pip     = remote pip PRODUCT
//
// with the words of the attributes artifacts and product.
package deploy
