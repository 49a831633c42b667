package main

import (
	"strings"
	"testing"
)

// linkedProject is a project whose network says which addresses it gives, and whose services have links.
const linkedProject = `
name: linked
services:
  web:
    image: base
    command: ["sleep", "1000"]
    links: ["db:store"]
    external_links: ["outside:far"]
    networks: [front]
  db:
    image: base
    command: ["sleep", "1000"]
    networks: {front: {ipv4_address: 10.232.77.7}}
networks:
  front:
    ipam:
      config:
        - subnet: 10.232.0.0/16
          ip_range: 10.232.5.0/30
          gateway: 10.232.5.1
          aux_addresses: {router: 10.232.5.2}
`

// TestClientLinks has compose and docker's command line make networks of which a part is given to containers, and links.
func TestClientLinks(t *testing.T) {
	for _, version := range []string{"2", "5"} {
		t.Run(version, func(t *testing.T) {
			k, _ := composeKit(t, version)
			k.write("compose/compose.yaml", linkedProject)
			docker := func(status int, args ...string) string {
				t.Helper()
				return k.mustClient(status, k.docker("", args...))
			}
			docker(0, "run", "-d", "--name", "outside", "base", "sleep", "1000")
			k.compose("up", "-d")
			docker(0, "network", "connect", "--link", "linked-db-1:data", "linked_front", "outside")
			pings := func(status int, container, name string) {
				t.Helper()
				docker(status, "exec", container, "busybox", "ping", "-c", "1", "-W", "2", name)
			}
			for _, name := range []string{"store", "linked-db-1", "far"} {
				pings(0, "linked-web-1", name)
			}
			pings(0, "outside", "data")
			pings(1, "linked-db-1", "data")
			shown := docker(0, "network", "inspect", "-f", `{{range .IPAM.Config}}{{.IPRange}} {{.AuxiliaryAddresses}}{{end}}{{range .Containers}} {{.Name}}={{.IPv4Address}}{{end}}`, "linked_front")
			for _, want := range []string{"10.232.5.0/30 map[router:10.232.5.2]", "linked-db-1=10.232.77.7/16", "linked-web-1=10.232.5.", "outside=10.232.5."} {
				k.says(shown, want)
			}
			docker(0, "rm", "-f", "outside")
			k.compose("down", "-t", "1")

			docker(0, "network", "create", "--subnet", "10.233.0.0/16", "--ip-range", "10.233.9.0/24", "--aux-address", "a=10.233.9.0", "--gateway", "10.233.0.1", "n")
			docker(0, "run", "-d", "--name", "db", "base", "sleep", "1000")
			docker(0, "run", "-d", "--name", "db2", "--network", "n", "base", "sleep", "1000")
			k.says(docker(0, "run", "--rm", "--link", "db:store", "base", "sh", "-c", "busybox ping -c 1 -W 2 store && busybox cat /etc/hosts"), "\tstore ")
			k.says(docker(0, "run", "--rm", "--network", "n", "--link", "db2:store", "base", "sh", "-c", "busybox ping -c 1 -W 2 store && busybox ip -4 -o addr show eth0"), "inet 10.233.9.2/16")
			if a := k.docker("", "run", "--rm", "--link", "absent", "base", "true"); a.Run() == nil || !strings.Contains(a.err.String(), "could not get container for absent: No such container: absent") {
				t.Errorf("a link to a container that is not there: %s", a.err.String())
			}
		})
	}
}
