package words

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Port of a container is published, or only exposed: then it has no HostIP and no Host.
type Port struct {
	HostIP   string
	Host     uint16
	Port     uint16 // in the container
	Protocol string // tcp, udp or sctp
}

// A portRange is ports of one kind that follow each other, here and there.
type portRange struct {
	first Port
	last  uint16 // in the container
}

// Ports is the column PORTS of ps. Ports that follow each other are joined: docker does so if they have the same number on
// both sides, this also if they have not.
func Ports(ports []Port) string {
	ports = slices.SortedFunc(slices.Values(ports), comparePorts)
	var same, moved []portRange // docker shows the ports with another number on the host behind the others
	for _, p := range ports {
		list := &same
		if p.HostIP != "" && p.Host != p.Port {
			list = &moved
		}
		i := slices.IndexFunc(*list, func(r portRange) bool {
			f := r.first
			return f.HostIP == p.HostIP && f.Protocol == p.Protocol && r.last+1 == p.Port &&
				(p.HostIP == "" || f.Host-f.Port == p.Host-p.Port)
		})
		if i >= 0 {
			(*list)[i].last = p.Port
			continue
		}
		*list = append(*list, portRange{p, p.Port})
	}
	var words []string
	for _, r := range append(same, moved...) {
		words = append(words, r.String())
	}
	return strings.Join(words, ", ")
}

func (r portRange) String() string {
	f := r.first
	text := span(f.Port, r.last) + "/" + f.Protocol
	if f.HostIP == "" {
		return text
	}
	return net.JoinHostPort(f.HostIP, span(f.Host, f.Host+r.last-f.Port)) + "->" + text
}

func span(first, last uint16) string {
	text := strconv.Itoa(int(first))
	if first != last {
		text += "-" + strconv.Itoa(int(last))
	}
	return text
}

// comparePorts is docker's order: by number, then by address as numbers, IPv4 before IPv6.
func comparePorts(a, b Port) int {
	x, _ := netip.ParseAddr(a.HostIP)
	y, _ := netip.ParseAddr(b.HostIP)
	return cmp.Or(cmp.Compare(a.Port, b.Port), x.Compare(y), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Protocol, b.Protocol))
}

// Published is what port shows of one port of a container, "80" or "80/udp", or of all if asked is "": a line for each address of
// the host that it is published at.
func Published(ports []Port, asked string) (lines []string, err error) {
	number, protocol, _ := strings.Cut(asked, "/")
	if asked != "" {
		if _, err := strconv.ParseUint(number, 10, 16); err != nil {
			return nil, fmt.Errorf("invalid port (%s)", number)
		}
	}
	for _, p := range slices.SortedFunc(slices.Values(ports), comparePorts) {
		at := net.JoinHostPort(p.HostIP, strconv.Itoa(int(p.Host)))
		this := strconv.Itoa(int(p.Port)) + "/" + p.Protocol
		switch {
		case p.HostIP == "":
		case asked == "":
			lines = append(lines, this+" -> "+at)
		case this == number+"/"+cmp.Or(protocol, "tcp"):
			lines = append(lines, at)
		}
	}
	return lines, nil
}
