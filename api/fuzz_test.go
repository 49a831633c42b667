package api

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/forge-build/forge"
)

// FuzzCreate reads bodies of requests for containers. What is taken says the same when it is read again.
func FuzzCreate(f *testing.F) {
	f.Add(`{"Image":"a","Cmd":"x","Entrypoint":["y"],"Env":["A=b"],"HostConfig":{"Binds":["v:/d"],"PortBindings":{"80/tcp":[{"HostPort":"1"}]}}}`)
	f.Add(`{"Image":"a","HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/x","VolumeOptions":{"Labels":{"a":"b,c\""}}}],"NanoCpus":1500000000}}`)
	f.Add(`{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"n":{"Aliases":["b"],"IPAMConfig":{"IPv4Address":"10.0.0.1"}},"m":null}}}`)
	f.Add(`{"Image":"a","Healthcheck":{"Test":["CMD"]},"Volumes":{"/a":{}},"HostConfig":{"Ulimits":[{"Name":"nofile","Soft":-1,"Hard":-1}],"Devices":[{"PathOnHost":"/dev/null"}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		read := func() (o forge.ContainerOptions, err error) {
			var b createBody
			if err := json.Unmarshal([]byte(text), &b); err != nil {
				return o, err
			}
			if o, err = b.options(); err != nil {
				return o, err
			}
			if _, err := b.networks(&o); err != nil {
				return o, err
			}
			return o, o.Verify()
		}
		first, err := read()
		if err != nil {
			return
		}
		second, err := read()
		a, errA := json.Marshal(first)
		b, errB := json.Marshal(second)
		if err != nil || errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s is %s and then %s: %v %v %v", text, a, b, err, errA, errB)
		}
	})
}

// FuzzVersion takes paths apart.
func FuzzVersion(f *testing.F) {
	f.Add("/v1.51/containers/json")
	f.Add("/v1.99999999999999999999/x")
	f.Add("//v1.51//")
	f.Fuzz(func(t *testing.T, path string) {
		v, rest, err := negotiate(path)
		if err == nil && (v < oldest || v > newest) {
			t.Errorf("%q is of version %v, %q", path, v, rest)
		}
	})
}

// FuzzArchive unpacks what may be a tar in a container. Whatever it is, the server answers, and goes on.
func FuzzArchive(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "dir/link", Typeflag: tar.TypeSymlink, Linkname: "../../../../etc"},
		{Name: "dir/link/file", Size: 4, Mode: 0o644},
		{Name: "../../out", Size: 0, Mode: 0o644},
		{Name: "hard", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			f.Fatal(err)
		}
		if _, err := w.Write([]byte("text")[:h.Size]); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:700])
	f.Add([]byte("\x1f\x8b"))
	f.Setenv("HOME", f.TempDir())
	s := New(Options{Store: forge.Options{Dir: f.TempDir()}})
	post := func(method, path, kind string, body []byte) (int, string) {
		r := httptest.NewRequest(method, path, bytes.NewReader(body))
		r.Header.Set("Content-Type", kind)
		r.Host = "docker"
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	q := parseQuestions("POST /images/create?fromSrc=-&repo=base&tag=1 tar:etc/motd=hello\nPOST /containers/create?name=cc {\"Image\":\"base:1\",\"Cmd\":[\"x\"]}\n")
	for _, one := range q {
		kind, content := one.content(&testing.T{})
		if code, text := post(one.method, one.path, kind, content); code > 299 {
			f.Fatalf("%s: %d %s", one.path, code, text)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		code, text := post(http.MethodPut, "/containers/cc/archive?path=/etc", "application/x-tar", raw)
		if code != http.StatusOK && !strings.Contains(text, `"message"`) {
			t.Errorf("%d %s", code, text)
		}
		if code, text := post(http.MethodHead, "/containers/cc/archive?path=/etc/motd", "", nil); code != http.StatusOK {
			t.Errorf("the server does not go on: %d %s", code, text)
		}
	})
}
