package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bundlefs/internal/testnode"
)

// options say what to measure.
type options struct {
	sizes    sizes
	rtts     []time.Duration
	runs     int
	slow     bool
	countRTT time.Duration
	works    []string // names, none for all
	peers    []string // names, none for all
	tmp      string
	profile  string
	progress io.Writer
}

// tooSlow is how long a measurement is expected to take that is made once only, or not at all.
const tooSlow = 10 * time.Second

// bench is a series of measurements.
type bench struct {
	t       *testing.T
	ctx     context.Context // ends when the user interrupts
	o       options
	dir     string // holds everything but the node
	node    *testnode.Node
	link    *testnode.Link
	rtt     time.Duration // of the link
	home    string        // of the node
	port    int           // of the link
	config  string        // ssh_config that reaches the node, as "node", over the link
	conc    string        // the program; "" unless a workload is about it
	works   []*work
	peers   []*peer
	count   int // numbers folders
	results []*result
	counted []counts
}

// sample is one measurement.
type sample struct {
	Seconds float64 `json:"seconds"`
	Peak    int64   `json:"peak_rss,omitempty"` // of a mount's process, in bytes
	CPU     float64 `json:"cpu,omitempty"`      // processor time of a mount's process, in seconds
}

// result is all of one workload with one peer at one round-trip time.
type result struct {
	Work    string        `json:"work"`
	Peer    string        `json:"peer"`
	RTT     time.Duration `json:"-"`
	RTTms   float64       `json:"rtt_ms"`
	Median  float64       `json:"median"` // seconds
	Peak    int64         `json:"peak_rss,omitempty"`
	Samples []sample      `json:"samples"`
}

