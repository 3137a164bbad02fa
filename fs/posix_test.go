package fs_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"bundlefs/internal/testnode"
)

// notInSFTP are the tests of go-fuse's suite that ask for what SFTP does not
// have, with the reason. Every other one must pass.
var notInSFTP = map[string]string{
	"Fallocate":           "SFTP has no request to reserve space; the answer is EOPNOTSUPP",
	"FallocateKeepSize":   "as Fallocate",
	"FcntlFlockLocksFile": "expects a process to be stopped by a lock of its own, as no kernel file system does",
	"XAttr":               "SFTP version 3 has no extended attributes",
	"XAttrLarge":          "SFTP version 3 has no extended attributes",
}

func TestPosix(t *testing.T) {
	n := testnode.Start(t)
	m := newMount(t, n, n.Target())
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		if notInSFTP[name] != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			posixtest.All[name](t, m.fresh(t))
		})
	}
}
