package vfs

import (
	"path"
	"strings"
	"syscall"
)

// maxPath is the longest target of a symbolic link Linux takes, with its NUL (PATH_MAX).
const maxPath = 4096

// contained reports whether a link whose folder lies depth folders below the
// mount's root stays inside the mount wherever it leads: its target is relative,
// its ".." all come first, and they are no more than depth.
//
// The kernel resolves a target step by step, from the folder that the link lies
// in and not from the path by which somebody came there, so the leading ".." reach
// the root at most. Names behind them lead down, or are links that are judged in
// turn. A ".." behind a name might follow a link, and is refused: how far up it
// leads is not to be seen from the target.
func contained(target string, depth int) bool {
	if path.IsAbs(target) {
		return false
	}
	names := false
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; names || depth < 0 {
				return false
			}
		default:
			names = true
		}
	}
	return true
}

// relativeTarget turns an absolute target that is the folder root on the node, or
// lies below it, into one relative to a folder depth folders below root. Others,
// and those with a ".." in them, stay as they are.
func relativeTarget(target, root string, depth int) string {
	rest, ok := strings.CutPrefix(target, strings.TrimSuffix(root, "/"))
	if !ok || !path.IsAbs(target) || rest != "" && rest[0] != '/' || strings.Contains(rest+"/", "/../") {
		return target
	}
	up := strings.TrimSuffix(strings.Repeat("../", depth), "/")
	rest = strings.Trim(rest, "/")
	switch {
	case up == "" && rest == "":
		return "."
	case up == "":
		return rest
	case rest == "":
		return up
	}
	return up + "/" + rest
}

// target is what the target of a link on the node is here: links are judged by
// the shallowest of their names, since the kernel may have come by any of them.
func (v *view) target(target, root string, depth int) (string, error) {
	if target == "" || len(target) >= maxPath || strings.Contains(target, "\x00") {
		return "", syscall.EIO // no link can have it
	}
	if v.Transform {
		target = relativeTarget(target, root, depth)
	}
	if !v.NoContain && !contained(target, depth) {
		return "", syscall.EPERM
	}
	return target, nil
}
