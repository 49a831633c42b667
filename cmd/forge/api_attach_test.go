package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
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

// TestAPIGoneBoarder: clients that attach to a container that is not started, and are gone, leave nothing behind. Their end is not that of the input
// of who starts it.
func TestAPIGoneBoarder(t *testing.T) {
	_, c, server := newAPIClient(t)
	id := c.id("/containers/create", `{"Image":"base","Cmd":["cat"],"OpenStdin":true,"StdinOnce":true,"AttachStdin":true}`)
	pid := server.running.Process.Pid
	path := "/containers/" + id + "/attach"
	files := openFiles(t, pid)
	for range 5 {
		conn, _ := c.attach(path+"?stream=1&stdin=1&stdout=1", "")
		if _, err := io.WriteString(conn, "of who is gone"); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		socket, _, _ := c.send(http.MethodGet, path+"/ws?stream=1&stdin=1&stdout=1", "", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
		socket.Close()
	}
	until(t, "the server has no more files open than before", func() bool { return openFiles(t, pid) <= files })
	conn, in := c.attach(path+"?stream=1&stdin=1&stdout=1", "")
	c.do(http.StatusNoContent, http.MethodPost, "/containers/"+id+"/start", "")
	if _, err := io.WriteString(conn, "typed"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if out, _ := demux(t, in); out != "typed" {
		t.Errorf("who has started it gets %q", out)
	}
}

// TestAPIGoneUnread: of clients whose input a container or a process in one does not read, nothing is left when they are gone, in the server or in
// the monitor.
func TestAPIGoneUnread(t *testing.T) {
	k, c, server := newAPIClient(t)
	id := c.id("/containers/create?name=web", `{"Image":"base","Cmd":["sleep","1000"],"OpenStdin":true}`)
	c.do(http.StatusNoContent, http.MethodPost, "/containers/web/start", "")
	exec := c.id("/containers/web/exec", `{"Cmd":["sleep","1000"],"AttachStdin":true}`)
	monitor := monitorsOf(t, id)[0]
	until(t, "a spare monitor waits", func() bool { return len(spareMonitors(t, k)) > 0 })
	pids := map[int]int{server.running.Process.Pid: 0, monitor: 0}
	for pid := range pids {
		pids[pid] = openFiles(t, pid)
	}
	for path, body := range map[string]string{"/containers/web/attach?stream=1&stdin=1&stdout=1": "", "/exec/" + exec + "/start": `{"Tty":false}`} {
		conn, _ := c.attach(path, body)
		if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil { // by then there is no more room
			t.Fatal(err)
		}
		if n, err := conn.Write(make([]byte, 10<<20)); err == nil {
			t.Errorf("all %d bytes have gone, and nobody reads them", n)
		}
		conn.Close()
	}
	for pid, files := range pids {
		until(t, "who is gone is forgotten", func() bool { return openFiles(t, pid) <= files })
	}
	if v := c.do(http.StatusOK, http.MethodGet, "/exec/"+exec+"/json", ""); !strings.Contains(v, `"Running":true`) {
		t.Errorf("the process has ended: %s", v)
	}
}

// TestAPIStartedTwice: who is attached before the start misses nothing, however many start the container at once.
func TestAPIStartedTwice(t *testing.T) {
	_, c, _ := newAPIClient(t)
	for range 15 {
		id := c.id("/containers/create", `{"Image":"base","Cmd":["echo","printed"]}`)
		_, in := c.attach("/containers/"+id+"/attach?stream=1&stdout=1", "")
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				conn := c.dial()
				defer conn.Close()
				_, _ = fmt.Fprintf(conn, "POST /containers/%s/start HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n", id)
				_, _ = io.ReadAll(conn)
			})
		}
		if out, _ := demux(t, in); out == "" {
			t.Error("who is attached gets nothing")
		}
		all.Wait()
	}
}
