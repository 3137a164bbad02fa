package ops

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"bundlefs/bundle"
	"bundlefs/internal/remote"
)

// copyOp delivers artifacts into the mounted bundle. The globs are relative to
// deploy.ini's folder; what they match comes under its base name, folders with all
// that is in them. A file that is there already with the same content is left as
// it is. A new file is written under its name and removed when that fails, one
// that replaces another is written beside it and renamed over it.
type copyOp struct {
	globs []string
	to    string // below the bundle, "" for the bundle itself
}

// copyWorkers is how many files are under way at once: enough to fill a link
// on which each file waits for the node.
const copyWorkers = 16

func parseCopy(_ Host, a *arguments) (operation, error) {
	o := copyOp{globs: a.words}
	if len(a.words) == 0 {
		return nil, errors.New("needs a glob")
	}
	for _, glob := range a.words {
		if _, err := filepath.Match(glob, ""); err != nil || glob == "" {
			return nil, fmt.Errorf("glob %q is malformed", glob)
		}
	}
	if a.has("--to") {
		to, err := inside("--to", a.value("--to"))
		if err != nil {
			return nil, err
		}
		o.to = strings.TrimPrefix(to, ".")
	}
	return o, nil
}

// delivery is one file to copy.
type delivery struct {
	source, path string // path: in the bundle, with slashes
	info         fs.FileInfo
}

func (o copyOp) run(ctx context.Context, t *task) Result {
	if r := deliverable(ctx, t.work.env); r.Status != OK {
		return r
	}
	list, folders, r := o.list(ctx, t.work.env.Dir)
	if r.Status != OK {
		return r
	}
	return deliver(ctx, t, list, folders)
}

// deliverable tells whether there is a mount to deliver into; OK when there is.
func deliverable(ctx context.Context, env *Env) Result {
	switch mounted, err := env.mounted(ctx); {
	case err != nil:
		return resultOf(ctx, err)
	case !mounted:
		return blocked(fmt.Sprintf("run '%s', or '%s' when it is open already", remote.Quote("conc", "open", env.Node.Name), remote.Quote("conc", "mount", env.Node.Name)),
			"the bundle is not mounted")
	}
	return Result{}
}

// deliver copies files into the bundle, notes them in the manifest, and tells how many.
func deliver(ctx context.Context, t *task, list []delivery, folders []string) Result {
	env := t.work.env
	manifest, err := LoadManifest(env.Bundle)
	if err != nil {
		return resultOf(ctx, err)
	}
	files, err := env.Bundle.Files(ctx)
	if err != nil {
		return resultOf(ctx, err)
	}
	defer files.Close()
	c := &copying{to: files, t: t, manifest: manifest}
	for _, d := range list {
		c.total += d.info.Size()
	}
	err = c.all(ctx, list, folders)
	// Also after a failure: what was copied is there.
	err = errors.Join(err, c.manifest.save(env.Bundle))
	if errors.Is(err, syscall.EROFS) { // so is a mount that has lost the lock, which the barrier tells
		if lost := t.barrier(ctx); errors.Is(lost, bundle.ErrBlocked) || errors.Is(lost, bundle.ErrNotOurs) {
			err = lost
		}
	}
	if err != nil {
		return copyResult(ctx, err)
	}
	if c.kept > 0 {
		return ok("%d files, %d of them there already", len(list), c.kept)
	}
	return ok("%d files, %d bytes", len(list), c.total)
}

// copyResult: what the operating system refuses is FAILED, it is not our fault.
func copyResult(ctx context.Context, err error) Result {
	r := resultOf(ctx, err)
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	if r.Status == Error && (errors.As(err, &pathErr) || errors.As(err, &linkErr)) {
		r.Status = Failed
	}
	return r
}

// list gives the files that the globs match, and the folders to make, outermost first.
func (o copyOp) list(ctx context.Context, dir string) (list []delivery, folders []string, r Result) {
	from := map[string]string{} // path in the bundle → source
	for _, glob := range o.globs {
		found, err := globIn(dir, glob)
		if err != nil {
			return nil, nil, failed("", "%v", err)
		}
		if len(found) == 0 {
			return nil, nil, nothingMatches(dir, glob)
		}
		for _, source := range found {
			files, dirs, err := walk(ctx, source, path.Join(o.to, filepath.Base(source)))
			if err != nil {
				return nil, nil, copyResult(ctx, err)
			}
			for _, d := range files {
				if !utf8.ValidString(d.path) {
					return nil, nil, failed("rename it, or leave it out: what is delivered is known by its name", "the name %q is not in UTF-8", d.source)
				}
				if d.path == bundle.RecordName {
					return nil, nil, failed("leave it out", "%s has the name of the bundle's owner record", d.source)
				}
				switch other, taken := from[d.path]; {
				case taken && other == d.source:
					continue
				case taken:
					return nil, nil, failed("copy one of them with --to DIR", "%s and %s would both become %s", other, d.source, d.path)
				}
				from[d.path] = d.source
				list = append(list, d)
			}
			folders = append(folders, dirs...)
		}
	}
	if o.to != "" {
		folders = append([]string{o.to}, folders...)
	}
	return list, folders, Result{}
}

