package fs_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"bundlefs/internal/testnode"
)

// program is what people do in a mount: a script, run in a folder of the mount ($PWD) with an empty
// folder beside the mount ($LOCAL). The script ends with an error when it does not like what it
// sees; afterwards the node has the same as the mount, and onNode is run in that folder there.
type program struct{ name, script, onNode string }

// TestPrograms runs in the mount what people run in a folder.
func TestPrograms(t *testing.T) {
	programs := []program{
		{name: "git", script: git, onNode: `cd clone; git fsck --strict --no-progress; test -z "$(git status --porcelain)"; git log --oneline | wc -l | grep -qx 4`},
		{name: "sqlite", script: sqlite, onNode: `/usr/bin/python3 -c 'import sqlite3
db = sqlite3.connect("file:notes.db?mode=ro", uri=True)
assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
assert db.execute("SELECT count(*), count(DISTINCT writer) FROM notes").fetchone() == (24, 3)'
test ! -e notes.db-journal`},
		{name: "go", script: goBuild, onNode: `./hello | grep -qx "hello from a mount"`},
		{name: "rsync", script: rsync},
		{name: "tar", script: tar},
		{name: "pip", script: pip},
	}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			m := newModeMount(t, mode.exclusive)
			for _, p := range programs {
				t.Run(p.name, func(t *testing.T) {
					dir := m.fresh(t)
					onNode := filepath.Join(m.Node, filepath.Base(dir))
					runScript(t, dir, p.script)
					syncFolder(t, dir)
					sameFolders(t, dir, onNode)
					runScript(t, onNode, p.onNode)
				})
			}
		})
	}
}

// newModeMount mounts a folder of a node of its own.
func newModeMount(t *testing.T, exclusive bool) *mount {
	t.Helper()
	n := testnode.Start(t)
	if exclusive {
		return newExclusiveMount(t, n, n.Target())
	}
	return newMount(t, n, n.Target())
}

func runScript(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("bash", "-c", "set -euxo pipefail\n"+script)
	cmd.Dir = dir
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "LOCAL="+t.TempDir(), "HOME="+home, "GOCACHE="+goEnv(t, "GOCACHE"), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.org", "GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.org")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(out))
}

// sameFolders compares names, kinds, permissions, and content.
func sameFolders(t *testing.T, here, there string) {
	t.Helper()
	a, b := describe(t, here), describe(t, there)
	for name, what := range a {
		if b[name] != what {
			t.Errorf("%s is %.80q in the mount and %.80q on the node", name, what, b[name])
		}
		delete(b, name)
	}
	for name := range b {
		t.Errorf("%s is on the node only", name)
	}
}

func describe(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		what := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += " " + string(content)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what = "-> " + target
		}
		all[path[len(root):]] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const git = `
git init -q "$LOCAL/src"
for i in $(seq 40); do mkdir -p "$LOCAL/src/d$((i % 7))"; seq $((i * 5)) > "$LOCAL/src/d$((i % 7))/f$i"; done
git -C "$LOCAL/src" add .
git -C "$LOCAL/src" commit -q -m first
git clone -q "$LOCAL/src" clone
cd clone
test -z "$(git status --porcelain)"
echo more >> d1/f1
git mv d2/f2 d3/moved
git rm -q d4/f4
git commit -q -a -m second
git checkout -q -b side HEAD~1
echo aside > d5/aside
git add d5/aside
git commit -q -m third
git merge -q -m fourth master || git merge -q -m fourth main
test "$(cat d5/aside)" = aside
git gc -q
git fsck --strict --no-progress
git stash list
test -z "$(git status --porcelain)"
`

const sqlite = `
cat > "$LOCAL/writer.py" <<'P'
import sqlite3, sys
db = sqlite3.connect("notes.db", timeout=60, isolation_level=None)
for i in range(8):
    db.execute("BEGIN IMMEDIATE")
    n = db.execute("SELECT count(*) FROM notes").fetchone()[0]
    db.execute("INSERT INTO notes VALUES (?, ?, ?)", (n, sys.argv[1], "x" * 3000))
    db.execute("COMMIT")
P
/usr/bin/python3 -c 'import sqlite3
db = sqlite3.connect("notes.db")
assert db.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
db.execute("CREATE TABLE notes (n INTEGER PRIMARY KEY, writer TEXT, text TEXT)")
db.commit()'
for w in a b c; do /usr/bin/python3 "$LOCAL/writer.py" $w & pids="${pids:-} $!"; done
for p in $pids; do wait $p; done
`

const goBuild = `
mkdir words
cat > go.mod <<'G'
module example.org/hello

go 1.21
G
cat > main.go <<'G'
package main

import "example.org/hello/words"

func main() { println(words.Hello) }
G
sed -i 's/println(/os.Stdout.WriteString(/; s/Hello)/Hello + "\\n")/; s/^import .*/import (\n\t"os"\n\n\t"example.org\/hello\/words"\n)/' main.go
echo 'package words' > words/words.go
echo 'const Hello = "hello from a mount"' >> words/words.go
cat > words/words_test.go <<'G'
package words

import "testing"

func TestHello(t *testing.T) {
	if Hello == "" {
		t.Fatal()
	}
}
G
test -z "$(gofmt -l .)" || gofmt -w .
GOFLAGS= go vet ./...
GOFLAGS= go test ./...
GOFLAGS= go build -o hello .
./hello | grep -qx "hello from a mount"
sed -i 's/from a mount/again/' words/words.go
GOFLAGS= go run . | grep -qx "hello again"
`

const rsync = `
for i in $(seq 30); do mkdir -p "$LOCAL/src/d$((i % 5))"; head -c $((i * 1000)) /dev/urandom > "$LOCAL/src/d$((i % 5))/f$i"; done
ln -s d1/f1 "$LOCAL/src/link"
chmod 640 "$LOCAL/src/d1/f1"
rsync -a "$LOCAL/src/" in/
test -z "$(rsync -ain --checksum --delete "$LOCAL/src/" in/)"
rm "$LOCAL/src/d2/f2"
seq 5000 >> "$LOCAL/src/d3/f3"
rsync -a --delete --inplace --no-whole-file "$LOCAL/src/" in/
test -z "$(rsync -ain --checksum --delete "$LOCAL/src/" in/)"
rsync -a in/ "$LOCAL/out/"
diff -r "$LOCAL/src" "$LOCAL/out"
test -z "$(rsync -ain --checksum --delete in/ "$LOCAL/out/")"
`

const tar = `
mkdir -p src/a/b
for i in $(seq 40); do seq $i $((i * 20)) > src/a/f$i; done
ln -s ../f1 src/a/b/link
ln src/a/f2 src/a/b/hard
chmod 700 src/a/b
tar czf all.tar.gz src
mkdir out
tar xzf all.tar.gz -C out
diff -r src out/src
tar dzf all.tar.gz -C out
`

const pip = `
wheels=${PYTHON_WHEELS:-/usr/share/python-wheels}
mkdir artifacts
cp "$wheels"/pip-*.whl "$wheels"/setuptools-*.whl artifacts/
pip=$(echo artifacts/pip-*.whl)
/usr/bin/python3 -m venv --without-pip "$LOCAL/venv"
PYTHONPATH=$pip "$LOCAL/venv/bin/python" -m pip install -q --disable-pip-version-check --no-index --find-links artifacts setuptools
"$LOCAL/venv/bin/python" -c 'import setuptools'
`
