package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// What an archive has an index keep is limited, however small the archive.
func TestBuilderLimit(t *testing.T) {
	b := NewBuilder(nil)
	b.limit = 1 << 20
	value := strings.Repeat("v", 60000)
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		e := filetree.Entry{Mode: unix.S_IFREG | 0o644, Xattrs: map[string]string{"user.x": fmt.Sprint(i, value)}}
		err = b.Add(fmt.Sprint(i), &e, 0)
	}
	if err == nil || !strings.Contains(err.Error(), "more than 1 MiB") {
		t.Errorf("much more than 1 MiB of attributes: %v", err)
	}
}

// A change of any bit of an index is found when it is opened.
func TestSeal(t *testing.T) {
	b := NewBuilder(nil)
	for i := range 40 {
		e := filetree.Entry{Mode: unix.S_IFREG | 0o644, Size: 3, Xattrs: map[string]string{"user.x": "1"}}
		if err := b.Add(fmt.Sprintf("dir/%d", i), &e, 512); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := b.Encode(&out, Tar{Size: 1024}); err != nil {
		t.Fatal(err)
	}
	data := out.Bytes()
	if _, err := New(data); err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(data) {
		data[bit/8] ^= 1 << (bit % 8)
		if _, err := New(data); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d of byte %d: %v", bit%8, bit/8, err)
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
	for n := range len(data) {
		if _, err := New(data[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%d of %d bytes: %v", n, len(data), err)
		}
	}
	// As the first version wrote it: no name, no seal.
	old := data[:len(data)-sealSize]
	clear(old[superAt+volumeAt:][:16])
	clear(old[superAt+4:][:4])
	binary.LittleEndian.PutUint32(old[superAt+4:], checksum(old))
	if _, err := New(old); !errors.Is(err, ErrOutdated) || !errors.Is(err, ErrDamaged) {
		t.Errorf("an index of version 1: %v", err)
	}
}
