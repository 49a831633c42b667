package snapshottest

import (
	"io"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

// Busybox makes a layer in which commands can run: the machine's static busybox, the user me (1000:1001), and a link to /vol,
// which is not there. The test needs root.
func Busybox(t testing.TB, k *Kit) image.Layer {
	t.Helper()
	Need(t, "root", os.Geteuid() == 0)
	box, err := os.ReadFile("/bin/busybox")
	Need(t, "busybox", err == nil)
	c := k.Store.NewChanges(nil)
	put := func(name string, mode uint32, content string) {
		e := snapshot.Entry{Name: path.Base(name), Mode: mode, ModTime: time.Unix(1600000000, 0)}
		var open snapshot.Content
		switch mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			e.Size = int64(len(content))
			open.Open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
		case syscall.S_IFLNK:
			e.Link = content
		}
		if err := c.Put(name, e, open); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "sys"} {
		put(dir, syscall.S_IFDIR|0o755, "")
	}
	put("tmp", syscall.S_IFDIR|0o1777, "")
	put("bin/busybox", syscall.S_IFREG|0o755, string(box))
	for _, name := range strings.Fields("sh cat ls id env echo pwd stat sleep mkdir touch rm ln test grep cut wc head dd true false chmod mknod " +
		"hostname ps mount find sort tr umask readlink kill nc") {
		put("bin/"+name, syscall.S_IFLNK|0o777, "busybox")
	}
	put("etc/passwd", syscall.S_IFREG|0o644, "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1001::/home/me:/bin/sh\n")
	put("etc/group", syscall.S_IFREG|0o644, "root:x:0:\nmine:x:1001:\nothers:x:1002:me\n")
	put("link", syscall.S_IFLNK|0o777, "/vol")
	layer, err := k.Store.Commit(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return layer
}
