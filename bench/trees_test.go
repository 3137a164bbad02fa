package bench

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// sizes are those of the trees.
type sizes struct {
	folders, files int   // of small: folders, and files in each
	big            int64 // bytes
	git            int   // files of the repository
	untar          []int // files of each archive
	chmods         int   // of the storm
	wheels         int   // of a deploy
}

var (
	fullSizes = sizes{folders: 50, files: 20, big: 256 << 20, git: 2000, untar: []int{5000, 10000, 20000}, chmods: 10000, wheels: 20}
	tinySizes = sizes{folders: 2, files: 3, big: 1 << 20, git: 5, untar: []int{10}, chmods: 20, wheels: 3}
)

// filler gives the same incompressible bytes in every run.
type filler struct{ *rand.ChaCha8 }

func newFiller(name string) filler {
	var seed [32]byte
	copy(seed[:], name)
	return filler{rand.NewChaCha8(seed)}
}

// size draws one between 1 and most KiB.
func (f filler) size(most int) int { return 1<<10 + int(f.Uint64()%uint64((most-1)<<10)) }

func (f filler) file(path string, n int64) error {
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(w, f, n)
	return errors.Join(err, w.Close())
}

// makeSmall makes files of 1 to 16 KiB.
func makeSmall(dir string, folders, files int) error {
	f := newFiller("small")
	for i := range folders {
		sub := filepath.Join(dir, fmt.Sprintf("folder%02d", i))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		for j := range files {
			if err := f.file(filepath.Join(sub, fmt.Sprintf("file%03d.dat", j)), int64(f.size(16))); err != nil {
				return err
			}
		}
	}
	return nil
}

func makeBig(dir string, bytes int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return newFiller("big").file(filepath.Join(dir, "big.bin"), bytes)
}

// makeArchive makes a tar of files of 1 to 19 KiB, 100 in a folder.
func makeArchive(path string, files int) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	f := newFiller("untar")
	w := tar.NewWriter(out)
	when := time.Unix(1_700_000_000, 0)
	for i := range files {
		folder := fmt.Sprintf("tree/folder%04d/", i/100)
		if i%100 == 0 {
			if err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder, Mode: 0o755, ModTime: when}); err != nil {
				break
			}
		}
		n := int64(f.size(19))
		if err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%sfile%02d", folder, i%100), Mode: 0o644, Size: n, ModTime: when}); err != nil {
			break
		}
		if _, err = io.CopyN(w, f, n); err != nil {
			break
		}
	}
	return errors.Join(err, w.Close(), out.Close())
}

// sameTree compares two folders byte by byte.
func sameTree(want, got string) error {
	seen := 0
	err := filepath.WalkDir(want, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen++
		rel, err := filepath.Rel(want, path)
		if err != nil {
			return err
		}
		other := filepath.Join(got, rel)
		if d.IsDir() {
			st, err := os.Lstat(other)
			if err == nil && !st.IsDir() {
				err = fmt.Errorf("%s is no folder", other)
			}
			return err
		}
		return sameFile(path, other)
	})
	if err != nil {
		return err
	}
	return countEntries(got, seen)
}

func countEntries(dir string, want int) error {
	n := 0
	err := filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error { n++; return err })
	if err == nil && n != want {
		err = fmt.Errorf("%s has %d entries, want %d", dir, n, want)
	}
	return err
}

func sameFile(want, got string) error {
	w, err := os.Open(want)
	if err != nil {
		return err
	}
	defer w.Close()
	g, err := os.Open(got)
	if err != nil {
		return err
	}
	defer g.Close()
	return sameBytes(w, g, got)
}

func sameBytes(want, got io.Reader, name string) error {
	a, b := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, werr := io.ReadFull(want, a)
		m, gerr := io.ReadFull(got, b)
		if n != m || !bytes.Equal(a[:n], b[:m]) {
			return fmt.Errorf("%s: content differs", name)
		}
		if werr != nil || gerr != nil {
			return nil // the same end: read in whole buffers otherwise
		}
	}
}

// sameArchive compares a folder with an archive.
func sameArchive(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	entries := 1
	for r := tar.NewReader(f); ; entries++ {
		h, err := r.Next()
		if err == io.EOF {
			return countEntries(dir, entries+1) // the folder itself and tree/
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		g, err := os.Open(filepath.Join(dir, h.Name))
		if err != nil {
			return err
		}
		err = sameBytes(r, g, g.Name())
		st, serr := g.Stat()
		if g.Close(); err != nil || serr != nil {
			return errors.Join(err, serr)
		}
		if !st.ModTime().Equal(h.ModTime) {
			return fmt.Errorf("%s: time %v, want %v", g.Name(), st.ModTime(), h.ModTime)
		}
	}
}
