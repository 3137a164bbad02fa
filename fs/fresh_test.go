package fs_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"bundlefs/internal/testnode"
)

// changesAndReads changes a file on the node and reads it through the mount at once, so often, each time in
// one of four ways. The kernel has believed its old attributes for less than a second by then.
const changesAndReads = `
import hashlib, mmap, os, subprocess, sys
there, here, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
def put(path, data):
    with open(path, "wb") as f:
        f.write(data)
def plain():
    with open(here, "rb") as f:
        return f.read()
def mapped():
    with open(here, "rb") as f:
        if os.fstat(f.fileno()).st_size == 0:
            return b""
        with mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
            return m[:]
def cat():
    return subprocess.run(["cat", here], check=True, stdout=subprocess.PIPE).stdout
def md5sum():
    return subprocess.run(["md5sum", here], check=True, stdout=subprocess.PIPE).stdout.split()[0]
readers = [plain, mapped, cat, md5sum]
data = b"begin" * 1000
put(there, data)
bad = 0
for i in range(rounds):
    os.stat(here)
    if i % 8 < 4:
        plain()  # so that the kernel has data, too
    change, reader = i % 4, readers[i // 4 % 4]
    fresh = b"%d " % i
    if change == 0:
        data += fresh * (1 + i * 37 % 3000)
        with open(there, "ab") as f:
            f.write(data[os.stat(there).st_size:])
    elif change == 1:
        data = data[:i * 101 % (len(data) + 1)]
        os.truncate(there, len(data))
    elif change == 2:
        data = fresh + data[len(fresh):]
        with open(there, "r+b") as f:
            f.write(fresh)
    else:
        data = fresh * (1 + i * 53 % 4000)
        put(there + ".new", data)
        os.rename(there + ".new", there)
    want = hashlib.md5(data).hexdigest().encode() if reader is md5sum else data
    got = reader()
    if got != want:
        bad += 1
        print("round", i, "change", change, reader.__name__, len(got), "bytes, want", len(want), file=sys.stderr)
sys.exit(bad > 0)
`

// TestFreshAtOpen has what the node tells at an open reach the kernel before the open is answered:
// what is read is neither cut to the length that the file had before, nor filled up to it.
func TestFreshAtOpen(t *testing.T) {
	n := testnode.Start(t)
	m := newMount(t, n, n.Target())
	out, err := exec.Command("python3", "-c", changesAndReads, filepath.Join(m.Node, "f"), filepath.Join(m.Dir, "f"), "1000").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%.2000s", err, out)
	}
}
