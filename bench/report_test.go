package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// report writes the results as Markdown.
func (b *bench) report(w io.Writer) {
	fmt.Fprintf(w, "\n%d processors, %s/%s; medians of up to %d runs; in parentheses bundlefs over that peer.\n\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, b.o.runs)
	fmt.Fprint(w, "| work | RTT ms |")
	for _, p := range b.peers {
		fmt.Fprintf(w, " %s |", p.name)
	}
	fmt.Fprintf(w, "\n|%s\n", strings.Repeat(" --- |", 2+len(b.peers)))
	for _, work := range b.works {
		for _, rtt := range b.o.rtts {
			mine := b.median(work.name, rtt, ours)
			fmt.Fprintf(w, "| %s | %d |", work.name, rtt.Milliseconds())
			for _, p := range b.peers {
				fmt.Fprintf(w, " %s |", cell(b.median(work.name, rtt, p.name), mine, p.name))
			}
			fmt.Fprintln(w)
		}
	}
	b.reportMemory(w)
	b.reportReach(w)
	b.reportCounts(w)
}

func cell(seconds, mine float64, peer string) string {
	switch {
	case seconds == 0:
		return ""
	case mine == 0 || peer == ours:
		return fmt.Sprintf("%.2f s", seconds)
	}
	return fmt.Sprintf("%.2f s (%.3g)", seconds, mine/seconds)
}

// verdict says whether a promise is kept.
func verdict(kept bool) string {
	if kept {
		return "reached"
	}
	return "**missed**"
}

// linear is how much more time a file of a large archive may take than one of a small one.
const linear = 1.5

// reportMemory compares the peak memory of the mount with what is promised, and the time
// of a file with that in the smallest archive.
func (b *bench) reportMemory(w io.Writer) {
	head := false
	for _, rtt := range b.o.rtts {
		first := 0.0 // of a file in the smallest archive
		for _, n := range b.o.sizes.untar {
			r := b.result(fmt.Sprintf("untar-%d", n), rtt, ours)
			if r == nil {
				continue
			}
			if !head {
				fmt.Fprint(w, "\n| untar, files | RTT ms | peak RSS MiB | promised MiB | | ms a file | linear |\n| --- | --- | --- | --- | --- | --- | --- |\n")
				head = true
			}
			peak, promised, each := float64(r.Peak)/(1<<20), 64+float64(n)/1024, r.Median*1000/float64(n)
			if first == 0 {
				first = each
			}
			fmt.Fprintf(w, "| %d | %d | %.1f | %.1f | %s | %.3f | %s |\n", n, rtt.Milliseconds(), peak, promised, verdict(peak <= promised), each, verdict(each <= linear*first))
		}
	}
}

// target is a ratio to reach.
type target struct {
	work string
	rtt  time.Duration
	peer string
	most float64
}

const ms = time.Millisecond

var targets = []target{
	{"small-in", 0, "rsync", 1}, {"small-in", 10 * ms, "rsync", 1}, {"small-in", 50 * ms, "rsync", 1},
	{"small-in", 50 * ms, "sshfs", 1.0 / 200},
	{"small-rm", 50 * ms, "sshfs", 0.03}, {"small-rm-cold", 50 * ms, "sshfs", 0.03},
	{"small-ls", 50 * ms, "sshfs", 0.15},
	{"small-read", 50 * ms, "sshfs", 0.03},
	{"git", 10 * ms, "sshfs", 0.1},
	{"big-in", 50 * ms, "sshfs", 0.4}, {"big-in", 0, "scp", 0.8},
	{"big-read", 50 * ms, "sshfs", 0.1}, {"big-read", 0, "scp", 0.8},
}

// reportReach tells which of the ratios were reached.
func (b *bench) reportReach(w io.Writer) {
	head := false
	for _, t := range targets {
		mine, other := b.median(t.work, t.rtt, ours), b.median(t.work, t.rtt, t.peer)
		if mine == 0 || other == 0 {
			continue
		}
		if !head {
			fmt.Fprint(w, "\n| to reach | RTT ms | at most | is | |\n| --- | --- | --- | --- | --- |\n")
			head = true
		}
		fmt.Fprintf(w, "| %s / %s | %d | %.3g | %.3g | %s |\n", t.work, t.peer, t.rtt.Milliseconds(), t.most, mine/other, verdict(mine/other <= t.most))
	}
}

func (b *bench) reportCounts(w io.Writer) {
	if len(b.counted) == 0 {
		return
	}
	fmt.Fprint(w, "\n| work | SFTP requests | waves | round trips at most | | by type |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, c := range b.counted {
		promise := ""
		switch c.Work {
		case "vim":
			promise = "4 waves: " + verdict(c.Waves <= 4)
		case "chmod":
			promise = fmt.Sprintf("%d requests: %s", handful, verdict(c.Total <= handful))
		}
		fmt.Fprintf(w, "| %s | %d | %d | %.1f | %s | %s |\n", c.Work, c.Total, c.Waves, c.Trips, promise, byType(c.Requests))
	}
}

// handful is how many requests a storm of chmods may be, with those of the barrier and
// the proofs of the lease.
const handful = 20

func (b *bench) writeJSON(path string) error {
	raw, err := json.MarshalIndent(map[string]any{"processors": runtime.NumCPU(), "results": b.results, "counts": b.counted}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}
