package local

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/source"
	"github.com/forge-build/forge/source/sourcetest"
)

// addArchive runs an ADD with archive bytes as the context's file "a" (besides others in the context).
func addArchive(t *testing.T, base, do string, archive []byte) string {
	t.Helper()
	w := testLocal(t)
	root := t.TempDir()
	check(t, os.WriteFile(filepath.Join(root, "a"), archive, 0o600))
	d, err := source.OpenDir(root, nil, "")
	check(t, err)
	defer d.Close() //nolint:errcheck
	w.Inputs.Contexts[""] = d
	got, _, _ := runCopy(t, w, executor.Job{On: testLayers(t, w, base)}, testCopy(t, do))
	return got
}

func TestAddArchive(t *testing.T) {
	t.Parallel()
	long(t)
	owned := sourcetest.File("f", "1")
	owned.Uid, owned.Gid, owned.Mode = 5, 6, 0o4755
	attrs := sourcetest.File("f", "1")
	attrs.PAXRecords = map[string]string{"SCHILY.xattr.user.k": "v", "SCHILY.xattr.security.selinux": "no", "SCHILY.xattr.trusted.x": "no", "SCHILY.xattr.user.overlay.opaque": "y"}
	device := tar.Header{Typeflag: tar.TypeChar, Name: "n", Devmajor: 1, Devminor: 3}
	long := strings.Repeat("x", 256)
	for _, test := range []struct {
		name, base, do string
		archive        []byte
		want           string
	}{
		{"plain", "", "ADD a /t", sourcetest.Tar(t, sourcetest.Dir("d/", 0o700), sourcetest.File("d/f", "1"), sourcetest.File("g", "")), "t/; t/d/ 700; t/d/f =1; t/g ="},
		{"to the root", "", "ADD a /", sourcetest.Tar(t, sourcetest.File("f", "1")), "f =1"},
		{"gzip", "", "ADD a /t/", sourcetest.Gzip(t, sourcetest.Tar(t, sourcetest.File("f", "1"), sourcetest.Link("l", "f"))), "t/; t/f =1; t/l ->f"},
		{"not unpacked", "", "ADD --unpack=false a /t/", sourcetest.Gzip(t, []byte("x")), "t/; t/a =" + string(sourcetest.Gzip(t, []byte("x"))) + " 600"},
		{"gzip of something else", "", "ADD a /t", sourcetest.Gzip(t, []byte("x")), "t =" + string(sourcetest.Gzip(t, []byte("x"))) + " 600"},
		{"text", "", "ADD a /t", []byte("some text"), "t =some text 600"},
		{"empty file", "", "ADD a /t", nil, "t = 600"},
		{"empty tar", "", "ADD a /t", make([]byte, 1024), "t =" + string(make([]byte, 1024)) + " 600"},
		{"COPY does not", "", "COPY a /t", []byte("some text"), "t =some text 600"},
		{"owners are kept", "", "ADD a /", sourcetest.Tar(t, owned), "f =1 4755 5:6"},
		{"chown is for all", "", "ADD --chown=7:8 a /t", sourcetest.Tar(t, owned, sourcetest.Dir("d", 0o711)), "t/ 7:8; t/d/ 711 7:8; t/f =1 4755 7:8"},
		{"chmod is for none", "", "ADD --chmod=600 a /t", sourcetest.Tar(t, owned), "t/; t/f =1 4755 5:6"},
		{"xattrs", "", "ADD a /", sourcetest.Tar(t, attrs), "f =1 user.k:v"},
		{"device", "", "ADD a /", sourcetest.Tar(t, device), "n c1,3"},
		{"fifo", "", "ADD a /", sourcetest.Tar(t, tar.Header{Typeflag: tar.TypeFifo, Name: "p"}), "p |"},
		{"parents are made", "", "ADD a /", sourcetest.Tar(t, sourcetest.File("x/y/f", "1")), "x/; x/y/; x/y/f =1"},
		{"the root of the archive", "t/ 711 3:3", "ADD a /t", sourcetest.Tar(t, sourcetest.Dir("./", 0o700), sourcetest.File("./f", "1")), "t/ 711 3:3; t/f =1"},
		{"later entries win", "", "ADD a /", sourcetest.Tar(t, sourcetest.File("f", "1"), sourcetest.File("f", "2")), "f =2"},

		// Merging with what is there.
		{"replaces a file", "f =0 600 9:9", "ADD a /", sourcetest.Tar(t, sourcetest.File("f", "1")), "f =1"},
		{"directory keeps its content", "d/ 700; d/x =0", "ADD a /", sourcetest.Tar(t, sourcetest.Dir("d", 0o711)), "d/ 711; d/x =0"},
		{"file replaces directory", "d/x =0", "ADD a /", sourcetest.Tar(t, sourcetest.File("d", "1")), "d =1"},
		{"directory replaces file", "d =0", "ADD a /", sourcetest.Tar(t, sourcetest.Dir("d", 0o755), sourcetest.File("d/f", "1")), "d/; d/f =1"},
		{"directory replaces link", "r/; d ->r", "ADD a /", sourcetest.Tar(t, sourcetest.Dir("d", 0o755), sourcetest.File("d/f", "1")), "d/; d/f =1; r/"},
		{"links on the way are followed", "r/; d ->r", "ADD a /", sourcetest.Tar(t, sourcetest.File("d/f", "1")), "d ->r; r/; r/f =1"},
		{"destination link", "r/; d ->r", "ADD a /d", sourcetest.Tar(t, sourcetest.File("f", "1")), "d ->r; r/; r/f =1"},

		// Names and links mean what they mean with the destination as the root.
		{"absolute name", "", "ADD a /t", sourcetest.Tar(t, sourcetest.File("/etc/passwd", "1")), "t/; t/etc/; t/etc/passwd =1"},
		{"name with ..", "x =0", "ADD a /t", sourcetest.Tar(t, sourcetest.File("../../x", "1")), "t/; t/x =1; x =0"},
		{"absolute link to a directory", "etc/x =0", "ADD a /t", sourcetest.Tar(t, sourcetest.Link("l", "/etc"), sourcetest.File("l/x", "1")), "error: no such file"},
		{"absolute link inside", "etc/x =0", "ADD a /t", sourcetest.Tar(t, sourcetest.Dir("etc", 0o755), sourcetest.Link("l", "/etc"), sourcetest.File("l/x", "1")), "etc/; etc/x =0; t/; t/etc/; t/etc/x =1; t/l ->/etc"},
		{"link with ..", "x/y =0", "ADD a /t", sourcetest.Tar(t, sourcetest.Link("l", "../x"), sourcetest.File("l/y", "1")), "error: no such file"},
		{"link with .. inside", "", "ADD a /t", sourcetest.Tar(t, sourcetest.Dir("x", 0o755), sourcetest.Link("l", "../../x"), sourcetest.File("l/y", "1")), "t/; t/l ->../../x; t/x/; t/x/y =1"},
		{"below a file", "", "ADD a /t", sourcetest.Tar(t, sourcetest.File("f", "1"), sourcetest.File("f/g", "2")), "error: not a directory"},
		{"loop", "", "ADD a /t", sourcetest.Tar(t, sourcetest.Link("l", "l"), sourcetest.File("l/g", "2")), "error: too many"},

		// Hard links.
		{"hard link", "", "ADD a /t", sourcetest.Tar(t, sourcetest.File("f", "1"), sourcetest.Hard("g", "f")), "t/; t/f =1 #1; t/g =1 #1"},
		{"hard link, absolute", "", "ADD a /t", sourcetest.Tar(t, sourcetest.File("f", "1"), sourcetest.Hard("g", "/f"), sourcetest.Hard("h", "g")), "t/; t/f =1 #1; t/g =1 #1; t/h =1 #1"},
		{"hard link to a link", "", "ADD a /t", sourcetest.Tar(t, sourcetest.Link("f", "x"), sourcetest.Hard("g", "f")), "t/; t/f ->x; t/g ->x"},
		{"hard link to what was there", "f =0 600 4:4", "ADD a /", sourcetest.Tar(t, sourcetest.Hard("g", "f")), "f =0 600 4:4 #1; g =0 600 4:4 #1"},
		{"hard link out", "f =0", "ADD a /t", sourcetest.Tar(t, sourcetest.Hard("g", "../f")), "error: no such file"},
		{"hard link to a directory", "", "ADD a /t", sourcetest.Tar(t, sourcetest.Dir("d", 0o755), sourcetest.Hard("g", "d")), "error: operation not permitted"},
		{"hard link to nothing", "", "ADD a /t", sourcetest.Tar(t, sourcetest.Hard("g", "f")), "error: no such file"},
		{"hard link of itself", "", "ADD a /t", sourcetest.Tar(t, sourcetest.File("f", "1"), sourcetest.Hard("f", "f")), "t/; t/f =1"},
		{"hard link to what was replaced", "", "ADD a /t", sourcetest.Tar(t, sourcetest.File("d/f", "1"), sourcetest.File("d", "2"), sourcetest.Hard("g", "d/f")), "error: not a directory"},

		// Limits.
		{"root that is a file", "", "ADD a /t", sourcetest.Tar(t, sourcetest.Link("/", "x")), "error: root can only be a directory"},
		{"entry without a name", "", "ADD a /t", sourcetest.Tar(t, sourcetest.Link(".", "x")), "t/"},
		{"long element", "", "ADD a /t", sourcetest.Tar(t, sourcetest.File(long, "1")), "error: name"},
		{"long name", "", "ADD a /t", sourcetest.Tar(t, sourcetest.File(strings.Repeat("x/", 2050)+"f", "1")), "error: name"},
		{"owner out of range", "", "ADD a /t", sourcetest.Tar(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Uid: 1<<32 - 1}), "error: out of range"},
		{"whiteout", "x =0", "ADD a /", sourcetest.Tar(t, sourcetest.File(".wh.x", "")), "error: .wh.x"},
		{"unknown type", "", "ADD a /", sourcetest.Tar(t, sourcetest.File("f", "1"), tar.Header{Typeflag: 'Z', Name: "x"}), "error: unhandled tar header type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := addArchive(t, test.base, test.do, test.archive)
			if want, ok := strings.CutPrefix(test.want, "error: "); ok && (!strings.HasPrefix(got, "error: ") || !strings.Contains(got, want)) || !ok && got != test.want {
				t.Errorf("%s\n got %q\nwant %q", test.do, got, test.want)
			}
		})
	}
}

