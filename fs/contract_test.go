package fs_test

import (
	"syscall"
	"testing"

	"bundlefs/fs/contract"
	"bundlefs/internal/testnode"
)

func TestContractOnPlainFolder(t *testing.T) {
	t.Cleanup(umask(0))
	contract.Run(t, func(t *testing.T) contract.Tree { return contract.OS{Dir: t.TempDir()} })
}

func TestContractOnMount(t *testing.T) {
	t.Cleanup(umask(0))
	n := testnode.Start(t)
	m := newMount(t, n, n.Target())
	contract.Run(t, func(t *testing.T) contract.Tree { return contract.OS{Dir: m.fresh(t)} })
}

// umask sets the process's umask and returns what sets it back.
func umask(mask int) (restore func()) {
	old := syscall.Umask(mask)
	return func() { syscall.Umask(old) }
}
