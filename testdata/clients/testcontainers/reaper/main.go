// Command reaper does what testcontainers/ryuk does, which is an image that cannot be had everywhere: it is told labels by programs that
// connect to it, and when none has been connected for a while it removes what has them, through the socket of the engine that is mounted
// into its own container.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	socket = "/var/run/docker.sock"
	pause  = 2 * time.Second // without a connection
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "reaper:", err)
		os.Exit(1)
	}
}

func run() error {
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	fmt.Println("Started!")
	var (
		mu     sync.Mutex
		labels = map[string]bool{}
		open   int
		quiet  = time.NewTimer(time.Minute)
	)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open++
			quiet.Stop()
			mu.Unlock()
			go func() {
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					values, err := url.ParseQuery(lines.Text())
					if err != nil {
						continue
					}
					mu.Lock()
					for _, l := range values["label"] {
						labels[l] = true
					}
					mu.Unlock()
					_, _ = fmt.Fprintln(conn, "ACK")
				}
				mu.Lock()
				if open--; open == 0 {
					quiet.Reset(pause)
				}
				mu.Unlock()
			}()
		}
	}()
	<-quiet.C
	return reap(labels)
}

// reap removes what has all the labels.
func reap(labels map[string]bool) error {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	filters, err := json.Marshal(map[string]any{"label": labels})
	if err != nil {
		return err
	}
	query := "?all=1&filters=" + url.QueryEscape(string(filters))
	for _, kind := range []struct{ list, remove string }{
		{"containers/json", "containers/%s?force=1&v=1"}, {"networks", "networks/%s"}, {"volumes", "volumes/%s?force=1"}, {"images/json", "images/%s?force=1"},
	} {
		res, err := client.Get("http://docker/" + kind.list + query)
		if err != nil {
			return err
		}
		var items []struct{ ID, Name string }
		var volumes struct{ Volumes []struct{ ID, Name string } }
		if kind.list == "volumes" {
			err = json.NewDecoder(res.Body).Decode(&volumes)
			items = volumes.Volumes
		} else {
			err = json.NewDecoder(res.Body).Decode(&items)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", kind.list, err)
		}
		for _, i := range items {
			id := i.ID
			if id == "" {
				id = strings.TrimPrefix(i.Name, "/")
			}
			r, err := http.NewRequest(http.MethodDelete, "http://docker/"+fmt.Sprintf(kind.remove, id), nil)
			if err != nil {
				return err
			}
			answer, err := client.Do(r)
			if err != nil {
				return err
			}
			fmt.Println("removed", kind.list, id, answer.Status)
		}
	}
	return nil
}
