package fusefile

import (
	"encoding/binary"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// The kernel asks, and this process answers, in the messages of fuse(4) and include/uapi/linux/fuse.h, in the machine's byte order. One file that is
// only read needs five of them.
const (
	opForget      = 2
	opGetattr     = 3
	opOpen        = 14
	opRead        = 15
	opRelease     = 18
	opInit        = 26
	opInterrupt   = 36
	opBatchForget = 42

	version      = 7
	minor        = 31 // of the protocol; the kernel does no more than that, but for what it knows of flags
	inHeader     = 40 // bytes
	outHeader    = 16
	requestSize  = 64 << 10 // more than a message that is asked here has
	readAhead    = 128 << 10
	maxWrite     = 4096 // nothing is written, and it has to be said
	asyncRead    = 1 << 0
	keepCache    = 1 << 1
	noFlush      = 1 << 5 // closing it asks nothing; see reply
	rootNode     = 1
	forever      = 1 << 31 // seconds
	blockSize    = 4096
	readsAtATime = 256 // of 128 KiB
)

// serve answers until the mount is gone, and closes the device.
func serve(dev *os.File, r io.ReaderAt, size int64) {
	defer dev.Close() //nolint:errcheck // nobody is there any more
	slots := make(chan struct{}, readsAtATime)
	request := make([]byte, requestSize)
	for {
		n, err := dev.Read(request)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINTR) { // who asked has gone
			continue
		}
		if err != nil || n < inHeader {
			return // ENODEV
		}
		ne := binary.NativeEndian
		op, unique, body := ne.Uint32(request[4:]), ne.Uint64(request[8:]), request[inHeader:n]
		switch op {
		case opForget, opBatchForget, opInterrupt: // these are not answered
		case opRead:
			offset, length := int64(ne.Uint64(body[8:])), ne.Uint32(body[16:])
			go func() {
				slots <- struct{}{}
				answerRead(dev, r, unique, offset, int(max(0, min(int64(length), 1<<20, size-offset))))
				<-slots
			}()
		default:
			answer(dev, unique, reply(op, body, size))
		}
	}
}

// reply is the answer to what is asked of the file itself, behind room for its header; nil for what is not known here.
func reply(op uint32, body []byte, size int64) []byte {
	out, ne := make([]byte, outHeader, outHeader+104), binary.NativeEndian
	switch op {
	case opInit:
		for _, v := range []uint32{version, minor, min(ne.Uint32(body[8:]), readAhead), ne.Uint32(body[12:]) & asyncRead} {
			out = ne.AppendUint32(out, v)
		}
		out = ne.AppendUint16(ne.AppendUint16(out, readsAtATime), readsAtATime) // the kernel sends no more than 12 reads if nothing is said
		out = ne.AppendUint32(ne.AppendUint32(out, maxWrite), 1)
		return append(out, make([]byte, 64-28)...)
	case opGetattr:
		out = ne.AppendUint32(ne.AppendUint64(out, forever), 0)
		out = ne.AppendUint32(out, 0)
		for _, v := range []uint64{rootNode, uint64(size), uint64(size+511) / 512, 0, 0, 0} { // and times
			out = ne.AppendUint64(out, v)
		}
		for _, v := range []uint32{0, 0, 0, unix.S_IFREG | 0o444, 1, 0, 0, 0, blockSize, 0} {
			out = ne.AppendUint32(out, v)
		}
		return out
	case opOpen: // if this process is killed, the kernel closes the file, perhaps before the device, and would wait for the answer of who is dead
		out = ne.AppendUint32(ne.AppendUint64(out, 0), keepCache|noFlush)
		return ne.AppendUint32(out, 0)
	case opRelease:
		return out
	}
	return nil
}

func answerRead(dev *os.File, r io.ReaderAt, unique uint64, offset int64, length int) {
	out := make([]byte, outHeader+length)
	if n, _ := r.ReadAt(out[outHeader:], offset); n < length { // whatever the error is: to the kernel, less is the end of the file
		fail(dev, unique, unix.EIO)
		return
	}
	answer(dev, unique, out)
}

// answer writes an answer, behind room for its header. The kernel may not wait for it any more.
func answer(dev *os.File, unique uint64, out []byte) {
	if out == nil {
		fail(dev, unique, unix.ENOSYS)
		return
	}
	write(dev, unique, 0, out)
}

func fail(dev *os.File, unique uint64, errno unix.Errno) {
	write(dev, unique, -int32(errno), make([]byte, outHeader))
}

func write(dev *os.File, unique uint64, errno int32, out []byte) {
	ne := binary.NativeEndian
	ne.PutUint32(out, uint32(len(out)))
	ne.PutUint32(out[4:], uint32(errno))
	ne.PutUint64(out[8:], unique)
	_, _ = dev.Write(out)
}
