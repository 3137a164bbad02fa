package mountprog

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// printPrometheus writes the status in the text format of Prometheus, for the textfile
// collector of its node exporter and the like.
func printPrometheus(w io.Writer, raw json.RawMessage) error {
	var r report
	if err := json.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("the mount's answer: %w", err)
	}
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(collector{&r}); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	families, err := registry.Gather()
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return err
		}
	}
	return nil
}

// collector makes metrics of a report.
type collector struct{ *report }

// Describe implements prometheus.Collector. What there is depends on the report.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	labels := prometheus.Labels{"mountpoint": c.Mountpoint, "source": c.Source, "mode": c.Mode}
	add := func(kind prometheus.ValueType, name, help string, value float64, pairs ...string) {
		var names, values []string
		for i := 0; i < len(pairs); i += 2 {
			names, values = append(names, pairs[i]), append(values, pairs[i+1])
		}
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("bundlefs_"+name, help, names, labels), kind, value, values...)
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	up := 0.0
	if c.Connected {
		up = 1
	}
	add(gauge, "link_up", "Whether the link to the node is up.", up)
	if !c.Traffic.Since.IsZero() {
		add(gauge, "link_since_seconds", "Since when the link is in its present state, as Unix time.", float64(c.Traffic.Since.UnixMilli())/1000)
	}
	if c.Traffic.RTT > 0 {
		add(gauge, "round_trip_seconds", "The last round-trip time that was measured.", c.Traffic.RTT.Seconds())
	}
	add(counter, "connections_total", "Connections to the node so far.", float64(c.Traffic.Connections))
	add(gauge, "sessions", "SFTP sessions that are open.", float64(c.Sessions))
	add(counter, "received_bytes_total", "Bytes of SFTP from the node.", float64(c.Traffic.In))
	add(counter, "sent_bytes_total", "Bytes of SFTP to the node.", float64(c.Traffic.Out))
	add(gauge, "inodes", "Files and folders known to the mount.", float64(c.Inodes))
	add(gauge, "open_handles", "Open files and folders.", float64(c.Open))
	for _, h := range caches(c.Traffic) {
		add(counter, "cache_hits_total", "Requests answered from a cache.", float64(h.Hits.Hits), "cache", h.name)
		add(counter, "cache_misses_total", "Requests for which the node was asked.", float64(h.Misses), "cache", h.name)
	}
	add(gauge, "pending_files", "Files that are not on the node yet.", float64(c.Pending.Files))
	add(gauge, "pending_bytes", "Bytes that are not on the node yet.", float64(c.Pending.Bytes))
	add(gauge, "refused", "Changes that the node refuses.", float64(len(c.Refused)))
	for _, o := range c.Operations {
		out <- prometheus.MustNewConstSummary(
			prometheus.NewDesc("bundlefs_operation_seconds", "Requests of the kernel.", []string{"operation"}, labels),
			uint64(o.Count), o.Total.Seconds(), map[float64]float64{0.5: o.Median.Seconds(), 0.99: o.P99.Seconds()}, o.Name)
	}
}
