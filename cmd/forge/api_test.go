package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// An apiClient speaks HTTP to the API of a kit, as a client does that is none of docker's.
type apiClient struct {
	t      *testing.T
	socket string
}

// newAPIClient serves a kit's store.
func newAPIClient(t *testing.T) (*kit, *apiClient, *apiServer) {
	t.Helper()
	needs(t, "root", "busybox")
	k := newKit(t)
	k.base()
	server := k.serveAPI()
	t.Cleanup(k.removeContainers)
	return k, &apiClient{t, filepath.Join(k.dir, "docker.sock")}, server
}

// dial connects, for some time.
func (c *apiClient) dial() *net.UnixConn {
	c.t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: c.socket})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(clientTime)); err != nil {
		c.t.Fatal(err)
	}
	return conn
}

// send sends a request on a connection of its own, and returns that and the answer, whose body is not read yet.
func (c *apiClient) send(method, path, body string, headers ...string) (*net.UnixConn, *bufio.Reader, *http.Response) {
	c.t.Helper()
	conn := c.dial()
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: docker\r\nContent-Length: %d\r\n", method, path, len(body))
	if body != "" {
		text += "Content-Type: application/json\r\n"
	}
	for _, h := range headers {
		text += h + "\r\n"
	}
	if _, err := io.WriteString(conn, text+"\r\n"+body); err != nil {
		c.t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	r, err := http.NewRequest(method, "http://docker"+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	res, err := http.ReadResponse(in, r)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return conn, in, res
}

// do sends a request, which has to be answered with a status, and returns the body.
func (c *apiClient) do(status int, method, path, body string) string {
	c.t.Helper()
	conn, _, res := c.send(method, path, body)
	defer conn.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	if res.StatusCode != status {
		c.t.Fatalf("%s %s: %d %s, want %d", method, path, res.StatusCode, raw, status)
	}
	return string(raw)
}

// id makes something and returns its ID.
func (c *apiClient) id(path, body string) string {
	c.t.Helper()
	var made struct{ Id string } //nolint:staticcheck // docker's name
	if err := json.Unmarshal([]byte(c.do(http.StatusCreated, http.MethodPost, path, body)), &made); err != nil {
		c.t.Fatal(err)
	}
	return made.Id
}

// attach takes over a connection.
func (c *apiClient) attach(path, body string) (*net.UnixConn, *bufio.Reader) {
	c.t.Helper()
	conn, in, res := c.send(http.MethodPost, path, body, "Connection: Upgrade", "Upgrade: tcp")
	if kind := res.Header.Get("Content-Type"); res.StatusCode != http.StatusSwitchingProtocols || kind != "application/vnd.docker.multiplexed-stream" {
		c.t.Fatalf("%s: %d %s", path, res.StatusCode, kind)
	}
	return conn, in
}

// demux reads frames to the end.
func demux(t *testing.T, in io.Reader) (out, errs string) {
	t.Helper()
	var b [3]bytes.Buffer
	var header [8]byte
	for {
		_, err := io.ReadFull(in, header[:])
		if err == io.EOF {
			return b[1].String(), b[2].String()
		}
		if err != nil || header[0] > 2 || header[1]|header[2]|header[3] != 0 {
			t.Fatalf("frame %v: %v", header, err)
		}
		if _, err := io.CopyN(&b[header[0]], in, int64(binary.BigEndian.Uint32(header[4:]))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAPIStreams does what docker run and exec do: who attaches before the start misses nothing, and the end of the input is passed on while
// output still comes.
func TestAPIStreams(t *testing.T) {
	_, c, _ := newAPIClient(t)
	id := c.id("/containers/create", `{"Image":"base","Cmd":["sh","-c","cat; echo errors >&2; exit 3"],"OpenStdin":true,"StdinOnce":true,"AttachStdin":true}`)
	first, in := c.attach("/containers/"+id+"/attach?stream=1&stdin=1&stdout=1&stderr=1", "")
	_, second := c.attach("/containers/"+id+"/attach?stream=1&stdout=1&stderr=1", "")
	wait, _, head := c.send(http.MethodPost, "/containers/"+id+"/wait?condition=next-exit", "")
	defer wait.Close()
	if head.StatusCode != http.StatusOK {
		t.Fatalf("wait: %d", head.StatusCode)
	}
	c.do(http.StatusNoContent, http.MethodPost, "/containers/"+id+"/start", "")
	typed := strings.Repeat("typed\n", 100_000)
	go func() {
		_, _ = io.WriteString(first, typed)
		_ = first.CloseWrite()
	}()
	for _, r := range []io.Reader{in, second} {
		if out, errs := demux(t, r); out != typed || errs != "errors\n" {
			t.Errorf("attached: %d bytes and %q, want %d bytes", len(out), errs, len(typed))
		}
	}
	if body, err := io.ReadAll(head.Body); err != nil || !strings.Contains(string(body), `"StatusCode":3`) {
		t.Errorf("wait: %s, %v", body, err)
	}
	conn, _, res := c.send(http.MethodGet, "/containers/"+id+"/logs?stderr=1&tail=all", "")
	defer conn.Close()
	if out, errs := demux(t, res.Body); out != "" || errs != "errors\n" {
		t.Errorf("logs: %q and %q", out, errs)
	}
	conn, _, res = c.send(http.MethodPost, "/v1.40/containers/"+id+"/attach?logs=1&stderr=1", "")
	defer conn.Close()
	if kind := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || kind != "application/vnd.docker.raw-stream" {
		t.Errorf("without an upgrade: %d %s", res.StatusCode, kind)
	}
}

// TestAPIExec has a process created by one server and started by another. Its exit status is there as soon as its output is over.
func TestAPIExec(t *testing.T) {
	k, c, server := newAPIClient(t)
	id := c.id("/containers/create?name=web", `{"Image":"base","Cmd":["sleep","1000"]}`)
	c.do(http.StatusNoContent, http.MethodPost, "/containers/web/start", "")
	c.do(http.StatusNotModified, http.MethodPost, "/containers/web/start", "")
	exec := c.id("/containers/"+id+"/exec", `{"Cmd":["sh","-c","cat; exit 5"],"AttachStdin":true,"AttachStdout":true}`)
	server.again()
	conn, in := c.attach("/exec/"+exec+"/start", `{"Detach":false,"Tty":false}`)
	if _, err := io.WriteString(conn, "typed"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if out, _ := demux(t, in); out != "typed" {
		t.Errorf("printed %q", out)
	}
	if v := c.do(http.StatusOK, http.MethodGet, "/exec/"+exec+"/json", ""); !strings.Contains(v, `"Running":false,"ExitCode":5`) {
		t.Errorf("exec: %s", v)
	}
	c.do(http.StatusConflict, http.MethodPost, "/exec/"+exec+"/start", `{}`)
	absent := c.id("/containers/web/exec", `{"Cmd":["absent"],"AttachStdout":true}`)
	_, in = c.attach("/exec/"+absent+"/start", `{}`)
	if out, _ := demux(t, in); !strings.Contains(out, "executable file not found in $PATH") {
		t.Errorf("printed %q", out)
	}
	if v := c.do(http.StatusOK, http.MethodGet, "/exec/"+absent+"/json", ""); !strings.Contains(v, `"ExitCode":127`) {
		t.Errorf("exec: %s", v)
	}
	sized := c.id("/containers/web/exec", `{"Cmd":["sh","-c","stty size <&1"],"Tty":true,"AttachStdout":true,"ConsoleSize":[11,22]}`)
	_, in, _ = c.send(http.MethodPost, "/exec/"+sized+"/start", `{"Tty":true}`, "Connection: Upgrade", "Upgrade: tcp")
	if out, err := io.ReadAll(in); string(out) != "11 22\r\n" || err != nil {
		t.Errorf("the terminal has the size %q, %v", out, err)
	}
	k.says(c.do(http.StatusBadRequest, http.MethodPost, "/containers/web/exec", `{"Cmd":["x"],"DetachKeys":"odd"}`), "Invalid detach keys (odd) provided")
	k.says(c.do(http.StatusBadRequest, http.MethodPost, "/containers/web/attach?stream=1&stdin=1&detachKeys=odd", ""), "Invalid detach keys (odd) provided")
	// It goes on when the server is killed, and its client with it.
	long := c.id("/containers/web/exec", `{"Cmd":["sh","-c","echo begun; sleep 1000"],"AttachStdout":true}`)
	_, in = c.attach("/exec/"+long+"/start", `{}`)
	if _, err := in.Peek(len("begun")); err != nil {
		t.Fatal(err)
	}
	server.again()
	until(t, "the process is known to run", func() bool { // it prints before that is written down
		return strings.Contains(c.do(http.StatusOK, http.MethodGet, "/exec/"+long+"/json", ""), `"Running":true`)
	})
	k.says(c.do(http.StatusOK, http.MethodGet, "/containers/web/json", ""), long)
	c.do(http.StatusNoContent, http.MethodDelete, "/containers/web?force=1", "")
	c.do(http.StatusNotFound, http.MethodGet, "/exec/"+long+"/json", "")
}

// TestAPIRemoved waits for the removal of a container, by one that is removed when it ends and by one whose command cannot be executed. One that is paused and cannot be
// started stays.
func TestAPIRemoved(t *testing.T) {
	k, c, _ := newAPIClient(t)
	for command, status := range map[string]int{`["sh","-c","exit 7"]`: http.StatusNoContent, `["absent"]`: http.StatusBadRequest} {
		id := c.id("/containers/create?name=gone", `{"Image":"base","Cmd":`+command+`,"HostConfig":{"AutoRemove":true}}`)
		wait, _, head := c.send(http.MethodPost, "/containers/"+id+"/wait?condition=removed", "")
		c.do(status, http.MethodPost, "/containers/"+id+"/start", "")
		body, err := io.ReadAll(head.Body)
		if err != nil || status == http.StatusNoContent && !strings.Contains(string(body), `"StatusCode":7`) {
			t.Errorf("wait: %s, %v", body, err)
		}
		wait.Close()
		c.do(http.StatusNotFound, http.MethodGet, "/containers/"+id+"/json", "")
	}
	id := c.id("/containers/create?name=paused", `{"Image":"base","Cmd":["sleep","1000"],"HostConfig":{"AutoRemove":true}}`)
	c.do(http.StatusNoContent, http.MethodPost, "/containers/"+id+"/start", "")
	c.do(http.StatusNoContent, http.MethodPost, "/containers/"+id+"/pause", "")
	c.do(http.StatusConflict, http.MethodPost, "/containers/"+id+"/start", "")
	k.says(c.do(http.StatusOK, http.MethodGet, "/containers/"+id+"/json", ""), `"Status":"paused"`)
}

// TestAPISlow has somebody attached who reads nothing: neither the container nor others wait for him longer than for a moment.
func TestAPISlow(t *testing.T) {
	_, c, _ := newAPIClient(t)
	id := c.id("/containers/create", `{"Image":"base","Cmd":["sh","-c","read x; dd if=/dev/zero bs=65536 count=400 2>/dev/null"],"OpenStdin":true}`)
	c.do(http.StatusNoContent, http.MethodPost, "/containers/"+id+"/start", "")
	path := "/containers/" + id + "/attach?stream=1&stdout=1"
	c.attach(path, "") // and never read
	conn, in := c.attach(path+"&stdin=1", "")
	if _, err := io.WriteString(conn, "go\n"); err != nil {
		t.Fatal(err)
	}
	if out, _ := demux(t, in); len(out) != 400*65536 {
		t.Errorf("who reads has got %d bytes", len(out))
	}
	c.do(http.StatusOK, http.MethodPost, "/containers/"+id+"/wait", "")
}

// TestAPICrowd has many requests that are not answered yet while others are. When they are over, the server is as before.
func TestAPICrowd(t *testing.T) {
	k, c, server := newAPIClient(t)
	n := scale(t, "FORGE_CROWD", 100)
	id := c.id("/containers/create?name=web", `{"Image":"base","Cmd":["sh","-c","echo begun; sleep 1000"]}`)
	c.do(http.StatusNoContent, http.MethodPost, "/containers/"+id+"/start", "")
	for !strings.Contains(c.do(http.StatusOK, http.MethodGet, "/containers/web/logs?stdout=1", ""), "begun") {
		time.Sleep(10 * time.Millisecond)
	}
	pid := server.running.Process.Pid
	files := openFiles(t, pid)
	var all sync.WaitGroup
	for range n / 5 {
		logs, _, log := c.send(http.MethodGet, "/containers/web/logs?stdout=1&follow=1", "")
		all.Go(func() {
			defer logs.Close()
			if out, _ := demux(t, log.Body); out != "begun\n" {
				t.Errorf("a log is %q", out)
			}
		})
		conn, in := c.attach("/containers/web/attach?stream=1&stdout=1", "")
		all.Go(func() {
			defer conn.Close()
			if out, _ := demux(t, in); out != "" {
				t.Errorf("who is attached has got %q", out)
			}
		})
		wait, _, end := c.send(http.MethodPost, "/containers/web/wait", "")
		all.Go(func() {
			defer wait.Close()
			if body, err := io.ReadAll(end.Body); !strings.Contains(string(body), `"StatusCode":137`) {
				t.Errorf("wait: %s, %v", body, err)
			}
		})
		events, _, news := c.send(http.MethodGet, "/events?filters=%7B%22event%22%3A%5B%22die%22%5D%7D", "")
		all.Go(func() {
			defer events.Close()
			if line, err := bufio.NewReader(news.Body).ReadString('\n'); !strings.Contains(line, `"status":"die"`) {
				t.Errorf("events: %s, %v", line, err)
			}
		})
		stats, _, readings := c.send(http.MethodGet, "/containers/web/stats", "")
		all.Go(func() {
			defer stats.Close()
			if line, err := bufio.NewReader(readings.Body).ReadString('\n'); !strings.Contains(line, `"name":"/web"`) {
				t.Errorf("stats: %s, %v", line, err)
			}
		})
	}
	k.says(c.do(http.StatusOK, http.MethodGet, "/containers/json", ""), `"Names":["/web"]`)
	c.do(http.StatusNoContent, http.MethodPost, "/containers/web/kill", "")
	all.Wait()
	c.settles(pid, files)
}

// TestAPIIdle ends a server that nobody asks for anything.
func TestAPIIdle(t *testing.T) {
	needs(t, "root", "busybox")
	k := newKit(t)
	out := k.must("api", "--socket", filepath.Join(k.dir, "s"), "--idle", "50ms")
	if want := "export DOCKER_HOST=unix://" + filepath.Join(k.dir, "s") + "\n"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
}
