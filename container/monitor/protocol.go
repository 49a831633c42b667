package monitor

import (
	"encoding/binary"
	"io"
)

// The protocol. Whoever connects sends one line: a verb and its arguments, separated by spaces. The answer is a line "ok" with
// what is asked for, or "error" and a text in quotes. Each connection serves one request.
//
//	attach IN OUT ERR ROWS COLS
//	                    ok; then frames come, the last of them with the exit status, and frames that are sent go to the
//	                    container's standard input, if IN is 1. The size is the terminal's, or 0.
//	signal N            sends a signal. After SIGKILL the answer comes when the container has ended.
//	stop N SECONDS      sends a signal and, after so many seconds (-1 is never), SIGKILL. The answer comes when it has ended.
//	restart N SECONDS   ends the run as stop does, and begins another at once: the answer comes when that has started.
//	pause, unpause      the answer comes when it is done.
//	hold                pauses the container, unless it is paused, and answers "ok"; when who asked closes his half of the
//	                    connection, or is gone, lets it go on and answers "ok" again.
//	call NAME ARGUMENT  the argument in base64: what the owner of the monitor has made of the name.
//	resize ROWS COLS    sets the size of the terminal.
//	wait                "ok CODE" when the run that goes on has ended.
//
// A frame is docker's of an attached stream: a byte that says which, three zero bytes, four bytes of length, most significant
// first, and that many bytes.
const frameHeader = 8

// Streams of frames.
const (
	streamIn   = 0 // to the container's standard input
	streamEnd  = 3 // the last one: the exit status, in digits
	streamLost = 4 // the last one: why there is nothing more
	streamEOF  = 5 // the standard input has ended
	streamSize = 6 // to the terminal: rows and columns, two bytes each
	streamLeft = 7 // who is attached leaves, and wants the container to go on
)

// A frame is a piece of a stream.
type frame struct {
	stream byte
	data   []byte
}

func writeFrame(w io.Writer, f frame) error {
	b := make([]byte, frameHeader, frameHeader+len(f.data))
	b[0] = f.stream
	binary.BigEndian.PutUint32(b[4:], uint32(len(f.data)))
	_, err := w.Write(append(b, f.data...))
	return err
}

// readHeader reads the beginning of a frame. What it holds is to be read before the next.
func readHeader(r io.Reader) (stream byte, data io.Reader, err error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	return header[0], io.LimitReader(r, int64(binary.BigEndian.Uint32(header[4:]))), nil
}

const (
	verbAttach   = "attach"
	verbSignal   = "signal"
	verbStop     = "stop"
	verbRestart  = "restart"
	verbShutdown = "shutdown"
	verbPause    = "pause"
	verbUnpause  = "unpause"
	verbHold     = "hold"
	verbWait     = "wait"
	verbCall     = "call"
	verbResize   = "resize"
)

// maxLine is the length of a request, and of an answer.
const maxLine = 64 << 10
