// Package rmtree removes folders that are ours, whatever was done to them.
package rmtree

import (
	"io/fs"
	"os"
	"path/filepath"
)

// Remove removes a folder with all that is in it, also if some of its folders were made
// unwritable meanwhile. What is not there is no error.
func Remove(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && err == nil {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
