// Package remote speaks SSH to a node: it connects, checks the host key, logs
// in, opens SFTP sessions and runs commands, all over one connection.
package remote
