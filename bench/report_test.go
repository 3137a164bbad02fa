package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report writes the results as Markdown.
func (b *bench) report(w io.Writer) {
	fmt.Fprintf(w, "\n%d processors, %s/%s; medians of up to %d runs; in parentheses bundlefs over that peer.\n\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, b.o.runs)
	var peers []*peer // that have a measurement
	for _, p := range b.peers {
		if slices.ContainsFunc(b.results, func(r *result) bool { return r.Peer == p.name }) {
			peers = append(peers, p)
		}
	}
	fmt.Fprint(w, "| work | RTT ms |")
	for _, p := range peers {
		fmt.Fprintf(w, " %s |", p.name)
	}
	fmt.Fprintf(w, "\n|%s\n", strings.Repeat(" --- |", 2+len(peers)))
	for _, work := range b.works {
		for _, rtt := range b.o.rtts {
			mine := b.median(work.name, rtt, ours)
			fmt.Fprintf(w, "| %s | %d |", work.name, rtt.Milliseconds())
			for _, p := range peers {
				fmt.Fprintf(w, " %s |", cell(b.median(work.name, rtt, p.name), mine, p.name))
			}
			fmt.Fprintln(w)
		}
	}
	b.reportShared(w)
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

// reportShared compares shared mode with sshfs, than which it should be nowhere slower.
func (b *bench) reportShared(w io.Writer) {
	head := false
	for _, work := range b.works {
		for _, rtt := range b.o.rtts {
			mine, other := b.median(work.name, rtt, "shared"), b.median(work.name, rtt, "sshfs")
			if mine == 0 || other == 0 {
				continue
			}
			if !head {
				fmt.Fprint(w, "\n| work | RTT ms | shared | sshfs | shared over sshfs |\n| --- | --- | --- | --- | --- |\n")
				head = true
			}
			fmt.Fprintf(w, "| %s | %d | %.2f s | %.2f s | %.3g |\n", work.name, rtt.Milliseconds(), mine, other, mine/other)
		}
	}
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
	than string // the peer's work, "" for the same
}

const ms = time.Millisecond

var targets = []target{
	{work: "small-in", rtt: 0, peer: "rsync", most: 1}, {work: "small-in", rtt: 10 * ms, peer: "rsync", most: 1}, {work: "small-in", rtt: 50 * ms, peer: "rsync", most: 1},
	{work: "small-in", rtt: 50 * ms, peer: "sshfs", most: 1.0 / 200},
	{work: "small-rm", rtt: 50 * ms, peer: "sshfs", most: 0.03}, {work: "small-rm-cold", rtt: 50 * ms, peer: "sshfs", most: 0.03},
	{work: "small-ls", rtt: 50 * ms, peer: "sshfs", most: 0.15},
	{work: "small-read", rtt: 50 * ms, peer: "sshfs", most: 0.03},
	{work: "git", rtt: 10 * ms, peer: "sshfs", most: 0.1},
	{work: "big-in", rtt: 50 * ms, peer: "sshfs", most: 0.4}, {work: "big-in", rtt: 0, peer: "scp", most: 0.8},
	{work: "big-read", rtt: 50 * ms, peer: "sshfs", most: 0.1}, {work: "big-read", rtt: 0, peer: "scp", most: 0.8},
	{work: "big-read-dd", rtt: 50 * ms, peer: "sshfs", most: 0.1}, {work: "big-read-cp", rtt: 50 * ms, peer: "sshfs", most: 0.1}, {work: "big-read-mmap", rtt: 50 * ms, peer: "sshfs", most: 0.1},
	{work: "big-random", rtt: 50 * ms, peer: "sshfs", most: 1.0 / 4},
	{work: "deploy", rtt: 0, peer: "tar", most: 1.1}, {work: "deploy", rtt: 50 * ms, peer: "tar", most: 1.1}, {work: "deploy", rtt: 50 * ms, peer: "ansible", most: 1.0 / 8},
	{work: "deploy-list", rtt: 0, peer: "tar", most: 1.1, than: "deploy"}, {work: "deploy-list", rtt: 50 * ms, peer: "tar", most: 1.1, than: "deploy"},
	{work: "deploy-sdist", rtt: 0, peer: ours, most: 1.3, than: "deploy"}, {work: "deploy-sdist", rtt: 50 * ms, peer: ours, most: 1.3, than: "deploy"},
}

// reportReach tells which of the ratios were reached.
func (b *bench) reportReach(w io.Writer) {
	head := false
	for _, t := range targets {
		than := t.than
		if than == "" {
			than = t.work
		}
		mine, other := b.median(t.work, t.rtt, ours), b.median(than, t.rtt, t.peer)
		if mine == 0 || other == 0 {
			continue
		}
		if !head {
			fmt.Fprint(w, "\n| to reach | RTT ms | at most | is | |\n| --- | --- | --- | --- | --- |\n")
			head = true
		}
		fmt.Fprintf(w, "| %s / %s | %d | %.3g | %.3g | %s |\n", t.work, strings.TrimSpace(t.peer+" "+t.than), t.rtt.Milliseconds(), t.most, mine/other, verdict(mine/other <= t.most))
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
