package vfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The fence of the folder stands on the node. What was sent over a connection that was given up may
// still be done there, long after: by servers that were stopped, out of buffers that were full. So
// the folder is reached by a name of its own, a symbolic link that Name gives. Before anything is
// sent over the next connection, the name is renamed: what then comes by the old one finds nothing.
// A rename needs the old name, so it fails when the lease was broken, which removes it. Where a mount
// makes a name itself, since there is none, it proves the lock through it before it uses it: one that
// comes too late is used by nobody, and the next opening removes it. Open handles do not go by names:
// the former servers are ended, by a command over the new connection. See server.go.

// fenced is what a file system with lease names knows of them. Exclusive.mu guards its fields.
type fenced struct {
	home    string    // absolute path of the folder with the names; "" while it is not known
	folder  string    // as rootDir: what the names lead to
	names   []int     // one of them exists, or, after a try that was cut off, perhaps another
	servers []process // of former connections, which may not have ended on the node
	current []process // of the connection in use, once they are known
	using   *connection
	on      bool   // there is something to be done after a connection that was given up
	made    bool   // the name was not there: we have made it, and remove it
	plain   string // why the folder is reached without a name; "" when it is not
	doubt   string // why a former server may still act; "" when none can
}

// note is what the spool keeps of it, for a mount after this process was killed.
type note struct {
	Names   []int     `json:"names"`
	Servers []process `json:"servers,omitempty"`
}

// entered is a way into the folder that was tried when mounting.
type entered struct {
	root    string // as it is given to the server
	n       int    // the number of the lease name, 0: none
	former  bool   // an earlier mount may have left requests on their way by that name
	servers []process
}

// enter tells how the folder is to be reached, as far as that is known without asking the node.
func (x *Exclusive) enter() (entered, error) {
	if x.o.Name == nil {
		return entered{root: x.o.Root}, nil
	}
	var kept note
	found, err := x.spool.Note(&kept)
	if err != nil {
		return entered{}, err
	}
	if found && len(kept.Names) == 0 { // it did without
		return entered{root: x.o.Name(1), n: 1, former: true, servers: kept.Servers}, nil
	}
	if found {
		x.mu.Lock()
		x.fenced.names = kept.Names
		x.mu.Unlock()
		last := kept.Names[len(kept.Names)-1]
		return entered{root: x.o.Name(last), n: last, former: true, servers: kept.Servers}, nil
	}
	empty, err := x.spool.Empty()
	e := entered{root: x.o.Name(1), n: 1}
	if err == nil && !empty { // something was begun, by which servers is not known
		e.former, e.servers = true, []process{{}}
	}
	return e, err
}

// ownNames is the number from which on a mount has made the lease name itself. It makes none twice,
// whose former requests may still be under way: the numbers are milliseconds since 1970.
const ownNames = 1 << 40

// anotherWay looks for the lease name that there is, where it is not the one that was expected; without
// any it makes one, which is then proved like every other.
func (x *Exclusive) anotherWay(ctx context.Context, e entered) (entered, error) {
	// The lock is proved by the folder's own name first, so that nobody finds a name of a lost one.
	target := orHome(x.o.Root)
	if err := x.checkLease(ctx, target); err != nil {
		return e, err
	}
	names, err := readDir(ctx, x.link, ".", maxEntries)
	if err != nil {
		return e, err
	}
	prefix := strings.TrimSuffix(x.o.Name(1), "1")
	last := 0
	for _, name := range names {
		rest, ok := strings.CutPrefix(name.Name, prefix)
		n, err := strconv.Atoi(rest)
		if !ok || err != nil || n <= last || x.o.Name(n) != name.Name {
			continue
		}
		to, err := ask(ctx, x.link, func(s *session) (string, error) { return s.ReadLink(name.Name).Wait(context.Background()) })
		if err == nil && path.Clean(to) == path.Clean(target) { // else it is of another folder
			last = n
		}
	}
	e.root, e.n = x.o.Name(last), last
	if last == 0 {
		e.n = int(time.Now().UnixMilli())
		e.root = x.o.Name(e.n)
		_, err = ask(ctx, x.link, func(s *session) (struct{}, error) {
			return struct{}{}, s.Symlink(context.Background(), target, e.root)
		})
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		x.fenced.plain = fmt.Sprintf("the node makes no lease name: %v", err)
		e.root, e.n = x.o.Root, 0
		return e, nil
	}
	x.fenced.made = e.n >= ownNames
	return e, nil
}

// leaveName removes a lease name that this mount has made itself, if it can be done at once.
func (x *Exclusive) leaveName() {
	x.mu.Lock()
	f := &x.fenced
	made := f.made && len(f.names) == 1 && f.home != "" && f.plain == "" && x.fence == nil
	name := ""
	if made {
		name = path.Join(f.home, x.o.Name(f.names[0]))
	}
	pending := x.marks.n > 0 || len(x.refused) > 0 || len(x.doubts) > 0
	x.mu.Unlock()
	c, _, _ := x.link.state()
	if !made || pending || c == nil || c.isLost() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	if err := c.pick().Remove(ctx, name); err != nil {
		x.log.Debug("removing the lease name", "error", err)
	}
}

// leaveTime is how long the end of a file system waits for that.
const leaveTime = 2 * time.Second

func orHome(root string) string {
	if root == "" {
		return "."
	}
	return root
}

