// Package chunk cuts a stream into chunks where its content says so: what is the same in two streams becomes, but for its
// edges, the same chunks, wherever it lies.
//
// It is FastCDC as Xia and others describe it (IEEE TPDS 31(9), 2020), with the parameters that the Remote Execution API fixes
// for FAST_CDC_2020, so that chunks are the same objects in such a store: at least a quarter and at most four times the average,
// normalization 2.
package chunk

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Average is the size that the Remote Execution API recommends, in bytes.
const Average = 512 << 10

// MaxSize is as big as a chunk of that average gets, in bytes.
const MaxSize = 4 * Average

// The masks of the paper's table II by the binary logarithm of the average size, beginning with that of 256 bytes.
const firstMask = 8

func masks() [18]uint64 {
	return [...]uint64{
		0x1800035300, 0x19000353000, 0x590003530000, 0xd90003530000, 0xd90103530000, 0xd90303530000, 0xd90313530000, 0xd90f03530000,
		0xd90303537000, 0xd90703537000, 0xd90707537000, 0xd91707537000, 0xd91747537000, 0xd91767537000, 0xd93767537000, 0xd93777537000,
		0xd93777577000, 0xdb3777577000,
	}
}

// A Cutter says where a stream is cut. Safe for concurrent use.
type Cutter struct {
	gear       [256]uint64
	twice      [256]uint64 // gear, shifted by one
	average    int
	hard, easy uint64 // masks before and after the average size
}

// New makes what cuts into chunks of about average bytes, a power of two from 1 KiB to 1 MiB. Chunks of another seed are others.
func New(average int, seed uint32) *Cutter {
	log := bits.TrailingZeros(uint(average))
	if average != 1<<log || log < 10 || log > 20 {
		panic(fmt.Sprintf("chunk: average of %d bytes", average))
	}
	table := masks()
	c := &Cutter{average: average, hard: table[log+2-firstMask], easy: table[log-2-firstMask]}
	for i := range c.gear {
		var block [64]byte
		for k := range block {
			block[k] = byte(i)
		}
		sum := md5.Sum(block[:])
		c.gear[i] = binary.BigEndian.Uint64(sum[:]) ^ uint64(seed)
		c.twice[i] = c.gear[i] << 1
	}
	return c
}

// Ahead is how many bytes behind a chunk may decide where it ends.
const Ahead = 2

// Cut is the length of the first chunk of b, which begins where a chunk does and holds four averages, or all up to the end of the stream.
// What is before b, or more than [Ahead] bytes behind the chunk, has no part in it, unless the stream ends there.
//
// Bytes are looked at in pairs, as the paper's section 3.7 has it; the last of an odd number is not.
func (c *Cutter) Cut(b []byte) int {
	if len(b) <= c.average/4 {
		return len(b)
	}
	b = b[:min(len(b), 4*c.average)]
	middle := min(len(b), c.average)
	n, hash := c.find(b[c.average/4:middle], 0, c.hard)
	if n >= 0 {
		return c.average/4 + n
	}
	if n, _ = c.find(b[middle:], hash, c.easy); n >= 0 {
		return middle + n
	}
	return len(b)
}

// find is where in b the rolling hash matches the mask, the byte that does it not counted; -1 if nowhere.
func (c *Cutter) find(b []byte, hash, mask uint64) (int, uint64) {
	gear, twice, mask1 := &c.gear, &c.twice, mask<<1
	for i := 1; i < len(b); i += 2 {
		// The second hash does not wait for the first: the chain from pair to pair is as short as it gets.
		first, second := twice[b[i-1]], gear[b[i]]
		hash <<= 2
		if (hash+first)&mask1 == 0 { // the hash after the first byte, shifted by one
			return i - 1, hash
		}
		hash += first + second
		if hash&mask == 0 {
			return i, hash
		}
	}
	return -1, hash
}
