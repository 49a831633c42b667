package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/internal/grpc"
)

const (
	fileSync = "/moby.filesync.v1.FileSync/DiffCopy"
	fileSend = "/moby.filesync.v1.FileSend/DiffCopy"
	upload   = "/moby.upload.v1.Upload/Pull"
)

// A lender is the client of a build as one who lends directories.
type lender struct {
	service *Service
	own     *session
	attrs   map[string]string // of the build
}

// Key implements forge.Lender.
func (s *lender) Key(dir string) string {
	if dir == "context" {
		return s.own.key
	}
	return s.attrs["sharedkey:localdir:"+dir]
}

// Lend implements forge.Lender.
func (s *lender) Lend(ctx context.Context, dir string, f forge.LoanFilter) (forge.Loan, error) {
	sess := s.own
	if id := s.attrs["local-sessionid:"+dir]; id != "" { // several builds of one client share a directory
		var err error
		if sess, err = s.service.session(ctx, id); err != nil {
			return nil, err
		}
	}
	if !sess.has(fileSync) {
		return nil, fmt.Errorf("the client lends no directories, and the build needs %s", dir)
	}
	md := grpc.Metadata{"dir-name": {dir}}
	addFilter(md, "followpaths", f.Only)
	addFilter(md, "exclude-patterns", f.Ignore)
	return &loan{call: sess.Start(ctx, fileSync, md), waits: map[uint32]*transfer{}}, nil
}

// addFilter adds patterns to the metadata of a request for files. Those that a header cannot hold are escaped, all of them.
func addFilter(md grpc.Metadata, key string, patterns []string) {
	if len(patterns) == 0 {
		return
	}
	escape := false
	for _, p := range patterns {
		escape = escape || strings.ContainsAny(p, "%") || strings.IndexFunc(p, func(r rune) bool { return r < ' ' || r > '~' }) >= 0
	}
	for _, p := range patterns {
		if escape {
			p = url.QueryEscape(p)
		}
		md[key] = append(md[key], p)
	}
	if escape {
		md[key+"-encoded"] = []string{"1"}
	}
}

// A loan is a directory of the client: first the client says what is in it, then it sends the files that it is asked for.
type loan struct {
	call *grpc.Call

	sending sync.Mutex // held while something is sent

	mu      sync.Mutex // guards what is below
	reading bool       // a goroutine takes in what the client sends
	waits   map[uint32]*transfer
	ended   error         // why nothing comes any more
	over    chan struct{} // closed when that goroutine has ended
}

// A transfer is a file that the client sends.
type transfer struct {
	w    io.Writer
	done chan error
}

// Next implements forge.Loan.
func (l *loan) Next() (string, forge.FileEntry, error) {
	var p packet
	if err := l.call.Recv(&p); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return "", forge.FileEntry{}, err
	}
	switch {
	case p.Type == packetErr:
		return "", forge.FileEntry{}, fmt.Errorf("the client: %s", p.Data)
	case p.Type != packetStat:
		return "", forge.FileEntry{}, fmt.Errorf("the client sends a packet of type %d in its list of files", p.Type)
	case p.Stat == nil:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.reading, l.over = true, make(chan struct{})
		go l.read()
		return "", forge.FileEntry{}, io.EOF
	}
	return strings.TrimPrefix(p.Stat.Path, "/"), entryOf(p.Stat), nil
}

