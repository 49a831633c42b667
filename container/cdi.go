package container

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/forge-build/forge/runtime"
)

// A cdiSpec is a file of the Container Device Interface, version 0.3 to 1.0: what has to be done to a container so that
// it has a device. https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
type cdiSpec struct {
	Kind    string `json:"kind"` // vendor.com/class
	Devices []struct {
		Name  string   `json:"name"`
		Edits cdiEdits `json:"containerEdits"`
	} `json:"devices"`
	Edits cdiEdits `json:"containerEdits"` // for any of the devices
}

type cdiEdits struct {
	Env   []string `json:"env"`
	Nodes []struct {
		Path     string `json:"path"`
		HostPath string `json:"hostPath"` // "" is Path
	} `json:"deviceNodes"`
	Mounts []struct {
		HostPath      string   `json:"hostPath"`
		ContainerPath string   `json:"containerPath"`
		Options       []string `json:"options"`
	} `json:"mounts"`
	Hooks []struct {
		Name string `json:"hookName"`
		Path string `json:"path"`
	} `json:"hooks"`
}

// CDIDirs are where the machine's administrator puts specs; a later one wins.
func CDIDirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// A Device is one of the Container Device Interface that is asked for.
type Device struct {
	Name     string // "vendor.com/class=name", "vendor.com/class=*" or "vendor.com/class"
	Required bool   // it is an error if this machine does not have it
	Granted  bool   // the caller lets the container have it
}

// A Node puts a device of this machine into the container.
type Node struct {
	Source string // path of the device
	Target string // absolute
}

func (m *Node) kind() string   { return "device" }
func (m *Node) target() string { return path.Clean(m.Target) }

func (m *Node) mount(_ context.Context, c *Container) error {
	f, err := c.openPath(m.Source)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeDevice == 0 {
		return fmt.Errorf("%s is not a device", m.Source)
	}
	return c.attach(m.target(), runtime.Mount{Source: f, Devices: true}, nil)
}

// parseDevice reads docker's --device: a path SRC[:DST[:rwm]], which becomes a Mount, or the name of a device of the Container
// Device Interface.
func parseDevice(s string) (Mount, *Device, error) {
	if strings.Contains(s, "=") && !strings.HasPrefix(s, "/") {
		return nil, &Device{Name: s, Required: true, Granted: true}, nil
	}
	parts := strings.Split(s, ":")
	n := &Node{Source: parts[0], Target: parts[0]}
	if len(parts) > 1 && strings.HasPrefix(parts[1], "/") {
		n.Target = parts[1]
		parts = parts[1:]
	}
	switch {
	case !path.IsAbs(n.Source) || checkTarget(&n.Target) != nil || len(parts) > 2:
		return nil, nil, fmt.Errorf("--device %q: must be SRC[:DST[:rwm]] or the name of a CDI device", s)
	case len(parts) == 2 && parts[1] != "rwm" && parts[1] != "rw":
		return nil, nil, fmt.Errorf("--device %q: permissions %q: must be rwm", s, parts[1])
	}
	return n, nil, nil
}

// ParseDevices reads several.
func ParseDevices(list []string) (mounts []Mount, devices []Device, err error) {
	for _, s := range list {
		m, d, err := parseDevice(s)
		switch {
		case err != nil:
			return nil, nil, err
		case d != nil:
			devices = append(devices, *d)
		default:
			mounts = append(mounts, m)
		}
	}
	return mounts, devices, nil
}

// mountDevices adds the devices that are asked for.
func (c *Container) mountDevices() error {
	if len(c.options.Devices) == 0 && len(c.options.Requests) == 0 {
		return nil
	}
	specs, err := readCDI(CDIDirs())
	if err != nil {
		return err
	}
	if err := c.mountGPUs(specs); err != nil {
		return err
	}
	for _, d := range c.options.Devices {
		edits := findCDI(specs, d.Name)
		if len(edits) > 0 && !d.Granted {
			return fmt.Errorf("--device=%s is not granted; allow it with --allow device=%s", d.Name, d.Name)
		}
		if len(edits) == 0 && d.Required {
			return fmt.Errorf("--device=%s: no such device in %s", d.Name, strings.Join(CDIDirs(), " or "))
		}
		for _, e := range edits {
			if err := c.edit(e); err != nil {
				return fmt.Errorf("--device=%s: %w", d.Name, err)
			}
		}
	}
	return nil
}

// mountGPUs adds the GPUs that are asked for.
func (c *Container) mountGPUs(specs []cdiSpec) error {
	edits, err := gpuEdits(specs, c.options.Requests)
	if err != nil {
		return err
	}
	for _, e := range edits {
		if err := c.edit(e); err != nil {
			return fmt.Errorf("--gpus: %w", err)
		}
	}
	return nil
}

// readCDI reads the specs of directories that need not be there.
func readCDI(dirs []string) (specs []cdiSpec, err error) {
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			switch filepath.Ext(name) {
			case ".yaml", ".yml", ".json":
			default:
				continue
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			spec, err := parseCDI(data)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			specs = append(specs, spec)
		}
	}
	slices.Reverse(specs)
	return specs, nil
}

// parseCDI reads a spec in JSON, or in YAML, which does not have all escapes of JSON.
func parseCDI(data []byte) (spec cdiSpec, err error) {
	if json.Valid(data) {
		return spec, json.Unmarshal(data, &spec)
	}
	var tree any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return spec, err
	}
	text, err := json.Marshal(tree)
	if err != nil {
		return spec, err
	}
	return spec, json.Unmarshal(text, &spec)
}

// findCDI finds the edits for "vendor.com/class=name", for all devices of a kind ("=*"), or for its first one (no "=").
func findCDI(specs []cdiSpec, name string) []cdiEdits {
	kind, device, named := strings.Cut(name, "=")
	var found []cdiEdits
	for _, spec := range specs {
		if spec.Kind != kind {
			continue
		}
		before := len(found)
		for _, d := range spec.Devices {
			if named && device != "*" && d.Name != device {
				continue
			}
			found = append(found, d.Edits)
			if device != "*" {
				break
			}
		}
		if len(found) > before {
			found = append(found, spec.Edits)
			if device != "*" {
				break
			}
		}
	}
	return found
}

// edit does what a device needs done.
func (c *Container) edit(e cdiEdits) error {
	for _, h := range e.Hooks {
		// A hook is a program of the host that runs beside the container's set-up.
		return fmt.Errorf("it needs the hook %s (%s), and hooks are not run: write the spec without hooks", h.Name, h.Path)
	}
	for _, kv := range e.Env {
		name, value, _ := strings.Cut(kv, "=")
		c.spec.Env = setEnv(c.spec.Env, name, value)
	}
	for _, n := range e.Nodes {
		node, err := c.openPath(cmp.Or(n.HostPath, n.Path))
		if err != nil {
			return err
		}
		if err := c.attach(n.Path, runtime.Mount{Source: node, Devices: true}, nil); err != nil {
			return err
		}
	}
	for _, m := range e.Mounts {
		f, err := c.openPath(m.HostPath)
		if err != nil {
			return err
		}
		mount := runtime.Mount{Source: f, ReadOnly: slices.Contains(m.Options, "ro"), NoExec: slices.Contains(m.Options, "noexec")}
		if err := c.attach(m.ContainerPath, mount, nil); err != nil {
			return err
		}
	}
	return nil
}
