package bundle

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// mount is one line of /proc/self/mountinfo (proc(5)).
type mount struct{ point, fstype, source string }

// findMount gives what is mounted on a folder, the topmost when there are
// several; nil when nothing is. The folder itself is not touched: a mount
// whose link is down could let that hang.
func findMount(folder string) (*mount, error) {
	path, err := canonical(folder)
	if err != nil {
		return nil, err
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("look for mounts: %w", err)
	}
	defer f.Close()
	all, err := parseMounts(f)
	if err != nil {
		return nil, fmt.Errorf("look for mounts: %w", err)
	}
	var found *mount
	for i := range all {
		if all[i].point == path {
			found = &all[i]
		}
	}
	return found, nil
}

// findMount gives what is mounted on the bundle's local folder.
func (b *Bundle) findMount(st *State) (*mount, error) {
	if st.MountPoint == None {
		return nil, nil
	}
	return findMount(st.MountPoint)
}

// canonical resolves the links in the folders above path, as far as they
// exist, but never asks for path itself.
func canonical(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	dir, rest := filepath.Dir(path), filepath.Base(path)
	for {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		if !os.IsNotExist(err) || dir == filepath.Dir(dir) {
			return "", fmt.Errorf("resolve %s: %w", dir, err)
		}
		dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest)
	}
}

func parseMounts(r io.Reader) ([]mount, error) {
	var all []mount
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		// 36 35 98:0 /root /mount/point options… - fstype source superoptions
		left, right, ok := strings.Cut(in.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 2 {
			continue
		}
		all = append(all, mount{unescape(l[4]), r[0], unescape(r[1])})
	}
	return all, in.Err()
}

// unescape undoes the kernel's \040 for blanks and the like.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			var c byte
			octal := true
			for _, d := range []byte(s[i+1 : i+4]) {
				octal = octal && d >= '0' && d <= '7'
				c = c<<3 | (d - '0')
			}
			if octal {
				b.WriteByte(c)
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
