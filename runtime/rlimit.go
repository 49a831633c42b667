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

// limits sets resource limits: those asked for, lowered to what the caller may give, with a word about it.
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
	for _, text := range s.spec.Limits.Ulimits {
		resource, want, err := parseUlimit(text)
		if err != nil {
			return &SetupError{s.step, err}
		}
		if err := unix.Getrlimit(resource, &own); err != nil {
			return &SetupError{s.step, err}
		}
		if want.Max > own.Max && !mayRaise {
			s.warnings = append(s.warnings, fmt.Sprintf("ulimit %s: lowered to %d, the caller's own", text, own.Max))
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

// parseUlimit reads name=soft[:hard], -1 or unlimited being no limit.
func parseUlimit(text string) (resource int, l unix.Rlimit, err error) {
	name, value, ok := strings.Cut(text, "=")
	resource, known := ulimits()[name]
	if !ok || !known {
		return 0, l, fmt.Errorf("ulimit %q: want a name of setrlimit(2) and soft[:hard]", text)
	}
	soft, hard, both := strings.Cut(value, ":")
	if !both {
		hard = soft
	}
	for _, half := range []struct {
		text string
		to   *uint64
	}{{soft, &l.Cur}, {hard, &l.Max}} {
		if half.text == "-1" || half.text == "unlimited" {
			*half.to = unix.RLIM_INFINITY
		} else if *half.to, err = strconv.ParseUint(half.text, 10, 63); err != nil {
			return 0, l, fmt.Errorf("ulimit %q: %w", text, err)
		}
	}
	if l.Cur > l.Max {
		return 0, l, fmt.Errorf("ulimit %q: the soft limit is above the hard one", text)
	}
	return resource, l, nil
}