// measure makes all measurements.
func measure(t *testing.T, o options) *bench {
	t.Helper()
	if o.tmp != "" {
		t.Setenv("TMPDIR", o.tmp)
	}
	b := &bench{t: t, o: o}
	var stop context.CancelFunc
	b.ctx, stop = signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Short, for the sockets in it, and open to the node's user.
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if b.dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	if err := b.choose(); err != nil {
		t.Fatal(err)
	}
	if b.needsConc() { // before HOME is another, in which go would begin with an empty cache
		if err := b.buildConc(); err != nil {
			t.Fatal(err)
		}
	}
	for name, sub := range map[string]string{"HOME": "", "XDG_CACHE_HOME": "cache", "XDG_STATE_HOME": "state", "XDG_CONFIG_HOME": "config", "XDG_RUNTIME_DIR": "run"} {
		if err := os.MkdirAll(filepath.Join(b.dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv(name, filepath.Join(b.dir, sub))
	}
	if o.profile != "" {
		abs, err := filepath.Abs(o.profile)
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv(profileEnv, abs)
	}
	if err := b.makeTrees(); err != nil {
		t.Fatal(err)
	}
	b.node = testnode.Start(t)
	b.link = testnode.NewLink(t, b.node.Addr)
	b.config, b.port, b.home = b.node.SSHConfigVia(b.link), b.link.Port(), b.node.Home
	if b.conc != "" {
		if err := b.warmDeploys(); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range b.works {
		for _, rtt := range o.rtts {
			b.measureWork(w, rtt)
		}
	}
	if err := b.countAll(); err != nil && b.ctx.Err() == nil {
		t.Error(err)
	}
	return b
}

// choose finds the workloads and peers that are asked for and installed.
func (b *bench) choose() error {
	known := map[string]bool{}
	for _, w := range countedWorks(b.o.sizes) {
		known[w.name] = true
	}
	for _, w := range allWorks(b.o.sizes) {
		known[w.name] = true
		if chosen(b.o.works, w.name) {
			b.works = append(b.works, w)
		}
	}
	for _, p := range allPeers {
		known[p.name] = true
		if !chosen(b.o.peers, p.name) {
			continue
		}
		if _, err := exec.LookPath(p.program); p.program != "" && err != nil {
			fmt.Fprintf(b.o.progress, "%s is not installed, so it is not measured\n", p.name)
			continue
		}
		b.peers = append(b.peers, p)
	}
	for _, name := range slices.Concat(b.o.works, b.o.peers) {
		if !known[name] {
			return fmt.Errorf("%s: neither a workload nor a peer", name)
		}
	}
	return nil
}

// chosen tells whether a list names something; an empty one names all.
func chosen(list []string, name string) bool {
	return len(list) == 0 || slices.Contains(list, name)
}

// measureWork makes all runs of a workload at one round-trip time, the peers in turn.
func (b *bench) measureWork(w *work, rtt time.Duration) {
	b.link.SetRTT(rtt)
	b.rtt = rtt
	for run := range b.o.runs {
		for _, p := range b.peers {
			if !w.applies(b, p) {
				continue
			}
			if b.tooSlow(w, p, rtt, run) {
				continue
			}
			if b.ctx.Err() != nil {
				b.t.Fatal("interrupted")
			}
			s, err := b.once(w, p)
			if err != nil {
				b.t.Errorf("%s at %v with %s: %v", w.name, rtt, p.name, err)
				continue
			}
			r := b.result(w.name, rtt, p.name)
			if r == nil {
				r = &result{Work: w.name, Peer: p.name, RTT: rtt, RTTms: float64(rtt) / float64(time.Millisecond)}
				b.results = append(b.results, r)
			}
			r.add(s)
			fmt.Fprintf(b.o.progress, "%-12s %2d ms  %-8s %8.3f s  cpu %.2f s  peak %d MiB\n", w.name, rtt.Milliseconds(), p.name, s.Seconds, s.CPU, s.Peak>>20)
		}
	}
}

// tooSlow tells whether a run is left out since it takes, or took the first time, too long.
func (b *bench) tooSlow(w *work, p *peer, rtt time.Duration, run int) bool {
	if run > 0 {
		r := b.result(w.name, rtt, p.name)
		return r != nil && r.Samples[0].Seconds > tooSlow.Seconds() && (w.deploys == nil || p.patient)
	}
	expected := time.Duration(w.trips) * (rtt + time.Millisecond/2)
	return p.patient && expected > tooSlow && !b.o.slow
}

// patience is how long a mount may take until it is taken to hang, as sshfs does now and then.
func (b *bench) patience(w *work) time.Duration {
	return 2*time.Minute + 10*time.Duration(w.trips)*(b.rtt+time.Millisecond)
}

// applies tells whether a peer can do the work.
func (w *work) applies(b *bench, p *peer) bool {
	switch {
	case w.deploys != nil:
		return w.deploys[p.name] != nil
	case p.mount != nil:
		return w.mounted != nil && (p.name != "rclone" || w.name != "git") // git writes into the middle of files
	case w.with != nil:
		return w.with(b, p, "") != nil
	}
	return p.push != nil && (w.push != "" || w.pull != "")
}

// place makes the folder for one measurement, relative to the node's home.
func (b *bench) place(w *work, p *peer) (string, error) {
	b.count++
	dir := fmt.Sprintf("b%d", b.count)
	home := filepath.Join(b.home, dir)
	if err := os.Mkdir(home, 0o755); err != nil {
		return "", err
	}
	var err error
	if w.placed != "" {
		err = os.CopyFS(filepath.Join(home, "t"), os.DirFS(b.tree(w.placed)))
	}
	if p.exclusive {
		err = errors.Join(err, writeRecord(home))
	}
	if *full {
		unix.Sync() // what one has written is not written during the next one's time
	}
	return dir, err
}

// once makes one measurement in a folder of its own.
func (b *bench) once(w *work, p *peer) (s sample, err error) {
	dir, err := b.place(w, p)
	if err != nil {
		return s, err
	}
	home := filepath.Join(b.home, dir)
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	switch {
	case w.deploys != nil:
		s, err = b.deploying(w, p, dir)
	case p.mount != nil:
		s, err = b.onMount(w, p, dir)
	default:
		s, err = b.copying(w, p, dir)
	}
	if err == nil && w.check != nil {
		err = w.check(b, filepath.Join(home, "t"))
	}
	return s, err
}

func (b *bench) onMount(w *work, p *peer, dir string) (s sample, err error) {
	m, err := b.mount(p, dir)
	if err != nil {
		return s, err
	}
	if w.before != nil {
		err = w.before(b, m, filepath.Join(m.point, "t"))
		if err == nil {
			err = m.sync()
		}
		if err != nil {
			return s, errors.Join(err, m.end())
		}
	}
	hung := time.AfterFunc(b.patience(w), func() { _ = m.cmd.Process.Kill() })
	started := time.Now()
	err = w.mounted(b, m, filepath.Join(m.point, "t"))
	if err == nil && w.check != nil { // it has changed something
		err = m.sync()
	}
	took := time.Since(started)
	if !hung.Stop() {
		return s, errors.Join(fmt.Errorf("not done in %v, ended: %w", b.patience(w), err), m.kill())
	}
	if w.name == "mount" {
		took = m.took
	}
	if err == nil {
		err = m.memory()
	}
	if err == nil && w.reads && p.barrier {
		err = sameTree(b.tree(w.placed), filepath.Join(m.point, "t")) // from the kernel's cache, what was read
	}
	err = errors.Join(err, m.end())
	return sample{Seconds: took.Seconds(), Peak: m.peak, CPU: m.cpu.Seconds()}, err
}

func (b *bench) copying(w *work, p *peer, dir string) (s sample, err error) {
	var cmd *exec.Cmd
	local := filepath.Join(b.dir, "pulled")
	switch {
	case w.with != nil:
		cmd = w.with(b, p, dir)
	case w.push != "":
		cmd = p.push(b, b.tree(w.push), dir)
	default:
		defer func() { err = errors.Join(err, os.RemoveAll(local)) }()
		cmd = p.pull(b, local, dir)
	}
	started := time.Now()
	err = b.run(cmd)
	s.Seconds = time.Since(started).Seconds()
	if err == nil && w.pull != "" {
		err = sameTree(b.tree(w.pull), local)
	}
	return s, err
}

func (b *bench) result(work string, rtt time.Duration, peer string) *result {
	for _, r := range b.results {
		if r.Work == work && r.RTT == rtt && r.Peer == peer {
			return r
		}
	}
	return nil
}

// median is that of a result in seconds, 0 if there is none.
func (b *bench) median(work string, rtt time.Duration, peer string) float64 {
	if r := b.result(work, rtt, peer); r != nil {
		return r.Median
	}
	return 0
}

func (r *result) add(s sample) {
	r.Samples = append(r.Samples, s)
	var all []float64
	for _, s := range r.Samples {
		all = append(all, s.Seconds)
		r.Peak = max(r.Peak, s.Peak)
	}
	slices.Sort(all)
	r.Median = (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}
