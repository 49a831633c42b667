package container

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path"
	goruntime "runtime"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/forge-build/forge/runtime"
)

// maxSize is the largest size in bytes that is not a mistake: 8 EiB is more than the kernel takes.
const maxSize = 1 << 60

// ParseSize reads a size in bytes as docker does: a number with an optional unit, such as 64m, 1.5g or 4096; the units are
// powers of 1024.
func ParseSize(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 || n > maxSize || tooLarge(s) {
		return 0, fmt.Errorf("%q: must be a size such as 64m", s)
	}
	return n, nil
}

// tooLarge reports whether a size overflows the number that go-units makes of it.
func tooLarge(s string) bool {
	digits := strings.TrimRight(s, " bBiIkKmMgGtTpP")
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return true
	}
	unit := strings.ToLower(strings.TrimSpace(s[len(digits):]))
	shift := map[byte]int{'k': 10, 'm': 20, 'g': 30, 't': 40, 'p': 50}
	if unit != "" {
		f = math.Ldexp(f, shift[unit[0]])
	}
	return f > maxSize
}

// LimitFlags are the flags that limit a container, as they are written; "" is not given.
type LimitFlags struct {
	CPUs       string `name:"cpus" help:"Processors." placeholder:"N"`
	CPUPeriod  int64  `name:"cpu-period" help:"Over how long --cpu-quota is counted, in microseconds." placeholder:"N"`
	CPUQuota   int64  `name:"cpu-quota" help:"Time of processors in a period, in microseconds." placeholder:"N"`
	CPUShares  int64  `name:"cpu-shares" short:"c" help:"Share of the processors, against others." placeholder:"N"`
	CpusetCPUs string `name:"cpuset-cpus" help:"Which processors: 0-3 or 0,2." placeholder:"LIST"`
	CpusetMems string `name:"cpuset-mems" help:"Which nodes of memory: 0-1 or 0,1." placeholder:"LIST"`

	Memory            string   `short:"m" help:"Memory, in bytes or with a unit: 512m, 2g." placeholder:"BYTES"`
	MemorySwap        string   `help:"Memory and swap together; -1 is no limit." placeholder:"BYTES"`
	MemoryReservation string   `help:"Memory that is left where it is short." placeholder:"BYTES"`
	ShmSize           string   `help:"Size of /dev/shm, in bytes or with a unit; 64m if not given." placeholder:"BYTES"`
	Pids              int64    `name:"pids-limit" help:"How many processes and threads; -1 is no limit." placeholder:"N"`
	Ulimits           []string `name:"ulimit" sep:"none" help:"Limit of the process." placeholder:"NAME=SOFT[:HARD]"`
	OOMKillDisable    bool     `name:"oom-kill-disable" help:"Do not kill where memory is short."`
	OOMScoreAdj       int      `name:"oom-score-adj" help:"How willing the kernel is to kill it, -1000 to 1000." placeholder:"N"`
}

// UpdateLimits are the limits of a container that has f when those of update that are given take their place.
func UpdateLimits(f, update LimitFlags) LimitFlags {
	return LimitFlags{
		Memory: cmp.Or(update.Memory, f.Memory), MemorySwap: cmp.Or(update.MemorySwap, f.MemorySwap),
		MemoryReservation: cmp.Or(update.MemoryReservation, f.MemoryReservation),
		ShmSize:           cmp.Or(update.ShmSize, f.ShmSize), Pids: cmp.Or(update.Pids, f.Pids), Ulimits: f.Ulimits,
		CPUs: cmp.Or(update.CPUs, f.CPUs), CPUPeriod: cmp.Or(update.CPUPeriod, f.CPUPeriod), CPUQuota: cmp.Or(update.CPUQuota, f.CPUQuota),
		CPUShares: cmp.Or(update.CPUShares, f.CPUShares), CpusetCPUs: cmp.Or(update.CpusetCPUs, f.CpusetCPUs),
		CpusetMems:     cmp.Or(update.CpusetMems, f.CpusetMems),
		OOMKillDisable: update.OOMKillDisable || f.OOMKillDisable, OOMScoreAdj: cmp.Or(update.OOMScoreAdj, f.OOMScoreAdj),
	}
}

// minMemory is docker's least limit of memory, in bytes.
const minMemory = 6 << 20

// ParseLimits reads what limits a container. The words of its errors are docker's where docker has some.
func ParseLimits(f LimitFlags) (l runtime.Limits, err error) {
	l.Pids = f.Pids
	l.OOMKillDisable, l.OOMScoreAdj = f.OOMKillDisable, f.OOMScoreAdj
	if f.MemorySwap == "-1" {
		l.MemorySwap, f.MemorySwap = -1, ""
	}
	for _, size := range []struct {
		flag, text string
		to         *int64
	}{
		{"--memory", f.Memory, &l.Memory},
		{"--shm-size", f.ShmSize, &l.ShmSize},
		{"--memory-swap", f.MemorySwap, &l.MemorySwap},
		{"--memory-reservation", f.MemoryReservation, &l.MemoryReservation},
	} {
		if size.text == "" {
			continue
		}
		if *size.to, err = ParseSize(size.text); err != nil {
			return l, fmt.Errorf("%s %w", size.flag, err)
		}
	}
	if l.Memory != 0 && l.Memory < minMemory {
		return l, fmt.Errorf("--memory %s: minimum memory limit allowed is 6MB", f.Memory)
	}
	if l.CPULimits, err = f.cpus(); err != nil {
		return l, err
	}
	for _, text := range f.Ulimits {
		u, err := runtime.ParseUlimit(text)
		if err != nil {
			return l, fmt.Errorf("--ulimit %w", err)
		}
		l.Ulimits = append(l.Ulimits, u)
	}
	return l, nil
}

