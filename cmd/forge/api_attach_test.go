package main

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestAPIAttached: a client that is told that it is attached to a container that runs misses nothing that is printed from then on.
func TestAPIAttached(t *testing.T) {
	_, c, _ := newAPIClient(t)
	id := c.id("/containers/create?name=web", `{"Image":"base","Cmd":["cat"],"OpenStdin":true}`)
	c.do(http.StatusNoContent, http.MethodPost, "/containers/web/start", "")
	typist, _ := c.attach("/containers/"+id+"/attach?stream=1&stdin=1", "")
	const times = 100
	var all [times]*bufio.Reader
	for i := range all {
		_, all[i] = c.attach("/containers/"+id+"/attach?stream=1&stdout=1", "")
		if _, err := fmt.Fprintf(typist, "<%d>\n", i); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all is printed", func() bool {
		return strings.Contains(c.do(http.StatusOK, http.MethodGet, "/containers/web/logs?stdout=1", ""), fmt.Sprintf("<%d>", times-1))
	})
	c.do(http.StatusNoContent, http.MethodPost, "/containers/web/kill", "")
	for i, in := range all {
		if out, _ := demux(t, in); !strings.Contains(out, fmt.Sprintf("<%d>", i)) {
			t.Errorf("attached %d: what was printed then is not shown", i)
		}
	}
}