// hold has all requests go by the lease name from now on, and proves the name, when mounting.
func (x *Exclusive) hold(ctx context.Context, e entered, home string) error {
	if x.o.Name == nil {
		return nil
	}
	x.mu.Lock()
	f := &x.fenced
	f.on, f.folder, f.servers = true, x.rootDir, e.servers
	if e.n == 0 {
		f.names = nil
	} else if f.home = home; len(f.names) == 0 || f.names[len(f.names)-1] != e.n {
		f.names = append(f.names, e.n)
	}
	x.mu.Unlock()
	for {
		c, err := x.link.get(ctx)
		if err != nil {
			return err
		}
		if c.base.IsSet() { // reconnected has seen to it
			return nil
		}
		if e.former {
			err = x.renew(ctx, c)
		} else {
			if e.n > 0 {
				c.base.Set(x.rootDir, path.Join(home, e.root))
			}
			err = x.keepNote()
		}
		if err != nil && !isLost(err) {
			return err
		}
		if err == nil && !c.isLost() { // a later one is looked after by reconnected
			x.noteServers(c)
			return nil
		}
	}
}

// keepNote brings to the disk what a later mount has to know.
func (x *Exclusive) keepNote() error {
	x.noting.Lock()
	defer x.noting.Unlock()
	x.mu.Lock()
	f := &x.fenced
	kept := note{Names: slices.Clone(f.names), Servers: slices.Concat(f.servers, f.current)}
	x.mu.Unlock()
	return x.spool.SetNote(kept)
}

// renew fences what was sent over earlier connections, before anything is sent over c: the lease
// name gets another number, and the former servers are ended. The error is ErrLeaseLost if the name
// is gone and the lock with it.
func (x *Exclusive) renew(ctx context.Context, c *connection) error {
	x.mu.Lock()
	f := &x.fenced
	if f.using != c {
		f.servers, f.current, f.using = append(f.servers, f.current...), nil, nil
	}
	home, folder, former, old := f.home, f.folder, slices.Clone(f.servers), slices.Clone(f.names)
	next := 0
	if len(old) > 0 {
		next = old[len(old)-1] + 1
		f.names = append(f.names, next)
	}
	plain, name := f.plain, ""
	x.mu.Unlock()
	if err := x.keepNote(); err != nil { // first: whatever becomes of it can be found again
		return err
	}
	ended := make(chan error, 1)
	x.tasks.Go(func() { ended <- endServers(ctx, c, former) })
	var err error
	if next > 0 {
		name = path.Join(home, x.o.Name(next))
		plain, err = x.renameLease(ctx, c, old, name)
	}
	doubt := <-ended
	if err != nil {
		return err
	}
	x.mu.Lock()
	f.plain, f.doubt = plain, ""
	if next > 0 && plain == "" {
		f.names = []int{next}
		c.base.Set(folder, name)
	} else {
		x.log.Warn("what is sent is not fenced on the node", "why", plain)
	}
	if doubt == nil {
		f.servers = nil
	} else {
		f.doubt = "a server that hung may still act: verify what is on the node: " + doubt.Error()
		x.log.Warn("a server that hung may still act: verify what is on the node", "error", doubt)
	}
	x.mu.Unlock()
	return x.keepNote()
}

// renameLease gives the lease name another number. Where that cannot be, and the lock is ours by the
// folder's own name, it returns why.
func (x *Exclusive) renameLease(ctx context.Context, c *connection, old []int, name string) (plain string, err error) {
	s := c.sessions()[0]
	x.mu.Lock()
	home, folder := x.fenced.home, x.fenced.folder
	x.mu.Unlock()
	var first error
	for i := len(old) - 1; i >= 0; i-- {
		from := path.Join(home, x.o.Name(old[i]))
		err := bounded(ctx, func(ctx context.Context) error { return s.Rename(ctx, from, name) })
		if err == nil {
			return "", nil
		}
		if isLost(err) || ctx.Err() != nil {
			return "", err
		}
		if !errors.Is(err, os.ErrNotExist) && first == nil {
			first = err
		}
	}
	if err := x.o.Check(func(file string) ([]byte, error) { return readSmallOn(s, folder, file) }); err != nil {
		return "", err
	}
	if first == nil {
		return "its lease name is gone from the node", nil
	}
	return fmt.Sprintf("its lease name cannot be renamed: %v", first), nil
}

// missing is asked when the node says that something is not there: by a lease name that is gone
// nothing is, and that proves nothing. Then the error is that of a lease that is lost.
func (x *Exclusive) missing(ctx context.Context, err error) error {
	if !errors.Is(err, os.ErrNotExist) || !x.fencedByName() {
		return err
	}
	x.mu.Lock()
	lost := x.fence
	x.mu.Unlock()
	if lost == nil {
		if lost = x.checkLease(ctx, x.rootDir); lost == nil {
			return err
		}
		if !errors.Is(lost, ErrLeaseLost) {
			return lost
		}
		x.fenceOff(lost)
	}
	return fmt.Errorf("%w: %w: %w", errFenced, syscall.EROFS, lost)
}

// bounded gives a request on a new connection the time that opening one has.
func bounded(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return request(ctx)
}

// noteServers finds out, beside all else, which processes on the node serve a connection, so that
// they can be ended if it is given up.
func (x *Exclusive) noteServers(c *connection) {
	x.mu.Lock()
	x.fenced.using, x.fenced.current = c, []process{{}} // not known
	x.mu.Unlock()
	x.tasks.Go(func() {
		select {
		case <-c.whole:
		case <-c.lost:
			return
		case <-x.ctx.Done():
			return
		}
		found, err := servers(x.ctx, c)
		if err != nil {
			x.log.Debug("the servers on the node are not known", "error", err)
			return
		}
		x.mu.Lock()
		if x.fenced.using == c {
			x.fenced.current = found
		}
		x.mu.Unlock()
		if err := x.keepNote(); err != nil && x.ctx.Err() == nil {
			x.log.Warn("noting the servers on the node", "error", err)
		}
	})
}
