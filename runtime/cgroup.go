package runtime

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroupPrefix is followed by the caller's process id, when it began, as a number behind "s", and a random number.
const cgroupPrefix = "forge-"

// A cgroup is a container's own: one directory in the unified hierarchy, or one in each of version 1's that has a
// limit to set, and one of the freezer, which may be there only once it is needed.
type cgroup struct {
	name    string // of its directories
	dirs    []string
	unified *os.File // the directory, to clone into
	join    []string // files the process writes its number to
	parent  *cgroupParent

	guardsDevices bool // it decides which device nodes can be used
}

// A cgroupParent is where cgroups can be made.
type cgroupParent struct {
	unified bool
	owner   string            // what names of this process's cgroups have behind the prefix
	dir     map[string]string // by controller; of the unified hierarchy all the same
}

// controllers are those that are used, of either version; the first of version 1 have a directory for every container.
func controllers() []string {
	return []string{"pids", "devices", "memory", "cpu", "cpuset", "cpuacct", "freezer", "blkio", "io"}
}

// findCgroups finds where cgroups can be made by this process, or says why none can.
func findCgroups() (*cgroupParent, error) {
	p, err := findHierarchies()
	if err != nil {
		return nil, err
	}
	began, err := startTime(os.Getpid())
	p.owner = fmt.Sprintf("%d-s%d-", os.Getpid(), began)
	return p, err
}

func findHierarchies() (*cgroupParent, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", cgroupRoot, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return findUnified()
	}
	own, err := ownCgroups()
	if err != nil {
		return nil, err
	}
	p := &cgroupParent{dir: map[string]string{}}
	for _, c := range controllers() {
		dir := filepath.Join(cgroupRoot, c, own[c])
		if own[c] != "" && unix.Access(dir, unix.W_OK) == nil && unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP_SUPER_MAGIC {
			p.dir[c] = dir
		}
	}
	if len(p.dir) == 0 {
		return nil, errors.New("version 1, not delegated to this user")
	}
	return p, nil
}

// findUnified finds the parent in the unified hierarchy: the top for root, since a cgroup that has processes, such as
// our own, can hand no controller down; and what our own is in for others, if that is theirs to write to.
func findUnified() (*cgroupParent, error) {
	rootless := inUserNamespace()
	parent := cgroupRoot
	if rootless {
		own, err := ownCgroups()
		if err != nil {
			return nil, err
		}
		parent = filepath.Join(cgroupRoot, filepath.Dir(own[""]))
	}
	if unix.Access(parent, unix.W_OK) != nil || unix.Access(parent+"/cgroup.procs", unix.W_OK) != nil {
		return nil, errors.New("version 2, not delegated to this user")
	}
	p := &cgroupParent{unified: true, dir: map[string]string{"": parent}}
	if !rootless {
		for _, c := range []string{"pids", "memory", "cpu", "cpuset", "io"} { // as far as possible
			_ = os.WriteFile(parent+"/cgroup.subtree_control", []byte("+"+c), 0)
		}
	}
	b, err := os.ReadFile(parent + "/cgroup.subtree_control")
	if err != nil {
		return nil, err
	}
	for _, c := range strings.Fields(string(b)) {
		p.dir[c] = parent
	}
	return p, nil
}

// ownCgroups are this process's by controller, "" being the unified hierarchy.
func ownCgroups() (map[string]string, error) { return cgroupsOf("self") }

// cgroupsOf are those of a process.
func cgroupsOf(process string) (map[string]string, error) {
	b, err := os.ReadFile("/proc/" + process + "/cgroup")
	if err != nil {
		return nil, err
	}
	own := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		_, rest, _ := strings.Cut(line, ":")
		controllers, path, ok := strings.Cut(rest, ":")
		for _, c := range strings.Split(controllers, ",") {
			if ok {
				own[c] = path
			}
		}
	}
	return own, nil
}

// Cgroups says in words what cgroups containers get here.
func Cgroups() string {
	p, err := findCgroups()
	if err != nil {
		return "none: " + err.Error()
	}
	var names []string
	for _, c := range controllers() {
		if p.dir[c] != "" {
			names = append(names, c)
		}
	}
	version := "version 1"
	if p.unified {
		version = "version 2"
	}
	return version + ": " + strings.Join(append(names, "own group"), ", ")
}

// CgroupVersion is 1 or 2, as docker says it; "" where there are no cgroups.
func CgroupVersion() string {
	p, err := findCgroups()
	switch {
	case err != nil:
		return ""
	case p.unified:
		return "2"
	}
	return "1"
}

