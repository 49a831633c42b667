package runtime

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxOpenFiles is the soft limit containers get if the hard one allows. What is more makes programs slow that close
// every descriptor there may be.
const maxOpenFiles = 1 << 20

// ulimits are the resources by name.
func ulimits() map[string]int {
	return map[string]int{
		"core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
		"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE,
		"nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS,
		"rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING,
		"stack": unix.RLIMIT_STACK,
	}
}

// limits sets resource limits: those asked for, lowered with a warning to what the caller may give.
func (s *setup) limits(caps capabilities) error {
	s.step = "resource limits"
	limits := map[int]unix.Rlimit{}
	order := []int{unix.RLIMIT_NOFILE}
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		return &SetupError{s.step, err}
	}
	limits[unix.RLIMIT_NOFILE] = unix.Rlimit{Cur: min(own.Max, maxOpenFiles), Max: own.Max}
	mayRaise := !s.rootless && caps.own&(1<<unix.CAP_SYS_RESOURCE) != 0
	for _, u := range s.spec.Limits.Ulimits {
		resource, ok := ulimits()[u.Name]
		if !ok {
			return &SetupError{s.step, fmt.Errorf("ulimit %s: no such limit", u.Name)}
		}
		want := unix.Rlimit{Cur: u.Soft, Max: u.Hard}
		if err := unix.Getrlimit(resource, &own); err != nil {
			return &SetupError{s.step, err}
		}
		if want.Max > own.Max && !mayRaise {
			s.warn(fmt.Sprintf("Ulimit %s is lowered to %d, the most that forge itself may have.", u.Name, own.Max))
			want.Max, want.Cur = own.Max, min(want.Cur, own.Max)
		}
		limits[resource] = want
		order = append(order, resource)
	}
	for _, resource := range order {
		if l, ok := limits[resource]; ok {
			s.call(unix.SYS_PRLIMIT64, num(0), num(resource), s.words(l.Cur, l.Max), num(0))
			delete(limits, resource)
		}
	}
	return nil
}

// An Ulimit is a limit of setrlimit(2) on each process of a container.
type Ulimit struct {
	Name       string // in docker's form: "nofile"
	Soft, Hard uint64 // in the unit of the limit; [unlimited] is no limit
}

// unlimited is the value of an [Ulimit] that does not limit.
const unlimited = unix.RLIM_INFINITY

// ParseUlimit reads docker's name=soft[:hard]; -1 and "unlimited" are no limit.
func ParseUlimit(text string) (u Ulimit, err error) {
	name, value, ok := strings.Cut(text, "=")
	if _, known := ulimits()[name]; ok && !known {
		return u, fmt.Errorf("%s: invalid ulimit type: %s", text, name)
	}
	if !ok {
		return u, fmt.Errorf("%s: must be NAME=SOFT[:HARD]", text)
	}
	u.Name = name
	soft, hard, both := strings.Cut(value, ":")
	if !both {
		hard = soft
	}
	for _, half := range []struct {
		text string
		to   *uint64
	}{{soft, &u.Soft}, {hard, &u.Hard}} {
		if half.text == "-1" || half.text == "unlimited" {
			*half.to = unlimited
		} else if *half.to, err = strconv.ParseUint(half.text, 10, 63); err != nil {
			return u, fmt.Errorf("%s: %q is not a number", text, half.text)
		}
	}
	if u.Soft > u.Hard {
		return u, fmt.Errorf("%s: the soft limit is above the hard one", text)
	}
	return u, nil
}
