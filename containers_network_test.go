package forge

import (
	"fmt"
	"testing"

	"github.com/forge-build/forge/image"
)

// TestExposedPorts: of what an image exposes each port is published once, at any port of this machine, and no image has more than
// there are.
func TestExposedPorts(t *testing.T) {
	t.Parallel()
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("%05d-65535/tcp", i+1)
	}
	for _, test := range []struct {
		exposed []string
		options PortOptions
		want    string
	}{
		{[]string{"80/tcp", "080", "79-81/tcp", "53/udp"}, PortOptions{PublishAll: true}, "[0-0:80/tcp 0-0:53/udp 0-0:79/tcp 0-0:81/tcp]"},
		{[]string{"80/tcp", "53/udp"}, PortOptions{PublishAll: true, Publish: []string{"8080:80"}, Expose: []string{"53/udp", "54"}}, "[8080-8080:80/tcp 0-0:53/udp 0-0:54/tcp]"},
		{[]string{"80/tcp"}, PortOptions{Publish: []string{"8080:80"}}, "[8080-8080:80/tcp]"},
		{[]string{"0.0.0.0:22:80"}, PortOptions{PublishAll: true}, "invalid port format for --expose: 0.0.0.0:22:80"},
		{[]string{"published=22,target=80"}, PortOptions{PublishAll: true}, "invalid port format for --expose: published=22,target=80"},
		{[]string{"0/tcp"}, PortOptions{PublishAll: true}, "expose: invalid containerPort: 0"},
		{many, PortOptions{PublishAll: true}, "expose: more ports than there are"},
	} {
		img := &image.Image{}
		img.Config.Config.ExposedPorts = map[string]struct{}{}
		for _, e := range test.exposed {
			img.Config.Config.ExposedPorts[e] = struct{}{}
		}
		list, err := test.options.ports(img)
		var texts []string
		for _, p := range list {
			texts = append(texts, fmt.Sprintf("%d-%d:%d/%s", p.First, p.Last, p.Container, p.Protocol))
		}
		got := fmt.Sprint(texts)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%.50q %+v: %s, want %s", test.exposed, test.options, got, test.want)
		}
	}
}
