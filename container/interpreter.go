package container

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
)

// maxHead is how much is read of a program to find its interpreter, in bytes: more than the kernel reads of a script.
const maxHead = 512

// MissingInterpreter says which program or loader the file of a command needs and the container does not have; "" if that is not
// known, or not why it cannot be executed. name is a path in the container, from its working directory.
func (c *Container) MissingInterpreter(name string) string {
	if !strings.Contains(name, "/") {
		return ""
	}
	tree := snapshot.OpenLive(c.spec.Root)
	find := func(name string) (at string, ok bool) {
		at, err := tree.Resolve(strings.TrimPrefix(path.Join("/", name), "/"))
		if err != nil {
			return "", false
		}
		e, err := tree.Lstat(at)
		return at, err == nil && e.Mode&syscall.S_IFMT == syscall.S_IFREG
	}
	if !path.IsAbs(name) {
		name = path.Join("/", c.spec.Dir, name)
	}
	at, ok := find(name)
	if !ok {
		return ""
	}
	f, err := tree.Open(at)
	if err != nil {
		return ""
	}
	defer f.Close()
	needs, kind := interpreter(f)
	if needs == "" {
		return ""
	}
	if _, ok := find(needs); ok {
		return ""
	}
	switch kind {
	case script:
		hint := ""
		if strings.HasSuffix(needs, "\r") {
			hint = "; its lines end with CR LF, as Windows has them"
		}
		return fmt.Sprintf("%s is a script for %q, which is not there%s", name, needs, hint)
	default:
		return fmt.Sprintf("%s needs the loader %s, which is not there: it was linked for another C library, or the image has none", name, needs)
	}
}

// Args is the command line.
func (c *Container) Args() []string { return c.options.Process.Args }

// A programKind is how a program names what executes it.
type programKind int

const (
	script programKind = iota
	executable
)

// interpreter is what a program names to be executed by; "" is nothing.
func interpreter(f io.ReaderAt) (string, programKind) {
	head := make([]byte, maxHead)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return "", script
	}
	if line, ok := bytes.CutPrefix(head[:n], []byte("#!")); ok {
		line, _, _ = bytes.Cut(line, []byte("\n"))
		name, _, _ := strings.Cut(strings.Trim(string(line), " \t"), " ")
		return name, script
	}
	return loader(f, head[:n]), executable
}

// maxSegments is how many program headers are looked at.
const maxSegments = 64

// loader is what an ELF file names to be executed by. Of the file, which may come from anywhere, nothing else is read: debug/elf reads
// sections, which say themselves how much memory they take.
func loader(f io.ReaderAt, head []byte) string {
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) || len(head) < binary.Size(elf.Header64{}) {
		return ""
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	small := elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS32
	var h elf.Header64
	var h32 elf.Header32
	_, err := binary.Decode(head, order, &h)
	if small {
		_, err = binary.Decode(head, order, &h32)
		h.Phoff, h.Phentsize, h.Phnum = uint64(h32.Phoff), h32.Phentsize, h32.Phnum
	}
	for i := range min(int64(h.Phnum), maxSegments) {
		var p elf.Prog64
		var p32 elf.Prog32
		b := make([]byte, binary.Size(p))
		if n, _ := f.ReadAt(b, int64(h.Phoff)+i*int64(h.Phentsize)); n < binary.Size(p32) || err != nil {
			return ""
		}
		_, err = binary.Decode(b, order, &p)
		if small {
			_, err = binary.Decode(b, order, &p32)
			p.Type, p.Off, p.Filesz = p32.Type, uint64(p32.Off), uint64(p32.Filesz)
		}
		if elf.ProgType(p.Type) == elf.PT_INTERP && p.Filesz < maxHead {
			text := make([]byte, p.Filesz)
			if _, err := f.ReadAt(text, int64(p.Off)); err != nil {
				return ""
			}
			return strings.TrimRight(string(text), "\x00")
		}
	}
	return ""
}

// explain is Explain, with what is missing of a command that is there.
func (c *Container) explain(err error, platform string) error {
	err = Explain(err, platform, slices.Concat(c.spec.Args, c.spec.Env))
	failure, ok := errors.AsType[*CommandError](err)
	if !ok || failure.Code != notFound {
		return err
	}
	if e, ok := errors.AsType[*runtime.ExecError](err); ok {
		if missing := c.MissingInterpreter(e.Path); missing != "" {
			failure.Text += ": " + missing
		}
	}
	return failure
}
