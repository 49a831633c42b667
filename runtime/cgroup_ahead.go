package runtime

// A CgroupAhead is the cgroup of a container that is about to be started, made while the rest of that is prepared. Nothing runs in it until
// Start takes it. That of a process that was killed is removed as any other is. Its methods may be called concurrently.
type CgroupAhead struct{ made chan *cgroup }

// BeginCgroup begins to make the cgroup of a container on another thread. account is as in [Limits]. The caller closes it.
func BeginCgroup(account bool) *CgroupAhead {
	a := &CgroupAhead{made: make(chan *cgroup, 1)}
	go func() {
		defer close(a.made)
		if g := cgroupAhead(account); g != nil {
			a.made <- g
		}
	}()
	return a
}

// cgroupAhead makes a cgroup, nil if that fails: whoever needs it tries himself, and says why.
func cgroupAhead(account bool) *cgroup {
	parent, err := findCgroups()
	if err != nil {
		return nil
	}
	g, err := parent.begin()
	if err != nil {
		return nil
	}
	controllers := []string{"pids", "devices"} // which every container has a limit of
	if account {
		controllers = append(controllers, accounting()...)
	}
	if err := g.makeAll(controllers...); err != nil {
		g.remove()
		return nil
	}
	return g
}

// take waits for the cgroup, which is the caller's from then on; nil if there is none, or somebody has it.
func (a *CgroupAhead) take() *cgroup {
	if a == nil {
		return nil
	}
	return <-a.made
}

// Close removes the cgroup, unless it was taken.
func (a *CgroupAhead) Close() {
	a.take().remove()
}
