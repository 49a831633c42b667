package runtime

import (
	"bytes"
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// programBase is where a program lies in the interpreter's memory; the assembly knows it.
const programBase = 0x20000000

// interpreterText is where the interpreter's code lies.
const interpreterText = 0x10000000

// interpreterCode returns the address of the interpreter's code.
func interpreterCode() unsafe.Pointer

// interpreterEnd follows the interpreter's code.
const interpreterEnd = "endforge" + "endforge"

// interpreterMax is more than the code of the interpreter has bytes.
const interpreterMax = 2048

// executable makes a sealed file in memory of the program: an ELF image of the interpreter's code and the program as its data.
// The caller's own binary is in no process that the container could look at, and there is nothing here that writing to
// would change for anybody.
func (p *program) executable(tail int) (*os.File, error) {
	page := os.Getpagesize()
	code := unsafe.Slice((*byte)(interpreterCode()), interpreterMax)
	end := bytes.Index(code, []byte(interpreterEnd))
	image := p.image(programBase, tail)

	file := make([]byte, page, page+len(image))
	copy(file[elfHeader(file, end, len(image), page):], code[:end])
	file = append(file, image...)

	fd, err := memfd()
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "interpreter")
	if _, err := f.Write(file); err != nil {
		f.Close()
		return nil, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, os.NewSyscallError("seal", err)
	}
	return f, nil
}

func memfd() (int, error) {
	fd, err := unix.MemfdCreate("forge", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // MFD_EXEC is of Linux 6.3
		fd, err = unix.MemfdCreate("forge", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	return fd, err
}

// elfHeader writes the headers of a static executable with two segments, code from the file's first page and data from
// its second, and returns where the code goes.
func elfHeader(file []byte, code, data, page int) int {
	const ehsize, phsize, segments = 64, 56, 3
	const start = ehsize + phsize*segments
	const (
		ptLoad     = 1
		ptGNUStack = 0x6474e551
		exec       = 1
		write      = 2
		read       = 4
	)
	order := binary.NativeEndian
	copy(file, "\x7fELF\x02\x01\x01")
	order.PutUint16(file[16:], 2) // ET_EXEC
	order.PutUint16(file[18:], elfMachine)
	order.PutUint32(file[20:], 1)
	order.PutUint64(file[24:], interpreterText+start)
	order.PutUint64(file[32:], ehsize)
	order.PutUint16(file[52:], ehsize)
	order.PutUint16(file[54:], phsize)
	order.PutUint16(file[56:], segments)

	segment := func(i int, typ, flags uint32, offset, addr, size int) {
		w := file[ehsize+phsize*i:]
		order.PutUint32(w, typ)
		order.PutUint32(w[4:], flags)
		for j, v := range []int{offset, addr, addr, size, size, page} {
			order.PutUint64(w[8+8*j:], uint64(v))
		}
	}
	segment(0, ptLoad, read|exec, 0, interpreterText, start+code)
	segment(1, ptLoad, read|write, page, programBase, data)
	segment(2, ptGNUStack, read|write, 0, 0, 0)
	return start
}
