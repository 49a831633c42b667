package forge

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/inspect"
	"github.com/forge-build/forge/runtime/network"
)

// ContainerSummaries lists containers as docker's API does, newest first.
func (h *Home) ContainerSummaries(ctx context.Context, o ListOptions) ([]inspect.ContainerSummary, error) {
	list, err := h.Containers(ctx, o)
	if err != nil {
		return nil, err
	}
	all := make([]inspect.ContainerSummary, len(list))
	for i := range list {
		all[i] = h.summary(&list[i])
		if o.Size {
			all[i].SizeRw, all[i].SizeRootFs = list[i].Written, list[i].Virtual
		}
	}
	return all, nil
}

func (h *Home) summary(i *ContainerInfo) inspect.ContainerSummary {
	v := i.View(time.Now())
	s := inspect.ContainerSummary{
		ID: i.ID, Names: []string{"/" + i.Name}, Image: i.Image, ImageID: i.ImageID, Command: v.Command, Created: i.Created.Unix(),
		Ports: []inspect.Port{}, Labels: i.Labels, State: string(i.Status), Status: v.Status, Mounts: i.Mounts,
	}
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	s.NetworkSettings.Networks = map[string]inspect.Endpoint{}
	for _, p := range i.ports() {
		s.Ports = append(s.Ports, inspect.Port{IP: p.HostIP, PrivatePort: p.Port, PublicPort: p.Host, Type: p.Protocol})
	}
	if i.record == nil { // damaged
		return s
	}
	s.HostConfig.NetworkMode = networkMode(i.record.Config.Network)
	s.NetworkSettings.Networks = h.inspectNetworks(i.record, &i.Run, nil).Networks
	return s
}

// networkMode is docker's name of a network that a container is created with.
func networkMode(mode string) string {
	if mode == "" || mode == "default" {
		return network.DefaultName
	}
	return mode
}

// ports are those of a container that runs: published, or exposed only.
func (i *ContainerInfo) ports() (list []words.Port) {
	list = slices.Clone(i.Run.Ports)
	if i.record == nil || !i.Status.Alive() && i.Status != state.Restarting {
		return list
	}
	for _, text := range i.record.Config.Exposed {
		number, protocol, _ := strings.Cut(text, "/")
		port, err := strconv.ParseUint(number, 10, 16)
		if err == nil && !published(i.Run.Ports, uint16(port), protocol) {
			list = append(list, words.Port{Port: uint16(port), Protocol: protocol})
		}
	}
	return list
}

func published(ports []words.Port, port uint16, protocol string) bool {
	for _, p := range ports {
		if p.Port == port && p.Protocol == protocol {
			return true
		}
	}
	return false
}

// Networked reports whether a container has a network of its own.
func (i *ContainerInfo) Networked() bool {
	return i.record != nil && ownNetwork(i.record.Config.Network) && len(i.record.Config.Networks) > 0
}
