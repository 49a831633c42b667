package runtime

// Sweep removes the cgroups of containers whose callers were killed. Starting a container looks into one hierarchy only;
// this looks into all.
func Sweep() {
	parent, err := findCgroups()
	if err != nil {
		return // then there are none
	}
	for controller, dir := range parent.dir {
		(&cgroupParent{dir: map[string]string{controller: dir}}).sweep()
	}
}
