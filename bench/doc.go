// Package bench measures bundlefs side by side with sshfs, rsync, tar over ssh, scp and rclone, on a real
// sshd behind a link with added delay. It is a program in the form of a test: `make bench` builds and runs it,
// and docs/benchmarks.md tells what it measures. Without -full its tests do the same on tiny trees, and
// measure nothing.
package bench
