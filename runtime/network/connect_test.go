package network

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestConnectAgain: a container is connected again after a connect that failed, and after it has removed or renamed its interface itself,
// by which it stays in no network that it was taken off.
func TestConnectAgain(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	create(t, s, Config{Name: "six", IPv6: true})
	b := run(t, s, byDefault)
	within := func(f func(c *conn) error) {
		t.Helper()
		if err := inNamespace(b.Namespace, f); err != nil {
			t.Fatal(err)
		}
	}
	disable := func(value string) func(c *conn) error {
		return func(*conn) error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte(value), 0)
		}
	}
	within(disable("1"))
	if _, err := b.Connect(t.Context(), Attachment{Network: "six"}); !errors.Is(err, unix.EACCES) {
		t.Fatalf("connected without IPv6: %v", err)
	}
	within(disable("0"))
	for what, meddle := range map[string]func(c *conn, index int) error{
		"nothing": func(*conn, int) error { return nil },
		"removed": func(c *conn, _ int) error { return c.do(deleteLink("eth1")) },
		"renamed": func(c *conn, index int) error {
			return c.do(newRequest("rename", unix.RTM_NEWLINK, ack, linkHeader(index, 0, 0)...).str(unix.IFLA_IFNAME, "other"))
		},
	} {
		if e, err := b.Connect(t.Context(), Attachment{Network: "six"}); err != nil || e.Interface != "eth1" {
			t.Fatalf("connect: %v, %v", e, err)
		}
		within(func(c *conn) error {
			index, err := interfaceIndex("eth1")
			return errors.Join(err, c.do(newRequest("down", unix.RTM_NEWLINK, ack, linkHeader(index, 0, unix.IFF_UP)...)), meddle(c, index))
		})
		if err := b.Disconnect(t.Context(), "six"); err != nil {
			t.Errorf("disconnect, %s: %v", what, err)
		}
		if got := interfaces(t, b.Namespace); len(got) != 1 {
			t.Errorf("interfaces, %s: %v", what, got)
		}
	}
}

// TestInterfaceAskedFor: an interface that may have any name leaves alone the one that another is to have, whichever network was connected
// first: else a container that was connected one by one could not be started again.
func TestInterfaceAskedFor(t *testing.T) {
	if !inside(t) {
		return
	}
	s := here(t)
	var networks []Attachment
	for i, name := range []string{"", "eth0", "", "eth3", ""} {
		n := create(t, s, Config{Name: fmt.Sprint("n", i)})
		networks = append(networks, Attachment{Network: n.Name, Interface: name})
	}
	var names []string
	for _, e := range run(t, s, Options{Networks: networks}).Endpoints() {
		names = append(names, e.Interface)
	}
	if got := strings.Join(names, " "); got != "eth1 eth0 eth2 eth3 eth4" {
		t.Errorf("interfaces %s", got)
	}
}