// TestAddArchivePrograms unpacks what tar makes, in all compressions.
func TestAddArchivePrograms(t *testing.T) {
	t.Parallel()
	long(t)
	root := sourcetest.Write(t, "d/f =content; d/g =content; d/h =1 #1; d/i =1 #1; l ->d/f")
	for flag, program := range map[string]string{"": "tar", "-z": "gzip", "-j": "bzip2", "-J": "xz", "--zstd": "zstd"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Logf("%s is not here", program)
			continue
		}
		cmd := exec.Command("tar", "-c", "--owner=0", "--group=0", "-C", root, "d", "l")
		if flag != "" {
			cmd.Args = append(cmd.Args, flag)
		}
		out, err := cmd.Output()
		check(t, err)
		want := "d/; d/f =content; d/g =content; d/h =1 #1; d/i =1 #1; l ->d/f"
		if got := addArchive(t, "", "ADD a /", out); got != want {
			t.Errorf("tar %s\n got %s\nwant %s", flag, got, want)
		}
		if flag != "" {
			if got := addArchive(t, "", "ADD a /", out[:len(out)/2]); !strings.HasPrefix(got, "error: ") && !strings.HasPrefix(got, "a =") {
				t.Errorf("tar %s, cut: %.200s", flag, got)
			}
		}
	}
}

