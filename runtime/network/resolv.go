package network

import (
	"net/netip"
	"os"
	"strings"
)

// ResolvConf is the resolv.conf for a container whose network is not the host's: the host's, without the resolvers on
// its loopback addresses, which are not there from inside. If none remains, those that systemd-resolved asks are taken,
// and then Google's, as docker does.
func ResolvConf() []byte {
	for _, file := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if conf, servers := withoutLoopback(string(b)); servers > 0 {
			return []byte(conf)
		}
	}
	return []byte("nameserver 8.8.8.8\nnameserver 8.8.4.4\n")
}

// withoutLoopback leaves out name servers that cannot be reached from inside, and counts the others.
func withoutLoopback(conf string) (text string, servers int) {
	for _, line := range strings.SplitAfter(conf, "\n") {
		f := strings.Fields(line)
		if len(f) > 1 && f[0] == "nameserver" {
			a, err := netip.ParseAddr(f[1])
			if err != nil || a.IsLoopback() || a.IsUnspecified() || a.Zone() != "" {
				continue
			}
			servers++
		}
		text += line
	}
	return text, servers
}
