// Package erofs reads and writes the metadata of layers: EROFS file systems that have no file data of their own and say
// where in the layer's tar each file is. Linux mounts the two together; [Metadata] reads them without a mount.
package erofs

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// The on-disk format of EROFS, as far as an index uses it: blocks of 512 bytes, so that file data can lie where a tar has
// put it; extended inodes only, as every file has an mtime of its own; file data in chunks of devices, which are the tars: one, or
// several where layers have been merged. (Linux, fs/erofs/erofs_fs.h.)
const (
	superMagic = 0xE0F5E1E2
	superAt    = 1024 // offset of the super block
	deviceAt   = 1152 // offset of the slot of device 1, a multiple of its size
	deviceSize = 128
	maxTars    = 500 // whose slots lie before the root's inode, the number of which has 16 bits

	blockBits  = 9
	blockSize  = 1 << blockBits
	slotBits   = 5 // an inode's number is its offset in slots of 32 bytes
	inodeSize  = 64
	direntSize = 12
	chunkSize  = 8
	xattrHead  = 12

	featureCompat   = 0x1 | 0x2 // checksum, mtime
	featureIncompat = 0x4 | 0x8 // chunked files, device table

	flatPlain     = 0 // i_format's layouts
	flatInline    = 2
	chunkBased    = 4
	chunkFormat   = 0x20 // chunk indexes of 8 bytes
	chunkBitsMask = 0x1f
	hole          = 1<<32 - 1

	volumeAt  = 64          // offset of the volume's name in the super block
	version   = "forge 2"   // is that name; version 1 had no name and no seal
	sealMagic = "forgeseal" // begins the block behind the file system
	sealSize  = blockSize

	maxXattrs = xattrHead + 4*(1<<16-2) // what i_xattr_icount can say

	// offInodeFlags is in bytes of the inode that Linux leaves alone.
	offInodeFlags = 48
)

// Flags of an inode of an index.
const (
	// flagImplied marks a directory that the tar does not have, only something in it: what lies below says its metadata.
	flagImplied = 1 << iota
	// flagOpaque marks a directory that hides what lies below; it has overlayfs's attribute too.
	flagOpaque
	// flagImplies marks the root if a directory below it is implied, so that most layers need not be searched.
	flagImplies
	// flagSparse marks a file with holes. It is not in the index, which shows them.
	flagSparse
)

// A Tar is that of a layer, in which an index says where files are.
type Tar struct {
	DiffID filetree.Sum
	Size   int64 // bytes
}

func (t Tar) blocks() int64 { return (t.Size + blockSize - 1) >> blockBits }

// direntType is the file type that a directory entry of EROFS repeats.
func direntType(mode uint32) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 1
	case unix.S_IFDIR:
		return 2
	case unix.S_IFCHR:
		return 3
	case unix.S_IFBLK:
		return 4
	case unix.S_IFIFO:
		return 5
	case unix.S_IFSOCK:
		return 6
	case unix.S_IFLNK:
		return 7
	}
	return 0
}

// xattrPrefixes are the name prefixes that EROFS writes as a number.
var xattrPrefixes = []struct {
	prefix string
	index  byte
}{{"user.", 1}, {"trusted.", 4}, {"security.", 6}}

// EncodeXattrs renders the attributes to keep as entries of EROFS, sorted by name; "" if there are none.
func EncodeXattrs(xattrs map[string]string) (string, error) {
	if len(xattrs) == 0 {
		return "", nil
	}
	names := make([]string, 0, len(xattrs))
	for name := range xattrs {
		if filetree.KeepXattr(name) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var b []byte
	var err error
	for _, name := range names {
		if b, err = appendXattr(b, name, xattrs[name]); err != nil {
			return "", err
		}
	}
	// The attribute of an opaque directory must always find room.
	if len(b) > maxXattrs-64 {
		return "", fmt.Errorf("extended attributes take %d bytes, more than an index can hold", len(b))
	}
	return string(b), nil
}

func appendXattr(b []byte, name, value string) ([]byte, error) {
	for _, p := range xattrPrefixes {
		suffix, ok := strings.CutPrefix(name, p.prefix)
		if !ok {
			continue
		}
		if len(name) > 255 || len(value) > 1<<16-1 {
			return nil, fmt.Errorf("extended attribute %.64q: name of %d or value of %d bytes is too long", name, len(name), len(value))
		}
		b = append(b, byte(len(suffix)), p.index)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		b = append(b, suffix...)
		b = append(b, value...)
		return append(b, make([]byte, -len(b)&3)...), nil
	}
	return nil, fmt.Errorf("extended attribute %.64q has no known prefix", name)
}

var errXattrs = errors.New("extended attributes reach out of their inode")

// DecodeXattrs reads entries of EROFS, handing on full names.
func DecodeXattrs(b []byte, yield func(name, value string)) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return errXattrs
		}
		nameLen, index, valueLen := int(b[0]), b[1], int(binary.LittleEndian.Uint16(b[2:]))
		end := 4 + nameLen + valueLen
		if end > len(b) {
			return errXattrs
		}
		for _, p := range xattrPrefixes {
			if p.index == index {
				yield(p.prefix+string(b[4:4+nameLen]), string(b[4+nameLen:end]))
			}
		}
		b = b[min(len(b), (end+3)&^3):]
	}
	return nil
}

// inodesAt is the offset of the first inode, the root's, behind the slots of the tars.
func inodesAt(tars int) int64 { return align(deviceAt+deviceSize*int64(tars), blockSize) }

// superblock renders what is before the first inode: nothing, the super block and the slots of the tars.
func superblock(inodes uint64, blocks uint32, id filetree.Sum, tars []Tar) []byte {
	b := make([]byte, inodesAt(len(tars)))
	le := binary.LittleEndian
	s := b[superAt:]
	le.PutUint32(s[0:], superMagic)
	le.PutUint32(s[8:], featureCompat)
	s[12] = blockBits
	le.PutUint16(s[14:], uint16(len(b)>>slotBits))
	le.PutUint64(s[16:], inodes)
	le.PutUint32(s[36:], blocks)
	copy(s[volumeAt:volumeAt+16], version)
	copy(s[48:64], id[:]) // a file system of its own to overlayfs, and the same for the same layer
	le.PutUint32(s[80:], featureIncompat)
	le.PutUint16(s[86:], uint16(len(tars)))
	le.PutUint16(s[88:], deviceAt/deviceSize)

	for k, tar := range tars {
		d := b[deviceAt+k*deviceSize:]
		hex.Encode(d, tar.DiffID[:])
		le.PutUint32(d[64:], uint32(tar.blocks()))
	}

	le.PutUint32(s[4:], checksum(b))
	return b
}

// checksum is of the block that the super block begins, its own field being zero: CRC-32C without the last inversion.
func checksum(b []byte) uint32 {
	return ^crc32.Checksum(b[superAt:superAt+blockSize], castagnoli())
}

// castagnoli is the table of CRC-32C, which processors compute.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// seal is the block that follows the file system: the kernel does not look at it, and [Open] checks by it that no bit of
// the file has changed.
func seal(sum uint32) []byte {
	b := make([]byte, sealSize)
	copy(b, sealMagic)
	binary.LittleEndian.PutUint32(b[len(sealMagic):], sum)
	return b
}

// encodeDev is how Linux writes a device number of 12 + 20 bits.
func encodeDev(major, minor uint32) uint32 { return minor&0xff | major<<8 | minor&^0xff<<12 }

func decodeDev(d uint32) (major, minor uint32) { return d >> 8 & 0xfff, d&0xff | d>>12&0xfff00 }
