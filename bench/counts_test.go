package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"bundlefs/internal/control"
	"bundlefs/internal/lease"
	"bundlefs/internal/node"
	"bundlefs/internal/testnode"
)

// countRTT is long enough for the time until the barrier, divided by it, to be the number of round trips.
const countRTT = 100 * time.Millisecond

// counts are what a workload costs in requests, whatever the machine.
type counts struct {
	Work     string         `json:"work"`
	Requests map[string]int `json:"requests"` // by type
	Total    int            `json:"total"`
	Lease    int            `json:"lease"` // how often the owner record was opened, among them
	// Waves is how often the node had nothing to do for half a round trip and was then
	// asked again: of few requests the round trips that one waits for, of a stream fewer.
	Waves int     `json:"waves"`
	Trips float64 `json:"round_trips"` // at most: the time until the barrier over the round-trip time
}

// counted are the workloads of which only the requests are counted, beside those of allWorks.
func countedWorks(s sizes) []*work {
	return []*work{
		{name: "vim", title: "save a file of 20 KB as vim does", before: func(_ *bench, _ *mounted, t string) error {
			return errors.Join(os.Mkdir(t, 0o755), os.WriteFile(filepath.Join(t, "file"), make([]byte, 20_000), 0o644))
		}, mounted: func(_ *bench, _ *mounted, t string) error { return saveAsVim(filepath.Join(t, "file"), 20_100) }},
		{name: "chmod", title: fmt.Sprintf("chmod of one file, %d times", s.chmods), before: func(_ *bench, _ *mounted, t string) error {
			return errors.Join(os.Mkdir(t, 0o755), os.WriteFile(filepath.Join(t, "file"), nil, 0o644))
		}, mounted: func(_ *bench, _ *mounted, t string) error {
			for i := range s.chmods {
				if err := os.Chmod(filepath.Join(t, "file"), os.FileMode(0o600+i%0o100)); err != nil {
					return err
				}
			}
			return nil
		}},
	}
}

// saveAsVim does what vim does for :w with its defaults (writebackup, backupcopy=auto, fsync): it tries whether
// it can make files there, renames the old file, writes the new one under the name, and removes the old one.
func saveAsVim(path string, size int) error {
	dir := filepath.Dir(path)
	old, err := os.Stat(path)
	if err != nil {
		return err
	}
	probe := filepath.Join(dir, "4913")
	f, err := os.OpenFile(probe, os.O_CREATE|os.O_WRONLY|os.O_EXCL, old.Mode().Perm())
	if err != nil {
		return err
	}
	err = errors.Join(f.Chown(os.Getuid(), os.Getgid()), f.Close(), os.Remove(probe), os.Rename(path, path+"~"))
	if err != nil {
		return err
	}
	if f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644); err != nil {
		return err
	}
	text := strings.Repeat("0123456789\n", size/11+1)[:size]
	for len(text) > 0 && err == nil {
		n := min(len(text), 8<<10)
		_, err = f.WriteString(text[:n])
		text = text[n:]
	}
	return errors.Join(err, f.Sync(), f.Close(), os.Chmod(path, old.Mode().Perm()), os.Remove(path+"~"))
}

// countAll counts the requests of exclusive mode on the embedded node, which tells of each.
func (b *bench) countAll() error {
	if !slices.ContainsFunc(b.peers, func(p *peer) bool { return p.name == ours }) {
		return nil
	}
	tally := &tally{pause: b.o.countRTT / 2}
	n, err := node.Start(node.Observe(tally.add))
	if err != nil {
		return err
	}
	defer n.Close()
	link := testnode.NewLink(b.t, "127.0.0.1:"+strconv.Itoa(n.Port))
	b.home, b.port = n.Home, link.Port()
	if b.config, err = b.reach(n); err != nil {
		return err
	}
	link.SetRTT(b.o.countRTT)
	for _, w := range slices.Concat(b.works, countedWorks(b.o.sizes)) {
		if !w.countable(b.o.sizes) || !chosen(b.o.works, w.name) || b.ctx.Err() != nil {
			continue
		}
		c, err := b.countOne(w, tally)
		if err != nil {
			return fmt.Errorf("count %s: %w", w.name, err)
		}
		b.counted = append(b.counted, c)
		fmt.Fprintf(b.o.progress, "%-13s %d requests, %d waves, %.1f round trips at most\n", w.name, c.Total, c.Waves, c.Trips)
	}
	return nil
}

