// Package wheelcache keeps the wheels that were built on this workstation.
//
//	c, err := wheelcache.Open(dir, limit)
//	defer c.Close()
//	file, err := c.Get(key)  // "" when it is not there
//	dir, done, err := c.Temp() // build in it
//	file, err = c.Put(key, built)
//
// A key stands for all that a wheel was built from. An entry is a folder named
// by its key with the wheel and its SHA-256; it comes into being by a rename, and
// is verified whenever it is used. Several processes may use one cache: while
// one has it open nothing is removed that another may be using. What a killed one left
// is removed by the next.
package wheelcache

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/internal/rmtree"
)

// Cache is a folder of wheels. Its methods may be called from several goroutines.
type Cache struct {
	dir   string
	limit int64
	lock  *os.File // locked for sharing: entries are not removed
}

const (
	lockName = "lock"
	sumName  = "sha256"
	tempMark = "tmp-"
)

var keyForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Open opens the cache in dir, which it makes when it is not there, for the
// user alone. limit is how many bytes Close leaves in it.
func Open(dir string, limit int64) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("wheel cache: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("wheel cache: %w", err) // another user's
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("wheel cache: %w", err)
	}
	if err := flock(lock, unix.LOCK_SH); err != nil {
		lock.Close()
		return nil, fmt.Errorf("wheel cache: lock %s: %w", lock.Name(), err)
	}
	c := &Cache{dir: dir, limit: limit, lock: lock}
	c.sweep()
	return c, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// Get gives the wheel of a key; "" when there is none, or a damaged one, which is removed.
func (c *Cache) Get(key string) (string, error) {
	entry, err := c.entry(key)
	if err != nil {
		return "", err
	}
	file, err := verify(entry)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		if rerr := os.RemoveAll(entry); rerr != nil {
			return "", fmt.Errorf("wheel cache: %s is damaged (%w), and cannot be removed: %w", entry, err, rerr)
		}
		return "", nil
	}
	now := time.Now()
	_ = os.Chtimes(entry, now, now) // only tells what was used last
	return file, nil
}

func (c *Cache) entry(key string) (string, error) {
	if !keyForm.MatchString(key) {
		return "", fmt.Errorf("wheel cache: %q is no key: it must be a SHA-256", key)
	}
	return filepath.Join(c.dir, key), nil
}

// verify gives the wheel in an entry when it is whole.
func verify(entry string) (string, error) {
	if _, err := os.Lstat(entry); err != nil {
		return "", err
	}
	sum, err := os.ReadFile(filepath.Join(entry, sumName))
	if err != nil {
		return "", fmt.Errorf("checksum: %s", err)
	}
	found, err := filepath.Glob(filepath.Join(entry, "*.whl"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("it has %d wheels", len(found))
	}
	got, err := Sum(found[0])
	if err == nil && got != strings.TrimSpace(string(sum)) {
		err = errors.New("the checksum differs")
	}
	return found[0], err
}

// Sum is a file's SHA-256 in hexadecimal.
func Sum(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// Temp makes a folder to build in, on the cache's file system. done removes it.
func (c *Cache) Temp() (dir string, done func() error, err error) {
	if dir, err = os.MkdirTemp(c.dir, tempMark); err != nil {
		return "", nil, fmt.Errorf("wheel cache: %w", err)
	}
	f, err := os.Open(dir)
	if err == nil {
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB) // tells sweep that it is in use
	}
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, fmt.Errorf("wheel cache: %w", err)
	}
	return dir, sync.OnceValue(func() error {
		defer f.Close()
		return rmtree.Remove(dir)
	}), nil
}

// Put moves a wheel from a Temp folder into the cache and gives its place there.
// When another process was quicker, the wheel is that one's.
func (c *Cache) Put(key, file string) (string, error) {
	entry, err := c.entry(key)
	if err != nil {
		return "", err
	}
	sum, err := Sum(file)
	if err != nil {
		return "", fmt.Errorf("wheel cache: %w", err)
	}
	made, done, err := c.Temp()
	if err != nil {
		return "", err
	}
	defer done()
	// The entry is a folder within: what Temp made stays locked, and is removed.
	inner := filepath.Join(made, "entry")
	if err = os.Mkdir(inner, 0o700); err == nil {
		err = os.Rename(file, filepath.Join(inner, filepath.Base(file)))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(inner, sumName), []byte(sum+"\n"), 0o600)
	}
	if err == nil {
		err = os.Rename(inner, entry)
	}
	if err != nil {
		if there, gerr := c.Get(key); gerr == nil && there != "" {
			return there, nil
		}
		return "", fmt.Errorf("wheel cache: %w", err)
	}
	return filepath.Join(entry, filepath.Base(file)), nil
}

// sweep removes the folders that killed processes built in.
func (c *Cache) sweep() {
	found, err := filepath.Glob(filepath.Join(c.dir, tempMark+"*"))
	if err != nil {
		return
	}
	for _, dir := range found {
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		info, err := f.Stat()
		// One that was just made may not be locked yet.
		if err == nil && time.Since(info.ModTime()) > time.Minute && flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = rmtree.Remove(dir)
		}
		f.Close()
	}
}

// Close removes what was not used for longest, until the limit is kept, unless
// another process has the cache open.
func (c *Cache) Close() error {
	defer c.lock.Close()
	if flock(c.lock, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	type entry struct {
		path string
		size int64
		used time.Time
	}
	var entries []entry
	var total int64
	list, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("wheel cache: %w", err)
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil || !e.IsDir() || !keyForm.MatchString(e.Name()) {
			continue
		}
		path := filepath.Join(c.dir, e.Name())
		var size int64
		files, _ := os.ReadDir(path)
		for _, f := range files {
			if info, err := f.Info(); err == nil {
				size += info.Size()
			}
		}
		entries = append(entries, entry{path, size, info.ModTime()})
		total += size
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.used.UnixNano(), b.used.UnixNano()) })
	for _, e := range entries {
		if total <= c.limit {
			break
		}
		if err := os.RemoveAll(e.path); err != nil {
			return fmt.Errorf("wheel cache: %w", err)
		}
		total -= e.size
	}
	return nil
}
