package api

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// tarFrom reads the first entry of a tar of a path in a container.
func tarFrom(t *testing.T, base, path string) (h *tar.Header, content string) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(send(t, base, "GET /containers/cc/archive?path="+path, http.StatusOK)))
	h, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return h, string(b)
}

// TestPutArchive: what is unpacked in a container takes the place of what is no directory, or none, only if the client does not object, and
// belongs to the container's user if it wants that.
func TestPutArchive(t *testing.T) {
	h, _ := newServer(t)
	send(t, h.URL, "POST /images/create?fromSrc=-&repo=base&tag=1 tar:etc/passwd=app:x:12:34::/:/bin/sh\\n", http.StatusOK)
	send(t, h.URL, `POST /containers/create?name=cc {"Image":"base:1","Cmd":["x"],"User":"app"}`, http.StatusCreated)
	send(t, h.URL, "PUT /containers/cc/archive?path=/ tar:dir/old=old", http.StatusOK)

	text := send(t, h.URL, "PUT /containers/cc/archive?path=/&noOverwriteDirNonDir=true tar:dir=new", http.StatusInternalServerError)
	if !strings.Contains(string(text), "cannot overwrite directory") {
		t.Errorf("the client objects, and is told %s", text)
	}
	if _, content := tarFrom(t, h.URL, "/dir/old"); content != "old" {
		t.Errorf("and dir/old is %q", content)
	}
	send(t, h.URL, "PUT /containers/cc/archive?path=/ tar:dir=new", http.StatusOK)
	if f, content := tarFrom(t, h.URL, "/dir"); content != "new" || f.Uid != 0 || f.Gid != 0 {
		t.Errorf("dir is %q of %d:%d", content, f.Uid, f.Gid)
	}
	if os.Geteuid() != 0 {
		return // other users may not be there
	}
	send(t, h.URL, "PUT /containers/cc/archive?path=/&copyUIDGID=1 tar:mine=text", http.StatusOK)
	if f, content := tarFrom(t, h.URL, "/mine"); content != "text" || f.Uid != 12 || f.Gid != 34 {
		t.Errorf("mine is %q of %d:%d, want 12:34", content, f.Uid, f.Gid)
	}
}
