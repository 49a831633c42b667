package runtime

import (
	"bytes"
	"os"
	"strconv"
)

// Main does nothing yet: a container's first process is not this program.
func Main() {}

// EnterUserNamespace re-executes the program as root of a new user and mount namespace if it is not root.
func EnterUserNamespace() error { return nil }

// inUserNamespace tells whether this process is in a user namespace other than the first.
func inUserNamespace() bool {
	m, err := os.ReadFile("/proc/self/uid_map")
	f := bytes.Fields(m)
	return err == nil && !(len(f) == 3 && string(f[0]) == "0" && string(f[1]) == "0" && string(f[2]) == "4294967295")
}

// mapped tells whether the map of a user namespace has a number.
func mapped(file string, id uint64) bool {
	m, _ := os.ReadFile(file)
	for _, line := range bytes.Split(m, []byte("\n")) {
		f := bytes.Fields(line)
		if len(f) != 3 {
			continue
		}
		first, _ := strconv.ParseUint(string(f[0]), 10, 32)
		count, _ := strconv.ParseUint(string(f[2]), 10, 33)
		if id >= first && id < first+count {
			return true
		}
	}
	return false
}

func setgroupsAllowed() bool {
	m, err := os.ReadFile("/proc/self/setgroups")
	return err != nil || bytes.HasPrefix(m, []byte("allow"))
}
