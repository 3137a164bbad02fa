package mountprog

import (
	"context"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// Exit codes of mount.bundlefs, as mount(8) has them.
const (
	helperUsage       = 1
	helperInterrupted = 8
	helperFailed      = 32
)

// Run runs the program as argv says, with its own name: bundlefs, or mount.bundlefs, by which
// mount(8) calls it for a line of /etc/fstab. It returns the exit code.
func Run(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) int {
	name := filepath.Base(argv[0])
	if name != "mount.bundlefs" && name != "mount.fuse.bundlefs" {
		return Main(ctx, argv[1:], stdin, stdout, stderr)
	}
	switch code := Main(ctx, helperArgs(argv[1:]), stdin, stdout, stderr); code {
	case ExitUsage:
		return helperUsage
	case ExitFailed, ExitNoFUSE:
		return helperFailed
	case ExitInterrupted:
		return helperInterrupted
	default:
		return code
	}
}

// helperArgs turns the arguments of mount(8) into those of bundlefs. The convention is
// SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]: -s leaves out unknown options, -f does
// all but mount, -n keeps out of mtab, where nothing is written anyway.
func helperArgs(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' || strings.HasPrefix(arg, "--") {
			// An older way to write it in fstab.
			if len(out) == 0 {
				arg = strings.TrimPrefix(arg, "bundlefs#")
			}
			out = append(out, arg)
			continue
		}
		for j := 1; j < len(arg); j++ {
			c := arg[j]
			if slices.Contains([]byte("oNt"), c) {
				value := arg[j+1:]
				if value == "" && i+1 < len(args) {
					i++
					value = args[i]
				}
				if c == 'o' {
					out = append(out, "-o", value)
				}
				break
			}
			switch c {
			case 's':
				out = append(out, "--sloppy")
			case 'f':
				out = append(out, "--fake")
			case 'n':
			default:
				out = append(out, "-"+string(c))
			}
		}
	}
	return out
}
