// Bundlefs mounts a folder of a node over SSH:
//
//	bundlefs [user@]host:[dir] MOUNTPOINT [-o OPTION,…] [-p PORT] [-F CONFIG] [-f] [-d]
//	bundlefs status|sync|retry|discard|unmount MOUNTPOINT [--json]
//
// Under the name mount.bundlefs it is what mount(8) calls for lines of /etc/fstab.
//
// See bundlefs -h, and package bundlefs/internal/mountprog for how it works.
package main

import (
	"context"
	"os"

	"bundlefs/internal/mountprog"
)

func main() {
	os.Exit(mountprog.Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}
