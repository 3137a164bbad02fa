package bundle

import "bundlefs/internal/lease"

// lockScript makes a bundle with its owner record, which comes on standard input. Its arguments
// are the bundle, the name under which the record is written before it is renamed, so that it
// is never seen half-written, and the lease name, a link to the bundle that is made last. It answers "made ABOVE", with how many of the folders above were
// made, or as held who is there already. When something fails, what it made is gone again.
//
// mkdir decides who gets the lock. Nothing is made before the record's first line is here, so that
// the lock does not wait for the link; the rest comes with it. What a killed script leaves can be
// told by the name of the unfinished record to be ours, and then the next one goes on with it.
const lockScript = `
dir=$1 temp=$2 name=$3
IFS= read -r line && [ "$line" = "{" ] || fail input
# Names that lead nowhere are of a bundle that was removed by hand. With the new one they would lead
# its former holder into that.
for old in ` + lease.Prefix + `*; do
	if [ -L "$old" ] && [ ! -e "$old" ]; then rm -f -- "$old"; fi
done
above=0
back() {
	p=$dir
	while [ $above -gt 0 ]; do
		p=${p%/*}; above=$((above - 1))
		rmdir -- "$p" 2>/dev/null || break
	done
}
# Those above the bundle, outermost first; of several openers each may make some.
parents() {
	p=. rest=${dir#./} left=0
	case $rest in */*) left=$(IFS=/; set -f; set -- $rest; echo $(($# - 1))) ;; esac
	while [ $left -gt 0 ]; do
		p=$p/${rest%%/*}; rest=${rest#*/}
		if [ -d "$p" ]; then :
		elif mkdir -- "$p"; then [ $above -ge $left ] || above=$left
		elif [ ! -d "$p" ]; then back; fail parent
		fi
		left=$((left - 1))
	done
}
got=no
for try in 1 2 3 4 5 6 7 8; do
	if mkdir -- "$dir" 2>/dev/null; then got=yes; break; fi
	if [ -e "$dir" ] || [ -L "$dir" ]; then got=held; break; fi
	parents # again if somebody who closes has removed one meanwhile
done
if [ $got = held ]; then
	if [ -d "$dir" ] && [ ! -L "$dir" ] && [ -f "$dir/$temp" ] && [ ! -L "$dir/$temp" ] && [ ! -e "$dir/` + RecordName + `" ]; then
		got=yes
	else
		back; held "$dir" "$temp"
	fi
fi
if [ $got = no ]; then mkdir -- "$dir"; back; fail mkdir; fi
(
	umask 077
	{ echo "{"; sed "s/^  \"above\": 0,\$/  \"above\": $above,/"; } >"$dir/$temp"
) && [ "$(tail -n 1 "$dir/$temp")" = "}" ] && mv -f -- "$dir/$temp" "$dir/` + RecordName + `" || {
	rm -f -- "$dir/$temp"; rmdir -- "$dir"; back; fail record
}
# Where a link cannot be made the mount says so.
[ -L "$name" ] || [ -e "$name" ] || ln -s -- "$dir" "$name" 2>/dev/null
say made $above
finish
`

// lockFailures is what the script's failures mean, for people.
var lockFailures = map[string]string{
	"home":   "cannot enter the home folder",
	"input":  "no owner record arrived",
	"parent": "a folder above it cannot be made",
	"mkdir":  "the folder cannot be made",
	"record": "the owner record cannot be written",
}

// lookFailures is the same of lookScript.
var lookFailures = map[string]string{"home": lockFailures["home"]}