// quoteMeta makes a glob that matches the path only.
func quoteMeta(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// walk gives the files at or below source. Symbolic links to files are followed.
func walk(ctx context.Context, source, target string) (files []delivery, folders []string, err error) {
	info, err := os.Stat(source)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case info.Mode().IsRegular():
		return []delivery{{source, target, info}}, nil, nil
	case !info.IsDir():
		return nil, nil, &fs.PathError{Op: "copy", Path: source, Err: errors.New("is neither a file nor a folder")}
	}
	source, err = filepath.EvalSymlinks(source)
	if err != nil {
		return nil, nil, err
	}
	err = filepath.WalkDir(source, func(p string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		below, err := filepath.Rel(source, p)
		if err != nil {
			return err
		}
		name := path.Join(target, filepath.ToSlash(below))
		if e.IsDir() {
			folders = append(folders, name)
			return nil
		}
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return &fs.PathError{Op: "copy", Path: p, Err: errors.New("is no file: name what it leads to in a glob of its own, or leave it out")}
		}
		files = append(files, delivery{p, name, info})
		return nil
	})
	return files, folders, err
}

func (o copyOp) explain(env *Env, _ *Step) string {
	line := "cd " + remote.Quote(env.Dir) + " && "
	if env.Bundle.MountPoint() == bundle.None {
		return withoutMount(env, o.globs, o.to)
	}
	target := path.Join(env.Bundle.MountPoint(), o.to)
	if o.to != "" {
		line += remote.Quote("mkdir", "-p", target) + " && "
	}
	line += "cp -rLp --"
	for _, glob := range o.globs {
		line += " " + globWord(glob)
	}
	return "(" + line + " " + remote.Quote(target) + "/)"
}

// withoutMount is the command by hand where there is no mount: a copy over SSH.
func withoutMount(env *Env, globs []string, to string) string {
	n, target := env.Node, path.Join(env.Bundle.Dir(), to)
	line := "cd " + remote.Quote(env.Dir) + " && "
	if to != "" {
		line += overSSH(n, remote.Quote("mkdir", "-p", target)) + " && "
	}
	line += scp(n, "-rp") + " --"
	for _, glob := range globs {
		line += " " + globWord(glob)
	}
	return "(" + line + " " + remote.Quote(remotePrefix(n)+target+"/") + ")"
}

// copying is one run of copy.
type copying struct {
	to    bundle.Files
	t     *task
	total int64

	mu       sync.Mutex // guards what follows
	manifest Manifest
	kept     int
	done     int64
}

func (c *copying) all(ctx context.Context, list []delivery, folders []string) error {
	for _, f := range folders {
		if err := c.to.MkdirAll(ctx, f, 0o755); err != nil {
			return err
		}
	}
	g, limited := errgroup.WithContext(ctx)
	g.SetLimit(copyWorkers)
	for _, d := range list {
		if limited.Err() != nil {
			break
		}
		g.Go(func() error { return c.one(limited, d) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// one copies a file, or finds that it is there.
func (c *copying) one(ctx context.Context, d delivery) error {
	in, err := os.Open(d.source)
	if err != nil {
		return err
	}
	defer in.Close()
	c.mu.Lock()
	before, known := c.manifest[d.path]
	c.mu.Unlock()
	there, statErr := c.to.Lstat(ctx, d.path)
	if known && statErr == nil && unchanged(there, before, d.info) {
		poured := c.pour(ctx, in)
		if _, err := io.Copy(io.Discard, poured); err != nil {
			return err
		}
		if poured.sum() == before.SHA256 {
			c.mu.Lock()
			c.kept++
			c.mu.Unlock()
			return nil
		}
		c.count(-d.info.Size()) // it is read once more
		if _, err := in.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	name := d.path
	if statErr == nil {
		name = newName(d.path)
		if err := c.to.Remove(ctx, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	poured := c.pour(ctx, in)
	err = c.to.Write(ctx, name, d.info.Mode().Perm(), d.info.ModTime(), poured)
	if err == nil && name != d.path {
		err = c.to.Rename(ctx, name, d.path)
	}
	if err != nil {
		c.to.Remove(context.WithoutCancel(ctx), name)
		return err
	}
	after, err := c.to.Lstat(ctx, d.path)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manifest[d.path] = Entry{poured.sum(), poured.size, after.ModTime().Unix(), time.Now().Unix()}
	return nil
}

// newName is where a file is written that replaces one: beside it, under a name that is short
// whatever its own is, and the same in the next try, so that what an interrupted one left is replaced.
func newName(name string) string {
	sum := sha256.Sum256([]byte(path.Base(name)))
	return path.Join(path.Dir(name), ".conc-new-"+hex.EncodeToString(sum[:8]))
}

// settled is how much older than its delivery a file's time must be to tell a
// change: a change in the same second would not show, since SFTP carries whole seconds.
const settled = 2 // seconds

// unchanged tells whether what is in the bundle is still what was delivered
// there, and looks like the source.
func unchanged(there fs.FileInfo, delivered Entry, source fs.FileInfo) bool {
	return there.Mode().IsRegular() && there.Size() == delivered.Size && there.ModTime().Unix() == delivered.ModTime &&
		delivered.Time-delivered.ModTime >= settled &&
		there.Size() == source.Size() && there.Mode().Perm() == source.Mode().Perm()
}

// pouring is a source that is read: with the SHA-256 taken on the way, and up to the end of ctx.
type pouring struct {
	ctx  context.Context
	c    *copying
	in   io.Reader
	hash hash.Hash
	size int64
}

func (c *copying) pour(ctx context.Context, in io.Reader) *pouring {
	return &pouring{ctx: ctx, c: c, in: in, hash: sha256.New()}
}

func (p *pouring) Read(b []byte) (int, error) {
	if err := context.Cause(p.ctx); err != nil {
		return 0, err
	}
	n, err := p.in.Read(b)
	p.hash.Write(b[:n])
	p.size += int64(n)
	if n > 0 {
		p.c.count(int64(n))
	}
	return n, err
}

func (p *pouring) sum() string { return hex.EncodeToString(p.hash.Sum(nil)) }

func (c *copying) count(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += n
	c.t.progress(Progress{What: "copy", Done: c.done, Total: c.total, Unit: "bytes"})
}
