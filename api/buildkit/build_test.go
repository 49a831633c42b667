package buildkit

import (
	"archive/tar"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/forge-build/forge/internal/grpc"
)

// TestBuild builds what a client lends, and again: what has not changed is not sent again.
func TestBuild(t *testing.T) {
	c := newClient(t)
	c.dirs["dockerfile"] = map[string]string{"Dockerfile": "# check=error=false\nFROM scratch\nARG A\nCOPY a.txt dir/ /\nCOPY link /\nLABEL a=$A\n"}
	c.dirs["context"] = map[string]string{
		"a.txt": strings.Repeat("one ", 1000), "dir/": "", "dir/b": "two", "dir/empty": "", "link": "-> a.txt", "unused": "never", ".dockerignore": "*.log\n!größe.log\n",
	}
	c.attrs["build-arg:A"], c.attrs["label:l"] = "7", "v"
	o, err := c.build("r1", exporter{"moby", map[string]string{"name": "app:1", "prefer-image-digest": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.took(), ".dockerignore Dockerfile a.txt dir/b"; got != want {
		t.Errorf("the client has sent %s, want %s", got, want)
	}
	want := []string{
		"[internal] load build definition: done", "[stage-0 1/2] COPY a.txt dir/ /: done", "[stage-0 2/2] COPY link /: done", "export image app:1: done",
	}
	if !slices.Equal(o.steps, want) {
		t.Errorf("steps %q, want %q", o.steps, want)
	}
	id := o.exported["containerimage.config.digest"]
	desc, _ := base64.StdEncoding.DecodeString(o.exported["containerimage.descriptor"])
	if o.exported["containerimage.digest"] != id || !strings.HasPrefix(id, "sha256:") || o.exported["image.name"] != "docker.io/library/app:1" || !strings.Contains(string(desc), "manifest") {
		t.Errorf("exported %q, descriptor %s", o.exported, desc)
	}
	patterns := c.asked[len(c.asked)-1]
	if !slices.Equal(patterns["exclude-patterns"], []string{"%2A.log", "%21gr%C3%B6%C3%9Fe.log"}) || patterns.Get("exclude-patterns-encoded") != "1" {
		t.Errorf("patterns %q", patterns)
	}

	again, err := c.build("r2", exporter{"moby", map[string]string{"name": "app:1"}})
	if err != nil || again.exported["containerimage.digest"] != id {
		t.Errorf("again: %q, %v", again.exported, err)
	}
	if got, want := c.took(), ".dockerignore Dockerfile"; got != want {
		t.Errorf("again the client has sent %s, want %s", got, want)
	}
	c.dirs["context"]["dir/b"] = "three"
	if o, err = c.build("r3"); err != nil || o.exported["containerimage.digest"] == id {
		t.Errorf("with a change: %q, %v", o.exported, err)
	}
	if got := c.took(); !strings.Contains(got, "dir/b") {
		t.Errorf("with a change the client has sent %s", got)
	}
}

// TestFailures is about builds that do not come to an end.
func TestFailures(t *testing.T) {
	c := newClient(t)
	c.dirs["context"] = map[string]string{"odd": "less!"}
	for name, test := range map[string]struct {
		text, want string
		attrs      map[string]string
	}{
		"syntax":               {"FROM scratch\nRUNN x\n", "InvalidArgument: Dockerfile:2: unknown instruction: RUNN", nil},
		"missing":              {"FROM scratch\nCOPY none /\n", "COPY none /: \"/none\": not found\nDockerfile:2\n", nil},
		"changed":              {"FROM scratch\nCOPY odd /\n", "odd: changed while the build read it", nil},
		"foreign":              {"# syntax=foo/bar\nFROM scratch\n", "foreign frontend", nil},
		"no such file":         {"", "failed to read dockerfile: open none: no such file", map[string]string{"filename": "none"}},
		"option":               {"FROM scratch\n", "option odd of the build is not known", map[string]string{"odd": "x"}},
		"named option":         {"FROM scratch\n", "option odd:x of the build is not known", map[string]string{"odd:x": "x"}},
		"graph":                {"FROM scratch\n", "context c: is a graph of BuildKit's (LLB)", map[string]string{"context:c": "input:c"}},
		"layout":               {"FROM c\n", "is named with the digest of its image", map[string]string{"context:c": "oci-layout://x:latest"}},
		"server's layout":      {"FROM c\n", "sha256:" + strings.Repeat("0", 64) + ": file does not exist", map[string]string{"context:c": "oci-layout:///etc@sha256:" + strings.Repeat("0", 64)}},
		"server's files":       {"FROM scratch\n", "context /etc is neither a repository nor a URL", map[string]string{"context": "/etc"}},
		"server's named files": {"FROM scratch\n", "context c: /etc is none of", map[string]string{"context:c": "/etc"}},
		"server's lent files":  {"FROM scratch\n", "context c: client://x is none of", map[string]string{"context:c": "client://x"}},
		"no standard input":    {"FROM scratch\n", "filename - is no file", map[string]string{"filename": "-", "context": "https://localhost:1/x"}},
		"question":             {"FROM scratch\n", "unsupported request \"odd\"", map[string]string{"requestid": "odd"}},
		"cache":                {"FROM scratch\n", "is not one of registry, local", map[string]string{"cache-imports": `[{"Type":"odd"}]`}},
		"epoch":                {"FROM scratch\n", "must be seconds since 1970", map[string]string{"build-arg:SOURCE_DATE_EPOCH": "x"}},
	} {
		c.dirs["dockerfile"] = map[string]string{"Dockerfile": test.text}
		c.attrs = test.attrs
		if _, err := c.build("f " + name); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
	c.service.mu.Lock()
	defer c.service.mu.Unlock()
	for ref, b := range c.service.builds {
		if b.over && b.request != nil {
			t.Errorf("%s: what was asked for is kept, though it is answered", ref)
		}
	}
	if len(c.service.builds) == 0 {
		t.Error("no build is remembered")
	}
}

// TestOutputs has the result sent to the client.
func TestOutputs(t *testing.T) {
	c := newClient(t)
	c.dirs["dockerfile"] = map[string]string{"Dockerfile": "FROM scratch\nCOPY . /d\n"}
	c.dirs["context"] = map[string]string{"a": "one", "s/": "", "s/b": strings.Repeat("two", 40_000), "l": "-> s/b"}
	if _, err := c.build("tar", exporter{"tar", nil}); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for r := tar.NewReader(strings.NewReader(c.received["-"])); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r)
		got[h.Name] = string(b)
	}
	if got["d/a"] != "one" || got["d/s/b"] != strings.Repeat("two", 40_000) {
		t.Errorf("the tar has %q", slices.Sorted(maps.Keys(got)))
	}
	delete(c.received, "-")
	c.attrs["tree"] = "yes"
	for ref, test := range map[string]struct{ platforms, prefix string }{"local": {"", ""}, "locals": {"linux/amd64,linux/arm64", "linux_arm64/"}} {
		c.received = map[string]string{}
		c.attrs["platform"] = test.platforms
		if _, err := c.build(ref, exporter{"local", map[string]string{"dest": "/not/here"}}); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"d": "drwxr-xr-x ", "d/a": "-rw-r--r-- one", "d/s": "drwxr-xr-x ", "d/s/b": "-rw-r--r-- " + strings.Repeat("two", 40_000), "d/l": "Lrwxrwxrwx "}
		for name, w := range want {
			if got := c.received[test.prefix+name]; got != w {
				t.Errorf("%s: %s is %.40q, want %.40q", ref, name, got, w)
			}
		}
	}
	delete(c.attrs, "platform")
	c.attrs["attest:provenance"], c.attrs["attest:sbom"] = "mode=max", ""
	c.received = map[string]string{}
	if _, err := c.build("attested", exporter{"local", nil}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"provenance.json": "https://slsa.dev/provenance/v1", "sbom.spdx.json": "SPDX-2.3", "d/a": "one"} {
		if got := c.received[name]; !strings.HasPrefix(got, "-rw-r--r-- ") || !strings.Contains(got, want) {
			t.Errorf("%s is %.60q", name, got)
		}
	}
	delete(c.attrs, "attest:sbom")
	c.received = map[string]string{}
	if _, err := c.build("provenance", exporter{"local", nil}); err != nil || c.received["provenance.json"] == "" || c.received["sbom.spdx.json"] != "" {
		t.Errorf("without a list of packages: %v, %q", err, slices.Sorted(maps.Keys(c.received)))
	}
	delete(c.attrs, "attest:provenance")
	delete(c.attrs, "tree")
	for i, e := range []exporter{
		{"odd", nil},
		{"image", map[string]string{"odd": "x"}},
		{"image", map[string]string{"type": "x"}},
		{"local", map[string]string{"special": "true"}},
		{"local", map[string]string{"Special": "1"}},
		{"image", map[string]string{"Type": "local", "Dest": "x"}},
	} {
		if _, err := c.build(fmt.Sprint("bad ", i), e); grpc.CodeOf(err) != grpc.InvalidArgument {
			t.Errorf("exporter %v: %v", e, err)
		}
	}
}

// TestQuestions asks about a build.
func TestQuestions(t *testing.T) {
	c := newClient(t)
	c.dirs["dockerfile"] = map[string]string{"Dockerfile": "FROM scratch AS Base\nARG A=1\nFROM base AS last\n"}
	for id, want := range map[string]string{
		"frontend.lint": "Check complete, 1 warning has been found!", "frontend.outline": "A ", "frontend.targets": "last (default)",
		"frontend.subrequests.describe": "frontend.lint",
	} {
		c.attrs["requestid"] = id
		if id == "frontend.outline" {
			c.attrs["target"] = "base"
		}
		o, err := c.build(id)
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if got := o.result.Metadata; !strings.Contains(string(got["result.txt"]), want) || !strings.ContainsAny(string(got["result.json"]), "{[") || string(got["version"]) != "1.0.0" {
			t.Errorf("%s: %q, want %s", id, got, want)
		}
		delete(c.attrs, "target")
	}
}

// TestNamedContexts builds with directories of the client under names, one of another session of it, and with the result of another build.
func TestNamedContexts(t *testing.T) {
	c := newClient(t)
	c.attach("s2", "key2")
	c.dirs["dockerfile"] = map[string]string{"Dockerfile": "FROM scratch\nCOPY --from=other x /\nCOPY y /\n"}
	c.dirs["other"] = map[string]string{"x": "1"}
	c.dirs["context"] = map[string]string{"y": "2"}
	c.attrs = map[string]string{"context:other": "local:other", "sharedkey:localdir:other": "k", "local-sessionid:context": "s2"}
	first, err := c.build("first")
	if err != nil {
		t.Fatal(err)
	}
	image, err := imageOf(first.result.Ref.Def)
	if err != nil || !strings.HasPrefix(image, "sha256:") || len(first.result.Ref.Def.Metadata) != 2 {
		t.Fatalf("graph of the result: %v, %v", first.result.Ref.Def, err)
	}
	in := &solveRequest{
		Ref: "second", Session: "s1", Frontend: "dockerfile.v0", FrontendAttrs: map[string]string{"context:base": "input:base", "filename": "F"},
		FrontendInputs: map[string]*definition{"base": first.result.Ref.Def}, Exporters: []exporter{{"tar", nil}},
	}
	c.dirs["dockerfile"]["F"] = "FROM base\nCOPY y /z\n"
	if err := c.Invoke(t.Context(), control+"Solve", nil, in, &solveResponse{}); err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(strings.NewReader(c.received["-"])); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("the file of the first build is not in the second: %v", err)
		}
		if h.Name == "x" {
			break
		}
	}
}

// TestStandardInput builds a build file that the client sends for a URL of its session.
func TestStandardInput(t *testing.T) {
	c := newClient(t)
	c.attrs = map[string]string{"context": "http://buildkit-session/abc"}
	if o, err := c.build("stdin"); err != nil || o.exported["containerimage.digest"] == "" {
		t.Errorf("%q, %v", o.exported, err)
	}
}
