package monitor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/forge-build/forge/container/state"
)

// A Policy says when a container is restarted.
type Policy struct {
	Name string // no, always, unless-stopped or on-failure; "" is no
	Max  int    // restarts of on-failure, 0 is no bound
}

// Docker's delays: the first restart comes after 100 ms, each further one after twice the time, at most a minute. A run of
// ten seconds begins the count anew.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = time.Minute
	longRun    = 10 * time.Second
)

// ParsePolicy reads the value of --restart, with docker's texts for what is wrong.
func ParsePolicy(text string) (Policy, error) {
	name, limit, counted := strings.Cut(text, ":")
	p := Policy{Name: name}
	switch {
	case name == "" && counted:
		return p, fmt.Errorf("invalid restart policy format: no policy provided before colon")
	case name == "" || name == "no" || name == "always" || name == "unless-stopped":
		if counted {
			return p, fmt.Errorf("invalid restart policy: maximum retry count can only be used with 'on-failure'")
		}
	case name == "on-failure":
		if !counted {
			break
		}
		n, err := strconv.Atoi(limit)
		switch {
		case err != nil:
			return p, fmt.Errorf("invalid restart policy format: maximum retry count must be an integer")
		case n < 0:
			return p, fmt.Errorf("invalid restart policy: maximum retry count cannot be negative")
		}
		p.Max = n
	default:
		return p, fmt.Errorf("invalid restart policy: unknown policy '%s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'", name)
	}
	return p, nil
}

// again reports whether a container that nobody stopped is restarted after it ended.
func (p Policy) again(code, restarts int) bool {
	switch p.Name {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return code != 0 && (p.Max == 0 || restarts < p.Max)
	}
	return false
}

// AtBoot reports whether a container is started after the machine was, given how its last run went, which docker's engine does
// when it starts.
func (p Policy) AtBoot(r *state.Run) bool {
	switch p.Name {
	case "always":
		return true
	case "unless-stopped":
		return !r.Stopped
	case "on-failure":
		return !r.Stopped && p.again(r.ExitCode, r.Restarts)
	}
	return false
}
