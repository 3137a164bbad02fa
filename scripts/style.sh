#!/bin/bash
# The points of style that a machine can check. Prints each breach as file:line: text, and ends with 1 when there is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

found=$(mktemp)
trap 'rm -f "$found"' EXIT

mapfile -t all < <(find . -name '*.go' -not -path './.*/*' -not -path './tools/*' -not -path '*/testdata/*' -not -path '*/vendor/*' | sed 's|^\./||' | sort)
product=() tests=() libraries=()
for f in "${all[@]}"; do
	case $f in
	*_test.go) tests+=("$f") ;;
	cmd/*/main.go) product+=("$f") ;;
	*) product+=("$f") libraries+=("$f") ;;
	esac
done

# ban PATTERN WHY FILE…: the pattern, outside of comments.
ban() {
	local pattern=$1 why=$2
	shift 2
	[ $# -gt 0 ] || return 0
	{ grep -nHE -e "$pattern" -- "$@" || true; } | { grep -vE '^[^:]*:[0-9]*:[[:space:]]*//' || true; } | sed "s|\$|    <- $why|" >>"$found"
}

ban '\<(os\.Exit|log\.Fatal[a-z]*)\(' 'only cmd/*/main.go ends the program' "${libraries[@]}"
# Go's own print is indented by tabs; a text in another language that a Go file holds is not.
ban $'\\<fmt\\.Print(f|ln)?\\(|^\t+print(ln)?\\(' 'write to the writer that the caller gave' "${libraries[@]}"
ban '\.(Skip|Skipf|SkipNow)\(' 'a test that does not run here does not run anywhere' "${tests[@]}" "${libraries[@]}"
ban '\<(TODO|FIXME|XXX)\>' 'finish it' "${all[@]}"

for f in "${product[@]}"; do
	lines=$(wc -l <"$f")
	case $f in cmd/*/main.go) most=110 ;; *) most=500 ;; esac
	[ "$lines" -le "$most" ] || echo "$f:$lines: more than $most lines: move a group of operations to a file of its own" >>"$found"
done

go list -f '{{if and .GoFiles (not .Doc)}}{{.Dir}}: package {{.Name}} has no package doc{{end}}' ./... >>"$found"
go list -f '{{.Name}} {{.Dir}}' ./... | awk '$1 ~ /^(util|utils|common|helper|helpers|manager)$/ { print $2 ": the name " $1 " says nothing" }' >>"$found"

if [ -s "$found" ]; then
	cat "$found"
	exit 1
fi
