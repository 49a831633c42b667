package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketMode lets the owner of the socket and its group use it.
const socketMode = 0o660

// DefaultSocket is where clients are to look: /run/forge/docker.sock, or forge/docker.sock below XDG_RUNTIME_DIR for an ordinary user.
func DefaultSocket(rootless bool) (string, error) {
	if !rootless {
		return "/run/forge/docker.sock", nil
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(dir) {
		return "", errors.New("no place for the socket: XDG_RUNTIME_DIR is not set; say --socket PATH")
	}
	return filepath.Join(dir, "forge/docker.sock"), nil
}

// ListenUnix makes a socket at a path, in the place of one that nobody serves any more. gid owns it besides its user; -1 is the group of
// this process. A symbolic link in its place is refused, and a directory that others may change.
func ListenUnix(ctx context.Context, path string, gid int) (net.Listener, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, at := range []string{dir, path} {
		if err := checkPlace(ctx, at); err != nil {
			return nil, fmt.Errorf("socket %s: %s %w", path, at, err)
		}
	}
	old := syscall.Umask(0o777 &^ socketMode)
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, err
	}
	if gid >= 0 {
		if err := os.Lchown(path, -1, gid); err != nil {
			return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), l.Close())
		}
	}
	return l, nil
}

// checkPlace makes sure that a socket can be made at a path, or in a directory.
func checkPlace(ctx context.Context, at string) error {
	info, err := os.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return errLink
	case info.IsDir():
		if info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
			return errors.New("may be changed by everybody: choose a directory of your own")
		}
		return nil
	case info.Mode()&fs.ModeSocket == 0:
		return errors.New("is there, and is no socket: remove it, or choose another path")
	}
	served, err := isServed(ctx, at)
	switch {
	case err != nil: // such as of one that is served, and has no room for who asks
		return fmt.Errorf("may be served already: %w", err)
	case served:
		return errors.New("is served already")
	}
	return os.Remove(at)
}

// abandoned is how long a socket may outlive who has made it.
const abandoned = time.Second

// isServed reports whether somebody listens at a socket. If its maker is dead, somebody may still have it open for a moment: a process that the
// maker was just starting, which closes it when it is executed.
func isServed(ctx context.Context, at string) (bool, error) {
	for until := time.Now().Add(abandoned); ; time.Sleep(abandoned / 100) {
		conn, err := (&net.Dialer{}).DialUnix(ctx, "unix", nil, &net.UnixAddr{Name: at, Net: "unix"})
		if errors.Is(err, syscall.ECONNREFUSED) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		maker, err := peerOf(conn)
		if err = errors.Join(err, conn.Close()); err != nil {
			return false, err
		}
		if !errors.Is(unix.Kill(maker, 0), unix.ESRCH) || time.Now().After(until) {
			return true, nil
		}
	}
}

// peerOf is the process that has made the socket at the other end of a connection (unix(7), SO_PEERCRED); 0 if this one cannot see it.
func peerOf(conn *net.UnixConn) (pid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(cerr, err); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

// Inherited are the sockets that systemd has opened for this process (sd_listen_fds(3)); nil if it has not.
func Inherited() (list []net.Listener, err error) {
	pid, _ := strconv.Atoi(os.Getenv("LISTEN_PID"))
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if n <= 0 || pid != 0 && pid != os.Getpid() {
		return nil, nil
	}
	for fd := firstInherited; fd < firstInherited+n; fd++ {
		syscall.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), "LISTEN_FD_"+strconv.Itoa(fd))
		l, err := net.FileListener(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("socket %d of LISTEN_FDS: %w", fd, err)
		}
		list = append(list, l)
	}
	return list, errors.Join(os.Unsetenv("LISTEN_PID"), os.Unsetenv("LISTEN_FDS"))
}

// firstInherited is the first descriptor that systemd passes on.
const firstInherited = 3

// TLSOptions are files, PEM: without all of them nothing is served over TCP.
type TLSOptions struct{ CA, Cert, Key string }

// ListenTLS listens at an address for clients whose certificates the authority has signed.
func ListenTLS(ctx context.Context, addr string, o TLSOptions) (net.Listener, error) {
	if o.CA == "" || o.Cert == "" || o.Key == "" {
		return nil, errors.New("TCP needs --tls-ca, --tls-cert and --tls-key: whoever reaches the API is root of this machine, so clients must have certificates")
	}
	cert, err := tls.LoadX509KeyPair(o.Cert, o.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", o.Cert, err)
	}
	raw, err := os.ReadFile(o.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s: holds no certificate in PEM", o.CA)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}), nil
}

// headerTime bounds how long a client may take for the head of a request.
const headerTime = time.Minute

// Serve serves listeners until the context ends or, if idle is not 0, nothing was asked for that long. Requests that are being answered
// end with it. What containers do does not depend on it.
func (s *Server) Serve(ctx context.Context, idle time.Duration, listeners ...net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTime, Protocols: &protocols, ErrorLog: log.New(io.Discard, "", 0), // clients are told
		BaseContext: func(net.Listener) context.Context { return context.WithValue(ctx, lifeKey{}, ctx) },
	}
	defer s.activity.watch(idle, stop)()
	go s.children.reap(ctx)
	var all sync.WaitGroup
	errs := make([]error, len(listeners))
	for i, l := range listeners {
		all.Go(func() {
			errs[i] = server.Serve(l)
			stop()
		})
	}
	<-ctx.Done()
	err := server.Close()
	all.Wait()
	for i, e := range errs {
		if errors.Is(e, http.ErrServerClosed) {
			errs[i] = nil
		}
	}
	return errors.Join(append(errs, err)...)
}