// MemoryTotal is how much memory this machine has, in bytes.
func MemoryTotal() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// newCgroup makes the container's cgroup, or takes the one that was made ahead. A limit that was asked for and cannot be had is an error
// where it is one in docker, and else a warning in docker's words.
func (s *setup) newCgroup() (g *cgroup, err error) {
	var parent *cgroupParent
	if g = s.spec.Limits.Ahead.take(); g != nil {
		parent = g.parent
	} else {
		parent, err = s.spec.Host.findCgroups()
	}
	settings, wrong := s.settings(parent)
	switch {
	case wrong != nil:
		g.remove()
		return nil, wrong
	case err != nil:
		for _, set := range settings {
			if err := s.discard(set, "cgroups: "+err.Error()); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
	if g == nil {
		if g, err = parent.begin(); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			g.remove()
			g = nil
		}
	}()
	if parent.unified && !s.rootless && !s.spec.Security.Privileged {
		g.guardsDevices = guardDevices(g.unified, usableDevices(s.spec)) == nil // a kernel may be without it
	}
	for _, set := range settings {
		if err := s.limit(g, set); err != nil {
			return g, err
		}
	}
	if s.spec.Limits.Account {
		err = g.makeAll(accounting()...)
	} else if dir := parent.dir["freezer"]; dir != "" && !parent.unified && len(g.dirs) > 0 {
		g.dirs = append(g.dirs, filepath.Join(dir, g.name)) // which Target.Freeze makes
	}
	return g, err
}

// begin begins a cgroup: in the unified hierarchy it is there then, in one of version 1 it has a name.
func (p *cgroupParent) begin() (g *cgroup, err error) {
	g = &cgroup{parent: p, name: cgroupPrefix + p.owner + strconv.FormatUint(rand.Uint64(), 36)}
	if !p.unified {
		return g, nil
	}
	err = g.make(filepath.Join(p.dir[""], g.name))
	if err == nil {
		g.unified, err = os.Open(g.dirs[0])
	}
	if err != nil {
		g.remove()
		return nil, err
	}
	return g, nil
}

// makeAll makes the directories of controllers, as far as this machine has them.
func (g *cgroup) makeAll(controllers ...string) (err error) {
	for _, c := range controllers {
		if dir := g.parent.dir[c]; dir != "" {
			err = errors.Join(err, g.makeOnce(filepath.Join(dir, g.name)))
		}
	}
	return err
}

func (g *cgroup) make(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	g.dirs = append(g.dirs, dir)
	return nil
}

// makeOnce makes the directory of a controller, which the unified hierarchy has already.
func (g *cgroup) makeOnce(dir string) error {
	if g.parent.unified || slices.Contains(g.dirs, dir) {
		return nil
	}
	err := g.make(dir)
	if errors.Is(err, os.ErrExist) { // two controllers may have one hierarchy, and two names for it
		return nil
	}
	if err != nil {
		return err
	}
	if dir == filepath.Join(g.parent.dir["cpuset"], filepath.Base(dir)) {
		if err := inheritCpuset(dir); err != nil {
			return err
		}
	}
	// The process that joins has one thread, and joins itself. For that the kernel need not stop all forks of the machine
	// (kernel/cgroup/cgroup.c, cgroup_procs_write_start), as it does for cgroup.procs: 12 ms.
	g.join = append(g.join, dir+"/tasks")
	return nil
}

// directories are where the cgroup is, one a hierarchy.
func (g *cgroup) directories() []string {
	if g == nil {
		return nil
	}
	return g.dirs
}

// oom reports whether something in the container was killed for want of memory.
func (g *cgroup) oom() bool {
	for _, dir := range g.directories() {
		for _, file := range []string{"memory.events", "memory.oom_control"} { // version 2 and 1
			b, _ := os.ReadFile(filepath.Join(dir, file))
			for _, line := range strings.Split(string(b), "\n") {
				if n, ok := strings.CutPrefix(line, "oom_kill "); ok && n != "0" {
					return true
				}
			}
		}
	}
	return false
}

// remove removes the cgroup, once nothing is in it.
func (g *cgroup) remove() {
	if g == nil {
		return
	}
	if g.unified != nil {
		g.unified.Close()
	}
	for _, dir := range g.dirs {
		// A process that is reaped may be counted for a moment longer.
		for wait := time.Duration(0); wait < 100*time.Millisecond; wait = 2*wait + time.Millisecond {
			time.Sleep(wait)
			if err := removeCgroup(dir); err != unix.EBUSY {
				break
			}
		}
	}
}

// sweep removes the cgroups of callers that were killed. It looks into one hierarchy, where every caller has one.
func (p *cgroupParent) sweep() {
	if p == nil {
		return
	}
	list := append([]string{""}, controllers()...)
	first := p.dir[list[slices.IndexFunc(list, func(c string) bool { return p.dir[c] != "" })]]
	names, _ := os.ReadDir(first)
	for _, e := range names {
		rest, ok := strings.CutPrefix(e.Name(), cgroupPrefix)
		if !ok || strings.HasPrefix(rest, p.owner) || !ofTheDead(rest) {
			continue
		}
		if dir := p.dir["freezer"]; dir != "" {
			thawKilled(filepath.Join(dir, e.Name()))
		}
		// The one by which it is found goes last: what is busy for a moment longer is for the next sweep.
		busy := false
		for _, dir := range p.dir {
			busy = busy || dir != first && removeCgroup(filepath.Join(dir, e.Name())) == unix.EBUSY
		}
		if !busy {
			_ = removeCgroup(filepath.Join(first, e.Name())) // fails unless nothing is in it
		}
	}
}

// ofTheDead reports whether the caller that a cgroup is named after is gone, even if its number is another's now.
func ofTheDead(name string) bool {
	owner, rest, _ := strings.Cut(name, "-")
	pid, err := strconv.Atoi(owner)
	if err != nil {
		return false
	}
	if unix.Kill(pid, 0) == unix.ESRCH {
		return true
	}
	word, _, _ := strings.Cut(rest, "-")
	began, err := strconv.ParseUint(strings.TrimPrefix(word, "s"), 10, 64)
	if err != nil || !strings.HasPrefix(word, "s") {
		return false
	}
	now, err := startTime(pid)
	return err == nil && now != began
}

// joinCgroup puts the process into the cgroups it was not cloned into. It writes 0, for itself: nobody has to know its
// number.
func (s *setup) joinCgroup() error {
	if s.cgroup != nil {
		zero := s.str("0")
		for _, file := range s.cgroup.join {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				return &SetupError{"cgroup", err}
			}
			s.step = "join cgroup " + filepath.Dir(file)
			s.call(unix.SYS_WRITE, num(s.pass(s.own(f))), zero, num(1))
		}
	}
	return nil
}
