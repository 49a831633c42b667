package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// memoryOf is what a process has of a kind of memory, VmRSS or VmHWM, in KiB.
func memoryOf(t *testing.T, pid int, kind string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), kind+":")
	n, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// apiMemory is how much memory a server may have that has answered much and is asked for nothing, in KiB.
const apiMemory = 40 << 10

// settles waits until a server has given back what it does not need, and has no more files open than before. A spare monitor waits for a minute.
func (c *apiClient) settles(pid, files int) {
	c.t.Helper()
	var memory, open int
	for until := time.Now().Add(2 * time.Minute); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		memory, open = memoryOf(c.t, pid, "VmRSS"), openFiles(c.t, pid)
		if memory <= apiMemory && open <= files {
			return
		}
	}
	c.t.Errorf("the server has %d KiB and %d open files, want at most %d and %d", memory, open, apiMemory, files)
}

func openFiles(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A pattern is bytes that are not the same anywhere, as many as are wanted; read tells how many were taken.
type pattern struct{ at, size int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at >= p.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b))/8*8, p.size-p.at))
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], uint64(p.at+int64(i))*0x9e3779b97f4a7c15)
	}
	p.at += int64(n)
	return n, nil
}

// TestAPIGigabyte sends much through a container, closes its half, and reads with a pause: all comes back, and neither the server nor the container's monitor keeps it.
func TestAPIGigabyte(t *testing.T) {
	_, c, server := newAPIClient(t)
	size := int64(scale(t, "FORGE_ATTACHED", 64)) << 20
	id := c.id("/containers/create", `{"Image":"base","Cmd":["cat"],"OpenStdin":true,"StdinOnce":true,"AttachStdin":true,"AttachStdout":true,"HostConfig":{"LogConfig":{"Type":"none"}}}`)
	conn, in := c.attach("/containers/"+id+"/attach?stream=1&stdin=1&stdout=1&stderr=1", "")
	c.do(http.StatusNoContent, http.MethodPost, "/containers/"+id+"/start", "")
	monitor := monitorsOf(t, id)
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(struct{ io.Writer }{conn}, &pattern{size: size})
		if err == nil {
			err = conn.CloseWrite()
		}
		sent <- err
	}()
	got, n := sha256.New(), int64(0)
	for {
		var header [8]byte
		if _, err := io.ReadFull(in, header[:]); err == io.EOF {
			break
		} else if err != nil || header[0] != 1 {
			t.Fatalf("after %d bytes: frame %v, %v", n, header, err)
		}
		more, err := io.CopyN(got, in, int64(binary.BigEndian.Uint32(header[4:])))
		if err != nil {
			t.Fatal(err)
		}
		if before := n; before < size/2 && n+more >= size/2 { // longer than who comes later is waited for
			time.Sleep(2 * time.Second)
			for _, pid := range append(monitor, server.running.Process.Pid) {
				if peak := memoryOf(t, pid, "VmHWM"); peak > 2*apiMemory {
					t.Errorf("process %d had %d KiB", pid, peak)
				}
			}
		}
		n += more
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	want := sha256.New()
	if _, err := io.Copy(want, &pattern{size: size}); err != nil {
		t.Fatal(err)
	}
	if n != size || string(got.Sum(nil)) != string(want.Sum(nil)) {
		t.Errorf("%d bytes have come back, of %d, or others", n, size)
	}
	c.do(http.StatusOK, http.MethodPost, "/containers/"+id+"/wait", "")
}

// monitorsOf are the processes that keep a container, or wait for its start.
func monitorsOf(t *testing.T, id string) (pids []int) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range list {
		line, _ := os.ReadFile(file) // it may be gone
		if words := strings.Split(string(line), "\x00"); words[0] == "forge-monitor" && len(words) > 2 && words[2] == id {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestAPIReady starts containers whose monitors wait already: with another name than they had, though the monitor was killed, and in another network
// besides.
func TestAPIReady(t *testing.T) {
	k, c, _ := newAPIClient(t)
	attached := func(name string) (id string, in io.Reader, monitor int) {
		id = c.id("/containers/create?name="+name, `{"Image":"base","Cmd":["sh","-c","echo /sys/class/net/*"],"AttachStdout":true}`)
		_, in = c.attach("/containers/"+id+"/attach?stream=1&stdout=1", "")
		for {
			if all := monitorsOf(t, id); len(all) == 1 {
				return id, in, all[0]
			}
			time.Sleep(time.Millisecond)
		}
	}
	start := func(id string, in io.Reader, interfaces string) {
		c.do(http.StatusNoContent, http.MethodPost, "/containers/"+id+"/start", "")
		if out, _ := demux(t, in); strings.ReplaceAll(out, "/sys/class/net/", "") != interfaces {
			t.Errorf("%s has printed %q", id, out)
		}
	}
	id, in, _ := attached("before")
	c.do(http.StatusNoContent, http.MethodPost, "/containers/before/rename?name=after", "")
	start(id, in, "eth0 lo\n")
	k.says(k.must("events", "--since", "1h", "--until", "0s", "--filter", "event=start", "--format", "{{.Actor.Attributes.name}}"), "after\n")

	id, in, monitor := attached("killed")
	process, err := os.FindProcess(monitor)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	for len(monitorsOf(t, id)) > 0 {
		time.Sleep(time.Millisecond)
	}
	start(id, in, "eth0 lo\n")

	id, in, _ = attached("moved")
	network := c.id("/networks/create", `{"Name":"other"}`)
	c.do(http.StatusOK, http.MethodPost, "/networks/"+network+"/connect", `{"Container":"moved"}`)
	start(id, in, "eth0 eth1 lo\n")
}

// spareMonitors are those of a store that are for no container yet.
func spareMonitors(t *testing.T, k *kit) (pids []int) {
	t.Helper()
	for _, pid := range monitorsOf(t, strings.Repeat("-", 64)) {
		if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.Contains(string(line), k.root+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// until waits for something to come true.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(clientTime); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain: " + what)
		}
	}
}

// TestAPISpare: after a start a monitor waits for the next container, of which it is the only one; one that was killed is done without; and none
// stays behind the server, whose containers do.
func TestAPISpare(t *testing.T) {
	k, c, server := newAPIClient(t)
	spare := func() (pid int) {
		until(t, "one spare monitor", func() bool {
			all := spareMonitors(t, k)
			if len(all) == 1 {
				pid = all[0]
			}
			return len(all) == 1
		})
		return pid
	}
	run := func() (id string, monitor int) {
		id = c.id("/containers/create", `{"Image":"base","Cmd":["sleep","1000"]}`)
		c.do(http.StatusNoContent, http.MethodPost, "/containers/"+id+"/start", "")
		all := monitorsOf(t, id)
		if len(all) != 1 {
			t.Fatalf("container %s has the monitors %v", id, all)
		}
		return id, all[0]
	}
	first, _ := run()
	want := spare()
	second, monitor := run()
	if monitor != want || first == second {
		t.Errorf("the spare process %d was there, and %d is the monitor", want, monitor)
	}
	process, err := os.FindProcess(spare())
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "its end", func() bool { return len(spareMonitors(t, k)) == 0 })
	run()
	spare()
	if err := server.running.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = server.running.Wait()
	until(t, "no spare monitor without the server", func() bool { return len(spareMonitors(t, k)) == 0 })
	if all := strings.Fields(k.must("ps", "-q")); len(all) != 3 {
		t.Errorf("containers %v run, want all three", all)
	}
}
