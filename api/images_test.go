package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/forge-build/forge/inspect"
)

// send sends a request as a client does that knows nothing of forge, and wants a status.
func send(t *testing.T, base, line string, code int) (body []byte) {
	t.Helper()
	q := parseQuestions(line)[0]
	kind, content := q.content(t)
	r, err := http.NewRequestWithContext(t.Context(), q.method, base+"/v1.51"+q.path, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != code {
		t.Fatalf("%s: %d %s, want %d", line, res.StatusCode, &b, code)
	}
	return b.Bytes()
}

// imageOf asks for an image.
func imageOf(t *testing.T, base, name string) (i inspect.Image) {
	t.Helper()
	if err := json.Unmarshal(send(t, base, "GET /images/"+name+"/json", http.StatusOK), &i); err != nil {
		t.Fatal(err)
	}
	return i
}

// TestLastTagTime: an image says when it was given the last of its names.
func TestLastTagTime(t *testing.T) {
	h, _ := newServer(t)
	before := time.Now().Add(-time.Second) // the clock of files is coarser
	send(t, h.URL, "POST /images/create?fromSrc=-&repo=base&tag=1 tar:etc/motd=hello", http.StatusOK)
	first := imageOf(t, h.URL, "base:1").Metadata.LastTagTime
	if first.Before(before) || first.After(time.Now().Add(time.Second)) {
		t.Errorf("tagged at %s, want about %s", first, before)
	}
	send(t, h.URL, "POST /images/base:1/tag?repo=other&tag=2", http.StatusCreated)
	if second := imageOf(t, h.URL, "base:1").Metadata.LastTagTime; second.Before(first) {
		t.Errorf("tagged at %s, and before that at %s", second, first)
	}
}
