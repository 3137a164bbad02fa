package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bundlefs/internal/mountprog"
)

// profileEnv names the folder in which bundlefs, when it is this binary, leaves a CPU profile.
const profileEnv = "BENCH_CPUPROFILE"

var (
	full    = flag.Bool("full", false, "measure (else the tests only see to it that everything works)")
	short   = flag.Bool("short", false, "one run, without what takes long: under two minutes")
	runs    = flag.Int("runs", 3, "how often each measurement is made; what is slow is made once")
	slow    = flag.Bool("slow", true, "measure too what is expected to take longer than 10 s")
	rtts    = flag.String("rtt", "", "round-trip times in milliseconds (0,10,50; with -short 0,50)")
	works   = flag.String("work", "", "names of workloads (all): see docs/benchmarks.md")
	peers   = flag.String("peers", "", "names of peers (all that are installed)")
	tmp     = flag.String("tmp", "", "where the node's home, the spool and the sources are (the temporary folder)")
	jsonOut = flag.String("json", "", "file for the results as JSON")
	profile = flag.String("profile", "", "folder for CPU profiles of bundlefs")
)

// TestMain lets the binary be bundlefs when it is started under that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "bundlefs" {
		os.Exit(bundlefs())
	}
	goleak.VerifyTestMain(m)
}

func bundlefs() int {
	if dir := os.Getenv(profileEnv); dir != "" && len(os.Args) > 1 && os.Args[1] == "-f" {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("cpu-%d.prof", os.Getpid())))
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer f.Close()
		defer pprof.StopCPUProfile()
	}
	return mountprog.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// TestBench measures, with -full.
func TestBench(t *testing.T) {
	if !*full {
		return // TestEverythingWorks does the same on tiny trees
	}
	o := options{
		sizes: fullSizes, runs: *runs, slow: *slow, tmp: *tmp, countRTT: countRTT, progress: os.Stderr,
		works: words(*works), peers: words(*peers), profile: *profile,
	}
	list := words(*rtts)
	switch {
	case len(list) == 0 && *short:
		list = []string{"0", "50"}
	case len(list) == 0:
		list = []string{"0", "10", "50"}
	}
	for _, w := range list {
		ms, err := time.ParseDuration(w + "ms")
		if err != nil {
			t.Fatalf("-rtt %s: milliseconds by commas: %v", *rtts, err)
		}
		o.rtts = append(o.rtts, ms)
	}
	if *short {
		o.runs, o.slow, o.sizes.untar = 1, false, []int{2000}
		if len(o.peers) == 0 { // without what waits for the node with each file
			o.peers = []string{ours, "sshfs", "rsync", "tar", "scp"}
		}
		if len(o.works) == 0 {
			o.works = []string{"mount", "small-in", "small-rm", "small-rm-cold", "small-ls", "big-in", "untar-2000"}
		}
	}
	b := measure(t, o)
	b.report(os.Stdout)
	if *jsonOut != "" {
		if err := b.writeJSON(*jsonOut); err != nil {
			t.Error(err)
		}
	}
}

// TestEverythingWorks goes through all workloads with all peers on tiny trees.
func TestEverythingWorks(t *testing.T) {
	if *full {
		return
	}
	tiny := options{sizes: tinySizes, runs: 1, slow: true, rtts: []time.Duration{0}, progress: t.Output()}
	t.Run("peers", func(t *testing.T) {
		o := tiny
		o.works = []string{"small-in", "small-read"}
		b := measure(t, o)
		for _, p := range b.peers {
			if (p.mount != nil || p.push != nil) && b.median("small-in", 0, p.name) <= 0 {
				t.Errorf("%s was not measured", p.name)
			}
		}
	})
	tiny.peers = []string{ours, "tar"}
	b := measure(t, tiny)
	for _, w := range b.works {
		if b.median(w.name, 0, ours) <= 0 {
			t.Errorf("%s was not measured", w.name)
		}
	}
	for _, c := range b.counted {
		// The owner record is read at each barrier, and now and then; what else is closed is of the first time.
		r := c.Requests
		if strings.HasSuffix(c.Work, "-warm") && (r["OPEN"] > c.Lease || c.Total > r["OPEN"]+r["FSTAT"]+r["READ"]+r["CLOSE"]) {
			t.Errorf("%s asks the node: %v, of which %d are for the owner record", c.Work, r, c.Lease)
		}
	}
	var text strings.Builder
	b.report(&text)
	if !strings.Contains(text.String(), "| small-in | 0 |") {
		t.Errorf("no table:\n%s", text.String())
	}
	if err := b.writeJSON(filepath.Join(t.TempDir(), "results.json")); err != nil {
		t.Error(err)
	}
}

// words splits a list by commas.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}
