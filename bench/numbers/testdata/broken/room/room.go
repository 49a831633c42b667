// Package room breaks every rule once.
package room

import (
	"net/http"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

type many interface {
	a()
	b()
	c()
	d()
	e()
	f()
}

type wide struct{ a, b, c, d, e, f, g, h, i, j, k, l, m int }

func init() {}

func flag(on bool, v any, err error) bool {
	_, is := v.(many)
	_ = os.Rename("a", "b")
	_ = syscall.Flock(0, 0)
	_ = unix.Flock(0, 0)
	_ = http.Transport{}
	return is && on && strings.Contains(err.Error(), "text")
}

func long() {
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
	_ = wide{}
}

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.

// A line.
