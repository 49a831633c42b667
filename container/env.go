package container

import (
	"slices"
	"strings"

	"github.com/forge-build/forge/runtime"
)

// Environment is what a process finds in its environment: the variables of env, in the order in which each was first
// defined and with the value that it was given last, and PATH and HOME if env has none.
func Environment(env []string, home string) []string {
	var set []string
	for _, kv := range env {
		name, value, ok := strings.Cut(kv, "=")
		if ok {
			set = setEnv(set, name, value)
		} else {
			set = slices.DeleteFunc(set, func(kv string) bool { return isEnv(kv, name) })
		}
	}
	for _, kv := range [][2]string{{"PATH", runtime.DefaultPath}, {"HOME", home}} {
		if !slices.ContainsFunc(set, func(other string) bool { return isEnv(other, kv[0]) }) {
			set = append(set, kv[0]+"="+kv[1])
		}
	}
	return set
}

// isEnv reports whether kv defines a variable.
func isEnv(kv, name string) bool {
	return len(kv) > len(name) && kv[len(name)] == '=' && kv[:len(name)] == name
}

// setEnv sets a variable, in its place if it has one.
func setEnv(env []string, name, value string) []string {
	kv := name + "=" + value
	if i := slices.IndexFunc(env, func(kv string) bool { return isEnv(kv, name) }); i >= 0 {
		env[i] = kv
		return env
	}
	return append(env, kv)
}
