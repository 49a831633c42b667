package api

import (
	"archive/tar"
	"bytes"
	"errors"
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

// TestPutArchiveStalled: while a tar comes that does not end, its container can be removed, and started.
func TestPutArchiveStalled(t *testing.T) {
	h, _ := newServer(t)
	send(t, h.URL, "POST /images/create?fromSrc=-&repo=base&tag=1 tar:etc/motd=hello", http.StatusOK)
	send(t, h.URL, `POST /containers/create?name=cc {"Image":"base:1","Cmd":["x"]}`, http.StatusCreated)
	body, content := io.Pipe()
	w := tar.NewWriter(content)
	const size = 32 << 20 // more than fits between client and server, so that it is being read
	answered := make(chan int, 1)
	go func() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, h.URL+"/v1.51/containers/cc/archive?path=/", body)
		if err != nil {
			t.Error(err)
			return
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			return
		}
		res.Body.Close()
		answered <- res.StatusCode
	}()
	if err := w.WriteHeader(&tar.Header{Name: "large", Size: size, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	send(t, h.URL, "DELETE /containers/cc?force=1", http.StatusNoContent)
	if err := errors.Join(w.Close(), content.Close()); err != nil {
		t.Fatal(err)
	}
	if code := <-answered; code != http.StatusNotFound {
		t.Errorf("the tar is answered with %d, and its container is gone", code)
	}
}

// TestGetArchiveStalled: while nobody reads what was asked of a container, it can be removed, and started; what was begun is sent whole.
func TestGetArchiveStalled(t *testing.T) {
	h, _ := newServer(t)
	const size = 32 << 20 // more than fits between server and client
	send(t, h.URL, "POST /images/create?fromSrc=-&repo=base&tag=1 tar:large="+strings.Repeat("x", size), http.StatusOK)
	send(t, h.URL, `POST /containers/create?name=cc {"Image":"base:1","Cmd":["x"]}`, http.StatusCreated)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.URL+"/v1.51/containers/cc/archive?path=/large", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	send(t, h.URL, "DELETE /containers/cc?force=1", http.StatusNoContent)
	content := tar.NewReader(res.Body)
	if _, err := content.Next(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, content); n != size || err != nil {
		t.Errorf("of %d bytes came %d, %v", size, n, err)
	}
}
