package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forge-build/forge"
)

// newServer serves a new store over HTTP.
func newServer(t *testing.T) (*httptest.Server, *Server) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	s := New(Options{Store: forge.Options{Dir: t.TempDir()}, Version: "1.2.3"})
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return h, s
}

// ask sends a request without a body and returns the answer and its body.
func ask(t *testing.T, method, url string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestNegotiation(t *testing.T) {
	h, _ := newServer(t)
	for _, test := range []struct {
		method, path string
		code         int
		kind, text   string
	}{
		{"GET", "/_ping", 200, "text/plain; charset=utf-8", "OK"},
		{"HEAD", "/_ping", 200, "text/plain; charset=utf-8", ""},
		{"GET", "/v1.24/_ping", 200, "text/plain; charset=utf-8", "OK"},
		{"GET", "/v1.56/_ping", 200, "text/plain; charset=utf-8", "OK"},
		{
			"GET", "/v1.99/_ping", 400, "application/json",
			`{"message":"client version 1.99 is too new. Maximum supported API version is 1.51"}` + "\n",
		},
		{
			"GET", "/v1.10/_ping", 400, "text/plain; charset=utf-8",
			"client version 1.10 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n",
		},
		{"GET", "/v1.51/none", 404, "application/json", `{"message":"page not found"}` + "\n"},
		{"POST", "/_ping", 404, "application/json", `{"message":"page not found"}` + "\n"},
		{"GET", "/v1.51", 404, "application/json", `{"message":"page not found"}` + "\n"},
	} {
		res, body := ask(t, test.method, h.URL+test.path)
		if kind := res.Header.Get("Content-Type"); res.StatusCode != test.code || kind != test.kind || body != test.text {
			t.Errorf("%s %s: %d %s %q, want %d %s %q", test.method, test.path, res.StatusCode, kind, body, test.code, test.kind, test.text)
		}
		for name, want := range map[string]string{"Api-Version": "1.51", "Ostype": "linux", "Docker-Experimental": "false", "Server": "Docker/28.5.2 (linux)"} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s %s: %s is %q, want %q", test.method, test.path, name, got, want)
			}
		}
	}
}

func TestPingHeaders(t *testing.T) {
	h, _ := newServer(t)
	res, _ := ask(t, "HEAD", h.URL+"/_ping")
	for name, want := range map[string]string{"Builder-Version": "2", "Swarm": "inactive", "Cache-Control": "no-cache, no-store, must-revalidate"} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestVersionAndInfo(t *testing.T) {
	h, _ := newServer(t)
	_, body := ask(t, "GET", h.URL+"/version")
	var v forge.VersionInfo
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatal(err)
	}
	if v.Version != "28.5.2" || v.ApiVersion != "1.51" || v.MinAPIVersion != "1.24" || v.Platform.Name != "forge 1.2.3" || len(v.Components) != 2 {
		t.Errorf("version is %+v", v)
	}
	_, body = ask(t, "GET", h.URL+"/info")
	var fields map[string]any
	if err := json.Unmarshal([]byte(body), &fields); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"ID", "Containers", "Images", "Driver", "Plugins", "NCPU", "MemTotal", "OperatingSystem", "OSType", "Architecture", "KernelVersion",
		"ServerVersion", "Name", "Labels", "IndexServerAddress", "RegistryConfig", "CgroupDriver", "CgroupVersion", "SecurityOptions",
		"DockerRootDir", "DefaultRuntime", "Runtimes", "Swarm", "LiveRestoreEnabled", "Warnings",
	} {
		if _, ok := fields[key]; !ok {
			t.Errorf("info has no %s", key)
		}
	}
}

func TestAccess(t *testing.T) {
	h, _ := newServer(t)
	for _, test := range []struct {
		name, value string
		code        int
	}{
		{"Origin", "http://localhost", 403},
		{"Sec-Fetch-Site", "cross-site", 403},
		{"Host", "page.example.com", 403},
		{"Host", "page.example.com:2375", 403},
		{"Host", "docker", 200},
		{"Host", "api.moby.localhost", 200},
		{"Host", "127.0.0.1:2376", 200},
		{"Host", "[::1]:2376", 200},
	} {
		res, body := ask(t, "GET", h.URL+"/_ping", test.name, test.value)
		if res.StatusCode != test.code {
			t.Errorf("%s %s: %d %s, want %d", test.name, test.value, res.StatusCode, body, test.code)
		}
		if got := res.Header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("Access-Control-Allow-Origin is %q", got)
		}
	}
}

