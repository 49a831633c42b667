package registry_test

import (
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// TestOthersReadBack has other programs read what forge pushed, from our registry and from Debian's.
func TestOthersReadBack(t *testing.T) {
	long(t)
	for _, algorithm := range []string{"gzip", "zstd", "none"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			for _, host := range []string{registrytest.New(t).Host(), registrytest.DockerRegistry(t, "")} {
				ref := registrytest.Ref(t, host+"/team/app:1")
				l := openLayout(t, t.TempDir())
				img := local(t, l, registrytest.Tar(t, "a", 1, 700_000), registrytest.Tar(t, "b", 2, 10))
				push(t, l, img, ref, algorithm)
				dir := t.TempDir()
				registrytest.Tool(t, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "docker://"+ref.String(), "dir:"+dir)
				if _, err := exec.LookPath("crane"); err == nil {
					registrytest.Tool(t, "crane", "pull", "--insecure", "--format=oci", ref.String(), filepath.Join(dir, "crane"))
					if algorithm == "gzip" { // it checks no other
						registrytest.Tool(t, "crane", "validate", "--insecure", "--remote", ref.String())
					}
				}
			}
		})
	}
}

// TestOthersUseOurRegistry has skopeo push to it, copy within it, list and delete.
func TestOthersUseOurRegistry(t *testing.T) {
	long(t)
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	_, d := put(t, ref, 1, 300_000, 1000)
	dir := filepath.Join(t.TempDir(), "layout")
	registrytest.Tool(t, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "docker://"+ref.String(), "oci:"+dir+":1")
	for _, format := range []string{"oci", "v2s2"} {
		to := r.Host() + "/from/skopeo:" + format
		registrytest.Tool(t, "skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "--format", format, "oci:"+dir+":1", "docker://"+to)
		back := connect(t, registrytest.Ref(t, to), registry.Options{})
		if _, err := pull(t.Context(), back, registry.CopyOptions{}); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if _, img := inspect(t, back.Reference(), &amd64); img.Config.OS+"/"+img.Config.Architecture != "linux/amd64" {
			t.Errorf("%s: inspected %+v", format, img)
		}
	}
	registrytest.Tool(t, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", "--all",
		"docker://"+ref.String(), "docker://"+r.Host()+"/other:1")
	if out := registrytest.Tool(t, "skopeo", "list-tags", "--tls-verify=false", "docker://"+r.Host()+"/from/skopeo"); !contains(out, `"oci"`, `"v2s2"`) {
		t.Errorf("skopeo lists %s", out)
	}
	registrytest.Tool(t, "skopeo", "delete", "--tls-verify=false", "docker://"+r.Host()+"/other:1")
	if _, err := connect(t, r.Ref(t, "other:1"), registry.Options{}).Resolve(t.Context(), r.Ref(t, "other:1")); err == nil {
		t.Error("the image that skopeo deleted is still there")
	}
	if _, err := connect(t, ref, registry.Options{}).Resolve(t.Context(), ref); err != nil {
		t.Errorf("%s went with the other: %v", d.Digest, err)
	}
}

// TestDockerSchema2 pulls what Docker pushes: other media types, from a registry that serves them.
func TestDockerSchema2(t *testing.T) {
	long(t)
	t.Parallel()
	host := registrytest.DockerRegistry(t, "")
	ref := registrytest.Ref(t, host+"/app:1")
	put(t, ref, 1, 300_000, 1000)
	to := registrytest.Ref(t, host+"/docker:1")
	registrytest.Tool(t, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format", "v2s2",
		"docker://"+ref.String(), "docker://"+to.String())
	root := t.TempDir()
	if err := pullTo(t.Context(), t, root, to, false); err != nil {
		t.Fatal(err)
	}
	checkLayout(t, root, to, true)
	// And it is pushed on as it is.
	l := openLayout(t, root)
	d, err := l.Resolve(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	on := registrytest.Ref(t, host+"/on:1")
	if got, err := registry.Copy(t.Context(), connect(t, on, registry.Options{}).Writable().Whole(), l, d, pushOptions(l, on, image.Compression{})); err != nil || got.Digest != d.Digest {
		t.Errorf("pushed on as %s, %v; want %s", got.Digest, err, d.Digest)
	}
}

// TestPushOverABadLine pushes to Debian's registry through a proxy that breaks connections amid a body: whatever that
// registry makes of half an upload, the blob arrives whole.
func TestPushOverABadLine(t *testing.T) {
	long(t)
	t.Parallel()
	line := badLine(t, registrytest.DockerRegistry(t, ""), 3, 1<<20)
	for _, algorithm := range []string{"gzip", "none"} {
		ref := registrytest.Ref(t, line.addr+"/"+algorithm+":1")
		l := openLayout(t, t.TempDir())
		img := local(t, l, registrytest.Tar(t, "a", 1, 5<<20))
		line.left.Store(3)
		push(t, l, img, ref, algorithm)
		if left := line.left.Load(); left > 0 {
			t.Errorf("%s: %d connections were not broken", algorithm, left)
		}
		root := t.TempDir()
		if err := pullTo(t.Context(), t, root, ref, false); err != nil {
			t.Fatal(err)
		}
		checkLayout(t, root, ref, true)
	}
}

// A line forwards connections and breaks the first few that carry many bytes.
type line struct {
	addr string
	left atomic.Int32 // to be broken
}

func badLine(t *testing.T, to string, breaks int32, after int64) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	ln := &line{addr: l.Addr().String()}
	ln.left.Store(breaks)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go ln.forward(in.(*net.TCPConn), to, after)
		}
	}()
	return ln
}

func (l *line) forward(in *net.TCPConn, to string, after int64) {
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		_, _ = io.Copy(in, out)
		_ = in.CloseWrite()
	}()
	if _, err := io.CopyN(out, in, after); err == nil && l.left.Add(-1) >= 0 {
		_ = in.SetLinger(0)
		return
	}
	_, _ = io.Copy(out, in)
}
