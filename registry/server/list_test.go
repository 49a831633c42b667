package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/registry/server"
)

func TestTags(t *testing.T) {
	t.Parallel()
	c := start(t, server.Options{})
	c.image("app", "", "x", nil, "")
	for _, tag := range []string{"test0", "test1", "Test2", "_x.y"} {
		c.image("app", tag, "x", nil, "")
	}
	for query, want := range map[string]string{
		"":                  `{"name":"app","tags":["Test2","_x.y","test0","test1"]}`,
		"?n=0":              `{"name":"app","tags":[]}`,
		"?n=2":              `{"name":"app","tags":["Test2","_x.y"]}`,
		"?n=2&last=_x.y":    `{"name":"app","tags":["test0","test1"]}`,
		"?last=test0":       `{"name":"app","tags":["test1"]}`,
		"?last=test0a":      `{"name":"app","tags":["test1"]}`,
		"?n=9&last=zzz":     `{"name":"app","tags":[]}`,
		"?n=100&last=Test2": `{"name":"app","tags":["_x.y","test0","test1"]}`,
	} {
		if r := c.do("GET", "/v2/app/tags/list"+query, nil).want(t, 200); r.body != want {
			t.Errorf("tags%s = %s, want %s", query, r.body, want)
		}
	}
	c.do("GET", "/v2/app/tags/list?n=2", nil).header(t, "Link", `</v2/app/tags/list?last=_x.y&n=2>; rel="next"`)
	c.do("GET", "/v2/app/tags/list?n=4", nil).header(t, "Link", "")

	// A tag goes alone; a manifest takes its tags along.
	c.do("DELETE", "/v2/app/manifests/test0", nil).want(t, 202)
	c.do("GET", "/v2/app/manifests/test0", nil).want(t, 404)
	d := c.do("GET", "/v2/app/manifests/test1", nil).want(t, 200).Header.Get("Docker-Content-Digest")
	c.do("DELETE", "/v2/app/manifests/"+d, nil).want(t, 202)
	c.do("GET", "/v2/app/manifests/test1", nil).want(t, 404)
	c.do("GET", "/v2/app/manifests/"+d, nil).want(t, 404)
	if r := c.do("GET", "/v2/app/tags/list", nil).want(t, 200); r.body != `{"name":"app","tags":[]}` {
		t.Errorf("tags after the manifest was deleted = %s", r.body)
	}
}

func TestReferrers(t *testing.T) {
	t.Parallel()
	c := start(t, server.Options{})
	// The subject comes after what is about it, as the specification allows.
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("later"), Size: 5}
	a := c.image("app", "", "a", &subject, "application/a")
	b := c.image("app", "tagged", "b", &subject, "")
	list := func(query string) ocispec.Index {
		t.Helper()
		r := c.do("GET", "/v2/app/referrers/"+subject.Digest.String()+query, nil).want(t, 200)
		r.header(t, "Content-Type", ocispec.MediaTypeImageIndex)
		if query != "" {
			r.header(t, "OCI-Filters-Applied", "artifactType")
		}
		var index ocispec.Index
		if err := json.Unmarshal([]byte(r.body), &index); err != nil || index.SchemaVersion != 2 || index.Manifests == nil {
			t.Fatalf("referrers: %s, %v", r.body, err)
		}
		return index
	}
	if all := list(""); len(all.Manifests) != 2 {
		t.Errorf("referrers: %v, want 2", all.Manifests)
	}
	got := list("?artifactType=application%2Fa").Manifests
	if len(got) != 1 || got[0].Digest != a.Digest || got[0].Annotations["for"] != "a" || got[0].ArtifactType != "application/a" || got[0].Size != a.Size {
		t.Errorf("referrers of type a: %+v", got)
	}
	got = list("?artifactType=" + url.QueryEscape(ocispec.MediaTypeImageConfig)).Manifests
	if len(got) != 1 || got[0].Digest != b.Digest {
		t.Errorf("referrers by the type of their configuration: %+v", got)
	}
	if got := list("?artifactType=none").Manifests; len(got) != 0 {
		t.Errorf("referrers of no type: %v", got)
	}
	c.do("DELETE", "/v2/app/manifests/"+a.Digest.String(), nil).want(t, 202)
	if all := list(""); len(all.Manifests) != 1 {
		t.Errorf("referrers after one was deleted: %v, want 1", all.Manifests)
	}
	c.do("GET", "/v2/app/referrers/sha256:x", nil).want(t, 400)
}

// TestReferrersAreBounded holds that annotations have a limit when they are written, that an answer has one, and that records
// of earlier versions, which had none, are answered.
func TestReferrersAreBounded(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	root := t.TempDir()
	c := start(t, server.Options{Root: root})
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("s"), Size: 5}
	c.push("app", []byte("{}"))
	put := func(note string, status int) digest.Digest {
		t.Helper()
		m := ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Subject: &subject, Layers: []ocispec.Descriptor{},
			Config: ocispec.Descriptor{MediaType: "application/a", Digest: digest.FromString("{}"), Size: 2}, Annotations: map[string]string{"n": note},
		}
		var raw bytes.Buffer
		e := json.NewEncoder(&raw)
		e.SetEscapeHTML(false)
		if err := e.Encode(m); err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(raw.Bytes())
		c.do("PUT", "/v2/app/manifests/"+d.String(), raw.Bytes(), "Content-Type", m.MediaType).want(t, status)
		return d
	}
	put(strings.Repeat("<", 1_000_000), 413)
	for i := range 20 {
		put(fmt.Sprint(i)+strings.Repeat("<", 200_000), 201)
	}
	old := put("of an earlier version", 201)
	record := filepath.Join(root, "repositories/app/_referrers", subject.Digest.Encoded(), old.Encoded())
	if err := os.WriteFile(record, bytes.Repeat([]byte("x"), 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := map[digest.Digest]bool{}
	pages := 0
	for next := "/v2/app/referrers/" + subject.Digest.String(); next != ""; pages++ {
		r := c.do("GET", next, nil).want(t, 200)
		if len(r.body) > 3<<20 {
			t.Errorf("an answer has %d bytes", len(r.body))
		}
		var index ocispec.Index
		if err := json.Unmarshal([]byte(r.body), &index); err != nil {
			t.Fatal(err)
		}
		for _, d := range index.Manifests {
			seen[d.Digest] = true
		}
		next, _, _ = strings.Cut(strings.TrimPrefix(r.Header.Get("Link"), "<"), ">")
	}
	if len(seen) != 21 || !seen[old] || pages < 2 {
		t.Errorf("%d referrers on %d pages, the old one: %v; want 21 on some", len(seen), pages, seen[old])
	}
	// What the server has stored is nobody else's to read, even if it was the first to make the directory.
	err := filepath.WalkDir(root+"/repositories", func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := e.Info()
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCatalog(t *testing.T) {
	t.Parallel()
	c := start(t, server.Options{})
	for _, repo := range []string{"b", "a/b/c", "a"} {
		c.image(repo, "v1", "x", nil, "")
	}
	if r := c.do("GET", "/v2/_catalog?n=2", nil).want(t, 200); r.body != `{"repositories":["a","a/b/c"]}` {
		t.Errorf("catalog = %s", r.body)
	}
}
