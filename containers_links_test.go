package forge

import (
	"fmt"
	"strings"
	"testing"
)

// TestParseLink: links are read as docker reads them, and nothing of one gets into /etc/hosts but a name.
func TestParseLink(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"db":              "{db db}",
		"db:store":        "{db store}",
		"/db:/web/store":  "{db store}",
		"p-db-1:db.local": "{p-db-1 db.local}",
		"":                "empty string specified for links",
		"a:b:c":           "bad format for links: a:b:c",
		"db:":             "bad format for links: db:: a name",
		":db":             "bad format for links: :db: a name",
		"/db":             "{db db}",
		"db:a b":          "bad format for links: db:a b: a name",
		"db:a\n1.2.3.4 x": "bad format for links: db:a\n1.2.3.4 x: a name",
		"../x:y":          "bad format for links: ../x:y: a name",
	} {
		l, err := parseLink(text)
		got := fmt.Sprint(l)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestInterfaceName: an endpoint has the one option that does something, and an interface no name that means another thing to the kernel.
func TestInterfaceName(t *testing.T) {
	t.Parallel()
	for option, want := range map[string]string{
		optionIfname + "=side0":              "side0",
		optionIfname + "=lo":                 `invalid network interface name "lo"`,
		optionIfname + "=all":                `invalid network interface name "all"`,
		optionIfname + "=":                   `invalid network interface name ""`,
		optionIfname + "=../../kernel":       `invalid network interface name "../../kernel"`,
		optionIfname + "=sixteen-letters0":   `invalid network interface name "sixteen-letters0"`,
		"com.docker.network.endpoint.x=side": "the endpoint has the option com.docker.network.endpoint.x=side, and the driver bridge has none but",
	} {
		name, err := interfaceName([]string{option})
		if err != nil {
			name = err.Error()
		}
		if !strings.HasPrefix(name, want) {
			t.Errorf("%s: %s, want %s", option, name, want)
		}
	}
}

// TestLinkToRemoved: a container that is linked to one that was removed says so, and what to do.
func TestLinkToRemoved(t *testing.T) {
	t.Parallel()
	h := &Home{Dir: t.TempDir()}
	id := strings.Repeat("a", 64)
	r := &containerRecord{Name: "web"}
	r.Config.Networks = []attachment{{Network: "bridge", EndpointOptions: EndpointOptions{Links: []string{id + ":store"}}}}
	want := "Cannot link to a removed container: " + id + " AS /web/store: make /web anew, with a link to another"
	if _, err := h.linkedHosts(r); fmt.Sprint(err) != want {
		t.Errorf("%v, want %s", err, want)
	}
}