func TestSwarmIsRefused(t *testing.T) {
	h, _ := newServer(t)
	for _, path := range []string{"/swarm", "/v1.51/services", "/nodes/x", "/tasks", "/secrets", "/configs/a"} {
		res, body := ask(t, "GET", h.URL+path)
		if res.StatusCode != 503 || !strings.Contains(body, "This node is not a swarm manager.") {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
}

func TestRoutes(t *testing.T) {
	for _, test := range []struct {
		pattern, path, name string
		is                  bool
	}{
		{"/containers/{name}/json", "/containers/a/json", "a", true},
		{"/containers/{name}/json", "/containers/a/b/json", "", false},
		{"/containers/{name}/json", "/containers//json", "", false},
		{"/containers/{name}/json", "/containers/json", "", false},
		{"/images/{name...}/json", "/images/a/json", "a", true},
		{"/images/{name...}/json", "/images/docker.io/library/a:1/json", "docker.io/library/a:1", true},
		{"/images/{name...}/json", "/images/json", "", false},
		{"/images/{name...}", "/images/a/b", "a/b", true},
	} {
		c := &call{}
		is := c.matches(strings.Split(test.pattern[1:], "/"), strings.Split(test.path[1:], "/"))
		if is != test.is || c.name != test.name {
			t.Errorf("%s of %s: %v %q, want %v %q", test.path, test.pattern, is, c.name, test.is, test.name)
		}
	}
}

// TestRefused: what is asked for and not there is refused, and nothing is done instead.
func TestRefused(t *testing.T) {
	h, _ := newServer(t)
	send(t, h.URL, "POST /images/create?fromSrc=-&repo=base&tag=1 tar:etc/motd=hello", http.StatusOK)
	for _, test := range []struct{ line, text string }{
		{"DELETE /images/base:1?platforms=%7B", "failed to parse platform"},
		{"DELETE /images/base:1?platforms=", "platform: is empty"},
		{"POST /images/load?platform=linux/amd64&platform=linux/arm64 tar:a=b", "one at a time"},
		{"GET /images/base:1/get?platform=%7B", "failed to parse platform"},
		{"POST /images/create?fromSrc=/etc/hostname", "neither - nor a URL"},
		{"GET /images/base:1/history?platform=odd/odd/odd/odd", "odd/odd"},
		{"POST /build/prune?min-free-space=1000", "min-free-space"},
		{"POST /build/prune?min-free-space=x", "min-free-space"},
		{"POST /images/prune?filters=%7B%22dangling%22%3A%5B%22odd%22%5D%7D", "dangling=odd"},
		{`POST /containers/create {"Image":"base:1","Cmd":["x"],"NetworkingConfig":{"EndpointsConfig":{"bridge":{"GwPriority":1}}}}`, "GwPriority"},
	} {
		if text := send(t, h.URL, test.line, http.StatusBadRequest); !strings.Contains(string(text), test.text) {
			t.Errorf("%s: %s, want %q", test.line, text, test.text)
		}
	}
	imageOf(t, h.URL, "base:1")
}

// TestRefusedValues: a value that can never be is the client's mistake, and what is not there is named as docker does.
func TestRefusedValues(t *testing.T) {
	h, _ := newServer(t)
	send(t, h.URL, "POST /images/create?fromSrc=-&repo=base tar:etc/motd=hello", http.StatusOK)
	send(t, h.URL, `POST /containers/create?name=one {"Image":"base","Cmd":["x"]}`, http.StatusCreated)
	const until, s390x = `?filters=%7B%22until%22%3A%5B%22zz%22%5D%7D`, `%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D`
	for _, test := range []struct {
		line string
		code int
		text string
	}{
		{`POST /containers/one/update {"Memory":1}`, 400, "6MB"},
		{`POST /containers/one/update {"RestartPolicy":{"Name":"odd"}}`, 400, "odd"},
		{"POST /containers/prune" + until, 400, "zz"},
		{"POST /networks/prune" + until, 400, "zz"},
		{"POST /images/prune" + until, 400, "zz"},
		{"POST /build/prune" + until, 400, "zz"},
		{"POST /volumes/prune" + until, 400, "until"},
		{"GET /events?since=zz", 400, "zz"},
		{"GET /containers/one/logs?stdout=1&until=zz", 400, "zz"},
		{"POST /build?dockerfile=- tar:Dockerfile=x", 400, "dockerfile -"},
		{"POST /build?dockerfile=-&remote=https://example.com/a.git", 400, "dockerfile -"},
		{"GET /images/base/json?platform=" + s390x, 404, `"image with reference base was found but does not provide the specified platform (linux/s390x): it has no image for`},
		{"DELETE /images/base?platforms=" + s390x, 404, `"image with reference base was found but does not provide the specified platform (linux/s390x)`},
		{"DELETE /images/base?platforms=linux/" + runtime.GOARCH, 409, `"image base is here for no other platform: leave out --platform to remove it`},
		{"GET /images/base/history?platform=" + s390x, 404, "image with reference base was found but does not provide the specified platform (linux/s390x)"},
		{"GET /images/base/get?platform=" + s390x, 404, `"no suitable export target found for platform linux/s390x: image with reference base was found but`},
		{`POST /containers/create?platform=linux/arm64 {"Image":"base","Cmd":["x"]}`, 404, `"No such image: base:latest for linux/arm64"`},
	} {
		if text := send(t, h.URL, test.line, test.code); !strings.Contains(string(text), test.text) {
			t.Errorf("%s: %s, want %q", test.line, text, test.text)
		}
	}
}

// TestCutOff: an answer that has begun and cannot be ended is cut off, so that the client does not take it for complete.
func TestCutOff(t *testing.T) {
	h, s := newServer(t)
	s.routes = append(s.routes, route{method: "GET", segments: []string{"cut"}, do: func(c *call) error {
		if _, err := (lateWriter{c, "application/x-tar"}).Write([]byte("half")); err != nil {
			return err
		}
		return errors.Join(c.flush(), errors.New("the other half cannot be read"))
	}})
	res, err := http.Get(h.URL + "/cut")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil || string(body) != "half" {
		t.Errorf("the client has read %q, and is told %v, want an error", body, err)
	}
}

// TestLateBoarder: who is not ready to be attached when the container starts is not forgotten, unless he has left.
func TestLateBoarder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b boarding
		late, gone, ready := b.announce("c"), b.announce("c"), b.announce("c")
		ready.attachment = forge.NewAttachment(t.Context(), forge.Streams{})
		close(ready.ready)
		go func() {
			time.Sleep(boardTime / 2)
			b.leave("c", gone)
		}()
		if all := b.take("c"); !slices.Equal(all, []*forge.Attachment{ready.attachment}) {
			t.Errorf("those are attached: %v, want who is ready", all)
		}
		if !b.leave("c", late) || b.leave("c", gone) || b.leave("c", ready) || len(b.waiting) > 0 {
			t.Error("not just the one who was late waits on")
		}
	})
}

func TestFilters(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", ""},
		{`{"label":{"a=b":true,"c":true,"d":false},"status":{"running":true}}`, "label=a=b label=c status=running"},
		{`{"label":["c","a=b"]}`, "label=c label=a=b"},
		{`{"dangling":{"true":true}}`, "dangling=true"},
		{`{}`, ""},
		{`[]`, "error"},
		{`{"label":1}`, "error"},
	} {
		list, err := parseFilters(test.in)
		got := strings.Join(list, " ")
		if err != nil {
			got = "error"
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.in, got, test.want)
		}
	}
}

func FuzzFilters(f *testing.F) {
	f.Add(`{"label":{"a=b":true}}`)
	f.Add(`{"label":["a"],"x":{}}`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseFilters(text)
		if err == nil && slices.ContainsFunc(list, func(s string) bool { return !strings.Contains(s, "=") }) {
			t.Errorf("%q is read as %q", text, list)
		}
	})
}