// entryOf is a file as a client describes it.
func entryOf(s *stat) forge.FileEntry {
	mode := fs.FileMode(s.Mode)
	e := forge.FileEntry{
		Mode: uint32(mode.Perm()), Size: s.Size, ModTime: time.Unix(0, s.ModTime), Link: s.Linkname,
	}
	for from, to := range map[fs.FileMode]uint32{fs.ModeSetuid: syscall.S_ISUID, fs.ModeSetgid: syscall.S_ISGID, fs.ModeSticky: syscall.S_ISVTX} {
		if mode&from != 0 {
			e.Mode |= to
		}
	}
	switch mode.Type() {
	case fs.ModeDir:
		e.Mode |= syscall.S_IFDIR
	case fs.ModeSymlink:
		e.Mode |= syscall.S_IFLNK
	case fs.ModeNamedPipe:
		e.Mode |= syscall.S_IFIFO
	case fs.ModeDevice | fs.ModeCharDevice:
		e.Mode |= syscall.S_IFCHR
	case fs.ModeDevice:
		e.Mode |= syscall.S_IFBLK
	default: // a socket is an empty file
		e.Mode |= syscall.S_IFREG
	}
	if mode&fs.ModeDevice != 0 {
		major, minor := uint64(s.Devmajor), uint64(s.Devminor) // as unix.Mkdev
		e.Rdev = major&0xfff<<8 | major&^0xfff<<32 | minor&0xff | minor&^0xff<<12
	}
	return e
}

// read takes in what the client sends, until it sends no more.
func (l *loan) read() {
	defer close(l.over)
	for {
		var p packet
		err := l.call.Recv(&p)
		switch {
		case err != nil:
		case p.Type == packetErr:
			err = fmt.Errorf("the client: %s", p.Data)
		case p.Type == packetData:
			l.data(&p)
			continue
		case p.Type == packetFin:
			continue
		default:
			err = fmt.Errorf("the client sends a packet of type %d instead of a file", p.Type)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ended = err
		if err == io.EOF {
			l.ended = errors.New("the client has ended the transfer of files")
		}
		for id, t := range l.waits {
			delete(l.waits, id)
			t.done <- l.ended
		}
		return
	}
}

// data takes a part of a file, or its end, which is empty.
func (l *loan) data(p *packet) {
	l.mu.Lock()
	t := l.waits[p.ID]
	if t != nil && len(p.Data) == 0 {
		delete(l.waits, p.ID)
	}
	l.mu.Unlock()
	if t == nil {
		return
	}
	var err error
	if len(p.Data) > 0 {
		if _, err = t.w.Write(p.Data); err == nil {
			return
		}
		l.mu.Lock()
		delete(l.waits, p.ID)
		l.mu.Unlock()
	}
	t.done <- err
}

// Fetch implements forge.Loan.
func (l *loan) Fetch(ctx context.Context, n int, w io.Writer) error {
	t := &transfer{w: w, done: make(chan error, 1)}
	l.mu.Lock()
	if l.ended != nil {
		defer l.mu.Unlock()
		return l.ended
	}
	l.waits[uint32(n)] = t
	l.mu.Unlock()
	if err := l.send(&packet{Type: packetReq, ID: uint32(n)}); err != nil && err != io.EOF { // of io.EOF the reader tells why
		return err
	}
	select {
	case err := <-t.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *loan) send(p *packet) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	return l.call.Send(p)
}

// finTime is how long a client may take to agree that a transfer is over.
const finTime = 2 * time.Second

// Close implements forge.Loan. The client is told that nothing more is wanted.
func (l *loan) Close() error {
	l.mu.Lock()
	reading, ended := l.reading, l.ended
	l.mu.Unlock()
	if reading && ended == nil {
		if err := l.send(&packet{Type: packetFin}); err == nil {
			select {
			case <-l.over:
			case <-time.After(finTime):
			}
		}
	}
	l.call.Close()
	return nil
}

// modeOf is the mode of a file as fsutil writes it.
func modeOf(mode uint32) uint32 {
	m := fs.FileMode(mode & 0o777)
	for from, to := range map[uint32]fs.FileMode{syscall.S_ISUID: fs.ModeSetuid, syscall.S_ISGID: fs.ModeSetgid, syscall.S_ISVTX: fs.ModeSticky} {
		if mode&from != 0 {
			m |= to
		}
	}
	switch mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		m |= fs.ModeDir
	case syscall.S_IFLNK:
		m |= fs.ModeSymlink
	case syscall.S_IFIFO:
		m |= fs.ModeNamedPipe
	case syscall.S_IFSOCK:
		m |= fs.ModeSocket
	case syscall.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case syscall.S_IFBLK:
		m |= fs.ModeDevice
	}
	return uint32(m)
}
