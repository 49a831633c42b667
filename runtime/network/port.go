package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A Port is a port of a container that is asked to be reached at this machine: one that -p names.
type Port struct {
	Address   netip.Addr // of this machine; not valid means all of them, IPv4 and IPv6
	First     uint16     // the lowest port of this machine that will do; 0 means any that is free
	Last      uint16     // the highest
	Container uint16
	Protocol  string // "tcp" or "udp"
}

// A Binding is a port of this machine that leads to one of a container.
type Binding struct {
	Address   netip.Addr `json:"address"` // 0.0.0.0 and :: mean all
	Port      uint16     `json:"port"`
	Container uint16     `json:"container"`
	Protocol  string     `json:"protocol"` // "tcp" or "udp"
}

// ParsePorts reads a value of -p: "[[IP:][HOST]:]CONTAINER[/tcp|/udp]", where HOST and CONTAINER may be ranges as "80-82", or
// "published=HOST,target=CONTAINER,protocol=tcp". A range of containers' ports is one Port each.
func ParsePorts(value string) ([]Port, error) {
	if strings.Contains(value, "=") {
		var err error
		if value, err = shortForm(value); err != nil {
			return nil, err
		}
	}
	rest, protocol, named := strings.Cut(value, "/")
	if !named || protocol == "" {
		protocol = "tcp"
	}
	host, container := "", rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		host, container = rest[:i], rest[i+1:]
	}
	var address netip.Addr
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		var err error
		if address, err = parseAddress(host[:i]); err != nil {
			return nil, err
		}
		host = host[i+1:]
	}
	if container == "" {
		return nil, fmt.Errorf("no port specified: %s<empty>", value)
	}
	first, last, err := parseRange(container)
	if err != nil || first == 0 {
		return nil, fmt.Errorf("invalid containerPort: %s", container)
	}
	var hostFirst, hostLast uint16
	if host != "" {
		if hostFirst, hostLast, err = parseRange(host); err != nil {
			return nil, fmt.Errorf("invalid hostPort: %s", host)
		}
		if hostLast-hostFirst != last-first && first != last {
			return nil, fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", container, host)
		}
	}
	switch protocol = strings.ToLower(protocol); protocol {
	case "tcp", "udp":
	case "sctp":
		return nil, fmt.Errorf("port %s: sctp cannot be published here: publish tcp or udp", value)
	default:
		return nil, fmt.Errorf("invalid proto: %s", protocol)
	}
	var list []Port
	for i := range int(last-first) + 1 {
		p := Port{Address: address, Container: first + uint16(i), Protocol: protocol, First: hostFirst, Last: hostLast}
		if first != last && host != "" {
			p.First += uint16(i)
			p.Last = p.First
		}
		list = append(list, p)
	}
	return list, nil
}

// parseAddress reads the address of this machine in front of a port; empty means all addresses.
func parseAddress(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	inner := text
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		inner = text[1 : len(text)-1]
	}
	address, err := netip.ParseAddr(inner)
	if err != nil || address.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("invalid IP address: %s", text)
	}
	return address.Unmap(), nil
}

// parseRange reads "80" or "80-82".
func parseRange(text string) (first, last uint16, err error) {
	a, b, ranged := strings.Cut(text, "-")
	if !ranged {
		b = a
	}
	x, err := strconv.ParseUint(a, 10, 16)
	y, err2 := strconv.ParseUint(b, 10, 16)
	if err = errors.Join(err, err2); err != nil {
		return 0, 0, err
	}
	if y < x || y > 0 && x == 0 {
		return 0, 0, fmt.Errorf("port range %s: the end is below the beginning, or it begins at 0", text)
	}
	return uint16(x), uint16(y), nil
}

// shortForm turns the form of names and values into the other one.
func shortForm(value string) (string, error) {
	protocol, host, container := "tcp", "", ""
	for _, field := range strings.Split(value, ",") {
		name, v, found := strings.Cut(field, "=")
		if !found || v == "" {
			return "", fmt.Errorf("invalid publish opts format (should be name=value but got '%s')", field)
		}
		switch name {
		case "protocol":
			protocol = v
		case "published":
			host = v
		case "target":
			container = v
		default:
			return "", fmt.Errorf("port %s: %q is none of published, target and protocol", value, name)
		}
	}
	if host != "" {
		container = host + ":" + container
	}
	return container + "/" + protocol, nil
}
