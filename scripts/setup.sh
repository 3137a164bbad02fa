#!/bin/sh
# Installs what `make demo` and `make test` need beside Go, git and make, and makes /dev/fuse usable.
#
# `setup.sh demo` does so for the demo alone, which does without FUSE where that cannot be had.
# `setup.sh bench` installs, beside all, the tools that `make bench` compares with; those that cannot be had are not measured.
#
# Does nothing, quickly, when nothing is missing. Where there is apt-get it installs, as root or through `sudo -n`, only the packages that
# are missing; elsewhere it says what is missing and which package has it. It ends with 1 when something that is needed cannot be had.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin   # sshd is there, and not on the PATH of an ordinary user
mode=${1:-}
python=/usr/bin/python3                      # the system's, as on a node; not what a version manager puts first on PATH

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# as_root COMMAND…: runs it with root's rights, or fails without asking anything.
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}
can_be_root() {
	[ "$(id -u)" = 0 ] || { command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; }
}

# first_file PATH…: is any of these there? Globs that match nothing arrive as themselves.
first_file() {
	for f in "$@"; do
		[ -e "$f" ] && return 0
	done
	return 1
}

# Root mounts by itself; everybody else does with this.
has_fusermount() { command -v fusermount3 >/dev/null 2>&1; }

# What is missing: one line each, "what|Debian|Fedora|Arch|Alpine"; apt gets the Debian column.
missing=
lack() {
	missing="$missing$*
"
}

look() {
	missing=
	command -v bash >/dev/null 2>&1 || lack 'bash|bash|bash|bash|bash'
	command -v ssh >/dev/null 2>&1 && command -v ssh-keygen >/dev/null 2>&1 ||
		lack 'ssh and ssh-keygen|openssh-client|openssh-clients|openssh|openssh-client'
	command -v sshd >/dev/null 2>&1 || lack 'sshd|openssh-server|openssh-server|openssh|openssh-server'
	first_file /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server /usr/libexec/sftp-server ||
		lack 'sftp-server|openssh-sftp-server|openssh-server|openssh|openssh-sftp-server'
	[ "$mode" = demo ] || has_fusermount || lack 'fusermount3|fuse3|fuse3|fuse3|fuse3'
	if [ ! -x "$python" ]; then
		lack "$python|python3|python3|python|python3"
		lack 'the ensurepip module of python3|python3-venv|python3|python|python3'
	else
		"$python" -c 'import sqlite3, unittest, venv' 2>/dev/null ||
			lack 'the sqlite3, unittest and venv modules of python3|python3|python3-libs|python|python3'
		"$python" -c 'import ensurepip' 2>/dev/null || lack 'the ensurepip module of python3|python3-venv|python3|python|python3'
	fi
	wheels=${PYTHON_WHEELS:-/usr/share/python-wheels}
	first_file "$wheels"/pip-*.whl || lack "$wheels/pip-*.whl|python3-pip-whl|python-pip-wheel|-|-"
	first_file "$wheels"/setuptools-*.whl || lack "$wheels/setuptools-*.whl|python3-setuptools-whl|python-setuptools-wheel|-|-"
	# setuptools builds wheels by itself from 70.1 on; before that it needs the wheel package.
	first_file "$wheels"/wheel-*.whl "$wheels"/setuptools-7[1-9].*.whl "$wheels"/setuptools-[89]?.*.whl ||
		lack "$wheels/wheel-*.whl|python3-wheel-whl|python-wheel-wheel|-|-"
	# Tests of steps that run as root log in as an ordinary user, who has to use it.
	command -v sudo >/dev/null 2>&1 || lack 'sudo|sudo|sudo|sudo|sudo'
	"$python" -c 'import docutils' 2>/dev/null || lack 'the docutils module of python3|python3-docutils|python3-docutils|python-docutils|py3-docutils'
	# Tests of what is done without FUSE take the right to mount away.
	command -v setpriv >/dev/null 2>&1 || lack 'setpriv|util-linux|util-linux|util-linux|setpriv'
	# What people use in mounts, and the tests therefore too; git is there in any case.
	if [ "$mode" != demo ]; then
		for tool in rsync vim nano tmux; do
			command -v "$tool" >/dev/null 2>&1 || lack "$tool|$tool|$tool|$tool|$tool"
		done
	fi
	# The race detector is linked by a C compiler.
	command -v "${CC:-gcc}" >/dev/null 2>&1 || lack "${CC:-gcc}|gcc|gcc|gcc|gcc"
	first_file /usr/include/stdlib.h || lack '/usr/include/stdlib.h|libc6-dev|glibc-devel|glibc|musl-dev'
}

report() {
	say 'missing, and the package that has it:'
	{
		echo 'what|Debian, Ubuntu|Fedora|Arch|Alpine'
		printf '%s' "$missing"
	} | awk -F'|' '{ printf "  %-52s %-24s %-24s %-10s %s\n", $1, $2, $3, $4, $5 }' >&2
	case $missing in
	*'|-|-'*) say 'where there is no package (-): put the wheel files into a folder and set PYTHON_WHEELS to it' ;;
	esac
}

