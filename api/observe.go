package api

import (
	"net/http"
	"strings"
	"time"

	"github.com/forge-build/forge"
)

// observeRoutes are about what containers do and use.
func observeRoutes() []route {
	return []route{
		{method: http.MethodGet, pattern: "/containers/{name}/top", do: top},
		{method: http.MethodGet, pattern: "/containers/{name}/stats", do: stats},
	}
}

// top lists the processes of a container.
func top(c *call) error {
	lines, err := c.home.TopContainer(c.ctx(), c.name, strings.Fields(c.query.Get("ps_args")))
	if err != nil {
		return err
	}
	titles := strings.Fields(lines[0])
	processes := [][]string{}
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if last := len(titles) - 1; len(fields) > last { // the command may have spaces
			fields = append(fields[:last:last], strings.Join(fields[last:], " "))
		}
		processes = append(processes, fields)
	}
	return c.reply(http.StatusOK, map[string]any{"Titles": titles, "Processes": processes})
}

// statsInterval is the time between two readings.
const statsInterval = time.Second

// A statsReading is what a container uses, in docker's form.
type statsReading struct {
	Name        string                      `json:"name"`
	ID          string                      `json:"id"`
	Read        time.Time                   `json:"read"`
	Preread     time.Time                   `json:"preread"`
	CPU         cpuReading                  `json:"cpu_stats"`
	PreCPU      cpuReading                  `json:"precpu_stats"`
	Memory      map[string]any              `json:"memory_stats"`
	Networks    map[string]map[string]int64 `json:"networks,omitempty"`
	Pids        map[string]int64            `json:"pids_stats"`
	Blkio       map[string]any              `json:"blkio_stats"`
	Processes   int                         `json:"num_procs"`
	StorageInfo struct{}                    `json:"storage_stats"`
}

// A cpuReading is of processor time, in nanoseconds.
type cpuReading struct {
	Usage struct {
		Total  int64 `json:"total_usage"`
		Kernel int64 `json:"usage_in_kernelmode"`
		User   int64 `json:"usage_in_usermode"`
	} `json:"cpu_usage"`
	System     int64            `json:"system_cpu_usage,omitempty"`
	Processors int              `json:"online_cpus,omitempty"`
	Throttling map[string]int64 `json:"throttling_data"`
}

// stats sends readings: one with what was before, or one after the other.
func stats(c *call) error {
	info, err := c.home.Container(c.name)
	if err != nil {
		return err
	}
	once := c.query.Has("stream") && !c.flag("stream")
	return c.messages(func(send func(any) error) error {
		var last statsReading
		for first := true; ; first = false {
			now, err := readStats(c.home, &info)
			if err != nil {
				return err
			}
			if !first {
				now.Preread, now.PreCPU = last.Read, last.CPU
			}
			last = now
			if !(first && once && !c.flag("one-shot")) {
				if err := send(now); err != nil || once {
					return err
				}
			}
			select {
			case <-c.ctx().Done():
				return nil
			case <-time.After(statsInterval):
			}
		}
	})
}

// readStats reads what a container uses: nothing, if it does not run.
func readStats(h *forge.Home, info *forge.ContainerInfo) (r statsReading, err error) {
	r.Name, r.ID, r.Read = "/"+info.Name, info.ID, time.Now().UTC()
	r.CPU.Throttling = map[string]int64{"periods": 0, "throttled_periods": 0, "throttled_time": 0}
	r.PreCPU.Throttling = r.CPU.Throttling
	r.Memory, r.Pids, r.Blkio = map[string]any{}, map[string]int64{}, map[string]any{}
	for _, what := range []string{"io_service_bytes", "io_serviced", "io_queue", "io_service_time", "io_wait_time", "io_merged", "io_time", "sectors"} {
		r.Blkio[what+"_recursive"] = nil // not counted, but for the first
	}
	s, err := h.ContainerStats(info.ID)
	if is[forge.RefusedError](err) {
		r.Read = time.Time{}
		return r, nil
	}
	if err != nil {
		return r, err
	}
	r.CPU.Usage.Total, r.CPU.Usage.Kernel, r.CPU.Usage.User = int64(s.CPU), int64(s.CPUSystem), int64(s.CPUUser)
	r.CPU.System, r.CPU.Processors = int64(s.Machine), s.Processors
	r.Memory = map[string]any{"usage": s.Memory, "limit": s.MemoryLimit, "stats": map[string]int64{"inactive_file": 0, "total_inactive_file": 0}}
	r.Pids["current"] = s.Pids
	if s.PidsLimit > 0 {
		r.Pids["limit"] = s.PidsLimit
	}
	r.Blkio["io_service_bytes_recursive"] = []map[string]any{
		{"major": 0, "minor": 0, "op": "read", "value": s.Read}, {"major": 0, "minor": 0, "op": "write", "value": s.Written},
	}
	if info.Networked() {
		r.Networks = map[string]map[string]int64{"eth0": {
			"rx_bytes": s.Received, "tx_bytes": s.Sent, "rx_packets": 0, "tx_packets": 0, "rx_errors": 0, "tx_errors": 0, "rx_dropped": 0, "tx_dropped": 0,
		}}
	}
	return r, nil
}
