package mountprog

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"bundlefs/fs"
	"bundlefs/fs/vfs"
)

// printStatus tells how a mount is doing, for people.
func printStatus(w io.Writer, raw json.RawMessage) error {
	var r report
	if err := json.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("the mount's answer: %w", err)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, oneLine(fmt.Sprintf(format, args...)))
	}
	line("mountpoint", "%s", r.Mountpoint)
	line("source", "%s", r.Source)
	line("mode", "%s", r.Mode)
	line("process", "%d, bundlefs %s", r.PID, r.Version)
	state := "up"
	if !r.Connected {
		state = "down"
	}
	if since := r.Traffic.Since; !since.IsZero() {
		state += fmt.Sprintf(" for %v, since %s", time.Since(since).Round(time.Second), since.Local().Format(time.DateTime))
	}
	if r.LinkError != "" {
		state += ": " + r.LinkError
	}
	line("link", "%s", state)
	line("connections", "%d so far, %d sessions now", r.Traffic.Connections, r.Sessions)
	if r.Traffic.RTT > 0 {
		line("round trip", "%v", short(r.Traffic.RTT))
	}
	line("received", "%s", size(r.Traffic.In))
	line("sent", "%s", size(r.Traffic.Out))
	line("known", "%d files and folders, %d open", r.Inodes, r.Open)
	for _, c := range caches(r.Traffic) {
		if n := c.Hits.Hits + c.Misses; n > 0 {
			line(c.name, "%d of %d answered from the cache (%d %%)", c.Hits.Hits, n, 100*c.Hits.Hits/n)
		}
	}
	line("pending", "%s", amount(r.Pending))
	if r.Unmounted {
		line("unmounted", "it ends when what is pending was sent, or cannot be")
	}
	for _, refused := range r.Refused {
		text, err := json.Marshal(refused)
		if err != nil {
			return err
		}
		line("refused", "%s", text)
	}
	if r.Fence != "" {
		line("read-only", "%s", r.Fence)
	}
	if r.Doubt != "" {
		line("doubt", "%s", oneLine(r.Doubt))
	}
	if r.Unfenced != "" {
		line("unfenced", "%s", oneLine(r.Unfenced))
	}
	if err := t.Flush(); err != nil || len(r.Operations) == 0 {
		return err
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\noperation\tcount\tmedian\t99 %%\t\n")
	for _, o := range r.Operations {
		fmt.Fprintf(t, "%s\t%d\t%v\t%v\t\n", oneLine(o.Name), o.Count, short(o.Median), short(o.P99))
	}
	return t.Flush()
}

// cacheHits is one of the caches.
type cacheHits struct {
	name string
	vfs.Hits
}

func caches(t fs.Traffic) []cacheHits {
	return []cacheHits{{"names", t.Names}, {"attributes", t.Attributes}, {"listings", t.Listings}, {"reads", t.Data}}
}

// short rounds a time to three digits or so.
func short(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond)
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}

// amount is what is pending, for people.
func amount(p fs.Progress) string { return fmt.Sprintf("%d files, %s", p.Files, size(p.Bytes)) }

// size is a number of bytes for people.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	f, unit := float64(n), -1
	for f >= 1024 && unit < len(units)-1 {
		f /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[unit])
}
