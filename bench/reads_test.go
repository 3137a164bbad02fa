package bench

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

const (
	readers  = 32 // that read at once at random
	pageSize = 4096
)

// mmapReader touches each page of a mapped file.
const mmapReader = `import mmap, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
    sum(pages[at] for at in range(0, len(pages), mmap.PAGESIZE))`

// readWorks are readings of *big* with other programs than cat, at random, and of *small* for the second time.
func readWorks(s sizes) []*work {
	big := func(name, how string, command func(file string) *exec.Cmd) *work {
		return &work{name: name, title: "read *big* with " + how + ", cold", trips: 400, placed: "big", reads: true,
			mounted: func(b *bench, _ *mounted, t string) error { return b.run(command(filepath.Join(t, "big.bin"))) }}
	}
	again := func(name, title string, pass func(*bench, *mounted, string) error, trips int) *work {
		return &work{name: name, title: title + " for the second time", trips: trips, placed: "small", before: pass, mounted: pass}
	}
	return []*work{
		big("big-read-dd", "dd bs=1M", func(file string) *exec.Cmd { return exec.Command("dd", "if="+file, "of=/dev/null", "bs=1M") }),
		big("big-read-cp", "cp", func(file string) *exec.Cmd { return exec.Command("cp", file, "/dev/null") }),
		big("big-read-mmap", "mmap", func(file string) *exec.Cmd { return exec.Command(python, "-c", mmapReader, file) }),
		{
			name: "big-random", title: fmt.Sprintf("read %d pages of 4 KiB of *big* at random, %d at a time, cold", s.pages(), readers), trips: s.pages() / 8, placed: "big",
			mounted: func(b *bench, _ *mounted, t string) error {
				return randomReads(b.tree("big/big.bin"), filepath.Join(t, "big.bin"), s.pages())
			},
		},
		again("small-ls-warm", "ls -lR *small*", list, 0),
		again("small-read-warm", "read all of *small*", read, s.folders*s.files),
	}
}

// pages is how many are read at random: one in 32, in which nobody can guess the next.
func (s sizes) pages() int { return max(readers, int(s.big/pageSize/32)) }

// randomReads has each of the readers read pages of its own, and compares them with the source.
func randomReads(source, file string, pages int) error {
	want, err := os.Open(source)
	if err != nil {
		return err
	}
	defer want.Close()
	st, err := want.Stat()
	if err != nil {
		return err
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(int(st.Size() / pageSize))[:pages]
	var all errgroup.Group
	for r := range readers {
		own := order[r*pages/readers : (r+1)*pages/readers]
		all.Go(func() error {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer f.Close()
			got, right := make([]byte, pageSize), make([]byte, pageSize)
			for _, page := range own {
				at := int64(page) * pageSize
				if _, err := f.ReadAt(got, at); err != nil {
					return err
				}
				if _, err := want.ReadAt(right, at); err != nil {
					return err
				}
				if !bytes.Equal(got, right) {
					return fmt.Errorf("%s: the page at %d differs", file, at)
				}
			}
			return nil
		})
	}
	return all.Wait()
}
