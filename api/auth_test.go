package api

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/forge-build/forge"
)

// credentials are those of a request with headers.
func credentials(header http.Header, name string) (map[string]forge.Credential, error) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header = header
	c := &call{r: r, name: name, query: url.Values{}}
	o, err := c.remote()
	return o.Credentials, err
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	encode := base64.URLEncoding.EncodeToString
	for _, test := range []struct {
		header, json, image string
		host                string
		want                forge.Credential
	}{
		{registryAuth, `{"username":"u","password":"p","serveraddress":"localhost:5000"}`, "", "localhost:5000", forge.Credential{Username: "u", Password: "p"}},
		{registryAuth, `{"auth":"dTpwOnE="}`, "example.com/a/b", "example.com", forge.Credential{Username: "u", Password: "p:q"}},
		{registryAuth, `{"identitytoken":"t","serveraddress":"https://index.docker.io/v1/"}`, "", "docker.io", forge.Credential{IdentityToken: "t"}},
		{registryAuth, `{"registrytoken":"r"}`, "a", "docker.io", forge.Credential{RegistryToken: "r"}},
		{registryAuth, `{}`, "a", "docker.io", forge.Credential{}},
		{registryConfig, `{"https://example.com":{"username":"u","password":"p"},"other":{}}`, "", "example.com", forge.Credential{Username: "u", Password: "p"}},
	} {
		for _, value := range []string{encode([]byte(test.json)), base64.StdEncoding.EncodeToString([]byte(test.json)), base64.RawURLEncoding.EncodeToString([]byte(test.json))} {
			got, err := credentials(http.Header{test.header: {value}}, test.image)
			if err != nil || got[test.host] != test.want {
				t.Errorf("%s %s: %v, %v; want %s: %v", test.header, test.json, got, err, test.host, test.want)
			}
		}
	}
	both := http.Header{registryConfig: {encode([]byte("null"))}, registryAuth: {encode([]byte(`{"registrytoken":"r"}`))}}
	if got, err := credentials(both, "a"); err != nil || got["docker.io"].RegistryToken != "r" {
		t.Errorf("beside a null: %v, %v", got, err)
	}
	for _, value := range []string{"?", encode([]byte("secret")), encode([]byte(`{"auth":"secret"}`))} {
		if _, err := credentials(http.Header{registryAuth: {value}}, "a"); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("X-Registry-Auth %q: %v, want an error without what was sent", value, err)
		}
	}
}

func FuzzCredentials(f *testing.F) {
	f.Add("e30=", "e30=", "a")
	f.Add("eyJ1c2VybmFtZSI6InUifQ", "", "localhost:1/a")
	f.Fuzz(func(_ *testing.T, one, all, name string) {
		_, _ = credentials(http.Header{registryAuth: {one}, registryConfig: {all}}, name)
	})
}

// FuzzBuildQuery reads what a client may send with a build. A build of the files of this machine is never what comes of it.
func FuzzBuildQuery(f *testing.F) {
	f.Add("t=a&buildargs=%7B%22A%22%3Anull%7D&labels=%7B%7D&cachefrom=%5B%22a%22%5D&ulimits=%5B%7B%7D%5D&memory=1&platform=%7B%22os%22%3A%22linux%22%7D")
	f.Add("remote=/etc&dockerfile=../x&outputs=%5B%7B%22Type%22%3A%22tar%22%7D%5D")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		c := &call{r: httptest.NewRequest(http.MethodPost, "/build", strings.NewReader("")), query: q}
		o, err := c.buildOptions()
		if err == nil && o.Context != "-" && !strings.Contains(o.Context, ":") && !strings.HasPrefix(o.Context, "github.com/") && !strings.HasPrefix(o.Context, "git@") {
			t.Errorf("%q builds %q", query, o.Context)
		}
	})
}
