package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestAPISpareNetwork starts containers whose monitors were there before them, with a network of the default one: it becomes that of a container
// which is to have such a one, and of no other.
func TestAPISpareNetwork(t *testing.T) {
	k, c, _ := newAPIClient(t)
	c.id("/networks/create", `{"Name":"other"}`)
	run := func(name, mode, interfaces string) {
		t.Helper()
		id := c.id("/containers/create?name="+name, `{"Image":"base","Cmd":["sh","-c","echo $(ls /sys/class/net); exec sleep 1000"],"AttachStdout":true,"HostConfig":{`+mode+`}}`)
		_, in := c.attach("/containers/"+id+"/attach?stream=1&stdout=1", "")
		c.do(http.StatusNoContent, http.MethodPost, "/containers/"+id+"/start", "")
		header := make([]byte, 8)
		if _, err := in.Read(header); err != nil {
			t.Fatal(err)
		}
		if line, err := in.ReadString('\n'); err != nil || line != interfaces+"\n" {
			t.Errorf("%s has the interfaces %q, %v; want %s", name, line, err, interfaces)
		}
	}
	spare := func() {
		t.Helper()
		until(t, "a spare monitor", func() bool { return len(spareMonitors(t, k)) == 1 })
	}
	first := c.id("/containers/create", `{"Image":"base","Cmd":["true"]}`)
	c.do(http.StatusNoContent, http.MethodPost, "/containers/"+first+"/start", "")
	for _, test := range []struct{ name, mode, interfaces string }{
		{"plain", "", "eth0 lo"},
		{"alone", `"NetworkMode":"none"`, "lo"},
		{"unlike", "", "eth0 lo"},
		{"elsewhere", `"NetworkMode":"other"`, "eth0 lo"},
		{"again", "", "eth0 lo"},
		{"published", `"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":""}]}`, "eth0 lo"},
		{"last", "", "eth0 lo"},
	} {
		spare()
		run(test.name, test.mode, test.interfaces)
		c.do(http.StatusNoContent, http.MethodPost, "/containers/"+test.name+"/kill", "") // whoever was attached makes room for a spare one
	}
	spare()
	run("named", "", "eth0 lo")
	var network struct {
		Containers map[string]struct{ Name, IPv4Address string }
	}
	if err := json.Unmarshal([]byte(c.do(http.StatusOK, http.MethodGet, "/networks/bridge", "")), &network); err != nil {
		t.Fatal(err)
	}
	address := strings.TrimSpace(k.must("inspect", "named", "--format", "{{.NetworkSettings.IPAddress}}"))
	id := strings.TrimSpace(k.must("inspect", "named", "--format", "{{.Id}}"))
	if len(network.Containers) != 1 || network.Containers[id].Name != "named" || !strings.HasPrefix(network.Containers[id].IPv4Address, address+"/") {
		t.Errorf("the default network has %+v, want named at %s", network.Containers, address)
	}
}
