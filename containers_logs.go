package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/forge-build/forge/container/logs"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/image"
)

// LogOptions say which lines of a container's log are read, and how they are shown.
type LogOptions = logs.Options

// TemplateFunctions are what templates of --format have, as those of log tags.
func TemplateFunctions() template.FuncMap { return words.TemplateFunctions() }

// ParseLogOptions reads docker's flags of logs: how many lines, and between which times; "" is all.
func ParseLogOptions(tail, since, until string) (o LogOptions, err error) {
	o.Tail = -1
	if n, err := strconv.Atoi(tail); err == nil {
		o.Tail = n
	}
	for _, t := range []struct {
		flag, text string
		at         *time.Time
	}{{"since", since, &o.Since}, {"until", until, &o.Until}} {
		if t.text == "" {
			continue
		}
		if *t.at, err = words.ParseTime(t.text, time.Now()); err != nil {
			return o, fmt.Errorf("invalid value for %q: %w", t.flag, err)
		}
	}
	return o, nil
}

// logPath is the file that a container's log is written to; older ones have a number behind that name.
func (h *Home) logPath(id string) string {
	return filepath.Join(h.containers().Dir(id), id+"-json.log")
}

// logConfig is how a container's log is kept, nil if none is.
func (h *Home) logConfig(r *containerRecord, img *image.Image) (*logs.Config, error) {
	options := map[string]string{}
	for _, o := range r.Config.LogOpts {
		k, v, ok := strings.Cut(o, "=")
		if !ok {
			return nil, fmt.Errorf("invalid logging option %q: write NAME=VALUE", o)
		}
		options[k] = v
	}
	return logs.ParseConfig(r.Config.LogDriver, options, logs.Subject{
		ID: r.ID, Name: r.Name, ImageID: string(r.ImageID), ImageName: r.Image,
		Env: append(img.Config.Config.Env, r.Config.Env...), Labels: r.Config.Labels,
	})
}

// ContainerLogs writes what a container has written to the streams that it wrote it to; nil is left out. To follow ends when
// the container does.
func (h *Home) ContainerLogs(ctx context.Context, ref string, o LogOptions, stdout, stderr io.Writer) error {
	r, err := h.findContainer(ref)
	if err != nil {
		return err
	}
	if r.Config.LogDriver == "none" {
		return errors.New("configured logging driver does not support reading")
	}
	if o.Follow {
		ended := make(chan struct{})
		o.Ended = ended
		watch, stop := context.WithCancel(ctx)
		defer stop()
		go func() {
			defer close(ended)
			h.waitMonitor(watch, r)
		}()
	}
	return logs.Read(ctx, h.logPath(r.ID), o, stdout, stderr)
}

// waitMonitor waits until a container has no monitor: while it is restarted it has one.
func (h *Home) waitMonitor(ctx context.Context, r *containerRecord) {
	for {
		if _, err := h.monitorOf(r).Wait(ctx); err != nil {
			break
		}
	}
}
