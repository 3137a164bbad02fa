// Bundlefs mounts a folder of a node over SSH:
//
//	bundlefs [user@]host:[dir] MOUNTPOINT [-o OPTION,…] [-p PORT] [-F CONFIG] [-f] [-d]
//	bundlefs status|sync|unmount MOUNTPOINT [--json]
//
// See bundlefs -h, and package bundlefs/internal/mountprog for how it works.
package main

import (
	"context"
	"os"

	"bundlefs/internal/mountprog"
)

func main() {
	os.Exit(mountprog.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
