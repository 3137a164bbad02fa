package fs

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Operation is what is known of the requests of one kind that the kernel has made.
type Operation struct {
	Name  string `json:"name"` // as in fuse.h, without FUSE_ and in small letters
	Count int64  `json:"count"`
	// Total is the time of all together; Median and P99 are those of the times of single
	// requests, rounded up by at most a quarter.
	Total  time.Duration `json:"total_ns"`
	Median time.Duration `json:"median_ns"`
	P99    time.Duration `json:"p99_ns"`
}

// The operations that are counted, by their numbers in linux/fuse.h; those which take no time are not.
var opNames = map[uint32]string{
	1: "lookup", 3: "getattr", 4: "setattr", 5: "readlink", 6: "symlink", 8: "mknod", 9: "mkdir", 10: "unlink", 11: "rmdir",
	12: "rename", 13: "link", 14: "open", 15: "read", 16: "write", 17: "statfs", 20: "fsync", 25: "flush", 27: "opendir",
	28: "readdir", 30: "fsyncdir", 35: "create", 43: "fallocate", 44: "readdirplus", 45: "rename", 46: "lseek", 47: "copy_file_range",
}

// opMost is above all numbers of opNames.
const opMost = 64

// latencies counts requests by kind and time. All of it is atomic.
type latencies [opMost]latency

// latency is a histogram: the times up to 2^b µs in four steps to each doubling.
type latency struct {
	count, total atomic.Int64
	steps        [latencySteps]atomic.Int64
}

const latencySteps = 4 * 34 // up to 2^33 µs, which is more than two hours

// step is the first step that holds a time.
func step(d time.Duration) int {
	us := uint64(max(d, 0)+time.Microsecond-1) / uint64(time.Microsecond)
	if us < 4 {
		return int(us)
	}
	double := bits.Len64(us) - 1 // 2^double ≤ us
	quarter := int(us>>(double-2)) & 3
	n := 4*(double-1) + quarter
	if us&(1<<(double-2)-1) != 0 {
		n++ // between two steps: the upper one
	}
	return min(n, latencySteps-1)
}

// stepTime is the longest time of a step.
func stepTime(n int) time.Duration {
	if n < 4 {
		return time.Duration(n) * time.Microsecond
	}
	double, quarter := n/4+1, n%4
	return time.Duration(uint64(4+quarter)<<(double-2)) * time.Microsecond
}

// add counts a request. Unknown kinds are not counted.
func (l *latencies) add(opcode uint32, d time.Duration) {
	if opNames[opcode] == "" {
		return
	}
	if opcode == 45 { // RENAME2
		opcode = 12
	}
	h := &l[opcode]
	h.total.Add(int64(d))
	h.steps[step(d)].Add(1)
	h.count.Add(1)
}

// read lists the kinds of which there were any.
func (l *latencies) read() []Operation {
	var list []Operation
	for opcode := range l {
		h := &l[opcode]
		if h.count.Load() == 0 {
			continue
		}
		// Requests go on meanwhile: what counts is what is in the histogram.
		var steps [latencySteps]int64
		var count int64
		for i := range steps {
			steps[i] = h.steps[i].Load()
			count += steps[i]
		}
		if count == 0 {
			continue
		}
		list = append(list, Operation{
			Name: opNames[uint32(opcode)], Count: count, Total: time.Duration(h.total.Load()),
			Median: percentile(&steps, count, 50), P99: percentile(&steps, count, 99),
		})
	}
	return list
}

// percentile is the time within which p per cent of the requests were.
func percentile(steps *[latencySteps]int64, count, p int64) time.Duration {
	rank := max((count*p+99)/100, 1)
	for i, n := range steps {
		if rank -= n; rank <= 0 {
			return stepTime(i)
		}
	}
	return stepTime(latencySteps - 1)
}
