#!/bin/bash
# gofmt, go vet, staticcheck, the import directions (.depguard.yaml), the style, and the Python files as a node's python3 would read them.
# All of them run, so that one run shows everything; but what does not compile is said once.
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
	files=$(find . -name '*.go' -not -path './.git/*' -not -path '*/vendor/*' -print0 | xargs -0 -r gofmt -l) || return 1
	[ -z "$files" ] || { echo "$files"; return 1; }
}

# A node may have Python 3.6: no syntax that is newer.
python_syntax() {
	local python=/usr/bin/python3
	[ -x $python ] || python=python3
	find ops examples/hello/src examples/classic -name '*.py' | "$python" -c '
import ast, sys
bad = 0
for path in sys.stdin.read().splitlines():
    try:
        ast.parse(open(path).read(), path, feature_version=(3, 6))
    except SyntaxError as error:
        print("%s:%s: %s" % (path, error.lineno, error.msg))
        bad = 1
sys.exit(bad)'
}

# The linters have a go.mod of their own, so that the product's names only what the product uses.
tool() { go tool -modfile=tools/go.mod "$@"; }

check 'gofmt (make fmt mends it)' formatted
check 'Python 3.6' python_syntax
check style scripts/style.sh
if go vet ./...; then
	check staticcheck tool staticcheck ./...
	check 'import directions (.depguard.yaml)' tool depguard ./...
else
	echo 'lint: go vet: see above'
	bad=1
fi
exit $bad
