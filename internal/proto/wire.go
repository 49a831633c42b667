package proto

import (
	"encoding/binary"
	"fmt"
)

// readTag reads the number and the wire type of a field from the beginning of b.
func readTag(b []byte) (number, wire, n int, err error) {
	u, n, err := readVarint(b)
	if err != nil {
		return 0, 0, 0, err
	}
	if u>>3 < 1 || u>>3 > maxNumber {
		return 0, 0, 0, fmt.Errorf("has a field of the number %d", u>>3)
	}
	return int(u >> 3), int(u & 7), n, nil
}

func readVarint(b []byte) (u uint64, n int, err error) {
	u, n = binary.Uvarint(b)
	switch {
	case n > 0:
		return u, n, nil
	case n < 0 || len(b) >= binary.MaxVarintLen64:
		return 0, 0, errVarint
	}
	return 0, 0, errCut
}

// readBytes reads a run of bytes with its length before it from the beginning of b. It does not copy.
func readBytes(b []byte) (run []byte, n int, err error) {
	length, n, err := readVarint(b)
	if err != nil {
		return nil, 0, err
	}
	if length > uint64(len(b)-n) {
		return nil, 0, errCut
	}
	return b[n : n+int(length)], n + int(length), nil
}

// skip returns the length of a value that begins b.
func skip(b []byte, number, wire, depth int) (n int, err error) {
	switch wire {
	case wireVarint:
		_, n, err = readVarint(b)
		return n, err
	case wireFixed32, wireFixed64:
		n = 4
		if wire == wireFixed64 {
			n = 8
		}
		if len(b) < n {
			return 0, errCut
		}
		return n, nil
	case wireBytes:
		_, n, err = readBytes(b)
		return n, err
	case wireStart:
		return skipGroup(b, number, depth)
	}
	return 0, fmt.Errorf("has the wire type %d", wire)
}

// skipGroup returns the length of the rest of a group, the form of old that no message here has.
func skipGroup(b []byte, number, depth int) (int, error) {
	if depth == 0 {
		return 0, errDepth
	}
	for total := 0; ; {
		inner, wire, n, err := readTag(b[total:])
		if err != nil {
			return 0, err
		}
		total += n
		if wire == wireEnd {
			if inner != number {
				return 0, errGroup
			}
			return total, nil
		}
		if n, err = skip(b[total:], inner, wire, depth-1); err != nil {
			return 0, err
		}
		total += n
	}
}