// countable leaves out what is about data, and all but the smallest archive.
func (w *work) countable(s sizes) bool {
	if len(s.untar) > 0 && w.name == fmt.Sprintf("untar-%d", slices.Min(s.untar)) {
		return true
	}
	return strings.HasPrefix(w.name, "small") || slices.Contains([]string{"git", "vim", "chmod"}, w.name)
}

// reach writes the ssh_config of the link to the embedded node.
func (b *bench) reach(n *node.Node) (string, error) {
	known, err := os.ReadFile(n.KnownHosts)
	if err != nil {
		return "", err
	}
	hosts, config := filepath.Join(b.dir, "known_hosts"), filepath.Join(b.dir, "ssh_config")
	text := strings.ReplaceAll(string(known), fmt.Sprintf("]:%d", n.Port), fmt.Sprintf("]:%d", b.port))
	if err := os.WriteFile(hosts, []byte(text), 0o600); err != nil {
		return "", err
	}
	words := fmt.Sprintf("Host node\n  HostName 127.0.0.1\n  Port %d\n  User %s\n  IdentityFile %s\n  IdentitiesOnly yes\n  UserKnownHostsFile %s\n", b.port, n.User, n.KeyFile, hosts)
	return config, os.WriteFile(config, []byte(words), 0o600)
}

func (b *bench) countOne(w *work, tally *tally) (c counts, err error) {
	dir, err := b.place(w, allPeers[0])
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(filepath.Join(b.home, dir))) }()
	m, err := b.mount(allPeers[0], dir)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, m.end()) }()
	// Not the command, whose start takes time.
	client, err := control.Dial(b.ctx, m.point)
	if err != nil {
		return c, err
	}
	defer client.Close()
	sync := func() error {
		var result json.RawMessage
		return client.Call(b.ctx, "sync", nil, &result, nil)
	}
	t := filepath.Join(m.point, "t")
	if w.before != nil {
		if err := errors.Join(w.before(b, m, t), sync()); err != nil {
			return c, err
		}
	}
	tally.take()
	started := time.Now()
	if err := errors.Join(w.mounted(b, m, t), sync()); err != nil {
		return c, err
	}
	took := time.Since(started)
	c = tally.take()
	c.Work, c.Trips = w.name, float64(took)/float64(max(b.o.countRTT, 1))
	return c, nil
}

// tally counts requests.
type tally struct {
	pause time.Duration // between two waves of them

	mu   sync.Mutex // guards what follows
	n    counts
	last time.Time
}

func (t *tally) add(r node.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n.Requests == nil {
		t.n.Requests = map[string]int{}
	}
	t.n.Requests[r.Name]++
	t.n.Total++
	if r.Name == "OPEN" && filepath.Base(r.Path) == lease.RecordName {
		t.n.Lease++
	}
	now := time.Now()
	if now.Sub(t.last) > t.pause {
		t.n.Waves++
	}
	t.last = now
}

// take returns what was counted and begins anew.
func (t *tally) take() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer func() { t.n, t.last = counts{}, time.Time{} }()
	return t.n
}

// byType lists requests, the most frequent first.
func byType(requests map[string]int) string {
	names := slices.SortedFunc(maps.Keys(requests), func(a, b string) int {
		if d := requests[b] - requests[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, n := range names {
		parts = append(parts, fmt.Sprintf("%d %s", requests[n], n))
	}
	return strings.Join(parts, ", ")
}
