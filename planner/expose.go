package planner

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
)

// expose notes ports. A word may expand to several, each [[ip:]host:]port[-port][/protocol]; only port and protocol
// count.
func (w *walker) expose(t *instructions.ExposeCommand) error {
	ports, size := []string{}, 0
	for _, word := range t.Ports {
		if err := w.state.vars.bound(w.p.lex, word); err != nil {
			return err
		}
		specs, err := w.p.lex.ProcessWords(word, w.state.vars)
		if err != nil {
			return err
		}
		for _, spec := range specs {
			list, err := w.ports(t, spec)
			if err != nil {
				return err
			}
			ports = append(ports, list...)
			if size += len(list) * len("1/tcp "); size > maxExpanded {
				return w.p.spend(size)
			}
		}
	}
	if w.state.config.Config.ExposedPorts == nil {
		w.state.config.Config.ExposedPorts = map[string]struct{}{}
	}
	for _, port := range ports {
		w.state.config.Config.ExposedPorts[port] = struct{}{}
	}
	w.remember(fmt.Sprintf("EXPOSE %v", ports))
	return nil
}

// ports are the ports of one specification, each "number/protocol".
func (w *walker) ports(t *instructions.ExposeCommand, spec string) ([]string, error) {
	ip, host, port := splitPort(spec)
	port, protocol, _ := strings.Cut(port, "/")
	if port == "" {
		return nil, fmt.Errorf("invalid port: %q: no port specified", spec)
	}
	if protocol == "" {
		protocol = "tcp"
	}
	lower := strings.ToLower(protocol)
	if lower != "tcp" && lower != "udp" && lower != "sctp" {
		return nil, fmt.Errorf("invalid port: %q: invalid proto: %s", spec, protocol)
	}
	if lower != protocol {
		w.lint.Run(&linter.RuleExposeProtoCasing, t.Location(), linter.RuleExposeProtoCasing.Format(spec))
	}
	if ip != "" || host != "" {
		w.lint.Run(&linter.RuleExposeInvalidFormat, t.Location(), linter.RuleExposeInvalidFormat.Format(spec))
	}
	if err := checkIP(ip); err != nil {
		return nil, err
	}
	first, last, err := portRange(port)
	if err != nil {
		return nil, errors.New("invalid containerPort: " + port)
	}
	if host != "" {
		firstHost, lastHost, err := portRange(host)
		if err != nil {
			return nil, errors.New("invalid hostPort: " + host)
		}
		if last-first != lastHost-firstHost && last != first {
			return nil, fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", port, host)
		}
	}
	list := make([]string, 0, last-first+1)
	for n := first; n <= last; n++ {
		list = append(list, strconv.Itoa(n)+"/"+lower)
	}
	return list, nil
}

// splitPort splits ip:host:port, of which the first two may be missing and an IPv6 address has colons of its own.
func splitPort(spec string) (ip, host, port string) {
	parts := strings.Split(spec, ":")
	n := len(parts)
	switch n {
	case 1:
		return "", "", spec
	case 2:
		return "", parts[0], parts[1]
	}
	return strings.Join(parts[:n-2], ":"), parts[n-2], parts[n-1]
}

func checkIP(ip string) error {
	if ip == "" {
		return nil
	}
	if ip[0] == '[' {
		bare, _, err := net.SplitHostPort(ip + ":")
		if err != nil {
			return fmt.Errorf("invalid IP address %v: %w", ip, err)
		}
		ip = bare
	}
	if ip != "" && net.ParseIP(ip) == nil {
		return errors.New("invalid IP address: " + ip)
	}
	return nil
}

// portRange reads "8000" or "8000-9000".
func portRange(s string) (first, last int, err error) {
	from, to, found := strings.Cut(s, "-")
	if first, err = portNumber(from); err != nil {
		return 0, 0, err
	}
	if !found || from == to {
		return first, first, nil
	}
	if last, err = portNumber(to); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, errors.New("invalid port range: " + s)
	}
	return first, last, nil
}

func portNumber(s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > 65535 {
		return 0, errors.New("value out of range (0–65535)")
	}
	return int(n), nil
}
