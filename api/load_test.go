package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/forge-build/forge"
)

// TestMain lets this program keep containers, as forge does, and leave a socket behind.
func TestMain(m *testing.M) {
	if path := os.Getenv(abandonedSocket); path != "" {
		abandon(path)
		return
	}
	if forge.IsMonitor() {
		os.Exit(forge.Monitor())
	}
	os.Exit(m.Run())
}

// streams are requests whose answers have no end.
const streams = `
GET /events
GET /containers/many/logs?follow=1&stdout=1
GET /containers/many/stats
POST /containers/many/wait?condition=next-exit
POST /containers/many/attach?stream=1&stdout=1
`

// TestManyStreams: answers that have no end do not keep others from theirs, and nothing of them is left when the clients are gone.
func TestManyStreams(t *testing.T) {
	h, s := newServer(t)
	send(t, h.URL, "POST /images/create?fromSrc=-&repo=base&tag=1 tar:etc/motd=hello", http.StatusOK)
	send(t, h.URL, `POST /containers/create?name=many {"Image":"base:1","Cmd":["x"]}`, http.StatusCreated)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := ListenUnix(t.Context(), socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	life, stop := context.WithCancel(t.Context())
	go func() { served <- s.Serve(life, 0, l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	before := runtime.NumGoroutine()
	const each = 100
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	answered := make(chan error, each)
	questions := parseQuestions(streams)
	for _, q := range questions {
		for range each {
			all.Go(func() {
				r, err := http.NewRequestWithContext(ctx, q.method, "http://docker"+q.path, nil)
				if err != nil {
					answered <- err
					return
				}
				res, err := transport.RoundTrip(r)
				answered <- err
				if err == nil {
					<-ctx.Done()
					_ = res.Body.Close()
				}
			})
		}
	}
	for range each * len(questions) {
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
	}
	if res, _ := ask(t, http.MethodGet, h.URL+"/containers/json"); res.StatusCode != http.StatusOK {
		t.Errorf("a list is answered with %d", res.StatusCode)
	}
	leave()
	all.Wait()
	transport.CloseIdleConnections()
	http.DefaultClient.CloseIdleConnections()
	for until := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("goroutines are left: %d, and %d were before\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
	s.boarding.mu.Lock()
	if len(s.boarding.waiting) > 0 {
		t.Errorf("%d containers are waited for", len(s.boarding.waiting))
	}
	s.boarding.mu.Unlock()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestReady: a monitor that waits for a container is for one start, is not left waiting for ever, and they are not many.
func TestReady(t *testing.T) {
	h, s := newServer(t)
	send(t, h.URL, "POST /images/create?fromSrc=-&repo=base&tag=1 tar:etc/motd=hello", http.StatusOK)
	home, err := forge.Open(t.Context(), forge.Options{Dir: s.options.Store.Dir, Started: s.children.add})
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	go s.children.reap(t.Context())
	var ids []string
	for range maxReady + 1 {
		id, err := home.CreateContainer(t.Context(), forge.ContainerOptions{RunOptions: forge.RunOptions{Image: "base:1", ProcessOptions: forge.ProcessOptions{Args: []string{"x"}}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		s.ready.prepare(home, id)
		s.ready.prepare(home, id)
	}
	if s.ready.take(ids[maxReady]) != nil {
		t.Error("there is no end to monitors that wait")
	}
	m := s.ready.take(ids[0])
	if m == nil || s.ready.take(ids[0]) != nil {
		t.Fatal("not just one monitor waits for the first")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		s.children.mu.Lock()
		left := len(s.children.pids)
		s.children.mu.Unlock()
		if left == 0 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("%d monitors wait for containers that nobody starts", left)
		}
	}
	if slices.ContainsFunc(ids, func(id string) bool { return s.ready.take(id) != nil }) {
		t.Error("a monitor that has ended waits")
	}
}

// TestSpare: a spare monitor is for one container, one at a time waits, and not for ever.
func TestSpare(t *testing.T) {
	_, s := newServer(t)
	started := make(chan int, 10)
	home, err := forge.Open(t.Context(), forge.Options{Dir: s.options.Store.Dir, Started: func(pid int) { started <- pid }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		home.Close()
		for len(started) > 0 { // they have the store open until they end
			if _, err := syscall.Wait4(<-started, nil, 0, nil); err != nil {
				t.Error(err)
			}
		}
	}()
	r := &s.ready
	there := func() (m *forge.ReadyMonitor) {
		for until := time.Now().Add(time.Minute); m == nil && time.Now().Before(until); time.Sleep(time.Millisecond) {
			r.mu.Lock()
			m = r.spare
			r.mu.Unlock()
		}
		return m
	}
	r.keepSpare(home, &forge.ContainerInfo{})
	r.keepSpare(home, &forge.ContainerInfo{})
	one := there()
	r.keepSpare(home, &forge.ContainerInfo{})
	id := strings.Repeat("0", 64)
	if m := r.takeForStart(id); m == nil || m != one || m.Close() != nil {
		t.Errorf("monitor %v was taken, and %v waited", m, one)
	}
	if r.takeForStart(id) != nil {
		t.Error("a second one is there")
	}
	r.keepSpare(home, &forge.ContainerInfo{})
	other := there()
	r.drop(one)
	if r.spare != other {
		t.Error("the end of the first one's time ends the second")
	}
	r.drop(other)
	if r.takeForStart(id) != nil {
		t.Error("it waits for ever")
	}
}

// TestSpareStore: a spare monitor makes no store where there is none any more.
func TestSpareStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	pid := 0
	home, err := forge.Open(t.Context(), forge.Options{Dir: dir, Started: func(n int) { pid = n }})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(home.Close(), os.RemoveAll(dir)); err != nil {
		t.Fatal(err)
	}
	m, err := home.SpareMonitor(forge.ContainerInfo{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the store is there again: %v", err)
	}
}
