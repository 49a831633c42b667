package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/cmd/forge/ui"
)

type topCmd struct {
	Command []string `arg:"" passthrough:"partial" help:"Container, and options of ps(1)." placeholder:"CONTAINER [PS OPTIONS]"`
}

func (c *topCmd) Run(s *session) error {
	if c.Command = passed(c.Command); len(c.Command) == 0 {
		return badUsage(errors.New("top needs a container: forge top CONTAINER [PS OPTIONS]"))
	}
	return s.withHome(func(h *forge.Home) error {
		lines, err := h.TopContainer(s.ctx, c.Command[0], c.Command[1:])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, ui.Lines(strings.Join(lines, "\n")))
		return err
	})
}

type updateCmd struct {
	forge.UpdateOptions
	Containers []string `arg:"" help:"Containers." placeholder:"CONTAINER"`
}

func (c *updateCmd) Run(s *session) error {
	if reflect.ValueOf(c.UpdateOptions).IsZero() {
		return errors.New("you must provide one or more flags when using this command")
	}
	return each(s, c.Containers, func(h *forge.Home, ref string) error {
		return h.UpdateContainer(s.ctx, ref, c.UpdateOptions)
	})
}

type statsCmd struct {
	All        bool     `short:"a" help:"Containers that do not run, too."`
	NoStream   bool     `help:"Show one reading, and end."`
	NoTrunc    bool     `help:"Do not shorten."`
	Format     string   `help:"A Go template, or json." placeholder:"TEMPLATE"`
	Containers []string `arg:"" optional:"" help:"Containers." placeholder:"CONTAINER"`
}

// A statsRow is what a template of `forge stats --format` sees, under docker's names.
type statsRow struct {
	Container, Name, ID, CPUPerc, MemUsage, NetIO, BlockIO, MemPerc, PIDs string
}

const statsTable = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"

// statsInterval is the time between two readings.
const statsInterval = time.Second

func (c *statsCmd) Run(s *session) error {
	return s.withHome(func(h *forge.Home) error {
		before := map[string]forge.ContainerStats{}
		if _, err := c.read(s, h, before); err != nil {
			return err
		}
		for {
			select {
			case <-s.ctx.Done():
				return s.ctx.Err()
			case <-time.After(statsInterval):
			}
			rows, err := c.read(s, h, before)
			if err != nil {
				return err
			}
			if err := c.print(s, rows); err != nil || c.NoStream {
				return err
			}
		}
	})
}

func (c *statsCmd) print(s *session, rows []statsRow) error {
	format := c.Format
	if format == "" || format == "table" {
		format = statsTable
	}
	if !c.NoStream && strings.HasPrefix(format, "table ") {
		_, _ = fmt.Fprint(s.out, "\x1b[H\x1b[2J")
	}
	return printRows(s, format, rows, statsRow{
		"CONTAINER", "NAME", "CONTAINER ID", "CPU %", "MEM USAGE / LIMIT", "NET I/O", "BLOCK I/O", "MEM %", "PIDS",
	})
}

// read reads what the containers use, at the same time, and keeps it for the next reading.
func (c *statsCmd) read(s *session, h *forge.Home, before map[string]forge.ContainerStats) ([]statsRow, error) {
	infos, err := c.containers(s, h)
	if err != nil {
		return nil, err
	}
	rows, now := make([]statsRow, len(infos)), make([]forge.ContainerStats, len(infos))
	var wg sync.WaitGroup
	for i, info := range infos {
		wg.Go(func() {
			rows[i] = statsRow{Container: info.ID, Name: info.Name, ID: info.ID, CPUPerc: "--", MemUsage: "-- / --", NetIO: "--", BlockIO: "--", MemPerc: "--", PIDs: "--"}
			if !c.NoTrunc {
				rows[i].ID = info.ID[:12]
			}
			if st, err := h.ContainerStats(info.ID); err == nil { // else it has ended
				last := before[info.ID]
				rows[i].fill(&st, &last)
				now[i] = st
			}
		})
	}
	wg.Wait()
	for i, info := range infos {
		before[info.ID] = now[i]
	}
	return rows, nil
}

// containers are those that are shown.
func (c *statsCmd) containers(s *session, h *forge.Home) ([]forge.ContainerInfo, error) {
	if len(c.Containers) == 0 {
		return h.Containers(s.ctx, forge.ListOptions{All: c.All, Last: -1})
	}
	var list []forge.ContainerInfo
	for _, ref := range c.Containers {
		info, err := h.Container(ref)
		if err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}

func (r *statsRow) fill(st, last *forge.ContainerStats) {
	r.CPUPerc = fmt.Sprintf("%.2f%%", st.Percent(last))
	r.MemUsage = units.BytesSize(float64(st.Memory)) + " / " + units.BytesSize(float64(st.MemoryLimit))
	r.MemPerc = "0.00%"
	if st.MemoryLimit > 0 {
		r.MemPerc = fmt.Sprintf("%.2f%%", float64(st.Memory)/float64(st.MemoryLimit)*100)
	}
	size := func(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
	r.NetIO, r.BlockIO = size(st.Received)+" / "+size(st.Sent), size(st.Read)+" / "+size(st.Written)
	r.PIDs = strconv.FormatInt(st.Pids, 10)
}

type eventsCmd struct {
	Since  string   `help:"Show what has happened since a time." placeholder:"TIME"`
	Until  string   `help:"Show what happens until a time." placeholder:"TIME"`
	Filter []string `short:"f" sep:"none" help:"container, image, network, volume, type, event or label." placeholder:"KEY=VALUE"`
	Format string   `help:"A Go template, or json." placeholder:"TEMPLATE"`
}

func (c *eventsCmd) Run(s *session) error {
	q, err := forge.ParseEventQuery(c.Since, c.Until, c.Filter)
	if err != nil {
		return err
	}
	show, err := c.shower(s)
	if err != nil {
		return err
	}
	return s.withHome(func(h *forge.Home) error {
		err := h.Events(s.ctx, q, show)
		if errors.Is(err, s.ctx.Err()) && s.ctx.Err() != nil {
			return nil
		}
		return err
	})
}

func (c *eventsCmd) shower(s *session) (func(forge.EventMessage) error, error) {
	switch c.Format {
	case "":
		return func(m forge.EventMessage) error {
			_, err := fmt.Fprintln(s.out, ui.Line(m.Line(time.Local)))
			return err
		}, nil
	case "json", "{{json .}}":
		enc := json.NewEncoder(jsonWriter{s.out})
		return func(m forge.EventMessage) error { return enc.Encode(m) }, nil
	}
	t, err := parseTemplate(c.Format)
	if err != nil {
		return nil, err
	}
	return func(m forge.EventMessage) error { return t.Execute(s.out, m) }, nil
}
