package monitor

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The real-time signals of the kernel's and libc's agreement: the first two are libc's own.
const (
	rtMin = 34
	rtMax = 64
)

// ParseSignal reads a signal: its number, or its name with or without SIG in letters of any case; RTMIN+n and RTMAX-n are names.
func ParseSignal(text string) (syscall.Signal, error) {
	invalid := fmt.Errorf("invalid signal: %s", text)
	if n, err := strconv.Atoi(text); err == nil {
		if n < 1 || n > rtMax {
			return 0, invalid
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	for base, sign := range map[string]int{"RTMIN": 1, "RTMAX": -1} {
		rest, ok := strings.CutPrefix(name, base)
		if !ok {
			continue
		}
		from := map[int]int{1: rtMin, -1: rtMax}[sign]
		if rest == "" {
			return syscall.Signal(from), nil
		}
		n, err := strconv.Atoi(rest)
		if sig := from + n; err == nil && n*sign >= 0 && sig >= rtMin && sig <= rtMax {
			return syscall.Signal(sig), nil
		}
		return 0, invalid
	}
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	return 0, invalid
}
