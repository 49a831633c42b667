package container

import (
	"encoding/csv"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// A DeviceRequest asks for devices by what they can do, as docker's --gpus and its API do. The devices are those of the Container Device
// Interface.
type DeviceRequest struct {
	Driver       string // "" or "nvidia"
	Count        int    // the first so many, -1 is all
	DeviceIDs    []string
	Capabilities [][]string // any of these lists; in a list all of them
	Options      map[string]string
}

// gpuKind is the kind of the devices that requests are for, and allGPUs the name that specs have for all of them.
const (
	gpuKind = "nvidia.com/gpu"
	allGPUs = "all"
)

// ParseGPUs reads values of docker's --gpus: "all", a number, or fields such as device=0, count=2, driver=nvidia, capabilities=compute and
// options=NAME=VALUE, with commas between them as in CSV. The words of its errors are docker's.
func ParseGPUs(values []string) (list []DeviceRequest, err error) {
	for _, value := range values {
		r, err := parseGPU(value)
		if err != nil {
			return nil, fmt.Errorf("invalid argument %q for \"--gpus\" flag: %w", value, err)
		}
		list = append(list, r)
	}
	return list, nil
}

func parseGPU(value string) (r DeviceRequest, err error) {
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	if err != nil {
		return r, err
	}
	seen := map[string]bool{}
	for _, field := range fields {
		key, val, has := strings.Cut(field, "=")
		if !has {
			key, val = "count", field
		}
		if seen[key] {
			return r, fmt.Errorf("gpu request key '%s' can be specified only once", key)
		}
		seen[key] = true
		if err := r.set(key, val); err != nil {
			return r, err
		}
	}
	if !seen["count"] && r.DeviceIDs == nil {
		r.Count = 1
	}
	if r.Capabilities == nil {
		r.Capabilities = [][]string{{"gpu"}}
	}
	if r.Options == nil {
		r.Options = map[string]string{}
	}
	return r, nil
}

// set takes a field of --gpus.
func (r *DeviceRequest) set(key, value string) (err error) {
	switch key {
	case "driver":
		r.Driver = value
	case "count":
		r.Count, err = gpuCount(value)
	case "device":
		r.DeviceIDs = strings.Split(value, ",")
	case "capabilities":
		r.Capabilities = [][]string{append(strings.Split(value, ","), "gpu")}
	case "options":
		options, err := csv.NewReader(strings.NewReader(value)).Read()
		if err != nil {
			return fmt.Errorf("failed to read gpu options: %w", err)
		}
		r.Options = map[string]string{}
		for _, o := range options {
			name, text, _ := strings.Cut(o, "=")
			r.Options[name] = text
		}
	default:
		return fmt.Errorf("unexpected key '%s' in '%s=%s'", key, key, value)
	}
	return err
}

func gpuCount(s string) (int, error) {
	if s == allGPUs {
		return -1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf(`invalid count (%s): value must be either "all" or an integer: %w`, s, errors.Unwrap(err))
	}
	return n, nil
}

// CheckRequests refuses requests for what no device can be found for, in docker's words.
func CheckRequests(list []DeviceRequest) error {
	for _, r := range list {
		switch {
		case r.Driver != "" && r.Driver != "nvidia" || !slices.ContainsFunc(r.Capabilities, isOfGPU):
			return fmt.Errorf("%s: requests are for GPUs, of the driver nvidia; ask for others by their names of CDI, as with --device vendor.com/class=name", r.refused())
		case r.Count != 0 && len(r.DeviceIDs) > 0:
			return errors.New("cannot set both Count and DeviceIDs on device request")
		}
	}
	return nil
}

// refused says in docker's words that there is nothing for a request.
func (r *DeviceRequest) refused() string {
	return fmt.Sprintf("could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
}

// isOfGPU reports whether all of the capabilities are such as docker's driver has for GPUs.
func isOfGPU(capabilities []string) bool {
	return !slices.ContainsFunc(capabilities, func(c string) bool {
		return !slices.Contains([]string{"gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display"}, c)
	})
}

// A gpu is a device that specs have under one or several names.
type gpu struct {
	names []string
	edits cdiEdits
}

// gpus are the GPUs that specs describe, in their order, and what they have for all together. A GPU may have a number and a UUID.
func gpus(specs []cdiSpec) (list []gpu, all bool) {
	for _, spec := range specs {
		if spec.Kind != gpuKind {
			continue
		}
		for _, d := range spec.Devices {
			if d.Name == allGPUs {
				all = true
				continue
			}
			i := slices.IndexFunc(list, func(g gpu) bool { return slices.Contains(g.names, d.Name) || reflect.DeepEqual(g.edits, d.Edits) })
			if i < 0 {
				list = append(list, gpu{edits: d.Edits})
				i = len(list) - 1
			}
			list[i].names = append(list[i].names, d.Name)
		}
	}
	return list, all
}

// names are those of the GPUs that a request is for.
func (r *DeviceRequest) names(specs []cdiSpec) (names []string, err error) {
	list, all := gpus(specs)
	if len(list) == 0 && !all {
		return nil, fmt.Errorf("%s: no device of %s in %s: install the NVIDIA Container Toolkit, and write its spec with nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
			r.refused(), gpuKind, strings.Join(CDIDirs(), " or "))
	}
	switch {
	case len(r.DeviceIDs) > 0:
		for _, id := range r.DeviceIDs {
			if !(id == allGPUs && all) && !slices.ContainsFunc(list, func(g gpu) bool { return slices.Contains(g.names, id) }) {
				return nil, fmt.Errorf("%s: no device %s=%s in %s", r.refused(), gpuKind, id, strings.Join(CDIDirs(), " or "))
			}
		}
		return r.DeviceIDs, nil
	case r.Count < 0 && all:
		return []string{allGPUs}, nil
	case r.Count > len(list):
		return nil, fmt.Errorf("%s: %d devices are asked for, and %s has %d of %s", r.refused(), r.Count, strings.Join(CDIDirs(), " or "), len(list), gpuKind)
	case r.Count < 0:
		r.Count = len(list)
	}
	for _, g := range list[:r.Count] {
		names = append(names, g.names[0])
	}
	return names, nil
}

// gpuEdits is what has to be done for the GPUs of all requests. What a spec has for any of its devices is there once.
func gpuEdits(specs []cdiSpec, requests []DeviceRequest) (edits []cdiEdits, err error) {
	var names []string
	for _, r := range requests {
		more, err := r.names(specs)
		if err != nil {
			return nil, err
		}
		for _, name := range more {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	for _, spec := range specs {
		before := len(edits)
		for _, d := range spec.Devices {
			i := slices.Index(names, d.Name)
			if spec.Kind != gpuKind || i < 0 {
				continue
			}
			names = slices.Delete(names, i, i+1) // a later directory wins
			if !slices.ContainsFunc(edits, func(e cdiEdits) bool { return reflect.DeepEqual(e, d.Edits) }) {
				edits = append(edits, d.Edits)
			}
		}
		if len(edits) > before {
			edits = append(edits, spec.Edits)
		}
	}
	return edits, nil
}
