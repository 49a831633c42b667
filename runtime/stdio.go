package runtime

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// stdio puts files for standard input, output and error among the supervisor's, and starts copying where they are not files.
func (s *setup) stdio(p *Process, io Stdio) error {
	if s.spec.Terminal {
		return nil
	}
	if io.In != nil {
		if err := s.input(p, io.In); err != nil {
			return &SetupError{"stdin", err}
		}
	}
	if io.Out != nil {
		if err := s.output(p, 1, io.Out); err != nil {
			return &SetupError{"stdout", err}
		}
	}
	if io.Err != nil && same(io.Out, io.Err) {
		s.files[2] = s.files[1]
		s.set[2] = s.set[1]
		return s.places.sameOutput()
	}
	if io.Err != nil {
		if err := s.output(p, 2, io.Err); err != nil {
			return &SetupError{"stderr", err}
		}
	}
	return nil
}

// same reports whether two writers are one. Types that cannot be compared are not.
func same(a, b io.Writer) bool {
	defer func() { _ = recover() }()
	return a == b
}

// use makes f the process's descriptor n.
func (s *setup) use(n int, f *os.File) { s.files[n], s.set[n] = f.Fd(), true }

// give makes the process's user the owner of a pipe, who may then open it anew as /dev/stdin or /dev/stdout. An id that this
// user namespace does not have is an error when the process becomes that user.
func (s *setup) give(pipe *os.File) error {
	err := pipe.Chown(int(s.spec.User.UID), int(s.spec.User.GID))
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// direct reports whether a file can be the process's own: a pipe of its user. Any other is what the process must not get or
// would not expect: a terminal, at which it could read what the caller types, a file that it would truncate by writing to
// /dev/stdout, a socket, which cannot be opened anew, or a pipe of another user, which cannot either.
func (s *setup) direct(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO && st.Uid == s.spec.User.UID
}

func (s *setup) input(p *Process, in io.Reader) error {
	if f, ok := in.(*os.File); ok && s.direct(f) {
		s.use(0, f)
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.use(0, s.own(r))
	p.streams.file[0] = w
	if err := s.give(r); err != nil {
		return err
	}
	p.streams.feed(in)
	return nil
}

func (s *setup) output(p *Process, n int, out io.Writer) error {
	if f, ok := out.(*os.File); ok && s.direct(f) {
		s.use(n, f)
		return nil
	}
	r, w, err := s.pipe(n)
	if err != nil {
		return err
	}
	s.use(n, s.own(w))
	p.streams.file[n] = r
	if err := s.give(w); err != nil {
		return err
	}
	p.streams.drain(n, out)
	return nil
}

// pipe makes a pipe for standard output or error.
func (s *setup) pipe(n int) (r, w *os.File, err error) {
	if s.places != nil {
		return s.places.fifo([]string{1: "stdout", 2: "stderr"}[n])
	}
	return os.Pipe()
}

// stdin puts the container's own /dev/null where nothing is set.
func (s *setup) stdin() {
	s.step = "stdio"
	if s.spec.Terminal {
		for n := range s.set {
			s.call(unix.SYS_DUP3, s.slave, num(n), num(0))
		}
		return
	}
	null := s.word()
	s.call(unix.SYS_OPENAT, s.dev, s.str("null"), num(unix.O_RDWR|unix.O_CLOEXEC)).into(null)
	s.useNull(null)
}

// useNull puts a descriptor where nothing is set.
func (s *setup) useNull(null arg) {
	for n, set := range s.set {
		if !set {
			s.call(unix.SYS_DUP3, null, num(n), num(0))
		}
	}
}
