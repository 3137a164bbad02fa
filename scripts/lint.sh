#!/bin/bash
# gofmt, go vet, staticcheck, the import directions (.depguard.yaml) and the style. All of them run, so that one run shows everything.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bad=0
check() {
	local name=$1
	shift
	if ! "$@"; then
		echo "lint: $name: see above"
		bad=1
	fi
}

formatted() {
	local files
	files=$(gofmt -l $(git ls-files --cached --others --exclude-standard -- '*.go' | while read -r f; do [ -f "$f" ] && echo "$f"; done)) || return 1
	[ -z "$files" ] || { echo "$files"; return 1; }
}

# The linters have a go.mod of their own, so that the product's names only what the product uses.
tool() { go tool -modfile=tools/go.mod "$@"; }

check 'gofmt (make fmt mends it)' formatted
check 'go vet' go vet ./...
check staticcheck tool staticcheck ./...
check 'import directions (.depguard.yaml)' tool depguard ./...
check style scripts/style.sh
exit $bad
