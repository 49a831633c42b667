package runtime

import (
	"strings"

	"golang.org/x/sys/unix"
)

// maxExecs is how many directories PATH may have: a report is sent in one piece.
const maxExecs = 1024

// reportSize is how much is said of the set-up: which op failed, with what, and the results of execve.
func (s *setup) reportSize() int { return 16 + 8*len(s.paths) }

// DefaultPath is where commands are looked for if Env has no PATH: docker's default.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// execCommand executes the command: each place it may be at is tried, as execvp does.
func (s *setup) execCommand() {
	s.step = "exec"
	args, env := s.pointers(s.strs(s.spec.Args)), s.pointers(s.strs(s.spec.Env))
	for i, path := range s.paths {
		s.call(unix.SYS_EXECVE, s.str(path), args, env).into(s.results.plus(8 * i).ref()).
			allow(errnos(unix.ENOENT, unix.ENOTDIR, unix.EACCES))
	}
	s.call(opExpect, num(0), num(1), num(1), num(unix.ENOENT)) // none of them
}

// CommandPaths are the places where the command is looked for, in this order; those that are not absolute are of Dir.
func (s *Spec) CommandPaths() []string {
	if strings.Contains(s.Args[0], "/") {
		return s.Args[:1]
	}
	var paths []string
	for _, dir := range strings.Split(lookupEnv(s.Env, "PATH", DefaultPath), ":") {
		if dir == "" {
			dir = "."
		}
		paths = append(paths, strings.TrimSuffix(dir, "/")+"/"+s.Args[0])
	}
	return paths
}

// lookupEnv is the value of a variable; the last definition counts.
func lookupEnv(env []string, name, otherwise string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(env[i], name+"="); ok {
			return v
		}
	}
	return otherwise
}