func TestAddArchiveTruncated(t *testing.T) {
	t.Parallel()
	whole := sourcetest.Tar(t, sourcetest.File("f", strings.Repeat("x", 5000)), sourcetest.File("g", "1"))
	for _, n := range []int{600, 4000, 5632 + 512} {
		if got := addArchive(t, "", "ADD a /", whole[:n]); !strings.HasPrefix(got, "error: ") {
			t.Errorf("cut to %d bytes: %.100s", n, got)
		}
		if got := addArchive(t, "", "ADD a /", sourcetest.Gzip(t, whole[:n])); !strings.HasPrefix(got, "error: ") {
			t.Errorf("cut to %d bytes, compressed: %.100s", n, got)
		}
	}
}

// TestAddArchiveSparse reads the content of sparse files by their maps, and what comes after them.
func TestAddArchiveSparse(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	f, err := os.Create(filepath.Join(root, "s"))
	check(t, err)
	_, err = f.WriteAt([]byte("end"), 1<<20)
	check(t, err)
	check(t, f.Close())
	check(t, os.WriteFile(filepath.Join(root, "z"), []byte("after"), 0o644))
	for _, format := range []string{"gnu", "posix"} {
		out, err := exec.Command("tar", "-c", "-S", "--format="+format, "--owner=0", "--group=0", "-C", root, "s", "z").Output()
		check(t, err)
		if len(out) > 100<<10 {
			t.Fatalf("%d bytes: not sparse", len(out))
		}
		want := "s =" + string(make([]byte, 1<<20)) + "end; z =after"
		if got := addArchive(t, "", "ADD a /", out); got != want {
			t.Errorf("%s: %d bytes, want %d; ends in %q", format, len(got), len(want), got[max(0, len(got)-20):])
		}
	}
}

// TestAddArchiveFlat holds that memory does not grow with what an archive unpacks to.
func TestAddArchiveFlat(t *testing.T) {
	t.Parallel()
	long(t)
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	const size = 300 << 20
	check(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}))
	_, err := io.CopyN(w, zeros{}, size)
	check(t, err)
	check(t, w.Close())
	check(t, z.Close())

	l := testLocal(t)
	root := t.TempDir()
	check(t, os.WriteFile(filepath.Join(root, "a"), b.Bytes(), 0o644))
	d, err := source.OpenDir(root, nil, "")
	check(t, err)
	defer d.Close() //nolint:errcheck
	l.Inputs.Contexts[""] = d
	before := peakMemory(t)
	_, err = l.Do(context.Background(), executor.Job{Op: testCopy(t, "ADD a /")}, nil)
	check(t, err)
	if grown := peakMemory(t) - before; grown > 48<<10 {
		t.Errorf("unpacking %d MiB took %d MiB of memory", size>>20, grown>>10)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// peakMemory is the largest resident set so far, in KiB.
func peakMemory(t *testing.T) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	check(t, err)
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	_, err = fmt.Sscan(after, &kib)
	check(t, err)
	return kib
}
