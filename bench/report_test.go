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

// reportMemory compares the peak memory of the mount with what is promised.
func (b *bench) reportMemory(w io.Writer) {
	head := false
	for _, n := range b.o.sizes.untar {
		for _, rtt := range b.o.rtts {
			r := b.result(fmt.Sprintf("untar-%d", n), rtt, ours)
			if r == nil {
				continue
			}
			if !head {
				fmt.Fprint(w, "\n| untar, files | RTT ms | peak RSS MiB | promised MiB | ms a file |\n| --- | --- | --- | --- | --- |\n")
				head = true
			}
			fmt.Fprintf(w, "| %d | %d | %.1f | %.1f | %.3f |\n", n, rtt.Milliseconds(), float64(r.Peak)/(1<<20), 64+float64(n)/1024, r.Median*1000/float64(n))
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
		verdict := "reached"
		if mine/other > t.most {
			verdict = "**missed**"
		}
		fmt.Fprintf(w, "| %s / %s | %d | %.3g | %.3g | %s |\n", t.work, t.peer, t.rtt.Milliseconds(), t.most, mine/other, verdict)
	}
}

func (b *bench) reportCounts(w io.Writer) {
	if len(b.counted) == 0 {
		return
	}
	fmt.Fprint(w, "\n| work | SFTP requests | round trips at most | by type |\n| --- | --- | --- | --- |\n")
	for _, c := range b.counted {
		fmt.Fprintf(w, "| %s | %d | %.1f | %s |\n", c.Work, c.Total, c.Trips, byType(c.Requests))
	}
}

func (b *bench) writeJSON(path string) error {
	raw, err := json.MarshalIndent(map[string]any{"processors": runtime.NumCPU(), "results": b.results, "counts": b.counted}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}