// parse reads the flags of the processors.
func (f *LimitFlags) cpus() (l runtime.CPULimits, err error) {
	l = runtime.CPULimits{CPUPeriod: f.CPUPeriod, CPUQuota: max(f.CPUQuota, 0), CPUShares: f.CPUShares, CPUs: f.CpusetCPUs, Mems: f.CpusetMems}
	if l.NanoCPUs, err = parseCPUs(f.CPUs); err != nil {
		return l, err
	}
	switch {
	case l.NanoCPUs > 0 && f.CPUPeriod > 0:
		err = errors.New("conflicting options: Nano CPUs and CPU Period cannot both be set")
	case l.NanoCPUs > 0 && f.CPUQuota > 0:
		err = errors.New("conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case f.CPUPeriod != 0 && (f.CPUPeriod < 1000 || f.CPUPeriod > 1000000):
		err = errors.New("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case f.CPUQuota > 0 && f.CPUQuota < 1000:
		err = errors.New("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	return l, err
}

// parseCPUs reads a number of processors; 0 is no limit.
func parseCPUs(s string) (nano int64, err error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) || n < 0 {
		return 0, fmt.Errorf("--cpus %q: must be a number such as 1.5", s)
	}
	if most := goruntime.NumCPU(); n != 0 && n < 0.01 || n > float64(most) {
		return 0, fmt.Errorf("--cpus %s: range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", s, most, most)
	}
	return int64(n * 1e9), nil
}

// parseHost reads docker's --add-host: NAME:IP or NAME=IP, where host-gateway may stand for the IP.
func parseHost(s string) (Host, error) {
	name, ip, ok := strings.Cut(s, "=")
	if !ok {
		name, ip, ok = strings.Cut(s, ":")
	}
	if !ok || name == "" || !plain(name) {
		return Host{}, fmt.Errorf("--add-host %q: must be HOST:IP", s)
	}
	if ip == "host-gateway" {
		return Host{Name: name}, nil
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]"))
	if err != nil || addr.Zone() != "" {
		return Host{}, fmt.Errorf("--add-host %q: %q is not an IP address", s, ip)
	}
	return Host{Name: name, IP: addr}, nil
}

// ParseHosts reads several.
func ParseHosts(list []string) ([]Host, error) {
	var hosts []Host
	for _, s := range list {
		h, err := parseHost(s)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// plain reports whether a name has no character that ends a name or a line in /etc/hosts.
func plain(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' })
}

// CheckHostname refuses what cannot be the name of a machine.
func CheckHostname(name string) error {
	const most = 64 // bytes, sethostname(2)
	if !plain(name) || len(name) > most {
		return fmt.Errorf("--hostname %q: must be at most %d characters, without spaces or control characters", name, most)
	}
	return nil
}

// CheckDomainname refuses what cannot be a NIS domain name.
func CheckDomainname(name string) error {
	const most = 64 // bytes, setdomainname(2)
	if !plain(name) || len(name) > most {
		return fmt.Errorf("--domainname %q: must be at most %d characters, without spaces or control characters", name, most)
	}
	return nil
}

// CheckDir refuses a working directory that is not absolute, in docker's words.
func CheckDir(dir string) error {
	if dir != "" && !path.IsAbs(dir) {
		return fmt.Errorf("the working directory %q is invalid, it needs to be an absolute path", dir)
	}
	return nil
}

// ParseSecurityOpts reads docker's --security-opt into sec.
func ParseSecurityOpts(list []string, sec *runtime.Security) error {
	for _, opt := range list {
		name, value, _ := strings.Cut(opt, "=")
		if before, after, ok := strings.Cut(opt, ":"); ok && !strings.Contains(before, "=") {
			name, value = before, after
		}
		switch {
		case name == "seccomp" && value != "":
			sec.Seccomp = value
		case name == "no-new-privileges" && (value == "" || value == "true"):
			sec.NoNewPrivileges = true
		case name == "no-new-privileges" && value == "false":
			sec.NoNewPrivileges = false
		case name == "apparmor" && value == "unconfined", name == "label" && value == "disable": // so it is
		default:
			return fmt.Errorf("--security-opt %q: must be seccomp=unconfined, seccomp=FILE or no-new-privileges", opt)
		}
	}
	return nil
}

// CheckDNS refuses name servers that are no IP addresses.
func CheckDNS(servers []string) error {
	for _, s := range servers {
		if _, err := netip.ParseAddr(s); err != nil {
			return fmt.Errorf("--dns %s: must be an IP address", s)
		}
	}
	return nil
}

// ParseNetwork reads the network of a build or a container; "" is the default.
func ParseNetwork(mode string) (string, error) {
	switch mode {
	case "":
		return "default", nil
	case "default", "none", "host":
		return mode, nil
	}
	return "", fmt.Errorf("--network %s: must be default, none or host", mode)
}
