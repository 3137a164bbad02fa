package ops

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bundlefs/internal/testnode"
)

func TestLink(t *testing.T) {
	s := newSite(t, testnode.Start(t, testnode.AsUser()))
	at := func(path string) string { return filepath.Join(s.node.Home, path) }
	do := func(line string, status Status, parts ...string) {
		t.Helper()
		want(t, first(s.run("remote "+line)), status, parts...)
	}
	points := func(path, text, to string) {
		t.Helper()
		if got, err := os.Readlink(at(path)); err != nil || got != text {
			t.Errorf("%s is %q, want %q: %v", path, got, text, err)
		}
		if _, err := os.Stat(filepath.Join(at(path), to)); err != nil {
			t.Error(err)
		}
	}
	do("run mkdir -p ../venvs/a/bin ../venvs/b/bin ../other ../file.d; touch ../file ../venvs/a/is-a ../venvs/b/is-b", OK)
	do("link current venvs/a", OK, "current -> venvs/a, new")
	points("current", "venvs/a", "is-a")
	do("link current venvs/a", OK, "already")
	do("link current venvs/b", OK, "it was venvs/a, the way back is: remote link current venvs/a")
	points("current", "venvs/b", "is-b")
	do("link deep/er/current venvs/a", OK)
	points("deep/er/current", "../../venvs/a", "is-a")
	// A folder on the way that is a link itself.
	do("run mkdir -p ../x/y; ln -s x/y ../short", OK)
	do("link short/current venvs/a", OK)
	points("short/current", "../../venvs/a", "is-a")
	// What an interrupted step left, and a link that led out.
	left := newName("current")
	do("run ln -s nowhere ../"+left+"; ln -sfn /etc ../current", OK)
	do("link current venvs/a", OK, "it was /etc")
	points("current", "venvs/a", "is-a")
	if _, err := os.Lstat(at(left)); err == nil {
		t.Error("the new link is left under its first name")
	}

	longest := strings.Repeat("x", 255)
	do("link "+longest+" venvs/a", OK)
	points(longest, "venvs/a", "is-a")

	do("link file venvs/a", Blocked, "is no symbolic link")
	do("link other venvs/a", Blocked, "is no symbolic link")
	do("link current venvs/c", Blocked, "there is no", "venvs/c")
	do("run ln -s /tmp ../out", OK)
	do("link out/current venvs/a", Blocked, "outside of the home")
	do("link file/current venvs/a", Failed, "file")
	if os.Getuid() == 0 { // then the node's user is another
		if err := os.Chown(at("file.d"), 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(at("file.d"), 0o555); err != nil {
		t.Fatal(err)
	}
	do("link file.d/current venvs/a", Failed, "Permission denied")
	if err := os.Chmod(at("file.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	points("current", "venvs/a", "is-a")
}