policy=/usr/sbin/policy-rc.d
policy_is_ours=
# Debian starts a service that it installs, and nobody asked for an sshd that listens on this machine. A policy-rc.d that answers 101 keeps it from starting.
hold_services() {
	first_file "$policy" && return 0
	printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
	policy_is_ours=1
	as_root chmod 0755 "$policy"
}
release_services() {
	[ -z "$policy_is_ours" ] || as_root rm -f "$policy"
	policy_is_ours=
}

apt() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2
}

install_missing() {
	packages=$(printf '%s' "$missing" | cut -d'|' -f2 | sort -u | tr '\n' ' ')
	say "installing $packages"
	trap release_services EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	apt -q update || die 'apt-get update failed: see above'
	hold_services
	# shellcheck disable=SC2086  # a list of package names
	apt -q -y --no-install-recommends install $packages || die 'apt-get install failed: see above'
	release_services
	trap - EXIT HUP INT TERM
}

look
if [ -n "$missing" ]; then
	if ! command -v apt-get >/dev/null 2>&1; then
		report
		exit 1
	fi
	if ! can_be_root; then
		report
		die "this needs root: run it as root, or  sudo apt-get install $(printf '%s' "$missing" | cut -d'|' -f2 | sort -u | tr '\n' ' ')"
	fi
	install_missing
	look
	if [ -n "$missing" ]; then
		report
		die 'still missing after the installation'
	fi
fi

# try_missing: as install_missing, in a process of its own: a failure is no reason to stop.
try_missing() {
	command -v apt-get >/dev/null 2>&1 && can_be_root && (install_missing)
}

if [ "$mode" = bench ]; then
	missing=
	for peer in sshfs rsync rclone git ansible-playbook:ansible-core fab:fabric; do
		command -v "${peer%:*}" >/dev/null 2>&1 || lack "${peer%:*}|${peer#*:}|-|-|-"
	done
	[ -z "$missing" ] || try_missing || say "not installed, and not measured: $(printf '%s' "$missing" | cut -d'|' -f1 | tr '\n' ' ')"
fi

# A packaged sshd that was never started as a service has no folder for its unprivileged half, and refuses to run as root without it.
if [ "$(id -u)" = 0 ] && [ ! -d /run/sshd ]; then
	mkdir -p -m 0755 /run/sshd
	say 'made /run/sshd'
fi

# Opening /dev/fuse is harmless and the only proof that it works: in a container the device may be there and forbidden all the same.
# Or another device lies over it.
fuse_opens() { [ "$(stat -L -c %t:%T /dev/fuse)" = a:e5 ] && (exec 3<>/dev/fuse) 2>/dev/null; }
fuse_mode() { stat -L -c %a /dev/fuse; }

# make_fuse makes /dev/fuse usable, or says why it is not and fails.
make_fuse() {
	if [ ! -c /dev/fuse ]; then
		can_be_root || { say 'there is no /dev/fuse: run  sudo modprobe fuse'; return 1; }
		command -v modprobe >/dev/null 2>&1 && as_root modprobe fuse 2>/dev/null || :
		[ -c /dev/fuse ] || as_root mknod -m 0666 /dev/fuse c 10 229 2>/dev/null || {
			say 'there is no /dev/fuse and it could not be made: load the module (modprobe fuse), or start the container with --device /dev/fuse --cap-add SYS_ADMIN'
			return 1
		}
		say 'made /dev/fuse'
	fi
	case $(fuse_mode) in
	*[67][67][67]) ;;
	*) # fusermount3 opens the device with the rights of the user who mounts.
		old=$(fuse_mode)
		can_be_root || { say "/dev/fuse is closed to ordinary users (mode $old): run  sudo chmod 0666 /dev/fuse"; return 1; }
		as_root chmod 0666 /dev/fuse || {
			say "/dev/fuse is closed to ordinary users (mode $old) and could not be opened to them: run  chmod 0666 /dev/fuse  on the host"
			return 1
		}
		say "opened /dev/fuse to ordinary users (mode was $old, is 666)"
		;;
	esac
	fuse_opens || {
		say '/dev/fuse is there but cannot be opened, or is another device: load the module (modprobe fuse), or start the container with --device /dev/fuse --cap-add SYS_ADMIN'
		return 1
	}
}

if [ "$mode" != demo ]; then
	make_fuse || exit 1
	exit 0
fi
if ! has_fusermount && [ "$(id -u)" != 0 ]; then
	missing=
	lack 'fusermount3|fuse3|fuse3|fuse3|fuse3'
	try_missing || say 'there is no fusermount3 (package fuse3): the demo does without a mount'
fi
make_fuse || say 'the demo does without a mount'
