package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bundlefs/internal/testnode"
)

// TestOwnFiles has the programs work on a bundle that give files the owner, group and mode of others. Whoever the
// login is on the node, its files are the operator's here. The node's root and the operator are told
// apart: where the tests run as root, the operator is root and the login is not.
func TestOwnFiles(t *testing.T) {
	n := testnode.Start(t, testnode.AsUser())
	w := newWorkstation(t, n, n.Target(), "", helloDeploy)
	w.must(exitOK, "open", "open", "node1")
	mount := filepath.Join(w.home, mountDir)
	script := exec.Command("sh", "-euc", `
umask 022
mkdir "$1/d"; echo old >"$1/f"; chmod 750 "$1/f"; echo old >d; chmod 640 d
sed -i s/old/new/ "$1/f"
cp -p d "$1/copied"
install -m 711 d "$1/installed"
mkdir t t/sub; echo x >t/sub/x; chmod 604 t/sub/x; chmod 770 t/sub; tar cf t.tar t
tar xpf t.tar -C "$1"
chown "$(id -u):$(id -g)" "$1/f" "$1/d"
stat -c '%n %a' "$1/f" "$1/copied" "$1/installed" "$1/t/sub" "$1/t/sub/x"
for f in "$1" "$1/f" "$1/copied" "$1/t/sub/x"; do [ "$(stat -c %u:%g "$f")" = "$(id -u):$(id -g)" ]; done
`, "-", mount)
	script.Dir = t.TempDir()
	out, err := script.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	w.must(exitOK, "everything is on the node", "sync")
	home, err := os.Stat(n.Home)
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"f": 0o750, "copied": 0o640, "installed": 0o711, "t/sub": 0o770, "t/sub/x": 0o604} {
		if !strings.Contains(string(out), name) {
			t.Errorf("%s is not told:\n%s", name, out)
		}
		info, err := os.Stat(filepath.Join(n.Home, "bundle-hello", name))
		if err != nil || info.Mode().Perm() != mode || info.Sys().(*syscall.Stat_t).Uid != home.Sys().(*syscall.Stat_t).Uid {
			t.Errorf("%s on the node: %v, %v, want %v", name, info, err, mode)
		}
	}
	w.must(exitOK, "closed", "close")
}
