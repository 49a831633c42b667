package network

import (
	"fmt"
	"testing"
)

func TestParsePorts(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"80", "[{invalid IP 0 0 80 tcp}]"},
		{"80/udp", "[{invalid IP 0 0 80 udp}]"},
		{"80/TCP", "[{invalid IP 0 0 80 tcp}]"},
		{"80/", "[{invalid IP 0 0 80 tcp}]"},
		{"8080:80", "[{invalid IP 8080 8080 80 tcp}]"},
		{":80", "[{invalid IP 0 0 80 tcp}]"},
		{"0:80", "[{invalid IP 0 0 80 tcp}]"},
		{"127.0.0.1:8080:80", "[{127.0.0.1 8080 8080 80 tcp}]"},
		{"127.0.0.1::80/udp", "[{127.0.0.1 0 0 80 udp}]"},
		{"[::1]:8080:80", "[{::1 8080 8080 80 tcp}]"},
		{"::1:8080:80", "[{::1 8080 8080 80 tcp}]"},
		{"[::ffff:127.0.0.1]:8080:80", "[{127.0.0.1 8080 8080 80 tcp}]"},
		{"8000-8001:80-81", "[{invalid IP 8000 8000 80 tcp} {invalid IP 8001 8001 81 tcp}]"},
		{"80-81", "[{invalid IP 0 0 80 tcp} {invalid IP 0 0 81 tcp}]"},
		{"8000-8010:80", "[{invalid IP 8000 8010 80 tcp}]"},
		{"published=8080,target=80,protocol=udp", "[{invalid IP 8080 8080 80 udp}]"},
		{"target=80", "[{invalid IP 0 0 80 tcp}]"},
		{"65535:65535", "[{invalid IP 65535 65535 65535 tcp}]"},

		{"", "no port specified: <empty>"},
		{"8080:", "no port specified: 8080:<empty>"},
		{"x", "invalid containerPort: x"},
		{"65536", "invalid containerPort: 65536"},
		{"81-80", "invalid containerPort: 81-80"},
		{"0", "invalid containerPort: 0"},
		{"0-5", "invalid containerPort: 0-5"},
		{"-1:80", "invalid hostPort: -1"},
		{"x:80", "invalid hostPort: x"},
		{"8000-8002:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8000-8002"},
		{"8000:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8000"},
		{"localhost:8080:80", "invalid IP address: localhost"},
		{"fe80::1%eth0:8080:80", "invalid IP address: fe80::1%eth0"},
		{"80/sctp", "port 80/sctp: sctp cannot be published here: publish tcp or udp"},
		{"80/icmp", "invalid proto: icmp"},
		{"published=8080,80", "invalid publish opts format (should be name=value but got '80')"},
		{"published=8080,mode=host", `port published=8080,mode=host: "mode" is none of published, target and protocol`},
	} {
		ports, err := ParsePorts(test.in)
		got := fmt.Sprint(ports)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("ParsePorts(%q) = %s, want %s", test.in, got, test.want)
		}
	}
}
